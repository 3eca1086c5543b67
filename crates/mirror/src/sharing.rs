//! What of this node's is given to peers.
//!
//! **Invariant:** sharing follows where bytes came from, never who lists them. What was added here, or came from peers,
//! is shared; what was found in a cache is not, unless its owner asked for it; what came by somebody's token never is.
//! A manifest that names a file shares nothing of it: anybody can write a manifest.
//! **Not here:** refusing whoever asks for what is not shared (`transfer`).

use hubless_types::{Access, BlobHash, CommitId, RepoId};

use crate::MirrorError;
use crate::add::Taken;
use crate::mirror::Inner;

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
    /// from elsewhere. Blocks.
    pub(crate) fn share_what_comes(&self, hash: BlobHash, size: u64) -> Result<(), MirrorError> {
        self.store.blobs().partial(hash, size)?.share_if_empty()?;
        Ok(())
    }
}
