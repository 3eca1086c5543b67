//! What each of libp2p's events means to the node.

use std::net::SocketAddr;
use std::time::Instant;

use libp2p::kad;
use libp2p::request_response::{self, Message, OutboundFailure};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns, ping};

use crate::MAX_RECORD_ADDRS;
use crate::addrs::{self, node_of, to_multiaddr, to_socket};
use crate::book::Speaks;
use crate::driver::Driver;
use crate::net::BehaviourEvent;
use crate::wire::{Answer, Ask};

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
            BehaviourEvent::Kad(kad::Event::RoutingUpdated { .. }) => self.changed = true,
            BehaviourEvent::Records(event) => self.on_records(event),
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

    fn on_records(&mut self, event: request_response::Event<Ask, Answer>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { .. } => self.on_ask(peer, message),
                Message::Response { .. } => self.on_answer(peer, message),
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                let why = match error {
                    OutboundFailure::DialFailure => "it cannot be reached",
                    OutboundFailure::Timeout => "it did not answer in time",
                    OutboundFailure::ConnectionClosed => "it hung up",
                    OutboundFailure::UnsupportedProtocols => "it does not speak of records",
                    OutboundFailure::Io(_) => "its answer could not be read",
                };
                let late = matches!(error, OutboundFailure::Timeout);
                self.on_no_answer(request_id, why, late);
            }
            _ => {}
        }
    }
}
