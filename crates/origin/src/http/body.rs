//! A body as it arrives: never slower than it may be, never more or fewer bytes than it should have.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use hubless_limits::{OriginDebt, Use};
use reqwest::Response;
use tokio::time::Instant;

use super::unreachable;
use crate::pace::{Gauge, Host};
use crate::{OriginBody, OriginError};

/// Fewest bytes that must come while the stall's time is waited: drops do not keep a connection alive.
const LEAST_BYTES: usize = 4096;

/// How often whoever waits for a body hears that it is this node's own cap that holds it back.
const TELL_HELD: Duration = Duration::from_millis(500);

/// The pieces of a body.
pub(super) struct Pieces {
    response: Response,
    gauge: Arc<Gauge>,
    /// Who sends it.
    host: Host,
    stall: Duration,
    /// How long was waited, and how many bytes came, since enough of them had come. Only waiting counts: a reader
    /// that takes its time is no stall.
    waited: Duration,
    came: usize,
    what: Use,
    /// What came and the caps have not had yet: it is settled before the next piece is read, so that the connection's own
    /// window holds the origin back.
    debt: OriginDebt,
    /// How long the caps held it back.
    held: Duration,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("came", &self.came).finish_non_exhaustive()
    }
}

impl Pieces {
    pub(super) fn new(
        response: Response,
        (gauge, host): (Arc<Gauge>, Host),
        stall: Duration,
        what: Use,
    ) -> Self {
        let (waited, held) = (Duration::ZERO, Duration::ZERO);
        Self { response, gauge, host, stall, waited, came: 0, what, debt: OriginDebt::default(), held }
    }

    /// How long this node's own caps held it back.
    pub(super) const fn held(&self) -> Duration {
        self.held
    }

    /// The next piece, an empty one where a cap holds the next back; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let begun = Instant::now();
        let settled = tokio::time::timeout(TELL_HELD, self.gauge.settle(&mut self.debt)).await;
        self.held += begun.elapsed();
        if settled.is_err() {
            return Ok(Some(Bytes::new()));
        }
        self.gauge.within_month(self.what)?;
        self.read().await
    }

    async fn read(&mut self) -> Result<Option<Bytes>, OriginError> {
        let begun = Instant::now();
        let left = self.stall.saturating_sub(self.waited);
        let result = match tokio::time::timeout(left, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(unreachable(self.gauge.name(), &error)),
            Err(_) => Err(OriginError::Stalled { origin: self.gauge.name().to_owned(), after: self.stall }),
        };
        if let Ok(Some(piece)) = &result {
            self.gauge.count_bytes(piece.len(), &mut self.debt);
            self.waited += begun.elapsed();
            self.came += piece.len();
            if self.came >= LEAST_BYTES {
                (self.waited, self.came) = (Duration::ZERO, 0);
            }
        }
        result.inspect_err(|error| self.gauge.note(&self.host, error))
    }

    /// A stream of these pieces that ends with an error unless they have `expected` bytes together.
    pub(super) fn exactly(self, expected: u64) -> OriginBody {
        stream::try_unfold((self, 0_u64), move |(mut pieces, got)| async move {
            let piece = pieces.next().await?;
            let now = got + piece.as_ref().map_or(0, |piece| piece.len() as u64);
            if now > expected || (piece.is_none() && now < expected) {
                let origin = pieces.gauge.name().to_owned();
                let error = OriginError::Length { origin, got: now, expected };
                pieces.gauge.note(&pieces.host, &error);
                return Err(error);
            }
            Ok(piece.map(|piece| (piece, (pieces, now))))
        })
        .boxed()
    }
}
