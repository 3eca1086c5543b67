//! Reading the config again: what it changed, and what waits for a restart. The node does the reading.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Response;
use hubless_mirror::ErrorKind;
use serde::Serialize;

use super::requests::Nothing;
use super::{BadBody, parse, refusal};
use crate::answer::{Fault, json};

/// What a config that was read again changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// The file; none if there is none, so that every key is at its default.
    pub config: Option<String>,
    /// Keys that are others now, and hold.
    pub changed: Vec<&'static str>,
    /// Keys that are others now, and hold when the node is started again.
    pub needs_restart: Vec<&'static str>,
}

/// Why a config was not taken; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadRefused {
    /// What is wrong with it.
    pub error: String,
    /// What can be done.
    pub hint: Option<String>,
}

/// Reads the config again.
pub trait Reload: Send + Sync + 'static {
    /// Reads it, whole and checked, and only then takes over what can change while the node runs. Blocks.
    ///
    /// # Errors
    /// [`ReloadRefused`], and nothing has changed.
    fn reload(&self) -> Result<Reloaded, ReloadRefused>;
}

/// `/v1/reload`
pub(super) async fn again(
    Extension(reload): Extension<Option<Arc<dyn Reload>>>,
    body: Bytes,
) -> Result<Response, BadBody> {
    let Nothing {} = parse(&body)?;
    let Some(reload) = reload else {
        let error = "this node has no config to read again";
        return Ok(refusal(StatusCode::NOT_FOUND, error, None, ErrorKind::BadInput));
    };
    Ok(match tokio::task::spawn_blocking(move || reload.reload()).await {
        Ok(Ok(done)) => json(&done),
        Ok(Err(refused)) => {
            let ReloadRefused { error, hint } = refused;
            refusal(StatusCode::BAD_REQUEST, &error, hint.as_deref(), ErrorKind::BadInput)
        }
        Err(_panic) => Fault::internal().into_response(false),
    })
}
