//! `GET …/commits/{rev}`: the history, as far back as it is held here.

use std::future::Future;
use std::sync::Arc;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use hubless_types::{CommitId, Manifest, RepoId};
use serde::Serialize;

use crate::answer::{Fault, header_text, json};
use crate::app::{App, Ask};
use crate::paging::{encode_path, next_link};
use crate::routes::{date, manifest_at};

/// Commits on one page, if nobody asks for fewer or more.
const PAGE: usize = 50;
/// Most commits on one page.
const MAX_PAGE: usize = 1000;
/// Longest history that is walked.
const MAX_HISTORY: usize = 10_000;

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Commit {
    id: CommitId,
    title: String,
    message: String,
    authors: Vec<Author>,
    date: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Author {
    user: String,
}

impl Commit {
    fn new(manifest: &Manifest) -> Self {
        let info = manifest.info();
        let (title, message) = info.message.split_once('\n').unwrap_or((&info.message, ""));
        let user = info.author.split(" <").next().unwrap_or_default().to_owned();
        Self {
            id: manifest.commit(),
            title: title.to_owned(),
            message: message.trim().to_owned(),
            authors: vec![Author { user }],
            date: date(info.time),
        }
    }
}

/// Lists a revision's commit and its first parents, newest first.
pub(crate) async fn commits(app: &App, ask: &Ask, repo: &RepoId, revision: &str) -> Result<Response, Fault> {
    let head = manifest_at(app, ask, repo, revision).await?;
    let commit = head.commit();
    let all = history(head, |commit| {
        let (mirror, repo) = (app.mirror.clone(), repo.clone());
        async move { Ok(mirror.held_manifest(&repo, commit).await?) }
    })
    .await?;
    let limit = ask.query.number("limit")?.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let page = ask.query.number("p")?.unwrap_or(0);
    let from = page.saturating_mul(limit).min(all.len());
    let to = from.saturating_add(limit).min(all.len());
    let mut answer = json(&&all[from..to]);
    let headers = answer.headers_mut();
    headers.insert("x-total-count", HeaderValue::from(all.len()));
    if to < all.len() {
        let path = format!("/api/{}/{}/commits/{commit}", repo.kind().plural(), encode_path(repo.name()));
        let query = [("p", page.saturating_add(1).to_string()), ("limit", limit.to_string())];
        headers.insert(header::LINK, header_text(&next_link(&ask.base, &path, &query)));
    }
    Ok(answer)
}

async fn history<F>(head: Arc<Manifest>, held: impl Fn(CommitId) -> F) -> Result<Vec<Commit>, Fault>
where
    F: Future<Output = Result<Option<Arc<Manifest>>, Fault>>,
{
    let mut commits = vec![Commit::new(&head)];
    let mut next = head.info().parents.first().copied();
    while let Some(parent) = next.filter(|_| commits.len() < MAX_HISTORY) {
        let Some(manifest) = held(parent).await? else { break };
        commits.push(Commit::new(&manifest));
        next = manifest.info().parents.first().copied();
    }
    Ok(commits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    use hubless_types::{CommitInfo, Timestamp, TreeId};

    fn manifest(id: u8, parent: Option<u8>) -> Arc<Manifest> {
        let info = CommitInfo {
            tree: TreeId::from_bytes([0; 20]),
            parents: parent.map(|p| CommitId::from_bytes([p; 20])).into_iter().collect(),
            author: "Ann Lee <a@example.org>".into(),
            time: Timestamp(0),
            message: "title\n\nmore\n".into(),
        };
        Arc::new(Manifest::new(CommitId::from_bytes([id; 20]), info, vec![], vec![]).unwrap())
    }

    #[tokio::test]
    async fn history_ends_where_nothing_more_is_held() {
        let second = CommitId::from_bytes([2; 20]);
        let held = |commit| ready(Ok((commit == second).then(|| manifest(2, Some(1)))));
        let commits = history(manifest(3, Some(2)), held).await.unwrap();
        assert_eq!(commits.iter().map(|c| c.id).collect::<Vec<_>>(), [CommitId::from_bytes([3; 20]), second]);
        assert_eq!((&commits[0].title[..], &commits[0].message[..]), ("title", "more"));
        assert_eq!(commits[0].authors, [Author { user: "Ann Lee".into() }]);
    }
}
