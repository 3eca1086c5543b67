//! `GET …/refs`: the branches, tags, conversions and pull requests that are known here.

use std::collections::BTreeMap;

use axum::response::Response;
use hubless_types::{CommitId, RepoId};
use serde::Serialize;

use crate::answer::{Fault, json};
use crate::app::{App, Ask};
use crate::revision::commit_for;

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ref {
    name: String,
    #[serde(rename = "ref")]
    full: String,
    target_commit: CommitId,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Refs {
    branches: Vec<Ref>,
    converts: Vec<Ref>,
    tags: Vec<Ref>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pull_requests: Option<Vec<Ref>>,
}

/// Lists the refs; where none is known, peers are asked for `main` first.
pub(crate) async fn refs(app: &App, ask: &Ask, repo: &RepoId) -> Result<Response, Fault> {
    let mut known = app.mirror.all_refs(&ask.caller(), repo).await?;
    if known.is_empty() {
        commit_for(app, ask, repo, "main").await?;
        known = app.mirror.all_refs(&ask.caller(), repo).await?;
    }
    Ok(json(&sorted(known, ask.query.flag("include_prs"))))
}

fn sorted(known: BTreeMap<String, CommitId>, with_prs: bool) -> Refs {
    let mut refs = Refs { pull_requests: with_prs.then(Vec::new), ..Refs::default() };
    for (full, target_commit) in known {
        let one = |name: &str| Ref { name: name.to_owned(), full: full.clone(), target_commit };
        if let Some(name) = full.strip_prefix("refs/convert/") {
            refs.converts.push(one(name));
        } else if let Some(name) = full.strip_prefix("refs/tags/") {
            refs.tags.push(one(name));
        } else if full.starts_with("refs/pr/") {
            refs.pull_requests.iter_mut().for_each(|prs| prs.push(one(&full)));
        } else {
            refs.branches.push(one(full.strip_prefix("refs/heads/").unwrap_or(&full)));
        }
    }
    refs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ref_has_its_list() {
        let commit = CommitId::from_bytes([0xab; 20]);
        let names =
            ["refs/heads/main", "refs/convert/parquet", "refs/pr/1", "refs/tags/v1", "refs/heads/feature/x"];
        let known = || names.iter().map(|name| ((*name).to_owned(), commit)).collect();
        let refs = sorted(known(), true);
        let names = |refs: &[Ref]| refs.iter().map(|r| format!("{} {}", r.name, r.full)).collect::<Vec<_>>();
        assert_eq!(names(&refs.branches), ["feature/x refs/heads/feature/x", "main refs/heads/main"]);
        assert_eq!(names(&refs.converts), ["parquet refs/convert/parquet"]);
        assert_eq!(names(&refs.tags), ["v1 refs/tags/v1"]);
        assert_eq!(names(refs.pull_requests.as_deref().unwrap()), ["refs/pr/1 refs/pr/1"]);
        assert_eq!(sorted(known(), false).pull_requests, None);
    }
}
