//! Times of the week as people write them: `mon-fri 08:00-18:00`, `sat,sun 00:00-24:00`, `daily 23:00-07:00`.
//!
//! A span that ends before it begins goes on into the next day; Sunday's goes on into Monday.
//!
//! **Invariant:** spans lie within the week, sorted, and do not touch one another.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::LimitError;

/// Minutes of a day.
pub(crate) const DAY: u16 = 24 * 60;
/// Minutes of a week.
pub(crate) const WEEK: u16 = 7 * DAY;
/// Days, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Longest text that is read, in bytes.
const MAX_TEXT: usize = 64;

/// Minutes of the week, counted from Monday 00:00, as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    text: String,
    spans: Vec<Range<u16>>,
}

impl When {
    /// Whether it covers a minute of the week.
    pub(crate) fn contains(&self, minute: u16) -> bool {
        self.spans.iter().any(|span| span.contains(&minute))
    }

    /// Minutes of the week at which it begins or ends.
    pub(crate) fn edges(&self) -> impl Iterator<Item = u16> + '_ {
        self.spans.iter().flat_map(|span| [span.start, span.end % WEEK])
    }

    /// Whether some minute belongs to both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let meets = |a: &Range<u16>, b: &Range<u16>| a.start < b.end && b.start < a.end;
        self.spans.iter().any(|a| other.spans.iter().any(|b| meets(a, b)))
    }

    fn of(text: &str, days: [bool; 7], hours: Range<u16>) -> Self {
        let mut covered = Vec::new();
        for day in (0..7).filter(|day| days[usize::from(*day)]) {
            let start = day * DAY + hours.start;
            let end = day * DAY + hours.end + if hours.end <= hours.start { DAY } else { 0 };
            covered.push(start..end.min(WEEK));
            if end > WEEK {
                covered.push(0..end - WEEK);
            }
        }
        covered.sort_by_key(|span| span.start);
        let mut spans: Vec<Range<u16>> = Vec::new();
        for span in covered {
            match spans.last_mut().filter(|last| span.start <= last.end) {
                Some(last) => last.end = last.end.max(span.end),
                None => spans.push(span),
            }
        }
        Self { text: text.to_owned(), spans }
    }
}

impl FromStr for When {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let shown: String = text.chars().take(MAX_TEXT).collect();
        let fail = |why: String| LimitError::When { text: shown.clone(), why };
        let mut words = text.split_whitespace();
        let (Some(days), Some(hours), None) = (words.next(), words.next(), words.next()) else {
            return Err(fail("it has to be days and hours".into()));
        };
        if text.len() > MAX_TEXT {
            return Err(fail(format!("it is longer than {MAX_TEXT} bytes")));
        }
        let days = read_days(days).map_err(fail)?;
        let hours = read_hours(hours).map_err(fail)?;
        Ok(Self::of(text.trim(), days, hours))
    }
}

fn read_days(text: &str) -> Result<[bool; 7], String> {
    let day = |name: &str| {
        let lower = name.to_ascii_lowercase();
        DAYS.iter().position(|day| *day == lower).ok_or_else(|| format!("`{name}` is no day"))
    };
    let mut days = [false; 7];
    if text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        // `sat-mon` goes over the week's end.
        while at != last {
            days[at] = true;
            at = (at + 1) % 7;
        }
        days[last] = true;
    }
    Ok(days)
}

fn read_hours(text: &str) -> Result<Range<u16>, String> {
    let (start, end) = text.split_once('-').ok_or_else(|| format!("`{text}` has no end"))?;
    let (start, end) = (read_time(start)?, read_time(end)?);
    if start == DAY {
        return Err("24:00 can only be an end".into());
    }
    if start == end {
        return Err("it ends when it begins; all day is `00:00-24:00`".into());
    }
    Ok(start..end)
}

fn read_time(text: &str) -> Result<u16, String> {
    let fail = || format!("`{text}` is no time");
    let (hour, minute) = text.split_once(':').ok_or_else(fail)?;
    let digits = |s: &str, max_len: usize| {
        (!s.is_empty() && s.len() <= max_len && s.bytes().all(|b| b.is_ascii_digit())).then_some(())
    };
    digits(hour, 2).ok_or_else(fail)?;
    digits(minute, 2).filter(|()| minute.len() == 2).ok_or_else(fail)?;
    let (hour, minute): (u16, u16) = (hour.parse().map_err(|_| fail())?, minute.parse().map_err(|_| fail())?);
    let at = hour * 60 + minute;
    if minute > 59 || at > DAY { Err(fail()) } else { Ok(at) }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for When {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where the spans begin and end.
    fn spans(text: &str) -> Vec<(u16, u16)> {
        let when = text.parse::<When>().unwrap_or_else(|e| panic!("{e}"));
        when.spans.iter().map(|span| (span.start, span.end)).collect()
    }

    #[test]
    fn days_and_hours_are_minutes_of_the_week() {
        assert_eq!(spans("mon 08:00-18:00"), [(480, 1080)]);
        assert_eq!(spans("tue,MON 8:00-18:00"), [(480, 1080), (1920, 2520)]);
        assert_eq!(spans("daily 00:00-24:00"), [(0, WEEK)]);
        assert_eq!(spans("sat-sun 00:00-24:00"), [(5 * DAY, WEEK)]);
        assert_eq!(spans("sat-mon 00:00-24:00"), [(0, DAY), (5 * DAY, WEEK)]);
    }

    #[test]
    fn a_night_goes_on_into_the_next_day_and_sundays_into_monday() {
        assert_eq!(spans("mon 23:00-07:00"), [(1380, 1860)]);
        assert_eq!(spans("sun 23:00-07:00"), [(0, 420), (WEEK - 60, WEEK)]);
        assert_eq!(spans("sun 22:00-00:00"), [(WEEK - 120, WEEK)]);
    }

    #[test]
    fn what_is_no_time_of_the_week_is_named() {
        for (text, why) in [
            ("", "days and hours"),
            ("mon", "days and hours"),
            ("mon 08:00-18:00 please", "days and hours"),
            ("monday 08:00-18:00", "`monday` is no day"),
            ("mon- 08:00-18:00", "`` is no day"),
            ("mon 08:00", "has no end"),
            ("mon 8-18", "`8` is no time"),
            ("mon 08:00-24:01", "`24:01` is no time"),
            ("mon 08:60-09:00", "`08:60` is no time"),
            ("mon 24:00-08:00", "only be an end"),
            ("mon 08:00-08:00", "all day is"),
            ("mon +8:00-09:00", "`+8:00` is no time"),
        ] {
            let error = text.parse::<When>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_minute_is_covered_that_a_day_and_its_hours_say(
            days in 1_u8..128, start in 0..DAY, len in 1..DAY, minute in 0..WEEK,
        ) {
            let names: Vec<_> = (0..7).filter(|d| days >> d & 1 == 1).map(|d| DAYS[d]).collect();
            let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
            let end = (start + len) % DAY;
            let text = format!("{} {}-{}", names.join(","), clock(start), clock(end));
            let when: When = text.parse().unwrap();
            // By definition: some chosen day's span holds the minute, this week or as the last one's rest.
            let covered = (0..7).filter(|d| days >> d & 1 == 1).any(|d| {
                let begins = d * DAY + start;
                (begins..begins + len).contains(&minute) || (begins..begins + len).contains(&(minute + WEEK))
            });
            prop_assert_eq!(when.contains(minute), covered, "{}", when);
            prop_assert!(when.spans.windows(2).all(|w| w[0].end < w[1].start));
            prop_assert!(when.spans.iter().all(|s| s.start < s.end && s.end <= WEEK));
            prop_assert!(when.overlaps(&when));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<When>();
        }
    }
}
