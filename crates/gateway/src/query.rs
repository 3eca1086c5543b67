//! Reads queries and forms: here `+` is a space, and booleans come as `true`, `True` or `1`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::answer::Fault;

/// Most names in a query.
const MAX_QUERY_PAIRS: usize = 256;

/// The names and values of a query, in the order sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows `?`; names past the first 256 are ignored.
    pub(crate) fn parse(text: &str) -> Self {
        Self::parse_up_to(text, MAX_QUERY_PAIRS)
    }

    /// Reads at most `limit` names.
    pub(crate) fn parse_up_to(text: &str, limit: usize) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(limit);
        Self(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(decode_pair).collect())
    }

    /// The first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| is_named(key, name)).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`, which may also be spelled `name[]`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| is_named(key, name)).map(|(_, value)| value.as_str())
    }

    /// Whether `name` is there and says yes; a bare name does.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_yes)
    }

    /// The value of `name` as a number; one without end is as large as one can be, and an empty one is none.
    ///
    /// # Errors
    /// A 400 for what is no number, or one below 0.
    pub(crate) fn number(&self, name: &str) -> Result<Option<usize>, Fault> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::bad(format!("`{name}` must be a number, and not below 0")));
        }
        Ok(Some(text.parse().unwrap_or(usize::MAX)))
    }
}

fn is_named(key: &str, name: &str) -> bool {
    key.strip_suffix("[]").unwrap_or(key) == name
}

fn is_yes(value: &str) -> bool {
    matches!(value, "" | "1") || value.eq_ignore_ascii_case("true")
}

fn decode_pair((name, value): (&str, &str)) -> (String, String) {
    (decode(name), decode(value))
}

fn decode(text: &str) -> String {
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_as_each_language_writes_them() {
        let query = Query::parse("a=true&b=True&c=1&d=false&e=&f&g=0");
        let yes: String = "abcdefgh".chars().filter(|c| query.flag(&c.to_string())).collect();
        assert_eq!(yes, "abcef");
    }

    #[test]
    fn what_is_no_number_is_refused_and_not_guessed() {
        let query = Query::parse("a=-1&b=five&c=&d=99999999999999999999999&e=1.5&f=+7&g=0");
        for name in ["a", "b", "e", "f"] {
            assert!(query.number(name).is_err(), "{name}");
        }
        assert_eq!(
            ["c", "d", "g", "h"].map(|name| query.number(name).unwrap()),
            [None, Some(usize::MAX), Some(0), None]
        );
    }

    #[test]
    fn lists_and_spaces() {
        let query =
            Query::parse("expand[]=sha&expand%5B%5D=siblings&expand=tags&search=tiny+bert%2b&limit=5&&x=%zz");
        assert_eq!(query.all("expand").collect::<Vec<_>>(), ["sha", "siblings", "tags"]);
        assert_eq!(query.get("search"), Some("tiny bert+"));
        assert_eq!(query.number("limit").unwrap(), Some(5));
        assert_eq!(query.get("x"), Some("%zz"));
    }
}
