//! Numbers and tables as people read them.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

/// Bytes in binary units: `1.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Milliseconds as `0.42 s` or `3 min 20 s`.
pub(crate) fn millis(n: u64) -> String {
    if n < 120_000 {
        format!("{}.{:02} s", n / 1000, n % 1000 / 10)
    } else {
        format!("{} min {} s", n / 60_000, n / 1000 % 60)
    }
}

/// Seconds since 1970 as a date and time in UTC.
pub(crate) fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    time.map_or_else(|| "?".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string())
}

/// The list in a field; none where there is none.
pub(crate) fn rows<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Digits of an id that people need to tell it from others.
const SHORT_DIGITS: usize = 12;

/// The beginning of the id in a field.
pub(crate) fn short(value: &Value, key: &str) -> String {
    text(value, key).chars().take(SHORT_DIGITS).collect()
}

/// The text or number in a field.
pub(crate) fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The number in a field; 0 if there is none.
pub(crate) fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
}

/// `1.0 MiB from 2AbCdEfG, 12.0 KiB from here`, largest first, from a list of pairs.
pub(crate) fn sources(from: &Value) -> String {
    let pairs = from.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named: Vec<(&str, u64)> = pairs
        .iter()
        .filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_u64()?)))
        .filter(|(_, n)| *n > 0)
        .collect();
    named.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    named.iter().map(|(who, n)| format!("{} from {who}", bytes(*n))).collect::<Vec<_>>().join(", ")
}

/// Rows under their heads, each column as wide as its widest cell.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heads.map(|head| head.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = line(&heads.map(str::to_owned), &widths);
    for row in rows {
        out.push('\n');
        out.push_str(&line(row, &widths));
    }
    out
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut out = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(out, "{cell:width$}  ");
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 1023, 1024, 1536, 90_868_376, u64::MAX].map(bytes).join(" | "),
            "0 B | 1023 B | 1.0 KiB | 1.5 KiB | 86.7 MiB | 16.0 EiB"
        );
        assert_eq!(
            [0, 420, 12_345, 200_000].map(millis).join(" | "),
            "0.00 s | 0.42 s | 12.34 s | 3 min 20 s"
        );
        assert_eq!(moment(0), "1970-01-01 00:00");
        assert_eq!(moment(u64::MAX), "?");
        assert_eq!((count(1, "file"), count(0, "file")), ("1 file".into(), "0 files".into()));
    }

    #[test]
    fn sources_come_largest_first() {
        assert_eq!(sources(&json!([["here", 10], ["x", 2048], ["y", 0]])), "2.0 KiB from x, 10 B from here");
        assert_eq!(sources(&Value::Null), "");
    }

    #[test]
    fn tables_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "N"], &rows), "NAME    N\na       1\nlonger");
    }
}
