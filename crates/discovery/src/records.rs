//! Our provider table as the store that libp2p's Kademlia works on.
//!
//! Value records are not kept. The one that passes is a withdrawal: Kademlia has no message to take a provider
//! record back, so it travels as a value record under the same key that says just that, and those who get it
//! drop the sender's own provider record and store nothing.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use hubless_types::{Clock, NodeId};
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use libp2p::{Multiaddr, PeerId};
use rand::seq::SliceRandom;

use crate::addrs::{node_of, peer_of, to_multiaddr};
use crate::{ProviderRow, ProviderTable, RECORD_TTL_SECS, key};

/// The value that takes back the sender's provider record.
const WITHDRAWAL: &[u8] = b"hubless withdraw 1";

/// A value record that takes back this node's provider record of `key`.
pub(crate) fn withdrawal(key: RecordKey) -> Record {
    Record::new(key, WITHDRAWAL.to_vec())
}

/// Whether a value record is a withdrawal.
pub(crate) fn is_withdrawal(record: &Record) -> bool {
    record.value == WITHDRAWAL
}

/// This node's published addresses, shared with the driver, who keeps them.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnAddrs(Arc<RwLock<Vec<Multiaddr>>>);

impl OwnAddrs {
    pub(crate) fn set(&self, addrs: Vec<Multiaddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = addrs;
    }

    fn get(&self) -> Vec<Multiaddr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The adapter. Its errors are logged: libp2p's trait has no room for them.
pub(crate) struct Records {
    node: NodeId,
    table: Arc<dyn ProviderTable>,
    clock: Arc<dyn Clock>,
    own: OwnAddrs,
}

impl Records {
    pub(crate) fn new(
        node: NodeId,
        table: Arc<dyn ProviderTable>,
        clock: Arc<dyn Clock>,
        own: OwnAddrs,
    ) -> Self {
        Self { node, table, clock, own }
    }

    fn to_record(&self, key: &RecordKey, row: ProviderRow) -> Option<ProviderRecord> {
        let addrs = match row.provider == self.node {
            // Given here, as Kademlia would add every address that we listen on, loopback among them.
            true => self.own.get(),
            false => row.addrs.iter().map(to_multiaddr).collect(),
        };
        Some(ProviderRecord::new(key.clone(), peer_of(&row.provider)?, addrs))
    }
}

/// This node first, the others in no order: libp2p answers with the first twenty, and no twenty nodes shall be able
/// to hide the rest by how they announce.
fn shuffled(mut rows: Vec<ProviderRow>) -> Vec<ProviderRow> {
    rows.shuffle(&mut rand::rng());
    rows.sort_by_key(|row| !row.own);
    rows
}

impl RecordStore for Records {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, record: Record) -> Result<()> {
        if is_withdrawal(&record) { Ok(()) } else { Err(Error::ValueTooLarge) }
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    /// Called for this node's own keys only: those of others pass the driver's filter.
    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let provider = node_of(&record.provider).ok_or(Error::MaxProvidedKeys)?;
        if !key::is_key(record.key.as_ref()) || provider != self.node {
            return Err(Error::MaxProvidedKeys);
        }
        let expires = self.clock.now().plus(RECORD_TTL_SECS);
        let row = ProviderRow { provider, addrs: Vec::new(), expires, own: true };
        match self.table.add(record.key.as_ref(), row) {
            Ok(verdict) if verdict.is_stored() => Ok(()),
            Ok(_) => Err(Error::MaxProvidedKeys),
            Err(error) => {
                tracing::error!(%error, "cannot keep an own provider record");
                Err(Error::MaxProvidedKeys)
            }
        }
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        match self.table.providers(key.as_ref(), self.clock.now()) {
            Ok(rows) => shuffled(rows).into_iter().filter_map(|row| self.to_record(key, row)).collect(),
            Err(error) => {
                tracing::error!(%error, "cannot read provider records");
                Vec::new()
            }
        }
    }

    /// Nothing: when to announce again is the announcer's affair, not libp2p's.
    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        let Some(node) = node_of(provider) else { return };
        if let Err(error) = self.table.remove(key.as_ref(), &node) {
            tracing::error!(%error, "cannot remove a provider record");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DhtKey, MemoryTable, node_id_of_secret};
    use hubless_types::{CommitId, ManualClock, Timestamp};

    struct Bench {
        records: Records,
        table: Arc<MemoryTable>,
        clock: Arc<ManualClock>,
        own: OwnAddrs,
        me: PeerId,
        key: RecordKey,
    }

    fn bench() -> Bench {
        let node = node_id_of_secret(&[1; 32]);
        let table = Arc::new(MemoryTable::new());
        let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
        let own = OwnAddrs::default();
        let records = Records::new(node, table.clone(), clock.clone(), own.clone());
        let key = RecordKey::from(DhtKey::Commit(CommitId::from_bytes([1; 20])).to_bytes());
        Bench { records, table, clock, own, me: peer_of(&node).unwrap(), key }
    }

    #[test]
    fn an_own_key_is_answered_with_the_addresses_of_the_day() {
        let mut b = bench();
        b.records.add_provider(ProviderRecord::new(b.key.clone(), b.me, Vec::new())).unwrap();
        b.own.set(vec!["/ip4/10.0.0.9/tcp/4001".parse().unwrap()]);
        b.clock.advance(2 * RECORD_TTL_SECS);
        assert_eq!(b.records.providers(&b.key)[0].addresses.len(), 1);
    }

    /// Sixty announce a key; we are named first, and each of them gets its turn among the first twenty.
    #[test]
    fn a_crowd_cannot_hide_anybody() {
        let mut b = bench();
        b.records.add_provider(ProviderRecord::new(b.key.clone(), b.me, Vec::new())).unwrap();
        for n in 2..62 {
            let provider = node_id_of_secret(&[n; 32]);
            let row = ProviderRow { provider, addrs: Vec::new(), expires: Timestamp(9_999), own: false };
            b.table.add(b.key.as_ref(), row).unwrap();
        }
        let mut named = std::collections::HashSet::new();
        for _ in 0..100 {
            let answer: Vec<PeerId> = b.records.providers(&b.key).iter().map(|r| r.provider).collect();
            assert_eq!(answer[0], b.me);
            named.extend(answer.into_iter().take(20));
        }
        assert_eq!(named.len(), 61);
    }

    #[test]
    fn nobody_else_gets_in_by_this_door() {
        let mut b = bench();
        let stranger = peer_of(&node_id_of_secret(&[2; 32])).unwrap();
        assert!(b.records.add_provider(ProviderRecord::new(b.key.clone(), stranger, Vec::new())).is_err());
        let odd = RecordKey::from(b"not a key".to_vec());
        assert!(b.records.add_provider(ProviderRecord::new(odd, b.me, Vec::new())).is_err());
        assert!(b.records.put(Record::new(b.key.clone(), b"a value".to_vec())).is_err());
        assert!(b.records.put(withdrawal(b.key.clone())).is_ok());
        assert!(b.records.get(&b.key).is_none());
    }

    #[test]
    fn a_withdrawn_key_is_gone() {
        let mut b = bench();
        b.records.add_provider(ProviderRecord::new(b.key.clone(), b.me, Vec::new())).unwrap();
        b.records.remove_provider(&b.key, &b.me);
        assert_eq!(b.table.counts().own, 0);
    }
}
