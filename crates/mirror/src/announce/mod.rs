//! Keeps others told of what this node holds.
//!
//! The queue is the catalogue's, ordered by when a key is due, so that it survives a restart. What is due is told in a
//! sweep: the key that is longest due, then all others of its part of the key space, which need no walk of their own.
//! New commits and names do not wait for the sweep. While nobody is reached nothing is tried, and the first peer that
//! appears wakes the worker.
//!
//! **Invariant:** a commit is announced once its manifest is proven, a shard for long once all of it is proven, and for
//! a short time while only a part of it is here.
//! **Not here:** finding providers (`sources`), walks and batches (`discovery`).

mod queue_key;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use hubless_discovery::{DhtKey, Discovery, DiscoveryError, Lifetime, PARTIAL_TTL_SECS, Told};
use hubless_store::Store;
use hubless_types::{Clock, CommitId, FileDigest, NodeId, RepoId, SHARD_MIN_BYTES, Sha256, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::fetch::FetchHandle;
use crate::mirror::Inner;
use crate::util::{blocking, locked};
use crate::{AnnounceStatus, MirrorError};
use schedule::Schedule;

/// Most keys that are announced in one go.
const PAGE: usize = 4_096;
/// New commits and names that wait to be announced at once; more wait for the sweep.
const NEWS_QUEUE: usize = 256;
/// How often the queue is looked at when nothing wakes the worker.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often a node that reaches nobody looks whether that changed.
const ALONE_LOOK_EVERY: Duration = Duration::from_millis(500);
/// Shortest pause between two looks, where nothing is due.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// When a key is tried again after its announcement failed, in seconds.
const RETRY_SECS: u64 = 30;
/// How long after the first of a file is here it is announced that a part of it is, in seconds: many fetches end
/// before.
const PARTIAL_AFTER_SECS: u64 = 5;
/// Longest wait for a withdrawal; it goes on behind, and the record expires by itself.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the log says that the queue falls behind.
const ALARM_EVERY_SECS: u64 = 600;
/// Due keys are counted up to this.
const COUNTED: usize = 100_000;

/// Announces what is due. Dropping it aborts; [`Announcer::ended`] waits for its end after its token was cancelled.
#[must_use = "dropping the announcer stops it"]
pub(crate) struct Announcer {
    shared: Arc<Shared>,
    news: mpsc::Sender<Vec<u8>>,
    tasks: [AbortOnDropHandle<()>; 2],
}

struct Shared {
    store: Store,
    discovery: Arc<dyn Discovery>,
    clock: Arc<dyn Clock>,
    schedule: Schedule,
    wake: Notify,
    tally: Mutex<Tally>,
}

/// What was done since the start.
#[derive(Default)]
struct Tally {
    made: u64,
    failed: u64,
    walks: u64,
    messages: u64,
    refused: u64,
    /// What went wrong last, until something goes right.
    trouble: Option<String>,
    alarmed: Option<Timestamp>,
}

impl Announcer {
    pub(crate) fn start(
        store: Store,
        discovery: Arc<dyn Discovery>,
        clock: Arc<dyn Clock>,
        node: &NodeId,
        interval: Duration,
        cancel: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            store,
            discovery,
            clock,
            schedule: Schedule::new(node, interval.as_secs()),
            wake: Notify::new(),
            tally: Mutex::default(),
        });
        let (news, told) = mpsc::channel(NEWS_QUEUE);
        let (sweeper, reporter) = (Arc::clone(&shared), Arc::clone(&shared));
        let (end, other_end) = (cancel.clone(), cancel);
        #[allow(clippy::disallowed_methods, reason = "owned by the handles beside it")]
        let tasks = [
            tokio::spawn(async move {
                end.run_until_cancelled(sweeper.run()).await;
            }),
            tokio::spawn(async move {
                other_end.run_until_cancelled(reporter.report(told)).await;
            }),
        ];
        Self { shared, news, tasks: tasks.map(AbortOnDropHandle::new) }
    }

    /// Has it look at the queue now.
    pub(crate) fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Has it announce a key of the queue before all others.
    fn hurry(&self, queued: Vec<u8>) {
        // A full queue leaves it to the sweep.
        let _ = self.news.try_send(queued);
    }

    /// Returns when it has ended.
    pub(crate) async fn ended(self) {
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

enum Round {
    More,
    Done,
    Alone,
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
            let _ = tokio::time::timeout(pause.min(self.next_due()), self.wake.notified()).await;
        }
    }

    /// How long it is until something is due.
    fn next_due(&self) -> Duration {
        let next = self.store.catalogue().next_due().ok().flatten();
        let wait = next.map_or(u64::MAX, |due| due.0.saturating_sub(self.clock.now().0));
        Duration::from_secs(wait).max(SHORTEST_PAUSE)
    }

    /// Announces what is new as it comes.
    async fn report(&self, mut news: mpsc::Receiver<Vec<u8>>) {
        while let Some(key) = news.recv().await {
            if let Err(error) = self.announce(vec![key]).await {
                tracing::warn!(%error, "what is new cannot be announced at once; the sweep tries again");
            }
        }
    }

    /// Announces the part of the key space that is longest due.
    async fn round(&self) -> Result<Round, MirrorError> {
        let now = self.clock.now();
        let Some((due, first)) = self.store.catalogue().due(now, 1)?.pop() else {
            locked(&self.tally).trouble = None;
            return Ok(Round::Done);
        };
        self.alarm(due, now);
        if queue_key::is_old(&first) {
            self.renew(&first, due)?;
            return Ok(Round::More);
        }
        if self.discovery.peers().is_empty() {
            self.trouble("no other node is reached");
            return Ok(Round::Alone);
        }
        let Some(told) = self.announce(vec![first]).await? else { return Ok(self.after_failure()) };
        let (from, to) = told.region.leads();
        let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
        let mut after = None;
        loop {
            let until = self.schedule.along(now);
            let page = self.store.catalogue().scheduled_between(&from, &to, after.as_deref(), until, PAGE)?;
            let Some(last) = page.last().cloned() else { return Ok(Round::More) };
            if self.announce(page).await?.is_none() {
                return Ok(self.after_failure());
            }
            after = Some(last);
        }
    }

    fn after_failure(&self) -> Round {
        if self.discovery.peers().is_empty() { Round::Alone } else { Round::More }
    }

    /// Announces keys of the queue and says when they are due again; `None` if that failed.
    async fn announce(&self, queued: Vec<Vec<u8>>) -> Result<Option<Told>, MirrorError> {
        let (store, keys) = (self.store.clone(), queued.clone());
        let meant = blocking(move || queue_key::read(&store, &keys)).await?;
        let mut by_lifetime: BTreeMap<Lifetime, Vec<(Vec<u8>, DhtKey)>> = BTreeMap::new();
        let mut gone = Vec::new();
        for (queued, meant) in queued.into_iter().zip(meant) {
            match meant {
                Some((key, lifetime)) => by_lifetime.entry(lifetime).or_default().push((queued, key)),
                None => gone.push(queued),
            }
        }
        gone.iter().try_for_each(|key| self.store.catalogue().unschedule(key).map(drop))?;
        let mut last = None;
        for (lifetime, keys) in by_lifetime {
            let dht: Vec<DhtKey> = keys.iter().map(|(_, key)| key.clone()).collect();
            match self.discovery.announce(&dht, lifetime).await {
                Ok(told) => {
                    self.note(keys.len(), &told);
                    self.postpone(keys, lifetime, &told.missed).await?;
                    last = Some(told);
                }
                Err(error) => return self.failed(keys, &error),
            }
        }
        // Nothing of it is here any more: that is no failure, and no walk was made.
        let nothing = Told {
            region: hubless_discovery::Region::around(hubless_discovery::Place::from_bytes([0; 32]), 48),
            walks: 0,
            messages: 0,
            kept: 0,
            refused: 0,
            missed: Vec::new(),
        };
        Ok(Some(last.unwrap_or(nothing)))
    }

    fn failed(
        &self,
        keys: Vec<(Vec<u8>, DhtKey)>,
        error: &DiscoveryError,
    ) -> Result<Option<Told>, MirrorError> {
        self.trouble(&error.to_string());
        if matches!(error, DiscoveryError::NoPeers) && self.discovery.peers().is_empty() {
            return Ok(None);
        }
        tracing::debug!(%error, keys = keys.len(), "an announcement failed; it is tried again");
        locked(&self.tally).failed += keys.len() as u64;
        let due = self.clock.now().plus(RETRY_SECS);
        let mut batch = self.store.catalogue().batch();
        for (queued, _) in &keys {
            batch.schedule(queued, due);
        }
        batch.commit()?;
        Ok(None)
    }

    fn note(&self, keys: usize, told: &Told) {
        let mut tally = locked(&self.tally);
        let missed = told.missed.len() as u64;
        tally.made += (keys as u64).saturating_sub(missed);
        tally.failed += missed;
        tally.walks += told.walks;
        tally.messages += told.messages;
        tally.refused += told.refused;
        tally.trouble = match (missed, told.refused) {
            (0, _) => None,
            (_, 0) => Some("those who should keep the records do not answer".to_owned()),
            _ => Some("those who should keep the records have no room for more of this node's".to_owned()),
        };
    }

    /// Says when announced keys are due again. Keys that left the queue meanwhile are taken back: what they name is
    /// going.
    async fn postpone(
        &self,
        keys: Vec<(Vec<u8>, DhtKey)>,
        lifetime: Lifetime,
        missed: &[Vec<u8>],
    ) -> Result<(), MirrorError> {
        let (now, catalogue) = (self.clock.now(), self.store.catalogue());
        let (mut batch, mut gone) = (catalogue.batch(), Vec::new());
        for (queued, key) in keys {
            if catalogue.due_of(&queued)?.is_none() {
                gone.push(key);
                continue;
            }
            let due = match lifetime {
                _ if missed.contains(&key.to_bytes()) => now.plus(RETRY_SECS),
                Lifetime::Whole => self.schedule.next(queue_key::lead(&queued), now),
                Lifetime::Partial => now.plus(PARTIAL_TTL_SECS / 2),
            };
            batch.schedule(&queued, due);
        }
        batch.commit()?;
        if !gone.is_empty() {
            let _ = self.discovery.withdraw(&gone).await;
        }
        Ok(())
    }

    /// Gives a key of an older version its place in the key space.
    fn renew(&self, queued: &[u8], due: Timestamp) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let new = queue_key::renewed(queued, catalogue)?;
        let mut batch = catalogue.batch();
        batch.unschedule(queued);
        if let Some(new) = new {
            // A second later than the others, so that all have their place before the first is told.
            batch.schedule(&new, due.plus(1));
        }
        Ok(batch.commit()?)
    }

    fn trouble(&self, why: &str) {
        locked(&self.tally).trouble = Some(why.to_owned());
    }

    fn alarm(&self, oldest: Timestamp, now: Timestamp) {
        let Some(late) = self.schedule.behind(oldest, now) else { return };
        let mut tally = locked(&self.tally);
        if tally.alarmed.is_some_and(|at| now.0.saturating_sub(at.0) < ALARM_EVERY_SECS) {
            return;
        }
        tally.alarmed = Some(now);
        let why = tally.trouble.as_deref().unwrap_or(SLOW);
        tracing::warn!(late_secs = late, why, "announcing falls behind: others forget what this node holds");
    }

    fn status(&self) -> Result<AnnounceStatus, MirrorError> {
        let (now, catalogue) = (self.clock.now(), self.store.catalogue());
        let due = catalogue.due(now, COUNTED)?;
        let late = due.first().map_or(0, |(oldest, _)| now.0.saturating_sub(oldest.0));
        let behind = due.first().and_then(|(oldest, _)| self.schedule.behind(*oldest, now));
        let tally = locked(&self.tally);
        Ok(AnnounceStatus {
            keys: catalogue.scheduled_count()?,
            due: due.len() as u64,
            made: tally.made,
            failed: tally.failed,
            walks: tally.walks,
            messages: tally.messages,
            refused: tally.refused,
            late_secs: late,
            behind: behind.map(|_| tally.trouble.clone().unwrap_or_else(|| SLOW.to_owned())),
        })
    }
}

/// Why a queue falls behind though nothing fails.
const SLOW: &str = "there are more keys than this node can tell others of in time";

impl Inner {
    /// How announcing goes.
    pub(crate) fn announce_status(&self) -> Result<AnnounceStatus, MirrorError> {
        match self.announcer() {
            Some(shared) => shared.status(),
            None => Ok(AnnounceStatus {
                keys: self.store.catalogue().scheduled_count()?,
                due: self.store.catalogue().due(self.clock.now(), COUNTED)?.len() as u64,
                ..AnnounceStatus::default()
            }),
        }
    }

    fn announcer(&self) -> Option<Arc<Shared>> {
        self.with_announcer(|announcer| Arc::clone(&announcer.shared))
    }

    /// Others are told of a commit whose manifest is here, if they may have it.
    pub(crate) fn announce_commit(&self, commit: CommitId) -> Result<(), MirrorError> {
        if !self.store.catalogue().is_commit_shared(commit)? {
            return Ok(());
        }
        self.announce_news(queue_key::commit(commit))
    }

    /// Others are told that this node knows what names of `repo` mean, if everybody may read it.
    pub(crate) fn announce_repo(&self, repo: &RepoId) -> Result<(), MirrorError> {
        if !self.access(repo)?.is_open() {
            return Ok(());
        }
        self.announce_news(queue_key::repo(repo))
    }

    /// Others are told of a file that is here and proven, if it is a shard and they may have it.
    pub(crate) fn announce_file(&self, digest: &FileDigest, size: u64) -> Result<(), MirrorError> {
        let Some(shard) = self.shard_for_others(digest, size)? else { return Ok(()) };
        self.store.catalogue().unschedule(&queue_key::partial(shard))?;
        self.announce_key(&queue_key::shard(shard), 0).map(drop)
    }

    /// Others are told, for a short time, of a shard of which parts are coming in, once the first of it is here: a line
    /// may be so thin that this takes a while, and what is due while there is nothing to tell leaves the queue.
    pub(crate) fn announce_as_it_comes(self: &Arc<Self>, digest: FileDigest, fetch: &FetchHandle) {
        let (inner, cancel, size, mut view) =
            (Arc::clone(self), self.cancel.clone(), fetch.size(), fetch.view());
        if size < SHARD_MIN_BYTES {
            return;
        }
        self.tasks.spawn(async move {
            let told = async {
                if view.first_bytes().await {
                    let announced = blocking(move || inner.announce_part(&digest, size)).await;
                    if let Err(error) = announced {
                        tracing::warn!(%error, "that a part of a file is here cannot be announced");
                    }
                }
            };
            cancel.run_until_cancelled(told).await.is_some()
        });
    }

    fn announce_part(&self, digest: &FileDigest, size: u64) -> Result<(), MirrorError> {
        let Some(shard) = self.shard_for_others(digest, size)? else { return Ok(()) };
        if self.store.catalogue().due_of(&queue_key::shard(shard))?.is_some() {
            return Ok(());
        }
        self.announce_key(&queue_key::partial(shard), PARTIAL_AFTER_SECS).map(drop)
    }

    /// The shard that a file is, if peers may have it and something of it is here.
    fn shard_for_others(&self, digest: &FileDigest, size: u64) -> Result<Option<Sha256>, MirrorError> {
        let FileDigest::Sha256(shard) = digest else { return Ok(None) };
        let link = if size >= SHARD_MIN_BYTES { self.store.catalogue().link(digest)? } else { None };
        let shared = link.map(|link| self.store.blobs().is_shared(&link.hash)).transpose()?;
        Ok((shared == Some(true)).then_some(*shard))
    }

    fn announce_news(&self, key: Vec<u8>) -> Result<(), MirrorError> {
        if self.announce_key(&key, 0)? {
            self.with_announcer(|announcer| announcer.hurry(key));
        }
        Ok(())
    }

    /// Puts a key into the queue; `false` if it is there already: it waits for its next turn.
    fn announce_key(&self, key: &[u8], in_secs: u64) -> Result<bool, MirrorError> {
        if !self.config.announce || self.store.catalogue().due_of(key)?.is_some() {
            return Ok(false);
        }
        self.store.catalogue().schedule(key, self.clock.now().plus(in_secs))?;
        self.with_announcer(Announcer::wake);
        Ok(true)
    }

    /// Others are no longer told of shards that are about to go; returns those that they were told of.
    pub(crate) async fn withdraw(&self, shards: Vec<Sha256>) -> Result<Vec<Sha256>, MirrorError> {
        let (mut told, mut keys) = (Vec::new(), Vec::new());
        for shard in shards {
            let partly = self.store.catalogue().unschedule(&queue_key::partial(shard))?;
            if self.store.catalogue().unschedule(&queue_key::shard(shard))? {
                told.push(shard);
                keys.push(DhtKey::Shard(shard));
            } else if partly {
                keys.push(DhtKey::Shard(shard));
            }
        }
        let Some(net) = self.net.as_ref().filter(|_| !keys.is_empty()) else { return Ok(told) };
        let _ = tokio::time::timeout(WITHDRAW_TIMEOUT, net.discovery.withdraw(&keys)).await;
        Ok(told)
    }

    /// Others are no longer told of any of these: they are not announced again, and what was announced is taken back
    /// in the background, as far as that takes no longer than [`WITHDRAW_TIMEOUT`]; the rest expires by itself. Call
    /// it inside a tokio runtime. Blocks a little.
    pub(crate) fn stop_telling(&self, keys: Vec<DhtKey>) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let mut told = Vec::new();
        for key in keys {
            let queued = match &key {
                DhtKey::Commit(commit) => vec![queue_key::commit(*commit)],
                DhtKey::Shard(shard) => vec![queue_key::shard(*shard), queue_key::partial(*shard)],
                DhtKey::Repo(repo) => vec![queue_key::repo(repo)],
            };
            let mut was = false;
            for queued in queued {
                was |= catalogue.unschedule(&queued)?;
            }
            if was {
                told.push(key);
            }
        }
        let Some(net) = self.net.as_ref().filter(|_| !told.is_empty()) else { return Ok(()) };
        let (discovery, cancel) = (Arc::clone(&net.discovery), self.cancel.clone());
        self.tasks.spawn(async move {
            let withdrawn = tokio::time::timeout(WITHDRAW_TIMEOUT, discovery.withdraw(&told));
            cancel.run_until_cancelled(withdrawn).await.is_some()
        });
        Ok(())
    }
}
