//! Bytes of a calendar month, and what follows when there are none left.

use std::fmt;

use hubless_types::Timestamp;
use jiff::Span;
use jiff::tz::TimeZone;

use crate::schedule::{timestamp, zoned};
use crate::{Direction, Each, Volume};

/// Part of a month's bytes that is kept for names and manifests: a hundredth.
const RESERVE_PART: u64 = 100;
/// Most bytes that are kept for them.
const MAX_RESERVE: u64 = 64_000_000;

/// A calendar month of the machine's local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Month {
    /// The year.
    pub year: i16,
    /// The month, 1 to 12.
    pub month: i8,
}

impl Month {
    /// The month that `moment` is in.
    pub fn of(moment: Timestamp, zone: &TimeZone) -> Self {
        let here = zoned(moment, zone);
        Self { year: here.year(), month: here.month() }
    }

    /// Its place among all months: the next one's is one more.
    pub(crate) const fn index(self) -> i32 {
        self.year as i32 * 12 + self.month as i32
    }

    /// The first moment after it.
    pub fn end(self, zone: &TimeZone) -> Timestamp {
        let first = jiff::civil::Date::new(self.year, self.month, 1).ok();
        let next = first.and_then(|first| first.checked_add(Span::new().months(1)).ok());
        let end = next.and_then(|next| next.to_zoned(zone.clone()).ok());
        end.and_then(|end| timestamp(end.timestamp())).unwrap_or(Timestamp(u64::MAX))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// What went through in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthBytes {
    /// Which month.
    pub month: Month,
    /// Bytes.
    pub bytes: Each<u64>,
}

/// A monthly cap that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Which.
    pub direction: Direction,
    /// The cap.
    pub cap: Volume,
    /// When it begins anew.
    pub until: Timestamp,
}

impl Spent {
    /// What a person can do.
    pub const fn hint(&self) -> &'static str {
        match self.direction {
            Direction::Up => {
                "what is held is still served on this machine; raise it with `hubless limits --up-month SIZE`, or `up_month` in `[limits]`"
            }
            Direction::Down => {
                "what is held is still served; raise it with `hubless limits --down-month SIZE`, or `down_month` in `[limits]`"
            }
            Direction::Origin => {
                "what is held, and what other nodes hold, is still served; raise it with `hubless limits --origin-month SIZE`, or `origin_month` in `[limits]`"
            }
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, cap) = (self.direction, self.cap);
        write!(f, "this month's bytes are used up: `{what}_month` is {cap}, until {}", shown(self.until))
    }
}

impl std::error::Error for Spent {}

/// A moment as people read it, in UTC.
fn shown(moment: Timestamp) -> String {
    zoned(moment, &TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Where content stops under a cap of so many bytes: a little before it, so that names and manifests still come.
pub(crate) fn content_end(cap: u64) -> u64 {
    cap - (cap / RESERVE_PART).min(MAX_RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        timestamp(text.parse::<jiff::Timestamp>().unwrap()).unwrap()
    }

    #[test]
    fn a_month_ends_at_local_midnight() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let month = Month::of(at("2026-11-30T23:30:00Z"), &berlin);
        assert_eq!(month.to_string(), "2026-12", "it is the first of December there");
        assert_eq!(month.end(&berlin), at("2026-12-31T23:00:00Z"));
        // The clocks changed in between.
        assert_eq!(Month { year: 2026, month: 3 }.end(&berlin), at("2026-03-31T22:00:00Z"));
        assert_eq!(Month { year: 2026, month: 12 }.end(&TimeZone::UTC), at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn a_little_is_kept_for_names() {
        assert_eq!(content_end(1_000_000), 990_000);
        assert_eq!(content_end(1_000_000_000_000), 999_936_000_000);
    }

    #[test]
    fn what_is_used_up_says_which_until_when_and_what_to_do() {
        let spent = Spent {
            direction: Direction::Down,
            cap: "500 GB".parse().unwrap(),
            until: at("2026-12-01T00:00:00Z"),
        };
        let text = "this month's bytes are used up: `down_month` is 500 GB, until 2026-12-01 00:00 UTC";
        assert_eq!(spent.to_string(), text);
        assert!(spent.hint().contains("--down-month"));
    }

    proptest! {
        #[test]
        fn every_moment_is_before_its_months_end_and_the_end_is_in_the_next(moment in 0_u64..4_000_000_000) {
            let zone = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
            let month = Month::of(Timestamp(moment), &zone);
            let end = month.end(&zone);
            prop_assert!(Timestamp(moment) < end);
            prop_assert!(Month::of(end, &zone) > month);
            prop_assert_eq!(Month::of(Timestamp(end.0 - 1), &zone), month);
        }
    }
}
