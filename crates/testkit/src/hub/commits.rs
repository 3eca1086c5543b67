//! The history of a revision, and the last commit that touched a file.

use anyhow::{Context as _, Result};
use hubless_types::{CommitId, RepoId};
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Handled, json_ok, set};

/// Commits on a page.
const PAGE: usize = 50;

struct Logged {
    id: String,
    author: String,
    date: String,
    title: String,
    message: String,
}

fn read(log: &str) -> Result<Vec<Logged>> {
    let one = |text: &str| {
        let mut fields = text.trim_start().splitn(4, '\0').map(str::to_owned);
        let mut next = || fields.next().context("git log has four fields");
        let (id, author, date, body) = (next()?, next()?, next()?, next()?);
        let (title, message) = body.split_once('\n').unwrap_or((&body, ""));
        let time: jiff::Timestamp = date.parse()?;
        let date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        Ok(Logged { id, author, date, title: title.to_owned(), message: message.trim().to_owned() })
    };
    log.split('\x1e').filter(|text| !text.trim().is_empty()).map(one).collect()
}

/// `GET …/commits/{rev}`
pub(crate) async fn list(
    shared: &Shared,
    repo: &RepoId,
    rev: &str,
    commit: CommitId,
    query: &[(String, String)],
) -> Handled {
    let number =
        |name: &str| query.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok());
    let (limit, page): (usize, usize) = (number("limit").unwrap_or(PAGE).max(1), number("p").unwrap_or(0));
    let log = read(&shared.git.log(repo, commit, None).await?)?;
    let shown: Vec<Value> = log.iter().skip(page * limit).take(limit).map(tell).collect();
    let mut response = json_ok(&Value::Array(shown));
    set(&mut response, "x-total-count", &log.len().to_string());
    if log.len() > (page + 1) * limit {
        let (kind, name) = (repo.kind().plural(), repo.name());
        let rev = super::address::escaped_query(rev);
        let link = format!("{}/api/{kind}/{name}/commits/{rev}?limit={limit}&p={}", shared.url, page + 1);
        set(&mut response, "link", &format!("<{link}>; rel=\"next\""));
    }
    Ok(response)
}

fn tell(commit: &Logged) -> Value {
    json!({
        "id": commit.id, "title": commit.title, "message": commit.message,
        "authors": [{"user": commit.author}], "date": commit.date,
    })
}

/// The last commit that touched `path`, as trees show it.
pub(crate) async fn last(shared: &Shared, repo: &RepoId, commit: CommitId, path: &str) -> Result<Value> {
    let log = read(&shared.git.log(repo, commit, Some(path)).await?)?;
    let last = log.first().context("a file was committed once")?;
    Ok(json!({"id": last.id, "title": last.title, "date": last.date}))
}
