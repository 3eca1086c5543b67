//! Former names of repositories: kept when an origin tells them, and asked about again while they are used, since anybody
//! may make another repository by a name that was left behind.
//!
//! **Invariant:** what a former name stands for is the word of the origin that the repository is known from; while that
//! says nothing of the name, it stays.
//! **Not here:** following names, and other spellings of them (`store`).

use std::sync::Arc;
use std::time::Duration;

use hubless_types::{RepoId, Revision};

use crate::mirror::Inner;
use crate::util::locked;
use crate::{Mirror, MirrorError};

/// How long what a former name stands for is taken as it is; whoever uses the name later has it asked about behind the
/// answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(24 * 3600);

impl Mirror {
    /// The name by which `repo` is kept, if it is another: it was renamed, or is known in another case. A name that was not
    /// asked about for a day is, in the background. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`MirrorError::Store`] if the catalogue cannot be read.
    pub fn canonical(&self, repo: &RepoId) -> Result<Option<RepoId>, MirrorError> {
        let canonical = self.inner.store.catalogue().canonical(repo)?;
        if let Some(now) = &canonical {
            self.inner.ask_of_former(repo, now);
        }
        Ok(canonical)
    }
}

impl Inner {
    /// Has the origin asked, if that is due, whether `former` still stands for `now`. Where too many are asked about, the
    /// next one who uses the name tries again.
    pub(crate) fn ask_of_former(self: &Arc<Self>, former: &RepoId, now: &RepoId) {
        let is_due = || locked(&self.exchanged).renames.is_due(former, ASK_AGAIN_AFTER);
        if self.origins.is_empty() || is_respelt(former, now) || !is_due() {
            return;
        }
        let Ok(turn) = Arc::clone(&self.exchanges).try_acquire_owned() else { return };
        locked(&self.exchanged).renames.note(former);
        let (inner, former, cancel) = (Arc::clone(self), former.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            let _turn = turn;
            let asked = async {
                let (home, main) = (inner.home(&former)?, Revision::main());
                inner.ask_origin(home, &former, &main, None, inner.config.answer_within).await
            };
            match cancel.run_until_cancelled(asked).await {
                Some(Ok(Err(error))) => {
                    tracing::debug!(repo = %former, %error, "an origin does not say what a former name is");
                }
                Some(Err(error)) => {
                    tracing::warn!(repo = %former, %error, "a former name cannot be asked about")
                }
                None | Some(Ok(Ok(_))) => {}
            }
        });
    }

    /// An origin calls a repository `repo`: that is no former name, or is another's now. Blocks.
    pub(super) fn end_rename(&self, repo: &RepoId) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        if let Some(other) = catalogue.canonical(repo)? {
            tracing::info!(%repo, %other, "a former name is that of another repository now");
            catalogue.end_rename(repo, &other)?;
            locked(&self.memory).forget(repo);
        }
        Ok(())
    }

    /// An origin calls `repo` what it was asked for as `asked`, and what it says of that is kept. Blocks; call it inside a
    /// tokio runtime.
    pub(super) fn keep_rename(&self, asked: &RepoId, repo: &RepoId) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        if asked == repo || catalogue.canonical(asked)?.as_ref() == Some(repo) {
            return Ok(());
        }
        tracing::info!(%repo, former = %asked, "a repository was renamed");
        // It is said of what came by the former name as well: peers lose that, or get it back.
        self.put_facts(asked, catalogue.facts(repo)?.unwrap_or_default())?;
        catalogue.rename(asked, repo)?;
        locked(&self.exchanged).renames.note(asked);
        locked(&self.memory).forget(asked);
        Ok(())
    }
}

/// Whether two names differ in case alone.
fn is_respelt(a: &RepoId, b: &RepoId) -> bool {
    a.kind() == b.kind() && a.name().eq_ignore_ascii_case(b.name())
}
