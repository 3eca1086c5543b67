//! Which repositories are known, and which of their commits.

use hubless_types::{CommitId, RepoId};

use super::db::Cf;
use super::txn::Txn;
use super::{Catalogue, aliases, keys};
use crate::error::Result;

impl Catalogue {
    /// Repositories with a commit or a ref here, sorted, those after `after`; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`](crate::StoreError::Corrupt) or [`StoreError::Rocks`](crate::StoreError::Rocks).
    pub fn repos(&self, after: Option<&RepoId>, limit: usize) -> Result<Vec<RepoId>> {
        let after = after.map(keys::repo);
        self.db().page(Cf::Repos, &[], after.as_deref(), limit, |key, _| keys::read_repo(key))
    }

    /// The commits that are listed under a repository, sorted by id.
    ///
    /// # Errors
    /// As [`Catalogue::repos`].
    pub fn commits_of(&self, repo: &RepoId) -> Result<Vec<CommitId>> {
        let prefix = keys::in_repo(repo);
        self.db().page(Cf::RepoCommits, &prefix, None, usize::MAX, |key, _| {
            keys::read_commit(&key[prefix.len()..])
        })
    }

    /// The repositories that a commit is listed under, sorted.
    ///
    /// # Errors
    /// As [`Catalogue::repos`].
    pub fn repos_of(&self, commit: CommitId) -> Result<Vec<RepoId>> {
        self.db().page(Cf::CommitRepos, commit.as_bytes(), None, usize::MAX, |key, _| {
            keys::read_repo(&key[CommitId::LEN..])
        })
    }

    /// Whether a commit is listed under a repository.
    ///
    /// # Errors
    /// As [`Catalogue::repos`].
    pub fn lists_commit(&self, repo: &RepoId, commit: CommitId) -> Result<bool> {
        self.db().has(Cf::RepoCommits, &keys::repo_and(repo, commit.as_bytes()))
    }

    /// Lists a commit under a repository.
    ///
    /// # Errors
    /// As [`Catalogue::repos`].
    pub fn add_commit_to_repo(&self, repo: &RepoId, commit: CommitId) -> Result<()> {
        self.change(|txn| add_commit(txn, repo, commit))
    }
}

pub(super) fn add_commit(txn: &mut Txn<'_>, repo: &RepoId, commit: CommitId) -> Result<()> {
    txn.put(Cf::RepoCommits, keys::repo_and(repo, commit.as_bytes()), &())?;
    txn.put(Cf::CommitRepos, [&commit.as_bytes()[..], &keys::repo(repo)].concat(), &())?;
    note(txn, repo)
}

/// Takes a commit from every repository that lists it.
pub(super) fn drop_commit(txn: &mut Txn<'_>, commit: CommitId) -> Result<()> {
    let prefix = commit.as_bytes();
    let read = |key: &[u8], _: &[u8]| keys::read_repo(&key[CommitId::LEN..]);
    for repo in txn.before().page(Cf::CommitRepos, prefix, None, usize::MAX, read)? {
        txn.delete(Cf::CommitRepos, [&prefix[..], &keys::repo(&repo)].concat());
        txn.delete(Cf::RepoCommits, keys::repo_and(&repo, prefix));
        forget_if_empty(txn, &repo)?;
    }
    Ok(())
}

/// Lists the repository.
pub(super) fn note(txn: &mut Txn<'_>, repo: &RepoId) -> Result<()> {
    aliases::note_case(txn, repo)?;
    let key = keys::repo(repo);
    if !txn.has(Cf::Repos, &key)? {
        txn.touch(key.clone());
        txn.put(Cf::Repos, key, &())?;
    }
    Ok(())
}

/// Takes the repository from the list if neither a ref nor a commit of it is left.
pub(super) fn forget_if_empty(txn: &mut Txn<'_>, repo: &RepoId) -> Result<()> {
    let prefix = keys::in_repo(repo);
    if !txn.any(Cf::Refs, &prefix)? && !txn.any(Cf::RepoCommits, &prefix)? {
        txn.touch(keys::repo(repo));
        txn.delete(Cf::Repos, keys::repo(repo));
    }
    Ok(())
}
