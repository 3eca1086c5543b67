//! Pauses before a request is tried again: doubling, and anywhere between nothing and the whole (full jitter), so
//! that many who failed together do not come back together.

use std::time::Duration;

use rand::RngExt as _;

/// Longest pause before the second attempt.
const FIRST: Duration = Duration::from_millis(400);
/// Longest pause before any attempt.
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait after `attempt` (from 1) failed; `dice` is in `0.0..1.0`.
pub(crate) fn pause(attempt: u32, dice: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    doubled.min(LONGEST).mul_f64(dice.clamp(0.0, 1.0))
}

/// Throws the dice.
pub(crate) fn roll() -> f64 {
    rand::rng().random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let whole: Vec<_> = (1..7).map(|attempt| pause(attempt, 1.0).as_millis()).collect();
        assert_eq!(whole, [400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!((pause(3, 0.0), pause(u32::MAX, 0.5)), (Duration::ZERO, LONGEST / 2));
        assert!((0.0..1.0).contains(&roll()));
    }
}
