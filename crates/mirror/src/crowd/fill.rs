//! Fills a draft from an origin, and from whoever fills one of the same file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use hubless_store::{Draft, PIECE_GROUPS};
use hubless_transfer::{PeerClient as _, Tick, TransferError};
use hubless_types::{BlobHash, GROUP_BYTES, GroupSet, Link, NodeId, Provider};
use tokio::time::Instant;

use super::Table;
use super::view::{Brought, Turn, View};
use crate::MirrorError;
use crate::mirror::Inner;
use crate::obtain::DraftGauge;
use crate::upstream::{Bearing, FillError, Patience, Remote, fill_range, next_range};
use crate::util::blocking;
use hubless_plan::Source;

/// How often a look is taken at what is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Parts that are fetched from other nodes at the same time.
const MATE_STREAMS: usize = 8;
/// How long a mate is left alone that has no time now.
const REST: Duration = Duration::from_millis(400);
/// The same of one that stalled.
const STALL_REST: Duration = Duration::from_secs(2);
/// Shortest and longest time that is allowed for a mate to bring a part that it owes.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// How many times as long as this node needed for a part of its own another may take.
const PATIENCE_FACTOR: u32 = 3;
/// How long a node that begins beside others may not have heard of all of them: what it asks the origin for by then, they ask
/// for as well.
const MEETING: Duration = Duration::from_secs(3);
/// How many times as many streams as one node has alone a whole crowd has with the origin: more only take room on its line
/// for what another has asked for by then.
const CROWD_STREAMS: usize = 2;
/// A mate that sends fewer bytes in such a time is as good as silent: 32 KiB a second.
const SLOW_WINDOW: Duration = Duration::from_secs(10);
const SLOW_BYTES: u64 = 320 * 1024;
/// Most groups that are hashed in one go to be offered: 64 MiB.
const OFFER_GROUPS: u64 = 64 * 1024 * 1024 / GROUP_BYTES;

/// Groups of a draft that another node sent.
pub(crate) type Contribution = (NodeId, Range<u64>);

/// What a draft was filled with.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    /// What came from other nodes.
    pub(crate) by_mates: Vec<Contribution>,
}

enum Done {
    Origin { groups: Range<u64>, result: Result<(), FillError>, took: Duration },
    Mate { node: NodeId, groups: Range<u64>, result: Result<(), TransferError> },
    Offered(Result<(), MirrorError>),
}

/// One draft on its way.
struct Run<'a> {
    inner: &'a Inner,
    draft: &'a Draft,
    remote: &'a Remote,
    gauge: &'a DraftGauge,
    table: Option<&'a Table>,
    view: View,
    providers: BTreeMap<NodeId, Provider>,
    patience: Arc<Mutex<Patience>>,
    /// How much was here when it was last more than before, and since when.
    grew: (u64, Instant),
    /// What is here or was asked for.
    given: GroupSet,
    /// What the origin was asked for and has not sent yet.
    awaits: GroupSet,
    /// What this fill asked the origin for: none of it was here before.
    own: GroupSet,
    /// What other nodes began to send; it is not handed on, so that everybody knows who sent what.
    others: GroupSet,
    streams: usize,
    mate_streams: usize,
    offering: bool,
    /// The longest that a part of its own took.
    slowest: Option<Duration>,
    /// Since when it waits for each part of its own, by its first group.
    began: BTreeMap<u64, Instant>,
    /// Why the origin is not asked any more.
    refused: Option<FillError>,
    filled: Filled,
}

impl Inner {
    /// Gets all of a draft here, unchecked: from `remote`, and from those at `table`.
    ///
    /// # Errors
    /// The origin's refusal, where nobody else brings the rest; of the disk.
    pub(crate) async fn fill_together(
        &self,
        draft: &Draft,
        remote: &Remote,
        bearing: Bearing,
        gauge: &DraftGauge,
        table: Option<&Table>,
    ) -> Result<Filled, FillError> {
        if let Some(table) = table {
            table.seat.fills(draft);
        }
        let run = Run {
            inner: self,
            draft,
            remote,
            gauge,
            table,
            view: View::new(self.node, &draft.digest(), draft.size()),
            providers: BTreeMap::new(),
            patience: Arc::new(Mutex::new(Patience::new(bearing))),
            grew: (0, Instant::now()),
            given: draft.have(),
            awaits: GroupSet::new(),
            own: GroupSet::new(),
            others: GroupSet::new(),
            streams: 0,
            mate_streams: 0,
            offering: false,
            slowest: None,
            began: BTreeMap::new(),
            refused: None,
            filled: Filled::default(),
        };
        run.finish().await
    }

    /// Says whether a whole draft is right, and where others sent parts of it and it is not, what each part was.
    pub(crate) async fn suspects(
        &self,
        draft: &Draft,
        filled: &Filled,
    ) -> Result<Vec<(Contribution, BlobHash)>, MirrorError> {
        if filled.by_mates.is_empty() {
            return Ok(Vec::new());
        }
        let (draft, by_mates) = (draft.clone(), filled.by_mates.clone());
        blocking(move || {
            if draft.is_right()? {
                return Ok(Vec::new());
            }
            let hashed = |part: Contribution| Ok((part.clone(), draft.piece_hash(part.1)?));
            by_mates.into_iter().map(hashed).collect()
        })
        .await
    }

    /// Those who sent parts of a draft that are not the file's, now that it is here, are not listened to again.
    pub(crate) async fn blame_mates(
        &self,
        link: &Link,
        suspects: Vec<(Contribution, BlobHash)>,
    ) -> Result<(), MirrorError> {
        let (blobs, hash) = (self.store.blobs().clone(), link.hash);
        let wrong = blocking(move || {
            let mut wrong = Vec::new();
            for ((node, groups), was) in suspects {
                if !wrong.contains(&node) && blobs.piece_hash(&hash, groups)? != was {
                    wrong.push(node);
                }
            }
            Ok(wrong)
        })
        .await?;
        for node in wrong {
            tracing::warn!(peer = %node.short(), digest = %link.digest, "a peer handed on other bytes than the origin's");
            self.crowds.doubt(node);
        }
        Ok(())
    }
}

impl<'a> Run<'a> {
    async fn finish(mut self) -> Result<Filled, FillError> {
        let mut running: FuturesUnordered<BoxFuture<'a, Done>> = FuturesUnordered::new();
        loop {
            self.look();
            self.ask_origin(&mut running);
            self.ask_mates(&mut running);
            self.offer(&mut running);
            if self.draft.is_complete() && running.is_empty() {
                return Ok(self.filled);
            }
            if running.is_empty()
                && (self.view.is_alone() || self.grew.1.elapsed() > self.mates_patience())
                && let Some(refused) = self.refused.take()
            {
                return Err(refused);
            }
            let table = self.table;
            let changed = async {
                match table {
                    Some(table) => table.changed.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(done) = running.next(), if !running.is_empty() => self.done(done)?,
                () = changed => {}
                () = tokio::time::sleep(LOOK_EVERY), if table.is_some() => {}
            }
        }
    }

    /// Hears what the others say.
    fn look(&mut self) {
        let have = self.draft.have().len();
        if have > self.grew.0 {
            self.grew = (have, Instant::now());
        }
        let Some(table) = self.table else { return };
        if self.remote.errand().is_private() {
            // An origin gave something to a token alone: that is nobody else's business.
            table.seat.retract();
            self.view.clear();
            self.table = None;
            return;
        }
        let (now, news) = (Instant::now(), table.news());
        let gone = |node: &&NodeId| !news.iter().any(|(provider, _)| provider.node == **node);
        let gone: Vec<NodeId> = self.providers.keys().filter(gone).copied().collect();
        for node in gone {
            self.providers.remove(&node);
            self.view.lost(&node);
        }
        for (provider, news) in news {
            self.view.hear(provider.node, news, now);
            self.providers.insert(provider.node, provider);
        }
        let idle: Vec<NodeId> = self.view.idle_talkers().collect();
        for node in idle {
            tracing::debug!(peer = %node.short(), "a peer said that it fetches parts, and brought none");
            self.inner.crowds.doubt(node);
            self.providers.remove(&node);
            self.view.lost(&node);
            table.forget(&node);
        }
        self.gauge.mates(self.view.mates());
    }

    /// How long a mate may owe a part.
    fn mates_patience(&self) -> Duration {
        // On a line that all share a part takes others as long as it takes this node, whose own are not here either.
        let flying = self.began.values().min().map(Instant::elapsed);
        let patience = self.slowest.max(flying).unwrap_or_default() * PATIENCE_FACTOR;
        patience.clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }

    /// Whether others may be there of whom this node has not heard.
    fn is_meeting(&self) -> bool {
        self.table.is_some_and(|table| table.since.elapsed() < MEETING)
            && self.inner.net.as_ref().is_some_and(|net| !net.discovery.peers().is_empty())
    }

    /// Most streams with the origin now.
    fn origin_streams(&self) -> usize {
        let alone = if self.remote.seeks() { self.inner.config.origin_streams.max(1) } else { 1 };
        match self.view.mates() {
            // Also where some are known: what it asked for beyond its first part would be that of others.
            _ if self.is_meeting() && self.slowest.is_none() => 1,
            mates => (alone * CROWD_STREAMS).div_ceil(mates + 1).min(alone),
        }
    }

    /// What to ask the origin for where nobody else is heard of.
    fn next_alone(&self) -> Option<Range<u64>> {
        let size = self.draft.size();
        if !self.remote.seeks() {
            return self.given.missing(0..size.div_ceil(GROUP_BYTES)).runs().first().cloned();
        }
        // A long range goes on when it comes out that another fetches it, too.
        let meeting = self.is_meeting().then(|| self.view.before_meeting(&self.given)).flatten();
        meeting.or_else(|| next_range(size, &self.given))
    }

    fn ask_origin(&mut self, running: &mut FuturesUnordered<BoxFuture<'a, Done>>) {
        while self.streams < self.origin_streams() {
            let turn = match self.table {
                // Also where the origin is not asked any more: it is here that mates are found to be late.
                Some(_) => self.view.origin_turn(&self.given, Instant::now(), self.mates_patience()),
                None => Turn::Alone,
            };
            let groups = match turn {
                Turn::Ask(groups) => Some(groups),
                Turn::Wait => None,
                Turn::Alone => self.next_alone(),
            };
            let Some(groups) = groups.filter(|_| self.refused.is_none()) else { break };
            let (mates, part) = (self.view.mates(), &groups);
            tracing::debug!(digest = %self.draft.digest(), ?part, mates, "asks an origin for a part");
            self.given.insert(groups.clone());
            self.own.insert(groups.clone());
            self.awaits.insert(groups.clone());
            self.began.insert(groups.start, Instant::now());
            self.streams += 1;
            let (draft, remote, began) = (self.draft, self.remote, Instant::now());
            let (gauge, patience) = (self.gauge, self.patience.clone());
            running.push(
                async move {
                    let result = fill_range(draft, remote, groups.clone(), gauge, &patience).await;
                    Done::Origin { groups, result, took: began.elapsed() }
                }
                .boxed(),
            );
        }
        if let Some(table) = self.table {
            // What has come and is not offered yet is still to come for others: nobody else is to ask for it.
            let mut awaits = self.awaits.clone();
            self.unoffered(table).into_iter().for_each(|run| awaits.insert(run));
            table.seat.awaits(awaits);
        }
    }

    fn ask_mates(&mut self, running: &mut FuturesUnordered<BoxFuture<'a, Done>>) {
        while self.mate_streams < MATE_STREAMS
            && let Some((node, groups)) = self.view.mate_turn(&self.given, Instant::now())
            && let Some(provider) = self.providers.get(&node).cloned()
            && let Some(net) = &self.inner.net
        {
            self.given.insert(groups.clone());
            self.view.asked(&node);
            self.mate_streams += 1;
            let (draft, tick) = (self.draft, self.gauge.tick(Source::from(node)));
            running.push(
                async move {
                    let came = Arc::new(AtomicU64::new(0));
                    let count = came.clone();
                    let both: Tick = Arc::new(move |bytes| {
                        count.fetch_add(bytes, Ordering::Relaxed);
                        tick(bytes);
                    });
                    let part = net.peers.part(&provider, draft.digest(), groups.clone(), draft, both);
                    let result = tokio::select! {
                        result = part => result,
                        () = slow(&came) => Err(TransferError::Stalled { node, after: SLOW_WINDOW }),
                    };
                    Done::Mate { node, groups, result }
                }
                .boxed(),
            );
        }
    }

    /// What came from the origin and is not offered yet: whole pieces, and the end of the file.
    fn unoffered(&self, table: &Table) -> Vec<Range<u64>> {
        let groups = self.draft.size().div_ceil(GROUP_BYTES);
        let mut mine = self.own.intersection(&self.draft.have());
        self.others.runs().iter().for_each(|run| mine.remove(run.clone()));
        let offered = table.seat.offers();
        let fresh = mine.runs().iter().flat_map(|run| offered.missing(run.clone()).runs().to_vec());
        let whole = fresh.filter_map(|run| {
            let start = run.start.next_multiple_of(PIECE_GROUPS);
            let end = if run.end == groups { groups } else { run.end / PIECE_GROUPS * PIECE_GROUPS };
            (start < end).then_some(start..end)
        });
        whole.collect()
    }

    /// Offers what came from the origin, once anybody asked.
    fn offer(&mut self, running: &mut FuturesUnordered<BoxFuture<'a, Done>>) {
        let Some(table) = self.table.filter(|table| !self.offering && table.seat.was_asked()) else { return };
        if self.remote.errand().is_private() {
            return;
        }
        let mut left = OFFER_GROUPS;
        let mut fresh = Vec::new();
        for run in self.unoffered(table) {
            let end = run.end.min(run.start + left);
            if run.start < end {
                left -= end - run.start;
                fresh.push(run.start..end);
            }
        }
        if fresh.is_empty() {
            return;
        }
        self.offering = true;
        let draft = self.draft.clone();
        let seat = table.seat.clone();
        running.push(
            async move {
                let offered =
                    blocking(move || Ok(fresh.into_iter().try_for_each(|run| seat.offer(&draft, run))?));
                Done::Offered(offered.await)
            }
            .boxed(),
        );
    }

    fn done(&mut self, done: Done) -> Result<(), FillError> {
        match done {
            Done::Origin { groups, result, took } => {
                self.streams -= 1;
                self.awaits.remove(groups.clone());
                self.began.remove(&groups.start);
                match result {
                    Ok(()) => self.slowest = self.slowest.max(Some(took)),
                    Err(FillError::Origin(error)) => {
                        self.refused = Some(FillError::Origin(error));
                        self.back(groups);
                    }
                    Err(own) => return Err(own),
                }
            }
            Done::Mate { node, groups, result } => {
                self.mate_streams -= 1;
                self.filled.by_mates.push((node, groups.clone()));
                let brought = match result {
                    Ok(()) => Brought::All,
                    Err(TransferError::Disk(error)) => return Err(FillError::Disk(error)),
                    Err(TransferError::Busy { .. } | TransferError::NotHeld { .. }) => {
                        Brought::NotYet { rest: REST }
                    }
                    Err(TransferError::Stalled { .. }) => Brought::Stalled { rest: STALL_REST },
                    Err(error) => {
                        tracing::debug!(peer = %node.short(), ?groups, %error, "a peer did not bring a part");
                        if error.blames_peer() {
                            self.inner.crowds.doubt(node);
                        }
                        Brought::Failed
                    }
                };
                self.view.answered(&node, brought, Instant::now());
                // A piece of it may still be on its way to the disk.
                let came = self.draft.have().intersection(&groups.clone().into());
                let end = came.runs().last().map_or(groups.start, |run| run.end) + PIECE_GROUPS;
                self.others.insert(groups.start..end.min(groups.end));
                if brought != Brought::All {
                    self.back(groups);
                }
            }
            Done::Offered(done) => {
                self.offering = false;
                if let Err(MirrorError::Store(error)) = done {
                    return Err(FillError::Disk(error));
                }
            }
        }
        Ok(())
    }

    /// What did not come of `groups` is to be had otherwise.
    fn back(&mut self, groups: Range<u64>) {
        for run in self.draft.have().missing(groups).runs() {
            self.given.remove(run.clone());
            self.own.remove(run.clone());
        }
    }
}

/// Returns once hardly anything came for a while.
async fn slow(came: &AtomicU64) {
    let mut had = 0;
    loop {
        tokio::time::sleep(SLOW_WINDOW).await;
        let now = came.load(Ordering::Relaxed);
        if now < had + SLOW_BYTES {
            return;
        }
        had = now;
    }
}
