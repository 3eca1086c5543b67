//! Keeps others told of what this node holds.
//!
//! The queue is the catalogue's, ordered by when a key is due, so that it survives a restart. A key that was
//! announced is due again after `announce_interval`; new ones are due at once. While nobody is reached nothing is
//! tried, and the first peer that appears wakes the worker.
//!
//! **Invariant:** a commit is announced once its manifest is proven, a shard once all of it is.
//! **Not here:** finding providers (`sources`), speaking libp2p (`discovery`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use hubless_discovery::{DhtKey, Discovery, DiscoveryError};
use hubless_store::Store;
use hubless_types::{Clock, CommitId, FileDigest, RepoId, SHARD_MIN_BYTES, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::MirrorError;
use crate::mirror::Inner;

/// Keys that are taken from the queue at a time.
const BATCH: usize = 64;
/// Announcements under way at once; each is a walk over the DHT.
const AT_ONCE: usize = 4;
/// How often the queue is looked at when nothing wakes the worker.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often a node that reaches nobody looks whether that changed.
const ALONE_LOOK_EVERY: Duration = Duration::from_millis(500);
/// When a key is tried again after its announcement failed, in seconds.
const RETRY_SECS: u64 = 30;
/// Longest wait for a withdrawal; the record expires by itself.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(5);

/// Announces what is due. Dropping it aborts; [`Announcer::ended`] waits for its end after its token was cancelled.
#[must_use = "dropping the announcer stops it"]
pub(crate) struct Announcer {
    shared: Arc<Shared>,
    task: AbortOnDropHandle<()>,
}

struct Shared {
    store: Store,
    discovery: Arc<dyn Discovery>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    wake: Notify,
    made: AtomicU64,
    failed: AtomicU64,
}

impl Announcer {
    pub(crate) fn start(
        store: Store,
        discovery: Arc<dyn Discovery>,
        clock: Arc<dyn Clock>,
        interval: Duration,
        cancel: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            store,
            discovery,
            clock,
            interval,
            wake: Notify::new(),
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let worker = Arc::clone(&shared);
        #[allow(clippy::disallowed_methods, reason = "owned by the handle beside it")]
        let task = tokio::spawn(async move {
            cancel.run_until_cancelled(worker.run()).await;
        });
        Self { shared, task: AbortOnDropHandle::new(task) }
    }

    /// Has it look at the queue now.
    pub(crate) fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Announcements that were made and that failed since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.shared.made.load(Ordering::Relaxed), self.shared.failed.load(Ordering::Relaxed))
    }

    /// Returns when it has ended.
    pub(crate) async fn ended(self) {
        let _ = self.task.await;
    }
}

impl Shared {
    async fn run(&self) {
        loop {
            let pause = match self.round().await {
                Ok(Round::More) => continue,
                Ok(Round::Done) => LOOK_EVERY,
                Ok(Round::Alone) => ALONE_LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "the announce queue cannot be read");
                    LOOK_EVERY
                }
            };
            let _ = tokio::time::timeout(pause, self.wake.notified()).await;
        }
    }

    async fn round(&self) -> Result<Round, MirrorError> {
        let due = self.store.catalogue().due(self.clock.now(), BATCH)?;
        if due.is_empty() {
            return Ok(Round::Done);
        }
        if self.discovery.peers().is_empty() {
            return Ok(Round::Alone);
        }
        let keys = due.into_iter().map(|(_, key)| key);
        let outcomes: Vec<Result<bool, MirrorError>> = futures::stream::iter(keys)
            .map(|key| self.announce(key))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for outcome in outcomes {
            if !outcome? {
                return Ok(Round::Alone);
            }
        }
        Ok(Round::More)
    }

    /// Announces one key; `false` if nobody is reached.
    async fn announce(&self, queued: Vec<u8>) -> Result<bool, MirrorError> {
        let catalogue = self.store.catalogue();
        let Some(key) = read_key(&self.store, &queued)? else {
            catalogue.unschedule(&queued)?;
            return Ok(true);
        };
        match self.discovery.announce(&key).await {
            Ok(()) => {
                self.made.fetch_add(1, Ordering::Relaxed);
                catalogue.schedule(&queued, self.clock.now().plus(self.interval.as_secs().max(1)))?;
            }
            Err(DiscoveryError::NoPeers) => return Ok(false),
            Err(error) => {
                tracing::debug!(?key, %error, "an announcement failed; it is tried again");
                self.failed.fetch_add(1, Ordering::Relaxed);
                catalogue.schedule(&queued, self.clock.now().plus(RETRY_SECS))?;
            }
        }
        Ok(true)
    }
}

enum Round {
    More,
    Done,
    Alone,
}

impl Inner {
    /// Others are told of a commit whose manifest is here, if they may have it.
    pub(crate) fn announce_commit(&self, commit: CommitId) -> Result<(), MirrorError> {
        if !self.store.catalogue().is_commit_shared(commit)? {
            return Ok(());
        }
        self.announce_key(&commit_key(commit))
    }

    /// Others are told that this node knows what names of `repo` mean, if everybody may read it.
    pub(crate) fn announce_repo(&self, repo: &RepoId) -> Result<(), MirrorError> {
        if !self.access(repo)?.is_open() {
            return Ok(());
        }
        self.announce_key(&repo_key(repo))
    }

    /// Others are told of a file that is here and proven, if it is a shard and they may have it.
    pub(crate) fn announce_file(&self, digest: &FileDigest, size: u64) -> Result<(), MirrorError> {
        match digest {
            FileDigest::Sha256(sha256) if size >= SHARD_MIN_BYTES && is_shared(&self.store, digest)? => {
                self.announce_key(&shard_key(*sha256))
            }
            _ => Ok(()),
        }
    }

    fn announce_key(&self, key: &[u8]) -> Result<(), MirrorError> {
        // A key that waits for its next turn was announced already.
        if self.config.announce && self.store.catalogue().due_of(key)?.is_none() {
            self.store.catalogue().schedule(key, self.clock.now())?;
            self.wake_announcer();
        }
        Ok(())
    }

    /// Others are no longer told of shards that are about to go; returns those that they were told of.
    pub(crate) async fn withdraw(&self, shards: Vec<Sha256>) -> Result<Vec<Sha256>, MirrorError> {
        let mut told = Vec::new();
        for shard in shards {
            if self.store.catalogue().unschedule(&shard_key(shard))? {
                told.push(shard);
            }
        }
        let Some(net) = &self.net else { return Ok(told) };
        let all = futures::stream::iter(&told).for_each_concurrent(AT_ONCE, |shard| async move {
            let _ = net.discovery.withdraw(&DhtKey::Shard(*shard)).await;
        });
        let _ = tokio::time::timeout(WITHDRAW_TIMEOUT, all).await;
        Ok(told)
    }
}

impl Inner {
    /// Others are no longer told of any of these: they are not announced again, and what was announced is taken back
    /// in the background, as far as that takes no longer than [`WITHDRAW_TIMEOUT`]; the rest expires by itself. Call
    /// it inside a tokio runtime. Blocks a little.
    pub(crate) fn stop_telling(&self, keys: Vec<DhtKey>) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let mut told = Vec::new();
        for key in keys {
            if catalogue.unschedule(&queued(&key))? {
                told.push(key);
            }
        }
        let Some(net) = self.net.as_ref().filter(|_| !told.is_empty()) else { return Ok(()) };
        let (discovery, cancel) = (net.discovery.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            let each = told.into_iter().map(|key| take_back(Arc::clone(&discovery), key));
            let all = futures::stream::iter(each).buffer_unordered(AT_ONCE).count();
            cancel.run_until_cancelled(tokio::time::timeout(WITHDRAW_TIMEOUT, all)).await.is_some()
        });
        Ok(())
    }
}

const COMMIT: u8 = b'c';
const SHARD: u8 = b's';
const REPO: u8 = b'n';

async fn take_back(discovery: Arc<dyn Discovery>, key: DhtKey) {
    let _ = discovery.withdraw(&key).await;
}

/// How a key is spelt in the queue.
fn queued(key: &DhtKey) -> Vec<u8> {
    match key {
        DhtKey::Commit(commit) => commit_key(*commit),
        DhtKey::Shard(shard) => shard_key(*shard),
        DhtKey::Repo(repo) => repo_key(repo),
    }
}

fn commit_key(commit: CommitId) -> Vec<u8> {
    [&[COMMIT], &commit.as_bytes()[..]].concat()
}

fn shard_key(shard: Sha256) -> Vec<u8> {
    [&[SHARD], &shard.as_bytes()[..]].concat()
}

fn repo_key(repo: &RepoId) -> Vec<u8> {
    [&[REPO], repo.to_string().as_bytes()].concat()
}

/// Whether peers may have the file; never if nothing of it is here.
fn is_shared(store: &Store, digest: &FileDigest) -> Result<bool, MirrorError> {
    let link = store.catalogue().link(digest)?;
    Ok(link.map(|link| store.blobs().is_shared(&link.hash)).transpose()?.unwrap_or(false))
}

/// What a key of the queue means; `None` if what it names is no longer here, or no longer for others.
fn read_key(store: &Store, queued: &[u8]) -> Result<Option<DhtKey>, MirrorError> {
    let catalogue = store.catalogue();
    let Some((kind, rest)) = queued.split_first() else { return Ok(None) };
    Ok(match *kind {
        COMMIT => match CommitId::from_slice(rest) {
            Some(commit) if catalogue.is_commit_shared(commit)? => Some(DhtKey::Commit(commit)),
            _ => None,
        },
        SHARD => match Sha256::from_slice(rest) {
            Some(shard) if is_shared(store, &FileDigest::Sha256(shard))? => Some(DhtKey::Shard(shard)),
            _ => None,
        },
        REPO => match std::str::from_utf8(rest).ok().and_then(|name| name.parse::<RepoId>().ok()) {
            Some(repo) if catalogue.access(&repo)?.is_open() => Some(DhtKey::Repo(repo)),
            _ => None,
        },
        _ => None,
    })
}
