//! The providers that fetches know, and one standing question to each: what do you have of what is wanted?
//!
//! New files are gathered for a moment and asked about together, so that a pull of a hundred files costs a
//! provider a few subscriptions. A subscription that broke is opened again, later each time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hubless_transfer::limits::MAX_HOLDINGS_ASKED;
use hubless_transfer::{Gathering, Holding, PeerClient, TransferError};
use hubless_types::{BlobHash, NodeId, Provider};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// News that may wait for the driver; subscriptions wait for room.
const MAX_NEWS: usize = 256;

/// New files are asked about at once if none was in so long, else together at the next tick.
const GATHER: Duration = Duration::from_millis(50);

/// Subscriptions to one provider; beyond, they are joined into as few as hold all files.
const MAX_WATCHES: usize = 4;

/// Nodes that are taken on one provider's word, for all files together.
const MAX_TOLD: usize = 48;

/// Files that one provider is asked about at a time; further ones wait until others are done.
const MAX_WANTED: usize = 8 * MAX_HOLDINGS_ASKED;

/// Shortest time between two pushes about one file that are listened to; an honest peer takes twice that.
const PUSH_INTERVAL: Duration = Duration::from_millis(50);

/// First pause before a broken subscription is opened again; doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Longest such pause.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// What a subscription tells.
pub(super) enum News {
    /// A provider listens to our question: it tells when it has anything.
    Listens(NodeId),
    /// A provider has this now.
    Has(NodeId, Holding),
    /// Others fetch the same from a provider, and this is what it gave them.
    Crowd(NodeId, Gathering),
    /// A subscription broke; the files that it was about.
    Broke(NodeId, u64, TransferError),
    /// A subscription ended because the provider has all that it was about.
    Over(NodeId, u64),
}

struct Watch {
    id: u64,
    hashes: BTreeSet<BlobHash>,
    _task: AbortOnDropHandle<()>,
}

struct Source {
    provider: Provider,
    wanted: BTreeSet<BlobHash>,
    /// Those of `wanted` that no subscription is about yet.
    fresh: BTreeSet<BlobHash>,
    /// Those whose subscription ended because it has all of them.
    over: BTreeSet<BlobHash>,
    watches: Vec<Watch>,
    /// Questions for who else fetches the same, and what they are about.
    crowds: Vec<(BTreeSet<BlobHash>, AbortOnDropHandle<()>)>,
    /// Nodes that were taken on its word.
    told: usize,
    opened: Option<Instant>,
    retries: u32,
    retry_at: Option<Instant>,
    contact: Contact,
}

/// What came of asking a provider, since it became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    /// Nothing yet.
    Pending,
    /// It failed, and has never answered.
    Failed,
    /// It has answered.
    Made,
}

/// The providers that fetches know.
pub(super) struct Sources {
    peers: Arc<dyn PeerClient>,
    tasks: TaskTracker,
    known: HashMap<NodeId, Source>,
    next_watch: u64,
    tell: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
}

impl Sources {
    pub(super) fn new(peers: Arc<dyn PeerClient>, tasks: TaskTracker) -> Self {
        let (tell, news) = mpsc::channel(MAX_NEWS);
        Self { peers, tasks, known: HashMap::new(), next_watch: 0, tell, news }
    }

    /// Notes that `provider` may hold `hash`. The newest addresses are kept.
    pub(super) fn add(&mut self, provider: Provider, hash: BlobHash) {
        let node = provider.node;
        let source = self.known.entry(node).or_insert_with(|| Source::new(provider.clone()));
        if !provider.addrs.is_empty() {
            source.provider = provider;
        }
        if source.wanted.len() >= MAX_WANTED || !source.wanted.insert(hash) {
            return;
        }
        source.fresh.insert(hash);
        if source.opened.is_none_or(|at| at.elapsed() >= GATHER) {
            self.open(node);
        }
    }

    pub(super) fn provider(&self, node: &NodeId) -> Option<&Provider> {
        self.known.get(node).map(|source| &source.provider)
    }

    /// Whether one more node is taken on `teller`'s word. Each word counts, so that nobody has this node dial
    /// address after address.
    pub(super) fn believes(&mut self, teller: &NodeId, node: &NodeId) -> bool {
        if self.known.contains_key(node) {
            return true;
        }
        let Some(source) = self.known.get_mut(teller) else { return false };
        source.told += 1;
        source.told <= MAX_TOLD
    }

    /// Whether `node` has neither answered nor failed yet.
    pub(super) fn is_pending(&self, node: &NodeId) -> bool {
        self.known.get(node).is_some_and(|source| source.contact == Contact::Pending)
    }

    /// Whether `node` has failed and never answered.
    pub(super) fn is_dead(&self, node: &NodeId) -> bool {
        self.known.get(node).is_some_and(|source| source.contact == Contact::Failed)
    }

    pub(super) fn remove(&mut self, node: &NodeId) {
        self.known.remove(node);
    }

    /// Asks nobody about `hash` any more.
    pub(super) fn forget(&mut self, hash: &BlobHash) {
        for source in self.known.values_mut() {
            source.wanted.remove(hash);
            source.fresh.remove(hash);
            source.over.remove(hash);
            let wanted = &source.wanted;
            source.watches.retain(|watch| !watch.hashes.is_disjoint(wanted));
            source.crowds.retain(|(about, _)| !about.is_disjoint(wanted));
            if source.wanted.is_empty() {
                // What it says about the next thing is another word.
                source.told = 0;
            }
        }
    }

    /// A provider turned out not to have what it said: it is asked again after a while.
    pub(super) fn doubt(&mut self, node: &NodeId, hash: &BlobHash) {
        if let Some(source) = self.known.get_mut(node)
            && source.over.remove(hash)
        {
            source.fresh.insert(*hash);
            source.put_off();
        }
    }

    /// All news there are, once there are any. Cancel safe; never ends.
    pub(super) async fn news(&mut self) -> Option<Vec<News>> {
        let mut all = Vec::new();
        self.news.recv_many(&mut all, MAX_NEWS).await;
        for news in &all {
            if let News::Has(node, _) | News::Listens(node) = news
                && let Some(source) = self.known.get_mut(node)
            {
                source.contact = Contact::Made;
                // One whose subscriptions open and break at once is not asked without pause.
                if matches!(news, News::Has(..)) {
                    source.retries = 0;
                }
            }
        }
        Some(all)
    }

    /// A subscription ended. The files that it was about and that are still wanted, if it was a live one.
    pub(super) fn ended(&mut self, node: &NodeId, watch: u64, broke: bool) -> Vec<BlobHash> {
        let Some(source) = self.known.get_mut(node) else { return Vec::new() };
        let Some(at) = source.watches.iter().position(|w| w.id == watch) else { return Vec::new() };
        let watch = source.watches.swap_remove(at);
        let about: Vec<BlobHash> = watch.hashes.intersection(&source.wanted).copied().collect();
        if source.contact == Contact::Pending {
            source.contact = if broke { Contact::Failed } else { Contact::Made };
        }
        if broke {
            source.fresh.extend(&about);
            source.put_off();
        } else {
            source.over.extend(&about);
        }
        about
    }

    /// Opens what is due.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        let due = |source: &Source| !source.fresh.is_empty() && source.retry_at.is_none_or(|at| at <= now);
        let due: Vec<NodeId> = self.known.iter().filter(|(_, s)| due(s)).map(|(node, _)| *node).collect();
        due.into_iter().for_each(|node| self.open(node));
    }

    fn open(&mut self, node: NodeId) {
        let Some(source) = self.known.get_mut(&node) else { return };
        if source.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        source.retry_at = None;
        source.opened = Some(Instant::now());
        if source.watches.len() >= MAX_WATCHES {
            source.watches.clear();
            source.crowds.clear();
            source.fresh = source.wanted.difference(&source.over).copied().collect();
        }
        let fresh: Vec<BlobHash> = std::mem::take(&mut source.fresh).into_iter().collect();
        for hashes in fresh.chunks(MAX_HOLDINGS_ASKED) {
            let id = self.next_watch;
            self.next_watch += 1;
            let (peers, provider, tell) = (self.peers.clone(), source.provider.clone(), self.tell.clone());
            let task = self.tasks.spawn(watch(peers, provider, hashes.to_vec(), id, tell));
            let hashes = hashes.iter().copied().collect();
            source.watches.push(Watch { id, hashes, _task: AbortOnDropHandle::new(task) });
        }
        // What it has all of is not asked about any more, yet others may be asking it for that still.
        source.crowds.retain(|(_, task)| !task.is_finished());
        let asked = |hash: &BlobHash| source.crowds.iter().any(|(about, _)| about.contains(hash));
        let unasked: Vec<BlobHash> = source.wanted.iter().filter(|hash| !asked(hash)).copied().collect();
        for hashes in unasked.chunks(MAX_HOLDINGS_ASKED) {
            if source.crowds.len() < MAX_WATCHES {
                let (peers, provider, tell) =
                    (self.peers.clone(), source.provider.clone(), self.tell.clone());
                let task = self.tasks.spawn(gather(peers, provider, hashes.to_vec(), tell));
                source.crowds.push((hashes.iter().copied().collect(), AbortOnDropHandle::new(task)));
            }
        }
    }
}

impl Source {
    fn new(provider: Provider) -> Self {
        Self {
            provider,
            wanted: BTreeSet::new(),
            fresh: BTreeSet::new(),
            over: BTreeSet::new(),
            watches: Vec::new(),
            crowds: Vec::new(),
            told: 0,
            opened: None,
            retries: 0,
            retry_at: None,
            contact: Contact::Pending,
        }
    }

    fn put_off(&mut self) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.retries.min(8)).min(MAX_RETRY);
        self.retries = self.retries.saturating_add(1);
        self.retry_at = Some(Instant::now() + pause);
    }
}

/// Listens to one subscription until it ends, and tells how it ended.
async fn watch(
    peers: Arc<dyn PeerClient>,
    provider: Provider,
    hashes: Vec<BlobHash>,
    id: u64,
    tell: mpsc::Sender<News>,
) {
    let node = provider.node;
    let end = match listen(peers, &provider, &hashes, &tell).await {
        Ok(()) => News::Over(node, id),
        Err(error) => News::Broke(node, id, error),
    };
    // Nobody listens any more only when all is being stopped.
    let _ = tell.send(end).await;
}

async fn listen(
    peers: Arc<dyn PeerClient>,
    provider: &Provider,
    hashes: &[BlobHash],
    tell: &mpsc::Sender<News>,
) -> Result<(), TransferError> {
    let mut pushes = peers.holdings(provider, hashes).await?;
    if tell.send(News::Listens(provider.node)).await.is_err() {
        return Ok(());
    }
    let mut last: HashMap<BlobHash, Instant> = HashMap::new();
    while let Some(push) = pushes.next().await {
        let holding = push?;
        if !hashes.contains(&holding.hash) {
            continue;
        }
        // A peer that pushes without pause waits for us, instead of keeping this node busy.
        if let Some(at) = last.insert(holding.hash, Instant::now()) {
            tokio::time::sleep_until(at + PUSH_INTERVAL).await;
        }
        if tell.send(News::Has(provider.node, holding)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Listens to who else fetches the same. A provider that does not say, or not any more, is none the worse for it.
async fn gather(
    peers: Arc<dyn PeerClient>,
    provider: Provider,
    hashes: Vec<BlobHash>,
    tell: mpsc::Sender<News>,
) {
    let Ok(mut pushes) = peers.crowd(&provider, &hashes).await else { return };
    let mut last: HashMap<BlobHash, Instant> = HashMap::new();
    while let Some(Ok(gathering)) = pushes.next().await {
        if !hashes.contains(&gathering.hash) {
            continue;
        }
        if let Some(at) = last.insert(gathering.hash, Instant::now()) {
            tokio::time::sleep_until(at + PUSH_INTERVAL).await;
        }
        if tell.send(News::Crowd(provider.node, gathering)).await.is_err() {
            break;
        }
    }
}
