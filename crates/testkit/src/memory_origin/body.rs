//! Bytes on their way out of a memory origin, with what goes wrong on the way.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use hubless_origin::{OriginBody, OriginError};
use hubless_types::ByteRange;

use super::{MemoryOrigin, OriginFaults};

/// Bytes in one piece of a body.
const PIECE: u64 = 64 * 1024;

/// `range` of `content`, piece by piece.
pub(super) fn send(
    origin: MemoryOrigin,
    content: Bytes,
    range: ByteRange,
    faults: OriginFaults,
) -> OriginBody {
    let end = range.end.min(content.len() as u64);
    let sender =
        Sender { origin, content, start: range.start.min(end), at: range.start.min(end), end, faults };
    stream::unfold(sender, |mut sender| async move { sender.next().await.map(|piece| (piece, sender)) })
        .boxed()
}

struct Sender {
    origin: MemoryOrigin,
    content: Bytes,
    start: u64,
    at: u64,
    end: u64,
    faults: OriginFaults,
}

impl Sender {
    async fn next(&mut self) -> Option<Result<Bytes, OriginError>> {
        if self.at >= self.end {
            return None;
        }
        let sent = self.at - self.start;
        let left = |limit: Option<u64>| limit.map_or(PIECE, |limit| limit.saturating_sub(sent));
        if left(self.faults.stall_after) == 0 {
            std::future::pending::<()>().await;
        }
        if left(self.faults.cut_after) == 0 {
            let expected = self.end - self.start;
            let origin = self.origin.inner.name.clone();
            self.at = self.end;
            return Some(Err(OriginError::Length { origin, got: sent, expected }));
        }
        let len =
            PIECE.min(left(self.faults.stall_after)).min(left(self.faults.cut_after)).min(self.end - self.at);
        if let Some(rate) = self.faults.bytes_per_second {
            tokio::time::sleep(Duration::from_secs_f64(len as f64 / rate.max(1) as f64)).await;
        }
        let piece = self.piece(self.at, self.at + len);
        self.at += len;
        self.origin.state().bytes += len;
        Some(Ok(piece))
    }

    fn piece(&self, start: u64, end: u64) -> Bytes {
        let piece = self.content.slice(start as usize..end as usize);
        match self.faults.wrong_byte_at {
            Some(at) if (start..end).contains(&at) => {
                let mut wrong = piece.to_vec();
                wrong[(at - start) as usize] ^= 0xff;
                wrong.into()
            }
            _ => piece,
        }
    }
}
