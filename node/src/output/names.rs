//! What `hubless names` shows to people.

use hubless_mirror::age_text;
use serde_json::Value;

use super::human::{moment, number, rows, short, text};

/// Moves of one name that are shown; JSON has all.
const MOVES_SHOWN: usize = 5;

/// Everything that is known of a repository's names.
pub(crate) fn shown(report: &Value) -> String {
    let mut lines = vec![head(report)];
    for name in rows(report, "names") {
        lines.push(String::new());
        lines.push(one(name));
    }
    if number(report, "left_out") > 0 {
        lines.push(format!("and {} more names", number(report, "left_out")));
    }
    lines.join("\n")
}

/// What is known of one name.
pub(crate) fn one(name: &Value) -> String {
    let mut lines = vec![meaning(name)];
    lines.extend(name["resolved"]["fork"].as_object().map(|_| fork(&name["resolved"]["fork"])));
    lines.extend(rows(name, "said").iter().map(word));
    lines.extend(rows(name, "moves").iter().take(MOVES_SHOWN).map(moved));
    lines.join("\n")
}

fn head(report: &Value) -> String {
    let mut out = text(report, "repo");
    if let Some(access) = report["access"].as_str().filter(|access| *access != "open") {
        out.push_str(&format!(" ({access})"));
    }
    for origin in rows(report, "origins") {
        out.push_str(&format!("\norigin     {}", origin.as_str().unwrap_or_default()));
    }
    let witnesses = rows(report, "witnesses").len();
    if witnesses > 0 {
        out.push_str(&format!("\nwitnesses  {} of {witnesses} must agree", number(report, "threshold")));
    }
    out
}

fn meaning(name: &Value) -> String {
    let revision = text(name, "revision");
    match (name["resolved"].as_object(), name["error"].as_str()) {
        (Some(_), _) => {
            let resolved = &name["resolved"];
            let seen = format!("{} ago", age_text(number(resolved, "age")));
            format!("{revision} is {}, by {}, seen {seen}", text(resolved, "commit"), text(name, "by"))
        }
        (None, Some(error)) => format!("{revision}: {error}"),
        (None, None) => format!("{revision} was not looked up"),
    }
}

fn fork(fork: &Value) -> String {
    let how = match fork["kind"].as_str() {
        Some("rolled-back") => "went back to its ancestor",
        _ => "moved to what does not descend from it,",
    };
    format!("  FORK: {} {how} {} ({})", short(fork, "from"), short(fork, "to"), moment(number(fork, "seen")))
}

/// What one signer says of a name.
pub(super) fn word(word: &Value) -> String {
    let how = word["origin"].as_str().map_or_else(|| "publishes it".to_owned(), |o| format!("saw it at {o}"));
    let links = if word["links"] == true { ", with its links" } else { "" };
    let (signer, role) = (text(word, "signer"), text(word, "role"));
    let ago = age_text(number(word, "age"));
    format!("  {} says {signer} ({role}): {how} {ago} ago{links}", short(word, "commit"))
}

fn moved(moved: &Value) -> String {
    let verdict = match moved["descent"].as_str() {
        Some("descends") => "which descends from it",
        Some("diverged") => "a FORK",
        Some("rolled-back") => "a ROLLBACK",
        _ => "the commits between are not held",
    };
    let when = moment(number(moved, "seen"));
    format!("  moved from {} to {}, {verdict} ({when})", short(moved, "from"), short(moved, "to"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_read_as_sentences() {
        let (old, new) = ("a".repeat(40), "b".repeat(40));
        let fork = json!({"from": old, "to": new, "seen": 0, "kind": "diverged"});
        let report = json!({"repo": "a/b", "access": "private", "origins": ["https://x"], "witnesses": ["n"],
            "threshold": 1, "left_out": 0, "names": [{"revision": "main", "by": "origin https://x",
                "resolved": {"commit": new, "age": 5, "fork": fork},
                "said": [{"signer": "n", "role": "witness", "commit": old, "origin": "https://x", "age": 7200}],
                "moves": [{"from": old, "to": new, "seen": 0, "descent": "diverged"}]},
                {"revision": "dev", "error": "nobody knows"}]});
        let text = shown(&report);
        for part in [
            "a/b (private)",
            "1 of 1 must agree",
            &format!("main is {new}, by origin https://x, seen 5 s ago"),
            "FORK: aaaaaaaaaaaa moved to what does not descend from it, bbbbbbbbbbbb",
            "aaaaaaaaaaaa says n (witness): saw it at https://x 2 h ago",
            "dev: nobody knows",
        ] {
            assert!(text.contains(part), "{text}\nlacks {part}");
        }
    }

    #[test]
    fn no_answer_makes_it_panic() {
        for value in [json!(null), json!([]), json!({"names": [1, {"said": [[]], "moves": 3}]})] {
            shown(&value);
        }
    }
}
