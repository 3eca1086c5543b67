//! What `hubless trace` shows to people.

use serde_json::Value;

use super::human::{number, rows, text};
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
    for lookup in rows(report, "lookups") {
        lines.push(head(lookup));
        lines.extend(rows(lookup, "hops").iter().map(hop));
        lines.push(outcome(lookup));
    }
    if !rows(report, "holders").is_empty() {
        lines.push("what nodes say they hold".to_owned());
    }
    lines.extend(rows(report, "holders").iter().map(holder));
    lines.join("\n")
}

fn head(lookup: &Value) -> String {
    let (key, place, network) = (text(lookup, "key"), text(lookup, "place"), number(lookup, "network"));
    format!("looking for {key} at {place}, among about {network} nodes")
}

fn hop(hop: &Value) -> String {
    let said = match hop["outcome"].as_str() {
        Some("answered") => {
            format!("named {} providers, {} nodes", number(hop, "providers"), number(hop, "closer"))
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
    let providers = rows(lookup, "providers").len();
    match lookup["first_millis"].as_u64() {
        Some(first) => {
            format!(
                "  {providers} providers, the first after {first} ms, all after {} ms",
                number(lookup, "millis")
            )
        }
        None => format!("  no provider, after {} ms", number(lookup, "millis")),
    }
}

fn holder(holder: &Value) -> String {
    let at = rows(holder, "addrs").first().and_then(Value::as_str).unwrap_or("nowhere").to_owned();
    let said =
        holder["holds"].as_str().map_or_else(|| format!("no: {}", text(holder, "error")), str::to_owned);
    let (node, source) = (text(holder, "node"), text(holder, "source"));
    format!("  {node} ({source}, {at}) {} ms: {said}", number(holder, "millis"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trace_reads_step_by_step() {
        let report = json!({"lookups": [{"key": "commit abc", "place": "00ff", "network": 128, "millis": 300,
            "first_millis": 40, "providers": [{"node": "n2"}], "hops": [
                {"node": "n1", "hop": 1, "near": 7, "connected": true, "millis": 40, "outcome": "answered",
                 "providers": 1, "closer": 20},
                {"node": "n3", "hop": 2, "near": 9, "connected": false, "millis": 3000, "outcome": "failed",
                 "why": "it did not answer in time"}]}],
            "holders": [{"node": "n2", "source": "dht", "addrs": ["10.0.0.1:4001"], "millis": 9, "holds": "all"}]});
        let text = shown(&report);
        for part in [
            "looking for commit abc at 00ff, among about 128 nodes",
            "hop 1 n1 (7 bits near, connected) 40 ms: named 1 providers, 20 nodes",
            "hop 2 n3 (9 bits near, dialled) 3000 ms: it did not answer in time",
            "1 providers, the first after 40 ms",
            "n2 (dht, 10.0.0.1:4001) 9 ms: all",
        ] {
            assert!(text.contains(part), "{text}\nlacks {part}");
        }
    }

    #[test]
    fn no_answer_makes_it_panic() {
        for value in [json!(null), json!([]), json!({"lookups": [1, {"hops": [[]]}], "holders": [3]})] {
            shown(&value);
        }
    }
}
