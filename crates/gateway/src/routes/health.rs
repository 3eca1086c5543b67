//! `/healthz`, and a word for people who open `/` in a browser.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hubless_types::NodeId;
use serde::Serialize;

use crate::answer::json;
use crate::app::App;

#[derive(Serialize)]
struct Health<'a> {
    ok: bool,
    node: NodeId,
    version: &'a str,
    peers: usize,
}

/// Whether this node serves, who it is and how many nodes it reaches.
pub(crate) fn health(app: &App) -> Response {
    let (node, peers) = (app.mirror.node(), app.mirror.peers().len());
    json(&Health { ok: true, node, version: &app.config.version, peers })
}

/// What this is.
pub(crate) fn root() -> Response {
    let text = "This is a Hubless node: point HF_ENDPOINT here. Its state: /healthz\n";
    let mut answer = Response::new(Body::from(text));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    answer
}
