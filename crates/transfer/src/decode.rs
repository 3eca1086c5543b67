//! From what a peer sent to what may be believed: the verifying end of a segment, and errors in its words.

use std::ops::Range;

use hubless_store::{DecodeError, Decoder, PartialBlob, TreeDecoder};
use hubless_types::{ByteRange, GROUP_BYTES, NodeId};

use crate::TransferError;
use crate::client::Tick;
use crate::wire::{Question, WireError};

/// Checks and writes one answer, and tells of each group that is written.
pub(crate) struct Verified {
    decoder: Decoder,
    node: NodeId,
    tick: Tick,
    /// Bytes of the file that the answer carries.
    total: u64,
    /// Bytes of which `tick` was told.
    told: u64,
}

impl Verified {
    /// Takes the answer of `node`, which was asked for `groups`.
    pub(crate) fn new(into: &PartialBlob, groups: Range<u64>, node: NodeId, tick: Tick) -> Self {
        let total = ByteRange::of_groups(groups.clone(), into.size()).len();
        Self { decoder: into.decoder(groups), node, tick, total, told: 0 }
    }

    /// Takes the next bytes. Blocks.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        let pushed = self.decoder.push(bytes);
        // The last group of a file may be short.
        let done = (self.decoder.groups_done() * GROUP_BYTES).min(self.total);
        if done > self.told {
            (self.tick)(done - self.told);
            self.told = done;
        }
        pushed.map_err(|error| decode_error(self.node, error))
    }

    /// Groups that are written.
    pub(crate) fn groups_done(&self) -> u64 {
        self.decoder.groups_done()
    }

    /// Says that all has come.
    pub(crate) fn finish(self) -> Result<(), TransferError> {
        let node = self.node;
        self.decoder.finish().map_err(|error| decode_error(node, error))
    }
}

/// Takes frames of a tree from `node`, and says how many of its bytes may still come.
pub(crate) struct Tree {
    decoder: TreeDecoder,
    node: NodeId,
}

impl Tree {
    pub(crate) fn new(into: &PartialBlob, node: NodeId) -> Result<Self, TransferError> {
        Ok(Self { decoder: into.tree_decoder()?, node })
    }

    /// The question for what is missing; `None` if nothing is.
    pub(crate) fn question(&self, into: &PartialBlob) -> Option<Question> {
        (self.decoder.missing() > 0).then(|| Question::Tree(into.hash(), self.decoder.at()))
    }

    /// Takes a frame; `false` once all is here. Blocks.
    pub(crate) fn push(&mut self, frame: &[u8]) -> Result<bool, TransferError> {
        if frame.is_empty() {
            return Err(garbled(self.node, &WireError::Garbled));
        }
        self.decoder.push(frame).map_err(|error| decode_error(self.node, error))?;
        Ok(self.decoder.missing() > 0)
    }

    /// Says that all has come.
    pub(crate) fn finish(self) -> Result<(), TransferError> {
        let node = self.node;
        self.decoder.finish().map_err(|error| decode_error(node, error))
    }
}

fn decode_error(node: NodeId, error: DecodeError) -> TransferError {
    match error {
        DecodeError::WrongBytes { offset, .. } => TransferError::WrongBytes { node, offset },
        DecodeError::WrongSize { said, expected, .. } => TransferError::WrongSize { node, said, expected },
        DecodeError::Disk(error) => TransferError::Disk(error),
        error @ (DecodeError::TooMuch { .. } | DecodeError::Truncated { .. }) => {
            TransferError::Protocol { node, what: error.to_string() }
        }
    }
}

/// A message of `node` that does not follow the protocol.
pub(crate) fn garbled(node: NodeId, error: &WireError) -> TransferError {
    TransferError::Protocol { node, what: error.to_string() }
}

/// Refuses to ask for more than one request may.
pub(crate) const fn check_ask(what: &'static str, asked: u64, limit: u64) -> Result<(), TransferError> {
    if asked > limit { Err(TransferError::AsksTooMuch { what, limit }) } else { Ok(()) }
}
