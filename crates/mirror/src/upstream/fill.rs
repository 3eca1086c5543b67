//! Brings a body to the disk: an async half that takes it in, and one blocking thread that checks and writes.

use std::ops::Range;

use bytes::Bytes;
use hubless_origin::OriginError;
use hubless_store::{DecodeError, Draft, DraftWriter, Filler, PartialBlob, StoreError};
use hubless_transfer::Tick;
use hubless_types::ByteRange;
use tokio::sync::mpsc;

use super::remote::Body;

/// Pieces of one body that wait for the disk.
const PIECES_AHEAD: usize = 16;

/// Why a range from an origin did not come whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    /// The origin did not send it.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// What came does not fit the tree.
    #[error("wrong bytes at {offset}")]
    Wrong {
        /// The first byte of the group that is wrong.
        offset: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Disk(#[from] StoreError),
    /// The runtime is going down.
    #[error("the node is stopping")]
    Stopped,
}

/// What takes bytes; blocks.
trait Sink: Send + 'static {
    fn take(&mut self, bytes: &[u8]) -> Result<(), FillError>;
}

/// Takes all of `body` into `sink`, in order.
async fn pump<S: Sink>(mut body: Body, mut sink: S) -> Result<S, FillError> {
    let (send, mut receive) = mpsc::channel::<Bytes>(PIECES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(bytes) = receive.blocking_recv() {
            sink.take(&bytes)?;
        }
        Ok::<_, FillError>(sink)
    });
    let came = loop {
        match body.next().await {
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
            Ok(Some(bytes)) => {
                if send.send(bytes).await.is_err() {
                    // The writer failed; why, it says itself.
                    break Ok(());
                }
            }
        }
    };
    drop(send);
    let sink = writing.await.map_err(|_| FillError::Stopped)??;
    came?;
    Ok(sink)
}

struct Checked {
    filler: Filler,
    range: ByteRange,
    told: u64,
    tick: Tick,
}

impl Sink for Checked {
    fn take(&mut self, bytes: &[u8]) -> Result<(), FillError> {
        if bytes.is_empty() {
            // This node's own cap holds the origin back.
            (self.tick)(0);
            return Ok(());
        }
        let pushed = self.filler.push(bytes);
        let groups = self.range.groups();
        let here = groups.start..(groups.start + self.filler.groups_done()).min(groups.end);
        let done = if here.end == groups.end {
            self.range.len()
        } else {
            (here.end - here.start) * hubless_types::GROUP_BYTES
        };
        if done > self.told {
            (self.tick)(done - self.told);
            self.told = done;
        }
        pushed.map_err(of_decoding)
    }
}

fn of_decoding(error: DecodeError) -> FillError {
    match error {
        DecodeError::Disk(source) => FillError::Disk(source),
        DecodeError::WrongBytes { offset, .. } => FillError::Wrong { offset },
        // More or fewer than asked for: origins count, so the range itself was wrong.
        _ => FillError::Wrong { offset: 0 },
    }
}

/// Into a blob whose tree is here.
pub(super) async fn into_partial(
    body: Body,
    into: &PartialBlob,
    groups: Range<u64>,
    tick: Tick,
) -> Result<(), FillError> {
    let range = ByteRange::of_groups(groups.clone(), into.size());
    let filler = into.filler(groups)?;
    let sink = pump(body, Checked { filler, range, told: 0, tick }).await?;
    sink.filler.finish().map_err(of_decoding)
}

struct Unchecked {
    writer: DraftWriter,
    tick: Tick,
}

impl Sink for Unchecked {
    fn take(&mut self, bytes: &[u8]) -> Result<(), FillError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.writer.push(bytes)?;
        (self.tick)(bytes.len() as u64);
        Ok(())
    }
}

/// Into a draft, from `start` on.
pub(super) async fn into_draft(body: Body, into: &Draft, start: u64, tick: Tick) -> Result<(), FillError> {
    pump(body, Unchecked { writer: into.writer(start), tick }).await.map(drop)
}
