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
use super::tree::{Cv, Node, PARENT_BYTES, split_pair};
use crate::error::StoreError;

/// Leaves that are read and checked in one go.
const BATCH_LEAVES: usize = 16;

/// An answer in pieces of about 256 KiB. It ends after the first error.
pub struct Encoder {
    blob: Arc<BlobFile>,
    wanted: GroupSet,
    /// Nodes still to be visited, the next one last.
    stack: Vec<(Node, Cv)>,
    header: Option<[u8; 8]>,
    window: TreeWindow,
}

enum Item {
    Parent([u8; PARENT_BYTES]),
    Leaf(Node, Cv),
}

impl Encoder {
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

    /// Walks on until a batch of leaves is found; parents are read and checked on the way.
    fn next_items(&mut self) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::with_capacity(3 * BATCH_LEAVES);
        let mut leaves = 0;
        while leaves < BATCH_LEAVES {
            let Some((node, hash)) = self.stack.pop() else { break };
            if !self.is_wanted(&node) {
                continue;
            }
            if node.is_leaf() {
                leaves += 1;
                items.push(Item::Leaf(node, hash));
                continue;
            }
            let pair = self.blob.parent(&node, &mut self.window)?;
            if node.hash_parent(&pair) != hash {
                return Err(self.blob.mismatch(node.start * GROUP_BYTES));
            }
            let ((left, right), (left_hash, right_hash)) = (node.children(), split_pair(&pair));
            self.stack.push((right, right_hash));
            self.stack.push((left, left_hash));
            items.push(Item::Parent(pair));
        }
        Ok(items)
    }

    fn is_wanted(&self, node: &Node) -> bool {
        self.wanted.overlaps(node.start..node.end())
    }

    fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let header = self.header.take();
        let items = self.next_items()?;
        if items.is_empty() && header.is_none() {
            return Ok(None);
        }
        let size = self.blob.size();
        let item_len = |item: &Item| match item {
            Item::Parent(_) => PARENT_BYTES,
            Item::Leaf(node, _) => node.leaf_bytes(size).len() as usize,
        };
        let header_len = header.map_or(0, |h| h.len());
        let mut out = vec![0_u8; header_len + items.iter().map(item_len).sum::<usize>()];
        let (head, mut rest) = out.split_at_mut(header_len);
        head.copy_from_slice(&header.unwrap_or_default()[..header_len]);
        let mut leaves = Vec::with_capacity(BATCH_LEAVES);
        for item in &items {
            let (place, after) = rest.split_at_mut(item_len(item));
            rest = after;
            match item {
                Item::Parent(pair) => place.copy_from_slice(pair),
                Item::Leaf(node, hash) => leaves.push((*node, *hash, place)),
            }
        }
        self.read_leaves(&mut leaves)?;
        Ok(Some(out.into()))
    }

    /// Reads leaves in as few calls as their neighbourhood allows, then checks each.
    fn read_leaves(&self, leaves: &mut [(Node, Cv, &mut [u8])]) -> Result<(), StoreError> {
        let mut done = 0;
        while done < leaves.len() {
            let first = leaves[done].0.start;
            let run = leaves[done..].iter().zip(first..).take_while(|(leaf, at)| leaf.0.start == *at).count();
            let mut slices: Vec<_> =
                leaves[done..done + run].iter_mut().map(|leaf| IoSliceMut::new(leaf.2)).collect();
            read_vectored_exact(self.blob.data(), &mut slices, first * GROUP_BYTES)
                .map_err(|e| self.blob.read_error(e))?;
            done += run;
        }
        match leaves.iter().find(|(node, hash, data)| node.hash_leaf(data) != *hash) {
            Some((node, ..)) => Err(self.blob.mismatch(node.start * GROUP_BYTES)),
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
        let piece = self.next_piece();
        if piece.is_err() {
            self.stack.clear();
            self.header = None;
        }
        piece.transpose()
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
