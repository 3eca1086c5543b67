//! Sends a blob's whole tree: its parents in pre-order, each checked against the root before it is handed out.

use std::sync::Arc;

use bytes::Bytes;
use hubless_types::{BlobHash, GROUP_BYTES};

use super::file::{BlobFile, TreeWindow};
use super::recheck::Wrong;
use super::tree::{Cv, Node, PARENT_BYTES, split_pair};
use crate::error::StoreError;

/// Parents in one piece: 256 KiB.
const PIECE_PARENTS: usize = 4096;

/// A tree in pieces of at most 256 KiB. It ends after the first error.
pub struct TreeEncoder {
    blob: Arc<BlobFile>,
    from: u64,
    stack: Vec<(Node, Cv)>,
    window: TreeWindow,
}

impl TreeEncoder {
    pub(super) fn new(blob: Arc<BlobFile>, from: u64) -> Self {
        let root = (Node::root(blob.size()), *blob.hash().as_bytes());
        Self { blob, from, stack: vec![root], window: TreeWindow::default() }
    }

    /// The blob whose tree is sent.
    pub fn hash(&self) -> BlobHash {
        self.blob.hash()
    }

    fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        let mut out = Vec::with_capacity(PIECE_PARENTS * PARENT_BYTES);
        while out.len() < PIECE_PARENTS * PARENT_BYTES {
            let Some((node, hash)) = self.stack.pop() else { break };
            // What ends before the first parent that is wanted is passed over in one leap.
            if node.is_leaf() || node.place + node.groups - 1 <= self.from {
                continue;
            }
            let pair = self.blob.parent(&node, &mut self.window)?;
            if node.hash_parent(&pair) != hash {
                return Err(self.blob.mismatch(node.start * GROUP_BYTES, Wrong::Tree));
            }
            let ((left, right), (left_hash, right_hash)) = (node.children(), split_pair(&pair));
            self.stack.push((right, right_hash));
            self.stack.push((left, left_hash));
            if node.place >= self.from {
                out.extend_from_slice(&pair);
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }
}

impl Iterator for TreeEncoder {
    type Item = Result<Bytes, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.next_piece();
        if piece.is_err() {
            self.stack.clear();
        }
        piece.transpose()
    }
}

impl std::fmt::Debug for TreeEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreeEncoder({}, from {})", self.blob.hash(), self.from)
    }
}
