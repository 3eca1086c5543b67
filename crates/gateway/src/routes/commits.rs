//! `GET …/commits/{rev}`: the history, as far back as it is held here.

use axum::http::{HeaderValue, header};
use axum::response::Response;
use hubless_types::{CommitId, CommitInfo, RepoId};
use serde::Serialize;

use crate::answer::{Fault, element, header_text, json_list};
use crate::app::{App, Ask};
use crate::paging::{encode_path, next_link};
use crate::routes::{date, manifest_at, title};

/// Commits on one page, if nobody asks for fewer or more.
const PAGE: usize = 50;
/// Most commits on one page.
const MAX_PAGE: usize = 1000;
/// Longest history that is walked, some microseconds a commit.
const MAX_HISTORY: usize = 10_000;

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Commit<'a> {
    id: CommitId,
    title: &'a str,
    message: &'a str,
    authors: [Author<'a>; 1],
    date: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Author<'a> {
    user: &'a str,
}

impl<'a> Commit<'a> {
    fn new(id: CommitId, info: &'a CommitInfo) -> Self {
        let message = info.message.split_once('\n').map_or("", |(_, rest)| rest.trim());
        let user = info.author.split(" <").next().unwrap_or_default();
        Self { id, title: title(info), message, authors: [Author { user }], date: date(info.time) }
    }
}

/// Lists a revision's commit and its first parents, newest first, and tells how many there are in all. A page whose messages
/// are long ends early: the link to the next one says where it begins.
pub(crate) async fn commits(app: &App, ask: &Ask, repo: &RepoId, revision: &str) -> Result<Response, Fault> {
    let limit = ask.query.number("limit")?.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let page = ask.query.number("p")?.unwrap_or(0);
    let from = ask.query.number("cursor")?.unwrap_or(page.saturating_mul(limit));
    let head = manifest_at(app, ask, repo, revision).await?;
    let history = app.mirror.history(repo, &head, from..from.saturating_add(limit), MAX_HISTORY).await?;
    for (commit, _) in &history.commits {
        ask.show(app.mirror.is_for_everyone(repo, *commit, None)?)?;
    }
    let next = from.saturating_add(history.commits.len());
    let more = !history.commits.is_empty() && next < history.total;
    let lines = history.commits.into_iter().enumerate();
    let mut answer = json_list(lines.map(|(n, (id, info))| element(n, &Commit::new(id, &info))));
    let headers = answer.headers_mut();
    headers.insert("x-total-count", HeaderValue::from(history.total));
    if more {
        let path =
            format!("/api/{}/{}/commits/{}", repo.kind().plural(), encode_path(repo.name()), head.commit());
        let query = [("cursor", next.to_string()), ("limit", limit.to_string())];
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
        assert_eq!((commit.title, commit.message), ("title", "more"));
        assert_eq!(commit.authors, [Author { user: "Ann Lee" }]);
    }
}
