//! The Xet door, for files that Python clients refuse to take by plain HTTP: they are told of xorbs that do not
//! exist, and given them out of the file's own bytes ([`crate::xorb`]).
//!
//! **Invariant:** only files above `GatewayConfig::xet_above`, of repositories that are open to everyone, are ever
//! told to be there (these clients show no token where they fetch bytes); nothing depends on what was answered
//! before: addresses say the commit, the file's sha256 and the xorb's number.

use std::iter::once;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::StreamExt;
use hubless_types::{ByteRange, CommitId, FileEntry, Manifest, RepoId, Sha256};
use serde_json::{Value, json as value};

use crate::address::{XET, XetVersion};
use crate::answer::{Fault, element, header_text, json, json_parts};
use crate::app::{App, Ask};
use crate::body::FileBody;
use crate::paging::{encode, encode_path};
use crate::range::{Span, span};
use crate::revision::find;
use crate::routes::manifest_of;
use crate::xorb::{self, CHUNK, Framing, Term};

/// When a token stops being good, in seconds since 1970: it says nothing secret, so never (the year 2100).
const NEVER: u64 = 4_102_444_800;
/// What clients show with each request; whoever reaches this node may read.
const TOKEN: &str = "anyone";
/// Most terms of one answer: a client asks for further parts by `Range`.
const MAX_TERMS: usize = 65_536;

/// How the client of one file comes by its reconstruction, for the headers of `resolve`.
pub(crate) struct Advert {
    /// `X-Xet-Hash`
    pub(crate) hash: String,
    /// `Link`
    pub(crate) link: String,
}

/// From how many bytes on files of `repo` are served by Xet.
pub(crate) fn above(app: &App, repo: &RepoId, manifest: &Manifest) -> u64 {
    let above = app.config.xet_above;
    // Hardly any commit has so much: the repository itself is looked at for those alone.
    match manifest.total_bytes() > above && app.mirror.is_open(repo).unwrap_or(false) {
        true => above,
        false => u64::MAX,
    }
}

/// Whether `entry` is served by Xet: its sha256, if it is.
pub(crate) fn hash_of(above: u64, entry: &FileEntry) -> Option<Sha256> {
    entry.lfs.filter(|_| entry.size > above).map(|lfs| lfs.sha256)
}

/// What `resolve` tells of a file.
pub(crate) fn advert(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    commit: CommitId,
    entry: &FileEntry,
) -> Option<Advert> {
    let hash = hash_of(app.config.xet_above, entry).filter(|_| app.mirror.is_open(repo).unwrap_or(false))?;
    let (kind, name) = (repo.kind().plural(), encode_path(repo.name()));
    let auth = format!("{}/api/{kind}/{name}/xet-read-token/{commit}", ask.base);
    let info = format!("{}/v2/reconstructions/{hash}", cas(ask, repo, commit));
    let link = format!("<{auth}>; rel=\"xet-auth\", <{info}>; rel=\"xet-reconstruction-info\"");
    Some(Advert { hash: hash.to_string(), link })
}

fn cas(ask: &Ask, repo: &RepoId, commit: CommitId) -> String {
    format!("{}/{XET}/{}/{}/{commit}", ask.base, repo.kind().plural(), encode_path(repo.name()))
}

/// `GET …/xet-read-token/{rev}`, for whoever may read what is there.
pub(crate) async fn token(app: &App, ask: &Ask, repo: &RepoId, tail: &[String]) -> Result<Response, Fault> {
    let (repo, commit) = find(app, ask, repo, &tail.join("/")).await?;
    manifest_of(app, ask, &repo, commit).await?;
    app.mirror.may_read(&ask.caller(), &repo).await?;
    let cas = cas(ask, &repo, commit);
    let mut answer = json(&value!({ "accessToken": TOKEN, "exp": NEVER, "casUrl": cas }));
    let headers = answer.headers_mut();
    headers.insert("x-xet-cas-url", header_text(&cas));
    headers.insert("x-xet-access-token", HeaderValue::from_static(TOKEN));
    headers.insert("x-xet-token-expiration", HeaderValue::from(NEVER));
    Ok(answer)
}

/// The file of a commit that a Xet address names.
async fn file(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    commit: CommitId,
    hash: Sha256,
) -> Result<FileEntry, Fault> {
    let manifest = manifest_of(app, ask, repo, commit).await?;
    let above = above(app, repo, &manifest);
    let is_it = |entry: &&FileEntry| hash_of(above, entry) == Some(hash);
    let entry = manifest.entries().iter().find(is_it);
    entry.cloned().ok_or_else(|| Fault::no_entry(repo, commit, &hash.to_string()))
}

/// `GET …/reconstructions/{hash}`: which chunks of which xorbs a file, or a range of it, is made of.
pub(crate) async fn reconstruction(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    commit: CommitId,
    version: XetVersion,
    hash: Sha256,
) -> Result<Response, Fault> {
    let entry = file(app, ask, repo, commit, hash).await?;
    let range = match span(ask.header(header::RANGE), entry.size) {
        Span::Whole => ByteRange::whole(entry.size),
        Span::Part(range) => range,
        Span::Empty | Span::Beyond => return Err(Fault::beyond(entry.size, commit)),
    };
    let xorbs = format!("{}/xorbs/{hash}", cas(ask, repo, commit));
    // A pointer's word for its size makes this long.
    let terms = move || xorb::terms(range, entry.size).take(MAX_TERMS).enumerate();
    let told = terms().map(move |(n, term)| {
        let range = value!({ "start": term.chunks.0, "end": term.chunks.1 });
        let name = xorb::name(&hash, term.xorb);
        element(n, &value!({ "hash": name, "unpacked_length": term.len, "range": range }))
    });
    let sources = terms().map(move |(n, term)| {
        let mut named = element(n, &xorb::name(&hash, term.xorb));
        named.push(b':');
        named.extend(element(0, &source(version, &term, &format!("{xorbs}/{}", term.xorb))));
        named
    });
    let sources_name = match version {
        XetVersion::V1 => "fetch_info",
        XetVersion::V2 => "xorbs",
    };
    let begin = format!("{{\"offset_into_first_range\":{},\"terms\":[", range.start % CHUNK).into_bytes();
    let middle = format!("],\"{sources_name}\":{{").into_bytes();
    Ok(json_parts(once(begin).chain(told).chain(once(middle)).chain(sources).chain(once(b"}}".to_vec()))))
}

/// Where a term's bytes are; chunks half-open, bytes with both ends.
fn source(version: XetVersion, term: &Term, url: &str) -> Value {
    let chunks = value!({ "start": term.chunks.0, "end": term.chunks.1 });
    let bytes = value!({ "start": term.bytes.start, "end": term.bytes.end.saturating_sub(1) });
    match version {
        XetVersion::V1 => value!([{ "range": chunks, "url": url, "url_range": bytes }]),
        XetVersion::V2 => value!([{ "url": url, "ranges": [{ "chunks": chunks, "bytes": bytes }] }]),
    }
}

/// `GET …/xorbs/{hash}/{number}`: a xorb, or a range of it.
pub(crate) async fn xorb(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    commit: CommitId,
    hash: Sha256,
    number: u64,
) -> Result<Response, Fault> {
    let entry = file(app, ask, repo, commit, hash).await?;
    let gone = || Fault::no_entry(repo, commit, &format!("xorb {number} of {hash}"));
    let part = xorb::part_of(number, entry.size).ok_or_else(gone)?;
    let size = xorb::framed_len(part.len());
    let (status, wanted) = match span(ask.header(header::RANGE).filter(|_| !ask.is_head()), size) {
        Span::Whole => (StatusCode::OK, ByteRange::whole(size)),
        Span::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Span::Empty | Span::Beyond => return Err(Fault::beyond(size, commit)),
    };
    let body = match ask.is_head() {
        true => Body::empty(),
        false => body(app, ask, repo, commit, &entry, wanted, part).await?,
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(wanted.len()));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ETAG, header_text(&format!("\"{}\"", encode(&xorb::name(&hash, number)))));
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{size}", wanted.start, wanted.end.saturating_sub(1));
        headers.insert(header::CONTENT_RANGE, header_text(&text));
    }
    Ok(answer)
}

async fn body(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    commit: CommitId,
    entry: &FileEntry,
    wanted: ByteRange,
    part: ByteRange,
) -> Result<Body, Fault> {
    let needed = xorb::needed(wanted, part);
    let mut reader = app.mirror.open_file(&ask.caller(), repo, commit, &entry.path, needed).await?;
    let mut framing = Framing::new(wanted, part);
    let first = reader.body.next().await.transpose()?.map(|piece| framing.push(piece));
    let rest = reader.body.map(move |piece| piece.map(|piece| framing.push(piece))).boxed();
    Ok(Body::new(FileBody::new(first, rest, wanted.len())))
}
