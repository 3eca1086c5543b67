//! The switch (a circuit breaker): an origin that failed several times in a row is left alone for a while, then
//! one request is tried.

use std::time::Duration;

use tokio::time::Instant;

use crate::Breaker;

/// Failures in a row after which an origin is left alone.
const FAILURES: u32 = 5;
/// First rest; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_secs(5);
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// How long those are told to wait who come while one request is tried.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    state: State,
    failures: u32,
    /// Rests since it last answered.
    rests: u32,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    Probing,
}

impl Switch {
    /// Whether a request may go out: `Ok(true)` for the one that tries, an error with the time to wait for none.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<bool, Duration> {
        match self.state {
            State::Closed => Ok(false),
            State::Open { until } if now < until => Err(until - now),
            State::Open { .. } => {
                self.state = State::Probing;
                Ok(true)
            }
            State::Probing => Err(PROBE_WAIT),
        }
    }

    /// It answered.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    /// It failed; `dice` in `0.0..1.0` spreads the rest over half of its length.
    pub(crate) fn failed(&mut self, now: Instant, dice: f64) {
        self.failures = self.failures.saturating_add(1);
        let rests = match self.state {
            State::Closed => self.failures >= FAILURES,
            State::Probing => true,
            // Requests that were under way when it opened.
            State::Open { .. } => false,
        };
        if rests {
            let rest = FIRST_REST.saturating_mul(1 << self.rests.min(16)).min(LONGEST_REST);
            self.rests += 1;
            self.state = State::Open { until: now + rest.mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0) };
        }
    }

    /// The request that tried was given up without an answer: the next one tries.
    pub(crate) fn given_up(&mut self, now: Instant) {
        if matches!(self.state, State::Probing) {
            self.state = State::Open { until: now };
        }
    }

    /// How it stands, and how long it rests.
    pub(crate) fn seen(&self, now: Instant) -> (Breaker, Option<Duration>) {
        match self.state {
            State::Closed => (Breaker::Closed, None),
            State::Open { until } if now < until => (Breaker::Open, Some(until - now)),
            State::Open { .. } | State::Probing => (Breaker::HalfOpen, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_after_failures_in_a_row_and_longer_each_time() {
        let (mut switch, mut now) = (Switch::default(), Instant::now());
        for _ in 0..FAILURES - 1 {
            switch.failed(now, 1.0);
        }
        switch.answered();
        for _ in 0..FAILURES {
            assert_eq!(switch.admit(now), Ok(false));
            switch.failed(now, 1.0);
        }
        for rest in [5, 10, 20, 40, 80, 160, 300, 300] {
            let rest = Duration::from_secs(rest);
            assert_eq!(switch.admit(now), Err(rest));
            assert_eq!(switch.seen(now), (Breaker::Open, Some(rest)));
            now += rest;
            assert_eq!(switch.admit(now), Ok(true), "one is tried");
            assert_eq!(switch.admit(now), Err(PROBE_WAIT), "and no other");
            switch.failed(now, 1.0);
        }
        now += LONGEST_REST;
        assert_eq!(switch.admit(now), Ok(true));
        switch.given_up(now);
        assert_eq!((switch.seen(now).0, switch.admit(now)), (Breaker::HalfOpen, Ok(true)));
        switch.answered();
        assert_eq!((switch.seen(now).0, switch.admit(now)), (Breaker::Closed, Ok(false)));
    }

    #[test]
    fn late_failures_do_not_lengthen_a_rest() {
        let (mut switch, now) = (Switch::default(), Instant::now());
        for _ in 0..FAILURES * 3 {
            switch.failed(now, 0.0);
        }
        assert_eq!(switch.admit(now), Err(FIRST_REST / 2));
    }
}
