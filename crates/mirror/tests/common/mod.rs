//! What the nodes of the testkit's swarm do in these stories.
#![allow(dead_code, unreachable_pub, clippy::expect_used, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use hubless_discovery::{DhtKey, Discovery as _};
pub use hubless_mirror::Caller;
use hubless_mirror::*;
#[allow(unused_imports, reason = "each test file uses a part of it")]
pub use hubless_testkit::{START, Swarm, SwarmNode as Node};
use hubless_types::*;

/// What tests return.
pub type TestResult = Result<()>;

/// The repository of most tests.
pub fn tiny() -> RepoId {
    "acme/tiny".parse().expect("a repo id")
}

/// What a node does in these stories.
#[allow(async_fn_in_trait, reason = "nobody else implements it")]
pub trait Deeds {
    async fn add(&self, dir: &Path) -> Result<AddReport, MirrorError>;
    /// Pulls `main` of the usual repository by the word of `from`.
    async fn pull_from(&self, from: &[NodeId]) -> Result<PullReport, MirrorError>;
    async fn pull_commit(&self, commit: CommitId) -> Result<PullReport, MirrorError>;
    async fn pull_to(&self, to: PullTo, from: NodeId) -> Result<PullReport, MirrorError>;
    /// The same into a folder, over what stands there.
    async fn pull_over(&self, dir: &Path, from: NodeId) -> Result<PullReport, MirrorError>;
    async fn resolve(&self, from: &[NodeId]) -> Result<Resolved, MirrorError>;
    /// Reads a file's bytes from `start` on.
    async fn read(&self, commit: CommitId, path: &str, start: u64) -> Result<Vec<u8>, MirrorError>;
    /// Waits until this node's announcement of `key` is found by `other`.
    async fn announced(&self, swarm: &Swarm, other: &Node, key: DhtKey) -> TestResult;
}

impl Deeds for Node {
    async fn add(&self, dir: &Path) -> Result<AddReport, MirrorError> {
        self.mirror.add(AddRequest::new(dir, tiny()), ignore()).await
    }

    async fn pull_from(&self, from: &[NodeId]) -> Result<PullReport, MirrorError> {
        let mut request = PullRequest::all(tiny(), Revision::main());
        request.accept = Accept { from: from.to_vec() };
        self.mirror.pull(request, ignore()).await
    }

    async fn pull_commit(&self, commit: CommitId) -> Result<PullReport, MirrorError> {
        self.mirror.pull(PullRequest::all(tiny(), commit.into()), ignore()).await
    }

    async fn pull_to(&self, to: PullTo, from: NodeId) -> Result<PullReport, MirrorError> {
        let request = PullRequest {
            to,
            accept: Accept { from: vec![from] },
            ..PullRequest::all(tiny(), Revision::main())
        };
        self.mirror.pull(request, ignore()).await
    }

    async fn pull_over(&self, dir: &Path, from: NodeId) -> Result<PullReport, MirrorError> {
        let request = PullRequest {
            to: PullTo::Dir(dir.to_owned()),
            overwrite: true,
            accept: Accept { from: vec![from] },
            ..PullRequest::all(tiny(), Revision::main())
        };
        self.mirror.pull(request, ignore()).await
    }

    async fn resolve(&self, from: &[NodeId]) -> Result<Resolved, MirrorError> {
        self.mirror.resolve(&tiny(), &Revision::main(), &Caller::taking(from)).await
    }

    async fn read(&self, commit: CommitId, path: &str, start: u64) -> Result<Vec<u8>, MirrorError> {
        let range = ByteRange::new(start, u64::MAX);
        let reader = self.mirror.open_file(&Caller::anyone(), &tiny(), commit, &path.parse()?, range).await?;
        let bytes = reader.body.map_ok(|b| b.to_vec()).try_concat().await?;
        assert_eq!(bytes.len() as u64, reader.range.len());
        Ok(bytes)
    }

    async fn announced(&self, swarm: &Swarm, other: &Node, key: DhtKey) -> TestResult {
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
