//! Bytes of files: `resolve` with the Hub's redirects, `raw`, the cache behind it, and the content network.

use std::ops::Range;

use anyhow::Context as _;
use hubless_types::{CommitId, RepoId};
use hyper::header::{HeaderMap, RANGE};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::address::{About, escaped, escaped_query};
use super::answer::{Handled, Refused, redirect, set, whole};
use super::body::{Body, Content};
use super::entries::Entry;
use super::{Shared, access, xet};
use crate::hub::record::Who;

/// Where in its file an answer's body begins; for the faults that are about a file's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offset(pub(crate) u64);

/// The commit, and how many segments named it: one, or as many as the longest known ref has.
pub(crate) async fn revision(
    shared: &Shared,
    repo: &RepoId,
    rest: &[String],
) -> Result<(CommitId, usize), Refused> {
    let unknown = || Refused::revision_not_found(rest.first().map_or("", String::as_str));
    for n in (1..=rest.len().min(4)).rev() {
        let found = shared.git.resolve(repo, &rest[..n].join("/")).await?;
        if let Some(commit) = found {
            return Ok((commit, n));
        }
    }
    Err(unknown())
}

/// `/{repo}/resolve/…` and `/{repo}/raw/…`.
pub(crate) async fn handle(shared: &Shared, about: &About, who: &Who, headers: &HeaderMap) -> Handled {
    let (repo, shown) = access::enter(shared, &about.repo, who)?;
    if repo != about.repo {
        return Ok(redirect(307, &about.renamed(&repo)));
    }
    let (commit, used) = revision(shared, &repo, &about.rest).await?;
    access::check_read(&repo, &shown, who)?;
    let path = about.rest[used..].join("/");
    let entry = entry(shared, &repo, commit, &path).await?;
    if about.verb == "raw" {
        let bytes = shared.git.blob(&repo, &entry.oid).await?;
        let mut response = bytes_of(&Content::Memory(bytes), headers, "text/plain; charset=utf-8").await?;
        set(&mut response, "x-repo-commit", &commit.to_string());
        set(&mut response, "etag", &format!("\"{}\"", entry.oid));
        return Ok(response);
    }
    let mut response = match entry.pointer {
        Some(pointer) => redirect(302, &shared.signed(&pointer.sha256.to_string())),
        None => redirect(307, &cache_path(&repo, commit, &entry)),
    };
    describe(shared, &mut response, &repo, commit, &entry);
    Ok(response)
}

/// What the Hub says of a file on its redirects.
fn describe(shared: &Shared, response: &mut Response<Body>, repo: &RepoId, commit: CommitId, entry: &Entry) {
    let etag = entry.pointer.map_or_else(|| entry.oid.clone(), |pointer| pointer.sha256.to_string());
    set(response, "x-repo-commit", &commit.to_string());
    set(response, "accept-ranges", "bytes");
    set(response, "etag", &format!("\"{etag}\""));
    set(response, "x-linked-etag", &format!("\"{etag}\""));
    set(response, "x-linked-size", &entry.size().to_string());
    if entry.pointer.is_some() && (shared.state.claims_xet() || shared.xet.mode().is_some()) {
        let kind = repo.kind().plural();
        let token = format!("{}/api/{kind}/{}/xet-read-token/{commit}", shared.url, repo.name());
        set(response, "x-xet-hash", &xet::id_of(&etag));
        set(
            response,
            "link",
            &format!("<{token}>; rel=\"xet-auth\", <{}/xet>; rel=\"xet-reconstruction-info\"", shared.url),
        );
    }
}

fn cache_path(repo: &RepoId, commit: CommitId, entry: &Entry) -> String {
    let asked = format!("/{repo}/resolve/{commit}/{}", entry.path);
    format!(
        "/api/resolve-cache/{}/{}/{commit}/{}?{}=&etag=%22{}%22",
        repo.kind().plural(),
        repo.name(),
        escaped(&entry.path),
        escaped_query(&asked),
        entry.oid,
    )
}

/// `/api/resolve-cache/…`: small files. The query is for caches on the way; old clients leave it out.
pub(crate) async fn cached(shared: &Shared, about: &About, who: &Who, headers: &HeaderMap) -> Handled {
    let (repo, shown) = access::enter(shared, &about.repo, who)?;
    access::check_read(&repo, &shown, who)?;
    let (commit, used) = revision(shared, &repo, &about.rest).await?;
    let entry = entry(shared, &repo, commit, &about.rest[used..].join("/")).await?;
    let bytes = shared.git.blob(&repo, &entry.oid).await?;
    let mut response = bytes_of(&Content::Memory(bytes), headers, "text/plain; charset=utf-8").await?;
    set(&mut response, "x-repo-commit", &commit.to_string());
    set(&mut response, "etag", &format!("\"{}\"", entry.oid));
    Ok(response)
}

async fn entry(shared: &Shared, repo: &RepoId, commit: CommitId, path: &str) -> Result<Entry, Refused> {
    let entries = shared.git.entries(repo, commit).await?;
    let found = entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok().map(|i| &entries[i]);
    found.filter(|entry| !entry.folder).cloned().ok_or_else(|| Refused::entry_not_found(&commit.to_string()))
}

impl Shared {
    /// Where an LFS file is for whoever has this address; good until [`Hub::expire_links`](super::Hub::expire_links).
    pub(crate) fn signed(&self, sha256: &str) -> String {
        let signature = self.signature(sha256);
        format!("{}/lfs/{sha256}?Expires=1893456000&Signature={signature}&Key-Pair-Id=TEST", self.content_url)
    }

    fn signature(&self, sha256: &str) -> String {
        let secret = format!("{} {} {sha256}", self.content_url, self.state.epoch());
        hex::encode(Sha256::digest(secret))
    }
}

/// The content network: no tokens, only signed addresses, and the headers that it demands.
pub(crate) async fn network(shared: &Shared, target: &str, who: &Who, headers: &HeaderMap) -> Handled {
    if let Some(handled) = xet::network(shared, target, who, headers).await {
        return handled;
    }
    let demanded = shared.state.demanded_headers();
    let brings =
        |(name, value): &(String, String)| headers.get(name).is_some_and(|got| got == value.as_str());
    if !demanded.iter().all(brings) {
        return Err(Refused::new(403, None, "a header that came with this address is missing"));
    }
    if *who != Who::Nobody && !demanded.iter().any(|(name, _)| name == "authorization") {
        // What a real one answers, and what shows that a token went where it must not.
        return Err(Refused::bad_request("only one way to authenticate may be used"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let sha256 = path.strip_prefix("/lfs/").unwrap_or_default();
    let plain = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
    if !plain || !query.contains(&format!("Signature={}", shared.signature(sha256))) {
        return Err(Refused::new(403, None, "the signature is missing, wrong or expired"));
    }
    if let Some(status) = shared.xet.mode().and_then(|mode| mode.bridge) {
        return Err(Refused::new(status, None, "Bad Request"));
    }
    let path = shared.git.lfs_path(sha256);
    let len = tokio::fs::metadata(&path).await.context("no such object").map(|found| found.len())?;
    let mut response = bytes_of(&Content::File(path, len), headers, "application/octet-stream").await?;
    set(&mut response, "etag", &format!("\"{}\"", &sha256[..32]));
    Ok(response)
}

/// Content, or the range of it that is asked for.
async fn bytes_of(content: &Content, headers: &HeaderMap, kind: &str) -> Handled {
    let size = content.len();
    // No range is within an empty file; answered with all of it, every client is content.
    let asked = headers.get(RANGE).filter(|_| size > 0).and_then(|value| value.to_str().ok());
    let range = match asked.map(|text| wanted(text, size)) {
        None | Some(Wanted::Whole) => None,
        Some(Wanted::Part(range)) => Some(range),
        Some(Wanted::Nothing) => {
            let mut response = whole(416, kind, "");
            set(&mut response, "content-range", &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let taken = range.clone().unwrap_or(0..size);
    let mut response = Response::new(content.body(taken.clone()).await?);
    set(&mut response, "content-length", &(taken.end - taken.start).to_string());
    set(&mut response, "content-type", kind);
    set(&mut response, "accept-ranges", "bytes");
    if size == 0 && headers.contains_key(RANGE) {
        set(&mut response, "content-range", "bytes */0");
    }
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut response, "content-range", &format!("bytes {}-{}/{size}", taken.start, taken.end - 1));
    }
    response.extensions_mut().insert(Offset(taken.start));
    Ok(response)
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    Nothing,
}

/// One range; several, and what is none, are ignored as RFC 9110 allows.
fn wanted(header: &str, size: u64) -> Wanted {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Wanted::Whole;
    };
    let (first, last) = (first.parse::<u64>(), last.parse::<u64>());
    let range = match (first, last) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) => first..size,
        (Err(_), Ok(count)) => size.saturating_sub(count)..size,
        _ => return Wanted::Whole,
    };
    if range.start >= size || range.is_empty() { Wanted::Nothing } else { Wanted::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        for (header, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=5-99", Wanted::Part(5..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=5-4", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            assert_eq!(wanted(header, 10), expected, "{header}");
        }
    }
}
