//! Caps as people read them.

use serde_json::Value;

use super::human::{moment, number, table, text};

/// The three directions, and what each is.
const DIRECTIONS: [(&str, &str); 3] =
    [("up", "to other nodes"), ("down", "from nodes and origins"), ("origin", "from origins")];

/// Of `limits`.
pub(crate) fn limits(report: &Value) -> String {
    let row = |(key, what): &(&str, &str)| {
        let one = &report[*key];
        let used = size(number(one, "month_used"));
        [
            (*key).to_owned(),
            (*what).to_owned(),
            text(one, "rate_text"),
            why(one),
            format!("{used} of {}", text(one, "month_cap_text")),
        ]
    };
    let rows: Vec<[String; 5]> = DIRECTIONS.iter().map(row).collect();
    let month = format!("{} (UTC: until {})", text(report, "month"), moment(number(report, "month_ends")));
    let mut lines = vec![table(["CAP", "WHAT", "NOW", "", &format!("BYTES OF {month}")], &rows)];
    let hours = report["hours"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(hours.iter().map(hours_line));
    if let Some(next) = report["next_change"].as_u64() {
        lines.push(format!("the rates change next at {} UTC", moment(next)));
    }
    lines.extend(spent(report));
    lines.join("\n")
}

/// Why a direction's rate is what it is.
fn why(one: &Value) -> String {
    let mut why = match (one["overridden"] == true, one["overridden_until"].as_u64()) {
        (true, Some(until)) => format!("set until {} UTC", moment(until)),
        (true, None) => "set until `--reset`".to_owned(),
        _ if one["rate_text"] != one["usual"] => "by these hours".to_owned(),
        _ => String::new(),
    };
    if !why.is_empty() {
        why = format!("{why}; else {}", text(one, "usual"));
    }
    why
}

fn hours_line(hours: &Value) -> String {
    let rates = DIRECTIONS.iter().filter_map(|(key, _)| Some(format!("{key} {}", hours[*key].as_str()?)));
    format!("{}: {}", text(hours, "when"), rates.collect::<Vec<_>>().join(", "))
}

/// A line for each month that is used up.
fn spent(report: &Value) -> Vec<String> {
    let line = |(key, _): &(&str, &str)| {
        let one = &report[*key];
        Some(format!("{}\nhint: {}", one["spent"].as_str()?, text(one, "hint")))
    };
    DIRECTIONS.iter().filter_map(line).collect()
}

/// The lines of `status` that tell of caps: none without any.
pub(crate) fn status_lines(limits: &Value) -> Vec<String> {
    let capped = |key: &str| {
        let one = &limits[key];
        let capped = !one["rate"].is_null() || !one["month_cap"].is_null();
        let used = size(number(one, "month_used"));
        capped.then(|| {
            let (rate, cap) = (text(one, "rate_text"), text(one, "month_cap_text"));
            format!("cap {key:<7}{rate}; this month {used} of {cap}")
        })
    };
    DIRECTIONS.iter().filter_map(|(key, _)| capped(key)).chain(spent(limits)).collect()
}

/// Of `reload`.
pub(crate) fn reloaded(report: &Value) -> String {
    let keys = |key: &str| {
        let keys = report[key].as_array().map(Vec::as_slice).unwrap_or_default();
        keys.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![match report["config"].as_str() {
        Some(path) => format!("read {path}"),
        None => "there is no config: every key is at its default".to_owned(),
    }];
    let (changed, waiting) = (keys("changed"), keys("needs_restart"));
    lines.push(if changed.is_empty() { "no cap changed".into() } else { format!("holds now: {changed}") });
    if !waiting.is_empty() {
        lines.push(format!("holds when the node is started again: {waiting}"));
    }
    lines.join("\n")
}

/// Bytes in the units in which caps are written.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn direction(rate: &str, usual: &str, overridden: bool) -> Value {
        json!({"rate": 1, "rate_text": rate, "usual": usual, "overridden": overridden, "overridden_until": null,
            "month_used": 1_500_000, "month_cap": 2_000_000, "month_cap_text": "2 MB", "spent": null})
    }

    #[test]
    fn caps_read_as_a_table() {
        let mut down = direction("1 MB/s", "1 MB/s", false);
        down["spent"] = json!("this month's bytes are used up");
        down["hint"] = json!("raise it");
        let report = json!({"up": direction("2 MB/s", "1 MB/s", true), "down": down,
            "origin": direction("50 kB/s", "unlimited", false), "month": "2026-11", "month_ends": 1_796_083_200,
            "hours": [{"when": "mon 08:00-09:00", "up": null, "down": null, "origin": "50 kB/s"}],
            "next_change": 1_795_700_000});
        let shown = limits(&report);
        for part in [
            "up      to other nodes          2 MB/s   set until `--reset`; else 1 MB/s",
            "by these hours; else unlimited",
            "1.5 MB of 2 MB",
            "BYTES OF 2026-11 (UTC: until 2026-12-01 00:00)",
            "mon 08:00-09:00: origin 50 kB/s",
            "the rates change next at 2026-11-26",
            "this month's bytes are used up\nhint: raise it",
        ] {
            assert!(shown.contains(part), "{part:?} is not in\n{shown}");
        }
        assert_eq!(status_lines(&report)[0], "cap up     2 MB/s; this month 1.5 MB of 2 MB");
    }

    #[test]
    fn without_caps_the_status_says_nothing_of_them() {
        let free = json!({"rate": null, "month_cap": null, "month_used": 5});
        assert!(status_lines(&json!({"up": free, "down": free, "origin": free})).is_empty());
    }

    #[test]
    fn what_waits_for_a_restart_is_named() {
        let report =
            json!({"config": "/c.toml", "changed": ["limits.up"], "needs_restart": ["discovery.mdns"]});
        assert_eq!(
            reloaded(&report),
            "read /c.toml\nholds now: limits.up\nholds when the node is started again: discovery.mdns"
        );
        for value in [json!(null), json!([]), json!({"up": 3, "hours": {}, "changed": 7})] {
            limits(&value);
            reloaded(&value);
            status_lines(&value);
        }
    }
}
