//! A swarm of mirrors in one process: real stores, a network and a DHT in memory, a clock that stands still.
#![allow(dead_code, unreachable_pub, clippy::expect_used, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use hubless_discovery::{DhtKey, Discovery as _, MemorySwarm};
use hubless_mirror::*;
use hubless_proof::NodeKey;
use hubless_store::Store;
use hubless_transfer::MemoryNet;
use hubless_types::*;
use tempfile::TempDir;

/// What tests return.
pub type TestResult = Result<()>;

/// When every test begins.
pub const START: Timestamp = Timestamp(1_700_000_000);

/// The repository of most tests.
pub fn tiny() -> RepoId {
    "acme/tiny".parse().expect("a repo id")
}

/// Mirrors that may reach one another.
pub struct Swarm {
    pub discovery: MemorySwarm,
    pub net: MemoryNet,
    pub clock: Arc<ManualClock>,
    pub dir: TempDir,
    next: AtomicU8,
}

/// One of them.
pub struct Node {
    pub mirror: Mirror,
    pub store: Store,
    pub id: NodeId,
}

impl Swarm {
    pub fn new() -> Result<Self> {
        Ok(Self {
            discovery: MemorySwarm::new(),
            net: MemoryNet::new(),
            clock: Arc::new(ManualClock::at(START)),
            dir: tempfile::tempdir()?,
            next: AtomicU8::new(1),
        })
    }

    pub fn node(&self) -> Result<Node> {
        self.node_with(|_| {})
    }

    /// A node whose settings `change` changes.
    pub fn node_with(&self, change: impl FnOnce(&mut MirrorConfig)) -> Result<Node> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let key = NodeKey::from_bytes([n; 32]);
        let id = key.id();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let store = Store::open(&self.dir.path().join(format!("node{n}")), id, clock.clone())?;
        let discovery = self.discovery.node(id, SocketAddr::from(([127, 0, 0, n], 4001)));
        let peers = self.net.join(id, store.clone());
        let mut config = MirrorConfig { lookup_timeout: Duration::from_secs(2), ..MirrorConfig::default() };
        change(&mut config);
        let parts =
            MirrorParts { store: store.clone(), key, clock, config, discovery: Arc::new(discovery), peers };
        Ok(Node { mirror: Mirror::start(parts), store, id })
    }

    /// Nobody reaches `node` any more.
    pub fn cut(&self, node: &Node) {
        self.discovery.cut(node.id);
        self.net.leave(node.id);
    }

    /// A folder with these files.
    pub fn folder(&self, name: &str, files: &[(&str, &[u8])]) -> Result<PathBuf> {
        let dir = self.dir.path().join(name);
        for (path, bytes) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().context("a parent")?)?;
            std::fs::write(path, bytes)?;
        }
        Ok(dir)
    }
}

impl Node {
    pub async fn add(&self, dir: &Path) -> Result<AddReport, MirrorError> {
        self.mirror.add(AddRequest::new(dir, tiny()), ignore()).await
    }

    /// Pulls `main` of the usual repository by the word of `from`.
    pub async fn pull_from(&self, from: &[NodeId]) -> Result<PullReport, MirrorError> {
        let mut request = PullRequest::all(tiny(), Revision::main());
        request.accept = Accept { from: from.to_vec() };
        self.mirror.pull(request, ignore()).await
    }

    pub async fn pull_commit(&self, commit: CommitId) -> Result<PullReport, MirrorError> {
        self.mirror.pull(PullRequest::all(tiny(), commit.into()), ignore()).await
    }

    pub async fn pull_to(&self, to: PullTo, from: NodeId) -> Result<PullReport, MirrorError> {
        let request = PullRequest {
            to,
            accept: Accept { from: vec![from] },
            ..PullRequest::all(tiny(), Revision::main())
        };
        self.mirror.pull(request, ignore()).await
    }

    pub async fn resolve(&self, from: &[NodeId]) -> Result<Resolved, MirrorError> {
        self.mirror.resolve(&tiny(), &Revision::main(), &Accept { from: from.to_vec() }).await
    }

    /// Reads a file's bytes from `start` on.
    pub async fn read(&self, commit: CommitId, path: &str, start: u64) -> Result<Vec<u8>, MirrorError> {
        let range = ByteRange::new(start, u64::MAX);
        let reader = self.mirror.open_file(&tiny(), commit, &path.parse()?, range).await?;
        let bytes = reader.body.map_ok(|b| b.to_vec()).try_concat().await?;
        assert_eq!(bytes.len() as u64, reader.range.len());
        Ok(bytes)
    }

    /// Waits until this node's announcement of `key` is found by `other`.
    pub async fn announced(&self, swarm: &Swarm, other: &Node, key: DhtKey) -> TestResult {
        let eyes = swarm.discovery.node(other.id, SocketAddr::from(([127, 0, 0, 250], 1)));
        eventually(&format!("{key:?} is announced"), async || {
            let found: Vec<Provider> = eyes.find(&key).collect().await;
            found.iter().any(|p| p.node == self.id)
        })
        .await
    }
}

/// A sink that nobody reads.
pub fn ignore() -> ProgressSink {
    tokio::sync::mpsc::channel(1).0
}

/// Waits until `holds`, at most ten seconds.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) -> TestResult {
    for _ in 0..400 {
        if holds().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    ensure!(false, "it never came about that {what}");
    Ok(())
}

/// Bytes that no two seeds have in common, and that do not repeat.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Every file beneath `dir` with its bytes, by path; links are followed.
pub fn files_of(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir)?.to_str().context("UTF-8")?.to_owned();
                files.push((name, std::fs::read(&path)?));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// 1 MiB.
pub const MIB: usize = 1024 * 1024;
