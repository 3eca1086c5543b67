//! Orders in progress: who waits for which walk, who was asked for it, and until when.
//!
//! **Invariant:** orders at once are bounded by the connections there are; each ends, by its walk's end or its time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use hubless_types::{NodeId, Provider};
use libp2p::PeerId;
use libp2p::request_response::OutboundRequestId;
use tokio::sync::{mpsc, oneshot};

use crate::DiscoveryError;
use crate::seek::Seek;
use crate::sweep::{Sweep, Tally};
use crate::trace::{self, Trace};

/// Most announcements and withdrawals under way at once; more wait in their queue.
const MAX_TELLS: usize = 8;
/// Most lookups under way at once.
const MAX_FINDS: usize = 32;
/// Connections that an announcement may need: the nodes nearest to its key, and the way to them.
const TELL_CONNECTIONS: usize = 24;
/// Connections that a lookup needs at a time, roughly.
const FIND_CONNECTIONS: usize = 6;
/// Most providers that one lookup returns.
pub(crate) const FIND_BUFFER: usize = 256;
/// Of one node's answer so many providers are handed on at once. The others wait until everybody was asked: no node
/// shall fill a lookup with providers of its own making before an honest one was heard.
const AT_ONCE_PER_ANSWER: usize = 4;
/// How long a walk waits for a first peer where there is hope of one.
pub(crate) const JOIN_WAIT: Duration = Duration::from_secs(5);

/// What the network is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// We provide it, for so many seconds.
    Provided { ttl: u32 },
    /// We no longer do.
    Withdrawn,
}

/// "Tell the network."
#[derive(Debug)]
pub(crate) struct TellOrder {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) news: News,
    pub(crate) reply: oneshot::Sender<Result<Tally, DiscoveryError>>,
}

/// "Find providers."
#[derive(Debug)]
pub(crate) struct FindOrder {
    pub(crate) key: Vec<u8>,
    pub(crate) to: mpsc::Sender<Provider>,
    /// Who wants to know how it went.
    pub(crate) trace: Option<oneshot::Sender<Trace>>,
}

/// A walk's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WalkId(u64);

/// What a question is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To get on with an order's walk.
    Walk(WalkId),
    /// To hand over a batch of this number.
    Batch(WalkId, u32),
}

/// An announcement or withdrawal.
#[derive(Debug)]
pub(crate) struct Telling {
    pub(crate) news: News,
    pub(crate) reply: oneshot::Sender<Result<Tally, DiscoveryError>>,
    pub(crate) sweep: Sweep,
    pub(crate) walk: Option<Seek>,
    started: bool,
    join_by: Instant,
}

/// A lookup.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) order: FindOrder,
    pub(crate) walk: Option<Seek>,
    join_by: Instant,
    until: Instant,
    began: Instant,
    /// Whom it handed on, each once.
    handed: HashSet<NodeId>,
    held: VecDeque<Provider>,
    named: Vec<Provider>,
    first: Option<Duration>,
}

impl Finding {
    /// What one node named, already filtered. Only what is handed on counts against the bound of the lookup: else a few
    /// liars that each name many would have used it up before an honest node was heard.
    pub(crate) fn hand(&mut self, mut found: Vec<Provider>, now: Instant) {
        found.retain(|provider| !self.handed.contains(&provider.node));
        if !found.is_empty() {
            self.first.get_or_insert(now.duration_since(self.began));
        }
        for provider in found.split_off(found.len().min(AT_ONCE_PER_ANSWER)) {
            let waits = self.held.iter().any(|held| held.node == provider.node);
            if !waits && self.held.len() < FIND_BUFFER {
                self.held.push_back(provider);
            }
        }
        found.into_iter().for_each(|provider| self.send(provider));
    }

    fn send(&mut self, provider: Provider) {
        if self.handed.len() >= FIND_BUFFER || !self.handed.insert(provider.node) {
            return;
        }
        if self.order.trace.is_some() {
            self.named.push(provider.clone());
        }
        // The buffer holds as many as a lookup may name; a reader that is gone is noticed elsewhere.
        let _ = self.order.to.try_send(provider);
    }

    /// Hands on what waited and says how it went.
    pub(crate) fn finish(mut self, network: u64, now: Instant) {
        while let Some(provider) = self.held.pop_front() {
            self.send(provider);
        }
        let Some(to) = self.order.trace.take() else { return };
        let millis = |d: Duration| d.as_millis() as u64;
        let place = crate::place::Place::of_key(&self.order.key);
        let _ = to.send(Trace {
            place: format!("{:016x}", place.lead()),
            bits: self.walk.as_ref().map_or(0, Seek::bits),
            network,
            hops: self.walk.as_ref().map(|walk| trace::hops(walk, now)).unwrap_or_default(),
            providers: self.named,
            first_millis: self.first.map(millis),
            millis: millis(now.duration_since(self.began)),
        });
    }
}

/// All orders.
#[derive(Debug)]
pub(crate) struct Walks {
    max_tells: usize,
    max_finds: usize,
    pub(crate) tells: HashMap<WalkId, Telling>,
    pub(crate) finds: HashMap<WalkId, Finding>,
    asked: HashMap<OutboundRequestId, (Purpose, PeerId)>,
    next: u64,
}

impl Walks {
    /// As many at once as fit into so many connections: a walk whose dials are refused for lack of room misses
    /// the nodes it looks for.
    pub(crate) fn within(connections: u32) -> Self {
        let share = |each: usize, most: usize| (connections as usize / each).clamp(1, most);
        Self {
            max_tells: share(TELL_CONNECTIONS, MAX_TELLS),
            max_finds: share(FIND_CONNECTIONS, MAX_FINDS),
            tells: HashMap::new(),
            finds: HashMap::new(),
            asked: HashMap::new(),
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
        let TellOrder { keys, news, reply } = order;
        let id = self.next_id();
        let (sweep, join_by) = (Sweep::new(keys), now + JOIN_WAIT);
        self.tells.insert(id, Telling { news, reply, sweep, walk: None, started: false, join_by });
        id
    }

    pub(crate) fn add_find(&mut self, order: FindOrder, now: Instant, limit: Duration) -> WalkId {
        let id = self.next_id();
        let find = Finding {
            order,
            walk: None,
            join_by: now + JOIN_WAIT.min(limit),
            until: now + limit,
            began: now,
            handed: HashSet::new(),
            held: VecDeque::new(),
            named: Vec::new(),
            first: None,
        };
        self.finds.insert(id, find);
        id
    }

    /// Orders that have not begun, because there was nobody; with those that have waited long enough marked.
    pub(crate) fn waiting(&self, now: Instant) -> Vec<(WalkId, bool)> {
        let tells = self.tells.iter().filter(|(_, tell)| !tell.started);
        let finds = self.finds.iter().filter(|(_, find)| find.walk.is_none());
        let tells = tells.map(|(id, tell)| (*id, now >= tell.join_by));
        tells.chain(finds.map(|(id, find)| (*id, now >= find.join_by))).collect()
    }

    /// An order is begun.
    pub(crate) fn begun(&mut self, id: WalkId) {
        if let Some(tell) = self.tells.get_mut(&id) {
            tell.started = true;
        }
    }

    /// Orders that are under way.
    pub(crate) fn running(&self) -> Vec<WalkId> {
        let tells = self.tells.iter().filter(|(_, tell)| tell.started).map(|(id, _)| *id);
        tells.chain(self.finds.iter().filter(|(_, find)| find.walk.is_some()).map(|(id, _)| *id)).collect()
    }

    /// The walks that are under way.
    pub(crate) fn seeks(&mut self) -> impl Iterator<Item = &mut Seek> {
        let tells = self.tells.values_mut().filter_map(|tell| tell.walk.as_mut());
        tells.chain(self.finds.values_mut().filter_map(|find| find.walk.as_mut()))
    }

    /// The walk of an order.
    pub(crate) fn seek(&mut self, id: WalkId) -> Option<&mut Seek> {
        if let Some(tell) = self.tells.get_mut(&id) {
            return tell.walk.as_mut();
        }
        self.finds.get_mut(&id).and_then(|find| find.walk.as_mut())
    }

    /// When a walk has something to do though nobody answered.
    pub(crate) fn wake(&self, now: Instant) -> Option<Instant> {
        let tells = self.tells.values().filter_map(|tell| tell.walk.as_ref());
        let seeks = tells.chain(self.finds.values().filter_map(|find| find.walk.as_ref()));
        seeks.filter_map(|seek| seek.wake(now)).min()
    }

    /// Lookups whose time is up or whose asker has gone.
    pub(crate) fn over(&self, now: Instant) -> Vec<WalkId> {
        let over = self.finds.iter().filter(|(_, find)| now >= find.until || find.order.to.is_closed());
        over.map(|(id, _)| *id).collect()
    }

    /// Somebody was asked.
    pub(crate) fn ask(&mut self, request: OutboundRequestId, purpose: Purpose, peer: PeerId) {
        self.asked.insert(request, (purpose, peer));
    }

    /// Whom a question is under way to.
    pub(crate) fn being_asked(&self) -> impl Iterator<Item = PeerId> {
        self.asked.values().map(|(_, peer)| *peer)
    }

    /// A question has been answered, or cannot be.
    pub(crate) fn answered(&mut self, request: &OutboundRequestId) -> Option<(Purpose, PeerId)> {
        self.asked.remove(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MAX_PROVIDERS;
    use hubless_types::ProviderSource;

    fn find(walks: &mut Walks, now: Instant) -> (WalkId, mpsc::Receiver<Provider>) {
        let (to, found) = mpsc::channel(FIND_BUFFER);
        let order = FindOrder { key: vec![1], to, trace: None };
        (walks.add_find(order, now, Duration::from_secs(4)), found)
    }

    fn provider(n: u8) -> Provider {
        let addrs = vec![([10, 0, 0, n], 1).into()];
        Provider { node: NodeId::from_bytes([n; 32]), addrs, source: ProviderSource::Dht }
    }

    #[test]
    fn a_provider_is_named_once() {
        let (mut walks, now) = (Walks::within(50), Instant::now());
        let (id, mut found) = find(&mut walks, now);
        let mut find = walks.finds.remove(&id).unwrap();
        // The sixth waits at first, and does no more so once a second node names it.
        for named in [1..=6, 6..=6, 1..=6] {
            find.hand(named.map(provider).collect(), now);
        }
        find.finish(1, now);
        let order: Vec<u8> =
            std::iter::from_fn(|| found.try_recv().ok()).map(|p| p.node.as_bytes()[0]).collect();
        assert_eq!(order, [1, 2, 3, 4, 6, 5]);
    }

    /// A hundred thousand providers that are nowhere, named by nodes that each name as many as a message holds. Of each
    /// answer four are handed on, so that an honest node is heard behind sixty liars; what is kept does not grow.
    #[test]
    fn a_hundred_thousand_false_providers_do_not_use_a_lookup_up_before_an_honest_node_is_heard() {
        const LIARS: usize = FIND_BUFFER / AT_ONCE_PER_ANSWER - 1;
        let (mut walks, now) = (Walks::within(50), Instant::now());
        let (id, mut found) = find(&mut walks, now);
        let mut lookup = walks.finds.remove(&id).unwrap();
        let lie = |n: usize| {
            let mut node = [0xee; 32];
            node[..8].copy_from_slice(&n.to_be_bytes());
            Provider { node: NodeId::from_bytes(node), ..provider(0) }
        };
        for answer in 0..100_000 / MAX_PROVIDERS {
            if answer == LIARS {
                lookup.hand(vec![provider(99)], now);
            }
            lookup.hand((0..MAX_PROVIDERS).map(|n| lie(answer * MAX_PROVIDERS + n)).collect(), now);
            assert!(lookup.handed.len() <= FIND_BUFFER && lookup.held.len() <= FIND_BUFFER);
        }
        lookup.finish(1, now);
        let handed: Vec<Provider> = std::iter::from_fn(|| found.try_recv().ok()).collect();
        assert_eq!(handed.len(), FIND_BUFFER);
        assert_eq!(handed.iter().position(|p| *p == provider(99)), Some(LIARS * AT_ONCE_PER_ANSWER));
    }

    /// A node that names twenty cannot keep the one that another node names from being heard early.
    #[test]
    fn what_a_second_node_names_comes_before_the_rest_of_the_firsts() {
        let (mut walks, now) = (Walks::within(50), Instant::now());
        let (id, mut found) = find(&mut walks, now);
        let mut find = walks.finds.remove(&id).unwrap();
        find.hand((1..=20).map(provider).collect(), now);
        find.hand(vec![provider(99)], now);
        find.finish(1, now);
        let order: Vec<u8> =
            std::iter::from_fn(|| found.try_recv().ok()).map(|p| p.node.as_bytes()[0]).collect();
        assert_eq!((order.len(), order[AT_ONCE_PER_ANSWER]), (21, 99));
    }

    #[test]
    fn a_lookup_is_over_when_its_asker_goes_or_its_time_is_up() {
        let (mut walks, now) = (Walks::within(50), Instant::now());
        let (first, found) = find(&mut walks, now);
        let (second, _kept) = find(&mut walks, now + Duration::from_secs(1));
        assert!(walks.over(now).is_empty());
        drop(found);
        assert_eq!(walks.over(now), [first]);
        walks.finds.remove(&first);
        assert!(walks.over(now + Duration::from_secs(4)).is_empty());
        assert_eq!(walks.over(now + Duration::from_secs(5)), [second]);
    }

    #[test]
    fn a_walk_without_peers_waits_only_so_long() {
        let (mut walks, now) = (Walks::within(50), Instant::now());
        let (reply, _answer) = oneshot::channel();
        let order = TellOrder { keys: vec![vec![1]], news: News::Withdrawn, reply };
        let id = walks.add_tell(order, now);
        assert_eq!(walks.waiting(now), [(id, false)]);
        assert_eq!(walks.waiting(now + JOIN_WAIT), [(id, true)]);
        walks.begun(id);
        assert!(walks.waiting(now).is_empty());
        assert_eq!(walks.running(), [id]);
    }

    #[test]
    fn only_so_many_walks_run_at_once_as_there_is_room_for() {
        let (mut walks, now) = (Walks::within(50), Instant::now());
        assert_eq!((walks.max_tells, walks.max_finds), (2, 8));
        let kept: Vec<_> = (0..8).map(|_| find(&mut walks, now)).collect();
        assert!(!walks.may_find() && walks.may_tell());
        walks.finds.remove(&kept[0].0);
        assert!(walks.may_find());
        let (small, large) = (Walks::within(8), Walks::within(10_000));
        assert_eq!((small.max_tells, small.max_finds), (1, 1));
        assert_eq!((large.max_tells, large.max_finds), (MAX_TELLS, MAX_FINDS));
    }
}
