//! What the admin API is asked, as JSON.

use std::path::PathBuf;

use hubless_mirror::{Accept, AdoptRequest, PullRequest, PullTo, TraceTarget};
use hubless_types::{NodeId, RepoId, Revision};
use serde::Deserialize;

/// `/v1/adopt`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Adopt {
    cache: PathBuf,
    #[serde(default)]
    repo: Option<RepoId>,
    #[serde(default)]
    share: bool,
}

impl From<Adopt> for AdoptRequest {
    fn from(asked: Adopt) -> Self {
        Self { cache: asked.cache, only: asked.repo, share: asked.share }
    }
}

/// `/v1/pull`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pull {
    repo: RepoId,
    #[serde(default = "Revision::main")]
    revision: Revision,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default = "to_store")]
    to: PullTo,
    #[serde(default)]
    accept_from: Vec<NodeId>,
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    pin: bool,
}

const fn to_store() -> PullTo {
    PullTo::Store
}

impl From<Pull> for PullRequest {
    fn from(asked: Pull) -> Self {
        let Pull { repo, revision, include, exclude, to, accept_from, overwrite, pin } = asked;
        let accept = Accept { from: accept_from };
        Self { repo, revision, include, exclude, to, accept, overwrite, pin, token: None }
    }
}

/// `/v1/pin`, `/v1/unpin`, `/v1/names` and `/v1/prove`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) repo: RepoId,
    #[serde(default = "Revision::main")]
    pub(super) revision: Revision,
    #[serde(default)]
    pub(super) accept_from: Vec<NodeId>,
}

/// `/v1/forget`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forget {
    pub(super) repo: RepoId,
}

/// `/v1/trace`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Traced {
    pub(super) target: TraceTarget,
    #[serde(default)]
    pub(super) accept_from: Vec<NodeId>,
}

/// `/v1/gc`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gc {
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// `/v1/verify`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_needs_only_a_name() {
        let pull: Pull = serde_json::from_str(r#"{"repo":"a/b"}"#).unwrap();
        assert_eq!(PullRequest::from(pull), PullRequest::all("a/b".parse().unwrap(), Revision::main()));
        let pull: Pull = serde_json::from_str(r#"{"repo":"a/b","to":{"dir":"/x"},"pin":true}"#).unwrap();
        assert_eq!((pull.to, pull.pin), (PullTo::Dir("/x".into()), true));
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = serde_json::from_str::<Pull>(r#"{"repo":"a/b","revison":"x"}"#).unwrap_err();
        assert!(error.to_string().contains("revison"));
    }
}
