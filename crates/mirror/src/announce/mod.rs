//! Keeps others told of what this node holds.
//!
//! The queue is the catalogue's, ordered by when a key is due, so that it survives a restart. What is due is told in a
//! sweep: the key that is longest due, then all others of its part of the key space, which need no walk of their own.
//! New commits and names do not wait for the sweep. While nobody is reached nothing is tried, and the first peer that
//! appears wakes the worker. What nobody took is tried again; while nobody is there to take anything, all stays due.
//!
//! **Invariant:** a commit is announced once its manifest is proven, a shard for long once all of it is proven, and for
//! a short time while only a part of it is here.
//! **Not here:** finding providers (`sources`), walks and batches (`discovery`).

mod queue_key;
mod schedule;
mod tally;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
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
use tally::Tally;

/// Most keys that are announced in one go.
const PAGE: usize = 4_096;
/// New commits and names that wait to be announced at once; more wait for the sweep.
const NEWS_QUEUE: usize = 256;
/// How often the queue is looked at when nothing wakes the worker.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often a node that reaches nobody looks whether that changed.
const ALONE_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a key is tried while peers are there and none of them takes records, or discovery itself fails: that is no
/// fault of the key, and would be the same with the next.
const UNHEARD_EVERY: Duration = Duration::from_secs(2);
/// Shortest pause between two looks, where nothing is due.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// When a key is tried again that did not reach those who should keep it, in seconds.
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

/// How a look at the queue ended.
enum Round {
    /// More may be due.
    More,
    /// Nothing is due.
    Done,
    /// Nobody is connected.
    Alone,
    /// Peers are, but nothing can be told to anybody.
    Unheard,
}

impl Shared {
    async fn run(&self) {
        loop {
            let pause = match self.round().await {
                Ok(Round::More) => continue,
                Ok(Round::Done) => LOOK_EVERY,
                Ok(Round::Alone) => ALONE_LOOK_EVERY,
                Ok(Round::Unheard) => {
                    // Not for what is new: it would be told to nobody either.
                    tokio::time::sleep(UNHEARD_EVERY).await;
                    continue;
                }
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
        let next = self.store.catalogue().due(now, 1)?.pop();
        self.alarm(next.as_ref().map(|(due, _)| *due), now)?;
        let Some((due, first)) = next else {
            locked(&self.tally).all_is_right();
            return Ok(Round::Done);
        };
        if queue_key::is_old(&first) {
            self.renew(&first, due)?;
            return Ok(Round::More);
        }
        if self.is_alone() {
            self.trouble("no other node is reached");
            return Ok(Round::Alone);
        }
        let told = match self.announce(vec![first]).await? {
            ControlFlow::Continue(told) => told,
            ControlFlow::Break(round) => return Ok(round),
        };
        let (from, to) = told.region.leads();
        let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
        let mut after = None;
        loop {
            let until = self.schedule.along(now);
            let page = self.store.catalogue().scheduled_between(&from, &to, after.as_deref(), until, PAGE)?;
            let Some(last) = page.last().cloned() else { return Ok(Round::More) };
            if let ControlFlow::Break(round) = self.announce(page).await? {
                return Ok(round);
            }
            after = Some(last);
        }
    }

    /// Announces keys of the queue and says when they are due again. If there was nobody to be told, they stay due, and
    /// the round is over.
    async fn announce(&self, queued: Vec<Vec<u8>>) -> Result<ControlFlow<Round, Told>, MirrorError> {
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
        gone.iter().for_each(|key| locked(&self.tally).late.done(key));
        let mut last = None;
        for (lifetime, keys) in by_lifetime {
            let dht: Vec<DhtKey> = keys.iter().map(|(_, key)| key.clone()).collect();
            match self.discovery.announce(&dht, lifetime).await {
                Ok(told) if told.kept + told.refused == 0 && self.is_alone() => {
                    return Ok(ControlFlow::Break(Round::Alone));
                }
                Ok(told) => {
                    self.postpone(keys, lifetime, &told).await?;
                    last = Some(told);
                }
                Err(error) => {
                    tracing::debug!(%error, keys = keys.len(), "nothing can be announced; it is tried again");
                    let alone = self.is_alone();
                    match error {
                        DiscoveryError::NoPeers if !alone => {
                            self.trouble("no node that is reached keeps records")
                        }
                        error => self.trouble(&error.to_string()),
                    }
                    return Ok(ControlFlow::Break(if alone { Round::Alone } else { Round::Unheard }));
                }
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
            unwanted: Vec::new(),
        };
        Ok(ControlFlow::Continue(last.unwrap_or(nothing)))
    }

    fn is_alone(&self) -> bool {
        self.discovery.peers().is_empty()
    }

    /// Says when announced keys are due again. Keys that left the queue meanwhile are taken back: what they name is
    /// going.
    async fn postpone(
        &self,
        keys: Vec<(Vec<u8>, DhtKey)>,
        lifetime: Lifetime,
        told: &Told,
    ) -> Result<(), MirrorError> {
        let (now, catalogue) = (self.clock.now(), self.store.catalogue());
        let missed: HashSet<&Vec<u8>> = told.missed.iter().collect();
        let unwanted: HashSet<&Vec<u8>> = told.unwanted.iter().collect();
        let (mut batch, mut gone, mut late, mut done) =
            (catalogue.batch(), Vec::new(), Vec::new(), Vec::new());
        for (queued, key) in keys {
            let Some(was_due) = catalogue.due_of(&queued)? else {
                gone.push(key);
                done.push(queued);
                continue;
            };
            let renewal = match lifetime {
                Lifetime::Whole => self.schedule.next(queue_key::lead(&queued), now),
                Lifetime::Partial => now.plus(PARTIAL_TTL_SECS / 2),
            };
            let bytes = key.to_bytes();
            let again = if missed.contains(&bytes) {
                Some(now.plus(RETRY_SECS))
            } else {
                unwanted.contains(&bytes).then(|| self.schedule.when_there_may_be_room(now))
            };
            batch.schedule(&queued, again.map_or(renewal, |again| again.min(renewal)));
            match again {
                Some(_) => late.push((queued, was_due)),
                None => done.push(queued),
            }
        }
        batch.commit()?;
        locked(&self.tally).note(told, late, &done);
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

    /// Since when the key that waits longest has been due, where the first of the queue is due at `next`: those that
    /// nobody took wait as well, though they are tried again later.
    fn oldest(&self, next: Option<Timestamp>) -> Result<Option<Timestamp>, MirrorError> {
        loop {
            let late = locked(&self.tally).late.oldest().map(|(queued, due)| (queued.to_vec(), due));
            let Some((queued, due)) = late else { return Ok(next) };
            // It may have left the queue since.
            if self.store.catalogue().due_of(&queued)?.is_some() {
                return Ok(Some(next.map_or(due, |next| next.min(due))));
            }
            locked(&self.tally).late.done(&queued);
        }
    }

    fn alarm(&self, next: Option<Timestamp>, now: Timestamp) -> Result<(), MirrorError> {
        let late = self.oldest(next)?.and_then(|oldest| self.schedule.behind(oldest, now));
        let Some(late) = late else { return Ok(()) };
        let mut tally = locked(&self.tally);
        if tally.alarmed.is_none_or(|at| now.0.saturating_sub(at.0) >= ALARM_EVERY_SECS) {
            tally.alarmed = Some(now);
            let why = tally.trouble.as_deref().unwrap_or(SLOW);
            tracing::warn!(
                late_secs = late,
                why,
                "announcing falls behind: others forget what this node holds"
            );
        }
        Ok(())
    }

    fn status(&self) -> Result<AnnounceStatus, MirrorError> {
        let (now, catalogue) = (self.clock.now(), self.store.catalogue());
        let due = catalogue.due(now, COUNTED)?;
        let oldest = self.oldest(due.first().map(|(oldest, _)| *oldest))?;
        let late = oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0));
        let behind = oldest.and_then(|oldest| self.schedule.behind(oldest, now));
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
