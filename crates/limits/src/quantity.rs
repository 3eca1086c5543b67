//! Rates and sizes as people write them: `20 MB/s`, `50 Mbit/s`, `500 GB`, `unlimited`.
//!
//! **Invariant:** what is printed is read back as the same number; no float is between.

use std::fmt;
use std::str::FromStr;

use crate::LimitError;

/// How no limit is written.
const UNLIMITED: &str = "unlimited";
/// Digits after the point that are read.
const MAX_DECIMALS: usize = 6;
/// Longest text that an error repeats, in characters.
const SHOWN_CHARS: usize = 40;

/// Bytes a second, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self(u64::MAX);
    /// The least that may be set, in bytes a second: below, whoever fetches would take this node for a stalled one.
    pub const MIN: u64 = 10_000;
    /// The most that may be set, in bytes a second.
    pub const MAX: u64 = 1_000_000_000_000;

    /// So many bytes a second, at least 1.
    pub const fn per_second(bytes: u64) -> Self {
        Self(if bytes == 0 { 1 } else { bytes })
    }

    /// Bytes a second; `None` without a limit.
    pub const fn bytes(self) -> Option<u64> {
        if self.0 == u64::MAX { None } else { Some(self.0) }
    }
}

/// Bytes a month, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Volume(u64);

impl Volume {
    /// No limit.
    pub const UNLIMITED: Self = Self(u64::MAX);
    /// The least that may be set, in bytes.
    pub const MIN: u64 = 1_000_000;
    /// The most that may be set, in bytes.
    pub const MAX: u64 = 1_000_000_000_000_000_000;

    /// So many bytes.
    pub const fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes; `None` without a limit.
    pub const fn bytes(self) -> Option<u64> {
        if self.0 == u64::MAX { None } else { Some(self.0) }
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

impl Default for Volume {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// Units of bytes, the largest first.
const UNITS: [(&str, u64); 5] =
    [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000), ("B", 1)];
/// Further units that are read: their name in lower case, and how many bytes eight of them are.
const READ_UNITS: [(&str, u64); 13] = [
    ("b", 8),
    ("kb", 8_000),
    ("mb", 8_000_000),
    ("gb", 8_000_000_000),
    ("tb", 8_000_000_000_000),
    ("kib", 8 << 10),
    ("mib", 8 << 20),
    ("gib", 8 << 30),
    ("tib", 8 << 40),
    ("bit", 1),
    ("kbit", 1_000),
    ("mbit", 1_000_000),
    ("gbit", 1_000_000_000),
];

/// Reads a number and a unit as bytes.
fn bytes_of(text: &str, bits: bool) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    if number.is_empty() {
        return Err("it does not begin with a number".into());
    }
    if unit.is_empty() {
        return Err("it has no unit".into());
    }
    // `Mb` is megabits to some and megabytes to others.
    if unit.ends_with('b') && unit.len() > 1 {
        return Err(format!("`{unit}` may mean bits or bytes; write `B` or `bit`"));
    }
    let lower = unit.to_ascii_lowercase();
    let known = READ_UNITS.iter().find(|(name, _)| *name == lower && (bits || !name.ends_with("bit")));
    let Some((_, eighths)) = known else { return Err(format!("`{unit}` is no unit")) };
    scaled(number, *eighths).ok_or_else(|| format!("`{number}` is no number, or too large"))
}

/// `number` times `eighths` divided by 8, rounded down.
fn scaled(number: &str, eighths: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if part.is_empty() || part.len() > MAX_DECIMALS || part.contains('.') {
        return None;
    }
    let ten = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let digits = whole.parse::<u128>().ok()?.checked_mul(ten)?.checked_add(part.parse().ok()?)?;
    u64::try_from(digits.checked_mul(u128::from(eighths))? / 8 / ten).ok()
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// Reads `text` within `least` and `most`.
fn read(text: &str, what: &'static str, suffix: &str, [least, most]: [u64; 2]) -> Result<u64, LimitError> {
    let fail = |why: String| LimitError::Quantity { text: shown(text), what, why };
    if text.trim().eq_ignore_ascii_case(UNLIMITED) {
        return Ok(u64::MAX);
    }
    let bits = !suffix.is_empty();
    let amount = match text.trim().strip_suffix(suffix) {
        Some(amount) => amount,
        None => return Err(fail(format!("it does not end with `{suffix}`"))),
    };
    let bytes = bytes_of(amount, bits).map_err(fail)?;
    if bytes < least {
        return Err(fail(format!("the least is {}{suffix}", written(least))));
    }
    if bytes > most {
        return Err(fail(format!("the most is {}{suffix}; write `{UNLIMITED}` for no limit", written(most))));
    }
    Ok(bytes)
}

/// Bytes in the largest unit in which they have at most three digits after the point, exactly.
fn written(bytes: u64) -> String {
    for (name, unit) in UNITS {
        if bytes >= unit && (unit == 1 || bytes.is_multiple_of(unit / 1000)) {
            let part = format!("{:03}", if unit == 1 { 0 } else { bytes % unit / (unit / 1000) });
            let part = part.trim_end_matches('0');
            let point = if part.is_empty() { "" } else { "." };
            return format!("{}{point}{part} {name}", bytes / unit);
        }
    }
    format!("{bytes} B")
}

impl FromStr for Rate {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        read(text, "rate", "/s", [Self::MIN, Self::MAX]).map(Self)
    }
}

impl FromStr for Volume {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        read(text, "size", "", [Self::MIN, Self::MAX]).map(Self)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            None => f.write_str(UNLIMITED),
            Some(bytes) => write!(f, "{}/s", written(bytes)),
        }
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            None => f.write_str(UNLIMITED),
            Some(bytes) => f.write_str(&written(bytes)),
        }
    }
}

hubless_types::serde_as_text!(Rate);
hubless_types::serde_as_text!(Volume);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Option<u64> {
        text.parse::<Rate>().unwrap_or_else(|e| panic!("{e}")).bytes()
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("20 MB/s", 20_000_000),
            ("2MB/s", 2_000_000),
            ("2mB/s", 2_000_000),
            ("50 Mbit/s", 6_250_000),
            ("1 Gbit/s", 125_000_000),
            ("1.5 MiB/s", 1_572_864),
            ("62.5 kB/s", 62_500),
            ("10000 B/s", 10_000),
            (" 100 KB/s ", 100_000),
        ] {
            assert_eq!(rate(text), Some(bytes), "{text}");
        }
        assert_eq!(rate("unlimited"), None);
        assert_eq!(rate("Unlimited"), None);
        assert_eq!("500 GB".parse::<Volume>().unwrap().bytes(), Some(500_000_000_000));
        assert_eq!("1 TiB".parse::<Volume>().unwrap().bytes(), Some(1 << 40));
    }

    #[test]
    fn what_is_no_rate_is_named_with_what_is_wrong() {
        for (text, why) in [
            ("", "does not end with `/s`"),
            ("20", "does not end with `/s`"),
            ("20 MB", "does not end with `/s`"),
            ("20/s", "no unit"),
            ("fast/s", "begin with a number"),
            ("-1 MB/s", "begin with a number"),
            ("20 Mb/s", "bits or bytes"),
            ("20 parsec/s", "`parsec` is no unit"),
            ("1.2.3 MB/s", "no number"),
            ("1. MB/s", "no number"),
            ("99999999999999999999 MB/s", "no number, or too large"),
            ("0 MB/s", "the least is 10 kB/s"),
            ("9 kB/s", "the least is 10 kB/s"),
            ("2 TB/s", "write `unlimited`"),
        ] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no rate")) && error.contains(why), "{error}");
        }
        assert!("5 Gbit".parse::<Volume>().is_err(), "a month is counted in bytes");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in Rate::MIN..=Rate::MAX, size in Volume::MIN..=Volume::MAX) {
            let (rate, volume) = (Rate(bytes), Volume(size));
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
            prop_assert_eq!(volume.to_string().parse::<Volume>(), Ok(volume));
            prop_assert_eq!(serde_json::from_str::<Rate>(&serde_json::to_string(&rate).unwrap()).unwrap(), rate);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = (text.parse::<Rate>(), text.parse::<Volume>());
        }

        #[test]
        fn a_unit_more_is_a_thousand_times_as_much(n in 1_u64..1000) {
            let mb: Rate = format!("{n} MB/s").parse().unwrap();
            let bits: Rate = format!("{} kbit/s", n * 8000).parse().unwrap();
            prop_assert_eq!((mb.bytes(), mb), (Some(n * 1_000_000), bits));
        }
    }
}
