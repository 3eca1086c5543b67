//! The BLAKE3 tree of a file, cut off at groups of 16 KiB: its shape, its hashes, and where they lie on disk.
//!
//! A tree over `n` groups has `n - 1` parents. They are kept in pre-order, 64 bytes each (the left child's
//! hash, then the right one's), which is both the order in which iroh-blobs sends them and the layout of its
//! `.obao4` files, less the size. A subtree over `n` groups therefore takes `n - 1` consecutive places, and
//! the place of every node follows from the walk down to it.
//!
//! **Invariant:** pure; reads and writes nothing.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use hubless_types::{BlobHash, ByteRange, GROUP_BYTES};

/// Bytes of one parent: two child hashes.
pub(crate) const PARENT_BYTES: usize = 64;

/// A chaining value: the hash of a node that is not the root, or the root hash itself.
pub(crate) type Cv = [u8; 32];

/// Groups of a file of `size` bytes; an empty file has one, empty.
pub(crate) const fn group_count(size: u64) -> u64 {
    let groups = size.div_ceil(GROUP_BYTES);
    if groups == 0 { 1 } else { groups }
}

/// A node: the groups beneath it and where its parent hashes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    /// First group beneath it.
    pub(crate) start: u64,
    /// How many groups lie beneath it; 1 is a leaf.
    pub(crate) groups: u64,
    /// Its place among the parents in pre-order; of no meaning for a leaf.
    pub(crate) place: u64,
    /// Whether it is the top.
    pub(crate) root: bool,
}

impl Node {
    /// The top of a tree for a file of `size` bytes.
    pub(crate) const fn root(size: u64) -> Self {
        Self { start: 0, groups: group_count(size), place: 0, root: true }
    }

    /// Whether it is a single group.
    pub(crate) const fn is_leaf(&self) -> bool {
        self.groups == 1
    }

    /// One past its last group.
    pub(crate) const fn end(&self) -> u64 {
        self.start + self.groups
    }

    /// Both children of a parent. The left one is the largest power of two that leaves something for the right
    /// (BLAKE3 specification, section 2.1).
    pub(crate) const fn children(&self) -> (Self, Self) {
        let left = 1 << (63 - (self.groups - 1).leading_zeros());
        let right = self.groups - left;
        (
            Self { start: self.start, groups: left, place: self.place + 1, root: false },
            Self { start: self.start + left, groups: right, place: self.place + left, root: false },
        )
    }

    /// Where its two child hashes lie in the tree file.
    pub(crate) const fn offset(&self) -> u64 {
        self.place * PARENT_BYTES as u64
    }

    /// The bytes beneath it in a file of `size` bytes.
    pub(crate) fn bytes(&self, size: u64) -> ByteRange {
        ByteRange::new(self.start * GROUP_BYTES, (self.end() * GROUP_BYTES).min(size))
    }

    /// Its hash, given all bytes beneath it. Of several groups that is less work than hashing each of them and each parent:
    /// BLAKE3 takes sixteen of either at a time.
    pub(crate) fn hash_all(&self, data: &[u8]) -> Cv {
        if self.root {
            return *blake3::hash(data).as_bytes();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(self.start * GROUP_BYTES);
        hasher.update(data);
        hasher.finalize_non_root()
    }

    /// The hash of this parent, given its children's.
    pub(crate) fn hash_parent(&self, pair: &[u8; PARENT_BYTES]) -> Cv {
        let (left, right) = split_pair(pair);
        if self.root {
            *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
        } else {
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

/// The two hashes of a parent.
pub(crate) fn split_pair(pair: &[u8; PARENT_BYTES]) -> (Cv, Cv) {
    let (mut left, mut right) = ([0; 32], [0; 32]);
    left.copy_from_slice(&pair[..32]);
    right.copy_from_slice(&pair[32..]);
    (left, right)
}

/// Two hashes as a parent.
pub(crate) fn join_pair(left: &Cv, right: &Cv) -> [u8; PARENT_BYTES] {
    let mut pair = [0; PARENT_BYTES];
    pair[..32].copy_from_slice(left);
    pair[32..].copy_from_slice(right);
    pair
}

/// The root of `data`, for files that are in memory anyway.
pub(crate) fn hash_bytes(data: &[u8]) -> BlobHash {
    BlobHash::from_bytes(*blake3::hash(data).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_of(node: Node, data: &[u8], places: &mut Vec<u64>) -> Cv {
        if node.is_leaf() {
            let bytes = node.bytes(data.len() as u64);
            return node.hash_all(&data[bytes.start as usize..bytes.end as usize]);
        }
        places.push(node.place);
        let (left, right) = node.children();
        let pair = join_pair(&root_of(left, data, places), &root_of(right, data, places));
        node.hash_parent(&pair)
    }

    #[test]
    fn the_tree_is_blake3_and_its_parents_stand_in_pre_order() {
        let group = GROUP_BYTES as usize;
        for len in [0, 1, group - 1, group, group + 1, 2 * group, 3 * group + 7, 8 * group, 13 * group + 1] {
            let data: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
            let mut places = Vec::new();
            let root = Node::root(len as u64);
            assert_eq!(root_of(root, &data, &mut places), *blake3::hash(&data).as_bytes(), "{len}");
            assert_eq!(places, (0..root.groups - 1).collect::<Vec<_>>());
        }
    }
}
