//! What each of libp2p's events means to the node.

use std::net::SocketAddr;
use std::time::Instant;

use libp2p::kad::{self, GetProvidersOk, InboundRequest, QueryId, QueryResult};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns, ping};

use crate::addrs::{self, node_of, to_multiaddr, to_socket};
use crate::book::Speaks;
use crate::driver::Driver;
use crate::net::{BehaviourEvent, WALK_TIMEOUT};
use crate::records::is_withdrawal;
use crate::walks::Purpose;
use crate::{DiscoveryError, MAX_RECORD_ADDRS, ProviderRow, RECORD_TTL_SECS, TableVerdict, key};

/// Most of our addresses, as others see them, that are remembered.
const MAX_CANDIDATES: usize = 4;

impl Driver {
    pub(crate) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => self.on_listen(&address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listen(&address, false),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let remote = endpoint.get_remote_address();
                self.on_connected(peer_id, connection_id, remote, endpoint.is_dialer());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.book.closed(&peer_id, connection_id);
                self.update_mode();
                self.changed = true;
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                self.on_unreached(peer, &error);
            }
            SwarmEvent::NewExternalAddrCandidate { address } => self.on_candidate(&address),
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has trouble"),
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "a listener has ended");
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, &info);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_lan(found),
            BehaviourEvent::Mdns(mdns::Event::Expired(gone)) => {
                for (peer, addr) in gone {
                    if let Some(addr) = to_socket(&addr, Some(&peer)) {
                        self.lan.expired(&peer, &addr);
                    }
                }
                self.changed = true;
            }
            BehaviourEvent::Ping(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout | ping::Failure::Other { .. }),
                ..
            }) => {
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    /// A peer that is dialled in vain leaves the routing table, so that no walk waits for it, but only while
    /// others are reached: else the fault is on this side.
    fn on_unreached(&mut self, peer: PeerId, error: &DialError) {
        if !matches!(error, DialError::Transport(_) | DialError::WrongPeerId { .. }) {
            return;
        }
        if self.boot_peers.contains(&peer) {
            tracing::info!(%peer, %error, "cannot reach a bootstrap node; it is tried again");
        }
        if self.book.failed(&peer) && self.book.ours().next().is_some() {
            self.kad().remove_peer(&peer);
            self.changed = true;
        }
    }

    fn on_listen(&mut self, address: &Multiaddr, new: bool) {
        let Some(addr) = to_socket(address, None) else { return };
        if new {
            self.listen.insert(addr);
        } else {
            self.listen.remove(&addr);
        }
        self.republish();
    }

    fn on_connected(&mut self, peer: PeerId, link: ConnectionId, remote: &Multiaddr, dialed: bool) {
        let remote = to_socket(remote, None);
        self.book.connected(peer, link, remote, dialed, Instant::now());
        let from_afar = !dialed && remote.as_ref().is_some_and(addrs::is_global);
        if from_afar && !self.reached_from_afar {
            self.reached_from_afar = true;
            self.adopt_candidates();
        }
        self.changed = true;
    }

    /// Somebody says at which address it sees us. It is told to others only once a stranger far away has reached
    /// us: until then nothing shows that it leads here.
    fn on_candidate(&mut self, address: &Multiaddr) {
        let Some(addr) = to_socket(address, None).filter(addrs::is_global) else { return };
        if self.candidates.len() < MAX_CANDIDATES && !self.candidates.contains(&addr) {
            self.candidates.push(addr);
        }
        if self.reached_from_afar {
            self.adopt_candidates();
        }
    }

    fn adopt_candidates(&mut self) {
        for addr in std::mem::take(&mut self.candidates) {
            if self.external.len() < MAX_RECORD_ADDRS && !self.external.contains(&addr) {
                self.external.push(addr);
            }
        }
        self.republish();
    }

    fn on_lan(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, addr) in found {
            let Some(addr) = to_socket(&addr, Some(&peer)) else { continue };
            let allowed = self.allow.as_ref().is_none_or(|allow| allow.contains(&peer));
            if allowed && self.lan.discovered(peer, addr) {
                self.dial(peer, &[addr]);
            }
        }
        self.changed = true;
    }

    fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        let ours = info.protocol_version == self.names.identify && node_of(&peer).is_some();
        let serves = info.protocols.contains(&self.names.kad);
        let speaks = match (ours, serves) {
            (false, _) => Speaks::Foreign,
            (true, true) => Speaks::OursServer,
            (true, false) => Speaks::OursClient,
        };
        let listens = info.listen_addrs.iter().filter_map(|addr| to_socket(addr, Some(&peer))).collect();
        self.book.identified(&peer, speaks, listens, Instant::now());
        self.lan.identified(&peer, ours);
        match speaks {
            Speaks::OursServer => self.route(peer),
            _ => drop(self.swarm.behaviour_mut().kad.remove_peer(&peer)),
        }
        if !ours {
            tracing::debug!(%peer, speaks = %info.protocol_version, "not of this network");
            self.disconnect(peer);
        }
        self.update_mode();
        self.changed = true;
    }

    /// Puts a peer into the routing table with the addresses that we stand for, in place of any others.
    fn route(&mut self, peer: PeerId) {
        let addrs = self.book.dialable(&peer);
        let kad = &mut self.swarm.behaviour_mut().kad;
        let current = kad.kbucket(peer).and_then(|bucket| {
            let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer)?;
            Some(entry.node.value.iter().filter_map(|addr| to_socket(addr, None)).collect::<Vec<_>>())
        });
        let same = |current: Vec<SocketAddr>| {
            current.len() == addrs.len() && current.iter().all(|addr| addrs.contains(addr))
        };
        if current.is_some_and(same) {
            return;
        }
        kad.remove_peer(&peer);
        for addr in &addrs {
            kad.add_address(&peer, to_multiaddr(addr));
        }
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request } => self.on_request(request),
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                self.on_progress(id, result, stats.num_successes(), step.last);
            }
            kad::Event::RoutingUpdated { .. } => self.changed = true,
            _ => {}
        }
    }

    fn on_request(&mut self, request: InboundRequest) {
        match request {
            InboundRequest::AddProvider { record: Some(record) } => self.on_add_provider(&record),
            InboundRequest::PutRecord { source, record: Some(record), .. } if is_withdrawal(&record) => {
                let Some(node) = node_of(&source) else { return };
                if let Err(error) = self.table.remove(record.key.as_ref(), &node) {
                    tracing::error!(%error, "cannot remove a withdrawn provider record");
                }
            }
            _ => {}
        }
    }

    /// A peer says that it provides a key; libp2p has checked that it speaks for itself.
    fn on_add_provider(&mut self, record: &kad::ProviderRecord) {
        let peer = record.provider;
        let Some(provider) = node_of(&peer).filter(|_| key::is_key(record.key.as_ref())) else { return };
        let local = self.book.is_local(&peer);
        let told = record.addresses.iter().filter_map(|addr| to_socket(addr, Some(&peer)));
        let told = told.filter(|addr| addrs::acceptable(addr, local));
        // Where it really is, before what it says.
        let addrs = addrs::dedup(self.book.dialable(&peer).into_iter().chain(told).collect());
        let expires = self.clock.now().plus(RECORD_TTL_SECS);
        let row = ProviderRow { provider, addrs, expires, own: false };
        match self.table.add(record.key.as_ref(), row) {
            Ok(TableVerdict::Stored | TableVerdict::Displaced(_)) => {}
            Ok(verdict) => tracing::debug!(%peer, ?verdict, "a provider record was not kept"),
            Err(error) => tracing::error!(%error, "cannot keep a provider record"),
        }
    }

    fn on_progress(&mut self, query: QueryId, result: QueryResult, reached: u32, last: bool) {
        let Some(purpose) = self.walks.purpose(&query) else { return };
        if last {
            self.walks.ended(&query);
        }
        match (purpose, result) {
            (Purpose::Tell(id), QueryResult::StartProviding(told)) => {
                let answer = match told {
                    Ok(_) if reached > 0 || self.book.ours().next().is_some() => Ok(()),
                    Ok(_) => Err(DiscoveryError::NoPeers),
                    Err(_) => Err(DiscoveryError::Timeout { secs: WALK_TIMEOUT.as_secs() }),
                };
                self.walks.answer(id, answer);
            }
            // Taken back here already; whom the walk did not reach drops it in time.
            (Purpose::Tell(id), _) => self.walks.answer(id, Ok(())),
            (
                Purpose::Find(id),
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                for peer in providers {
                    self.on_provider(id, peer);
                }
            }
            (Purpose::Seek(id, peer), QueryResult::GetClosestPeers(Ok(found))) => {
                self.on_sought(id, peer, found);
            }
            _ => {}
        }
        if let (true, Purpose::Find(id) | Purpose::Seek(id, _)) = (last, purpose) {
            self.walks.close_if_done(id);
        }
    }

    /// A walk towards a provider without an address has ended.
    fn on_sought(&mut self, id: crate::walks::WalkId, peer: PeerId, found: kad::GetClosestPeersOk) {
        let told = found.peers.into_iter().filter(|info| info.peer_id == peer).flat_map(|info| info.addrs);
        let told: Vec<SocketAddr> = told.filter_map(|addr| to_socket(&addr, Some(&peer))).collect();
        self.hand_sought(id, peer, told);
    }
}
