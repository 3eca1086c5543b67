//! What an origin says.

use std::time::Duration;

use hubless_types::{CommitId, RepoFacts, RepoId};

/// What a name means at an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The repository by the name that the origin now uses: it may have been renamed, or be spelled otherwise.
    pub repo: RepoId,
    /// Where the revision points.
    pub commit: CommitId,
    /// What is said of the repository.
    pub facts: RepoFacts,
}

/// One ref at an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRef {
    /// The full name, such as `refs/heads/main`.
    pub name: String,
    /// Where it points; annotated tags are peeled.
    pub commit: CommitId,
}

/// Whether an origin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// It is.
    Closed,
    /// It failed too often and is left alone for a while.
    Open,
    /// One request is tried.
    HalfOpen,
}

/// How an origin is doing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OriginStatus {
    /// Its address.
    pub name: String,
    /// Whether it is asked.
    pub breaker: Breaker,
    /// In a few words, how it failed last, where it is left alone.
    pub trouble: Option<String>,
    /// How long until it is asked again, where it is not asked now.
    pub wait: Option<Duration>,
    /// Requests that its budget still allows, where it tells.
    pub budget: Option<u64>,
    /// Requests made since the start.
    pub requests: u64,
    /// Requests that failed since the start.
    pub failures: u64,
    /// Bytes of bodies received since the start.
    pub bytes: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}
