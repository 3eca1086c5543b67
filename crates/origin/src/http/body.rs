//! A body as it arrives: never slower than it may be, never more or fewer bytes than it should have.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use reqwest::Response;
use tokio::time::Instant;

use super::unreachable;
use crate::pace::Gauge;
use crate::{OriginBody, OriginError};

/// Fewest bytes that must come while the stall's time is waited: drops do not keep a connection alive.
const LEAST_BYTES: usize = 4096;

/// The pieces of a body.
pub(super) struct Pieces {
    response: Response,
    gauge: Arc<Gauge>,
    stall: Duration,
    /// How long was waited, and how many bytes came, since enough of them had come. Only waiting counts: a reader
    /// that takes its time is no stall.
    waited: Duration,
    came: usize,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("came", &self.came).finish_non_exhaustive()
    }
}

impl Pieces {
    pub(super) const fn new(response: Response, gauge: Arc<Gauge>, stall: Duration) -> Self {
        Self { response, gauge, stall, waited: Duration::ZERO, came: 0 }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let begun = Instant::now();
        let left = self.stall.saturating_sub(self.waited);
        let result = match tokio::time::timeout(left, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(unreachable(self.gauge.name(), &error)),
            Err(_) => Err(OriginError::Stalled { origin: self.gauge.name().to_owned(), after: self.stall }),
        };
        if let Ok(Some(piece)) = &result {
            self.gauge.count_bytes(piece.len());
            self.waited += begun.elapsed();
            self.came += piece.len();
            if self.came >= LEAST_BYTES {
                (self.waited, self.came) = (Duration::ZERO, 0);
            }
        }
        result.inspect_err(|error| self.gauge.note(error))
    }

    /// A stream of these pieces that ends with an error unless they have `expected` bytes together.
    pub(super) fn exactly(self, expected: u64) -> OriginBody {
        stream::try_unfold((self, 0_u64), move |(mut pieces, got)| async move {
            let piece = pieces.next().await?;
            let now = got + piece.as_ref().map_or(0, |piece| piece.len() as u64);
            if now > expected || (piece.is_none() && now < expected) {
                let origin = pieces.gauge.name().to_owned();
                let error = OriginError::Length { origin, got: now, expected };
                pieces.gauge.note(&error);
                return Err(error);
            }
            Ok(piece.map(|piece| (piece, (pieces, now))))
        })
        .boxed()
    }
}
