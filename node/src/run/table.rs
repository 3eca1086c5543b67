//! Keeps the DHT's provider records in the node's own catalogue, so that they outlive a restart.
//!
//! **Not here:** the bounds (`store`), and what the records mean (`discovery`).

use std::sync::atomic::{AtomicU64, Ordering};

use hubless_discovery::{ProviderRow, ProviderTable, TableCounts, TableError, TableVerdict};
use hubless_store::{Catalogue, DhtRow, DhtVerdict, StoreError};
use hubless_types::{NodeId, Timestamp};

/// Rows that are read at once when this node's own are counted.
const PAGE: usize = 4096;

/// The table of a node, in its catalogue.
pub(super) struct CatalogueTable {
    node: NodeId,
    catalogue: Catalogue,
    // Counted once at the start: the catalogue counts only strangers' rows.
    own: AtomicU64,
}

impl CatalogueTable {
    pub(super) fn open(node: NodeId, catalogue: Catalogue) -> Result<Self, StoreError> {
        let own = AtomicU64::new(count_own(&catalogue)?);
        Ok(Self { node, catalogue, own })
    }
}

fn count_own(catalogue: &Catalogue) -> Result<u64, StoreError> {
    let (mut count, mut after) = (0, None::<Vec<u8>>);
    loop {
        let page = catalogue.dht_own(after.as_deref(), PAGE)?;
        count += page.len() as u64;
        match page.into_iter().next_back() {
            Some((key, _)) => after = Some(key),
            None => return Ok(count),
        }
    }
}

const fn verdict(verdict: DhtVerdict) -> TableVerdict {
    match verdict {
        DhtVerdict::Added | DhtVerdict::Renewed | DhtVerdict::Replaced => TableVerdict::Stored,
        DhtVerdict::PeerFull => TableVerdict::PeerFull,
        DhtVerdict::KeyFull | DhtVerdict::TableFull => TableVerdict::TableFull,
        DhtVerdict::BadKey => TableVerdict::BadKey,
    }
}

impl ProviderTable for CatalogueTable {
    fn add(&self, key: &[u8], row: ProviderRow) -> Result<TableVerdict, TableError> {
        let own = row.own;
        let row = DhtRow { provider: row.provider, addrs: row.addrs, expires: row.expires, own };
        let verdict = self.catalogue.dht_add(key, row)?;
        if own && verdict == DhtVerdict::Added {
            self.own.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self::verdict(verdict))
    }

    fn add_many(&self, keys: &[Vec<u8>], row: &ProviderRow) -> Result<Vec<TableVerdict>, TableError> {
        let row =
            DhtRow { provider: row.provider, addrs: row.addrs.clone(), expires: row.expires, own: row.own };
        let verdicts = self.catalogue.dht_add_many(keys, &row)?;
        if row.own {
            let added = verdicts.iter().filter(|verdict| **verdict == DhtVerdict::Added).count();
            self.own.fetch_add(added as u64, Ordering::Relaxed);
        }
        Ok(verdicts.into_iter().map(verdict).collect())
    }

    fn remove_many(&self, keys: &[Vec<u8>], provider: &NodeId) -> Result<usize, TableError> {
        let gone = self.catalogue.dht_remove_many(keys, provider)?;
        if *provider == self.node {
            self.own.fetch_sub(gone, Ordering::Relaxed);
        }
        Ok(keys.len())
    }

    fn providers(&self, key: &[u8], now: Timestamp) -> Result<Vec<ProviderRow>, TableError> {
        let rows = self.catalogue.dht_providers(key, now)?;
        let row =
            |r: DhtRow| ProviderRow { provider: r.provider, addrs: r.addrs, expires: r.expires, own: r.own };
        Ok(rows.into_iter().map(row).collect())
    }

    fn remove(&self, key: &[u8], provider: &NodeId) -> Result<(), TableError> {
        if self.catalogue.dht_remove(key, provider)? && *provider == self.node {
            self.own.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn expire(&self, now: Timestamp, limit: usize) -> Result<usize, TableError> {
        Ok(self.catalogue.dht_expire(now, limit)?)
    }

    fn counts(&self) -> TableCounts {
        let others = self.catalogue.dht_count().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot count the DHT's records");
            0
        });
        TableCounts { own: self.own.load(Ordering::Relaxed), others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_store::Store;
    use hubless_types::{ManualClock, Timestamp};
    use std::sync::Arc;

    #[test]
    fn records_outlive_a_restart_and_are_counted_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (me, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let row = |provider, own| ProviderRow {
            provider,
            addrs: if own { Vec::new() } else { vec!["127.0.0.1:7".parse().unwrap()] },
            expires: Timestamp(100),
            own,
        };
        let open = || {
            let store = Store::open(dir.path(), me, Arc::new(ManualClock::at(Timestamp(1)))).unwrap();
            CatalogueTable::open(me, store.catalogue().clone()).unwrap()
        };
        let table = open();
        for _ in 0..2 {
            assert!(table.add(b"key", row(me, true)).unwrap().is_stored());
            assert!(table.add(b"key", row(other, false)).unwrap().is_stored());
        }
        assert_eq!(table.counts(), TableCounts { own: 1, others: 1 });
        drop(table);
        let table = open();
        assert_eq!(table.counts(), TableCounts { own: 1, others: 1 });
        assert_eq!(table.providers(b"key", Timestamp(50)).unwrap().len(), 2);
        assert_eq!(table.expire(Timestamp(101), 10).unwrap(), 1);
        table.remove(b"key", &me).unwrap();
        table.remove(b"key", &me).unwrap();
        assert_eq!(table.counts(), TableCounts { own: 0, others: 0 });
    }
}
