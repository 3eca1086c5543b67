//! A swarm of mirrors in one process: real stores, a network and a DHT in memory, a clock that stands still.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hubless_discovery::MemorySwarm;
use hubless_limits::Limits;
use hubless_mirror::{AddReport, AddRequest, Mirror, MirrorConfig, MirrorParts};
use hubless_origin::{Origin, OriginConfig, OriginKind};
use hubless_proof::NodeKey;
use hubless_store::Store;
use hubless_transfer::{Faults, MemoryNet};
use hubless_types::{Clock, ManualClock, NodeId, RepoId, Timestamp};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// When every swarm begins.
pub const START: Timestamp = Timestamp(1_700_000_000);

/// Mirrors that may reach one another. Their folders go with it.
pub struct Swarm {
    /// Who finds whom.
    pub discovery: MemorySwarm,
    /// Who reaches whom, what goes wrong, and who sent how much.
    pub net: MemoryNet,
    /// What all of them take for the time.
    pub clock: Arc<ManualClock>,
    /// Where their folders, and those of the test, are.
    pub dir: TempDir,
    next: AtomicU8,
}

/// One of them.
pub struct SwarmNode {
    /// The mirror.
    pub mirror: Mirror,
    /// What it keeps.
    pub store: Store,
    /// Who it is, and what it signs with.
    pub id: NodeId,
    /// Its key.
    pub key: NodeKey,
}

impl Swarm {
    /// A swarm without nodes.
    pub fn new() -> Result<Self> {
        Ok(Self {
            discovery: MemorySwarm::new(),
            net: MemoryNet::new(),
            clock: Arc::new(ManualClock::at(START)),
            dir: tempfile::tempdir()?,
            next: AtomicU8::new(1),
        })
    }

    /// A node that nobody reaches and that reaches nobody.
    pub fn lone_node(&self) -> Result<SwarmNode> {
        let (key, store, clock) = self.parts()?;
        let id = key.id();
        let mirror = Mirror::offline(store.clone(), key.clone(), clock, MirrorConfig::default());
        Ok(SwarmNode { mirror, store, key, id })
    }

    /// A node with the usual settings, which believes nobody.
    pub fn node(&self) -> Result<SwarmNode> {
        self.node_with(|_| {})
    }

    /// A node that believes what `trusted` say.
    pub fn node_trusting(&self, trusted: Vec<NodeId>) -> Result<SwarmNode> {
        self.node_with(|config| {
            config.trusted = trusted;
            config.lookup_timeout = Duration::from_secs(1);
        })
    }

    /// A node whose settings `change` changes. Call it inside a tokio runtime.
    pub fn node_with(&self, change: impl FnOnce(&mut MirrorConfig)) -> Result<SwarmNode> {
        self.node_below(Vec::new(), change)
    }

    /// A node with these upstreams. Call it inside a tokio runtime.
    pub fn node_below(
        &self,
        origins: Vec<Arc<dyn Origin>>,
        change: impl FnOnce(&mut MirrorConfig),
    ) -> Result<SwarmNode> {
        self.node_within(Limits::default(), origins, change)
    }

    /// A node with these caps and upstreams, which keep to the same caps where they can. Call it inside a tokio runtime.
    pub fn node_within(
        &self,
        limits: Limits,
        origins: Vec<Arc<dyn Origin>>,
        change: impl FnOnce(&mut MirrorConfig),
    ) -> Result<SwarmNode> {
        let parts = self.parts()?;
        self.node_of(parts, limits, origins, change)
    }

    /// Starts a node anew on the store of one that was shut down, as after a restart.
    pub fn again(&self, node: SwarmNode, limits: Limits) -> Result<SwarmNode> {
        let SwarmNode { mirror, store, key, .. } = node;
        drop(mirror);
        self.node_of((key, store, self.clock.clone()), limits, Vec::new(), |_| {})
    }

    fn node_of(
        &self,
        (key, store, clock): (NodeKey, Store, Arc<dyn Clock>),
        limits: Limits,
        origins: Vec<Arc<dyn Origin>>,
        change: impl FnOnce(&mut MirrorConfig),
    ) -> Result<SwarmNode> {
        let (id, [first, ..]) = (key.id(), key.secret_bytes());
        let discovery = Arc::new(self.discovery.node(id, SocketAddr::from(([127, 0, 0, first], 4001))));
        let peers = self.net.join_within(id, store.clone(), limits.clone());
        let mut config = MirrorConfig { lookup_timeout: Duration::from_secs(2), ..MirrorConfig::default() };
        change(&mut config);
        let (store_of_it, key_of_it) = (store.clone(), key.clone());
        let parts = MirrorParts {
            store: store_of_it,
            key: key_of_it,
            clock,
            config,
            discovery,
            peers,
            origins,
            limits,
        };
        Ok(SwarmNode { mirror: Mirror::start(parts), store, key, id })
    }

    fn parts(&self) -> Result<(NodeKey, Store, Arc<dyn Clock>)> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let key = NodeKey::from_bytes([n; 32]);
        let clock: Arc<dyn Clock> = self.clock.clone();
        let store = Store::open(&self.dir.path().join(format!("node{n}")), key.id(), clock.clone())?;
        Ok((key, store, clock))
    }

    /// Sets what goes wrong with `node` from now on.
    pub fn set_faults(&self, node: &SwarmNode, faults: Faults) {
        self.net.set_faults(node.id, faults);
    }

    /// Takes `node` off the network.
    pub fn cut(&self, node: &SwarmNode) {
        self.discovery.cut(node.id);
        self.net.leave(node.id);
    }

    /// A folder with these files.
    pub fn folder(&self, name: &str, files: &[(&str, &[u8])]) -> Result<PathBuf> {
        let dir = self.dir.path().join(name);
        for (path, bytes) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            std::fs::write(path, bytes)?;
        }
        Ok(dir)
    }
}

/// The hub at `url` as an origin that takes files above `plain_up_to` bytes for too large to be had plainly.
pub fn origin_with_xet(url: &str, plain_up_to: u64) -> Result<Arc<dyn Origin>> {
    hub_origin(url, |config| config.plain_up_to = plain_up_to)
}

/// The hub at `url` as an origin whose settings `change` changes.
pub fn hub_origin(url: &str, change: impl FnOnce(&mut OriginConfig)) -> Result<Arc<dyn Origin>> {
    let mut config = OriginConfig::new(url, OriginKind::Hub)?;
    change(&mut config);
    Ok(hubless_origin::build(&config)?)
}

/// The git host at `url` as an origin.
pub fn git_origin(url: &str) -> Result<Arc<dyn Origin>> {
    Ok(hubless_origin::build(&OriginConfig::new(url, OriginKind::Git)?)?)
}

impl SwarmNode {
    /// Publishes a folder as the `main` branch of `repo`.
    pub async fn publish(&self, repo: &RepoId, dir: PathBuf) -> Result<AddReport> {
        let (sink, _progress) = mpsc::channel(1);
        Ok(self.mirror.add(AddRequest::new(dir, repo.clone()), sink).await?)
    }
}
