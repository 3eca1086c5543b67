//! The memory twin: the same trait over a map that its nodes share, for tests without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use hubless_types::{NodeId, Provider, ProviderSource};

use crate::place::Region;
use crate::{
    DhtKey, DhtMode, Discovery, DiscoveryError, DiscoveryStatus, Lifetime, MAX_RECORDS_PER_KEY, Told, Trace,
};

/// A network of nodes within one process.
#[derive(Debug, Clone, Default)]
pub struct MemorySwarm(Arc<Mutex<Network>>);

#[derive(Debug, Default)]
struct Network {
    /// Who has announced what, in order. As on the DHT, a record outlives its node's departure.
    records: BTreeMap<Vec<u8>, Vec<(NodeId, Lifetime)>>,
    /// Who announced how many keys at a time.
    calls: Vec<(NodeId, usize)>,
    /// Every node that was ever here, with its address.
    addrs: BTreeMap<NodeId, SocketAddr>,
    /// Nodes that take part and are not cut off.
    online: BTreeSet<NodeId>,
    /// Nodes that keep no records for others.
    clients: BTreeSet<NodeId>,
    /// How many records of one node are kept; as many as there are if none is given.
    room: Option<usize>,
}

impl Network {
    /// How many more records of `node` are kept.
    fn room_for(&self, node: &NodeId) -> usize {
        let Some(room) = self.room else { return usize::MAX };
        room.saturating_sub(self.records_of(node))
    }

    fn records_of(&self, node: &NodeId) -> usize {
        self.records.values().flatten().filter(|(by, _)| by == node).count()
    }

    /// Keeps a record, within the bound that a table has for a key: the first ones stay, the last one goes round.
    fn keep(&mut self, key: Vec<u8>, node: NodeId, lifetime: Lifetime) {
        let nodes = self.records.entry(key).or_default();
        match nodes.iter_mut().find(|(known, _)| *known == node) {
            Some(known) => known.1 = lifetime,
            None => {
                nodes.truncate(MAX_RECORDS_PER_KEY - 1);
                nodes.push((node, lifetime));
            }
        }
    }

    /// How many nodes keep records for `node`.
    fn keepers(&self, node: &NodeId) -> usize {
        self.online.iter().filter(|other| *other != node && !self.clients.contains(other)).count()
    }
}

impl MemorySwarm {
    /// A network with nobody in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node that is reached at `addr`.
    pub fn node(&self, node: NodeId, addr: SocketAddr) -> MemoryDiscovery {
        let mut network = self.lock();
        network.addrs.insert(node, addr);
        network.online.insert(node);
        MemoryDiscovery { node, addr, swarm: self.clone() }
    }

    /// Cuts a node off: it finds nobody, and nobody is connected with it. What it announced stays known.
    pub fn cut(&self, node: NodeId) {
        self.lock().online.remove(&node);
    }

    /// Ends a cut.
    pub fn mend(&self, node: NodeId) {
        let mut network = self.lock();
        if network.addrs.contains_key(&node) {
            network.online.insert(node);
        }
    }

    /// Has a node keep no records, as one does that others cannot reach: it is connected, and only asks.
    pub fn make_client(&self, node: NodeId) {
        self.lock().clients.insert(node);
    }

    /// From now on, no more than so many records of one node are kept.
    pub fn set_room(&self, of_one_node: usize) {
        self.lock().room = Some(of_one_node);
    }

    /// How long the record lives that `node` announced of `key`; `None` if it announced none.
    pub fn announced(&self, node: &NodeId, key: &DhtKey) -> Option<Lifetime> {
        let network = self.lock();
        let nodes = network.records.get(&key.to_bytes())?;
        nodes.iter().find(|(by, _)| by == node).map(|(_, lifetime)| *lifetime)
    }

    /// How many keys `node` announced at a time, in order.
    pub fn batches(&self, node: &NodeId) -> Vec<usize> {
        self.lock().calls.iter().filter(|(by, _)| by == node).map(|(_, keys)| *keys).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node of a [`MemorySwarm`].
#[derive(Debug, Clone)]
pub struct MemoryDiscovery {
    node: NodeId,
    addr: SocketAddr,
    swarm: MemorySwarm,
}

impl MemoryDiscovery {
    fn provider(&self, network: &Network, node: NodeId, source: ProviderSource) -> Option<Provider> {
        let addr = network.addrs.get(&node)?;
        (node != self.node).then(|| Provider { node, addrs: vec![*addr], source })
    }

    fn found(&self, key: &[u8]) -> Vec<Provider> {
        let network = self.swarm.lock();
        if !network.online.contains(&self.node) {
            return Vec::new();
        }
        // The latest first, so that a test of false records has them before the ones that were there earlier.
        let nodes = network.records.get(key).into_iter().flatten().rev();
        nodes.filter_map(|(node, _)| self.provider(&network, *node, ProviderSource::Dht)).collect()
    }
}

#[async_trait]
impl Discovery for MemoryDiscovery {
    async fn announce(&self, keys: &[DhtKey], lifetime: Lifetime) -> Result<Told, DiscoveryError> {
        let mut network = self.swarm.lock();
        if !network.addrs.contains_key(&self.node) {
            return Err(DiscoveryError::Stopped);
        }
        if !network.online.contains(&self.node) || network.keepers(&self.node) == 0 {
            return Err(DiscoveryError::NoPeers);
        }
        let (mut room, mut unwanted) = (network.room_for(&self.node), Vec::new());
        for key in keys.iter().map(DhtKey::to_bytes) {
            let renewed = network.records.get(&key).is_some_and(|n| n.iter().any(|(by, _)| *by == self.node));
            if !renewed && room == 0 {
                unwanted.push(key);
                continue;
            }
            room -= usize::from(!renewed);
            network.keep(key, self.node, lifetime);
        }
        network.calls.push((self.node, keys.len()));
        let (refused, missed) = (unwanted.len() as u64, Vec::new());
        let kept = keys.len() as u64 - refused;
        Ok(Told { region: Region::whole(), walks: 1, messages: 1, kept, refused, missed, unwanted })
    }

    async fn withdraw(&self, keys: &[DhtKey]) -> Result<(), DiscoveryError> {
        let mut network = self.swarm.lock();
        for key in keys {
            if let Some(nodes) = network.records.get_mut(&key.to_bytes()) {
                nodes.retain(|(node, _)| *node != self.node);
            }
        }
        Ok(())
    }

    async fn trace(&self, key: &DhtKey) -> Result<Trace, DiscoveryError> {
        let place = format!("{:016x}", key.place().lead());
        let network = self.swarm.lock().online.len() as u64;
        let providers = self.found(&key.to_bytes());
        let first_millis = (!providers.is_empty()).then_some(0);
        Ok(Trace { place, network, providers, first_millis, ..Trace::default() })
    }

    fn find(&self, key: &DhtKey) -> BoxStream<'static, Provider> {
        futures::stream::iter(self.found(&key.to_bytes())).boxed()
    }

    fn peers(&self) -> Vec<Provider> {
        let network = self.swarm.lock();
        if !network.online.contains(&self.node) {
            return Vec::new();
        }
        let online = network.online.iter();
        online.filter_map(|node| self.provider(&network, *node, ProviderSource::Connected)).collect()
    }

    /// Nobody is: the addresses of this network stand for nothing.
    fn is_on_link(&self, _addr: &SocketAddr) -> bool {
        false
    }

    fn status(&self) -> DiscoveryStatus {
        let peers = self.peers().len();
        let network = self.swarm.lock();
        let own = network.records_of(&self.node) as u64;
        let all: usize = network.records.values().map(Vec::len).sum();
        DiscoveryStatus {
            node: self.node,
            peers_connected: peers,
            lan_peers: 0,
            routing_table: if peers == 0 { 0 } else { network.keepers(&self.node) },
            mode: if network.clients.contains(&self.node) { DhtMode::Client } else { DhtMode::Server },
            listen: vec![self.addr],
            external: vec![self.addr],
            network: network.online.len() as u64,
            own_records: own,
            other_records: all as u64 - own,
        }
    }

    async fn shutdown(&self) {
        self.swarm.lock().online.remove(&self.node);
    }
}
