//! `GET …/commits/{rev}`: the history, as far back as it is held here.

use axum::http::{HeaderValue, header};
use axum::response::Response;
use hubless_types::{CommitId, CommitInfo, RepoId};
use serde::Serialize;

use crate::answer::{Fault, header_text, json};
use crate::app::{App, Ask};
use crate::paging::{encode_path, next_link};
use crate::routes::{date, manifest_at};

/// Commits on one page, if nobody asks for fewer or more.
const PAGE: usize = 50;
/// Most commits on one page.
const MAX_PAGE: usize = 1000;
/// Longest history that is walked, some microseconds a commit.
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
    fn new(id: CommitId, info: &CommitInfo) -> Self {
        let (title, message) = info.message.split_once('\n').unwrap_or((&info.message, ""));
        let user = info.author.split(" <").next().unwrap_or_default().to_owned();
        Self {
            id,
            title: title.to_owned(),
            message: message.trim().to_owned(),
            authors: vec![Author { user }],
            date: date(info.time),
        }
    }
}

/// Lists a revision's commit and its first parents, newest first, and tells how many there are in all.
pub(crate) async fn commits(app: &App, ask: &Ask, repo: &RepoId, revision: &str) -> Result<Response, Fault> {
    let limit = ask.query.number("limit")?.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let page = ask.query.number("p")?.unwrap_or(0);
    let from = page.saturating_mul(limit);
    let to = from.saturating_add(limit);
    let head = manifest_at(app, ask, repo, revision).await?;
    let history = app.mirror.history(repo, &head, from..to, MAX_HISTORY).await?;
    for (commit, _) in &history.commits {
        ask.shown.note(app.mirror.is_for_everyone(repo, *commit, None)?);
    }
    let listed: Vec<Commit> = history.commits.iter().map(|(id, info)| Commit::new(*id, info)).collect();
    let mut answer = json(&listed);
    let headers = answer.headers_mut();
    headers.insert("x-total-count", HeaderValue::from(history.total));
    if to < history.total {
        let path =
            format!("/api/{}/{}/commits/{}", repo.kind().plural(), encode_path(repo.name()), head.commit());
        let query = [("p", page.saturating_add(1).to_string()), ("limit", limit.to_string())];
        headers.insert(header::LINK, header_text(&next_link(&ask.base, &path, &query)));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use hubless_types::{Timestamp, TreeId};

    use super::*;

    #[test]
    fn a_message_is_cut_into_title_and_rest() {
        let info = CommitInfo {
            tree: TreeId::from_bytes([0; 20]),
            parents: vec![],
            author: "Ann Lee <a@example.org>".into(),
            time: Timestamp(0),
            message: "title\n\nmore\n".into(),
        };
        let commit = Commit::new(CommitId::from_bytes([1; 20]), &info);
        assert_eq!((&commit.title[..], &commit.message[..]), ("title", "more"));
        assert_eq!(commit.authors, [Author { user: "Ann Lee".into() }]);
    }
}
