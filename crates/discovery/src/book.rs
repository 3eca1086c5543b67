//! What is known of each peer: its connections, what it speaks, where it is reached. Bounded, and pure.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hubless_types::ProviderSource;
use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use crate::addrs::{self, Sightings};

/// Most peers remembered, connected or not.
const MAX_KNOWN: usize = 1_024;
/// Most sightings of a kind kept of one peer, the latest first.
const MAX_SIGHTINGS: usize = 4;
/// A connection younger than this is not closed for lack of room: whoever opened it may not have got to its question.
const MIN_AGE: Duration = Duration::from_secs(2);

/// Dials in a row after which a peer is given up.
const MAX_FAILURES: u32 = 2;

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// It has not said yet.
    Unknown,
    /// Our protocol, and others may ask it.
    OursServer,
    /// Our protocol, but it only asks.
    OursClient,
    /// Something else.
    Foreign,
}

#[derive(Debug)]
struct Known {
    links: HashMap<ConnectionId, Option<SocketAddr>>,
    speaks: Speaks,
    seen: Sightings,
    /// When it connected.
    since: Instant,
    /// When it last connected, identified itself, asked or answered.
    touched: Instant,
    /// Dials since then that did not reach it.
    failures: u32,
}

impl Known {
    fn is_ours(&self) -> bool {
        matches!(self.speaks, Speaks::OursServer | Speaks::OursClient)
    }

    fn is_connected(&self) -> bool {
        !self.links.is_empty()
    }
}

/// The peers.
#[derive(Debug, Default)]
pub(crate) struct PeerBook {
    peers: HashMap<PeerId, Known>,
}

impl PeerBook {
    /// A connection was opened; `dialed` if by us.
    pub(crate) fn connected(
        &mut self,
        peer: PeerId,
        link: ConnectionId,
        remote: Option<SocketAddr>,
        dialed: bool,
        now: Instant,
    ) {
        self.make_room(&peer);
        let known = self.peers.entry(peer).or_insert_with(|| Known {
            links: HashMap::new(),
            speaks: Speaks::Unknown,
            seen: Sightings::default(),
            since: now,
            touched: now,
            failures: 0,
        });
        if !known.is_connected() {
            known.since = now;
        }
        known.links.insert(link, remote);
        known.touched = now;
        known.failures = 0;
        match remote {
            Some(addr) if dialed => remember(&mut known.seen.dialed, addr),
            Some(addr) => remember(&mut known.seen.came_from, addr.ip()),
            None => {}
        }
    }

    /// A connection ended.
    pub(crate) fn closed(&mut self, peer: &PeerId, link: ConnectionId) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.links.remove(&link);
        }
    }

    /// A dial did not reach a peer: whether it is given up.
    pub(crate) fn failed(&mut self, peer: &PeerId) -> bool {
        let Some(known) = self.peers.get_mut(peer) else { return true };
        known.failures = known.failures.saturating_add(1);
        !known.is_connected() && known.failures >= MAX_FAILURES
    }

    /// A peer answered a question.
    pub(crate) fn answered(&mut self, peer: &PeerId, now: Instant) {
        if let Some(known) = self.peers.get_mut(peer) {
            (known.failures, known.touched) = (0, now);
        }
    }

    /// A peer asked something.
    pub(crate) fn asked(&mut self, peer: &PeerId, now: Instant) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.touched = now;
        }
    }

    /// A peer did not answer a question in time: whether it is given up.
    pub(crate) fn unanswered(&mut self, peer: &PeerId) -> bool {
        let Some(known) = self.peers.get_mut(peer) else { return true };
        known.failures = known.failures.saturating_add(1);
        known.failures >= MAX_FAILURES
    }

    /// A peer has said what it speaks and where it listens.
    pub(crate) fn identified(
        &mut self,
        peer: &PeerId,
        speaks: Speaks,
        listens: Vec<SocketAddr>,
        now: Instant,
    ) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.speaks = speaks;
            known.seen.listens = addrs::dedup(listens);
            known.touched = now;
        }
    }

    /// Where to dial a peer, likeliest first; empty if it is not known.
    pub(crate) fn dialable(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.peers.get(peer).map(|known| known.seen.dialable()).unwrap_or_default()
    }

    /// Whether a peer was met on this machine.
    pub(crate) fn is_local(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|known| known.seen.is_local())
    }

    /// Whether a peer was met on this machine or at a private address.
    pub(crate) fn is_near(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|known| known.seen.is_near())
    }

    /// Where a peer was reached last.
    pub(crate) fn reached_at(&self, peer: &PeerId) -> Option<SocketAddr> {
        self.peers.get(peer)?.seen.dialed.first().copied()
    }

    /// Peers of our network that are connected.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &PeerId> {
        self.peers.iter().filter(|(_, known)| known.is_connected() && known.is_ours()).map(|(peer, _)| peer)
    }

    /// What a connected peer of ours is a source by, where `own` are our addresses.
    pub(crate) fn source(&self, peer: &PeerId, own: &[SocketAddr]) -> ProviderSource {
        let near = self.links(peer).any(|addr| addrs::is_on_link(addr, own));
        if near { ProviderSource::Lan } else { ProviderSource::Connected }
    }

    /// What a peer that a record names is a source by, where `said` is all that is known of where it is dialled.
    ///
    /// Where it is connected, the connection says it. Else it is near if there is no other way to it than a link of ours:
    /// a private address beside a public one may lead to a host of another home that is numbered alike.
    pub(crate) fn source_by_record(
        &self,
        peer: &PeerId,
        said: &[SocketAddr],
        own: &[SocketAddr],
    ) -> ProviderSource {
        let near = match self.links(peer).next() {
            Some(_) => self.source(peer, own) == ProviderSource::Lan,
            None => !said.is_empty() && said.iter().all(|addr| addrs::is_on_link(addr, own)),
        };
        if near { ProviderSource::Lan } else { ProviderSource::Dht }
    }

    /// Where a peer is connected from or to.
    fn links(&self, peer: &PeerId) -> impl Iterator<Item = &SocketAddr> {
        self.peers.get(peer).into_iter().flat_map(|known| known.links.values().flatten())
    }

    /// Whether a connected peer of ours is reached at a global address.
    pub(crate) fn talks_afar(&self) -> bool {
        let ours = self.peers.values().filter(|known| known.is_ours());
        ours.flat_map(|known| known.links.values().flatten()).any(addrs::is_global)
    }

    /// Connected peers that have not said what they speak since `limit` before `now`.
    pub(crate) fn silent(&self, now: Instant, limit: Duration) -> Vec<PeerId> {
        let silent = self.peers.iter().filter(|(_, known)| {
            known.is_connected()
                && known.speaks == Speaks::Unknown
                && now.duration_since(known.touched) >= limit
        });
        silent.map(|(peer, _)| *peer).collect()
    }

    /// Whom to disconnect so that at most `target` peers remain: those longest without news, never one of
    /// `keep`, never one that connected just now, however busy it makes itself.
    pub(crate) fn surplus(&self, target: usize, keep: &HashSet<PeerId>, now: Instant) -> Vec<PeerId> {
        let connected: Vec<_> = self.peers.iter().filter(|(_, known)| known.is_connected()).collect();
        let over = connected.len().saturating_sub(target);
        let may_go = |(peer, known): &(&PeerId, &Known)| {
            !keep.contains(*peer) && now.duration_since(known.since) >= MIN_AGE
        };
        let mut candidates: Vec<_> = connected.into_iter().filter(may_go).collect();
        candidates.sort_by_key(|(_, known)| known.touched);
        candidates.into_iter().take(over).map(|(peer, _)| *peer).collect()
    }

    /// Forgets the peer that has been away longest, if the book is full. Connected ones are bounded elsewhere.
    fn make_room(&mut self, newcomer: &PeerId) {
        if self.peers.len() < MAX_KNOWN || self.peers.contains_key(newcomer) {
            return;
        }
        let away = self.peers.iter().filter(|(_, known)| !known.is_connected());
        if let Some(peer) = away.min_by_key(|(_, known)| known.touched).map(|(peer, _)| *peer) {
            self.peers.remove(&peer);
        }
    }
}

fn remember<T: PartialEq>(list: &mut Vec<T>, item: T) {
    list.retain(|known| *known != item);
    list.insert(0, item);
    list.truncate(MAX_SIGHTINGS);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn addr(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_peer_counts_while_connected_and_is_found_again_afterwards() {
        let (mut book, peer, now) = (PeerBook::default(), PeerId::random(), Instant::now());
        book.connected(peer, link(1), addr("10.0.0.2:4001"), true, now);
        assert_eq!(book.ours().count(), 0);
        book.identified(&peer, Speaks::OursServer, Vec::new(), now);
        assert_eq!(book.ours().collect::<Vec<_>>(), [&peer]);
        book.closed(&peer, link(1));
        assert_eq!(book.ours().count(), 0);
        assert_eq!(book.dialable(&peer), [addr("10.0.0.2:4001").unwrap()]);
    }

    /// Over a virtual private network or a carrier's NAT, a peer is as far away as over the internet.
    #[test]
    fn a_peer_is_a_neighbour_only_on_a_link_of_ours() {
        let (mut book, now) = (PeerBook::default(), Instant::now());
        let own = [addr("10.1.2.3:4001").unwrap(), addr("127.0.0.1:4001").unwrap()];
        let mut source = |n: usize, at: &str, dialed: bool| {
            let peer = PeerId::random();
            book.connected(peer, link(n), addr(at), dialed, now);
            book.identified(&peer, Speaks::OursServer, Vec::new(), now);
            book.source(&peer, &own)
        };
        let away = ["100.64.3.4:4001", "10.9.2.3:4001", "172.16.0.3:4001", "9.9.9.9:4001"];
        for (n, at) in away.iter().enumerate() {
            assert_eq!(source(n, at, n % 2 == 0), ProviderSource::Connected, "{at}");
        }
        for (n, at) in ["10.1.2.77:50123", "127.0.0.1:50123"].iter().enumerate() {
            assert_eq!(source(9 + n, at, n % 2 == 0), ProviderSource::Lan, "{at}");
        }
    }

    /// A record can say anything of where its provider is: only one that leads nowhere but to a link of ours makes it a
    /// neighbour, and a connection that there is outranks it.
    #[test]
    fn a_provider_out_of_a_record_is_a_neighbour_if_there_is_no_way_to_it_but_our_link() {
        let (mut book, now) = (PeerBook::default(), Instant::now());
        let own = [addr("192.168.1.3:4001").unwrap()];
        let said = |text: &str| text.split_whitespace().map(|a| a.parse().unwrap()).collect::<Vec<_>>();
        let stranger = PeerId::random();
        let by_record =
            |book: &PeerBook, peer: &PeerId, at: &str| book.source_by_record(peer, &said(at), &own);
        for near in ["192.168.1.7:4001", "192.168.1.7:4001 192.168.1.8:4001"] {
            assert_eq!(by_record(&book, &stranger, near), ProviderSource::Lan, "{near}");
        }
        for far in ["9.9.9.9:1 192.168.1.7:1", "192.168.2.7:1", "100.64.3.4:1", "9.9.9.9:1", ""] {
            assert_eq!(by_record(&book, &stranger, far), ProviderSource::Dht, "{far}");
        }
        let [away, here] = [PeerId::random(), PeerId::random()];
        book.connected(away, link(1), addr("9.9.9.9:4001"), true, now);
        book.connected(here, link(2), addr("192.168.1.7:50123"), false, now);
        assert_eq!(by_record(&book, &away, "192.168.1.7:4001"), ProviderSource::Dht);
        assert_eq!(by_record(&book, &here, "9.9.9.9:1 192.168.1.7:4001"), ProviderSource::Lan);
    }

    #[test]
    fn a_peer_is_given_up_after_two_dials_in_a_row() {
        let (mut book, peer, now) = (PeerBook::default(), PeerId::random(), Instant::now());
        book.connected(peer, link(1), None, true, now);
        assert!(!book.failed(&peer) && !book.failed(&peer), "it is connected");
        book.connected(peer, link(2), None, true, now);
        book.closed(&peer, link(1));
        book.closed(&peer, link(2));
        assert!(!book.failed(&peer) && book.failed(&peer));
    }

    #[test]
    fn a_peer_that_says_nothing_is_named_after_a_while() {
        let (mut book, peer, now) = (PeerBook::default(), PeerId::random(), Instant::now());
        book.connected(peer, link(1), None, false, now);
        assert!(book.silent(now, Duration::from_secs(10)).is_empty());
        assert_eq!(book.silent(now + Duration::from_secs(10), Duration::from_secs(10)), [peer]);
    }

    #[test]
    fn the_longest_idle_go_first_and_the_kept_and_the_new_stay() {
        let (mut book, now) = (PeerBook::default(), Instant::now());
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        for (n, peer) in peers.iter().enumerate() {
            book.connected(*peer, link(n), None, true, now + Duration::from_secs(n as u64));
        }
        let keep = HashSet::from([peers[0]]);
        let gone = book.surplus(3, &keep, now + MIN_AGE + Duration::from_secs(2));
        assert_eq!(gone, [peers[1], peers[2]]);
        assert_eq!(book.surplus(0, &keep, now + MIN_AGE + Duration::from_secs(1)), [peers[1]]);
    }

    #[test]
    fn who_answers_stays_longer_and_who_only_asks_has_no_claim() {
        let (mut book, now) = (PeerBook::default(), Instant::now());
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        for (n, peer) in peers.iter().enumerate() {
            book.connected(*peer, link(n), None, false, now);
            book.asked(peer, now + Duration::from_millis(n as u64));
        }
        book.answered(&peers[0], now + MIN_AGE);
        assert_eq!(book.surplus(2, &HashSet::new(), now + MIN_AGE), [peers[1]]);
        assert_eq!(book.surplus(0, &HashSet::new(), now + MIN_AGE).len(), 3);
    }

    #[test]
    fn the_book_is_bounded_and_forgets_the_longest_away() {
        let (mut book, now) = (PeerBook::default(), Instant::now());
        let first = PeerId::random();
        book.connected(first, link(0), addr("10.0.0.2:1"), true, now);
        book.closed(&first, link(0));
        for n in 1..=MAX_KNOWN {
            let peer = PeerId::random();
            book.connected(peer, link(n), None, true, now + Duration::from_secs(1));
            book.closed(&peer, link(n));
        }
        assert_eq!(book.peers.len(), MAX_KNOWN);
        assert!(book.dialable(&first).is_empty());
    }
}
