//! What a hub turned out not to do, so that it is not asked for it each time.
//!
//! **Invariant:** noted only where the hub refused one way and gave the same by a plainer one, and forgotten after a
//! while: an odd refusal, or a hub that learned something, costs ten minutes and not the node's whole run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a hub is not asked for what it lacked.
const MEMORY: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lack(Mutex<Option<Instant>>);

impl Lack {
    /// Whether to ask for it at all.
    pub(super) fn is_known(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// The plainer way worked where this one was refused.
    pub(super) fn note(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + MEMORY);
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hub_lacked_is_asked_of_it_again_after_a_while() {
        let (lack, now) = (Lack::default(), Instant::now());
        assert!(!lack.is_known(now));
        lack.note(now);
        assert!(lack.is_known(now) && lack.is_known(now + MEMORY - Duration::from_millis(1)));
        assert!(!lack.is_known(now + MEMORY));
    }
}
