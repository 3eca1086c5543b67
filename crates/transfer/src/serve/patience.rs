//! How long a peer may take over an answer.
//!
//! **Invariant:** pure.

use std::time::Duration;

use crate::limits::{MIN_TAKE_RATE, TAKE_TIMEOUT};

/// How long a peer is still waited for: [`TAKE_TIMEOUT`] and what its bytes may take at [`MIN_TAKE_RATE`], less the time
/// that it has taken. Only waiting for the peer counts: a slow disk here is not its fault.
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) const fn new() -> Self {
        Self(TAKE_TIMEOUT)
    }

    /// The longest wait for the next piece.
    pub(crate) fn for_piece(&mut self, len: usize) -> Duration {
        self.0 += Duration::from_secs_f64(len as f64 / MIN_TAKE_RATE as f64);
        self.0.min(TAKE_TIMEOUT)
    }

    pub(crate) const fn spend(&mut self, took: Duration) {
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
