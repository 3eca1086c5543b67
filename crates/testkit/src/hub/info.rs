//! What the API says of a repository, and of all of them.

use hubless_types::{Access, CommitId, RepoId, RepoKind, Timestamp};
use serde_json::{Map, Value, json};

use super::address::escaped_query;
use super::answer::{Handled, Refused, json_ok, set};
use super::entries::Entry;
use super::record::Who;
use super::state::Shown;
use super::{Shared, access};

/// Most repositories in one answer.
const PAGE: usize = 1000;

/// As the Hub writes moments.
pub(crate) fn date(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_second(time.0 as i64).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

fn gated(access: Access) -> Value {
    match access {
        Access::GatedAuto => json!("auto"),
        Access::GatedManual => json!("manual"),
        Access::Open | Access::Private => json!(false),
    }
}

/// What is the same in lists and alone.
fn summary(repo: &RepoId, shown: &Shown, commit: Option<CommitId>) -> Map<String, Value> {
    let facts = &shown.facts;
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| {
        all.insert(name.to_owned(), value);
    };
    let digits: String = repo.to_string().bytes().map(|b| format!("{b:02x}")).collect();
    put("_id", json!(format!("{digits:0<24}")[..24]));
    put("id", json!(repo.name()));
    if repo.kind() == RepoKind::Model {
        put("modelId", json!(repo.name()));
    }
    put("author", json!(repo.owner()));
    put("sha", json!(commit.map(|commit| commit.to_string())));
    put("lastModified", json!(date(facts.modified)));
    put("createdAt", json!(date(facts.created)));
    put("private", json!(facts.access == Access::Private));
    put("gated", gated(facts.access));
    put("disabled", json!(shown.disabled));
    put("downloads", json!(facts.downloads));
    put("likes", json!(facts.likes));
    put("tags", json!(facts.tags));
    if let Some(task) = &facts.pipeline_tag {
        put("pipeline_tag", json!(task));
    }
    if let Some(library) = &facts.library_name {
        put("library_name", json!(library));
    }
    if let Some(card) = facts.card.as_deref().and_then(|card| serde_json::from_str::<Value>(card).ok()) {
        put("cardData", card);
    }
    all
}

/// One repository at a commit, with its files.
pub(crate) fn info(
    repo: &RepoId,
    shown: &Shown,
    commit: Option<CommitId>,
    entries: &[Entry],
    query: &[(String, String)],
) -> Value {
    let flag = |name: &str| {
        query.iter().any(|(key, value)| key == name && matches!(&value[..], "true" | "True" | "1"))
    };
    let mut all = summary(repo, shown, commit);
    let files = entries.iter().filter(|entry| !entry.folder);
    let siblings: Vec<Value> = files.clone().map(|entry| sibling(entry, flag("blobs"))).collect();
    all.insert("siblings".into(), json!(siblings));
    all.insert("usedStorage".into(), json!(files.map(Entry::size).sum::<u64>()));
    if flag("securityStatus") {
        all.insert("securityRepoStatus".into(), json!({"scansDone": false, "filesWithIssues": []}));
    }
    let expand: Vec<&str> = query
        .iter()
        .filter(|(key, _)| key == "expand" || key == "expand[]")
        .map(|(_, value)| &value[..])
        .collect();
    if !expand.is_empty() {
        all.retain(|name, _| matches!(&name[..], "_id" | "id" | "modelId") || expand.contains(&&name[..]));
    }
    Value::Object(all)
}

fn sibling(entry: &Entry, blobs: bool) -> Value {
    let mut one = json!({"rfilename": entry.path});
    if blobs {
        one["size"] = json!(entry.size());
        one["blobId"] = json!(entry.oid);
        if let Some(pointer) = entry.pointer {
            let sha256 = pointer.sha256.to_string();
            one["lfs"] = json!({"sha256": sha256, "size": pointer.size, "pointerSize": entry.blob_size});
        }
    }
    one
}

/// `GET /api/models` and the like.
pub(crate) async fn list(shared: &Shared, kind: RepoKind, who: &Who, query: &[(String, String)]) -> Handled {
    access::check_token(shared, who)?;
    let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let number = |name: &str| get(name).and_then(|value| value.parse::<usize>().ok());
    let search = get("search").unwrap_or_default().to_ascii_lowercase();
    let (limit, from) = (number("limit").unwrap_or(PAGE).clamp(1, PAGE), number("cursor").unwrap_or(0));
    let mut found: Vec<(RepoId, Shown)> = shared.state.repos();
    found.retain(|(repo, shown)| {
        repo.kind() == kind
            && access::enter(shared, repo, who).is_ok()
            && repo.name().to_ascii_lowercase().contains(&search)
            && get("author").is_none_or(|author| repo.owner() == Some(author))
            && get("filter").is_none_or(|tag| shown.facts.tags.iter().any(|known| known == tag))
    });
    match get("sort") {
        Some("downloads") => found.sort_by_key(|(_, shown)| std::cmp::Reverse(shown.facts.downloads)),
        Some("likes") => found.sort_by_key(|(_, shown)| std::cmp::Reverse(shown.facts.likes)),
        Some("lastModified") => found.sort_by_key(|(_, shown)| std::cmp::Reverse(shown.facts.modified)),
        _ => {}
    }
    let mut page = Vec::new();
    for (repo, shown) in found.iter().skip(from).take(limit) {
        let commit = shared.git.resolve(repo, "main").await?;
        page.push(Value::Object(summary(repo, shown, commit)));
    }
    let mut response = json_ok(&Value::Array(page));
    if found.len() > from + limit {
        let kept = query.iter().filter(|(key, _)| key != "cursor");
        let mut link: String = kept.map(|(key, value)| format!("{key}={}&", escaped_query(value))).collect();
        link.push_str(&format!("cursor={}", from + limit));
        set(&mut response, "link", &format!("<{}/api/{}?{link}>; rel=\"next\"", shared.url, kind.plural()));
    }
    Ok(response)
}

/// `GET /api/whoami-v2` and what else is about no repository.
pub(crate) fn about_hub(shared: &Shared, path: &str, who: &Who) -> Handled {
    match path {
        "whoami-v2" => {
            access::check_token(shared, who)?;
            if *who == Who::Nobody {
                return Err(Refused::new(401, None, "Invalid username or password."));
            }
            Ok(json_ok(&json!({
                "type": "user", "id": "0123456789abcdef01234567", "name": "ada", "fullname": "Ada", "orgs": [],
                "isPro": false, "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": "read"}},
            })))
        }
        "agent-harnesses" => Ok(json_ok(&json!({"standardEnvVars": [], "harnesses": {}}))),
        _ => Err(Refused::new(404, None, "Sorry, we can't find the page you are looking for.")),
    }
}
