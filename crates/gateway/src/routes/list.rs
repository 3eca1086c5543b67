//! `GET /api/{models,datasets,spaces}`: the repositories that are held here.

use axum::http::header;
use axum::response::Response;
use hubless_mirror::RepoSummary;
use hubless_types::RepoKind;

use crate::answer::{Fault, header_text, json};
use crate::app::{App, Ask};
use crate::paging::next_link;
use crate::query::Query;
use crate::routes::date;
use crate::routes::info::Summary;

/// Most repositories on one page.
const PAGE: usize = 1000;
/// Parameters that the next page needs as well.
const KEPT: [&str; 3] = ["search", "author", "filter"];

/// Lists the repositories of a kind by name; one line each, its `main` branch if it has one.
pub(crate) async fn list(app: &App, ask: &Ask, kind: RepoKind) -> Result<Response, Fault> {
    let mirror = app.mirror.clone();
    let held = tokio::task::spawn_blocking(move || mirror.list()).await.map_err(|_| Fault::internal())??;
    let found = matching(held, kind, &ask.query);
    let limit = ask.query.number("limit").unwrap_or(PAGE).clamp(1, PAGE);
    let from = ask.query.number("cursor").unwrap_or(0).min(found.len());
    let to = from.saturating_add(limit).min(found.len());
    let page: Vec<_> =
        found[from..to].iter().map(|r| Summary::new(&r.repo, r.commit, date(r.seen))).collect();
    let mut answer = json(&page);
    if to < found.len() {
        let kept = KEPT.into_iter().filter_map(|name| Some((name, ask.query.get(name)?.to_owned())));
        let query: Vec<_> = kept.chain([("limit", limit.to_string()), ("cursor", to.to_string())]).collect();
        let link = next_link(&ask.base, &format!("/api/{}", kind.plural()), &query);
        answer.headers_mut().insert(header::LINK, header_text(&link));
    }
    Ok(answer)
}

fn matching(mut held: Vec<RepoSummary>, kind: RepoKind, query: &Query) -> Vec<RepoSummary> {
    let search = query.get("search").unwrap_or_default().to_lowercase();
    let author = query.get("author");
    // Nothing here has tags, so no filter can be met.
    let filtered = query.all("filter").any(|tag| !tag.is_empty());
    held.retain(|r| {
        let author_fits = author.is_none_or(|author| r.repo.owner() == Some(author));
        r.repo.kind() == kind && !filtered && author_fits && r.repo.name().to_lowercase().contains(&search)
    });
    held.sort_by(|a, b| a.repo.cmp(&b.repo).then_with(|| is_other(a).cmp(&is_other(b))));
    held.dedup_by(|later, first| later.repo == first.repo);
    held
}

fn is_other(summary: &RepoSummary) -> bool {
    summary.revision.as_str() != "main"
}
