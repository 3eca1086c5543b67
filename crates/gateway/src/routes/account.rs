//! What clients ask about users. This node has none of its own: tokens are the origin's, which is asked.

use axum::http::StatusCode;
use axum::response::Response;
use hubless_types::RepoId;
use serde::Serialize;

use crate::answer::{Fault, json, json_bytes};
use crate::app::{App, Ask};
use crate::revision::commit_for;

/// `GET /api/whoami-v2`: whom the origin knows by the token; nobody without an origin.
pub(crate) async fn whoami(app: &App, ask: &Ask) -> Result<Response, Fault> {
    match app.mirror.whoami(&ask.caller()).await? {
        Some(said) => Ok(json_bytes(said.into())),
        None => Err(nobody(ask)),
    }
}

fn nobody(ask: &Ask) -> Fault {
    let message = if ask.has_token() {
        "Invalid credentials in Authorization header"
    } else {
        "Invalid username or password."
    };
    Fault::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Harnesses {
    standard_env_vars: [(); 0],
    harnesses: serde_json::Map<String, serde_json::Value>,
}

/// `GET /api/agent-harnesses`: none.
pub(crate) fn harnesses() -> Response {
    json(&Harnesses { standard_env_vars: [], harnesses: serde_json::Map::new() })
}

/// `GET …/auth-check`: whether the repository can be read.
pub(crate) async fn auth_check(app: &App, ask: &Ask, repo: &RepoId) -> Result<Response, Fault> {
    if !app.mirror.knows(repo)? {
        commit_for(app, ask, repo, "main").await?;
    }
    app.mirror.may_read(&ask.caller(), repo).await?;
    Ok(json(&serde_json::Map::new()))
}
