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
    /// added by reference stay where they are in any case. A former name stands for nothing else any more: the origin says
    /// what it is when it is asked for next.
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
        // What came before it was renamed may be under the former name still.
        let mut names = vec![&repo];
        names.extend((*asked != repo).then_some(asked));
        let (mut commits, mut known) = (0, false);
        for name in &names {
            self.keep_from_peers(name)?;
            for commit in catalogue.commits_of(name)? {
                if catalogue.repos_of(commit)? == [(*name).clone()] {
                    catalogue.remove_manifest(commit)?;
                    commits += 1;
                }
            }
            known |= catalogue.forget_repo(name)?;
            locked(&self.shown).forget(name);
        }
        known |= catalogue.forget_rename(asked)?;
        names.iter().for_each(|name| locked(&self.memory).forget(name));
        if !known && commits == 0 {
            return Err(MirrorError::NotHere { repo });
        }
        Ok(ForgetReport { repo, commits })
    }
}
