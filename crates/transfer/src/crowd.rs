//! The crowd around a blob: who asks this node for it, and what it gave them; told to those who ask for the same.
//!
//! By it a crowd finds itself without the DHT, and by it a source with little upload is asked for each part once
//! before it is asked for any part twice.
//!
//! **Invariant:** a node is told only of what it asked for itself, is shared here, and of those who ask for it at
//! the moment; an address only where it could have met it itself.
//! **Not here:** how it travels (`serve`, `memory`), and what is made of it (the plan).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use hubless_store::{BlobStatus, Store, StoreError};
use hubless_types::{BlobHash, GroupSet, NodeId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::client::Gathering;
use crate::holdings::shortened;
use crate::limits::{
    CROWD_INTERVAL, CROWDS_A_PUSH, HOLDINGS_POLL, MAX_CROWD, MAX_CROWD_TOLD, MAX_HOLDINGS_POLL,
};

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Loopback,
    Private,
    Global,
}

fn reach(ip: IpAddr) -> Option<Reach> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            match ip {
                _ if a == 0 || a >= 224 => None,
                _ if ip.is_loopback() => Some(Reach::Loopback),
                _ if ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64) => {
                    Some(Reach::Private)
                }
                _ => Some(Reach::Global),
            }
        }
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() => None,
        IpAddr::V6(ip) if ip.is_loopback() => Some(Reach::Loopback),
        IpAddr::V6(ip) if ip.is_unique_local() => Some(Reach::Private),
        IpAddr::V6(_) => Some(Reach::Global),
    }
}

/// Whether `addr` may be told to, or believed of, a node that is met at `other`: a private address only on a private
/// network, a loopback one only on this machine.
pub(crate) fn fits(addr: &SocketAddr, other: Option<IpAddr>) -> bool {
    let theirs = other.and_then(reach).unwrap_or(Reach::Global);
    addr.port() != 0 && reach(addr.ip()).is_some_and(|reach| reach >= theirs)
}

/// Who asks for what.
#[derive(Debug)]
pub(crate) struct Crowds {
    crowds: Mutex<HashMap<BlobHash, BTreeMap<NodeId, Member>>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Member {
    addr: Option<SocketAddr>,
    gave: GroupSet,
    /// Its questions that are about this blob.
    seats: usize,
}

impl Default for Crowds {
    fn default() -> Self {
        Self { crowds: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

/// Keeps a node in its crowds for as long as it asks.
struct Ticket {
    crowds: Arc<Crowds>,
    node: NodeId,
    hashes: Vec<BlobHash>,
}

impl Crowds {
    fn lock(&self) -> MutexGuard<'_, HashMap<BlobHash, BTreeMap<NodeId, Member>>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, node: NodeId, addr: Option<SocketAddr>, hashes: Vec<BlobHash>) -> Ticket {
        let mut crowds = self.lock();
        for hash in &hashes {
            let members = crowds.entry(*hash).or_default();
            if members.len() >= MAX_CROWD && !members.contains_key(&node) {
                continue;
            }
            let member =
                members.entry(node).or_insert_with(|| Member { addr, gave: GroupSet::new(), seats: 0 });
            member.addr = addr.or(member.addr);
            member.seats += 1;
        }
        drop(crowds);
        self.changed.send_modify(|count| *count += 1);
        Ticket { crowds: self.clone(), node, hashes }
    }

    /// `node` is being given `groups`.
    pub(crate) fn gave(&self, hash: &BlobHash, node: &NodeId, groups: &GroupSet) {
        let mut crowds = self.lock();
        let Some(member) = crowds.get_mut(hash).and_then(|members| members.get_mut(node)) else { return };
        member.gave.insert_all(groups);
        drop(crowds);
        self.changed.send_modify(|count| *count += 1);
    }

    /// What `asker`, met at `at`, is told of a blob.
    fn look(&self, hash: &BlobHash, asker: &NodeId, at: Option<IpAddr>) -> Gathering {
        let crowds = self.lock();
        let members = crowds.get(hash).into_iter().flatten();
        let others: Vec<_> = members.filter(|(node, _)| *node != asker).collect();
        let mut gave = GroupSet::new();
        others.iter().for_each(|(_, member)| gave.insert_all(&member.gave));
        let met = others.iter().filter_map(|(node, member)| Some((**node, member.addr?)));
        let mut peers: Vec<(NodeId, SocketAddr)> = met.filter(|(_, addr)| fits(addr, at)).collect();
        // Each asker hears of others first, so that not all of a large crowd turn to the same few.
        let first = peers.partition_point(|(node, _)| node < asker);
        peers.rotate_left(first);
        peers.truncate(MAX_CROWD_TOLD);
        Gathering { hash: *hash, gave, peers }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut crowds = self.crowds.lock();
        for hash in &self.hashes {
            let Some(members) = crowds.get_mut(hash) else { continue };
            if let Some(member) = members.get_mut(&self.node) {
                member.seats -= 1;
                if member.seats == 0 {
                    members.remove(&self.node);
                }
            }
            if members.is_empty() {
                crowds.remove(hash);
            }
        }
        drop(crowds);
        self.crowds.changed.send_modify(|count| *count += 1);
    }
}

/// What goes on around `wanted`, as it changes, for a node that asks for them itself and thereby joins them.
pub(crate) fn watch(
    crowds: &Arc<Crowds>,
    store: Store,
    asker: NodeId,
    addr: Option<SocketAddr>,
    wanted: Vec<BlobHash>,
) -> BoxStream<'static, Result<Vec<Gathering>, StoreError>> {
    let changed = crowds.changed.subscribe();
    let ticket = crowds.join(asker, addr, wanted);
    let at = addr.map(|addr| addr.ip());
    let now = Instant::now();
    let watch = Watch {
        ticket,
        store,
        at,
        changed,
        told: HashMap::new(),
        looks: 0,
        next: now,
        asks: now + HOLDINGS_POLL,
        pause: HOLDINGS_POLL,
    };
    stream::try_unfold(watch, Watch::step).boxed()
}

/// How much may be said of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Peers may not have it: nothing.
    Hidden,
    /// Only a part of it is here: who asks for it, not what they were given. Somebody else is the source.
    Partial,
    /// All.
    Whole,
}

impl Standing {
    fn of(store: &Store, hash: &BlobHash) -> Result<Self, StoreError> {
        if !store.blobs().is_shared(hash)? {
            return Ok(Self::Hidden);
        }
        let whole = matches!(store.blobs().status(hash)?, BlobStatus::Complete { .. });
        Ok(if whole { Self::Whole } else { Self::Partial })
    }
}

struct Watch {
    ticket: Ticket,
    store: Store,
    at: Option<IpAddr>,
    changed: watch::Receiver<u64>,
    told: HashMap<BlobHash, Told>,
    /// Looks so far that found something to say.
    looks: u64,
    /// No push before this.
    next: Instant,
    /// When the store is asked again about what is held back: it tells nobody that more may be said.
    asks: Instant,
    /// How long it rests then, while nothing changes.
    pause: Duration,
}

/// What the asker knows of a blob.
struct Told {
    /// The look in which it came up last.
    look: u64,
    standing: Standing,
    gave: GroupSet,
    peers: Vec<(NodeId, SocketAddr)>,
}

impl Default for Told {
    /// The store is asked before anything is said.
    fn default() -> Self {
        Self { look: 0, standing: Standing::Whole, gave: GroupSet::new(), peers: Vec::new() }
    }
}

impl Told {
    fn is_news(&self, now: &Gathering) -> bool {
        match self.standing {
            Standing::Hidden => false,
            Standing::Partial => self.peers != now.peers || !self.gave.is_empty(),
            Standing::Whole => self.peers != now.peers || self.gave != now.gave,
        }
    }

    /// Whether there is something to say that may not be said.
    fn holds_back(&self, now: &Gathering) -> bool {
        match self.standing {
            Standing::Hidden => !now.peers.is_empty() || !now.gave.is_empty(),
            Standing::Partial => !now.gave.is_empty(),
            Standing::Whole => false,
        }
    }

    /// What is said of it now, if anything; it counts as known from here on.
    fn say(&mut self, mut now: Gathering) -> Option<Gathering> {
        if self.standing == Standing::Partial {
            now.gave = GroupSet::new();
        }
        if !self.is_news(&now) {
            return None;
        }
        self.gave = now.gave.clone();
        now.gave = shortened(now.gave);
        // Who is there was said, and is known until it is said otherwise.
        if self.peers == now.peers {
            now.peers.clear();
        } else {
            self.peers = now.peers.clone();
        }
        Some(now)
    }
}

impl Watch {
    async fn step(mut self) -> Result<Option<(Vec<Gathering>, Self)>, StoreError> {
        loop {
            sleep_until(self.next).await;
            self.next = Instant::now() + CROWD_INTERVAL;
            if self.changed.has_changed().unwrap_or(true) {
                self.changed.mark_unchanged();
                self.stir();
            }
            let Look { news, held_back, more } = self.look().await?;
            if !news.is_empty() {
                return Ok(Some((news, self)));
            }
            if !more {
                self.rest(held_back).await;
            }
        }
    }

    /// Waits until there may be something to say.
    async fn rest(&mut self, held_back: bool) {
        tokio::select! {
            // It cannot fail: the ticket keeps the sender alive.
            _ = self.changed.changed() => self.stir(),
            () = sleep_until(self.asks), if held_back => {}
        }
    }

    /// Something has changed: the store is asked again soon.
    fn stir(&mut self) {
        self.pause = HOLDINGS_POLL;
        self.asks = self.asks.min(Instant::now() + HOLDINGS_POLL);
    }

    async fn look(&mut self) -> Result<Look, StoreError> {
        let Ticket { crowds, node, hashes } = &self.ticket;
        let (mut news, mut held_back) = (Vec::new(), Vec::new());
        let unknown = Told::default();
        for now in hashes.iter().map(|hash| crowds.look(hash, node, self.at)) {
            let told = self.told.get(&now.hash).unwrap_or(&unknown);
            if told.is_news(&now) {
                news.push(now);
            } else if told.holds_back(&now) {
                held_back.push(now.hash);
            }
        }
        // In turn: a crowd around many files is told of each less often, not of all of them as often as of one.
        news.sort_by_key(|now| self.told.get(&now.hash).map(|told| told.look));
        let more = news.len() > CROWDS_A_PUSH;
        news.truncate(CROWDS_A_PUSH);
        let asks = !held_back.is_empty() && self.asks <= Instant::now();
        let asked = news.iter().map(|now| now.hash).chain(held_back.iter().copied().filter(|_| asks));
        let asked: Vec<BlobHash> = asked.collect();
        if asks {
            self.asks = Instant::now() + self.pause;
            self.pause = self.pause.saturating_mul(2).min(MAX_HOLDINGS_POLL);
        }
        let held_back = !held_back.is_empty();
        let Some(changed) = self.ask_store(asked).await? else {
            return Ok(Look { news: Vec::new(), held_back, more });
        };
        self.looks += u64::from(!news.is_empty());
        let said = news.into_iter().filter_map(|now| {
            let told = self.told.entry(now.hash).or_default();
            told.look = self.looks;
            told.say(now)
        });
        Ok(Look { news: said.collect(), held_back, more: more || changed })
    }

    /// Asks how much may be said of `hashes`, and whether that is more or less than before of any of them. `None` if the
    /// thread panicked, which has said so already: nothing is said then.
    async fn ask_store(&mut self, hashes: Vec<BlobHash>) -> Result<Option<bool>, StoreError> {
        if hashes.is_empty() {
            return Ok(Some(false));
        }
        let store = self.store.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let standings = hashes.into_iter().map(|hash| Ok((hash, Standing::of(&store, &hash)?)));
            standings.collect::<Result<Vec<_>, StoreError>>()
        });
        let Ok(asked) = asked.await else { return Ok(None) };
        let mut changed = false;
        for (hash, standing) in asked? {
            let told = self.told.entry(hash).or_default();
            changed |= told.standing != standing;
            told.standing = standing;
        }
        Ok(Some(changed))
    }
}

/// What a look brought.
struct Look {
    news: Vec<Gathering>,
    /// Whether something may not be said yet.
    held_back: bool,
    /// Whether there may be more at once.
    more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_told_and_believed_only_where_it_could_have_been_met() {
        let near = |at: &str, other: &str| fits(&addr(at), Some(other.parse().unwrap()));
        assert!(
            near("1.2.3.4:5", "8.8.8.8") && near("1.2.3.4:5", "10.0.0.1") && near("10.0.0.2:5", "10.0.0.1")
        );
        assert!(near("127.0.0.1:5", "127.0.0.1") && near("[fd00::1]:5", "192.168.1.1"));
        assert!(!near("10.0.0.2:5", "8.8.8.8") && !near("127.0.0.1:5", "10.0.0.1"));
        assert!(!near("127.0.0.1:5", "8.8.8.8") && !near("[::1]:5", "fd00::1"));
        assert!(!near("1.2.3.4:0", "8.8.8.8") && !near("255.255.255.255:5", "127.0.0.1"));
        assert!(!near("[fe80::1]:5", "127.0.0.1") && !fits(&addr("10.0.0.2:5"), None));
    }

    #[test]
    fn a_node_hears_of_those_who_ask_for_the_same_until_they_leave() {
        let (crowds, hash) = (Arc::new(Crowds::default()), BlobHash::from_bytes([1; 32]));
        let other = BlobHash::from_bytes([2; 32]);
        let at = |i: u8| Some(SocketAddr::from(([1, 2, 3, i], 4001)));
        let one = crowds.join(node(1), at(1), vec![hash]);
        let two = crowds.join(node(2), at(2), vec![hash, other]);
        crowds.gave(&hash, &node(1), &GroupSet::from(0..4));
        crowds.gave(&hash, &node(3), &GroupSet::from(4..8));
        let told = crowds.look(&hash, &node(2), None);
        assert_eq!((told.gave, told.peers), (GroupSet::from(0..4), vec![(node(1), at(1).unwrap())]));
        let told = crowds.look(&hash, &node(1), None);
        assert_eq!((told.gave, told.peers), (GroupSet::new(), vec![(node(2), at(2).unwrap())]));
        drop(one);
        assert_eq!(crowds.look(&hash, &node(2), None).peers, []);
        drop(two);
        assert!(crowds.lock().is_empty());
    }

    #[test]
    fn a_crowd_is_bounded_and_so_is_what_is_told_of_it() {
        let (crowds, hash) = (Arc::new(Crowds::default()), BlobHash::from_bytes([1; 32]));
        let all: Vec<Ticket> = (0..=u8::MAX)
            .flat_map(|i| [(i, 0), (i, 1)])
            .map(|(i, j)| {
                let mut key = [i; 32];
                key[1] = j;
                crowds.join(NodeId::from_bytes(key), Some(SocketAddr::from(([1, 2, j, i], 1))), vec![hash])
            })
            .collect();
        assert_eq!(crowds.lock()[&hash].len(), MAX_CROWD);
        let told = |i| crowds.look(&hash, &node(i), None).peers;
        assert_eq!(told(9).len(), MAX_CROWD_TOLD);
        assert_ne!(told(9), told(99));
        drop(all);
        assert!(crowds.lock().is_empty());
    }

    /// A crowd around many files costs its source no more words than one around a few, and nobody's address twice.
    #[tokio::test(start_paused = true)]
    async fn what_is_told_is_told_in_turn_and_no_address_twice() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let store = empty_store(&dir)?;
        let mut hashes = Vec::new();
        for n in 0..10_u8 {
            let hash = store.blobs().import_bytes(&[n; 100], hubless_store::DigestKind::Sha256)?.hash;
            store.blobs().share(&hash)?;
            hashes.push(hash);
        }
        let crowds = Arc::new(Crowds::default());
        let _other = crowds.join(node(1), Some(addr("1.2.3.4:5")), hashes.clone());
        let mut news = watch(&crowds, store, node(2), Some(addr("1.2.3.5:5")), hashes.clone());
        let mut told: Vec<Gathering> = Vec::new();
        while told.len() < hashes.len() {
            let push = news.next().await.ok_or_else(|| anyhow::anyhow!("it goes on"))??;
            assert!(push.len() <= CROWDS_A_PUSH);
            told.extend(push);
        }
        let mut each: Vec<BlobHash> = told.iter().map(|one| one.hash).collect();
        each.sort_unstable();
        hashes.sort_unstable();
        assert_eq!(each, hashes, "each once, before any is told of again");
        assert!(told.iter().all(|one| one.peers.len() == 1));
        crowds.gave(&hashes[3], &node(1), &GroupSet::from(0..1));
        let push = news.next().await.ok_or_else(|| anyhow::anyhow!("it goes on"))??;
        assert_eq!(push, [Gathering { hash: hashes[3], gave: GroupSet::from(0..1), peers: Vec::new() }]);
        Ok(())
    }

    type News = BoxStream<'static, Result<Vec<Gathering>, StoreError>>;

    async fn pushed(news: &mut News) -> anyhow::Result<Vec<Gathering>> {
        let push = tokio::time::timeout(2 * MAX_HOLDINGS_POLL, news.next()).await?;
        Ok(push.ok_or_else(|| anyhow::anyhow!("it goes on"))??)
    }

    async fn is_silent(news: &mut News) -> bool {
        tokio::time::timeout(2 * MAX_HOLDINGS_POLL, news.next()).await.is_err()
    }

    fn empty_store(dir: &tempfile::TempDir) -> Result<Store, StoreError> {
        let clock = Arc::new(hubless_types::ManualClock::at(hubless_types::Timestamp(1_800_000_000)));
        Store::open(dir.path(), node(9), clock)
    }

    /// Who is held back from an asker because the blob may not be given is told of once it may, though nobody comes or goes.
    #[tokio::test(start_paused = true)]
    async fn what_was_held_back_is_told_when_it_may_be() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let store = empty_store(&dir)?;
        let import = |byte| store.blobs().import_bytes(&[byte; 100], hubless_store::DigestKind::Sha256);
        // More that may not be told of than one push has room for.
        let hidden = (0..=CROWDS_A_PUSH as u8).map(|byte| Ok(import(byte)?.hash));
        let mut hashes = hidden.collect::<Result<Vec<_>, StoreError>>()?;
        let (hash, open) = (hashes[0], import(99)?.hash);
        store.blobs().share(&open)?;
        hashes.push(open);
        let (crowds, at) = (Arc::new(Crowds::default()), [addr("1.2.3.4:5"), addr("1.2.3.5:5")]);
        let mut one = watch(&crowds, store.clone(), node(1), Some(at[0]), hashes.clone());
        let mut two = watch(&crowds, store.clone(), node(2), Some(at[1]), hashes);
        let others = |hash, peer| vec![Gathering { hash, gave: GroupSet::new(), peers: vec![peer] }];
        assert_eq!(pushed(&mut one).await?, others(open, (node(2), at[1])));
        assert_eq!(pushed(&mut two).await?, others(open, (node(1), at[0])));
        assert!(is_silent(&mut one).await && is_silent(&mut two).await);
        store.blobs().share(&hash)?;
        assert_eq!(pushed(&mut one).await?, others(hash, (node(2), at[1])));
        crowds.gave(&hash, &node(1), &GroupSet::from(0..1));
        let first = Gathering { gave: GroupSet::from(0..1), ..others(hash, (node(1), at[0])).remove(0) };
        assert_eq!(
            pushed(&mut two).await?,
            [first],
            "with whom it was given to, of whom it did not hear before"
        );
        assert!(is_silent(&mut one).await && is_silent(&mut two).await);
        Ok(())
    }

    /// What was given of a blob before all of it was here is told once all of it is.
    #[tokio::test(start_paused = true)]
    async fn what_a_part_gave_is_told_when_it_is_whole() -> anyhow::Result<()> {
        let (dir, from) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let (store, from) = (empty_store(&dir)?, empty_store(&from)?);
        let file = from.blobs().import_bytes(&[7; 40_000], hubless_store::DigestKind::Sha256)?;
        let blob = store.blobs().partial(file.hash, file.size)?;
        blob.share_if_empty()?;
        let (crowds, at) = (Arc::new(Crowds::default()), addr("1.2.3.4:5"));
        let _other = crowds.join(node(1), Some(at), vec![file.hash]);
        let mut news = watch(&crowds, store, node(2), Some(addr("1.2.3.5:5")), vec![file.hash]);
        crowds.gave(&file.hash, &node(1), &GroupSet::from(0..2));
        let told = Gathering { hash: file.hash, gave: GroupSet::new(), peers: vec![(node(1), at)] };
        assert_eq!(pushed(&mut news).await?, [told]);
        assert!(is_silent(&mut news).await);
        let held = Arc::new(from.blobs().open(&file.hash)?.ok_or_else(|| anyhow::anyhow!("it is here"))?);
        let mut decoder = blob.decoder(0..3);
        for piece in held.encode(0..3) {
            decoder.push(&piece?)?;
        }
        decoder.finish()?;
        assert!(blob.is_complete());
        let told = Gathering { hash: file.hash, gave: GroupSet::from(0..2), peers: Vec::new() };
        assert_eq!(pushed(&mut news).await?, [told]);
        assert!(is_silent(&mut news).await);
        Ok(())
    }
}
