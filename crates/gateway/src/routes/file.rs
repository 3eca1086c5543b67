//! `resolve` and `raw`: the files themselves.
//!
//! **Invariant:** the answer to HEAD comes from the manifest alone. An answer with a body begins once its first
//! bytes are verified, so that what cannot be had is a status and not a cut body.

use std::future::{Future, ready};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use hubless_mirror::Caller;
use hubless_types::{ByteRange, CommitId, FileEntry, Manifest, RepoId, RepoPath};

use crate::answer::{Fault, header_text};
use crate::app::{App, Ask};
use crate::body::FileBody;
use crate::paging::encode;
use crate::range::{Span, span};
use crate::revision::{commit_for, split_known};
use crate::routes::manifest_of;
use crate::routes::xet::{self, Advert};

/// What an answer says of a file before any of its bytes.
struct Meta<'a> {
    commit: CommitId,
    path: &'a RepoPath,
    size: u64,
    etag: String,
    /// Set for an LFS file that is served as its content.
    linked: bool,
    xet: Option<Advert>,
}

/// `HEAD` and `GET /{id}/resolve/{rev}/{path}`: the content.
pub(crate) async fn resolve(app: &App, ask: &Ask, repo: &RepoId, tail: &[String]) -> Result<Response, Fault> {
    let found = Found::look_up(app, ask, repo, tail).await?;
    let entry = found.entry()?;
    let etag = entry.digest().hex();
    let (commit, path, linked) = (found.commit, &entry.path, entry.lfs.is_some());
    let xet = xet::advert(app, ask, repo, commit, entry);
    let meta = Meta { commit, path, size: entry.size, etag, linked, xet };
    send_content(app, ask, repo, entry, &meta).await
}

/// A file of a commit under the name that another door gives it.
pub(crate) async fn at(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    commit: CommitId,
    path: &RepoPath,
) -> Result<Response, Fault> {
    let manifest = manifest_of(app, ask, repo, commit).await?;
    let entry = manifest.entry(path).ok_or_else(|| Fault::no_entry(repo, commit, path.as_str()))?;
    let (etag, linked) = (entry.digest().hex(), entry.lfs.is_some());
    let meta = Meta { commit, path, size: entry.size, etag, linked, xet: None };
    send_content(app, ask, repo, entry, &meta).await
}

/// `HEAD` and `GET /{id}/raw/{rev}/{path}`: the git blob, which for an LFS file is its pointer.
pub(crate) async fn raw(app: &App, ask: &Ask, repo: &RepoId, tail: &[String]) -> Result<Response, Fault> {
    let found = Found::look_up(app, ask, repo, tail).await?;
    let entry = found.entry()?;
    let (commit, path, etag) = (found.commit, &entry.path, entry.blob.to_string());
    let Some(lfs) = entry.lfs else {
        let meta = Meta { commit, path, size: entry.size, etag, linked: false, xet: None };
        return send_content(app, ask, repo, entry, &meta).await;
    };
    // A pointer is in the repository's listing too; a hub refuses it with the rest of the content.
    app.mirror.may_read(&ask.caller(), repo).await?;
    let pointer = app.mirror.pointer(repo, commit, entry)?;
    let pointer: Bytes = pointer.ok_or_else(|| Fault::no_entry(repo, commit, entry.path.as_str()))?.into();
    let meta = Meta { commit, path, size: lfs.pointer_size, etag, linked: false, xet: None };
    send(ask, &meta, |range| ready(Ok(Body::from(slice(&pointer, range))))).await
}

/// A file's place, looked up.
struct Found<'a> {
    repo: &'a RepoId,
    commit: CommitId,
    manifest: std::sync::Arc<Manifest>,
    path: String,
}

impl<'a> Found<'a> {
    async fn look_up(app: &App, ask: &Ask, repo: &'a RepoId, tail: &[String]) -> Result<Self, Fault> {
        // The last segment is the file's own name.
        let (revision, path) = split_known(app, ask, repo, tail, tail.len() - 1).await?;
        let commit = commit_for(app, ask, repo, &revision).await?;
        let manifest = manifest_of(app, ask, repo, commit).await?;
        Ok(Self { repo, commit, manifest, path })
    }

    fn entry(&self) -> Result<&FileEntry, Fault> {
        let entry = self.path.parse::<RepoPath>().ok().and_then(|path| self.manifest.entry(&path));
        entry.ok_or_else(|| Fault::no_entry(self.repo, self.commit, &self.path))
    }
}

fn slice(bytes: &Bytes, range: ByteRange) -> Bytes {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(range.start)..at(range.end))
}

async fn send_content(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    entry: &FileEntry,
    meta: &Meta<'_>,
) -> Result<Response, Fault> {
    ask.show(app.mirror.is_for_everyone(repo, meta.commit, Some(entry))?)?;
    let caller = ask.caller();
    if ask.is_head() || ask.header(header::IF_NONE_MATCH).is_some() {
        // An answer with a body asks as it opens the file.
        app.mirror.may_read(&caller, repo).await?;
    }
    send(ask, meta, |range| content(app, &caller, repo, meta.commit, &entry.path, range)).await
}

/// Opens the file and waits for its first verified bytes.
async fn content(
    app: &App,
    caller: &Caller,
    repo: &RepoId,
    commit: CommitId,
    path: &RepoPath,
    range: ByteRange,
) -> Result<Body, Fault> {
    let mut reader = app.mirror.open_file(caller, repo, commit, path, range).await?;
    if reader.range != range {
        // A peer had told a wrong size of a plain file; it was mended while this answer began.
        return Err(Fault::not_yet("the file's size was just corrected; ask again"));
    }
    let first = reader.body.next().await.transpose()?;
    Ok(Body::new(FileBody::new(first, reader.body, range.len())))
}

/// Answers with what the request's conditions and range ask for; `open` is called only for a body with bytes.
async fn send<F>(ask: &Ask, meta: &Meta<'_>, open: impl FnOnce(ByteRange) -> F) -> Result<Response, Fault>
where
    F: Future<Output = Result<Body, Fault>>,
{
    let quoted = format!("\"{}\"", meta.etag);
    if ask.header(header::IF_NONE_MATCH).is_some_and(|wanted| matches_etag(wanted, &quoted)) {
        return Ok(respond(StatusCode::NOT_MODIFIED, meta, &quoted, None, Body::empty()));
    }
    let (status, range, content_range) = match wanted_span(ask, meta.size, &quoted) {
        Span::Whole => (StatusCode::OK, ByteRange::whole(meta.size), None),
        Span::Part(range) => {
            let text = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), meta.size);
            (StatusCode::PARTIAL_CONTENT, range, Some(text))
        }
        Span::Empty => (StatusCode::OK, ByteRange::whole(0), Some("bytes */0".to_owned())),
        Span::Beyond => return Err(Fault::beyond(meta.size, meta.commit)),
    };
    let body = match ask.is_head() || range.is_empty() {
        true => Body::empty(),
        false => open(range).await.map_err(|fault| fault.in_commit(meta.commit))?,
    };
    let mut answer = respond(status, meta, &quoted, content_range.as_deref(), body);
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(range.len()));
    Ok(answer)
}

/// A range is for GET, and holds only while the file is the one that `If-Range` names.
fn wanted_span(ask: &Ask, size: u64, quoted: &str) -> Span {
    let same_file = ask.header(header::IF_RANGE).is_none_or(|wanted| wanted.trim() == quoted);
    let range = ask.header(header::RANGE).filter(|_| same_file && !ask.is_head());
    span(range, size)
}

/// Whether an `If-None-Match` list holds the ETag; weak comparison, as for every GET.
fn matches_etag(wanted: &str, quoted: &str) -> bool {
    let same = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == quoted;
    wanted.split(',').any(|tag| same(tag.trim()))
}

fn respond(
    status: StatusCode,
    meta: &Meta<'_>,
    quoted: &str,
    content_range: Option<&str>,
    body: Body,
) -> Response {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let mut set = |name: HeaderName, text: &str| headers.insert(name, header_text(text));
    set(HeaderName::from_static("x-repo-commit"), &meta.commit.to_string());
    set(header::ETAG, quoted);
    set(header::ACCEPT_RANGES, "bytes");
    set(header::CONTENT_TYPE, content_type(meta.path.file_name()));
    if let Some(range) = content_range {
        set(header::CONTENT_RANGE, range);
    }
    if meta.linked {
        set(HeaderName::from_static("x-linked-etag"), quoted);
        set(HeaderName::from_static("x-linked-size"), &meta.size.to_string());
    }
    if let Some(Advert { hash, link }) = &meta.xet {
        set(HeaderName::from_static("x-xet-hash"), hash);
        set(header::LINK, link);
    }
    name_file(headers, meta.path.file_name());
    answer
}

/// Tells browsers and `curl -J` the file's name.
fn name_file(headers: &mut HeaderMap, name: &str) {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\".contains(c) { c } else { '_' }).collect();
    let text = format!("inline; filename*=UTF-8''{}; filename=\"{plain}\"", encode(name));
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
}

/// What people read in a browser is shown as text; nothing is ever served as a page or a script.
fn content_type(name: &str) -> &'static str {
    const TEXT: [&str; 22] = [
        "c",
        "cfg",
        "css",
        "csv",
        "gitattributes",
        "gitignore",
        "html",
        "ini",
        "jinja",
        "js",
        "json",
        "jsonl",
        "md",
        "py",
        "rs",
        "sh",
        "toml",
        "tsv",
        "txt",
        "xml",
        "yaml",
        "yml",
    ];
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match TEXT.contains(&extension) {
        true => "text/plain; charset=utf-8",
        false => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_match_as_browsers_send_them() {
        assert!(
            ["\"a\"", "W/\"a\"", "*", "\"b\", \"a\""].into_iter().all(|wanted| matches_etag(wanted, "\"a\""))
        );
        assert!(!matches_etag("\"b\"", "\"a\"") && !matches_etag("", "\"a\""));
    }

    #[test]
    fn a_part_of_a_pointer_is_cut_out() {
        let text = Bytes::from_static(b"version 1\n");
        assert_eq!(&slice(&text, ByteRange::new(0, 7))[..], b"version");
        assert_eq!(&slice(&text, ByteRange::new(8, u64::MAX))[..], b"1\n");
    }

    #[test]
    fn nothing_is_served_as_a_page() {
        assert_eq!(content_type("index.html"), "text/plain; charset=utf-8");
        assert_eq!(content_type(".gitattributes"), "text/plain; charset=utf-8");
        assert_eq!(content_type("model.safetensors"), "application/octet-stream");
    }

    #[test]
    fn odd_names_fit_a_header() {
        let mut headers = HeaderMap::new();
        name_file(&mut headers, "ä \"q\".txt");
        let text = "inline; filename*=UTF-8''%C3%A4%20%22q%22.txt; filename=\"___q_.txt\"";
        assert_eq!(headers[header::CONTENT_DISPOSITION], text);
    }
}
