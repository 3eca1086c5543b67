//! When a key is announced again. Pure.
//!
//! The interval is a round over the key space: each key has its moment in it by where it lies, so that keys near each
//! other are due near each other, and share a walk. Every node begins its rounds elsewhere. Due times are kept, so
//! neither a restart nor a long absence brings all keys at once: what is overdue is told in one sweep, part by part, and
//! finds its moment again.

use hubless_types::{NodeId, Timestamp};

/// Of the interval, as a divisor: what is due within that much is announced along with what is due beside it.
const ALONG: u64 = 4;
/// Of the interval, as a divisor: what nobody has room for is tried again after that much. More than [`ALONG`] leaves, or
/// every key that is due beside it would have it told again.
const ROOM: u64 = 3;
/// Of the interval, as a divisor: a queue whose oldest key is that late is falling behind.
const BEHIND: u64 = 8;

/// The rounds of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    interval: u64,
    phase: u64,
}

impl Schedule {
    /// A round takes `interval` seconds.
    pub(crate) fn new(node: &NodeId, interval: u64) -> Self {
        let interval = interval.max(1);
        let mut seed = [0; 8];
        seed.copy_from_slice(&node.as_bytes()[..8]);
        Self { interval, phase: u64::from_be_bytes(seed) % interval }
    }

    /// When a key at `lead` that was announced at `now` is due again: at its moment, half a round from now or later. So
    /// no two announcements of a key are more than one and a half rounds apart.
    pub(crate) fn next(&self, lead: u64, now: Timestamp) -> Timestamp {
        let along = (u128::from(lead) * u128::from(self.interval)) >> 64;
        let moment = (along as u64 + self.phase) % self.interval;
        let earliest = now.plus(self.interval / 2).0;
        let wait = (moment + self.interval - earliest % self.interval) % self.interval;
        Timestamp(earliest).plus(wait)
    }

    /// Until when keys are announced along with one beside them that is due at `now`.
    pub(crate) fn along(&self, now: Timestamp) -> Timestamp {
        now.plus(self.interval / ALONG)
    }

    /// When a key is tried again for which nobody had room at `now`.
    pub(crate) fn when_there_may_be_room(&self, now: Timestamp) -> Timestamp {
        now.plus(self.interval / ROOM)
    }

    /// By how many seconds the queue is too late, where its oldest key was due at `oldest`.
    pub(crate) fn behind(&self, oldest: Timestamp, now: Timestamp) -> Option<u64> {
        let late = now.0.saturating_sub(oldest.0);
        (late > self.interval / BEHIND).then_some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 22 * 3600;

    fn schedule(node: u8) -> Schedule {
        Schedule::new(&NodeId::from_bytes([node; 32]), DAY)
    }

    #[test]
    fn keys_are_spread_over_the_round_and_nodes_begin_elsewhere() {
        let now = Timestamp(1_000_000);
        let due = |node: u8, n: u64| schedule(node).next(n << 54, now).0;
        let mut hours = [0u32; 22];
        (0..1024).for_each(|n| hours[(due(1, n) % DAY / 3600) as usize] += 1);
        assert!(hours.iter().all(|count| (40..55).contains(count)), "{hours:?}");
        assert_ne!(due(1, 5), due(77, 5));
    }

    #[test]
    fn a_queue_is_behind_when_its_oldest_key_is_an_eighth_of_a_round_late() {
        let late = |secs| schedule(1).behind(Timestamp(500), Timestamp(500 + secs));
        assert_eq!((late(DAY / 8), late(DAY / 8 + 1)), (None, Some(DAY / 8 + 1)));
    }

    #[test]
    fn what_nobody_has_room_for_is_not_told_along_but_before_the_next_round() {
        let (now, schedule) = (Timestamp(1_000_000), schedule(1));
        let again = schedule.when_there_may_be_room(now);
        assert!(schedule.along(now) < again && again < now.plus(DAY / 2));
    }

    proptest! {
        /// However often and however late it is announced, a record is renewed before it expires.
        #[test]
        fn no_record_lapses(node: u8, lead: u64, now in 0u64..1 << 40) {
            let due = schedule(node).next(lead, Timestamp(now)).0;
            prop_assert!((now + DAY / 2..now + DAY / 2 + DAY).contains(&due));
            let along = due - DAY / ALONG;
            prop_assert_eq!(schedule(node).next(lead, Timestamp(along)).0, due + DAY, "told along, it keeps its moment");
        }

        /// Keys near each other are due near each other.
        #[test]
        fn neighbours_are_due_together(lead in 0u64..u64::MAX - (1 << 50)) {
            let now = Timestamp(1 << 30);
            let (a, b) = (schedule(3).next(lead, now).0, schedule(3).next(lead + (1 << 50), now).0);
            let apart = a.abs_diff(b);
            prop_assert!(apart <= DAY / 1_000 || apart >= DAY - DAY / 1_000);
        }
    }
}
