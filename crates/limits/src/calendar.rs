//! Which month is counted, by a clock that may be wrong. Pure.
//!
//! A clock that goes on into another month begins it; one that goes back does not, so that nobody gets rid of a count by
//! setting it back. But what a clock counted that was years ahead would then hold for years: one that went back by more than a
//! month, and goes on steadily from there, is believed, and what was counted counts for the month that it shows.
//!
//! **Invariant:** going back, and coming back from there, takes nothing from a count.

use hubless_types::Timestamp;

use crate::Each;
use crate::month::{Month, MonthBytes};

/// How long a clock that went back must go on steadily before it is believed, in seconds.
const STEADY_SECS: u64 = 300;
/// The longest that it may go on between two looks, in seconds: a busy machine looks late, and a clock that is being set jumps.
const MAX_STEP_SECS: u64 = 60;
/// Months by which it must have gone back. One is what a clock a little ahead does at the turn of a month, and would carry the
/// count of the old one into the new.
const MIN_BACK: i32 = 2;
/// A clock that shows an earlier month is wrong: that of a machine without a battery begins there.
const FIRST: Month = Month { year: 2026, month: 1 };

/// The month that is counted, and what is known of the clock.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    /// `None` before the first look.
    month: Option<Month>,
    /// The one that was counted before it, and those of its bytes that are not in the present count.
    left: Option<MonthBytes>,
    back: Option<Back>,
}

/// A clock that went back.
#[derive(Debug, Clone, Copy)]
struct Back {
    /// Since when, by itself, it goes on steadily.
    since: Timestamp,
    /// What it showed last.
    last: Timestamp,
}

/// What follows from a look at the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// The count goes on.
    Same,
    /// A month begins; nothing is counted of it yet.
    Anew,
    /// The clock went back to this month, and stays: the count goes on for it, with these bytes that were counted of it
    /// before the clock went ahead.
    Back(Month, Each<u64>),
}

impl Calendar {
    /// The month that is counted; `None` before the first look.
    pub(crate) const fn month(&self) -> Option<Month> {
        self.month
    }

    /// Counts for `month`, as before a restart.
    pub(crate) const fn resume(&mut self, month: Month) {
        self.month = Some(month);
    }

    /// Looks at a clock that shows `now`, in `month`; `counted` is what was counted so far.
    pub(crate) fn look(&mut self, now: Timestamp, month: Month, counted: Each<u64>) -> Turned {
        let known = *self.month.get_or_insert(month);
        if month < known {
            return self.look_back(now, known, month);
        }
        self.back = None;
        if month == known {
            return Turned::Same;
        }
        self.month = Some(month);
        let left = self.left.take();
        if left.is_some_and(|left| left.month == month) {
            // It was here before it went back, and what was counted then is in the count.
            return Turned::Same;
        }
        self.left = Some(MonthBytes { month: known, bytes: counted });
        Turned::Anew
    }

    fn look_back(&mut self, now: Timestamp, known: Month, month: Month) -> Turned {
        if month < FIRST || known.index() - month.index() < MIN_BACK || !self.is_steady(now) {
            return Turned::Same;
        }
        let before = self.left.filter(|left| left.month == month).map(|left| left.bytes);
        self.month = Some(month);
        self.left = Some(MonthBytes { month: known, bytes: Each::default() });
        self.back = None;
        Turned::Back(month, before.unwrap_or_default())
    }

    /// Whether a clock that went back has gone on from there for long enough.
    fn is_steady(&mut self, now: Timestamp) -> bool {
        let goes_on = |back: &Back| (back.last..=back.last.plus(MAX_STEP_SECS)).contains(&now);
        let since = self.back.filter(goes_on).map_or(now, |back| back.since);
        self.back = Some(Back { since, last: now });
        now >= since.plus(STEADY_SECS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOVEMBER: Month = Month { year: 2026, month: 11 };
    const AHEAD: Month = Month { year: 2037, month: 3 };
    /// A moment of a clock that is right; months are told beside it.
    const NOW: Timestamp = Timestamp(1_795_694_400);

    fn up(bytes: u64) -> Each<u64> {
        Each { up: bytes, ..Each::default() }
    }

    fn counting(month: Month) -> Calendar {
        let mut calendar = Calendar::default();
        calendar.resume(month);
        calendar
    }

    /// Looks once a second; when the clock was believed.
    fn believed_after(calendar: &mut Calendar, month: Month, most: u64) -> Option<(u64, Turned)> {
        (0..=most)
            .map(|s| (s, calendar.look(NOW.plus(s), month, up(7))))
            .find(|(_, turned)| *turned != Turned::Same)
    }

    #[test]
    fn a_clock_that_was_years_ahead_is_believed_when_it_is_right_again() {
        let mut calendar = counting(NOVEMBER);
        assert_eq!(calendar.look(Timestamp(2_120_000_000), AHEAD, up(60)), Turned::Anew);
        let back = believed_after(&mut calendar, NOVEMBER, 3600);
        assert_eq!(back, Some((STEADY_SECS, Turned::Back(NOVEMBER, up(60)))), "with what was counted before");
        assert_eq!(calendar.month(), Some(NOVEMBER));
        let december = Month { month: 12, ..NOVEMBER };
        assert_eq!(calendar.look(NOW.plus(86_400 * 20), december, up(67)), Turned::Anew);
    }

    #[test]
    fn after_a_restart_too() {
        let mut calendar = counting(AHEAD);
        assert_eq!(
            believed_after(&mut calendar, NOVEMBER, 3600),
            Some((STEADY_SECS, Turned::Back(NOVEMBER, up(0))))
        );
    }

    #[test]
    fn a_clock_that_went_back_a_little_or_before_all_nodes_is_not_believed() {
        for month in [Month { month: 10, ..NOVEMBER }, Month { year: 1970, month: 1 }] {
            let mut calendar = counting(NOVEMBER);
            assert_eq!(believed_after(&mut calendar, month, 86_400), None, "{month}");
            assert_eq!(calendar.look(NOW.plus(86_401), NOVEMBER, up(7)), Turned::Same, "and nothing is lost");
        }
    }

    #[test]
    fn a_clock_that_jumps_about_is_not_believed() {
        let mut calendar = counting(AHEAD);
        for n in 0..100 {
            // Further on by hours, or back again, every four minutes.
            let from = NOW.plus(if n % 2 == 0 { n * 7200 } else { 0 });
            for s in 0..240 {
                assert_eq!(calendar.look(from.plus(s), NOVEMBER, up(7)), Turned::Same);
            }
        }
    }

    #[test]
    fn who_comes_back_from_going_back_has_all_that_was_counted() {
        let mut calendar = counting(NOVEMBER);
        let september = Month { month: 9, ..NOVEMBER };
        assert!(believed_after(&mut calendar, september, 3600).is_some());
        assert_eq!(calendar.look(NOW.plus(9999), NOVEMBER, up(8)), Turned::Same);
        assert_eq!(calendar.month(), Some(NOVEMBER));
    }

    proptest! {
        /// Whatever a clock does, a count shrinks in one case alone: a later month begins that was not left for an earlier one.
        #[test]
        fn nothing_but_a_later_month_takes_from_a_count(steps in prop::collection::vec((0_i8..12, 0_u64..90, 1_u64..1000), 1..60)) {
            let mut calendar = counting(NOVEMBER);
            let (mut counted, mut now, mut gone_back_from) = (0, NOW, None);
            for (month, minutes, bytes) in steps {
                let shown = Month { year: 2026 + i16::from(month > 5), month: month + 1 };
                for _ in 0..=minutes {
                    now = now.plus(60);
                    let known = calendar.month();
                    counted += bytes;
                    match calendar.look(now, shown, up(counted)) {
                        Turned::Same => prop_assert!(calendar.month() >= known),
                        Turned::Anew => {
                            prop_assert!(Some(shown) > known && Some(shown) != gone_back_from);
                            (counted, gone_back_from) = (0, None);
                        }
                        Turned::Back(month, more) => {
                            prop_assert!(Some(month) < known);
                            (counted, gone_back_from) = (counted + more.up, known);
                        }
                    }
                }
            }
        }
    }
}
