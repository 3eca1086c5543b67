//! What `hubless trace` shows to people.

use serde_json::Value;

use super::human::{count, number, rows, text};
use super::names;

/// Every step, in order.
pub(crate) fn shown(report: &Value) -> String {
    let mut lines = Vec::new();
    if report["name"].is_object() {
        lines.push(names::one(&report["name"]));
    }
    if let Some(error) = report["name_error"].as_str() {
        lines.push(format!("the name: {error}"));
    }
    lines.extend(rows(report, "origins").iter().map(origin));
    for lookup in rows(report, "lookups") {
        lines.push(head(lookup));
        lines.extend(rows(lookup, "hops").iter().map(hop));
        lines.push(outcome(lookup));
        lines.extend(rows(lookup, "holders").iter().map(holder));
        if number(lookup, "not_asked") > 0 {
            lines.push(format!("  and {} more nodes, which were not asked", number(lookup, "not_asked")));
        }
    }
    lines.join("\n")
}

fn origin(word: &Value) -> String {
    let said = match (word["commit"].as_str(), word["error"].as_str()) {
        (Some(commit), _) => format!("{} is {commit}", text(word, "repo")),
        (None, error) => format!("no: {}", error.unwrap_or_default()),
    };
    format!("origin {} {} ms: {said}", text(word, "origin"), number(word, "millis"))
}

fn head(lookup: &Value) -> String {
    let (key, place, network) = (text(lookup, "key"), text(lookup, "place"), number(lookup, "network"));
    format!("looking for {key} at {place}, among about {network} nodes")
}

fn hop(hop: &Value) -> String {
    let said = match hop["outcome"].as_str() {
        Some("answered") => {
            let (providers, nodes) = (number(hop, "providers"), number(hop, "closer"));
            format!("named {}, {}", count(providers, "provider"), count(nodes, "node"))
        }
        _ => text(hop, "why"),
    };
    let how = if hop["connected"] == true { "connected" } else { "dialled" };
    let (node, near) = (text(hop, "node"), number(hop, "near"));
    format!(
        "  hop {} {node} ({near} bits near, {how}) {} ms: {said}",
        number(hop, "hop"),
        number(hop, "millis")
    )
}

fn outcome(lookup: &Value) -> String {
    let (providers, millis) = (rows(lookup, "providers").len(), number(lookup, "millis"));
    match lookup["first_millis"].as_u64() {
        Some(first) => format!(
            "  {}, the first after {first} ms, all after {millis} ms",
            count(providers as u64, "provider")
        ),
        None => format!("  no provider, after {millis} ms"),
    }
}

fn holder(holder: &Value) -> String {
    let at = rows(holder, "addrs").first().and_then(Value::as_str).unwrap_or("nowhere").to_owned();
    let said =
        holder["holds"].as_str().map_or_else(|| format!("no: {}", text(holder, "error")), str::to_owned);
    let (node, source) = (text(holder, "node"), text(holder, "source"));
    let mut out = format!("  holder {node} ({source}, {at}) {} ms: {said}", number(holder, "millis"));
    for word in rows(holder, "said") {
        out.push_str(&format!("\n  {}", names::word(word)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trace_reads_step_by_step() {
        let commit = "c".repeat(40);
        let report = json!({
            "name": {"revision": "v1", "resolved": {"commit": commit, "age": 0}, "by": "origin https://x"},
            "origins": [{"origin": "https://x", "repo": "a/b", "commit": commit, "millis": 12},
                {"origin": "https://y", "error": "https://y cannot be reached: refused", "millis": 3}],
            "lookups": [{"key": "commit abc", "place": "00ff", "network": 128, "millis": 300,
            "first_millis": 40, "providers": [{"node": "n2"}], "hops": [
                {"node": "n1", "hop": 1, "near": 7, "connected": true, "millis": 40, "outcome": "answered",
                 "providers": 1, "closer": 20},
                {"node": "n3", "hop": 2, "near": 9, "connected": false, "millis": 3000, "outcome": "failed",
                 "why": "it did not answer in time"}],
            "holders": [{"node": "n2", "source": "dht", "addrs": ["10.0.0.1:4001"], "millis": 9, "holds": "all",
                "said": [{"signer": "n9", "role": "trusted", "commit": commit, "age": 5}]},
                {"node": "n4", "source": "connected", "error": "n4 is busy"}],
            "not_asked": 5}]});
        let text = shown(&report);
        for part in [
            &format!("v1 is {commit}, by origin https://x"),
            &format!("origin https://x 12 ms: a/b is {commit}"),
            "origin https://y 3 ms: no: https://y cannot be reached: refused",
            "looking for commit abc at 00ff, among about 128 nodes",
            "hop 1 n1 (7 bits near, connected) 40 ms: named 1 provider, 20 nodes",
            "hop 2 n3 (9 bits near, dialled) 3000 ms: it did not answer in time",
            "1 provider, the first after 40 ms",
            "holder n2 (dht, 10.0.0.1:4001) 9 ms: all\n    cccccccccccc says n9 (trusted): publishes it 5 s ago",
            "holder n4 (connected, nowhere) 0 ms: no: n4 is busy",
            "and 5 more nodes, which were not asked",
        ] {
            assert!(text.contains(part), "{text}\nlacks {part}");
        }
    }

    #[test]
    fn no_answer_makes_it_panic() {
        for value in
            [json!(null), json!([]), json!({"origins": [2], "lookups": [1, {"hops": [[]], "holders": [3]}]})]
        {
            shown(&value);
        }
    }
}
