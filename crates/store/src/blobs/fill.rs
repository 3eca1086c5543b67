//! Takes plain bytes into a blob whose tree is here: from an origin, from a draft, from any file.
//!
//! **Invariant:** a group is marked as held only after its bytes hash to the tree and are written.

use std::io::IoSlice;
use std::ops::Range;

use hubless_types::{ByteRange, GROUP_BYTES};

use super::decode::DecodeError;
use super::file::TreeWindow;
use super::partial::PartialBlob;
use super::tree::{Cv, Node, split_pair};

/// Checks plain bytes of a run of groups, in order, and writes those that are right. Blocks.
///
/// Dropping it keeps what was verified.
#[derive(Debug)]
pub struct Filler {
    blob: PartialBlob,
    groups: Range<u64>,
    /// Nodes still to be visited, the next one last.
    stack: Vec<(Node, Cv)>,
    window: TreeWindow,
    /// The group that comes next.
    at: u64,
    /// The start of a group whose end has not arrived.
    carry: Vec<u8>,
}

impl Filler {
    pub(super) fn new(blob: PartialBlob, groups: Range<u64>) -> Self {
        let root = (Node::root(blob.size()), *blob.hash().as_bytes());
        let end = groups.end.min(blob.size().div_ceil(GROUP_BYTES));
        let groups = groups.start.min(end)..end;
        Self {
            at: groups.start,
            blob,
            groups,
            stack: vec![root],
            window: TreeWindow::default(),
            carry: Vec::new(),
        }
    }

    /// Where in the file the next byte belongs.
    pub fn offset(&self) -> u64 {
        (self.at * GROUP_BYTES).min(self.blob.size()) + self.carry.len() as u64
    }

    /// Groups that were right so far.
    pub fn groups_done(&self) -> u64 {
        self.at - self.groups.start
    }

    /// The next bytes that are wanted, at most `limit` (at least a group) of them; `None` when all is here.
    pub(super) fn wanted(&self, limit: u64) -> Option<ByteRange> {
        let end = ByteRange::of_groups(self.groups.clone(), self.blob.size()).end;
        let start = self.offset();
        (start < end).then(|| ByteRange::new(start, end.min(start + limit)))
    }

    /// Takes the next bytes; the larger the piece, the fewer writes.
    ///
    /// # Errors
    /// [`DecodeError::WrongBytes`] with the offset of the first group that is wrong: what came before it is kept, and
    /// nothing more can be pushed; [`DecodeError::TooMuch`]; [`DecodeError::Disk`] if the tree can no longer be read, or
    /// the bytes not be written.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        if !self.carry.is_empty() {
            let len = self.next_len();
            let (now, rest) = bytes.split_at(len.saturating_sub(self.carry.len()).min(bytes.len()));
            self.carry.extend_from_slice(now);
            bytes = rest;
            if self.carry.len() < len {
                return Ok(());
            }
            let mut carry = std::mem::take(&mut self.carry);
            self.take_whole_groups(&carry)?;
            carry.clear();
            self.carry = carry;
        }
        let rest = self.take_whole_groups(bytes)?;
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    /// Says that the bytes have ended.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if something is missing.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.at < self.groups.end {
            let (got, wanted) = (self.groups_done(), self.groups.end - self.groups.start);
            return Err(DecodeError::Truncated { hash: self.blob.hash(), got, wanted });
        }
        Ok(())
    }

    /// Bytes of the next group; 0 when all is here.
    fn next_len(&self) -> usize {
        if self.at >= self.groups.end {
            return 0;
        }
        ByteRange::of_groups(self.at..self.at + 1, self.blob.size()).len() as usize
    }

    /// Checks every whole group in `bytes`, writes those before the first wrong one, and returns what is left over.
    fn take_whole_groups<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let (first, mut right) = (self.at, Vec::new());
        let verdict = loop {
            let len = self.next_len();
            if len == 0 && !bytes.is_empty() {
                break Err(DecodeError::TooMuch { hash: self.blob.hash() });
            }
            if len == 0 || bytes.len() < len {
                break Ok(bytes);
            }
            let (group, rest) = bytes.split_at(len);
            match self.check(group) {
                Ok(()) => right.push(IoSlice::new(group)),
                Err(error) => break Err(error),
            }
            bytes = rest;
            self.at += 1;
        };
        if !right.is_empty() {
            self.blob.write_data(&right, first * GROUP_BYTES)?;
            self.blob.mark(first..self.at)?;
        }
        verdict
    }

    fn check(&mut self, group: &[u8]) -> Result<(), DecodeError> {
        let wrong = DecodeError::WrongBytes { hash: self.blob.hash(), offset: self.at * GROUP_BYTES };
        while let Some((node, hash)) = self.stack.pop() {
            if node.end() <= self.at {
                continue;
            }
            if node.is_leaf() {
                return if node.hash_all(group) == hash { Ok(()) } else { Err(wrong) };
            }
            let pair = self.blob.checked_parent(&node, &hash, &mut self.window)?;
            let ((left, right), (left_hash, right_hash)) = (node.children(), split_pair(&pair));
            self.stack.push((right, right_hash));
            self.stack.push((left, left_hash));
        }
        Err(wrong)
    }
}
