//! What may be given to peers: manifests by their commit, bytes by their root.
//!
//! **Invariant:** nothing is shared unless somebody who knows where it came from said so; what is forgotten and comes
//! again is unshared. So forgetting to say it keeps a thing here, and never gives it away.
//! **Not here:** whether it should be (`mirror`), refusing whoever asks for it (`transfer`).

use hubless_types::{BlobHash, CommitId, RepoId};

use super::db::Cf;
use super::records::{BlobRecord, RefSource};
use super::txn::Txn;
use super::{Catalogue, blobs, keys};
use crate::error::Result;

/// Rows that are changed in one go.
const ROWS_AT_ONCE: usize = 4096;

impl Catalogue {
    /// Lets peers have the manifest of `commit`, its bundle and its link table. The bytes of its files are shared
    /// one by one ([`Blobs::share`](crate::Blobs::share)).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`](crate::StoreError::Corrupt) or [`StoreError::Rocks`](crate::StoreError::Rocks).
    pub fn share_commit(&self, commit: CommitId) -> Result<()> {
        if self.is_commit_shared(commit)? {
            return Ok(());
        }
        self.change(|txn| share_commit(txn, commit))
    }

    /// Peers are no longer given the manifest of `commit`.
    ///
    /// # Errors
    /// As [`Catalogue::share_commit`].
    pub fn unshare_commit(&self, commit: CommitId) -> Result<()> {
        self.change(|txn| {
            txn.delete(Cf::SharedCommits, commit.as_bytes().to_vec());
            Ok(())
        })
    }

    /// Whether peers may have the manifest of `commit`.
    ///
    /// # Errors
    /// As [`Catalogue::share_commit`].
    pub fn is_commit_shared(&self, commit: CommitId) -> Result<bool> {
        self.db().has(Cf::SharedCommits, commit.as_bytes())
    }

    /// The repositories that peers may know to be held here: each commit that peers may have, in the order of their ids
    /// and after `after`, at most `limit` of them, with the repositories that list it, are open to everyone, and of which
    /// a publisher, an origin or a statement tells others anyway. That somebody asked here for a commit under a name, or
    /// has it in a cache that was taken over, is nobody else's business.
    ///
    /// # Errors
    /// As [`Catalogue::share_commit`].
    pub fn shared_repos(
        &self,
        after: Option<CommitId>,
        limit: usize,
    ) -> Result<Vec<(CommitId, Vec<RepoId>)>> {
        let after = after.as_ref().map(|commit| &commit.as_bytes()[..]);
        let commits =
            self.db().page(Cf::SharedCommits, &[], after, limit, |key, _| keys::read_commit(key))?;
        let row = |commit: CommitId| {
            let mut repos = Vec::new();
            for repo in self.repos_of(commit)? {
                if self.access(&repo)?.is_open() && self.is_told(&repo)? {
                    repos.push(repo);
                }
            }
            Ok((commit, repos))
        };
        commits.into_iter().map(row).collect()
    }

    /// Whether others than those who use this node know of the repository.
    fn is_told(&self, repo: &RepoId) -> Result<bool> {
        let by_others = |by: &RefSource| !matches!(by, RefSource::Adopted | RefSource::Commit);
        Ok(self.refs(repo)?.iter().any(|(_, record)| by_others(&record.by)))
    }

    /// Peers are no longer given these commits and blobs of `repo`, until [`Catalogue::give_again`]. What they may not
    /// have anyway is left alone.
    ///
    /// # Errors
    /// As [`Catalogue::share_commit`].
    pub fn keep_back(&self, repo: &RepoId, commits: &[CommitId], blobs: &[BlobHash]) -> Result<()> {
        for page in commits.chunks(ROWS_AT_ONCE) {
            self.change(|txn| {
                for commit in page {
                    if txn.has(Cf::SharedCommits, commit.as_bytes())? {
                        txn.put(Cf::KeptBack, keys::repo_and(repo, commit.as_bytes()), &())?;
                        txn.delete(Cf::SharedCommits, commit.as_bytes().to_vec());
                    }
                }
                Ok(())
            })?;
        }
        for page in blobs.chunks(ROWS_AT_ONCE) {
            self.change(|txn| {
                for hash in page {
                    if set_shared(txn, hash, false)? {
                        txn.put(Cf::KeptBack, keys::repo_and(repo, hash.as_bytes()), &())?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Peers may have again what was kept back of `repo`, as far as it is still here: those commits and blobs.
    ///
    /// # Errors
    /// As [`Catalogue::share_commit`].
    pub fn give_again(&self, repo: &RepoId) -> Result<(Vec<CommitId>, Vec<BlobHash>)> {
        let prefix = keys::in_repo(repo);
        let (mut commits, mut blobs) = (Vec::new(), Vec::new());
        loop {
            let read = |key: &[u8], _: &[u8]| Ok(key.to_vec());
            let rows = self.db().page(Cf::KeptBack, &prefix, None, ROWS_AT_ONCE, read)?;
            if rows.is_empty() {
                return Ok((commits, blobs));
            }
            self.change(|txn| {
                for key in rows {
                    let id = &key[prefix.len()..];
                    match (CommitId::from_slice(id), BlobHash::from_slice(id)) {
                        (Some(commit), _) if self.has_manifest(commit)? => {
                            share_commit(txn, commit)?;
                            commits.push(commit);
                        }
                        (None, Some(hash)) if set_shared(txn, &hash, true)? => blobs.push(hash),
                        _ => {}
                    }
                    txn.delete(Cf::KeptBack, key);
                }
                Ok(())
            })?;
        }
    }

    /// Notes whether peers may have a blob that is here, wholly or in part; `false` if nothing of it is.
    pub(crate) fn set_blob_shared(&self, hash: &BlobHash, shared: bool) -> Result<bool> {
        if self.blob(hash)?.is_none_or(|record| record.shared == shared) {
            return self.db().has(Cf::Blobs, hash.as_bytes());
        }
        self.change(|txn| match txn.get::<BlobRecord>(Cf::Blobs, hash.as_bytes())? {
            Some(record) => {
                blobs::put_as_it_is(txn, hash, &BlobRecord { shared, ..record })?;
                Ok(true)
            }
            None => Ok(false),
        })
    }
}

/// Notes whether peers may have a blob that is here; `false` if nothing is, or it was noted before.
fn set_shared(txn: &mut Txn<'_>, hash: &BlobHash, shared: bool) -> Result<bool> {
    let before = txn.get::<BlobRecord>(Cf::Blobs, hash.as_bytes())?;
    let Some(record) = before.filter(|record| record.shared != shared) else { return Ok(false) };
    blobs::put_as_it_is(txn, hash, &BlobRecord { shared, ..record })?;
    Ok(true)
}

pub(super) fn share_commit(txn: &mut Txn<'_>, commit: CommitId) -> Result<()> {
    txn.put(Cf::SharedCommits, commit.as_bytes().to_vec(), &())
}
