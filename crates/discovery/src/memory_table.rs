//! The provider table in memory: for tests, and the measure of any other table.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hubless_types::{NodeId, Timestamp};

use crate::{
    MAX_KEY_BYTES, MAX_RECORD_ADDRS, MAX_RECORDS, MAX_RECORDS_PER_KEY, MAX_RECORDS_PER_PEER, ProviderRow,
    ProviderTable, TableCounts, TableError, TableVerdict,
};

/// A [`ProviderTable`] that is gone with the process.
#[derive(Debug, Default)]
pub struct MemoryTable(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    per_peer_max: usize,
    max: usize,
    rows: BTreeMap<Vec<u8>, Vec<ProviderRow>>,
    per_peer: HashMap<NodeId, usize>,
    counts: TableCounts,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            per_peer_max: MAX_RECORDS_PER_PEER,
            max: MAX_RECORDS,
            rows: BTreeMap::new(),
            per_peer: HashMap::new(),
            counts: TableCounts::default(),
        }
    }
}

impl MemoryTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table with room for so many records of one node, and in all.
    pub fn with_bounds(per_peer_max: usize, max: usize) -> Self {
        Self(Mutex::new(Inner { per_peer_max, max, ..Inner::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, key: &[u8], mut row: ProviderRow) -> TableVerdict {
        if key.len() > MAX_KEY_BYTES {
            return TableVerdict::BadKey;
        }
        row.addrs.truncate(MAX_RECORD_ADDRS);
        if self.take(key, &row.provider).is_some() || row.own {
            self.put(key, row);
            return TableVerdict::Stored;
        }
        if self.per_peer.get(&row.provider).copied().unwrap_or(0) >= self.per_peer_max {
            return TableVerdict::PeerFull;
        }
        let displaced = self.make_room(key);
        if displaced.is_none() && self.counts.others >= self.max as u64 {
            return TableVerdict::TableFull;
        }
        self.put(key, row);
        displaced.map_or(TableVerdict::Stored, TableVerdict::Displaced)
    }

    /// Takes out the row of a full key that would expire first.
    fn make_room(&mut self, key: &[u8]) -> Option<NodeId> {
        let others: Vec<&ProviderRow> = self.rows.get(key)?.iter().filter(|row| !row.own).collect();
        if others.len() < MAX_RECORDS_PER_KEY {
            return None;
        }
        let first = others.iter().min_by_key(|row| row.expires)?.provider;
        self.take(key, &first).map(|row| row.provider)
    }

    fn put(&mut self, key: &[u8], row: ProviderRow) {
        if row.own {
            self.counts.own += 1;
        } else {
            self.counts.others += 1;
            *self.per_peer.entry(row.provider).or_default() += 1;
        }
        self.rows.entry(key.to_vec()).or_default().push(row);
    }

    fn take(&mut self, key: &[u8], provider: &NodeId) -> Option<ProviderRow> {
        let rows = self.rows.get_mut(key)?;
        let at = rows.iter().position(|row| row.provider == *provider)?;
        let row = rows.swap_remove(at);
        if rows.is_empty() {
            self.rows.remove(key);
        }
        self.forget(&row);
        Some(row)
    }

    fn forget(&mut self, row: &ProviderRow) {
        if row.own {
            self.counts.own -= 1;
            return;
        }
        self.counts.others -= 1;
        if let Some(count) = self.per_peer.get_mut(&row.provider) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&row.provider);
            }
        }
    }

    fn expired(&self, now: Timestamp, limit: usize) -> Vec<(Vec<u8>, NodeId)> {
        let of_key = |(key, rows): (&Vec<u8>, &Vec<ProviderRow>)| {
            let void = rows.iter().filter(|row| !row.own && row.expires <= now);
            void.map(|row| (key.clone(), row.provider)).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of_key).take(limit).collect()
    }
}

impl ProviderTable for MemoryTable {
    fn add(&self, key: &[u8], row: ProviderRow) -> Result<TableVerdict, TableError> {
        Ok(self.lock().add(key, row))
    }

    fn providers(&self, key: &[u8], now: Timestamp) -> Result<Vec<ProviderRow>, TableError> {
        let inner = self.lock();
        let rows = inner.rows.get(key).map(Vec::as_slice).unwrap_or_default();
        Ok(rows.iter().filter(|row| row.own || row.expires > now).cloned().collect())
    }

    fn remove(&self, key: &[u8], provider: &NodeId) -> Result<(), TableError> {
        self.lock().take(key, provider);
        Ok(())
    }

    fn expire(&self, now: Timestamp, limit: usize) -> Result<usize, TableError> {
        let mut inner = self.lock();
        let expired = inner.expired(now, limit);
        for (key, provider) in &expired {
            inner.take(key, provider);
        }
        Ok(expired.len())
    }

    fn counts(&self) -> TableCounts {
        self.lock().counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(n: u32) -> NodeId {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(key)
    }

    fn row(n: u32, expires: u64, own: bool) -> ProviderRow {
        ProviderRow { provider: node(n), addrs: Vec::new(), expires: Timestamp(expires), own }
    }

    fn add(table: &MemoryTable, key: &[u8], row: ProviderRow) -> TableVerdict {
        table.add(key, row).unwrap()
    }

    /// Ten thousand records from one peer: its share is kept, nobody else's is touched.
    #[test]
    fn a_flood_from_one_peer_stops_at_its_share() {
        let table = MemoryTable::with_bounds(8_192, MAX_RECORDS);
        assert_eq!(add(&table, b"mine", row(0, 100, true)), TableVerdict::Stored);
        assert_eq!(add(&table, b"other", row(2, 100, false)), TableVerdict::Stored);
        let stored =
            (0..10_000u32).filter(|n| add(&table, &n.to_be_bytes(), row(1, 100, false)).is_stored()).count();
        assert_eq!(stored, 8_192);
        assert_eq!(table.counts(), TableCounts { own: 1, others: 8_193 });
        assert_eq!(add(&table, b"next", row(2, 100, false)), TableVerdict::Stored);
        assert_eq!(table.providers(b"mine", Timestamp(0)).unwrap().len(), 1);
    }

    #[test]
    fn a_full_key_gives_up_the_row_that_expires_first_but_never_our_own() {
        let table = MemoryTable::new();
        add(&table, b"k", row(0, 1, true));
        for n in 1..=MAX_RECORDS_PER_KEY as u32 {
            assert_eq!(add(&table, b"k", row(n, 1_000 + u64::from(n), false)), TableVerdict::Stored);
        }
        assert_eq!(add(&table, b"k", row(999, 5_000, false)), TableVerdict::Displaced(node(1)));
        let rows = table.providers(b"k", Timestamp(0)).unwrap();
        assert_eq!(rows.len(), MAX_RECORDS_PER_KEY + 1);
        assert!(rows.iter().any(|row| row.own));
    }

    /// A hundred thousand nodes announce one key: what is kept of them does not grow, and whoever announces amid the flood
    /// is found, as often as it does so.
    #[test]
    fn a_hundred_thousand_false_providers_of_one_key_leave_room_for_whoever_announces_amid_them() {
        let (table, honest) = (MemoryTable::new(), 1_000_000);
        for n in 1..=100_000_u32 {
            add(&table, b"k", row(n, 172_800 + u64::from(n), false));
            if n % 25_000 == 0 {
                assert!(add(&table, b"k", row(honest, 172_801 + u64::from(n), false)).is_stored());
                let rows = table.providers(b"k", Timestamp(0)).unwrap();
                assert!(rows.iter().any(|row| row.provider == node(honest)), "after {n}");
                assert_eq!(rows.len(), MAX_RECORDS_PER_KEY);
            }
        }
        let inner = table.lock();
        assert_eq!((inner.rows.len(), inner.per_peer.len()), (1, MAX_RECORDS_PER_KEY));
        assert_eq!(inner.counts, TableCounts { own: 0, others: MAX_RECORDS_PER_KEY as u64 });
    }

    #[test]
    fn the_whole_table_is_bounded_and_takes_renewals_when_full() {
        let table = MemoryTable::with_bounds(100, 2_000);
        for n in 0..2_000_u32 {
            let peer = 1 + n / 100;
            assert!(add(&table, &n.to_be_bytes(), row(peer, 10, false)).is_stored());
        }
        assert_eq!(add(&table, b"more", row(1_000, 10, false)), TableVerdict::TableFull);
        assert_eq!(add(&table, &0u32.to_be_bytes(), row(1, 99, false)), TableVerdict::Stored);
        assert_eq!(add(&table, b"ours", row(0, 10, true)), TableVerdict::Stored);
    }

    #[test]
    fn rows_expire_by_the_clock_they_are_asked_with() {
        let table = MemoryTable::new();
        add(&table, b"k", row(1, 50, false));
        add(&table, b"k", row(0, 50, true));
        assert_eq!(table.providers(b"k", Timestamp(49)).unwrap().len(), 2);
        assert_eq!(table.providers(b"k", Timestamp(50)).unwrap().len(), 1);
        assert_eq!(table.expire(Timestamp(50), 10).unwrap(), 1);
        assert_eq!(table.counts(), TableCounts { own: 1, others: 0 }, "our own live until removed");
    }

    #[test]
    fn a_long_key_and_many_addresses_are_cut() {
        let table = MemoryTable::new();
        assert_eq!(add(&table, &[0; MAX_KEY_BYTES + 1], row(1, 9, false)), TableVerdict::BadKey);
        let addrs = (1..100).map(|port| ([10, 0, 0, 1], port).into()).collect();
        add(&table, b"k", ProviderRow { addrs, ..row(1, 9, false) });
        assert_eq!(table.providers(b"k", Timestamp(0)).unwrap()[0].addrs.len(), MAX_RECORD_ADDRS);
    }

    proptest! {
        #[test]
        fn counts_never_drift(steps in prop::collection::vec((0u8..4, 0u8..6, 0u32..5, 0u64..40), 0..120)) {
            let table = MemoryTable::new();
            for (what, key, peer, time) in steps {
                match what {
                    0 | 1 => drop(add(&table, &[key], row(peer, time, peer == 0))),
                    2 => table.remove(&[key], &node(peer)).unwrap(),
                    _ => drop(table.expire(Timestamp(time), 3).unwrap()),
                }
            }
            let all: Vec<_> = (0..6u8).flat_map(|k| {
                let inner = table.lock();
                inner.rows.get(&vec![k]).cloned().unwrap_or_default()
            }).collect();
            let own = all.iter().filter(|row| row.own).count() as u64;
            prop_assert_eq!(table.counts(), TableCounts { own, others: all.len() as u64 - own });
        }
    }
}
