//! Orders become walks and batches, and what these meet becomes answers.

use std::net::SocketAddr;
use std::time::Instant;

use hubless_types::{NodeId, Provider};
use libp2p::PeerId;
use libp2p::request_response::{Message, OutboundRequestId};
use rand::seq::SliceRandom as _;

use crate::addrs::{self, node_of, peer_of, to_multiaddr, to_socket};
use crate::driver::Driver;
use crate::net::RECORDS_TIMEOUT;
use crate::place::{K, Place, estimate, expected_bits};
use crate::seek::{Contact, GIVE_UP_AFTER, Seek};
use crate::sweep::{Batch, Keepers, Step};
use crate::walks::{FindOrder, JOIN_WAIT, News, Purpose, TellOrder, WalkId};
use crate::wire::{Answer, Ask, MAX_CLOSER, Named};
use crate::{DiscoveryError, ProviderRow, RECORD_TTL_SECS};

/// Of the routing table so many nodes begin a walk.
const START_WITH: usize = 64;

impl Driver {
    /// Whether a first peer may still turn up: later than this after the start, a walk no longer waits for one.
    fn is_joining(&self, now: Instant) -> bool {
        let hope = self.mdns || !self.boot.is_empty();
        hope && now.duration_since(self.began) < JOIN_WAIT
    }

    pub(crate) fn take_tell(&mut self, order: TellOrder) {
        let now = Instant::now();
        // Here at once, whatever becomes of the walk.
        if let Err(error) = self.note_own(&order) {
            let _ = order.reply.send(Err(DiscoveryError::Table(error)));
            return;
        }
        let id = self.walks.add_tell(order, now);
        self.begin_or_wait(id, now, false);
    }

    fn note_own(&self, order: &TellOrder) -> Result<(), crate::TableError> {
        let expires = self.clock.now().plus(RECORD_TTL_SECS);
        let row = ProviderRow { provider: self.node, addrs: Vec::new(), expires, own: true };
        match order.news {
            News::Provided { .. } => self.table.add_many(&order.keys, &row).map(drop),
            News::Withdrawn => self.table.remove_many(&order.keys, &self.node).map(drop),
        }
    }

    pub(crate) fn take_find(&mut self, order: FindOrder) {
        let now = Instant::now();
        let key = order.key.clone();
        let id = self.walks.add_find(order, now, self.lookup_timeout);
        let here = self.table.providers(&key, self.clock.now()).unwrap_or_default();
        let here = here.into_iter().map(|row| Named { node: row.provider, addrs: row.addrs }).collect();
        self.hand(id, here, None, now);
        self.begin_or_wait(id, now, false);
    }

    pub(crate) fn start_waiting(&mut self, now: Instant) {
        for (id, waited) in self.walks.waiting(now) {
            self.begin_or_wait(id, now, waited);
        }
    }

    fn begin_or_wait(&mut self, id: WalkId, now: Instant, waited: bool) {
        if self.routes() == 0 && !waited && self.is_joining(now) {
            return;
        }
        self.walks.begun(id);
        if let Some(key) = self.walks.finds.get(&id).map(|find| find.order.key.clone()) {
            let walk = self.new_walk(Place::of_key(&key));
            if let Some(find) = self.walks.finds.get_mut(&id) {
                find.walk = Some(walk);
            }
        }
        self.advance(id, now);
    }

    /// Nodes of the routing table.
    pub(crate) fn routed(&mut self) -> Vec<Contact> {
        let mut routed = Vec::new();
        for bucket in self.kad().kbuckets() {
            for entry in bucket.iter() {
                let peer = *entry.node.key.preimage();
                let addrs = entry.node.value.iter().filter_map(|addr| to_socket(addr, Some(&peer)));
                routed.push(Contact::new(peer, addrs.collect()));
            }
        }
        routed
    }

    /// How many nodes the network is taken to have.
    pub(crate) fn network(&mut self) -> u64 {
        let places: Vec<Place> = self.routed().into_iter().map(|c| c.place).collect();
        estimate(&self.place, places, K)
    }

    fn new_walk(&mut self, target: Place) -> Seek {
        let mut routed = self.routed();
        let network = estimate(&self.place, routed.iter().map(|c| c.place), K);
        routed.sort_by_key(|c| target.distance(&c.place));
        routed.truncate(START_WITH);
        let start: Vec<_> = routed
            .into_iter()
            .map(|c| (self.swarm.is_connected(&c.peer), c))
            .map(|(on, c)| (c, on))
            .collect();
        Seek::new(target, expected_bits(network), start)
    }

    /// Nodes near a place, and some of those that share its first bits, for an answer to `asker`. Which of the latter
    /// is left to chance, so that a crowd around the place cannot hide everybody else. Loopback addresses are for askers
    /// on this machine alone.
    pub(crate) fn near(&mut self, target: &Place, bits: u8, asker: &PeerId) -> Vec<Named> {
        let local = self.book.is_local(asker);
        let mut routed = self.routed();
        routed.iter_mut().for_each(|c| c.addrs.retain(|addr| addrs::acceptable(addr, local)));
        routed.retain(|c| c.peer != *asker && !c.addrs.is_empty());
        routed.sort_by_key(|c| target.distance(&c.place));
        let mut rest = routed.split_off(routed.len().min(K));
        rest.retain(|c| c.place.shared_bits(target) >= u32::from(bits));
        rest.shuffle(&mut rand::rng());
        rest.truncate(MAX_CLOSER - K);
        let named = |c: Contact| Some(Named { node: node_of(&c.peer)?, addrs: addrs::dedup(c.addrs) });
        routed.into_iter().chain(rest).filter_map(named).collect()
    }

    /// Gets on with everything that is under way.
    pub(crate) fn advance_all(&mut self, now: Instant) {
        let late: Vec<PeerId> = self.walks.seeks().flat_map(|seek| seek.give_up(now)).collect();
        let asked = now.checked_sub(GIVE_UP_AFTER);
        late.into_iter().for_each(|peer| self.on_silence(peer, asked));
        for id in self.walks.running() {
            self.advance(id, now);
        }
    }

    fn advance(&mut self, id: WalkId, now: Instant) {
        self.advance_find(id, now);
        self.advance_tell(id, now);
    }

    fn advance_find(&mut self, id: WalkId, now: Instant) {
        let Some(find) = self.walks.finds.get(&id) else { return };
        let key = find.order.key.clone();
        let bits = find.walk.as_ref().map_or(0, Seek::bits) as u8;
        self.ask_on(id, now, || Ask::Find { key: key.clone(), bits });
        if self.walks.seek(id).is_some_and(|walk| walk.is_over()) {
            self.close_find(id);
        }
    }

    /// Asks whoever is next on an order's walk.
    fn ask_on(&mut self, id: WalkId, now: Instant, ask: impl Fn() -> Ask) {
        while let Some(contact) = self.walks.seek(id).and_then(|walk| walk.next(now)) {
            self.ask(Purpose::Walk(id), &contact, ask());
        }
    }

    fn ask(&mut self, purpose: Purpose, contact: &Contact, ask: Ask) {
        let addrs = contact.addrs.iter().map(to_multiaddr).collect();
        let records = &mut self.swarm.behaviour_mut().records;
        let request = records.send_request_with_addresses(&contact.peer, ask, addrs);
        self.walks.ask(request, purpose, contact.peer);
    }

    fn advance_tell(&mut self, id: WalkId, now: Instant) {
        while self.walks.tells.contains_key(&id) {
            if let Some((place, bits)) = self.walks.seek(id).map(|walk| (walk.target(), walk.bits())) {
                self.ask_on(id, now, || Ask::Near { place, bits: bits as u8 });
                if !self.learn(id, now) {
                    return;
                }
            }
            let Some(tell) = self.walks.tells.get_mut(&id) else { return };
            match tell.sweep.next(&self.regions, now) {
                Step::Walk(place) => {
                    let walk = self.new_walk(place);
                    if let Some(tell) = self.walks.tells.get_mut(&id) {
                        tell.walk = Some(walk);
                    }
                }
                Step::Send(batch) => self.send(id, batch),
                Step::Wait => return,
                Step::Done => self.close_tell(id),
            }
        }
    }

    /// Takes what an announcement's walk learned, if it is over.
    fn learn(&mut self, id: WalkId, now: Instant) -> bool {
        let network = self.network();
        let Some(tell) = self.walks.tells.get_mut(&id) else { return false };
        let Some(walk) = tell.walk.take_if(|walk| walk.is_over()) else { return false };
        let (region, nodes) = walk.learned();
        tell.sweep.walked(!nodes.is_empty());
        // What was learned of a network half as large names too few nodes now.
        if network > 2 * self.regions_of {
            self.regions.forget();
            self.regions_of = network;
        }
        self.regions.learn(Keepers::new(region, nodes, now));
        true
    }

    fn send(&mut self, id: WalkId, batch: Batch) {
        let Some(tell) = self.walks.tells.get(&id) else { return };
        let Batch { number, to, keys } = batch;
        let ask = match tell.news {
            News::Provided { ttl } => Ask::Announce { ttl, addrs: self.published.clone(), keys },
            News::Withdrawn => Ask::Withdraw { keys },
        };
        self.ask(Purpose::Batch(id, number), &to, ask);
    }

    fn close_tell(&mut self, id: WalkId) {
        let Some(tell) = self.walks.tells.remove(&id) else { return };
        let tally = tell.sweep.tally();
        // Where somebody was there to be told, it depends on the keys who: what came of each is in the tally.
        let nobody = tally.messages == 0 && !tally.missed.is_empty();
        let answer = match tell.news {
            News::Provided { .. } if nobody => Err(DiscoveryError::NoPeers),
            // Taken back here already; whom it did not reach drops it in time.
            _ => Ok(tally),
        };
        let _ = tell.reply.send(answer);
    }

    pub(crate) fn close_find(&mut self, id: WalkId) {
        let network = self.network();
        if let Some(find) = self.walks.finds.remove(&id) {
            find.finish(network, Instant::now());
        }
    }

    /// Somebody answered.
    pub(crate) fn on_answer(&mut self, peer: PeerId, message: Message<Ask, Answer>) {
        let Message::Response { request_id, response } = message else { return };
        let now = Instant::now();
        self.heard = Some(now);
        self.book.answered(&peer, now);
        let Some((purpose, _)) = self.walks.answered(&request_id) else { return };
        let id = match (purpose, response) {
            (Purpose::Walk(id), Answer::Found { providers, closer }) => {
                let count = providers.len();
                let closer = self.contacts(closer, &peer);
                if let Some(walk) = self.walks.seek(id) {
                    walk.answered(&peer, closer, count, now);
                }
                self.hand(id, providers, Some(&peer), now);
                id
            }
            (Purpose::Batch(id, number), Answer::Kept { kept, refused }) => {
                if let Some(tell) = self.walks.tells.get_mut(&id) {
                    tell.sweep.kept(number, kept, refused);
                }
                id
            }
            (purpose, _) => self.missed(purpose, &peer, "it answered something else", now),
        };
        self.advance(id, now);
    }

    /// A question was not answered; `late` if it might still be.
    pub(crate) fn on_no_answer(&mut self, request: OutboundRequestId, why: &'static str, late: bool) {
        let Some((purpose, peer)) = self.walks.answered(&request) else { return };
        let now = Instant::now();
        // A walk has given it up long before, which counted as a silence then.
        if late && matches!(purpose, Purpose::Batch(..)) {
            self.on_silence(peer, now.checked_sub(RECORDS_TIMEOUT));
        }
        let id = self.missed(purpose, &peer, why, now);
        self.advance(id, now);
    }

    fn missed(&mut self, purpose: Purpose, peer: &PeerId, why: &'static str, now: Instant) -> WalkId {
        match purpose {
            Purpose::Walk(id) => {
                if let Some(walk) = self.walks.seek(id) {
                    walk.failed(peer, why, now);
                }
                id
            }
            Purpose::Batch(id, number) => {
                self.regions.lost(peer);
                if let Some(tell) = self.walks.tells.get_mut(&id) {
                    tell.sweep.lost(number, peer);
                }
                id
            }
        }
    }

    /// A node that leaves questions unanswered leaves the routing table, so that no walk waits for it again, but only
    /// if somebody else has answered since it was asked: else the fault is on this side, and nobody would be left to
    /// ask when it is mended.
    fn on_silence(&mut self, peer: PeerId, asked: Option<Instant>) {
        if self.heard < asked {
            return;
        }
        if self.book.unanswered(&peer) {
            self.kad().remove_peer(&peer);
            self.disconnect(peer);
            self.changed = true;
        }
    }

    /// Nodes that `by` named, as far as they may be asked.
    fn contacts(&mut self, named: Vec<Named>, by: &PeerId) -> Vec<(Contact, bool)> {
        let mut contacts = Vec::new();
        for Named { node, addrs } in named {
            let Some(peer) = self.may_use(&node) else { continue };
            let addrs = self.addrs_of(&peer, addrs, Some(by));
            let connected = self.swarm.is_connected(&peer);
            if connected || !addrs.is_empty() {
                contacts.push((Contact::new(peer, addrs), connected));
            }
        }
        contacts
    }

    /// The peer of a node, if it is not this one and no stranger to a closed swarm.
    fn may_use(&self, node: &NodeId) -> Option<PeerId> {
        let peer = peer_of(node).filter(|_| *node != self.node)?;
        self.allow.as_ref().is_none_or(|allow| allow.contains(&peer)).then_some(peer)
    }

    /// Hands on the providers that `by` named, or that are known here.
    fn hand(&mut self, id: WalkId, named: Vec<Named>, by: Option<&PeerId>, now: Instant) {
        let mut found = Vec::new();
        for Named { node, addrs } in named {
            let Some(peer) = self.may_use(&node) else { continue };
            let addrs = self.addrs_of(&peer, addrs, by);
            if !addrs.is_empty() {
                let source = self.source_by_record(&peer, &addrs);
                found.push(Provider { node, addrs, source });
            }
        }
        if let Some(find) = self.walks.finds.get_mut(&id) {
            find.hand(found, now);
        }
    }

    /// Where a peer can be dialled: where it was met, then what `by` says of it.
    pub(crate) fn addrs_of(
        &self,
        peer: &PeerId,
        heard: Vec<SocketAddr>,
        by: Option<&PeerId>,
    ) -> Vec<SocketAddr> {
        let mut known = self.book.dialable(peer);
        known.extend_from_slice(self.lan.addrs(peer));
        let own: Vec<SocketAddr> = self.listen.iter().chain(&self.published).copied().collect();
        let (local, near) = match by {
            Some(by) => (self.book.is_local(by), self.book.is_near(by)),
            None => (self.book.is_local(peer), self.book.is_near(peer)),
        };
        known.extend(heard.into_iter().filter(|addr| addrs::believable(addr, local, near, &own)));
        addrs::told(known, &own)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use hubless_types::{ProviderSource, SystemClock};
    use libp2p::swarm::ConnectionId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::book::Speaks;
    use crate::{DhtConfig, MemoryTable, node_id_of_secret, pick_port};

    /// A lookup finds two by records; the one that is said to be on this node's own link is near, the other is not.
    #[tokio::test]
    async fn a_provider_that_a_record_puts_on_our_link_is_handed_on_as_near() {
        let (ip, now) = ([127, 0, 0, 1].into(), Instant::now());
        let config = DhtConfig::new([1; 32], vec![SocketAddr::new(ip, pick_port(ip).unwrap())]);
        let ((_tell, tells), (_find, finds)) = (mpsc::channel(1), mpsc::channel(1));
        let (table, clock) = (Arc::new(MemoryTable::new()), Arc::new(SystemClock));
        let mut seeker = Driver::start(config, table, clock, tells, finds).await.unwrap().0;
        seeker.listen.insert("192.168.7.2:4001".parse().unwrap());
        let by = peer_of(&node_id_of_secret(&[2; 32])).unwrap();
        seeker.book.connected(by, ConnectionId::new_unchecked(1), "9.9.9.9:4001".parse().ok(), true, now);
        seeker.book.identified(&by, Speaks::OursServer, Vec::new(), now);
        let (to, mut found) = mpsc::channel(8);
        let order = FindOrder { key: vec![1], to, trace: None };
        let id = seeker.walks.add_find(order, now, Duration::from_secs(4));

        let named =
            |n: u8, at: &str| Named { node: node_id_of_secret(&[n; 32]), addrs: vec![at.parse().unwrap()] };
        let named = vec![named(3, "192.168.7.9:4001"), named(4, "1.1.1.1:4001")];
        seeker.hand(id, named, Some(&by), now);

        let sources = [found.recv().await, found.recv().await].map(|p| p.map(|p| p.source));
        assert_eq!(sources, [Some(ProviderSource::Lan), Some(ProviderSource::Dht)]);
    }
}
