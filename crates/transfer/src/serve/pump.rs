//! From a blocking thread that reads the store to a stream: a few pieces ahead, and no copy between.

use std::time::Duration;

use bytes::Bytes;
use hubless_limits::Use;
use iroh::endpoint::SendStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Peer, share::refuse_spent};
use crate::limits::{MIN_TAKE_RATE, PIECES_READY, TAKE_TIMEOUT};
use crate::refusal::Refusal;

/// Runs `read` in a blocking thread and sends what it emits, as the cap on what goes out allows for `what` it is. `read`
/// is told by `false` that nobody wants more.
pub(super) async fn pump(
    send: &mut SendStream,
    peer: &Peer,
    what: Use,
    read: impl FnOnce(&mut dyn FnMut(Bytes) -> bool) -> Result<(), Refusal> + Send + 'static,
) -> Result<(), Refusal> {
    let (pieces, mut ready) = mpsc::channel::<Bytes>(PIECES_READY);
    let reader = tokio::task::spawn_blocking(move || read(&mut |piece| pieces.blocking_send(piece).is_ok()));
    let mut patience = Patience::new();
    while let Some(mut piece) = ready.recv().await {
        refuse_spent(&peer.shared, what)?;
        while !piece.is_empty() {
            let part = allowed(peer, what, &mut piece).await;
            let len = part.len();
            let (within, before) = (patience.for_piece(len), Instant::now());
            match timeout(within, send.write_chunk(part)).await {
                Ok(Ok(())) => {
                    peer.counter.sent(len);
                    patience.spend(before.elapsed());
                }
                // It stopped the stream, or is gone: nobody is left to be told.
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Refusal::Busy),
            }
        }
    }
    reader.await.unwrap_or(Err(Refusal::Failed))
}

/// The front of `piece`, once the cap lets it go.
async fn allowed(peer: &Peer, what: Use, piece: &mut Bytes) -> Bytes {
    let up = peer.shared.limits.up();
    match what {
        Use::Content => piece.split_to(up.take(piece.len()).await.min(piece.len())),
        Use::Words => {
            let part = piece.split_to(up.piece(piece.len()));
            up.small(part.len()).await;
            part
        }
    }
}

/// How long a peer is still waited for: [`TAKE_TIMEOUT`] and what its bytes may take at [`MIN_TAKE_RATE`], less the time
/// that it has taken. Only waiting for the peer counts: a slow disk here is not its fault.
struct Patience(Duration);

impl Patience {
    const fn new() -> Self {
        Self(TAKE_TIMEOUT)
    }

    /// The longest wait for the next piece.
    fn for_piece(&mut self, len: usize) -> Duration {
        self.0 += Duration::from_secs_f64(len as f64 / MIN_TAKE_RATE as f64);
        self.0.min(TAKE_TIMEOUT)
    }

    const fn spend(&mut self, took: Duration) {
        self.0 = self.0.saturating_sub(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PIECE_BYTES;

    /// Seconds until a peer that takes so many bytes a second is given up, if it is within a day.
    fn given_up_after(rate: f64) -> Option<f64> {
        let (mut patience, mut after) = (Patience::new(), 0.0);
        let took = PIECE_BYTES as f64 / rate;
        while after < 86_400.0 {
            let within = patience.for_piece(PIECE_BYTES).as_secs_f64();
            if took > within {
                return Some(after + within);
            }
            patience.spend(Duration::from_secs_f64(took));
            after += took;
        }
        None
    }

    #[test]
    fn who_takes_too_slowly_is_given_up_soon_and_a_thin_line_never() {
        // The pace that keeps just within each piece's own wait.
        let trickle = PIECE_BYTES as f64 / (TAKE_TIMEOUT.as_secs_f64() - 0.1);
        assert!(given_up_after(trickle).is_some_and(|after| after < 180.0), "{:?}", given_up_after(trickle));
        assert_eq!(given_up_after(1.0), Some(TAKE_TIMEOUT.as_secs_f64()));
        assert_eq!(given_up_after(MIN_TAKE_RATE as f64 * 1.01), None);
    }
}
