//! The handle: one node's decisions, shared by whoever asks.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, RwLock};

use hubless_limits::Limits;
use hubless_origin::Origin;
use hubless_proof::NodeKey;
use hubless_store::Store;
use hubless_types::{BlobHash, Clock, CommitId, FileDigest, NodeId, RepoId, Revision};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::absent::Absent;
use crate::announce::Announcer;
use crate::config::{MirrorConfig, MirrorParts};
use crate::counted::Counted;
use crate::crowd::Crowds;
use crate::fetch::{FetchConfig, Fetcher, OnLink};
use crate::keeper::Keeper;
use crate::limits::Steward;
use crate::links::{Signed, Struck, Tables};
use crate::names::{EXCHANGES_AT_ONCE, Exchanged, Lists, Memory};
use crate::obtain::Jobs;
use crate::pull::UnderWay;
use crate::shown::Shown;
use crate::sources::Net;
use crate::upstream::{self, Lies};
use crate::util::{Flights, locked};

/// One node's decisions. Clones share it; [`Mirror::shutdown`] ends what runs for it.
#[derive(Clone)]
pub struct Mirror {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) key: NodeKey,
    pub(crate) node: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: MirrorConfig,
    pub(crate) net: Option<Net>,
    /// Caps on what goes out and comes in.
    pub(crate) limits: Limits,
    /// Upstreams, in the order in which they are asked.
    pub(crate) origins: Vec<Arc<dyn Origin>>,
    /// Room for bodies from them.
    pub(crate) origin_slots: Arc<Semaphore>,
    /// What they sent that was wrong.
    pub(crate) lies: Lies,
    /// Files that are fetched from them together with others.
    pub(crate) crowds: Crowds,
    pub(crate) cancel: CancellationToken,
    /// Short work in the background: proofs, and files that are fetched on after a reader was told to come back.
    pub(crate) tasks: TaskTracker,
    /// Names that were looked up a moment ago.
    pub(crate) memory: Mutex<Memory>,
    /// Refs that origins listed a moment ago.
    pub(crate) lists: Mutex<Lists>,
    /// Names that are being looked up.
    pub(crate) looks: Flights<(RepoId, Revision)>,
    /// When peers were last asked for statements of a repository, and origins for a former name.
    pub(crate) exchanged: Mutex<Exchanged>,
    /// Somebody looks for repositories: what peers hold is to be listed anew.
    pub(crate) list_wanted: Arc<Notify>,
    /// Turns of those that are being fetched in the background.
    pub(crate) exchanges: Arc<Semaphore>,
    /// Commits whose manifest is being fetched.
    pub(crate) manifests: Flights<CommitId>,
    /// Blobs that are being proven.
    pub(crate) proofs: Flights<BlobHash>,
    /// Files that are being obtained.
    pub(crate) jobs: Jobs,
    /// Files that nobody had a moment ago.
    pub(crate) absent: Mutex<Absent>,
    /// Links that were found wrong, and who told them.
    pub(crate) struck: Mutex<Struck>,
    /// Which repositories blobs that are kept back came from.
    pub(crate) shown: Mutex<Shown>,
    /// Link tables that were read lately.
    pub(crate) tables: Mutex<Tables>,
    /// Link tables that were found vouched for a moment ago.
    pub(crate) signed: Mutex<Signed>,
    /// Commits that are being pulled.
    pub(crate) pulls: UnderWay,
    /// What is being proven in the background.
    pub(crate) proving: Mutex<HashSet<(FileDigest, BlobHash)>>,
    /// Read while files are taken in, written while the collector looks for what nobody wants: nothing falls
    /// between an import and the pin that keeps it.
    pub(crate) gate: RwLock<()>,
    /// One `add` at a time writes a name's next commit.
    pub(crate) publishing: Arc<tokio::sync::Mutex<()>>,
    announcer: Mutex<Option<Announcer>>,
    keeper: Mutex<Option<Keeper>>,
    steward: Mutex<Option<Steward>>,
}

impl Mirror {
    /// Starts with a network. Call it inside a tokio runtime: the announcer and the keeper of pins run from here on.
    pub fn start(parts: MirrorParts) -> Self {
        let MirrorParts { store, key, clock, config, discovery, peers, origins, limits } = parts;
        let node = key.id();
        let fetch = FetchConfig {
            seed: seed(node),
            origin_streams: config.origin_streams,
            limits: limits.clone(),
            on_link: OnLink::by({
                let discovery = discovery.clone();
                move |addr| discovery.is_on_link(addr)
            }),
            ..FetchConfig::default()
        };
        let peers = Arc::new(Counted::new(peers));
        let net = Net {
            node,
            fetcher: Fetcher::new(store.clone(), peers.clone(), fetch),
            discovery,
            peers,
            lookup_timeout: config.lookup_timeout,
        };
        let mirror = Self::with(store, key, clock, config, Some((net, limits)), origins);
        mirror.start_workers();
        mirror
    }

    /// Without a network: `add`, `adopt`, `verify`, `gc`, `list` and reading what is here work; what would need
    /// a peer says [`MirrorError::Offline`](crate::MirrorError::Offline).
    pub fn offline(store: Store, key: NodeKey, clock: Arc<dyn Clock>, config: MirrorConfig) -> Self {
        Self::with(store, key, clock, config, None, Vec::new())
    }

    fn with(
        store: Store,
        key: NodeKey,
        clock: Arc<dyn Clock>,
        config: MirrorConfig,
        net: Option<(Net, Limits)>,
        origins: Vec<Arc<dyn Origin>>,
    ) -> Self {
        let (net, limits) = net.map_or((None, Limits::default()), |(net, limits)| (Some(net), limits));
        let inner = Inner {
            node: key.id(),
            store,
            key,
            clock,
            config,
            net,
            limits,
            origins,
            origin_slots: upstream::slots(),
            lies: Lies::default(),
            crowds: Crowds::default(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            memory: Mutex::default(),
            lists: Mutex::default(),
            looks: Flights::default(),
            exchanged: Mutex::default(),
            list_wanted: Arc::default(),
            exchanges: Arc::new(Semaphore::new(EXCHANGES_AT_ONCE)),
            manifests: Flights::default(),
            proofs: Flights::default(),
            jobs: Jobs::default(),
            absent: Mutex::default(),
            struck: Mutex::default(),
            shown: Mutex::default(),
            tables: Mutex::default(),
            signed: Mutex::default(),
            pulls: UnderWay::default(),
            proving: Mutex::default(),
            gate: RwLock::new(()),
            publishing: Arc::default(),
            announcer: Mutex::default(),
            keeper: Mutex::default(),
            steward: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    fn start_workers(&self) {
        let inner = &self.inner;
        *locked(&inner.steward) = Some(Steward::start(inner));
        if let (Some(net), true) = (&inner.net, inner.config.announce) {
            let announcer = Announcer::start(
                inner.store.clone(),
                net.discovery.clone(),
                inner.clock.clone(),
                &inner.node,
                inner.config.announce_interval,
                inner.cancel.child_token(),
            );
            *locked(&inner.announcer) = Some(announcer);
        }
        *locked(&inner.keeper) = Some(Keeper::start(inner));
        inner.keep_shelf(inner.cancel.child_token());
        inner.list_what_peers_hold(inner.cancel.child_token());
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// Whether it has a network.
    pub fn is_online(&self) -> bool {
        self.inner.net.is_some()
    }

    /// Ends announcing, fetching and proving; what is verified stays. Requests that wait end with an error.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        if let Some(net) = &self.inner.net {
            net.fetcher.shutdown().await;
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        let announcer = locked(&self.inner.announcer).take();
        let keeper = locked(&self.inner.keeper).take();
        if let Some(announcer) = announcer {
            announcer.ended().await;
        }
        if let Some(keeper) = keeper {
            keeper.ended().await;
        }
        let steward = locked(&self.inner.steward).take();
        if let Some(steward) = steward {
            steward.ended().await;
        }
    }
}

impl Inner {
    /// Asks something of the announcer, if there is one.
    pub(crate) fn with_announcer<T>(&self, ask: impl FnOnce(&Announcer) -> T) -> Option<T> {
        locked(&self.announcer).as_ref().map(ask)
    }

    /// Has the keeper see that all that is pinned is here.
    pub(crate) fn wake_keeper(&self) {
        if let Some(keeper) = locked(&self.keeper).as_ref() {
            keeper.wake();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Nodes begin a rare file at different places.
fn seed(node: NodeId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&node.as_bytes()[..8]);
    u64::from_le_bytes(first)
}
