//! One file a route family of the Hub-compatible endpoint.

pub(crate) mod account;
pub(crate) mod commits;
pub(crate) mod entry;
pub(crate) mod file;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod paths_info;
pub(crate) mod refs;
pub(crate) mod tree;

use std::sync::Arc;

use hubless_mirror::MirrorError;
use hubless_types::{CommitId, Manifest, RepoId, Timestamp};

use crate::answer::Fault;
use crate::app::{App, Ask};
use crate::revision::commit_for;

/// Finds the commit that `revision` means and its files.
///
/// # Errors
/// A [`Fault`] that says what is not known.
pub(crate) async fn manifest_at(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    revision: &str,
) -> Result<Arc<Manifest>, Fault> {
    let commit = commit_for(app, ask, repo, revision).await?;
    manifest_of(app, ask, repo, commit).await
}

/// The files of `commit`.
///
/// # Errors
/// A [`Fault`] that says what is not known.
pub(crate) async fn manifest_of(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    commit: CommitId,
) -> Result<Arc<Manifest>, Fault> {
    match app.mirror.manifest(&ask.caller(), Some(repo), commit).await {
        Ok(manifest) => Ok(manifest),
        // Without a network, what is not here is not known.
        Err(MirrorError::Offline { .. } | MirrorError::CommitNotFound { .. }) => {
            let known = app.mirror.knows(repo).unwrap_or(false);
            Err(if known {
                Fault::no_revision(repo, &commit.to_string())
            } else {
                Fault::no_repo(&repo.to_string())
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// A moment as the Hub writes it: `2024-01-31T12:00:00.000Z`.
pub(crate) fn date(time: Timestamp) -> String {
    let seconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    moment.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_clients_parse_them() {
        assert_eq!(date(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(Timestamp(1_700_000_000)), "2023-11-14T22:13:20.000Z");
        assert!(date(Timestamp(u64::MAX)).starts_with("9999-12-3"));
    }
}
