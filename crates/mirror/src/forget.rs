//! Takes a repository off this node.
//!
//! **Invariant:** others lose it first, then its manifests go, then its name: a node killed in between still lists it,
//! and forgetting it again does the rest.
//! **Not here:** freeing its bytes (`gc`): they may be another repository's too.

use std::sync::{Arc, PoisonError};

use hubless_types::RepoId;

use crate::mirror::Inner;
use crate::util::{blocking, locked};
use crate::{ForgetReport, Mirror, MirrorError};

impl Mirror {
    /// Forgets a repository: its names, pins and statements, and the commits that no other repository here lists.
    /// Others are no longer told of it, nor given what only it has. Its files stay until [`Mirror::gc`]; those that were
    /// added by reference stay where they are in any case.
    ///
    /// What other nodes know of it already is theirs.
    ///
    /// # Errors
    /// [`MirrorError::NotHere`] if nothing is known of it; those of the catalogue.
    pub async fn forget(&self, repo: &RepoId) -> Result<ForgetReport, MirrorError> {
        let (inner, repo) = (Arc::clone(&self.inner), repo.clone());
        blocking(move || inner.forget(&repo)).await
    }
}

impl Inner {
    /// Blocks; call it inside a tokio runtime.
    fn forget(&self, asked: &RepoId) -> Result<ForgetReport, MirrorError> {
        // Nothing is added meanwhile.
        let _shut = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let catalogue = self.store.catalogue();
        let repo = catalogue.canonical(asked)?.unwrap_or_else(|| asked.clone());
        self.keep_from_peers(&repo)?;
        let mut commits = 0;
        for commit in catalogue.commits_of(&repo)? {
            if catalogue.repos_of(commit)? == [repo.clone()] {
                catalogue.remove_manifest(commit)?;
                commits += 1;
            }
        }
        let known = catalogue.forget_repo(&repo)?;
        locked(&self.memory).forget(&repo);
        locked(&self.shown).forget(&repo);
        if !known && commits == 0 {
            return Err(MirrorError::NotHere { repo });
        }
        Ok(ForgetReport { repo, commits })
    }
}
