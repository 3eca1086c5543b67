//! One file a route family of the Hub-compatible endpoint.

pub(crate) mod account;
pub(crate) mod commits;
pub(crate) mod entry;
pub(crate) mod file;
pub(crate) mod git;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod lfs;
pub(crate) mod list;
pub(crate) mod moved;
pub(crate) mod ollama;
pub(crate) mod paths_info;
pub(crate) mod quant;
pub(crate) mod refs;
pub(crate) mod summary;
pub(crate) mod tree;
pub(crate) mod xet;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use hubless_mirror::MirrorError;
use hubless_types::{CommitId, CommitInfo, Manifest, RepoId, Timestamp};

use crate::address::Door;
use crate::answer::Fault;
use crate::app::{App, Ask};
use crate::revision::commit_for;

/// Longest title of a commit that is told, in bytes: listings tell it with each file.
const MAX_TITLE_BYTES: usize = 1024;

/// Answers what is asked through another door than the Hub's.
///
/// # Errors
/// A [`Fault`], from the doors whose clients read the Hub's form of it; the others are refused in their own.
pub(crate) async fn door(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    door: Door,
    body: Body,
) -> Result<Response, Fault> {
    match door {
        Door::GitRefs | Door::GitUploadPack | Door::GitReceivePack => {
            git::git(app, ask, repo, &door, body).await
        }
        Door::LfsBatch => Ok(lfs::batch(app, ask, repo, body).await),
        Door::OllamaManifest(tag) => Ok(ollama::manifest(app, ask, repo, &tag).await),
        Door::OllamaBlob(digest) => Ok(ollama::blob(app, ask, repo, &digest).await),
        Door::XetToken(tail) => xet::token(app, ask, repo, &tail).await,
        Door::XetReconstruction(commit, version, hash) => {
            xet::reconstruction(app, ask, repo, commit, version, hash).await
        }
        Door::XetXorb(commit, hash, number) => xet::xorb(app, ask, repo, commit, hash, number).await,
    }
}

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
    let at_hand = app.mirror.is_at_hand(commit);
    match app.mirror.manifest(&ask.caller(), Some(repo), commit).await {
        Ok(manifest) => {
            if !at_hand {
                ask.judge_again(&app.mirror)?;
            }
            ask.show(app.mirror.is_for_everyone(repo, commit, None)?)?;
            Ok(manifest)
        }
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

/// The first line of a commit's message, cut.
pub(crate) fn title(info: &CommitInfo) -> &str {
    let title = info.title();
    &title[..title.floor_char_boundary(MAX_TITLE_BYTES)]
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
    fn a_title_is_cut_between_characters() {
        let of = |message: &str| CommitInfo {
            tree: hubless_types::TreeId::from_bytes([0; 20]),
            parents: vec![],
            author: "A <a@example.org>".into(),
            time: Timestamp(0),
            message: message.into(),
        };
        assert_eq!(title(&of("short\n\nrest")), "short");
        assert_eq!(title(&of(&"\u{20ac}".repeat(MAX_TITLE_BYTES))), "\u{20ac}".repeat(MAX_TITLE_BYTES / 3));
    }

    #[test]
    fn dates_as_clients_parse_them() {
        assert_eq!(date(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(Timestamp(1_700_000_000)), "2023-11-14T22:13:20.000Z");
        assert!(date(Timestamp(u64::MAX)).starts_with("9999-12-3"));
    }
}
