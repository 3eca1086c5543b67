//! The admin API: HTTP/1.1 and JSON over a Unix socket that only its owner may open.
//!
//! **Invariant:** a request that is given up ends the waiting for it; fetches that others share go on.
//! **Not here:** who may use it (the socket's permission), what commands print (`node`).

mod reload;
mod requests;
mod stream;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::FutureExt;
use hubless_mirror::{AddRequest, Caller, ErrorKind, LimitsRequest, ListRequest, Mirror, MirrorError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::json;
pub use reload::{Reload, ReloadRefused, Reloaded};
use requests::{Adopt, Forget, Gc, Named, Nothing, Pull, Traced};

/// Longest request body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The admin API as one service; `reload` reads the config again, where there is one.
pub fn admin_router(mirror: Mirror, reload: Option<Arc<dyn Reload>>) -> Router {
    Router::new()
        .route("/v1/add", post(add))
        .route("/v1/adopt", post(adopt))
        .route("/v1/pull", post(pull))
        .route("/v1/pin", post(pin))
        .route("/v1/unpin", post(unpin))
        .route("/v1/forget", post(forget))
        .route("/v1/verify", post(verify))
        .route("/v1/gc", post(gc))
        .route("/v1/names", post(names))
        .route("/v1/prove", post(prove))
        .route("/v1/trace", post(trace))
        .route("/v1/list", post(list))
        .route("/v1/status", get(status))
        .route("/v1/peers", get(peers))
        .route("/v1/limits", get(limits).post(set_limits))
        .route("/v1/reload", post(reload::again))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(Extension(reload))
        .with_state(mirror)
}

async fn unknown() -> Response {
    refusal(
        StatusCode::NOT_FOUND,
        "no such command",
        Some("the node may be older than the program"),
        ErrorKind::BadInput,
    )
}

async fn add(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let request: AddRequest = parse(&body)?;
    Ok(stream::run(|sink| async move { mirror.add(request, sink).await }))
}

async fn adopt(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let request = parse::<Adopt>(&body)?.into();
    Ok(stream::run(|sink| async move { mirror.adopt(request, sink).await }))
}

async fn pull(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let request = parse::<Pull>(&body)?.into();
    Ok(stream::run(|sink| async move { mirror.pull(request, sink).await }))
}

async fn verify(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let Nothing {} = parse(&body)?;
    Ok(stream::run(|sink| async move { mirror.verify(sink).await }))
}

async fn pin(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let Named { repo, revision, accept_from } = parse(&body)?;
    Ok(once(async { mirror.pin(&repo, &revision, &Caller::taking(accept_from)).await }).await)
}

async fn unpin(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let Named { repo, revision, .. } = parse(&body)?;
    let done = blocking(move || mirror.unpin(&repo, &revision).map(|()| serde_json::Map::new()));
    Ok(once(done).await)
}

async fn forget(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let Forget { repo } = parse(&body)?;
    Ok(once(async { mirror.forget(&repo).await }).await)
}

async fn names(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let Named { repo, accept_from, .. } = parse(&body)?;
    Ok(once(async { mirror.names(&repo, &Caller::taking(accept_from)).await }).await)
}

async fn trace(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let Traced { target, accept_from } = parse(&body)?;
    Ok(once(async { mirror.trace(target, &Caller::taking(accept_from)).await }).await)
}

/// The one answer that is no JSON: an encoded proof file.
async fn prove(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let Named { repo, revision, accept_from } = parse(&body)?;
    let caller = Caller::taking(accept_from);
    Ok(match AssertUnwindSafe(mirror.prove(&repo, &revision, &caller)).catch_unwind().await {
        Ok(Ok(file)) => ([(header::CONTENT_TYPE, "application/octet-stream")], file).into_response(),
        Ok(Err(error)) => refuse(&error),
        Err(_panic) => refuse(&MirrorError::Internal("it panicked; the log tells more".into())),
    })
}

async fn gc(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let Gc { dry_run } = parse(&body)?;
    Ok(once(async { mirror.gc(dry_run).await }).await)
}

async fn list(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let request: ListRequest = parse(&body)?;
    Ok(once(blocking(move || mirror.list(&request))).await)
}

async fn status(State(mirror): State<Mirror>) -> Response {
    once(blocking(move || mirror.status())).await
}

async fn limits(State(mirror): State<Mirror>) -> Response {
    once(blocking(move || Ok(mirror.limits()))).await
}

async fn set_limits(State(mirror): State<Mirror>, body: Bytes) -> Result<Response, BadBody> {
    let request: LimitsRequest = parse(&body)?;
    Ok(once(blocking(move || Ok(mirror.set_limits(&request)))).await)
}

async fn peers(State(mirror): State<Mirror>) -> Response {
    once(blocking(move || Ok(mirror.peers()))).await
}

/// Runs what reads the catalogue where it keeps no connection waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MirrorError> + Send + 'static,
) -> Result<T, MirrorError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(MirrorError::Internal(error.to_string())))
}

/// A request's body. An empty one stands for `{}`.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BadBody> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| BadBody(error.to_string()))
}

/// What is wrong with a request's body.
struct BadBody(String);

impl IntoResponse for BadBody {
    fn into_response(self) -> Response {
        let hint = "the program may be of another version than the node";
        refusal(StatusCode::BAD_REQUEST, &format!("bad request: {}", self.0), Some(hint), ErrorKind::BadInput)
    }
}

/// Answers with one JSON value.
async fn once<T: Serialize>(work: impl Future<Output = Result<T, MirrorError>>) -> Response {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(value)) => json(&value),
        Ok(Err(error)) => refuse(&error),
        Err(_panic) => refuse(&MirrorError::Internal("it panicked; the log tells more".into())),
    }
}

fn refuse(error: &MirrorError) -> Response {
    let status = match error.kind() {
        ErrorKind::BadInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound(_) => StatusCode::NOT_FOUND,
        ErrorKind::Untrusted => StatusCode::CONFLICT,
        ErrorKind::Gated | ErrorKind::Disabled | ErrorKind::BadToken => StatusCode::FORBIDDEN,
        ErrorKind::Busy => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Integrity => StatusCode::BAD_GATEWAY,
        ErrorKind::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Disk | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refusal(status, &message(error), error.hint().as_deref(), error.kind())
}

fn refusal(status: StatusCode, error: &str, hint: Option<&str>, kind: ErrorKind) -> Response {
    let mut answer = json(&serde_json::json!({ "error": error, "hint": hint, "kind": kind }));
    *answer.status_mut() = status;
    answer
}

/// An error with its causes: whoever may ask here may know.
fn message(error: &MirrorError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text.push_str(&format!(": {more}"));
        }
        cause = source.source();
    }
    text
}
