//! The hand that fills a draft from one place on.

use std::os::unix::fs::FileExt as _;

use hubless_types::{ByteRange, GROUP_BYTES, GroupSet};

use super::draft::Draft;
use crate::error::{Result, StoreError};

/// Writes bytes as they arrive, from one place of a draft on. Only whole groups count, and the file's tail.
///
/// Dropping it keeps the whole groups that it was given.
#[derive(Debug)]
pub struct DraftWriter {
    draft: Draft,
    /// Where the next byte belongs.
    at: u64,
    /// Bytes of the group that is not whole yet.
    carry: Vec<u8>,
    /// Bytes still to be passed over: a start within a group.
    skip: u64,
}

impl DraftWriter {
    pub(super) fn new(draft: Draft, start: u64) -> Self {
        let aligned = start.div_ceil(GROUP_BYTES).saturating_mul(GROUP_BYTES).min(draft.size()).max(start);
        Self { draft, at: start, carry: Vec::new(), skip: aligned - start }
    }

    /// Where in the file the next byte belongs.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Takes the next bytes; the larger the piece, the fewer writes. Groups that are here already, or that another
    /// writer is writing now, are passed over. Blocks.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for bytes beyond the end of the file, [`StoreError::DraftGone`] after it was finished
    /// or discarded, [`StoreError::DiskFull`], [`StoreError::Io`]. Nothing more can be pushed afterwards.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        let (size, end) = (self.draft.size(), self.at.saturating_add(bytes.len() as u64));
        if end > size {
            return Err(StoreError::TooLarge { what: "a file from an origin", size: end, limit: size });
        }
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        self.at += skipped;
        bytes = &bytes[skipped as usize..];
        if !self.carry.is_empty() {
            bytes = self.fill_carry(bytes)?;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let to_end = self.at + bytes.len() as u64 == size;
        let whole = if to_end { bytes.len() } else { bytes.len() - bytes.len() % GROUP_BYTES as usize };
        let (now, rest) = bytes.split_at(whole);
        self.put(self.at, now)?;
        self.at += bytes.len() as u64;
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    /// Completes the group that is under way, and returns the bytes that come after it.
    fn fill_carry<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let start = self.at - self.carry.len() as u64;
        let len = ByteRange::of_groups(start / GROUP_BYTES..start / GROUP_BYTES + 1, self.draft.size()).len();
        let (now, rest) = bytes.split_at((len as usize - self.carry.len()).min(bytes.len()));
        self.carry.extend_from_slice(now);
        self.at += now.len() as u64;
        if self.carry.len() as u64 == len {
            let mut carry = std::mem::take(&mut self.carry);
            self.put(start, &carry)?;
            carry.clear();
            self.carry = carry;
        }
        Ok(rest)
    }

    /// Writes whole groups that begin at `start`.
    fn put(&self, start: u64, bytes: &[u8]) -> Result<()> {
        let groups = ByteRange::new(start, start + bytes.len() as u64).groups();
        let live = &self.draft.0;
        let mine = {
            let mut state = live.state();
            if state.settled {
                return Err(StoreError::DraftGone { digest: live.digest });
            }
            let unwritten = state.have.missing(groups.clone());
            let mine: GroupSet = unwritten
                .runs()
                .iter()
                .flat_map(|run| state.busy.missing(run.clone()).runs().to_vec())
                .collect();
            state.busy.insert_all(&mine);
            mine
        };
        if mine.is_empty() {
            return Ok(());
        }
        for run in mine.runs() {
            let range = ByteRange::of_groups(run.clone(), live.size);
            let piece = &bytes[(range.start - start) as usize..(range.end - start) as usize];
            if let Err(error) = live.data.write_all_at(piece, range.start) {
                let mut state = live.state();
                mine.runs().iter().for_each(|run| state.busy.remove(run.clone()));
                return Err(StoreError::io(&live.data_path, error));
            }
        }
        live.mark(&mine)?;
        // Whatever of it another hand wrote is on the disk as that hand had it.
        let all_mine = mine == GroupSet::from(groups);
        if all_mine { live.follow(start, bytes) } else { live.follow(u64::MAX, &[]) }
    }
}
