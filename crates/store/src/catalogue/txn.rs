//! One change of the catalogue: reads see what the same change has put so far, and all of it is written or none.

use std::collections::{BTreeMap, BTreeSet};

use rocksdb::WriteBatch;

use super::codec::{self, Record};
use super::db::{Cf, Db};
use super::keys;
use crate::error::Result;

/// A change under way. Whoever makes one holds the catalogue's write lock, so nothing it read changes meanwhile.
pub(crate) struct Txn<'a> {
    db: &'a Db,
    changes: BTreeMap<(Cf, Vec<u8>), Option<Vec<u8>>>,
    /// Deleted before anything else is written.
    ranges: Vec<(Cf, Vec<u8>, Vec<u8>)>,
    /// Keys of repositories that came, went, or of which something else is said now.
    touched: BTreeSet<Vec<u8>>,
}

impl<'a> Txn<'a> {
    pub(super) fn new(db: &'a Db) -> Self {
        Self { db, changes: BTreeMap::new(), ranges: Vec::new(), touched: BTreeSet::new() }
    }

    /// The database as it was before this change.
    pub(super) fn before(&self) -> &'a Db {
        self.db
    }

    pub(super) fn put<R: Record>(&mut self, cf: Cf, key: Vec<u8>, record: &R) -> Result<()> {
        self.put_bytes(cf, key, codec::encode(record)?);
        Ok(())
    }

    pub(super) fn put_bytes(&mut self, cf: Cf, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert((cf, key), Some(value));
    }

    pub(super) fn delete(&mut self, cf: Cf, key: Vec<u8>) {
        self.changes.insert((cf, key), None);
    }

    /// Deletes what was there before this change under all keys that begin with `prefix`.
    pub(super) fn delete_all(&mut self, cf: Cf, prefix: &[u8]) {
        if let Some(end) = keys::past(prefix) {
            self.ranges.push((cf, prefix.to_vec(), end));
        }
    }

    /// Deletes what was there before this change under all keys from `from` up to, not including, `to`.
    pub(super) fn delete_between(&mut self, cf: Cf, from: Vec<u8>, to: Vec<u8>) {
        self.ranges.push((cf, from, to));
    }

    /// The index of repositories has to look at this one again.
    pub(super) fn touch(&mut self, repo: Vec<u8>) {
        self.touched.insert(repo);
    }

    /// What was touched so far.
    pub(super) fn touched(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.touched).into_iter().collect()
    }

    pub(super) fn get<R: Record>(&self, cf: Cf, key: &[u8]) -> Result<Option<R>> {
        match self.changes.get(&(cf, key.to_vec())) {
            Some(changed) => changed.as_deref().map(codec::decode).transpose(),
            None => self.db.get(cf, key),
        }
    }

    pub(super) fn has(&self, cf: Cf, key: &[u8]) -> Result<bool> {
        match self.changes.get(&(cf, key.to_vec())) {
            Some(changed) => Ok(changed.is_some()),
            None => self.db.has(cf, key),
        }
    }

    /// Whether any key begins with `prefix`.
    pub(super) fn any(&self, cf: Cf, prefix: &[u8]) -> Result<bool> {
        let mut ours = self
            .changes
            .range((cf, prefix.to_vec())..)
            .take_while(|((c, key), _)| *c == cf && key.starts_with(prefix));
        if ours.any(|(_, value)| value.is_some()) {
            return Ok(true);
        }
        let mut found = false;
        self.db.scan(cf, prefix, prefix, |key, _| {
            found = !self.changes.contains_key(&(cf, key.to_vec()));
            Ok(!found)
        })?;
        Ok(found)
    }

    /// The first key of a table.
    pub(super) fn first(&self, cf: Cf) -> Result<Option<Vec<u8>>> {
        let mut ours = self.changes.range((cf, Vec::new())..).take_while(|((c, _), _)| *c == cf);
        let ours = ours.find(|(_, value)| value.is_some()).map(|((_, key), _)| key.clone());
        let mut before = None;
        self.db.scan(cf, &[], &[], |key, _| {
            before = (!self.changes.contains_key(&(cf, key.to_vec()))).then(|| key.to_vec());
            Ok(before.is_none())
        })?;
        Ok([ours, before].into_iter().flatten().min())
    }

    /// Adds to a counter, which never falls below 0, and returns it.
    pub(super) fn count(&mut self, counter: &[u8], change: i64) -> Result<u64> {
        let old: u64 = self.get(Cf::Counters, counter)?.unwrap_or(0);
        let new = old.saturating_add_signed(change);
        match new {
            0 => self.delete(Cf::Counters, counter.to_vec()),
            _ => self.put(Cf::Counters, counter.to_vec(), &new)?,
        }
        Ok(new)
    }

    pub(super) fn commit(self) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (cf, from, to) in &self.ranges {
            batch.delete_range_cf(self.db.handle(*cf)?, from, to);
        }
        for ((cf, key), value) in self.changes {
            match value {
                Some(value) => batch.put_cf(self.db.handle(cf)?, key, value),
                None => batch.delete_cf(self.db.handle(cf)?, key),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.db.rocks().write(batch).map_err(|e| self.db.fail(e))
    }
}
