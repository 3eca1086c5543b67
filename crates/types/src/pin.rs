//! A pin: what stays here until someone lets it go.

use crate::{CommitId, RepoId, Revision, Timestamp};

/// Keeps one commit of a repository, and every file in it, from being collected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Pin {
    /// The repository.
    pub repo: RepoId,
    /// What was asked for; the pin stays on [`Pin::commit`] when it moves.
    pub revision: Revision,
    /// What is kept.
    pub commit: CommitId,
    /// Since when.
    pub since: Timestamp,
}
