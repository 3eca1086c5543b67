//! The node's own loop: one task that owns the swarm, takes orders, follows events and keeps house.
//!
//! What each event means is in `events`, what becomes of an order in `orders`, what others are answered in `answers`; the
//! decisions are in `addrs`, `bootstrap`, `book`, `lan`, `reach`, `seek` and `sweep`, which are pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use hubless_types::{Clock, Host, NodeId, PeerAddr, Provider, ProviderSource};
use libp2p::kad;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{PeerId, Swarm};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::addrs::{self, node_of, peer_of, to_multiaddr};
use crate::book::PeerBook;
use crate::bootstrap::Bootstrap;
use crate::lan::LanTable;
use crate::net::{self, Behaviour, Names, Stack};
use crate::place::Place;
use crate::reach::Reach;
use crate::records::NoRecords;
use crate::sweep::Regions;
use crate::walks::{FindOrder, TellOrder, Walks};
use crate::{DhtConfig, DhtMode, DiscoveryError, ProviderTable, node_id_of_secret};

/// How often the house is kept.
const TICK: Duration = Duration::from_millis(250);
/// How often expired records are removed.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);
/// Most records removed at one go.
const EXPIRE_BATCH: usize = 4_096;
/// How long a connected peer may take to say what it speaks.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);
/// How long the start waits to hear of its listening addresses.
const LISTEN_WAIT: Duration = Duration::from_secs(2);
/// DNS lookups under way at once.
const MAX_LOOKUPS: usize = 16;
/// Most nodes that are told to be remembered for the next start.
const MAX_KNOWN_PEERS: usize = 64;
/// Addresses taken from one DNS name.
const MAX_DNS_ADDRS: usize = 4;

/// What the handle shows without asking.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) peers: Vec<Provider>,
    pub(crate) connected: usize,
    pub(crate) lan: usize,
    pub(crate) routes: usize,
    pub(crate) mode: DhtMode,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) external: Vec<SocketAddr>,
    /// How many nodes the network is taken to have.
    pub(crate) network: u64,
    /// Nodes to join by another time.
    pub(crate) known: Vec<PeerAddr>,
}

/// Everything that the loop owns.
pub(crate) struct Driver {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) node: NodeId,
    pub(crate) names: Names,
    pub(crate) table: Arc<dyn ProviderTable>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) book: PeerBook,
    pub(crate) lan: LanTable,
    pub(crate) walks: Walks,
    pub(crate) regions: Regions,
    /// How many nodes the network was taken to have when the first of them was learned.
    pub(crate) regions_of: u64,
    /// Where this node lies in the key space.
    pub(crate) place: Place,
    pub(crate) allow: Option<HashSet<PeerId>>,
    pub(crate) boot_peers: HashSet<PeerId>,
    pub(crate) listen: BTreeSet<SocketAddr>,
    /// What the operator configured, then what others saw, once somebody far away has reached us.
    pub(crate) external: Vec<SocketAddr>,
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) reached_from_afar: bool,
    /// Whether the snapshot is out of date.
    pub(crate) changed: bool,
    configured: bool,
    pub(crate) mdns: bool,
    pub(crate) boot: Bootstrap,
    pub(crate) published: Vec<SocketAddr>,
    mode: DhtMode,
    /// Whether libp2p has been told the mode, which also ends its own guessing.
    mode_told: bool,
    max_peers: usize,
    pub(crate) lookup_timeout: Duration,
    pub(crate) began: Instant,
    /// When somebody answered a question last.
    pub(crate) heard: Option<Instant>,
    expired: Instant,
    lookups: JoinSet<(PeerId, Vec<SocketAddr>)>,
    tells: mpsc::Receiver<TellOrder>,
    finds: mpsc::Receiver<FindOrder>,
    snapshot: watch::Sender<Snapshot>,
}

impl Driver {
    /// Builds the stack and listens.
    pub(crate) async fn start(
        config: DhtConfig,
        table: Arc<dyn ProviderTable>,
        clock: Arc<dyn Clock>,
        tells: mpsc::Receiver<TellOrder>,
        finds: mpsc::Receiver<FindOrder>,
    ) -> Result<(Self, watch::Receiver<Snapshot>), DiscoveryError> {
        let node = node_id_of_secret(&config.secret);
        let names = Names::new(&config.network)?;
        let allow = config.allow.map(|nodes| nodes.iter().filter_map(peer_of).collect::<HashSet<_>>());
        let swarm = net::build(Stack {
            secret: config.secret,
            names: names.clone(),
            line: config.line,
            mdns: config.mdns,
            allow: allow.as_ref().map(|peers| peers.iter().copied().collect()),
            max_connections: config.max_connections,
        })?;
        let others =
            |peers: Vec<PeerAddr>| peers.into_iter().filter(|peer| peer.node != node).collect::<Vec<_>>();
        let (bootstrap, mut known) = (others(config.bootstrap), others(config.known));
        known.retain(|peer| {
            let allowed = |allow: &HashSet<PeerId>| peer_of(&peer.node).is_some_and(|id| allow.contains(&id));
            allow.as_ref().is_none_or(allowed)
        });
        let place = Place::of_peer(swarm.local_peer_id());
        let (snapshot, seen) = watch::channel(Snapshot::default());
        let now = Instant::now();
        let mut driver = Self {
            swarm,
            node,
            names,
            table,
            clock,
            book: PeerBook::default(),
            lan: LanTable::default(),
            walks: Walks::within(config.max_connections),
            regions: Regions::default(),
            regions_of: 0,
            place,
            allow,
            boot_peers: bootstrap.iter().filter_map(|peer| peer_of(&peer.node)).collect(),
            listen: BTreeSet::new(),
            configured: !config.external.is_empty(),
            external: config.external,
            candidates: Vec::new(),
            reached_from_afar: false,
            changed: true,
            mdns: config.mdns,
            boot: Bootstrap::new(bootstrap, known),
            published: Vec::new(),
            mode: DhtMode::Client,
            mode_told: false,
            max_peers: net::kept_connections(config.max_connections),
            lookup_timeout: config.lookup_timeout,
            began: now,
            heard: None,
            expired: now,
            lookups: JoinSet::new(),
            tells,
            finds,
            snapshot,
        };
        driver.listen_on(&config.listen).await?;
        driver.republish();
        driver.show();
        Ok((driver, seen))
    }

    async fn listen_on(&mut self, listen: &[SocketAddr]) -> Result<(), DiscoveryError> {
        let mut expected = HashSet::new();
        for addr in listen {
            let listener = self.swarm.listen_on(to_multiaddr(addr));
            let failed = |error: &dyn std::fmt::Display| DiscoveryError::Listen {
                addr: *addr,
                why: error.to_string(),
            };
            expected.insert(listener.map_err(|e| failed(&e))?);
        }
        let deadline = tokio::time::Instant::now() + LISTEN_WAIT;
        while !expected.is_empty() {
            // A wildcard without an interface reports no address; that is no reason not to start.
            let Ok(event) = tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await else {
                break;
            };
            if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                expected.remove(listener_id);
            }
            self.on_event(event);
        }
        Ok(())
    }

    /// Runs until cancelled; all connections end with it.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.walks.wake(Instant::now());
            let wake = tokio::time::sleep_until(wake.unwrap_or_else(|| Instant::now() + TICK).into());
            tokio::select! {
                () = cancel.cancelled() => break,
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(order) = self.tells.recv(), if self.walks.may_tell() => self.take_tell(order),
                Some(order) = self.finds.recv(), if self.walks.may_find() => self.take_find(order),
                Some(found) = self.lookups.join_next() => {
                    if let Ok((peer, found)) = found {
                        self.dial(peer, &found);
                    }
                }
                () = wake => self.advance_all(Instant::now()),
                _ = tick.tick() => self.keep_house(),
            }
            if std::mem::take(&mut self.changed) {
                self.show();
            }
        }
    }

    fn keep_house(&mut self) {
        let now = Instant::now();
        self.bootstrap(now);
        self.start_waiting(now);
        for id in self.walks.over(now) {
            self.close_find(id);
        }
        let keep = self.boot_peers.iter().copied().chain(self.walks.being_asked()).collect();
        let silent = self.book.silent(now, SILENCE_LIMIT);
        for peer in silent.into_iter().chain(self.book.surplus(self.max_peers, &keep, now)) {
            self.disconnect(peer);
        }
        if now.duration_since(self.expired) >= EXPIRE_INTERVAL {
            self.expired = now;
            if let Err(error) = self.table.expire(self.clock.now(), EXPIRE_BATCH) {
                tracing::error!(%error, "cannot remove expired provider records");
            }
        }
    }

    fn bootstrap(&mut self, now: Instant) {
        let company = self.book.ours().next().is_some();
        let Some(peers) = self.boot.due(now, company, rand::random::<f64>()) else { return };
        for peer in peers {
            let Some(id) = peer_of(&peer.node).filter(|id| !self.swarm.is_connected(id)) else { continue };
            match (peer.socket(), peer.host) {
                (Some(addr), _) => self.dial(id, &[addr]),
                (None, Host::Dns(name)) => self.look_up(id, name, peer.port),
                (None, Host::Ip(_)) => {}
            }
        }
    }

    /// Looks a name up at every dial, as it may move.
    fn look_up(&mut self, peer: PeerId, name: String, port: u16) {
        if self.lookups.len() >= MAX_LOOKUPS {
            return;
        }
        self.lookups.spawn(async move {
            let found = tokio::net::lookup_host((name.as_str(), port)).await;
            let found = found.map(|found| found.take(MAX_DNS_ADDRS).collect());
            let found = found.unwrap_or_else(|error| {
                tracing::warn!(%name, %error, "cannot look up a bootstrap node's name");
                Vec::new()
            });
            (peer, found)
        });
    }

    /// Dials a peer unless it is connected or being dialled.
    pub(crate) fn dial(&mut self, peer: PeerId, at: &[SocketAddr]) {
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(at.iter().map(to_multiaddr).collect())
            .extend_addresses_through_behaviour()
            .build();
        if let Err(error) = self.swarm.dial(opts) {
            tracing::trace!(%peer, %error, "not dialled");
        }
    }

    pub(crate) fn disconnect(&mut self, peer: PeerId) {
        // An error says that it is not connected, which is what was wanted.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    pub(crate) fn kad(&mut self) -> &mut kad::Behaviour<NoRecords> {
        &mut self.swarm.behaviour_mut().kad
    }

    pub(crate) fn routes(&mut self) -> usize {
        self.kad().kbuckets().map(|bucket| bucket.num_entries()).sum()
    }

    /// Brings what others are told of our addresses, and our mode, up to date.
    pub(crate) fn republish(&mut self) {
        let listen: Vec<SocketAddr> = self.listen.iter().copied().collect();
        let published = addrs::published(&listen, &self.external);
        for gone in self.published.iter().filter(|addr| !published.contains(addr)) {
            self.swarm.remove_external_address(&to_multiaddr(gone));
        }
        for new in published.iter().filter(|addr| !self.published.contains(addr)) {
            self.swarm.add_external_address(to_multiaddr(new));
        }
        self.published = published;
        self.update_mode();
        self.changed = true;
    }

    pub(crate) fn update_mode(&mut self) {
        let mode = Reach {
            published: &self.published,
            configured: self.configured,
            reached_from_afar: self.reached_from_afar,
            talks_afar: self.book.talks_afar(),
        }
        .mode();
        if mode == self.mode && self.mode_told {
            return;
        }
        tracing::debug!(?mode, "the DHT's mode");
        (self.mode, self.mode_told, self.changed) = (mode, true, true);
        self.kad().set_mode(Some(match mode {
            DhtMode::Server => kad::Mode::Server,
            DhtMode::Client => kad::Mode::Client,
        }));
    }

    fn show(&mut self) {
        let (routes, network, known) = (self.routes(), self.network(), self.known());
        let peers = self.peers();
        self.snapshot.send_replace(Snapshot {
            connected: self.book.ours().count(),
            lan: self.lan.ours().count(),
            routes,
            mode: self.mode,
            listen: self.listen.iter().copied().collect(),
            external: self.published.clone(),
            network,
            known,
            peers,
        });
    }

    /// Nodes of the routing table that this node has reached itself, at the address where it did.
    fn known(&mut self) -> Vec<PeerAddr> {
        let routed = self.routed();
        let reached =
            |c: &crate::seek::Contact| Some(PeerAddr::new(node_of(&c.peer)?, self.book.reached_at(&c.peer)?));
        routed.iter().filter_map(reached).take(MAX_KNOWN_PEERS).collect()
    }

    /// What a peer is a source by that a record says is to be reached at `said`.
    pub(crate) fn source_by_record(&self, peer: &PeerId, said: &[SocketAddr]) -> ProviderSource {
        if !self.lan.addrs(peer).is_empty() {
            return ProviderSource::Lan;
        }
        let own: Vec<SocketAddr> = self.listen.iter().copied().collect();
        self.book.source_by_record(peer, said, &own)
    }

    /// Peers with their addresses, the near ones first.
    fn peers(&self) -> Vec<Provider> {
        let own: Vec<SocketAddr> = self.listen.iter().copied().collect();
        let met = self.book.ours().map(|peer| (*peer, self.book.source(peer, &own)));
        let mut sources: HashMap<PeerId, ProviderSource> = met.collect();
        // Whomever mDNS named is on the link, wherever it is connected from.
        sources.extend(self.lan.ours().map(|(peer, _)| (*peer, ProviderSource::Lan)));
        let provider = |(peer, source): (PeerId, ProviderSource)| {
            let mut addrs = self.book.dialable(&peer);
            addrs.extend_from_slice(self.lan.addrs(&peer));
            let addrs = addrs::dedup(addrs);
            node_of(&peer).filter(|_| !addrs.is_empty()).map(|node| Provider { node, addrs, source })
        };
        let mut peers: Vec<Provider> = sources.into_iter().filter_map(provider).collect();
        peers.sort_by_key(|provider| (provider.source, provider.node));
        peers
    }
}
