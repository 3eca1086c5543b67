//! Orders become walks, and what the walks meet becomes answers.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Instant;

use hubless_types::{NodeId, Provider, ProviderSource};
use libp2p::PeerId;
use libp2p::kad::{self, RecordKey};
use libp2p::swarm::{ConnectionId, NetworkBehaviour};

use crate::DiscoveryError;
use crate::addrs::{self, node_of, to_socket};
use crate::driver::Driver;
use crate::records::withdrawal;
use crate::walks::{FindOrder, JOIN_WAIT, Purpose, TellOrder, WalkId};

/// How many of the peers nearest to a provider without an address are sought to learn it.
const SEEK_WIDTH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

impl Driver {
    /// Whether a first peer may still turn up: later than this after the start, a walk no longer waits for one.
    fn is_joining(&self, now: Instant) -> bool {
        let hope = self.mdns || !self.boot.is_empty();
        hope && now.duration_since(self.began) < JOIN_WAIT
    }

    pub(crate) fn take_tell(&mut self, order: TellOrder) {
        let now = Instant::now();
        let key = RecordKey::from(order.key.clone());
        // Here at once, whatever becomes of the walk.
        if order.withdraw {
            self.kad().stop_providing(&key);
        }
        let id = self.walks.add_tell(order, now);
        self.begin_or_wait(Purpose::Tell(id), now, false);
    }

    pub(crate) fn take_find(&mut self, order: FindOrder) {
        let now = Instant::now();
        let id = self.walks.add_find(order, now, self.lookup_timeout);
        self.begin_or_wait(Purpose::Find(id), now, false);
    }

    pub(crate) fn start_waiting(&mut self, now: Instant) {
        for (purpose, waited) in self.walks.waiting(now) {
            self.begin_or_wait(purpose, now, waited);
        }
    }

    fn begin_or_wait(&mut self, purpose: Purpose, now: Instant, waited: bool) {
        let hopeless = waited || !self.is_joining(now);
        if self.routes() == 0 && !hopeless {
            return;
        }
        match purpose {
            Purpose::Tell(id) => self.begin_tell(id),
            Purpose::Find(id) => self.begin_find(id),
            Purpose::Seek(..) => {}
        }
    }

    fn begin_tell(&mut self, id: WalkId) {
        let Some((key, withdraw)) = self.walks.tell_key(id) else { return };
        let key = RecordKey::from(key);
        let query = match withdraw {
            true => self.kad().put_record(withdrawal(key), kad::Quorum::All),
            false => self.kad().start_providing(key),
        };
        match query {
            Ok(query) => self.walks.begun(query, Purpose::Tell(id)),
            Err(error) => self.walks.answer(id, Err(DiscoveryError::Table(error.into()))),
        }
    }

    fn begin_find(&mut self, id: WalkId) {
        let Some(key) = self.walks.find_key(id) else { return };
        let query = self.kad().get_providers(RecordKey::from(key));
        self.walks.begun(query, Purpose::Find(id));
    }

    pub(crate) fn close_find(&mut self, id: WalkId) {
        for query in self.walks.close(id) {
            if let Some(mut query) = self.kad().query_mut(&query) {
                query.finish();
            }
        }
    }

    /// A lookup was named a provider: hand it on, or look for its address.
    pub(crate) fn on_provider(&mut self, id: WalkId, peer: PeerId) {
        let Some(node) = node_of(&peer).filter(|node| *node != self.node) else { return };
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.contains(&peer));
        if !allowed || !self.walks.is_new(id, &peer) {
            return;
        }
        let addrs = self.addrs_of(id, &peer, node);
        if !addrs.is_empty() {
            self.walks.hand(id, peer, Provider { node, addrs, source: ProviderSource::Dht });
        } else if self.walks.may_seek(id, &peer) {
            let query = self.kad().get_n_closest_peers(peer, SEEK_WIDTH);
            self.walks.begun(query, Purpose::Seek(id, peer));
        }
    }

    /// The search for a provider's address has ended.
    pub(crate) fn hand_sought(&mut self, id: WalkId, peer: PeerId, told: Vec<SocketAddr>) {
        let Some(node) = node_of(&peer) else { return };
        let mut known = self.addrs_of(id, &peer, node);
        known.extend(told);
        let addrs = addrs::told(known, &[]);
        if !addrs.is_empty() {
            self.walks.hand(id, peer, Provider { node, addrs, source: ProviderSource::Dht });
        }
    }

    /// Every address that is known of a provider: by meeting it, from the local network, from the routing table
    /// and the answers to the running queries, from our own table.
    fn addrs_of(&mut self, id: WalkId, peer: &PeerId, node: NodeId) -> Vec<SocketAddr> {
        let mut known = self.book.dialable(peer);
        known.extend_from_slice(self.lan.addrs(peer));
        known.extend(self.dial_addrs(peer).iter().filter_map(|addr| to_socket(addr, Some(peer))));
        let now = self.clock.now();
        let rows = self.walks.find_key(id).map(|key| self.table.providers(&key, now));
        let rows = rows.and_then(Result::ok).unwrap_or_default();
        known.extend(rows.into_iter().filter(|row| row.provider == node).flat_map(|row| row.addrs));
        let own: Vec<SocketAddr> = self.listen.iter().chain(&self.published).copied().collect();
        addrs::told(known, &own)
    }

    /// The addresses at which Kademlia would dial a peer. Providers come without any, but while the query runs
    /// Kademlia knows those that came with them, and tells whoever is about to dial. This only reads.
    fn dial_addrs(&mut self, peer: &PeerId) -> Vec<libp2p::Multiaddr> {
        let (unused, role) = (ConnectionId::new_unchecked(0), libp2p::core::Endpoint::Dialer);
        self.kad().handle_pending_outbound_connection(unused, Some(*peer), &[], role).unwrap_or_default()
    }
}
