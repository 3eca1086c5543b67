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
    /// Finds repositories: those with a commit or a ref here, those of which facts are known, up to
    /// [`HEARD_MAX`](crate::HEARD_MAX) of which there are statements, and those that others hold
    /// ([`Catalogue::list_elsewhere`]); private ones only where asked for; each with its facts, all but the card. Blocks
    /// for some milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Io`](crate::StoreError::Io) or [`StoreError::Corrupt`](crate::StoreError::Corrupt) if the
    /// index cannot be read.
    pub fn find_repos(&self, query: &ShelfQuery) -> Result<ShelfPage> {
        let mut page = self.inner.shelf.find(query)?;
        let (asked, unknown): (Vec<_>, Vec<_>) = page
            .repos
            .iter_mut()
            .filter(|(_, facts)| facts.is_none())
            .map(|(repo, facts)| (repo.clone(), facts))
            .unzip();
        for (place, facts) in unknown.into_iter().zip(self.facts_of(&asked)?) {
            *place = Some(RepoFacts { card: None, ..facts.unwrap_or_default() });
        }
        Ok(page)
    }

    /// Lists, beside what is known here, repositories that others say they hold: these, in place of those that were
    /// listed so before, and as many as [`ELSEWHERE_MAX`](crate::ELSEWHERE_MAX). They are kept in memory alone. Blocks
    /// for some microseconds each.
    ///
    /// # Errors
    /// [`StoreError::Rocks`](crate::StoreError::Rocks).
    pub fn list_elsewhere(&self, repos: impl IntoIterator<Item = RepoId>) -> Result<()> {
        let mut unknown = Vec::new();
        for repo in repos.into_iter().take(ELSEWHERE_MAX) {
            if !is_known(self.db(), &keys::repo(&repo))? {
                unknown.push(repo);
            }
        }
        self.inner.shelf.list_elsewhere(&unknown);
        Ok(())
    }

    /// How many repositories [`Catalogue::find_repos`] knows, without those that only others hold.
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
            let mut tables = [rows(Cf::Facts)?, rows(Cf::Repos)?, rows(Cf::Heard)?];
            tables.iter_mut().for_each(|table| table.seek_to_first());
            while let Some(key) = tables.iter().filter_map(|table| table.key()).min().map(<[u8]>::to_vec) {
                let told = tables[0].item().filter(|(k, _)| *k == key).map(|(_, value)| codec::decode(value));
                visit(&keys::read_repo(&key)?, &told.transpose()?.unwrap_or_default())?;
                tables.iter_mut().filter(|table| table.key() == Some(&key)).for_each(|table| table.next());
            }
            tables.iter().try_for_each(|table| table.status()).map_err(|e| db.fail(e))
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
                for cf in [Cf::Repos, Cf::Facts, Cf::Heard] {
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

/// Most repositories that are listed only because others hold them.
pub const ELSEWHERE_MAX: usize = 16_384;
/// Most repositories that are listed only because somebody made a statement of them.
pub const HEARD_MAX: usize = 100_000;
/// Counts them.
const HEARD: &[u8] = b"heard";

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
    let listed = facts.is_some() || is_known(db, key)?;
    let facts = facts.unwrap_or_default();
    shelf.tell(&repo, listed.then_some(&facts))
}

/// Whether the tables have something for which a repository is listed.
fn is_known(db: &Db, key: &[u8]) -> Result<bool> {
    Ok(db.has(Cf::Facts, key)? || db.has(Cf::Repos, key)? || db.has(Cf::Heard, key)?)
}

/// Lists a repository of which somebody made a statement, if there is room.
pub(super) fn note_heard(txn: &mut Txn<'_>, repo: &RepoId) -> Result<()> {
    let key = keys::repo(repo);
    let known = txn.has(Cf::Heard, &key)? || txn.has(Cf::Repos, &key)? || txn.has(Cf::Facts, &key)?;
    let heard: u64 = if known { 0 } else { txn.get(Cf::Counters, HEARD)?.unwrap_or(0) };
    if !known && heard < HEARD_MAX as u64 {
        txn.count(HEARD, 1)?;
        txn.touch(key.clone());
        txn.put(Cf::Heard, key, &())?;
    }
    Ok(())
}

/// Takes back what [`note_heard`] listed.
pub(super) fn forget_heard(txn: &mut Txn<'_>, repo: &RepoId) -> Result<()> {
    let key = keys::repo(repo);
    if txn.has(Cf::Heard, &key)? {
        txn.count(HEARD, -1)?;
        txn.delete(Cf::Heard, key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use hubless_types::{CommitId, RepoKind, Revision, Timestamp};

    use super::super::records::{RefRecord, RefSource};
    use super::super::tests::{Fixture, fixture};
    use super::*;
    use crate::shelf::ShelfSort;

    fn names(f: &Fixture) -> Vec<String> {
        let query =
            ShelfQuery { sort: ShelfSort::Downloads, descending: true, ..ShelfQuery::all(RepoKind::Model) };
        let page = f.catalogue.find_repos(&query).unwrap();
        page.repos.iter().map(|(r, _)| r.name().to_owned()).collect()
    }

    fn put(f: &Fixture, name: &str, downloads: u64) {
        let facts = RepoFacts { downloads, ..RepoFacts::default() };
        f.catalogue.put_facts(&name.parse().unwrap(), &facts).unwrap();
    }

    /// What others hold is listed while they say so, once, and with what is known here as soon as something is.
    #[test]
    fn what_others_hold_is_listed_beside_what_is_known_here() {
        let f = fixture();
        let list = |names: &[&str]| {
            f.catalogue.list_elsewhere(names.iter().map(|name| name.parse().unwrap())).unwrap();
        };
        put(&f, "acme/here", 5);
        assert!(f.catalogue.settle_shelf(&AtomicBool::new(false)).unwrap());
        put(&f, "acme/new", 7);
        list(&["acme/here", "acme/there", "acme/new", "acme/far"]);
        assert_eq!(names(&f), ["acme/new", "acme/here", "acme/far", "acme/there"]);
        assert_eq!(f.catalogue.repo_count(), 2, "what is here");

        put(&f, "acme/there", 9);
        assert_eq!(names(&f), ["acme/there", "acme/new", "acme/here", "acme/far"]);
        list(&[]);
        assert_eq!(names(&f), ["acme/there", "acme/new", "acme/here"]);
        list(&["acme/far"]);
        let hidden = RepoFacts { access: hubless_types::Access::Private, ..RepoFacts::default() };
        f.catalogue.put_facts(&"acme/far".parse().unwrap(), &hidden).unwrap();
        list(&["acme/far"]);
        assert!(!names(&f).contains(&"acme/far".to_owned()), "what is private here nobody else makes known");
    }

    #[test]
    fn of_what_others_hold_so_much_is_listed_and_no_more() {
        let f = fixture();
        let many = (0..2 * ELSEWHERE_MAX).map(|n| format!("acme/n{n}").parse().unwrap());
        f.catalogue.list_elsewhere(many).unwrap();
        let (mut query, mut listed) = (ShelfQuery::all(RepoKind::Model), 0);
        loop {
            let page = f.catalogue.find_repos(&query).unwrap();
            listed += page.repos.len();
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        assert_eq!(listed, ELSEWHERE_MAX);
    }

    /// What came before a segment, and what came after it, is found again after a restart.
    #[test]
    fn the_index_follows_the_tables_over_restarts() {
        let f = fixture();
        let held: RepoId = "acme/held".parse().unwrap();
        let record =
            RefRecord { commit: CommitId::from_bytes([1; 20]), seen: Timestamp(1), by: RefSource::Commit };
        f.catalogue.set_ref(&held, &Revision::main(), record.clone()).unwrap();
        put(&f, "acme/first", 5);
        assert_eq!(names(&f), ["acme/first", "acme/held"]);
        let f = f.reopened();
        assert_eq!(names(&f), ["acme/first", "acme/held"]);

        assert!(f.catalogue.settle_shelf(&AtomicBool::new(false)).unwrap());
        assert_eq!(names(&f), ["acme/first", "acme/held"]);
        put(&f, "acme/second", 9);
        put(&f, "acme/first", 1);
        f.catalogue.remove_ref(&held, &Revision::main()).unwrap();
        let f = f.reopened();
        assert_eq!(
            (names(&f), f.catalogue.repo_count()),
            (vec!["acme/second".into(), "acme/first".into()], 2)
        );
        assert!(f.catalogue.settle_shelf(&AtomicBool::new(false)).unwrap());
        let left = f.catalogue.db().page(Cf::ShelfLater, &[], None, 10, |_, _| Ok(())).unwrap();
        assert_eq!(left.len(), 0, "the segment has them");
        put(&f, "acme/third", 2);
        let f = f.reopened();
        assert_eq!(names(&f), ["acme/second", "acme/third", "acme/first"]);
    }
}
