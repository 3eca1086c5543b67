//! Names that went astray: moves to commits that do not descend from the former ones.

use hubless_store::Move;
use hubless_types::{CommitId, RepoId, Revision, Timestamp};

use super::Fork;
use super::descent::{Descent, descent};
use crate::mirror::Inner;
use crate::{Mirror, MirrorError};

/// How long a fork is shown with every answer, in seconds; one that led to the present commit is always shown.
const SHOWN_FOR_SECS: u64 = 7 * 24 * 3600;

impl Mirror {
    /// The newest fork of a name that is still to be shown, as far as the commits that are held by now tell. Blocks a
    /// little.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn fork_of(
        &self,
        repo: &RepoId,
        revision: &Revision,
        commit: CommitId,
    ) -> Result<Option<Fork>, MirrorError> {
        self.inner.fork_of(repo, revision, commit, self.inner.clock.now())
    }
}

impl Inner {
    /// The newest fork of a name that is still to be shown. Judged anew each time: commits that were not held when
    /// the name moved may be by now. Blocks a little.
    pub(crate) fn fork_of(
        &self,
        repo: &RepoId,
        revision: &Revision,
        commit: CommitId,
        now: Timestamp,
    ) -> Result<Option<Fork>, MirrorError> {
        for moved in self.store.catalogue().moves(repo, revision)?.iter().rev() {
            let shown = moved.to == commit || moved.seen.plus(SHOWN_FOR_SECS) >= now;
            if shown && let Descent::Fork(kind) = self.descent_of(moved)? {
                return Ok(Some(Fork { from: moved.from, to: moved.to, seen: moved.seen, kind }));
            }
        }
        Ok(None)
    }

    /// What the commits that are held tell of a move.
    pub(crate) fn descent_of(&self, moved: &Move) -> Result<Descent, MirrorError> {
        let catalogue = self.store.catalogue();
        let parents = |commit| {
            let head = catalogue.manifest_head(commit)?;
            Ok::<_, MirrorError>(head.map(|head| head.info.parents))
        };
        descent(moved.from, moved.to, parents)
    }
}
