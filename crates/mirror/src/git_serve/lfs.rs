//! Finds where LFS objects lie: their clients name them by digest alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hubless_types::{CommitId, RepoId, RepoPath, Sha256};

use crate::util::blocking;
use crate::{Mirror, MirrorError};

impl Mirror {
    /// For each of `wanted` that a commit of `repo` here names: the commit, the file and its length in bytes.
    pub async fn lfs_places(
        &self,
        repo: &RepoId,
        wanted: Vec<Sha256>,
    ) -> Result<HashMap<Sha256, (CommitId, RepoPath, u64)>, MirrorError> {
        let (inner, repo) = (Arc::clone(&self.inner), repo.clone());
        blocking(move || {
            let mut wanted: HashSet<Sha256> = wanted.into_iter().collect();
            let mut places = HashMap::with_capacity(wanted.len());
            for commit in inner.newest_first(&repo)? {
                if wanted.is_empty() {
                    break;
                }
                let Some(manifest) = inner.shown_manifest(&repo, commit)? else { continue };
                for entry in manifest.entries() {
                    if let Some(lfs) = entry.lfs.filter(|lfs| wanted.remove(&lfs.sha256)) {
                        places.insert(lfs.sha256, (commit, entry.path.clone(), entry.size));
                    }
                }
            }
            Ok(places)
        })
        .await
    }

    /// The commits of `repo` that are known here.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn commits_held(&self, repo: &RepoId) -> Result<Vec<CommitId>, MirrorError> {
        Ok(self.inner.store.catalogue().commits_of(repo)?)
    }
}
