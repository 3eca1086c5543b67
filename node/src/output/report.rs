//! What came of each command, for people. Machines get the same as JSON.

use serde_json::Value;

use super::human::{bytes, count, millis, moment, number, rows, short, sources, table, text};

/// Of `add`.
pub(crate) fn added(report: &Value) -> String {
    let what = format!("{} at {}", name(report), text(report, "commit"));
    let size = format!("{}, {}", count(number(report, "files"), "file"), bytes(number(report, "bytes")));
    if report["unchanged"] == true {
        format!("unchanged: {what} ({size})")
    } else {
        format!("added {what} ({size})")
    }
}

/// Of `adopt`.
pub(crate) fn adopted(report: &Value, shared: bool) -> String {
    let mut lines: Vec<String> =
        rows(report, "repos").iter().map(|repo| adopted_repo(repo, shared)).collect();
    for skipped in rows(report, "skipped") {
        lines.push(format!("left out: {}", bad_file(skipped)));
    }
    if lines.is_empty() {
        lines.push("found no repository in this cache".into());
    }
    lines.join("\n")
}

fn adopted_repo(repo: &Value, shared: bool) -> String {
    let (files, size) = (count(number(repo, "files"), "file"), bytes(number(repo, "bytes")));
    let mut out = format!("adopted {} ({files}, {size})", text(repo, "repo"));
    for pair in rows(repo, "snapshots") {
        let (theirs, ours) = (pair[0].as_str().unwrap_or("?"), pair[1].as_str().unwrap_or("?"));
        out.push_str(&format!("\n  snapshot {theirs}"));
        if shared && theirs != ours {
            out.push_str(&format!("\n  others fetch it as {ours}"));
        }
    }
    if !shared {
        out.push_str("\n  others are not told of it; adopt it again with `--share` to change that");
    }
    out
}

/// Of `pull`.
pub(crate) fn pulled(report: &Value) -> String {
    let (files, size) = (count(number(report, "files"), "file"), bytes(number(report, "bytes")));
    let mut out = format!(
        "{} at {}: {files}, {size} in {}",
        name(report),
        text(report, "commit"),
        millis(number(report, "millis"))
    );
    let from = sources(&report["from"]);
    if !from.is_empty() {
        out.push_str(&format!("\n{from}"));
    }
    if let Some(to) = report["to"].as_str() {
        out.push_str(&format!("\nwritten to {to}"));
    }
    out
}

/// Of `pin`.
pub(crate) fn pinned(pin: &Value) -> String {
    format!("pinned {} at {}", name(pin), text(pin, "commit"))
}

/// Of `unpin`.
pub(crate) fn unpinned(pin: &Value) -> String {
    format!("unpinned {}", name(pin))
}

/// Of `forget`.
pub(crate) fn forgotten(report: &Value) -> String {
    let commits = count(number(report, "commits"), "commit");
    format!("forgot {} ({commits}); `hubless gc` frees what nothing else needs", text(report, "repo"))
}

/// Of `list`.
pub(crate) fn list(repos: &[Value]) -> String {
    if repos.is_empty() {
        return "nothing to list here: `hubless add` publishes a folder, `hubless pull` fetches".into();
    }
    let rows: Vec<[String; 7]> = repos.iter().map(list_row).collect();
    table(["REPOSITORY", "REVISION", "COMMIT", "FILES", "SIZE", "HERE", "SEEN"], &rows)
}

fn list_row(repo: &Value) -> [String; 7] {
    let (size, here) = (number(repo, "bytes"), number(repo, "bytes_here"));
    let held = match () {
        () if repo["listed"] == false => "its file list is not here".to_owned(),
        () if here == size => "all".to_owned(),
        () => bytes(here),
    };
    let commit = short(repo, "commit");
    [
        text(repo, "repo"),
        text(repo, "revision"),
        commit,
        text(repo, "files"),
        bytes(size),
        if repo["pinned"] == true { format!("{held}, pinned") } else { held },
        moment(number(repo, "seen")),
    ]
}

/// Of `status`.
pub(crate) fn status(status: &Value) -> String {
    let n = |key| number(status, key);
    let mut lines = vec![
        format!("node       {}", text(status, "node")),
        format!(
            "here       {}, {}, {}",
            if n("repos") == 1 { "1 repository".to_owned() } else { format!("{} repositories", n("repos")) },
            count(n("commits"), "commit"),
            count(n("pins"), "pin")
        ),
        format!(
            "files      {} whole; {} of its own, {} by reference, {} unfinished",
            n("files"),
            bytes(n("owned_bytes")),
            bytes(n("referenced_bytes")),
            bytes(n("partial_bytes"))
        ),
    ];
    let announce = &status["announce"];
    lines.push(format!(
        "announced  {}, {} due",
        count(number(announce, "keys"), "key"),
        number(announce, "due")
    ));
    if let Some(why) = announce["behind"].as_str() {
        let late = hubless_mirror::age_text(number(announce, "late_secs"));
        lines.push(format!("BEHIND     the oldest key is {late} late: {why}"));
    }
    let discovery = &status["discovery"];
    if discovery.is_object() {
        lines.push(format!(
            "network    {} connected, {} known, {} mode",
            count(number(discovery, "peers"), "node"),
            number(discovery, "routing"),
            text(discovery, "mode")
        ));
        lines.extend(
            rows(discovery, "listen").iter().filter_map(|a| Some(format!("listens    {}", a.as_str()?))),
        );
        lines.extend(
            rows(discovery, "external").iter().filter_map(|a| Some(format!("reached at {}", a.as_str()?))),
        );
    }
    lines.extend(rows(status, "origins").iter().map(origin_line));
    lines.extend(super::limits::status_lines(&status["limits"]));
    lines.extend(rows(status, "fetches").iter().map(fetch_line));
    lines.join("\n")
}

fn origin_line(origin: &Value) -> String {
    let n = |key| number(origin, key);
    let mut line = format!(
        "origin     {}: {}, {} ({} failed), {} received",
        text(origin, "name"),
        match text(origin, "breaker").as_str() {
            "open" => "left alone for a while",
            "half-open" => "tried again",
            _ => "asked",
        },
        count(n("requests"), "request"),
        n("failures"),
        bytes(n("bytes"))
    );
    if let Some(budget) = origin["budget"].as_u64() {
        line.push_str(&format!(", {budget} more allowed"));
    }
    if n("wrong") > 0 {
        line.push_str(&format!("\n           wrong {} times: {}", n("wrong"), text(origin, "last_wrong")));
    }
    if let Some(error) = origin["last_error"].as_str() {
        line.push_str(&format!("\n           last error: {error}"));
    }
    line
}

fn fetch_line(fetch: &Value) -> String {
    let hash = short(fetch, "digest");
    let n = |key| bytes(number(fetch, key));
    format!("fetching   {hash}: {} of {}, {}/s", n("done"), n("total"), n("rate"))
}

/// Of `peers`.
pub(crate) fn peers(list: &[Value]) -> String {
    if list.is_empty() {
        return "no node is reached: give `hubless run` a `--bootstrap` address".into();
    }
    let rows: Vec<[String; 4]> = list.iter().map(peer_row).collect();
    table(["NODE", "HOW", "ADDRESS", "FETCHED"], &rows)
}

fn peer_row(peer: &Value) -> [String; 4] {
    let first = rows(peer, "addrs").first().and_then(Value::as_str).unwrap_or_default().to_owned();
    [text(peer, "node"), text(peer, "source"), first, bytes(number(peer, "bytes_from"))]
}

/// Of `verify`.
pub(crate) fn verified(report: &Value) -> String {
    let bad = rows(report, "bad");
    let (files, size) = (count(number(report, "files"), "file"), bytes(number(report, "bytes")));
    let mut lines = vec![format!("verified {files}, {size}: {} bad", bad.len())];
    lines.extend(bad.iter().map(|bad| format!("bad: {}", bad_file(bad))));
    if number(report, "refetching") > 0 {
        lines.push(format!("{} being fetched anew", count(number(report, "refetching"), "file")));
    }
    lines.join("\n")
}

fn bad_file(bad: &Value) -> String {
    let mut names: Vec<String> = Vec::new();
    names.extend(bad["place"].as_str().map(|place| format!("`{place}`")));
    for pair in rows(bad, "used_by") {
        names.push(format!("{}/{}", pair[0].as_str().unwrap_or("?"), pair[1].as_str().unwrap_or("?")));
    }
    names.extend(bad["digest"].as_str().map(str::to_owned));
    format!("{}: {}", names.join(" "), text(bad, "why"))
}

/// Of `gc`.
pub(crate) fn collected(report: &Value) -> String {
    let (files, size) = (count(number(report, "files"), "file"), bytes(number(report, "bytes")));
    let verb = if report["dry_run"] == true { "would remove" } else { "removed" };
    let commits = match number(report, "commits") {
        0 => String::new(),
        n => format!(", and the file {} of {}", if n == 1 { "list" } else { "lists" }, count(n, "commit")),
    };
    format!("{verb} {files}, {size}{commits}; {} kept", number(report, "kept"))
}

fn name(value: &Value) -> String {
    format!("{}@{}", text(value, "repo"), text(value, "revision"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reports_read_as_sentences() {
        let add = json!({"repo": "a/b", "revision": "main", "commit": "c0ffee", "files": 1, "bytes": 1536});
        assert_eq!(added(&add), "added a/b@main at c0ffee (1 file, 1.5 KiB)");
        let pull = json!({"repo": "a/b", "revision": "main", "commit": "c0ffee", "files": 2, "bytes": 10,
            "millis": 420, "from": [["here", 10]], "to": "/x"});
        assert_eq!(
            pulled(&pull),
            "a/b@main at c0ffee: 2 files, 10 B in 0.42 s\n10 B from here\nwritten to /x"
        );
        let bad = json!({"files": 1, "bytes": 3, "bad": [{"place": "/x/y", "used_by": [["a/b", "y"]],
            "digest": "git:00", "why": "its bytes changed"}]});
        assert_eq!(
            verified(&bad),
            "verified 1 file, 3 B: 1 bad\nbad: `/x/y` a/b/y git:00: its bytes changed"
        );
        let adopt = json!({"repos": [{"repo": "a/b", "files": 1, "bytes": 3, "snapshots": [["aa", "bb"]]}]});
        assert!(adopted(&adopt, true).ends_with("others fetch it as bb"));
        assert!(!adopted(&adopt, false).contains("others fetch it"), "nobody can");
        assert_eq!(
            collected(&json!({"files": 2, "bytes": 0, "kept": 3, "dry_run": true})),
            "would remove 2 files, 0 B; 3 kept"
        );
        assert_eq!(
            collected(&json!({"files": 1, "bytes": 0, "kept": 3, "commits": 1})),
            "removed 1 file, 0 B, and the file list of 1 commit; 3 kept"
        );
    }

    #[test]
    fn no_answer_makes_a_report_panic() {
        for value in [json!(null), json!([]), json!({"bad": 3, "from": {}, "repos": [1], "fetches": [[]]})] {
            for report in [added, pulled, pinned, unpinned, forgotten, status, verified, collected] {
                report(&value);
            }
            adopted(&value, true);
            list(std::slice::from_ref(&value));
            peers(&[value]);
        }
    }
}
