//! The JSON API of one repository: info, tree, paths-info, refs, commits, auth-check.

use hubless_types::{CommitId, RepoId};
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::address::{About, escaped, escaped_query, pairs};
use super::answer::{Handled, Refused, json_ok, redirect, set};
use super::entries::Entry;
use super::file::revision;
use super::record::Who;
use super::state::Shown;
use super::{Shared, access, commits, info, xet};

/// Entries on a page of a tree.
const PAGE: usize = 1000;
/// The same with `expand`.
const EXPANDED_PAGE: usize = 50;

type Query = [(String, String)];

fn flag(query: &Query, name: &str) -> bool {
    query.iter().any(|(key, value)| key == name && matches!(&value[..], "true" | "True" | "1"))
}

/// Answers a question about a repository.
pub(crate) async fn handle(
    shared: &Shared,
    about: &About,
    who: &Who,
    query: &Query,
    headers: &HeaderMap,
    body: &[u8],
) -> Handled {
    let (repo, shown) = access::enter(shared, &about.repo, who)?;
    if repo != about.repo {
        return Ok(redirect(307, &about.renamed(&repo)));
    }
    match about.verb.as_str() {
        "" if about.rest.is_empty() => whole(shared, &repo, &shown, None, query).await,
        "revision" => {
            let (commit, _) = revision(shared, &repo, &about.rest).await?;
            whole(shared, &repo, &shown, Some(commit), query).await
        }
        "tree" => tree(shared, &repo, &about.rest, query).await,
        "paths-info" => paths_info(shared, &repo, &about.rest, headers, body).await,
        "refs" => refs(shared, &repo, query).await,
        "commits" => {
            let (commit, used) = revision(shared, &repo, &about.rest).await?;
            commits::list(shared, &repo, &about.rest[..used].join("/"), commit, query).await
        }
        "xet-read-token" => {
            revision(shared, &repo, &about.rest).await?;
            access::check_read(&repo, &shown, who)?;
            xet::leave(shared)
        }
        "auth-check" => {
            access::check_read(&repo, &shown, who)?;
            Ok(json_ok(&json!({})))
        }
        _ => Err(Refused::new(404, None, "Sorry, we can't find the page you are looking for.")),
    }
}

async fn whole(
    shared: &Shared,
    repo: &RepoId,
    shown: &Shown,
    commit: Option<CommitId>,
    query: &Query,
) -> Handled {
    let commit = match commit {
        Some(commit) => Some(commit),
        None => shared.git.resolve(repo, "main").await?,
    };
    let entries = match commit {
        Some(commit) => shared.git.entries(repo, commit).await?,
        None => Default::default(),
    };
    Ok(json_ok(&info::info(repo, shown, commit, &entries, query)))
}

/// One entry as trees and `paths-info` show it.
async fn shown(
    shared: &Shared,
    repo: &RepoId,
    commit: CommitId,
    entry: &Entry,
    expand: bool,
) -> Result<Value, Refused> {
    let kind = if entry.folder { "directory" } else { "file" };
    let mut one = json!({"type": kind, "oid": entry.oid, "size": entry.size(), "path": entry.path});
    if let Some(pointer) = entry.pointer {
        let sha256 = pointer.sha256.to_string();
        if shared.state.claims_xet() {
            one["xetHash"] = json!(sha256);
        }
        one["lfs"] = json!({"oid": sha256, "size": pointer.size, "pointerSize": entry.blob_size});
    }
    if expand {
        one["lastCommit"] = commits::last(shared, repo, commit, &entry.path).await?;
        if !entry.folder {
            one["securityFileStatus"] = json!({
                "status": "safe", "avScan": {"status": "safe"}, "pickleImportScan": null,
            });
        }
    }
    Ok(one)
}

async fn tree(shared: &Shared, repo: &RepoId, rest: &[String], query: &Query) -> Handled {
    let (commit, used) = revision(shared, repo, rest).await?;
    let path = rest[used..].join("/");
    let path = path.trim_matches('/');
    let entries = shared.git.entries(repo, commit).await?;
    if !path.is_empty() && !entries.iter().any(|entry| entry.folder && entry.path == path) {
        return Err(Refused::entry_not_found(&commit.to_string()));
    }
    let get =
        |name: &str| query.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok());
    let (recursive, expand) = (flag(query, "recursive"), flag(query, "expand"));
    let most = if expand { EXPANDED_PAGE } else { PAGE };
    let (limit, from): (usize, usize) =
        (get("limit").unwrap_or(most).clamp(1, most), get("cursor").unwrap_or(0));
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let below = |entry: &&Entry| {
        let rest = entry.path.strip_prefix(&prefix);
        rest.is_some_and(|rest| recursive || !rest.contains('/'))
    };
    let mut page = Vec::new();
    for entry in entries.iter().filter(below).skip(from).take(limit) {
        page.push(shown(shared, repo, commit, entry, expand).await?);
    }
    let more = entries.iter().filter(below).count() > from + limit;
    let mut response = json_ok(&Value::Array(page));
    if more {
        let (kind, rev) = (repo.kind().plural(), escaped_query(&rest[..used].join("/")));
        let folder = if path.is_empty() { String::new() } else { format!("/{}", escaped(path)) };
        let link = format!(
            "{}/api/{kind}/{}/tree/{rev}{folder}?recursive={recursive}&expand={expand}&limit={limit}&cursor={}",
            shared.url,
            repo.name(),
            from + limit
        );
        set(&mut response, "link", &format!("<{link}>; rel=\"next\""));
    }
    set(&mut response, "x-repo-commit", &commit.to_string());
    Ok(response)
}

async fn paths_info(
    shared: &Shared,
    repo: &RepoId,
    rest: &[String],
    headers: &HeaderMap,
    body: &[u8],
) -> Handled {
    let (commit, _) = revision(shared, repo, rest).await?;
    let is_json =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let (paths, expand) = if is_json {
        let asked: Value =
            serde_json::from_slice(body).map_err(|error| Refused::bad_request(error.to_string()))?;
        let paths = asked["paths"].as_array().into_iter().flatten();
        (
            paths.filter_map(|path| path.as_str().map(str::to_owned)).collect::<Vec<_>>(),
            asked["expand"] == true,
        )
    } else {
        let form = pairs(&String::from_utf8_lossy(body));
        let paths = form.iter().filter(|(key, _)| key == "paths").map(|(_, value)| value.clone());
        (paths.collect(), flag(&form, "expand"))
    };
    let entries = shared.git.entries(repo, commit).await?;
    let mut found = Vec::new();
    for path in paths {
        if let Some(entry) = entries.iter().find(|entry| entry.path == path) {
            found.push(shown(shared, repo, commit, entry, expand).await?);
        }
    }
    Ok(json_ok(&Value::Array(found)))
}

async fn refs(shared: &Shared, repo: &RepoId, query: &Query) -> Handled {
    let all = shared.git.refs(repo).await?;
    let under = |prefix: &str| -> Vec<Value> {
        let named = all.iter().filter_map(|(name, commit)| Some((name, name.strip_prefix(prefix)?, commit)));
        named.map(|(name, short, commit)| json!({"name": short, "ref": name, "targetCommit": commit.to_string()})).collect()
    };
    let mut answer = json!({
        "branches": under("refs/heads/"), "tags": under("refs/tags/"), "converts": under("refs/convert/"),
    });
    if flag(query, "include_prs") {
        answer["pullRequests"] = json!(under("refs/pr/"));
    }
    Ok(json_ok(&answer))
}
