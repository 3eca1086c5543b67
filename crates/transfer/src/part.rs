//! The receiving end of a draft's part: plain bytes, of which nothing can be checked before the whole file is here.
//!
//! **Invariant:** no more is written than was asked for, and only into the draft.

use std::ops::Range;

use hubless_store::{Draft, DraftWriter};
use hubless_types::{ByteRange, NodeId};

use crate::TransferError;
use crate::client::Tick;
use crate::decode::garbled;
use crate::wire::WireError;

/// Writes frames of a part as they arrive.
pub(crate) struct Part {
    writer: DraftWriter,
    left: u64,
    node: NodeId,
    tick: Tick,
}

impl Part {
    /// Takes the answer of `node`, which was asked for `groups`.
    pub(crate) fn new(into: &Draft, groups: Range<u64>, node: NodeId, tick: Tick) -> Self {
        let range = ByteRange::of_groups(groups, into.size());
        Self { writer: into.writer(range.start), left: range.len(), node, tick }
    }

    /// Takes a frame; `false` once all is here. Blocks.
    pub(crate) fn push(&mut self, frame: &[u8]) -> Result<bool, TransferError> {
        let len = frame.len() as u64;
        if len == 0 || len > self.left {
            return Err(garbled(self.node, &WireError::NotAsked));
        }
        self.writer.push(frame)?;
        self.left -= len;
        (self.tick)(len);
        Ok(self.left > 0)
    }

    /// Says that all has come.
    pub(crate) fn finish(self) -> Result<(), TransferError> {
        if self.left == 0 { Ok(()) } else { Err(garbled(self.node, &WireError::Garbled)) }
    }
}
