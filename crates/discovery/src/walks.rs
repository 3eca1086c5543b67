//! Walks in progress: who waits for which Kademlia query, and until when. Speaks no libp2p but its query ids.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use hubless_types::Provider;
use libp2p::PeerId;
use libp2p::kad::QueryId;
use tokio::sync::{mpsc, oneshot};

use crate::DiscoveryError;

/// Most announcements and withdrawals under way at once; more wait in their queue.
const MAX_TELLS: usize = 8;
/// Most lookups under way at once.
const MAX_FINDS: usize = 32;
/// Connections that an announcement may need: the peers nearest to its key, and the way to them.
const TELL_CONNECTIONS: usize = 24;
/// Connections that a lookup needs at a time, roughly.
const FIND_CONNECTIONS: usize = 6;
/// Most providers that one lookup returns.
pub(crate) const FIND_BUFFER: usize = 256;
/// Most providers without an address that one lookup looks for.
const MAX_SEEKS: usize = 4;
/// How long a walk waits for a first peer where there is hope of one.
pub(crate) const JOIN_WAIT: Duration = Duration::from_secs(5);

/// "Tell the network."
#[derive(Debug)]
pub(crate) struct TellOrder {
    pub(crate) key: Vec<u8>,
    pub(crate) withdraw: bool,
    pub(crate) reply: oneshot::Sender<Result<(), DiscoveryError>>,
}

/// "Find providers."
#[derive(Debug)]
pub(crate) struct FindOrder {
    pub(crate) key: Vec<u8>,
    pub(crate) to: mpsc::Sender<Provider>,
}

/// A walk's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WalkId(u64);

/// What a query is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An announcement or withdrawal.
    Tell(WalkId),
    /// A lookup.
    Find(WalkId),
    /// The address of a provider that a lookup met without one.
    Seek(WalkId, PeerId),
}

#[derive(Debug)]
struct Tell {
    order: TellOrder,
    started: bool,
    join_by: Instant,
}

#[derive(Debug)]
struct Find {
    order: FindOrder,
    started: bool,
    join_by: Instant,
    until: Instant,
    seen: HashSet<PeerId>,
    seeks: usize,
}

/// All walks.
#[derive(Debug)]
pub(crate) struct Walks {
    max_tells: usize,
    max_finds: usize,
    tells: HashMap<WalkId, Tell>,
    finds: HashMap<WalkId, Find>,
    queries: HashMap<QueryId, Purpose>,
    next: u64,
}

impl Walks {
    /// As many at once as fit into so many connections: a walk whose dials are refused for lack of room misses
    /// the peers it looks for.
    pub(crate) fn within(connections: u32) -> Self {
        let share = |each: usize, most: usize| (connections as usize / each).clamp(1, most);
        Self {
            max_tells: share(TELL_CONNECTIONS, MAX_TELLS),
            max_finds: share(FIND_CONNECTIONS, MAX_FINDS),
            tells: HashMap::new(),
            finds: HashMap::new(),
            queries: HashMap::new(),
            next: 0,
        }
    }

    pub(crate) fn may_tell(&self) -> bool {
        self.tells.len() < self.max_tells
    }

    pub(crate) fn may_find(&self) -> bool {
        self.finds.len() < self.max_finds
    }

    fn next_id(&mut self) -> WalkId {
        self.next += 1;
        WalkId(self.next)
    }

    pub(crate) fn add_tell(&mut self, order: TellOrder, now: Instant) -> WalkId {
        let id = self.next_id();
        self.tells.insert(id, Tell { order, started: false, join_by: now + JOIN_WAIT });
        id
    }

    pub(crate) fn add_find(&mut self, order: FindOrder, now: Instant, limit: Duration) -> WalkId {
        let id = self.next_id();
        let find = Find {
            order,
            started: false,
            join_by: now + JOIN_WAIT.min(limit),
            until: now + limit,
            seen: HashSet::new(),
            seeks: 0,
        };
        self.finds.insert(id, find);
        id
    }

    /// The key of an announcement (`false`) or withdrawal (`true`).
    pub(crate) fn tell_key(&self, id: WalkId) -> Option<(Vec<u8>, bool)> {
        self.tells.get(&id).map(|tell| (tell.order.key.clone(), tell.order.withdraw))
    }

    pub(crate) fn find_key(&self, id: WalkId) -> Option<Vec<u8>> {
        self.finds.get(&id).map(|find| find.order.key.clone())
    }

    /// A query was started for a walk.
    pub(crate) fn begun(&mut self, query: QueryId, purpose: Purpose) {
        match purpose {
            Purpose::Tell(id) => {
                if let Some(tell) = self.tells.get_mut(&id) {
                    tell.started = true;
                }
            }
            Purpose::Find(id) => {
                if let Some(find) = self.finds.get_mut(&id) {
                    find.started = true;
                }
            }
            Purpose::Seek(..) => {}
        }
        self.queries.insert(query, purpose);
    }

    pub(crate) fn purpose(&self, query: &QueryId) -> Option<Purpose> {
        self.queries.get(query).copied()
    }

    /// A query has ended.
    pub(crate) fn ended(&mut self, query: &QueryId) {
        self.queries.remove(query);
    }

    /// Walks that have not begun, because there was nobody; with those that have waited long enough marked.
    pub(crate) fn waiting(&self, now: Instant) -> Vec<(Purpose, bool)> {
        let tells = self.tells.iter().filter(|(_, tell)| !tell.started);
        let finds = self.finds.iter().filter(|(_, find)| !find.started);
        let tells = tells.map(|(id, tell)| (Purpose::Tell(*id), now >= tell.join_by));
        tells.chain(finds.map(|(id, find)| (Purpose::Find(*id), now >= find.join_by))).collect()
    }

    /// Lookups whose time is up or whose asker has gone.
    pub(crate) fn over(&self, now: Instant) -> Vec<WalkId> {
        let over = self.finds.iter().filter(|(_, find)| now >= find.until || find.order.to.is_closed());
        over.map(|(id, _)| *id).collect()
    }

    /// Ends an announcement or withdrawal with its answer.
    pub(crate) fn answer(&mut self, id: WalkId, answer: Result<(), DiscoveryError>) {
        if let Some(tell) = self.tells.remove(&id) {
            // Whoever asked may have gone.
            let _ = tell.order.reply.send(answer);
        }
    }

    /// A provider was named to a lookup: whether it is the first time.
    pub(crate) fn is_new(&self, id: WalkId, peer: &PeerId) -> bool {
        self.finds.get(&id).is_some_and(|find| !find.seen.contains(peer))
    }

    /// Hands a provider to whoever looks.
    pub(crate) fn hand(&mut self, id: WalkId, peer: PeerId, provider: Provider) {
        let Some(find) = self.finds.get_mut(&id) else { return };
        if find.seen.len() < FIND_BUFFER && find.seen.insert(peer) {
            // The channel holds as many as are ever sent; it can only be closed.
            let _ = find.order.to.try_send(provider);
        }
    }

    /// Whether a lookup may look for the address of one more provider; counts it if so.
    pub(crate) fn may_seek(&mut self, id: WalkId, peer: &PeerId) -> bool {
        let sought = self.queries.values().any(|purpose| *purpose == Purpose::Seek(id, *peer));
        match self.finds.get_mut(&id) {
            Some(find) if !sought && find.seeks < MAX_SEEKS => {
                find.seeks += 1;
                true
            }
            _ => false,
        }
    }

    /// Ends a lookup if none of its queries runs any more.
    pub(crate) fn close_if_done(&mut self, id: WalkId) {
        if self.queries_of(id).is_empty() {
            self.finds.remove(&id);
        }
    }

    /// Ends a lookup; its queries, to be finished.
    pub(crate) fn close(&mut self, id: WalkId) -> Vec<QueryId> {
        self.finds.remove(&id);
        let queries = self.queries_of(id);
        for query in &queries {
            self.queries.remove(query);
        }
        queries
    }

    fn queries_of(&self, id: WalkId) -> Vec<QueryId> {
        let of = |purpose: &Purpose| match purpose {
            Purpose::Tell(of) | Purpose::Find(of) | Purpose::Seek(of, _) => *of == id,
        };
        self.queries.iter().filter(|(_, purpose)| of(purpose)).map(|(query, _)| *query).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::{NodeId, ProviderSource};

    fn find(walks: &mut Walks, now: Instant) -> (WalkId, mpsc::Receiver<Provider>) {
        let (to, found) = mpsc::channel(FIND_BUFFER);
        (walks.add_find(FindOrder { key: vec![1], to }, now, Duration::from_secs(2)), found)
    }

    fn provider() -> Provider {
        Provider { node: NodeId::from_bytes([1; 32]), addrs: Vec::new(), source: ProviderSource::Dht }
    }

    #[test]
    fn a_provider_named_twice_is_handed_on_once() {
        let (mut walks, peer) = (Walks::within(50), PeerId::random());
        let (id, mut found) = find(&mut walks, Instant::now());
        walks.hand(id, peer, provider());
        assert!(!walks.is_new(id, &peer));
        walks.hand(id, peer, provider());
        assert!(found.try_recv().is_ok());
        assert!(found.try_recv().is_err());
    }

    #[test]
    fn a_crowd_of_providers_is_bounded() {
        let mut walks = Walks::within(50);
        let (id, mut found) = find(&mut walks, Instant::now());
        for _ in 0..1_000 {
            walks.hand(id, PeerId::random(), provider());
        }
        let handed = std::iter::from_fn(|| found.try_recv().ok()).count();
        assert_eq!(handed, FIND_BUFFER);
        assert_eq!((0..10).filter(|_| walks.may_seek(id, &PeerId::random())).count(), MAX_SEEKS);
    }

    #[test]
    fn a_lookup_is_over_when_its_asker_goes_or_its_time_is_up() {
        let (mut walks, now) = (Walks::within(50), Instant::now());
        let (first, found) = find(&mut walks, now);
        let (second, _kept) = find(&mut walks, now + Duration::from_secs(1));
        assert!(walks.over(now).is_empty());
        drop(found);
        assert_eq!(walks.over(now), [first]);
        walks.close(first);
        assert_eq!(walks.over(now + Duration::from_secs(3)), [second]);
    }

    #[test]
    fn a_walk_without_peers_waits_only_so_long() {
        let (mut walks, now) = (Walks::within(50), Instant::now());
        let (reply, mut answer) = oneshot::channel();
        let id = walks.add_tell(TellOrder { key: vec![1], withdraw: false, reply }, now);
        assert_eq!(walks.waiting(now), [(Purpose::Tell(id), false)]);
        assert_eq!(walks.waiting(now + JOIN_WAIT), [(Purpose::Tell(id), true)]);
        walks.answer(id, Err(DiscoveryError::NoPeers));
        assert!(matches!(answer.try_recv(), Ok(Err(DiscoveryError::NoPeers))));
        assert!(walks.waiting(now).is_empty());
    }

    #[test]
    fn only_so_many_walks_run_at_once_as_there_is_room_for() {
        let (mut walks, now) = (Walks::within(50), Instant::now());
        assert_eq!((walks.max_tells, walks.max_finds), (2, 8));
        let kept: Vec<_> = (0..8).map(|_| find(&mut walks, now)).collect();
        assert!(!walks.may_find() && walks.may_tell());
        walks.close(kept[0].0);
        assert!(walks.may_find());
        let (small, large) = (Walks::within(8), Walks::within(10_000));
        assert_eq!((small.max_tells, small.max_finds), (1, 1));
        assert_eq!((large.max_tells, large.max_finds), (MAX_TELLS, MAX_FINDS));
    }
}
