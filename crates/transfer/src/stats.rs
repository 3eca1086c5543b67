//! Counts bytes by peer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hubless_types::NodeId;

use crate::limits::MAX_COUNTED_PEERS;

/// Bytes that went to and came from one peer, proofs included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct PeerBytes {
    /// Sent to it.
    pub up: u64,
    /// Received from it.
    pub down: u64,
}

/// What has gone over the network since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferStats {
    /// All peers together.
    pub total: PeerBytes,
    /// The last 1,024 peers.
    pub peers: Vec<(NodeId, PeerBytes)>,
    /// Connections that this node opened and that are alive.
    pub connections_out: usize,
    /// Connections that others opened and that are alive.
    pub connections_in: usize,
    /// Bulk lines that this node opened and that are alive.
    pub lines_out: usize,
    /// Bytes that came over bulk lines; they are in the counts of `down` too.
    pub by_lines: u64,
    /// Answers with segments that are being sent now.
    pub uploads: usize,
    /// Subscriptions of others that are open.
    pub subscriptions: usize,
}

/// One peer's counters.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    up: AtomicU64,
    down: AtomicU64,
    /// Turn at which it was last asked for.
    used: AtomicU64,
}

impl Counter {
    pub(crate) fn sent(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn bytes(&self) -> PeerBytes {
        PeerBytes { up: self.up.load(Ordering::Relaxed), down: self.down.load(Ordering::Relaxed) }
    }
}

/// All peers' counters.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    peers: HashMap<NodeId, Arc<Counter>>,
    /// Bytes of peers that made room for others.
    gone: PeerBytes,
    turn: u64,
}

impl Counters {
    /// The counter of `node`, to be kept for as long as a request takes.
    pub(crate) fn of(&self, node: NodeId) -> Arc<Counter> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.turn += 1;
        if !table.peers.contains_key(&node) && table.peers.len() >= MAX_COUNTED_PEERS {
            table.make_room();
        }
        let turn = table.turn;
        let counter = table.peers.entry(node).or_default();
        counter.used.store(turn, Ordering::Relaxed);
        counter.clone()
    }

    pub(crate) fn read(&self) -> (PeerBytes, Vec<(NodeId, PeerBytes)>) {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peers: Vec<_> = table.peers.iter().map(|(node, counter)| (*node, counter.bytes())).collect();
        let total = peers.iter().fold(table.gone, |sum, (_, bytes)| sum.plus(*bytes));
        (total, peers)
    }
}

impl Table {
    /// What is still counted with makes no room: its bytes would be in no total.
    fn make_room(&mut self) {
        let idle = self.peers.iter().filter(|(_, counter)| Arc::strong_count(counter) == 1);
        let oldest = idle.min_by_key(|(_, c)| c.used.load(Ordering::Relaxed)).map(|(node, _)| *node);
        if let Some(counter) = oldest.and_then(|node| self.peers.remove(&node)) {
            self.gone = self.gone.plus(counter.bytes());
        }
    }
}

impl PeerBytes {
    const fn plus(self, other: Self) -> Self {
        Self { up: self.up + other.up, down: self.down + other.down }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn node(number: usize) -> NodeId {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        NodeId::from_bytes(key)
    }

    #[test]
    fn peers_beyond_the_bound_are_counted_in_the_total_only() {
        let counters = Counters::default();
        for number in 0..MAX_COUNTED_PEERS + 10 {
            counters.of(node(number)).sent(1);
        }
        let (total, peers) = counters.read();
        assert_eq!((total.up, peers.len()), (MAX_COUNTED_PEERS as u64 + 10, MAX_COUNTED_PEERS));
        assert!(peers.iter().all(|(n, _)| *n != node(0)));
    }

    #[test]
    fn a_counter_in_use_goes_on_to_count() {
        let counters = Counters::default();
        let kept = counters.of(node(0));
        (1..MAX_COUNTED_PEERS + 10).for_each(|number| drop(counters.of(node(number))));
        kept.sent(5);
        let (total, peers) = counters.read();
        assert_eq!((total.up, peers.len()), (5, MAX_COUNTED_PEERS));
    }
}
