//! Takes what iroh-blobs sends, in any pieces, and lets only what is right reach the disk.
//!
//! **Invariant:** a group is marked as held only after its bytes and every parent above it are written.

use std::io::IoSlice;

use hubless_types::{BlobHash, GROUP_BYTES, GroupSet};

use super::partial::PartialBlob;
use super::tree::{Cv, Node, PARENT_BYTES, split_pair};
use crate::error::StoreError;

/// Why a stream of groups ended.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A parent or a leaf does not hash to what its parent says.
    #[error("wrong bytes for {hash} at byte {offset}")]
    WrongBytes {
        /// The blob.
        hash: BlobHash,
        /// The first byte that the wrong node covers.
        offset: u64,
    },
    /// The sender believes the file to be of another size.
    #[error("{hash} was said to have {said} bytes; {expected} were expected")]
    WrongSize {
        /// The blob.
        hash: BlobHash,
        /// What the sender says.
        said: u64,
        /// What was asked for.
        expected: u64,
    },
    /// More bytes than were asked for.
    #[error("more bytes than asked for of {hash}")]
    TooMuch {
        /// The blob.
        hash: BlobHash,
    },
    /// The stream ended before all was there.
    #[error("the stream of {hash} ended after {got} of {wanted} groups")]
    Truncated {
        /// The blob.
        hash: BlobHash,
        /// Groups that arrived.
        got: u64,
        /// Groups that were asked for.
        wanted: u64,
    },
    /// It could not be written.
    #[error(transparent)]
    Disk(#[from] StoreError),
}

impl DecodeError {
    /// Whether the sender is to blame.
    pub fn blames_sender(&self) -> bool {
        !matches!(self, Self::Disk(_))
    }
}

/// Decodes one answer into a [`PartialBlob`]. Blocks while it writes.
///
/// Dropping it keeps what was verified.
#[derive(Debug)]
pub struct Decoder {
    blob: PartialBlob,
    wanted: GroupSet,
    stack: Vec<(Node, Cv)>,
    /// The start of an item whose end has not arrived.
    carry: Vec<u8>,
    header_seen: bool,
    groups_done: u64,
}

/// What one push found, before it is written.
#[derive(Default)]
struct Found<'a> {
    /// Leaves with the offset of each, in file order.
    leaves: Vec<(Node, &'a [u8])>,
    /// Places of parents and their hashes, in pre-order.
    parents: Vec<(u64, [u8; PARENT_BYTES])>,
}

impl Decoder {
    pub(super) fn new(blob: PartialBlob, wanted: GroupSet) -> Self {
        let root = (Node::root(blob.size()), *blob.hash().as_bytes());
        Self {
            blob,
            wanted,
            stack: vec![root],
            carry: Vec::with_capacity(GROUP_BYTES as usize),
            header_seen: false,
            groups_done: 0,
        }
    }

    /// Takes the next bytes of the answer; the larger the piece, the fewer writes.
    ///
    /// # Errors
    /// [`DecodeError`]; nothing more can be pushed afterwards. What came before the fault is kept.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        while !self.carry.is_empty() {
            let Some(missing) = self.next_len()?.map(|len| len.saturating_sub(self.carry.len())) else {
                return Err(DecodeError::TooMuch { hash: self.blob.hash() });
            };
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            self.carry.extend_from_slice(now);
            bytes = rest;
            if now.len() < missing {
                return Ok(());
            }
            let carry = std::mem::take(&mut self.carry);
            self.take_whole_items(&carry)?;
            self.carry = carry;
            self.carry.clear();
        }
        let rest = self.take_whole_items(bytes)?;
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    /// Groups that this answer has brought so far.
    pub fn groups_done(&self) -> u64 {
        self.groups_done
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if something is missing.
    pub fn finish(mut self) -> Result<(), DecodeError> {
        if self.next_len()?.is_some() {
            let (got, wanted) = (self.groups_done, self.wanted.len());
            return Err(DecodeError::Truncated { hash: self.blob.hash(), got, wanted });
        }
        Ok(())
    }

    /// Length of the next item on the wire; `None` when all is here.
    fn next_len(&mut self) -> Result<Option<usize>, DecodeError> {
        if !self.header_seen {
            return Ok(Some(8));
        }
        while let Some((node, _)) = self.stack.last() {
            if !self.wanted.overlaps(node.start..node.end()) {
                self.stack.pop();
            } else if node.is_leaf() {
                return Ok(Some(node.bytes(self.blob.size()).len() as usize));
            } else {
                return Ok(Some(PARENT_BYTES));
            }
        }
        Ok(None)
    }

    /// Checks every whole item in `bytes`, writes them, and returns what is left over.
    fn take_whole_items<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let mut found = Found::default();
        let verdict = loop {
            match self.next_len() {
                Ok(Some(len)) if len <= bytes.len() => {
                    let (item, rest) = bytes.split_at(len);
                    bytes = rest;
                    if let Err(error) = self.take_item(item, &mut found) {
                        break Err(error);
                    }
                }
                Ok(None) if !bytes.is_empty() => break Err(DecodeError::TooMuch { hash: self.blob.hash() }),
                Ok(_) => break Ok(bytes),
                Err(error) => break Err(error),
            }
        };
        // What was right before a fault is kept: it costs nothing, and the next holder need not send it again.
        self.write(&found)?;
        verdict
    }

    fn take_item<'a>(&mut self, item: &'a [u8], found: &mut Found<'a>) -> Result<(), DecodeError> {
        if !self.header_seen {
            return self.take_header(item);
        }
        let Some((node, hash)) = self.stack.pop() else { return Ok(()) };
        let wrong = DecodeError::WrongBytes { hash: self.blob.hash(), offset: node.start * GROUP_BYTES };
        if node.is_leaf() {
            if node.hash_all(item) != hash {
                return Err(wrong);
            }
            found.leaves.push((node, item));
            return Ok(());
        }
        let pair: [u8; PARENT_BYTES] = match item.try_into() {
            Ok(pair) => pair,
            Err(_) => return Err(wrong),
        };
        if node.hash_parent(&pair) != hash {
            return Err(wrong);
        }
        let ((left, right), (left_hash, right_hash)) = (node.children(), split_pair(&pair));
        self.stack.push((right, right_hash));
        self.stack.push((left, left_hash));
        found.parents.push((node.place, pair));
        Ok(())
    }

    fn take_header(&mut self, item: &[u8]) -> Result<(), DecodeError> {
        let said = item.try_into().map_or(0, u64::from_le_bytes);
        let expected = self.blob.size();
        if said != expected {
            return Err(DecodeError::WrongSize { hash: self.blob.hash(), said, expected });
        }
        self.header_seen = true;
        Ok(())
    }

    /// Writes parents, then leaves, then marks the groups.
    fn write(&mut self, found: &Found<'_>) -> Result<(), DecodeError> {
        for run in found.parents.chunk_by(|a, b| a.0 + 1 == b.0) {
            let slices: Vec<_> = run.iter().map(|(_, pair)| IoSlice::new(pair)).collect();
            self.blob.write_tree(&slices, run[0].0 * PARENT_BYTES as u64)?;
        }
        for run in found.leaves.chunk_by(|a, b| a.0.start + 1 == b.0.start) {
            let slices: Vec<_> = run.iter().map(|(_, data)| IoSlice::new(data)).collect();
            let first = run[0].0.start;
            self.blob.write_data(&slices, first * GROUP_BYTES)?;
            let groups = run.len() as u64;
            self.groups_done += groups;
            self.blob.mark(first..first + groups)?;
        }
        Ok(())
    }
}
