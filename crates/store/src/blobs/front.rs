//! Builds a file's BLAKE3 tree while the file arrives from its beginning on: what a draft follows its front with.
//!
//! The size is known from the start, so the place of every parent is, too, and only one path of the tree is in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use hubless_types::{BlobHash, GROUP_BYTES};

use super::tree::{Cv, Node, PARENT_BYTES, hash_bytes, join_pair};

/// Parents of a subtree of this many groups (16 MiB of file) are written together.
pub(super) const BLOCK_GROUPS: u64 = 1024;

/// A tree that has been built up to some group.
pub(super) struct FrontTree {
    size: u64,
    /// Parents whose left side is under way, or is done and named, from the root down.
    path: Vec<(Node, Option<Cv>)>,
    /// The leaf that comes next; `None` at the end.
    next: Option<Node>,
    /// The parents of the subtree that is being built, and the node at its top.
    block: Option<(Node, Vec<u8>)>,
    root: Option<Cv>,
}

impl FrontTree {
    /// Nothing of a file of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        let mut tree = Self { size, path: Vec::new(), next: None, block: None, root: None };
        tree.descend(Node::root(size));
        if size == 0 {
            (tree.next, tree.root) = (None, Some(*hash_bytes(&[]).as_bytes()));
        }
        tree
    }

    /// How many bytes of the file have been hashed.
    pub(super) fn at(&self) -> u64 {
        self.next.map_or(self.size, |leaf| leaf.start * GROUP_BYTES)
    }

    /// The root, once all is hashed.
    pub(super) fn root(&self) -> Option<BlobHash> {
        self.root.map(BlobHash::from_bytes)
    }

    /// Hashes the next whole groups of the file (the last one may be short), and writes parents to `out`.
    ///
    /// # Errors
    /// Of writing; the tree then begins anew.
    pub(super) fn push(&mut self, bytes: &[u8], out: Option<&File>) -> io::Result<()> {
        for group in bytes.chunks(GROUP_BYTES as usize) {
            let Some(leaf) = self.next.take() else { break };
            if let Err(error) = self.take_leaf(leaf.hash_all(group), out) {
                *self = Self::new(self.size);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Goes down to the first leaf beneath `node`.
    fn descend(&mut self, mut node: Node) {
        while !node.is_leaf() {
            if self.block.is_none() && node.groups <= BLOCK_GROUPS {
                self.block = Some((node, vec![0; (node.groups as usize - 1) * PARENT_BYTES]));
            }
            self.path.push((node, None));
            node = node.children().0;
        }
        self.next = Some(node);
    }

    fn take_leaf(&mut self, leaf: Cv, out: Option<&File>) -> io::Result<()> {
        let mut done = leaf;
        while let Some((node, left)) = self.path.pop() {
            let Some(left) = left else {
                self.path.push((node, Some(done)));
                self.descend(node.children().1);
                return Ok(());
            };
            let pair = join_pair(&left, &done);
            self.put(&node, &pair, out)?;
            done = node.hash_parent(&pair);
        }
        self.root = Some(done);
        Ok(())
    }

    fn put(&mut self, node: &Node, pair: &[u8; PARENT_BYTES], out: Option<&File>) -> io::Result<()> {
        let Some((top, bytes)) = &mut self.block else { return write(out, pair, node.offset()) };
        let at = (node.place - top.place) as usize * PARENT_BYTES;
        bytes[at..at + PARENT_BYTES].copy_from_slice(pair);
        if top == node {
            write(out, bytes, node.offset())?;
            self.block = None;
        }
        Ok(())
    }
}

fn write(out: Option<&File>, bytes: &[u8], offset: u64) -> io::Result<()> {
    out.map_or(Ok(()), |file| file.write_all_at(bytes, offset))
}
