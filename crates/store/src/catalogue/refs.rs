//! Where names point, and which of them are tags.

use std::collections::BTreeSet;

use hubless_types::{RepoId, Revision};

use super::codec::Record;
use super::db::Cf;
use super::records::RefRecord;
use super::txn::Txn;
use super::{Catalogue, codec, keys, repos};
use crate::error::Result;

impl Record for RefRecord {
    const NAME: &'static str = "ref";
    const VERSION: u8 = 2;

    /// Version 1 knew no witnesses; all else was the same.
    fn upgrade(version: u8, body: &[u8]) -> Option<Self> {
        (version == 1).then(|| codec::parse(body).ok()).flatten()
    }
}

impl Catalogue {
    /// Sets where a name points, and lists its repository.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`](crate::StoreError::DiskFull), [`StoreError::Corrupt`](crate::StoreError::Corrupt)
    /// or [`StoreError::Rocks`](crate::StoreError::Rocks), as everywhere in the catalogue.
    pub fn set_ref(&self, repo: &RepoId, revision: &Revision, record: RefRecord) -> Result<()> {
        self.change(|txn| set(txn, repo, revision, &record))
    }

    /// Where a name points, as far as is known here.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn get_ref(&self, repo: &RepoId, revision: &Revision) -> Result<Option<RefRecord>> {
        self.db().get(Cf::Refs, &key(repo, revision))
    }

    /// Where a name of each of many repositories points, in their order.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn ref_of_each(&self, repos: &[RepoId], revision: &Revision) -> Result<Vec<Option<RefRecord>>> {
        let keys: Vec<_> = repos.iter().map(|repo| key(repo, revision)).collect();
        self.db().get_many(Cf::Refs, &keys)
    }

    /// Every name of a repository, sorted.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn refs(&self, repo: &RepoId) -> Result<Vec<(Revision, RefRecord)>> {
        let prefix = keys::in_repo(repo);
        self.db().page(Cf::Refs, &prefix, None, usize::MAX, |key, value| {
            Ok((keys::read_revision(&key[prefix.len()..])?, codec::decode(value)?))
        })
    }

    /// Forgets a name; `false` if it was not known.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn remove_ref(&self, repo: &RepoId, revision: &Revision) -> Result<bool> {
        self.change(|txn| {
            let key = key(repo, revision);
            let known = txn.has(Cf::Refs, &key)?;
            txn.delete(Cf::Refs, key.clone());
            txn.delete(Cf::Tags, key);
            repos::forget_if_empty(txn, repo)?;
            Ok(known)
        })
    }

    /// Says of names of a repository whether they are tags; until it is said, none is.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn note_tags(&self, repo: &RepoId, names: &[(Revision, bool)]) -> Result<()> {
        self.change(|txn| {
            for (name, is_tag) in names {
                match is_tag {
                    true => txn.put(Cf::Tags, key(repo, name), &())?,
                    false => txn.delete(Cf::Tags, key(repo, name)),
                }
            }
            Ok(())
        })
    }

    /// The names of a repository that are tags.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn tags(&self, repo: &RepoId) -> Result<BTreeSet<Revision>> {
        let prefix = keys::in_repo(repo);
        let read = |key: &[u8], _: &[u8]| keys::read_revision(&key[prefix.len()..]);
        Ok(self.db().page(Cf::Tags, &prefix, None, usize::MAX, read)?.into_iter().collect())
    }
}

fn key(repo: &RepoId, revision: &Revision) -> Vec<u8> {
    keys::repo_and(repo, revision.as_str().as_bytes())
}

pub(super) fn set(txn: &mut Txn<'_>, repo: &RepoId, revision: &Revision, record: &RefRecord) -> Result<()> {
    txn.put(Cf::Refs, key(repo, revision), record)?;
    repos::note(txn, repo)
}
