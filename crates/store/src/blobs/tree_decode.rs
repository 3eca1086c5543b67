//! Takes a blob's whole tree from a peer, before its bytes: with it, bytes from anywhere can be checked.
//!
//! The parents come in pre-order and hash up to the root, so each is checked as it comes, and where the stream broke
//! off the next one goes on.

use std::io::IoSlice;

use super::decode::DecodeError;
use super::file::TreeWindow;
use super::partial::PartialBlob;
use super::tree::{Cv, Node, PARENT_BYTES, split_pair};
use crate::error::{Result, StoreError};

/// Decodes the parents of a tree into a [`PartialBlob`], from the first one that is missing on. Blocks while it
/// writes. Dropping it keeps what was verified.
#[derive(Debug)]
pub struct TreeDecoder {
    blob: PartialBlob,
    /// Nodes still to be visited, the next one last.
    stack: Vec<(Node, Cv)>,
    /// The start of a parent whose end has not arrived.
    carry: Vec<u8>,
    /// Parents that are here, from the first one on.
    at: u64,
}

impl TreeDecoder {
    pub(super) fn new(blob: PartialBlob) -> Result<Self> {
        let at = blob.0.state().parents;
        let stack = match stack_at(&blob, at) {
            Ok(stack) => stack,
            // The disk lost what the record speaks of: it is fetched anew.
            Err(StoreError::Mismatch { .. } | StoreError::Io { .. }) => return Self::anew(blob),
            Err(error) => return Err(error),
        };
        Ok(Self { blob, stack, carry: Vec::new(), at })
    }

    fn anew(blob: PartialBlob) -> Result<Self> {
        blob.set_parents(0)?;
        Ok(Self { stack: top(&blob), blob, carry: Vec::new(), at: 0 })
    }

    /// The number of the parent that is to come first, counted in pre-order from 0.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Parents that are still to come; 64 bytes each.
    pub fn missing(&self) -> u64 {
        (Node::root(self.blob.size()).groups - 1).saturating_sub(self.at)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`DecodeError::WrongBytes`] at the first parent that does not hash to what is above it,
    /// [`DecodeError::TooMuch`] after the last. Nothing more can be pushed afterwards; what came before is kept.
    pub fn push(&mut self, mut bytes: &[u8]) -> std::result::Result<(), DecodeError> {
        let mut found = Vec::with_capacity(bytes.len() / PARENT_BYTES + 1);
        let verdict = loop {
            let (now, rest) = bytes.split_at((PARENT_BYTES - self.carry.len()).min(bytes.len()));
            self.carry.extend_from_slice(now);
            bytes = rest;
            let Ok(pair) = <[u8; PARENT_BYTES]>::try_from(&self.carry[..]) else { break Ok(()) };
            self.carry.clear();
            match self.check(&pair) {
                Ok(()) => found.push(pair),
                Err(error) => break Err(error),
            }
        };
        if !found.is_empty() {
            let slices: Vec<_> = found.iter().map(|pair| IoSlice::new(pair)).collect();
            self.blob.write_tree(&slices, self.at * PARENT_BYTES as u64)?;
            self.at += found.len() as u64;
            self.blob.set_parents(self.at)?;
        }
        // A start of a parent after the last one is too much as well.
        verdict.and(if self.missing() == 0 && !self.carry.is_empty() { Err(self.too_much()) } else { Ok(()) })
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if something is missing.
    pub fn finish(self) -> std::result::Result<(), DecodeError> {
        match self.missing() {
            0 => Ok(()),
            missing => {
                let (got, wanted) = (self.at, self.at + missing);
                Err(DecodeError::Truncated { hash: self.blob.hash(), got, wanted })
            }
        }
    }

    fn too_much(&self) -> DecodeError {
        DecodeError::TooMuch { hash: self.blob.hash() }
    }

    fn check(&mut self, pair: &[u8; PARENT_BYTES]) -> std::result::Result<(), DecodeError> {
        let Some((node, hash)) = self.stack.pop() else { return Err(self.too_much()) };
        if node.hash_parent(pair) != hash {
            let offset = node.start * hubless_types::GROUP_BYTES;
            return Err(DecodeError::WrongBytes { hash: self.blob.hash(), offset });
        }
        push_children(&mut self.stack, &node, pair);
        Ok(())
    }
}

/// Puts those of a parent's children on the stack that are parents, the left one on top.
fn push_children(stack: &mut Vec<(Node, Cv)>, node: &Node, pair: &[u8; PARENT_BYTES]) {
    let ((left, right), (left_hash, right_hash)) = (node.children(), split_pair(pair));
    let parents = [(right, right_hash), (left, left_hash)].into_iter().filter(|(node, _)| !node.is_leaf());
    stack.extend(parents);
}

/// The parents next to be visited of a tree whose first `at` are on the disk.
fn stack_at(blob: &PartialBlob, at: u64) -> Result<Vec<(Node, Cv)>> {
    let (mut stack, mut window) = (top(blob), TreeWindow::default());
    while let Some((node, hash)) = stack.pop() {
        if node.place >= at {
            stack.push((node, hash));
            break;
        }
        if node.place + node.groups - 1 > at {
            let pair = blob.checked_parent(&node, &hash, &mut window)?;
            push_children(&mut stack, &node, &pair);
        }
    }
    Ok(stack)
}

fn top(blob: &PartialBlob) -> Vec<(Node, Cv)> {
    let root = (Node::root(blob.size()), *blob.hash().as_bytes());
    if root.0.is_leaf() { Vec::new() } else { vec![root] }
}
