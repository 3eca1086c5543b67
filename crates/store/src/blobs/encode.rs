//! Sends groups of a blob as iroh-blobs does: the size, then parents and leaves in pre-order.
//!
//! **Invariant:** every leaf and parent is checked against the root before it is handed out, so a file that
//! changed underneath ends the answer instead of reaching a peer.

use std::fs::File;
use std::io::IoSliceMut;
use std::sync::Arc;

use bytes::Bytes;
use hubless_types::{BlobHash, GROUP_BYTES, GroupSet};

use super::file::{BlobFile, TreeWindow, read_exact_at};
use super::recheck::Wrong;
use super::tree::{Cv, Node, PARENT_BYTES, split_pair};
use crate::error::StoreError;

/// Bytes of a piece: 16 leaves and the parents between them.
const PIECE_BYTES: usize = 16 * GROUP_BYTES as usize + 4096;

/// An answer in pieces of about 256 KiB, or into buffers of the caller's. It ends after the first error.
pub struct Encoder {
    blob: Arc<BlobFile>,
    wanted: GroupSet,
    /// Nodes still to be visited, the next one last.
    stack: Vec<(Node, Cv)>,
    header: Option<[u8; 8]>,
    window: TreeWindow,
}

/// A leaf that has its place in the caller's buffer, to be read and checked.
struct Leaf<'a> {
    node: Node,
    hash: Cv,
    place: &'a mut [u8],
}

/// Cuts the first `len` bytes off `rest`; `None` if it is shorter.
fn cut<'a>(rest: &mut &'a mut [u8], len: usize) -> Option<&'a mut [u8]> {
    let (first, after) = std::mem::take(rest).split_at_mut_checked(len)?;
    *rest = after;
    Some(first)
}

impl Encoder {
    /// Room for any one item: a buffer of [`Encoder::fill`] is at least this long.
    pub const MIN_ROOM: usize = GROUP_BYTES as usize;

    pub(super) fn new(blob: Arc<BlobFile>, wanted: GroupSet) -> Self {
        let size = blob.size();
        let root = (Node::root(size), *blob.hash().as_bytes());
        Self {
            stack: vec![root],
            header: Some(size.to_le_bytes()),
            blob,
            wanted,
            window: TreeWindow::default(),
        }
    }

    /// Writes the next whole items of the answer into `out`, as many as have room, each checked. Says how many bytes
    /// they take; 0 at the end. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the file is no longer what was hashed; others of reading. Nothing of `out` is to be used
    /// then, and the answer is over.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<usize, StoreError> {
        let filled = self.fill_checked(out);
        if filled.is_err() {
            self.stack.clear();
            self.header = None;
        }
        filled
    }

    fn fill_checked(&mut self, out: &mut [u8]) -> Result<usize, StoreError> {
        let room = out.len();
        let mut rest = out;
        if let Some(header) = self.header.take()
            && let Some(place) = cut(&mut rest, header.len())
        {
            place.copy_from_slice(&header);
        }
        let mut leaves = Vec::with_capacity(room / GROUP_BYTES as usize);
        // Parents are read and checked on the way to the leaves.
        while let Some((node, hash)) = self.stack.pop() {
            if !self.wanted.overlaps(node.start..node.end()) {
                continue;
            }
            let leaf_len = node.bytes(self.blob.size()).len() as usize;
            let len = if node.is_leaf() { leaf_len } else { PARENT_BYTES };
            if len > rest.len() {
                self.stack.push((node, hash));
                break;
            }
            let Some(place) = cut(&mut rest, len) else { break };
            if node.is_leaf() {
                leaves.push(Leaf { node, hash, place });
                continue;
            }
            let pair = self.blob.parent(&node, &mut self.window)?;
            if node.hash_parent(&pair) != hash {
                return Err(self.blob.mismatch(node.start * GROUP_BYTES, Wrong::Tree));
            }
            let ((left, right), (left_hash, right_hash)) = (node.children(), split_pair(&pair));
            self.stack.push((right, right_hash));
            self.stack.push((left, left_hash));
            place.copy_from_slice(&pair);
        }
        let filled = room - rest.len();
        self.read_leaves(&mut leaves)?;
        while self.stack.last().is_some_and(|(node, _)| !self.wanted.overlaps(node.start..node.end())) {
            self.stack.pop();
        }
        Ok(filled)
    }

    /// Whether anything is left of the answer, after the first call of [`Encoder::fill`].
    pub fn has_more(&self) -> bool {
        !self.stack.is_empty()
    }

    fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let mut out = vec![0; PIECE_BYTES];
        let filled = self.fill(&mut out)?;
        out.truncate(filled);
        Ok((filled > 0).then(|| out.into()))
    }

    /// Reads leaves in as few calls as their neighbourhood allows, then checks each.
    fn read_leaves(&self, leaves: &mut [Leaf<'_>]) -> Result<(), StoreError> {
        for run in leaves.chunk_by_mut(|a, b| a.node.start + 1 == b.node.start) {
            let first = run.first().map_or(0, |leaf| leaf.node.start);
            let mut slices: Vec<_> = run.iter_mut().map(|leaf| IoSliceMut::new(leaf.place)).collect();
            read_vectored_exact(self.blob.data(), &mut slices, first * GROUP_BYTES)
                .map_err(|e| self.blob.read_error(e))?;
        }
        match leaves.iter().find(|leaf| leaf.node.hash_all(leaf.place) != leaf.hash) {
            Some(leaf) => Err(self.blob.mismatch(leaf.node.start * GROUP_BYTES, Wrong::Bytes)),
            None => Ok(()),
        }
    }
}

/// Fills all slices from consecutive bytes at `offset`.
fn read_vectored_exact(file: &File, slices: &mut [IoSliceMut<'_>], offset: u64) -> std::io::Result<()> {
    let wanted: usize = slices.iter().map(|s| s.len()).sum();
    let mut got = rustix::io::retry_on_intr(|| rustix::io::preadv(file, slices, offset))?;
    if got == wanted {
        return Ok(());
    }
    // A short read is rare (a signal, the end of the file): the rest is filled a slice at a time.
    let mut at = offset;
    for slice in slices {
        let skip = got.min(slice.len());
        got -= skip;
        read_exact_at(file, &mut slice[skip..], at + skip as u64)?;
        at += slice.len() as u64;
    }
    Ok(())
}

impl Iterator for Encoder {
    type Item = Result<Bytes, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().transpose()
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({}, {:?})", self.blob.hash(), self.wanted)
    }
}

impl Encoder {
    /// The blob that is sent.
    pub fn hash(&self) -> BlobHash {
        self.blob.hash()
    }
}
