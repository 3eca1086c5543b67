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

/// Lists a revision's commit and its first parents, newest first. How many there are in all is told where the page is
/// the last one: further back nobody looks for it.
pub(crate) async fn commits(app: &App, ask: &Ask, repo: &RepoId, revision: &str) -> Result<Response, Fault> {
    let limit = ask.query.number("limit")?.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let page = ask.query.number("p")?.unwrap_or(0);
    let from = page.saturating_mul(limit);
    let head = manifest_at(app, ask, repo, revision).await?;
    let commit = head.commit();
    let found = history(head, from.saturating_add(limit), |commit| {
        let (mirror, repo) = (app.mirror.clone(), repo.clone());
        async move {
            let held = mirror.held_manifest(&repo, commit).await?;
            if held.is_some() {
                ask.shown.note(mirror.is_for_everyone(&repo, commit, None)?);
            }
            Ok(held)
        }
    })
    .await?;
    let mut answer = json(&found.commits.get(from..).unwrap_or_default());
    let headers = answer.headers_mut();
    if found.is_whole {
        headers.insert("x-total-count", HeaderValue::from(found.commits.len()));
    } else {
        let path = format!("/api/{}/{}/commits/{commit}", repo.kind().plural(), encode_path(repo.name()));
        let query = [("p", page.saturating_add(1).to_string()), ("limit", limit.to_string())];
        headers.insert(header::LINK, header_text(&next_link(&ask.base, &path, &query)));
    }
    Ok(answer)
}

/// The newest commits.
struct History {
    commits: Vec<Commit>,
    /// Nothing older is held here, or listed.
    is_whole: bool,
}

/// Walks back from `head` until there are `wanted` commits, and looks whether another follows.
async fn history<F>(
    head: Arc<Manifest>,
    wanted: usize,
    held: impl Fn(CommitId) -> F,
) -> Result<History, Fault>
where
    F: Future<Output = Result<Option<Arc<Manifest>>, Fault>>,
{
    let (mut commits, mut next) = (Vec::new(), Some(head));
    while let Some(manifest) = next.take() {
        let is_whole = commits.len() == MAX_HISTORY;
        if is_whole || commits.len() == wanted {
            return Ok(History { commits, is_whole });
        }
        commits.push(Commit::new(&manifest));
        if let Some(parent) = manifest.info().parents.first() {
            next = held(*parent).await?;
        }
    }
    Ok(History { commits, is_whole: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
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

    fn id(n: u8) -> CommitId {
        CommitId::from_bytes([n; 20])
    }

    #[tokio::test]
    async fn history_ends_where_nothing_more_is_held() {
        let held = |commit| ready(Ok((commit == id(2)).then(|| manifest(2, Some(1)))));
        let found = history(manifest(3, Some(2)), 50, held).await.unwrap();
        assert_eq!(found.commits.iter().map(|c| c.id).collect::<Vec<_>>(), [id(3), id(2)]);
        let first = &found.commits[0];
        assert_eq!((&first.title[..], &first.message[..]), ("title", "more"));
        assert_eq!(first.authors, [Author { user: "Ann Lee".into() }]);
    }

    /// However long a history is, a page costs its own commits, and one that tells whether there is another.
    #[tokio::test]
    async fn a_page_is_no_walk_to_the_beginning() {
        for (wanted, listed, looks, whole) in [
            (1, 1, 1, false),
            (5, 5, 5, false),
            (199, 199, 199, false),
            (200, 200, 199, true),
            (999, 200, 199, true),
        ] {
            let asked = Cell::new(0);
            let held = |commit: CommitId| {
                asked.set(asked.get() + 1);
                let n = commit.as_bytes()[0];
                ready(Ok(Some(manifest(n, n.checked_sub(1).filter(|parent| *parent > 0)))))
            };
            let found = history(manifest(200, Some(199)), wanted, held).await.unwrap();
            assert_eq!(
                (found.commits.len(), asked.get(), found.is_whole),
                (listed, looks, whole),
                "{wanted}"
            );
        }
    }
}
