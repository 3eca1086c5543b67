//! Keeps the shelf, the index of repositories, in step with the tables.
//!
//! **Invariant:** a change of what is listed, and the note that the index has to take it in, are written together.

use std::sync::atomic::AtomicBool;

use hubless_types::{RepoFacts, RepoId};
use rocksdb::ReadOptions;

use super::db::{Cf, Db};
use super::txn::Txn;
use super::{Catalogue, codec, keys, lock};
use crate::error::Result;
use crate::shelf::{SHELF_LATER_MAX, Shelf, ShelfPage, ShelfQuery};

impl Catalogue {
    /// Finds repositories: those with a commit or a ref here and those of which facts are known, private ones
    /// excepted. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Io`](crate::StoreError::Io) or [`StoreError::Corrupt`](crate::StoreError::Corrupt) if the
    /// index cannot be read.
    pub fn find_repos(&self, query: &ShelfQuery) -> Result<ShelfPage> {
        self.inner.shelf.find(query)
    }

    /// How many repositories [`Catalogue::find_repos`] knows.
    pub fn repo_count(&self) -> u64 {
        self.inner.shelf.count()
    }

    /// Whether so much has changed that [`Catalogue::settle_shelf`] is worth its work.
    pub fn is_shelf_due(&self) -> bool {
        self.inner.shelf.is_due()
    }

    /// Writes the index of repositories anew. Blocks for some seconds a million of them; reading and writing go on
    /// meanwhile. `false` if it is being written already.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`](crate::StoreError::Cancelled) soon after `cancel` is set; else as
    /// [`Catalogue::find_repos`]. The former index stays, then.
    pub fn settle_shelf(&self, cancel: &AtomicBool) -> Result<bool> {
        let db = self.db();
        let (covers, snapshot) = {
            let _writing = lock(&self.inner.write);
            let Some(covers) = self.inner.shelf.begin() else { return Ok(false) };
            (covers, db.rocks().snapshot())
        };
        let walk = |visit: &mut dyn FnMut(&RepoId, &RepoFacts) -> Result<()>| {
            let rows =
                |cf| Ok::<_, crate::StoreError>(snapshot.raw_iterator_cf_opt(db.handle(cf)?, passing()));
            let (mut facts, mut repos) = (rows(Cf::Facts)?, rows(Cf::Repos)?);
            facts.seek_to_first();
            repos.seek_to_first();
            let unknown = RepoFacts::default();
            loop {
                let (told, listed) = (facts.item(), repos.key());
                let listed = listed.map(|key| (key, told.map(|(k, _)| key.cmp(k))));
                match (told, listed) {
                    (None, None) => break,
                    (None, Some((key, _))) | (Some(_), Some((key, Some(std::cmp::Ordering::Less)))) => {
                        visit(&keys::read_repo(key)?, &unknown)?;
                        repos.next();
                    }
                    (Some((key, value)), both) => {
                        visit(&keys::read_repo(key)?, &codec::decode(value)?)?;
                        facts.next();
                        if matches!(both, Some((_, Some(std::cmp::Ordering::Equal)))) {
                            repos.next();
                        }
                    }
                }
            }
            facts.status().and_then(|()| repos.status()).map_err(|e| db.fail(e))
        };
        self.inner.shelf.write_segment(covers, cancel, walk)?;
        self.change(|txn| {
            txn.delete_between(Cf::ShelfLater, 0_u32.to_be_bytes().to_vec(), covers.to_be_bytes().to_vec());
            Ok(())
        })?;
        Ok(true)
    }

    /// Reads at the start what the index does not have yet, up to a bound.
    pub(super) fn load_shelf(&self) -> Result<()> {
        let (db, shelf) = (self.db(), &self.inner.shelf);
        let mut later: Vec<Vec<u8>> = Vec::new();
        match shelf.covers() {
            None => {
                for cf in [Cf::Repos, Cf::Facts] {
                    later.extend(db.page(cf, &[], None, SHELF_LATER_MAX + 1, |key, _| Ok(key.to_vec()))?);
                }
            }
            Some(covers) => db.scan(Cf::ShelfLater, &[], &covers.to_be_bytes(), |key, _| {
                let (generation, repo) = key.split_at_checked(4).unwrap_or_default();
                shelf.at_least(generation.try_into().map(u32::from_be_bytes).unwrap_or_default());
                later.push(repo.to_vec());
                Ok(later.len() <= SHELF_LATER_MAX)
            })?,
        }
        later.sort_unstable();
        later.dedup();
        if later.len() > SHELF_LATER_MAX {
            shelf.overflow();
            later.truncate(SHELF_LATER_MAX);
        }
        later.iter().try_for_each(|repo| tell(db, shelf, repo))
    }
}

/// A scan of everything must not push out what is kept in memory.
fn passing() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(1024 * 1024);
    options
}

/// Notes, in the same change, which repositories the index has to take in.
pub(super) fn note(txn: &mut Txn<'_>, shelf: &Shelf) -> Result<Vec<Vec<u8>>> {
    let touched = txn.touched();
    if let Some(generation) = shelf.noting() {
        for repo in &touched {
            txn.put(Cf::ShelfLater, [&generation.to_be_bytes()[..], repo].concat(), &())?;
        }
    }
    Ok(touched)
}

/// Tells the index what the tables say of a repository now.
pub(super) fn tell(db: &Db, shelf: &Shelf, key: &[u8]) -> Result<()> {
    let repo = keys::read_repo(key)?;
    let facts: Option<RepoFacts> = db.get(Cf::Facts, key)?;
    let listed = facts.is_some() || db.has(Cf::Repos, key)?;
    let facts = facts.unwrap_or_default();
    shelf.tell(&repo, listed.then_some(&facts))
}
