//! ollama.
use crate::answer::{Fault, json};
use crate::app::{App, Ask};
use axum::response::Response;
use hubless_types::RepoId;
pub(crate) fn registry() -> Response {
    json(&serde_json::json!({}))
}
pub(crate) async fn manifest(_app: &App, _ask: &Ask, repo: &RepoId, _tag: &str) -> Response {
    Fault::no_repo(repo.name()).into_response(false)
}
pub(crate) async fn blob(_app: &App, _ask: &Ask, repo: &RepoId, _digest: &str) -> Response {
    Fault::no_repo(repo.name()).into_response(false)
}
