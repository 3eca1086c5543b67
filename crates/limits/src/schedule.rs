//! Which rates hold when: the usual ones, and others in some hours of the week, by the wall clock.
//!
//! **Invariant:** pure; what holds at a moment depends on the settings and the wall clock at that moment alone. An hour that
//! the clock skips is skipped, one that it repeats is repeated.

use hubless_types::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::week::WEEK;
use crate::{Direction, Each, LimitError, Rate, Volume, When};

/// Most entries of hours.
pub const MAX_HOURS: usize = 64;
/// How far a change is looked for: over a week no pattern is new.
const DAYS_AHEAD: i8 = 8;
/// Most changes of a zone's offset that are looked at within those days.
const MAX_OFFSET_CHANGES: usize = 4;

/// Rates that hold in some hours of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// Which hours.
    pub when: When,
    /// The rates that hold then; `None` leaves the usual one.
    pub rates: Each<Option<Rate>>,
}

/// What an operator sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The usual rates.
    pub rates: Each<Rate>,
    /// Bytes a calendar month.
    pub months: Each<Volume>,
    /// Hours in which other rates hold.
    pub hours: Vec<Hours>,
}

impl Settings {
    /// Checks what the parts alone cannot know.
    ///
    /// # Errors
    /// [`LimitError::Overlap`], [`LimitError::Idle`] or [`LimitError::TooMany`].
    pub fn validate(&self) -> Result<(), LimitError> {
        if self.hours.len() > MAX_HOURS {
            return Err(LimitError::TooMany { count: self.hours.len(), limit: MAX_HOURS });
        }
        for (n, one) in self.hours.iter().enumerate() {
            let sets = |hours: &Hours, d: Direction| hours.rates.of(d).is_some();
            if !Direction::ALL.into_iter().any(|d| sets(one, d)) {
                return Err(LimitError::Idle { when: one.when.to_string() });
            }
            for other in self.hours[..n].iter().filter(|other| other.when.overlaps(&one.when)) {
                let both = Direction::ALL.into_iter().find(|d| sets(one, *d) && sets(other, *d));
                if let Some(both) = both {
                    return Err(LimitError::Overlap {
                        first: other.when.to_string(),
                        second: one.when.to_string(),
                        key: both.name(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The rates that hold at a minute of the week.
    fn at_minute(&self, minute: u16) -> Each<Rate> {
        let now: Vec<&Hours> = self.hours.iter().filter(|hours| hours.when.contains(minute)).collect();
        Each::new(|d| now.iter().find_map(|hours| *hours.rates.of(d)).unwrap_or(*self.rates.of(d)))
    }

    /// The rates that hold at `now` in `zone`.
    pub fn rates_at(&self, now: Timestamp, zone: &TimeZone) -> Each<Rate> {
        self.at_minute(minute_of_week(&zoned(now, zone)))
    }

    /// When the rates change next, if they do.
    pub fn next_change(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.hours.is_empty() {
            return None;
        }
        let (here, current) = (zoned(now, zone), self.rates_at(now, zone));
        let mut moments: Vec<Timestamp> = zone
            .following(here.timestamp())
            .take(MAX_OFFSET_CHANGES)
            .filter_map(|change| timestamp(change.timestamp()))
            .collect();
        let edges: Vec<u16> = self.hours.iter().flat_map(|hours| hours.when.edges()).collect();
        for ahead in -1..=DAYS_AHEAD {
            let Ok(date) = here.date().checked_add(Span::new().days(ahead)) else { continue };
            let day = minute_of(date.weekday(), 0, 0);
            for edge in edges.iter().filter(|edge| (day..day + crate::week::DAY).contains(*edge)) {
                let minute = edge - day;
                let at = date.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
                // A time that comes twice is an edge twice; one that never comes is the change of the offset.
                let ambiguous = zone.to_ambiguous_zoned(at);
                let both = [ambiguous.clone().earlier(), ambiguous.later()];
                moments.extend(both.into_iter().flatten().filter_map(|z| timestamp(z.timestamp())));
            }
        }
        moments.sort_unstable();
        moments.into_iter().find(|moment| *moment > now && self.rates_at(*moment, zone) != current)
    }
}

/// A moment as the clocks in `zone` show it; the last moment that there is for one beyond it.
pub(crate) fn zoned(moment: Timestamp, zone: &TimeZone) -> Zoned {
    let seconds = i64::try_from(moment.0).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    moment.to_zoned(zone.clone())
}

/// A moment as the rest of the program knows it; `None` before 1970.
pub(crate) fn timestamp(moment: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(moment.as_second()).ok().map(Timestamp)
}

fn minute_of_week(at: &Zoned) -> u16 {
    minute_of(at.weekday(), at.hour(), at.minute())
}

fn minute_of(day: Weekday, hour: i8, minute: i8) -> u16 {
    let day = day.to_monday_zero_offset().unsigned_abs();
    let hour = u16::from(day) * 24 + u16::from(hour.unsigned_abs());
    (hour * 60 + u16::from(minute.unsigned_abs())) % WEEK
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOW: Rate = Rate::per_second(50_000);
    const FAST: Rate = Rate::per_second(9_000_000);

    fn settings(hours: &[(&str, Rate)]) -> Settings {
        let hours = hours.iter().map(|(when, up)| Hours {
            when: when.parse().unwrap(),
            rates: Each { up: Some(*up), ..Each::default() },
        });
        Settings { rates: Each::new(|_| FAST), hours: hours.collect(), ..Settings::default() }
    }

    /// Central Europe: clocks go forward on 2026-03-29 at 02:00 and back on 2026-10-25 at 03:00.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        timestamp(text.parse::<jiff::Timestamp>().unwrap()).unwrap()
    }

    #[test]
    fn in_its_hours_another_rate_holds_and_only_for_what_it_names() {
        let settings = settings(&[("mon-fri 08:00-18:00", SLOW)]);
        // 2026-11-26 is a Thursday; 07:30 UTC is 08:30 there.
        let rates = settings.rates_at(at("2026-11-26T07:30:00Z"), &berlin());
        assert_eq!((rates.up, rates.down), (SLOW, FAST));
        assert_eq!(settings.rates_at(at("2026-11-28T07:30:00Z"), &berlin()).up, FAST, "a Saturday");
        let next = settings.next_change(at("2026-11-26T07:30:00Z"), &berlin());
        assert_eq!(next, Some(at("2026-11-26T17:00:00Z")));
        let next = settings.next_change(at("2026-11-27T18:00:00Z"), &berlin());
        assert_eq!(next, Some(at("2026-11-30T07:00:00Z")), "over the weekend");
    }

    #[test]
    fn without_hours_nothing_ever_changes() {
        assert_eq!(settings(&[]).next_change(at("2026-11-26T07:30:00Z"), &berlin()), None);
        let always = settings(&[("daily 00:00-24:00", SLOW)]);
        assert_eq!(always.next_change(at("2026-11-26T07:30:00Z"), &berlin()), None);
    }

    /// 02:30 does not come on that day: the hours begin when the clock jumps over it, and the day is an hour shorter.
    #[test]
    fn an_hour_that_is_skipped_is_not_waited_for() {
        let settings = settings(&[("sun 02:30-04:00", SLOW)]);
        let next = settings.next_change(at("2026-03-29T00:00:00Z"), &berlin());
        assert_eq!(next, Some(at("2026-03-29T01:00:00Z")));
        assert_eq!(
            settings.next_change(at("2026-03-29T01:00:00Z"), &berlin()),
            Some(at("2026-03-29T02:00:00Z"))
        );
    }

    /// 02:30 comes twice: the hours begin, end with the clock's step back, and begin again.
    #[test]
    fn an_hour_that_is_repeated_holds_twice() {
        let settings = settings(&[("sun 02:30-04:00", SLOW)]);
        let mut now = at("2026-10-24T23:00:00Z");
        let mut changes = Vec::new();
        for _ in 0..4 {
            now = settings.next_change(now, &berlin()).unwrap();
            changes.push(now);
        }
        let expected =
            ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T03:00:00Z"];
        assert_eq!(changes, expected.map(at));
    }

    #[test]
    fn two_entries_may_not_speak_of_one_hour() {
        let error =
            settings(&[("mon-wed 08:00-18:00", SLOW), ("wed 17:59-19:00", FAST)]).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`mon-wed 08:00-18:00` and `wed 17:59-19:00` overlap, and both set `up`"
        );
        assert!(settings(&[("mon-wed 08:00-18:00", SLOW), ("wed 18:00-19:00", FAST)]).validate().is_ok());
        let error = settings(&[("sun 22:00-06:00", SLOW), ("mon 05:00-07:00", FAST)]).validate().unwrap_err();
        assert!(error.to_string().contains("overlap"), "over the week's end: {error}");
        // One speaks of what goes up, the other of what comes down.
        let mut two = settings(&[("mon 08:00-18:00", SLOW), ("mon 08:00-18:00", FAST)]);
        two.hours[1].rates = Each { down: Some(SLOW), ..Each::default() };
        assert!(two.validate().is_ok());
        two.hours[1].rates = Each::default();
        assert!(matches!(two.validate(), Err(LimitError::Idle { .. })));
        let many = settings(&vec![("mon 08:00-18:00", SLOW); MAX_HOURS + 1]);
        assert!(matches!(many.validate(), Err(LimitError::TooMany { .. })));
    }

    proptest! {
        /// The next change is where a walk along the minutes meets it, also over both changes of the clocks.
        #[test]
        fn the_next_change_is_the_first_minute_with_other_rates(
            day in 0_u64..365, minute in 0_u64..1440, first in 0_usize..7, from in 0_u16..1440, len in 1_u16..1440,
        ) {
            let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
            let when = format!("{} {}-{}", names[first], clock(from), clock((from + len) % 1440));
            let (settings, zone) = (settings(&[(&when, SLOW)]), berlin());
            let now = Timestamp(at("2026-01-01T00:00:00Z").0 + day * 86_400 + minute * 60);
            let current = settings.rates_at(now, &zone);
            let walked = (1..=8 * 1440).map(|m| now.plus(m * 60)).find(|t| settings.rates_at(*t, &zone) != current);
            prop_assert_eq!(settings.next_change(now, &zone), walked);
        }
    }
}
