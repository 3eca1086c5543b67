//! Answers and refusals, with the headers that Hub clients look for.
//!
//! **Invariant:** every refusal carries `X-Error-Code`, `X-Error-Message` and JSON `{"error":…}`. Without the
//! code, Python takes a missing file for a broken connection. No refusal tells a path on this machine.

use std::io;
use std::iter::once;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hubless_mirror::{ErrorKind, MirrorError, NotFound};
use hubless_types::{CommitId, RepoId};
use serde::Serialize;

/// Longest message in a header, in characters.
const MAX_HEADER_MESSAGE: usize = 500;
/// Seconds after which to ask again when nobody says better.
pub(crate) const RETRY_SECONDS: u64 = 5;
/// Longest time that a client is told to wait, in seconds. Clients give up after a few tries, so what a fetch takes is told as
/// it is; beyond an hour nobody can tell.
const MAX_RETRY_SECONDS: u64 = 3600;
/// Longest JSON that is written as a whole, in bytes; what is longer is written about so much at a time.
const PIECE: usize = 128 * 1024;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    status: StatusCode,
    code: &'static str,
    message: Box<str>,
    hint: Option<Box<str>>,
    commit: Option<CommitId>,
    extra: Option<Extra>,
    moved: Option<Box<RepoId>>,
}

/// One more header of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    /// The length of the file whose end was passed, in bytes.
    ContentRange(u64),
    /// Methods that are served.
    Allow(&'static str),
    /// Seconds.
    RetryAfter(u64),
}

impl Extra {
    fn header(self) -> (header::HeaderName, HeaderValue) {
        match self {
            Self::ContentRange(size) => (header::CONTENT_RANGE, header_text(&format!("bytes */{size}"))),
            Self::Allow(methods) => (header::ALLOW, HeaderValue::from_static(methods)),
            Self::RetryAfter(seconds) => (header::RETRY_AFTER, HeaderValue::from(seconds)),
        }
    }
}

/// The code of a gated repository: its status depends on whether a token came along.
const GATED_REPO: &str = "GatedRepo";
/// What clients compare, to the letter.
const DISABLED: &str = "Access to this resource is disabled.";
const BAD_TOKEN: &str = "Invalid credentials in Authorization header";
/// The code of a repository that nobody knows: its status depends on whether a token came along.
const REPO_NOT_FOUND: &str = "RepoNotFound";

impl Fault {
    /// A refusal with the given status, code and message.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Box<str>>) -> Self {
        Self { status, code, message: message.into(), hint: None, commit: None, extra: None, moved: None }
    }

    /// What was asked makes no sense.
    pub(crate) fn bad(message: impl Into<Box<str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Nobody knows the repository.
    pub(crate) fn no_repo(name: &str) -> Self {
        let shown: String = name.chars().take(100).collect();
        Self::new(
            StatusCode::UNAUTHORIZED,
            REPO_NOT_FOUND,
            format!("nobody reached knows the repository `{shown}`"),
        )
    }

    /// The repository has no such revision.
    pub(crate) fn no_revision(repo: &RepoId, revision: &str) -> Self {
        let shown: String = revision.chars().take(100).collect();
        let message = format!("nobody reached knows the revision `{shown}` of `{repo}`");
        Self::new(StatusCode::NOT_FOUND, "RevisionNotFound", message)
    }

    /// The repository goes by another name, as was just learnt.
    pub(crate) fn moved(to: RepoId) -> Self {
        let fault = Self::not_yet(&format!("the repository is called `{to}` now; ask again"));
        Self { moved: Some(Box::new(to)), ..fault }
    }

    /// The commit has no such file or folder.
    pub(crate) fn no_entry(repo: &RepoId, commit: CommitId, path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        let message = format!("`{shown}` is not in commit {commit} of `{repo}`");
        Self { commit: Some(commit), ..Self::new(StatusCode::NOT_FOUND, "EntryNotFound", message) }
    }

    /// The range begins past the end of a file of `size` bytes.
    pub(crate) fn beyond(size: u64, commit: CommitId) -> Self {
        let message = format!("the file has {size} bytes; the range begins past its end");
        let fault = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "RangeNotSatisfiable", message);
        Self { commit: Some(commit), extra: Some(Extra::ContentRange(size)), ..fault }
    }

    /// The answer could not begin in time.
    pub(crate) fn not_yet(message: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "NotYet", message).retry(RETRY_SECONDS)
    }

    /// A web page that is no part of this node asks for what is not for everyone.
    pub(crate) fn foreign_host(host: &str) -> Self {
        let message =
            format!("this is not for everyone, and `{host}` is not known to be a name of this node");
        let fault = Self::new(StatusCode::FORBIDDEN, "ForeignHost", message);
        let hint = "if it is one, as behind a proxy, list it in `[gateway] hosts`; else ask by address or `localhost`";
        Self { hint: Some(hint.into()), ..fault }
    }

    /// The method is not served at this address.
    pub(crate) fn method(allowed: &'static str) -> Self {
        let fault =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", format!("only {allowed} here"));
        Self { extra: Some(Extra::Allow(allowed)), ..fault }
    }

    /// A fault of this program.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "an internal fault; the node's log tells more",
        )
    }

    fn retry(self, seconds: u64) -> Self {
        Self { extra: Some(Extra::RetryAfter(seconds.clamp(1, MAX_RETRY_SECONDS))), ..self }
    }

    /// The same, naming the commit that was looked into.
    pub(crate) fn in_commit(self, commit: CommitId) -> Self {
        Self { commit: Some(commit), ..self }
    }

    /// The name by which to ask instead.
    pub(crate) fn moved_to(&self) -> Option<&RepoId> {
        self.moved.as_deref()
    }

    /// The status; `token` tells whether the request carried one.
    pub(crate) fn status(&self, token: bool) -> StatusCode {
        match self.code {
            REPO_NOT_FOUND if token => StatusCode::NOT_FOUND,
            GATED_REPO if token => StatusCode::FORBIDDEN,
            _ => self.status,
        }
    }

    /// Whether asking again brings the same.
    pub(crate) fn is_for_good(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
    }

    /// What it says, with what can be done about it.
    pub(crate) fn text(&self) -> String {
        self.hint
            .as_deref()
            .map_or_else(|| self.message.to_string(), |hint| format!("{} ({hint})", self.message))
    }

    /// The answer in another form than JSON, for clients that show no other: `body` of the type `content_type`.
    pub(crate) fn into_form(self, token: bool, content_type: &'static str, body: Vec<u8>) -> Response {
        let mut answer = self.into_response(token);
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        *answer.body_mut() = Body::from(body);
        answer
    }

    /// The answer; `token` tells whether the request carried one.
    pub(crate) fn into_response(self, token: bool) -> Response {
        let status = self.status(token);
        let mut answer = json(&Refusal { error: &self.message, hint: self.hint.as_deref() });
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert("x-error-code", HeaderValue::from_static(self.code));
        headers.insert("x-error-message", header_text(&self.message));
        if let Some(commit) = self.commit {
            headers.insert("x-repo-commit", header_text(&commit.to_string()));
        }
        if let Some((name, value)) = self.extra.map(Extra::header) {
            headers.insert(name, value);
        }
        answer
    }
}

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl From<MirrorError> for Fault {
    fn from(error: MirrorError) -> Self {
        let text = error.to_string();
        if error.spent().is_some() {
            // Which cap, until when, and how to raise it: the owner of the node asks, or somebody who asks the owner.
            let text = error.hint().map_or_else(|| text.clone(), |hint| format!("{text}; {hint}"));
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "MonthSpent", text).retry(MAX_RETRY_SECONDS);
        }
        let fault = match error.kind() {
            ErrorKind::NotFound(NotFound::Repo) => Self::new(StatusCode::UNAUTHORIZED, REPO_NOT_FOUND, text),
            ErrorKind::NotFound(NotFound::Revision) => {
                Self::new(StatusCode::NOT_FOUND, "RevisionNotFound", text)
            }
            ErrorKind::NotFound(NotFound::Entry) => Self::new(StatusCode::NOT_FOUND, "EntryNotFound", text),
            // To the client there is no such revision; the message says whom the operator might trust.
            ErrorKind::Untrusted => Self::new(StatusCode::NOT_FOUND, "RevisionNotFound", text),
            ErrorKind::Gated => Self::new(StatusCode::UNAUTHORIZED, GATED_REPO, text),
            ErrorKind::Disabled => Self::new(StatusCode::FORBIDDEN, "Disabled", DISABLED),
            ErrorKind::BadToken => Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", BAD_TOKEN),
            ErrorKind::BadInput => Self::new(StatusCode::BAD_REQUEST, "BadRequest", text),
            ErrorKind::Busy => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "NotYet", text).retry(wait_of(&error))
            }
            ErrorKind::Unavailable => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", text).retry(wait_of(&error))
            }
            ErrorKind::Integrity => Self::new(StatusCode::BAD_GATEWAY, "WrongContent", text),
            ErrorKind::DiskFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "DiskFull", text),
            ErrorKind::Disk => logged(&error, "this node's disk failed; its log tells more"),
            ErrorKind::Internal => logged(&error, "an internal fault; the node's log tells more"),
        };
        Self { hint: error.hint().filter(|_| !fault.status.is_server_error()).map(Into::into), ..fault }
    }
}

/// Seconds after which asking again makes sense.
fn wait_of(error: &MirrorError) -> u64 {
    error.retry_after().map_or(RETRY_SECONDS, |wait| wait.as_secs_f64().ceil() as u64)
}

fn logged(error: &MirrorError, shown: &str) -> Fault {
    tracing::error!(error = ?error, "a request failed");
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", shown)
}

/// `text` as a header's value: what cannot stand there becomes `?`, and long texts are cut.
pub(crate) fn header_text(text: &str) -> HeaderValue {
    let safe = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let text: String = text.chars().take(MAX_HEADER_MESSAGE).map(safe).collect();
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

/// What answers are.
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// Compact JSON with its length.
pub(crate) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_bytes(bytes),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    }
}

/// JSON that was written already.
pub(crate) fn json_bytes(bytes: Vec<u8>) -> Response {
    let len = HeaderValue::from(bytes.len());
    let mut answer = Response::new(Body::from(bytes));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(header::CONTENT_LENGTH, len);
    answer
}

/// JSON that is written as it is taken: many may ask for what is long, and take it slowly. What is short has its length.
pub(crate) fn json_parts(mut parts: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Response {
    let first = next_piece(&mut parts);
    if first.len() < PIECE {
        return json_bytes(first);
    }
    let rest = std::iter::from_fn(move || Some(next_piece(&mut parts))).take_while(|piece| !piece.is_empty());
    let pieces = once(first).chain(rest).map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
    let mut answer = Response::new(Body::from_stream(futures::stream::iter(pieces)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    answer
}

/// A list of what [`element`] writes, as [`json_parts`].
pub(crate) fn json_list(elements: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Response {
    json_parts(once(b"[".to_vec()).chain(elements).chain(once(b"]".to_vec())))
}

/// Parts that make up a piece; less than that is the end.
fn next_piece(parts: &mut impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut piece = Vec::new();
    while piece.len() < PIECE
        && let Some(part) = parts.next()
    {
        piece.extend_from_slice(&part);
    }
    piece
}

/// The element `n` of a list, with the comma before it.
pub(crate) fn element(n: usize, value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    if n > 0 {
        out.push(b',');
    }
    // Writing to memory what is numbers and text does not fail.
    let _ = serde_json::to_writer(&mut out, value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn long_json_is_written_as_it_is_taken() {
        for (len, has_length) in [(0, true), (1, true), (1000, true), (100_000, false)] {
            let mut answer = json_list((0..len).map(|n| element(n, &n)));
            assert_eq!(answer.headers().contains_key(header::CONTENT_LENGTH), has_length, "{len}");
            let mut whole = Vec::new();
            while let Some(frame) = answer.body_mut().frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() < PIECE + 10, "{len}");
                whole.extend_from_slice(&piece);
            }
            let read: Vec<usize> = serde_json::from_slice(&whole).unwrap();
            assert!(read.into_iter().eq(0..len), "{len}");
        }
    }

    #[test]
    fn an_unknown_repo_is_401_to_the_anonymous_and_404_to_others() {
        assert_eq!(Fault::no_repo("a/b").into_response(false).status(), 401);
        let answer = Fault::no_repo("a/b").into_response(true);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-error-code"]),
            (404, &HeaderValue::from_static("RepoNotFound"))
        );
    }

    #[test]
    fn a_message_fits_a_header() {
        let answer = Fault::no_repo("ä\r\nSet-Cookie: x").into_response(false);
        assert_eq!(
            answer.headers()["x-error-message"],
            "nobody reached knows the repository `???Set-Cookie: x`"
        );
        assert_eq!(header_text(&"x".repeat(9000)).len(), MAX_HEADER_MESSAGE);
    }

    #[test]
    fn a_disk_error_tells_no_path() {
        let error = MirrorError::Disk {
            action: "read",
            path: "/home/secret".into(),
            source: std::io::Error::other("x"),
        };
        let fault = Fault::from(error);
        assert!(!fault.message.contains("secret") && fault.status == 500);
    }

    #[test]
    fn busy_says_when_to_come_again() {
        let error = |millis| MirrorError::NotYet {
            path: "w.bin".parse().unwrap(),
            trouble: None,
            retry_after: std::time::Duration::from_millis(millis),
        };
        // Clients give up after a few tries: the wait is the whole of it, not a part.
        for (millis, header) in [(2500, "3"), (600_000, "600"), (9_000_000, "3600")] {
            let answer = Fault::from(error(millis)).into_response(false);
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["retry-after"]),
                (429, &HeaderValue::from_static(header))
            );
        }
    }
}
