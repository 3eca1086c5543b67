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

use futures::stream::{self, BoxStream, StreamExt as _};
use hubless_store::{BlobStatus, Store, StoreError};
use hubless_types::{BlobHash, GroupSet, NodeId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::client::Gathering;
use crate::holdings::shortened;
use crate::limits::{CROWD_INTERVAL, CROWDS_A_PUSH, MAX_CROWD, MAX_CROWD_TOLD};

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
    let watch = Watch { ticket, store, at, changed, told: HashMap::new(), pushes: 0, next: Instant::now() };
    stream::try_unfold(watch, Watch::step).boxed()
}

struct Watch {
    ticket: Ticket,
    store: Store,
    at: Option<IpAddr>,
    changed: watch::Receiver<u64>,
    told: HashMap<BlobHash, Told>,
    /// Pushes so far.
    pushes: u64,
    /// No push before this.
    next: Instant,
}

/// What was told of a blob last, and in which push.
struct Told {
    push: u64,
    gathering: Gathering,
}

impl Watch {
    async fn step(mut self) -> Result<Option<(Vec<Gathering>, Self)>, StoreError> {
        loop {
            sleep_until(self.next).await;
            self.next = Instant::now() + CROWD_INTERVAL;
            self.changed.mark_unchanged();
            let news = self.look().await?;
            if !news.is_empty() {
                // What had no room in this push is news in the next one.
                self.changed.mark_changed();
                return Ok(Some((news, self)));
            }
            // It cannot fail: the ticket keeps the sender alive.
            let _ = self.changed.changed().await;
        }
    }

    async fn look(&mut self) -> Result<Vec<Gathering>, StoreError> {
        let Ticket { crowds, node, hashes } = &self.ticket;
        let all = hashes.iter().map(|hash| crowds.look(hash, node, self.at));
        let is_told = |new: &Gathering| match self.told.get(&new.hash) {
            Some(old) => old.gathering == *new,
            None => new.gave.is_empty() && new.peers.is_empty(),
        };
        let mut news: Vec<Gathering> = all.filter(|new| !is_told(new)).collect();
        if news.is_empty() {
            return Ok(news);
        }
        // In turn: a crowd around many files is told of each less often, not of all of them as often as of one.
        news.sort_by_key(|new| self.told.get(&new.hash).map(|old| old.push));
        news.truncate(CROWDS_A_PUSH);
        self.pushes += 1;
        for new in &mut news {
            let told = Told { push: self.pushes, gathering: new.clone() };
            // Who is there was said, and is known until it is said otherwise.
            if self.told.insert(new.hash, told).is_some_and(|old| old.gathering.peers == new.peers) {
                new.peers.clear();
            }
        }
        let store = self.store.clone();
        let checked = tokio::task::spawn_blocking(move || {
            news.into_iter().filter_map(|new| permitted(&store, new).transpose()).collect()
        });
        // A thread that panicked has said so already; there is nothing to tell then.
        checked.await.unwrap_or_else(|_| Ok(Vec::new()))
    }
}

/// Nothing of what peers may not have; and what it gave only of a blob that it has wholly: of others somebody else is
/// the source.
fn permitted(store: &Store, new: Gathering) -> Result<Option<Gathering>, StoreError> {
    if !store.blobs().is_shared(&new.hash)? {
        return Ok(None);
    }
    let whole = matches!(store.blobs().status(&new.hash)?, BlobStatus::Complete { .. });
    let gave = if whole { shortened(new.gave) } else { GroupSet::new() };
    Ok(Some(Gathering { gave, ..new }))
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
        let clock = Arc::new(hubless_types::ManualClock::at(hubless_types::Timestamp(1_800_000_000)));
        let store = Store::open(dir.path(), node(9), clock)?;
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
}
