//! Answers and refusals, in the Hub's words.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use serde_json::{Value, json};

use super::body::Body;

/// What a handler returns: an answer either way.
pub(crate) type Handled = Result<Response<Body>, Refused>;

/// A refusal as the Hub words it.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: String,
    /// `X-Repo-Commit`, where the commit is known.
    pub(crate) commit: Option<String>,
}

impl Refused {
    pub(crate) fn new(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), commit: None }
    }

    pub(crate) fn repo_not_found(with_token: bool) -> Self {
        // The Hub does not tell strangers what is there.
        let (status, message) =
            if with_token { (404, "Repository not found") } else { (401, "Invalid username or password.") };
        Self::new(status, Some("RepoNotFound"), message)
    }

    pub(crate) fn revision_not_found(rev: &str) -> Self {
        Self::new(404, Some("RevisionNotFound"), format!("Invalid rev id: {rev}"))
    }

    pub(crate) fn entry_not_found(commit: &str) -> Self {
        let refused = Self::new(404, Some("EntryNotFound"), "Entry not found");
        Self { commit: Some(commit.to_owned()), ..refused }
    }

    pub(crate) fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, None, why)
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = json_with(self.status, &json!({ "error": self.message }));
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        };
        put("x-error-message", &self.message);
        if let Some(code) = self.code {
            put("x-error-code", code);
        }
        if let Some(commit) = &self.commit {
            put("x-repo-commit", commit);
        }
        response
    }
}

/// What git or the disk could not do is this hub's own fault.
impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::new(500, None, format!("{error:#}").replace('\n', " "))
    }
}

pub(crate) fn whole(status: u16, kind: &str, bytes: impl Into<Bytes>) -> Response<Body> {
    let bytes = bytes.into();
    let length = HeaderValue::from(bytes.len());
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_LENGTH, length);
    if let Ok(kind) = HeaderValue::from_str(kind) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

pub(crate) fn json_with(status: u16, value: &Value) -> Response<Body> {
    whole(status, "application/json; charset=utf-8", value.to_string())
}

pub(crate) fn json_ok(value: &Value) -> Response<Body> {
    json_with(200, value)
}

/// A redirect.
pub(crate) fn redirect(status: u16, to: &str) -> Response<Body> {
    let mut response = whole(status, "text/plain; charset=utf-8", format!("Redirecting to {to}"));
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// Sets a header whose name is in lower case.
pub(crate) fn set(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
