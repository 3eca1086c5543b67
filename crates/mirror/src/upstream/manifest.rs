//! A commit's manifest from an origin.

use hubless_origin::OriginError;
use hubless_proof::Bundle;
use hubless_types::{CommitId, Manifest, RepoId};

use super::ask::{ask, more_telling, try_next};
use crate::mirror::Inner;
use crate::util::blocking;
use crate::{Caller, MirrorError};

/// A manifest that was proven, as it came from an origin.
pub(crate) struct Upstream {
    pub(crate) manifest: Manifest,
    pub(crate) bundle: Vec<u8>,
    /// The origin's address.
    pub(crate) from: String,
    /// Whether it was given to a token alone.
    pub(crate) by_token: bool,
}

impl Inner {
    /// The manifest of `commit` from the first origin whose git objects hash up to it.
    ///
    /// # Errors
    /// [`MirrorError::CommitNotFound`] without an origin; [`MirrorError::Proof`] if what came proves nothing;
    /// [`MirrorError::Origin`] with the refusal that tells the most.
    pub(crate) async fn manifest_by_origin(
        &self,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
    ) -> Result<Upstream, MirrorError> {
        let closed = !self.access(repo)?.is_open();
        let (mut refused, mut wrong): (Option<OriginError>, _) = (None, None);
        let home = self.home(repo)?;
        for (place, origin) in self.origins.iter().enumerate() {
            let token = caller.token.as_ref().filter(|_| place == home);
            let question = |token| async move { origin.bundle(repo, commit, token_of(&token)).await };
            match ask(token, closed, question).await {
                Ok(got) => match check(commit, got.value).await {
                    Ok((manifest, bundle)) => {
                        let from = origin.name().to_owned();
                        return Ok(Upstream { manifest, bundle, from, by_token: got.by_token });
                    }
                    Err(error) => {
                        self.lies.note(origin.name(), format!("the manifest of {commit} proves nothing"));
                        wrong = Some(error);
                    }
                },
                Err(error) => {
                    tracing::debug!(origin = origin.name(), %commit, %error, "an origin did not send a manifest");
                    let go_on = try_next(&error);
                    refused = Some(more_telling(refused, error));
                    if !go_on {
                        break;
                    }
                }
            }
        }
        Err(wrong
            .or_else(|| refused.map(MirrorError::Origin))
            .unwrap_or(MirrorError::CommitNotFound { commit }))
    }
}

const fn token_of(token: &Option<hubless_types::Token>) -> Option<&hubless_types::Token> {
    token.as_ref()
}

async fn check(commit: CommitId, bundle: Bundle) -> Result<(Manifest, Vec<u8>), MirrorError> {
    blocking(move || {
        let what = || format!("the manifest of {commit} from an origin");
        let manifest = bundle.check(commit).map_err(|source| MirrorError::Proof { what: what(), source })?;
        Ok((manifest, bundle.encode()))
    })
    .await
}
