//! Bodies of requests: read whole, within a length and a time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::answer::Fault;

/// Reads a body of at most `limit` bytes that comes within `patience`.
///
/// # Errors
/// A [`Fault`] with 413, 400 or 408.
pub(crate) async fn read(body: Body, limit: usize, patience: Duration) -> Result<Bytes, Fault> {
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(bad("the body ended early")),
        Err(_) => Err(Fault::new(StatusCode::REQUEST_TIMEOUT, "Timeout", "the body did not come in time")),
    }
}

/// The body is longer than `limit` bytes.
pub(crate) fn too_large(limit: usize) -> Fault {
    let text = format!("the body is longer than {limit} bytes");
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", text)
}

/// The request is none that can be answered.
pub(crate) fn bad(why: impl Into<Box<str>>) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, "BadRequest", why)
}
