//! How much of an answer is handed to the system at once.
//!
//! What was handed over is sent, whether it is still wanted or not: on a slow line in a crowd that was a twentieth of
//! all. A fast line is fed in large pieces, which cost the core less.
//!
//! **Invariant:** pure.

use std::time::Duration;

use crate::limits::{QUICK_LINE, QUICK_PIECES, RECORDS_AT_ONCE, UNSENT_BYTES, UNSENT_BYTES_SLOW};

/// What is known of how quickly a line takes what it is given.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Pieces in a row that went quickly.
    quick: u32,
}

impl Pace {
    const fn is_quick(&self) -> bool {
        self.quick >= QUICK_PIECES
    }

    /// Records that are sealed before they are written.
    pub(super) const fn records(&self) -> usize {
        if self.is_quick() { RECORDS_AT_ONCE } else { 1 }
    }

    /// Bytes that the system may hold of what is not sent yet.
    pub(super) const fn unsent(&self) -> u32 {
        if self.is_quick() { UNSENT_BYTES } else { UNSENT_BYTES_SLOW }
    }

    /// A piece of `bytes` was taken in that time. Says whether another pace is right from now on.
    pub(super) fn took(&mut self, bytes: usize, time: Duration) -> bool {
        let before = self.is_quick();
        let quick = time.as_secs_f64() * QUICK_LINE as f64 <= bytes as f64;
        // What goes into an empty line goes quickly, whatever the line is like: one such piece tells nothing.
        self.quick = if quick { self.quick.saturating_add(1) } else { 0 };
        before != self.is_quick()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_RECORD;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_fast_line_is_soon_fed_in_large_pieces() {
        let mut pace = Pace::default();
        assert_eq!((pace.records(), pace.unsent()), (1, UNSENT_BYTES_SLOW));
        let changes = (0..100).filter(|_| pace.took(MAX_RECORD, MS)).count();
        assert_eq!((pace.records(), pace.unsent(), changes), (RECORDS_AT_ONCE, UNSENT_BYTES, 1));
    }

    #[test]
    fn a_slow_line_is_fed_in_small_ones_though_it_was_empty_now_and_then() {
        let mut pace = Pace::default();
        for piece in 0..1000 {
            // 660 kB a second; what comes after a pause is swallowed at once.
            let time = if piece % 5 == 0 { Duration::ZERO } else { 100 * MS };
            assert!(!pace.took(MAX_RECORD, time));
        }
        assert_eq!(pace.records(), 1);
    }

    #[test]
    fn a_line_that_becomes_slow_is_noticed_at_once() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.took(MAX_RECORD, MS);
        }
        assert!(pace.took(RECORDS_AT_ONCE * MAX_RECORD, 100 * MS));
        assert_eq!(pace.records(), 1);
    }
}
