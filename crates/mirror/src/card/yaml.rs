//! Reads YAML into JSON, within bounds.
//!
//! The parser is `saphyr-parser`: alive, without dependencies of weight, and it yields events one by one, so that nothing
//! is built that these bounds do not allow. References to anchors become null: they are how a small text becomes a
//! huge value, and no card needs them.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Values in one card.
const MAX_VALUES: usize = 20_000;
/// How deep they may nest.
const MAX_DEPTH: usize = 32;

/// A list or a map that is not at its end.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

/// The map that a YAML document is; `None` if it is none, is malformed, or passes a bound.
pub(super) fn read(text: &str) -> Option<Map<String, Value>> {
    let mut open: Vec<Open> = Vec::new();
    let mut values = 0;
    for event in Parser::new_from_str(text) {
        values += 1;
        if values > MAX_VALUES || open.len() > MAX_DEPTH {
            return None;
        }
        let value = match event.ok()?.0 {
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop()? {
                Open::List(list) => Value::Array(list),
                Open::Map(map, _) => Value::Object(map),
            },
            Event::Scalar(text, ScalarStyle::Plain, ..) => scalar(&text),
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::Alias(_) => Value::Null,
            Event::StreamEnd | Event::DocumentEnd => return None,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
        };
        match (open.last_mut(), value) {
            (None, Value::Object(map)) => return Some(map),
            (None, _) => return None,
            (Some(Open::List(list)), value) => list.push(value),
            (Some(Open::Map(map, key)), value) => match key.take() {
                Some(key) => drop(map.insert(key, value)),
                None => *key = Some(as_key(&value)),
            },
        }
    }
    None
}

fn as_key(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A plain text by the rules of YAML 1.2: `no` is the language, not a refusal.
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        text => number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return None;
    }
    let whole = text.strip_prefix('+').unwrap_or(text);
    if let Ok(number) = whole.parse::<i64>() {
        return Some(number.into());
    }
    let digits = whole.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'));
    digits
        .then(|| whole.parse::<f64>().ok())
        .flatten()
        .and_then(serde_json::Number::from_f64)
        .map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scalars_are_what_they_look_like() {
        let map = read("a: 1\nb: -2.5\nc: no\nd: \"1\"\ne: ~\nf: true\ng: 1.0.0\n1: x\ni: {j: [k]}\n");
        let expected = serde_json::json!({
            "a": 1, "b": -2.5, "c": "no", "d": "1", "e": null, "f": true, "g": "1.0.0", "1": "x", "i": { "j": ["k"] },
        });
        let map = map.unwrap();
        assert_eq!(Value::Object(map), expected);
    }

    #[test]
    fn what_passes_a_bound_is_not_read() {
        assert_eq!(read(&format!("a: {}{}", "[".repeat(2000), "]".repeat(2000))), None);
        assert_eq!(read(&format!("a: [{}]", "1,".repeat(MAX_VALUES))), None);
        let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n";
        assert_eq!(read(bomb).unwrap()["c"], serde_json::json!([null, null]));
        assert_eq!(read("a: [b"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = read(&text);
        }
    }
}
