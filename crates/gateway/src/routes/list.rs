//! `GET /api/{models,datasets,spaces}`: the repositories that this node and its peers know.
//!
//! What is asked for is found in an index ([`hubless_mirror::Mirror::find`]); filters that this node cannot judge (`apps`,
//! `inference`, …) find nothing rather than everything.

use axum::http::{HeaderValue, header};
use axum::response::Response;
use hubless_mirror::{Found, Mirror, SHELF_PAGE_MAX, ShelfQuery, ShelfSort, ShelfTerm, With};
use hubless_types::{Manifest, RepoKind, Timestamp};
use serde::Serialize;

use crate::answer::{Fault, header_text, json_bytes};
use crate::app::{App, Ask};
use crate::paging::next_link;
use crate::query::Query;
use crate::routes::info::{Sibling, siblings};
use crate::routes::summary::{Expand, Summary};

/// Most repositories on a page that has their files or cards as well.
const FULL_PAGE: usize = 100;
/// Most files on a page; the repositories after that are listed without theirs.
const MAX_SIBLINGS: usize = 20_000;
/// Repositories on a page whose commit is looked up for its time, where nobody said when they were made or changed.
const MAX_TIMES: usize = 100;
/// Parameters that decide what is listed, so that the next page needs them as well.
const KEPT: [&str; 14] = [
    "search",
    "author",
    "filter",
    "tags",
    "pipeline_tag",
    "library",
    "gated",
    "sort",
    "direction",
    "full",
    "cardData",
    "config",
    "expand",
    "limit",
];
/// Filters that need what only the Hub knows.
const UNKNOWN: [&str; 7] =
    ["apps", "inference", "inference_provider", "num_parameters", "models", "datasets", "linked"];

/// Lists a page.
pub(crate) async fn list(app: &App, ask: &Ask, kind: RepoKind) -> Result<Response, Fault> {
    let wanted = Wanted::read(&ask.query, kind)?;
    if UNKNOWN.iter().any(|name| ask.query.get(name).is_some()) {
        return Ok(json_bytes(b"[]".to_vec()));
    }
    let mirror = app.mirror.clone();
    let written = tokio::task::spawn_blocking(move || wanted.write(&mirror));
    let (page, next) = written.await.map_err(|_| Fault::internal())??;
    let mut answer = json_bytes(page);
    if let Some(cursor) = next {
        let kept = KEPT.into_iter().flat_map(|name| ask.query.all(name).map(move |v| (name, v.to_owned())));
        let query: Vec<_> = kept.chain([("cursor", cursor)]).collect();
        let link = next_link(&ask.base, &format!("/api/{}", kind.plural()), &query);
        let value = HeaderValue::from_str(&link).unwrap_or_else(|_| header_text(&link));
        answer.headers_mut().insert(header::LINK, value);
    }
    Ok(answer)
}

/// What is asked for.
struct Wanted {
    query: ShelfQuery,
    full: bool,
    card: bool,
    expand: Expand,
}

impl Wanted {
    fn read(query: &Query, kind: RepoKind) -> Result<Self, Fault> {
        let expand = Expand::of(query);
        let full = query.flag("full") || expand.has("siblings");
        let card = full || query.flag("cardData") || expand.has("cardData");
        let most = if card { FULL_PAGE } else { SHELF_PAGE_MAX };
        let cursor = query
            .get("cursor")
            .map(|text| text.parse().map_err(|()| bad("`cursor` is none of this listing")));
        let searches: Vec<&str> = query.all("search").collect();
        let sort = sort(query.get("sort"))?;
        let query = ShelfQuery {
            kind,
            search: searches.join(" "),
            author: query.get("author").filter(|a| !a.is_empty()).map(str::to_owned),
            terms: terms(query),
            private: false,
            gated: query.get("gated").map(|_| query.flag("gated")),
            sort,
            descending: query.get("direction").map_or(sort != ShelfSort::Name, |direction| direction != "1"),
            after: cursor.transpose()?,
            limit: query.number("limit")?.unwrap_or(most).clamp(1, most),
        };
        Ok(Self { query, full, card, expand })
    }

    fn write(&self, mirror: &Mirror) -> Result<(Vec<u8>, Option<String>), Fault> {
        // The SDK of a space stands in its card.
        let cards = self.card || (self.query.kind == RepoKind::Space && self.expand.has("sdk"));
        let page = mirror.find(&self.query, With { main: self.full || self.expand.has("sha"), cards })?;
        let (mut room, mut times) = (MAX_SIBLINGS, MAX_TIMES);
        let mut whole: Vec<u8> = b"[".to_vec();
        for found in &page.found {
            let manifest = match (self.full, found.main) {
                (true, Some(commit)) => mirror.manifest_here(&found.repo, commit)?,
                _ => None,
            };
            let time = match &manifest {
                Some(manifest) => Some(manifest.info().time),
                None => commit_time(mirror, found, &mut times)?,
            };
            let manifest = manifest.filter(|m| m.entries().len() <= room);
            room -= manifest.as_ref().map_or(0, |m| m.entries().len());
            if whole.len() > 1 {
                whole.push(b',');
            }
            self.line(found, time, manifest.as_deref(), &mut whole).map_err(|error| {
                tracing::error!(%error, "an answer could not be written as JSON");
                Fault::internal()
            })?;
        }
        whole.push(b']');
        Ok((whole, page.next.map(|next| next.to_string())))
    }

    fn line(
        &self,
        found: &Found,
        time: Option<Timestamp>,
        manifest: Option<&Manifest>,
        to: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let line = Line {
            summary: Summary::new(&found.repo, &found.facts, found.main, time, self.card),
            siblings: manifest.map(|manifest| siblings(manifest, false)),
        };
        if !self.expand.is_used() {
            return serde_json::to_writer(to, &line);
        }
        let mut value = serde_json::to_value(&line)?;
        self.expand.cut(&mut value);
        serde_json::to_writer(to, &value)
    }
}

/// When the newest commit of a repository was made that other nodes told of: they do not say when it was made or
/// changed. `None` where that is known, where the commit is not here, or after `left` look-ups.
fn commit_time(mirror: &Mirror, found: &Found, left: &mut usize) -> Result<Option<Timestamp>, Fault> {
    let known = found.facts.modified.0 > 0 && found.facts.created.0 > 0;
    if known || *left == 0 {
        return Ok(None);
    }
    *left -= 1;
    let main = || -> Result<_, Fault> {
        let refs = mirror.refs(&found.repo)?;
        Ok(refs.into_iter().find(|(name, _)| name.as_str() == "main").map(|(_, record)| record.commit))
    };
    let Some(commit) = found.main.map_or_else(main, |commit| Ok(Some(commit)))? else { return Ok(None) };
    Ok(mirror.manifest_here(&found.repo, commit)?.map(|manifest| manifest.info().time))
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    siblings: Option<Vec<Sibling<'a>>>,
}

/// The order, by any of the names that clients send. The Hub's own is what is talked about now.
fn sort(name: Option<&str>) -> Result<ShelfSort, Fault> {
    Ok(match name.unwrap_or_default() {
        "" | "trendingScore" | "trending_score" | "trending" => ShelfSort::Trending,
        "downloads" | "downloadsAllTime" => ShelfSort::Downloads,
        "likes" | "likes7d" => ShelfSort::Likes,
        "createdAt" | "created_at" | "created" => ShelfSort::Created,
        "lastModified" | "last_modified" | "modified" => ShelfSort::Modified,
        "id" | "name" => ShelfSort::Name,
        _ => {
            return Err(bad("`sort` must be trendingScore, downloads, likes, createdAt, lastModified or id"));
        }
    })
}

fn terms(query: &Query) -> Vec<ShelfTerm> {
    let listed = |name| query.all(name).flat_map(|value| value.split(',')).filter(|value| !value.is_empty());
    let tags = ["filter", "tags"].into_iter().flat_map(listed).map(|tag| ShelfTerm::Tag(tag.to_owned()));
    let tasks = listed("pipeline_tag").map(|task| ShelfTerm::Pipeline(task.to_owned()));
    let libraries = listed("library").map(|library| ShelfTerm::Library(library.to_owned()));
    tags.chain(tasks).chain(libraries).collect()
}

fn bad(message: &str) -> Fault {
    Fault::bad(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Wanted {
        Wanted::read(&Query::parse(text), RepoKind::Model).unwrap()
    }

    #[test]
    fn a_listing_is_asked_for_as_clients_do() {
        let wanted = read(
            "search=tiny+bert&author=acme&filter=pytorch&filter=fr%2Cgguf&pipeline_tag=fill-mask&gated=False\
             &sort=lastModified&direction=-1&limit=5&full=True&cardData=True",
        );
        let tag = |text: &str| ShelfTerm::Tag(text.into());
        assert_eq!(
            wanted.query,
            ShelfQuery {
                search: "tiny bert".into(),
                author: Some("acme".into()),
                terms: vec![tag("pytorch"), tag("fr"), tag("gguf"), ShelfTerm::Pipeline("fill-mask".into())],
                gated: Some(false),
                sort: ShelfSort::Modified,
                descending: true,
                limit: 5,
                ..ShelfQuery::all(RepoKind::Model)
            }
        );
        assert!(wanted.full && wanted.card && !wanted.expand.is_used());
        let wanted = read("expand[]=sha&expand=siblings&limit=5000");
        assert_eq!((wanted.query.limit, wanted.query.sort), (FULL_PAGE, ShelfSort::Trending));
        assert_eq!(read("limit=5000").query.limit, SHELF_PAGE_MAX);
        let refused = |text| Wanted::read(&Query::parse(text), RepoKind::Model).is_err();
        assert!(refused("sort=colour") && refused("cursor=x") && !refused("cursor=7:acme/tiny"));
    }
}
