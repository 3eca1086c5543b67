//! What of this node's is given to peers.
//!
//! **Invariant:** sharing follows where bytes came from, never who lists them. What was added here, or came from peers,
//! is shared; what was found in a cache is not, unless its owner asked for it; what came by somebody's token never is.
//! A manifest that names a file shares nothing of it: anybody can write a manifest.
//! **Not here:** refusing whoever asks for what is not shared (`transfer`).

use hubless_store::BlobStatus;
use hubless_types::{Access, BlobHash, CommitId, FileEntry, RepoId};

use crate::add::Taken;
use crate::mirror::Inner;
use crate::upstream::Errand;
use crate::{Mirror, MirrorError};

impl Mirror {
    /// Whether anybody at all may have a commit of `repo`, and `file` of it: the repository is open, and what is here of
    /// them is given to peers. Blocks a little.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn is_for_everyone(
        &self,
        repo: &RepoId,
        commit: CommitId,
        file: Option<&FileEntry>,
    ) -> Result<bool, MirrorError> {
        let inner = &self.inner;
        let commit = inner.own_commit(repo, commit)?;
        if !inner.access(repo)?.is_open() || !inner.store.catalogue().is_commit_shared(commit)? {
            return Ok(false);
        }
        // A manifest may name what was never meant for others: the bytes have a mark of their own.
        let link = file.map(|file| inner.store.catalogue().link(&file.digest())).transpose()?.flatten();
        let blobs = inner.store.blobs();
        Ok(match link {
            Some(link) => blobs.is_shared(&link.hash)? || blobs.status(&link.hash)? == BlobStatus::Absent,
            None => true,
        })
    }

    /// Whether anybody at all may have all that is here of `repo`; not where nothing is. Blocks a little.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn is_all_for_everyone(&self, repo: &RepoId) -> Result<bool, MirrorError> {
        let catalogue = self.inner.store.catalogue();
        if !self.inner.access(repo)?.is_open() {
            return Ok(false);
        }
        let commits = catalogue.commits_of(repo)?;
        for commit in &commits {
            if !catalogue.is_commit_shared(*commit)? {
                return Ok(false);
            }
        }
        Ok(!commits.is_empty())
    }
}

impl Inner {
    /// Peers may have a commit's manifest, unless `repo` is known not to be for everybody.
    pub(crate) fn share_manifest(&self, repo: Option<&RepoId>, commit: CommitId) -> Result<(), MirrorError> {
        if repo.map_or(Ok(true), |repo| self.access(repo).map(Access::is_open))? {
            self.store.catalogue().share_commit(commit)?;
        }
        Ok(())
    }

    /// Peers may have a commit that was written here, and its files.
    pub(crate) fn share_all(&self, commit: CommitId, taken: &[Taken]) -> Result<(), MirrorError> {
        for one in taken {
            self.store.blobs().share(&one.link.1)?;
        }
        Ok(self.store.catalogue().share_commit(commit)?)
    }

    /// Peers may have a blob that is about to be fetched from peers, unless something of it is here already: that came
    /// from elsewhere; or `errand`, for which it is fetched, has its bytes by a token as well. Blocks.
    pub(crate) fn share_what_comes(
        &self,
        hash: BlobHash,
        size: u64,
        errand: Option<&Errand>,
    ) -> Result<(), MirrorError> {
        let is_private = || errand.is_some_and(Errand::is_private);
        if let Some(errand) = errand {
            errand.comes_under(hash);
        }
        if is_private() {
            return Ok(());
        }
        let blobs = self.store.blobs();
        blobs.partial(hash, size)?.share_if_empty()?;
        // A token may have been wanted meanwhile.
        if is_private() {
            blobs.unshare(&hash)?;
        }
        Ok(())
    }
}
