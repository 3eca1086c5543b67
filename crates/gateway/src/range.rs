//! Reads `Range` headers, forgivingly: what cannot be understood is ignored, as RFC 9110 asks.

use hubless_types::ByteRange;

/// Which bytes of a file an answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// All of it (200).
    Whole,
    /// A part of it (206); never empty, never past the end.
    Part(ByteRange),
    /// The file is empty, and a range of it was asked for: 200 with `Content-Range: bytes */0`.
    Empty,
    /// The range begins past the end (416).
    Beyond,
}

/// Decides what to send of a file of `size` bytes.
pub(crate) fn span(header: Option<&str>, size: u64) -> Span {
    match header.and_then(parse) {
        None => Span::Whole,
        Some(_) if size == 0 => Span::Empty,
        Some(wanted) => wanted.of(size).map_or(Span::Beyond, Span::Part),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// `bytes=first-last`, both included; hf-hub 0.5 asks for one byte past the end.
    Between(u64, u64),
    /// `bytes=-n`
    Last(u64),
}

impl Wanted {
    fn of(self, size: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::Between(first, last) => (first, last.saturating_add(1).min(size)),
            Self::Last(n) => (size.saturating_sub(n), size),
        };
        (start < end).then(|| ByteRange::new(start, end))
    }
}

/// One range. Several in one header are not served as parts: the whole file is a right answer too.
fn parse(header: &str) -> Option<Wanted> {
    let (unit, ranges) = header.trim().split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = ranges.trim().split_once('-')?;
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (None, Some(n)) => Some(Wanted::Last(n)),
        (Some(first), None) => Some(Wanted::Between(first, u64::MAX)),
        (Some(first), Some(last)) => (first <= last).then_some(Wanted::Between(first, last)),
    }
}

/// `Some(None)` for nothing, `None` for what is no number. Numbers too large for any file stop at the largest.
#[allow(clippy::option_option, reason = "absent and malformed differ")]
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(if text.is_empty() { None } else { Some(text.parse().unwrap_or(u64::MAX)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_as_clients_send_them() {
        let part = |start, end| Span::Part(ByteRange::new(start, end));
        for (header, size, expected) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=0-10", 10, part(0, 10)),
            ("bytes=5-", 10, part(5, 10)),
            ("bytes=9-9", 10, part(9, 10)),
            ("bytes=-3", 10, part(7, 10)),
            ("bytes=-30", 10, part(0, 10)),
            ("Bytes = 2 - 3", 10, part(2, 4)),
            ("bytes=0-99999999999999999999999", 10, part(0, 10)),
            ("bytes=10-", 10, Span::Beyond),
            ("bytes=99999999999999999999999-", 10, Span::Beyond),
            ("bytes=-0", 10, Span::Beyond),
            ("bytes=0-0", 0, Span::Empty),
            ("bytes=5-", 0, Span::Empty),
            ("bytes=5-2", 10, Span::Whole),
            ("bytes=0-1,4-5", 10, Span::Whole),
            ("bytes=-", 10, Span::Whole),
            ("lines=0-1", 10, Span::Whole),
            ("bytes=a-b", 10, Span::Whole),
            ("", 10, Span::Whole),
        ] {
            assert_eq!(span(Some(header), size), expected, "{header}");
        }
        assert_eq!(span(None, 10), Span::Whole);
    }

    proptest! {
        #[test]
        fn a_part_lies_inside_the_file(header in "(bytes=)?[0-9,\\- ]{0,24}", size: u64) {
            if let Span::Part(range) = span(Some(&header), size) {
                prop_assert!(!range.is_empty() && range.end <= size);
            }
        }
    }
}
