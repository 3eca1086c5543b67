//! The driver: owns the plan, tells it what happens, and does what it says.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream, SelectAll};
use hubless_limits::{Direction, Spent, Use};
use hubless_store::StoreError;
use hubless_transfer::{Gathering, Holding, PeerClient};
use hubless_types::{BlobHash, GroupSet, NodeId, Provider, ProviderSource};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handle::{Job, State};
use super::run::Run;
use super::segments::{Ended, From, Segments, Step};
use super::sources::{News, Sources};
use super::trees::{GotTree, Trees};
use super::{FetchConfig, FetchError, Jobs};
use crate::sources::MAX_SOURCES;
use crate::upstream::Remote;
use hubless_plan::{Action, Dropped, Event, Failure, Plan, PlanConfig, ReaderId, Source, TICK};

/// Feeds that one fetch listens to; those of further callers are let go.
const MAX_FEEDS: usize = 64;

/// Nodes whose bytes one fetch counts apart.
const MAX_COUNTED: usize = 256;

/// A fetch whose feeds all ended without naming anybody fails after this; a further caller may still join it.
const HOPELESS_AFTER: Duration = Duration::from_millis(500);

/// Joins a fetch, or begins it.
pub(super) struct Command {
    pub(super) job: Arc<Job>,
    pub(super) feed: BoxStream<'static, Provider>,
    /// Where the file is upstream.
    pub(super) remotes: Vec<Arc<Remote>>,
}

/// What a feed says: a provider, or that it ended.
type Fed = (BlobHash, Option<Provider>);

/// The one task that fetches.
pub(super) struct Driver {
    peers: Arc<dyn PeerClient>,
    config: FetchConfig,
    jobs: Jobs,
    inbox: mpsc::Receiver<Command>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    plan: Plan,
    start: Instant,
    running: HashMap<BlobHash, Run>,
    feeds: SelectAll<BoxStream<'static, Fed>>,
    sources: Sources,
    segments: Segments,
    trees: Trees,
    /// The cap that the plan was told of last, in bytes a second.
    cap: Option<u64>,
    /// Whether it was told that origins' bytes cost something.
    metered: bool,
}

impl Driver {
    pub(super) fn new(
        peers: Arc<dyn PeerClient>,
        config: FetchConfig,
        jobs: Jobs,
        inbox: mpsc::Receiver<Command>,
        wake: Arc<Notify>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let plan = Plan::new(PlanConfig {
            seed: config.seed,
            patience: config.patience,
            origin_streams: config.origin_streams,
        });
        Self {
            sources: Sources::new(peers.clone(), tasks),
            peers,
            config,
            jobs,
            inbox,
            wake,
            stop,
            plan,
            start: Instant::now(),
            running: HashMap::new(),
            feeds: SelectAll::new(),
            segments: Segments::default(),
            trees: Trees::default(),
            cap: None,
            metered: false,
        }
    }

    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wake = self.wake.clone();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(command) = self.inbox.recv() => self.join(command),
                () = wake.notified() => {
                    self.move_readers();
                    self.take_poured();
                    self.sweep();
                }
                Some(ended) = self.segments.ended() => self.segment_ended(ended),
                Some(got) = self.trees.got() => self.got_tree(got),
                Some(news) = self.sources.news() => self.hear(news),
                Some(fed) = self.feeds.next(), if !self.feeds.is_empty() => self.fed(fed),
                _ = ticks.tick(), if !self.running.is_empty() => self.tick(),
            }
        }
        self.segments.shutdown().await;
        self.trees.shutdown().await;
    }

    fn join(&mut self, command: Command) {
        let Command { job, feed, remotes } = command;
        let hash = job.want.hash;
        {
            let mut jobs = lock(&self.jobs);
            // Handles are made of what is in the table alone: nobody waits for a job that is not there.
            if !jobs.get(&hash).is_some_and(|known| Arc::ptr_eq(known, &job)) {
                return;
            }
            if !job.is_running() {
                jobs.remove(&hash);
                return;
            }
        }
        if let Some(spent) = self.config.limits.down().spent(Use::Content) {
            self.running.entry(hash).or_insert_with(|| Run::new(job));
            return self.finish(&hash, State::Failed(FetchError::Spent { hash, spent }));
        }
        self.tell_limits();
        let begins = !self.running.contains_key(&hash);
        let run = self.running.entry(hash).or_insert_with(|| Run::new(job.clone()));
        if run.feeds < MAX_FEEDS {
            run.feeds += 1;
            let said = feed
                .map(move |provider| (hash, Some(provider)))
                .chain(stream::once(async move { (hash, None) }));
            self.feeds.push(said.take_until(run.end.clone().cancelled_owned()).boxed());
        }
        if begins {
            let (size, held) = (job.want.size, job.partial.have());
            self.tell(Event::FileAdded { file: hash, size, held, wanted: GroupSet::whole(size) });
        }
        if let Some(run) = self.running.get_mut(&hash) {
            for remote in remotes {
                run.remotes.entry(remote.source()).or_insert(remote);
            }
        }
        self.tell_remotes(&hash);
        self.move_readers();
    }

    fn fed(&mut self, (hash, provider): Fed) {
        let Some(provider) = provider else {
            let Some(run) = self.running.get_mut(&hash) else { return };
            run.feeds = run.feeds.saturating_sub(1);
            return;
        };
        self.hears_of(hash, provider);
    }

    /// Asks a node what it has of a file.
    fn hears_of(&mut self, hash: BlobHash, provider: Provider) {
        let Some(run) = self.running.get_mut(&hash) else { return };
        let (node, lan) = (provider.node, provider.source == ProviderSource::Lan);
        run.providers.insert(node);
        self.sources.add(provider, hash);
        self.tell(Event::HolderFound { holder: node.into(), lan });
    }

    fn hear(&mut self, news: Vec<News>) {
        let mut events = Vec::new();
        for news in news {
            match news {
                News::Listens(_) => {}
                News::Has(node, holding) => events.extend(self.holds(node, holding)),
                News::Crowd(node, gathering) => events.extend(self.gathers(node, gathering)),
                News::Over(node, watch) => drop(self.sources.ended(&node, watch, false)),
                News::Broke(node, watch, error) => {
                    tracing::debug!(node = %node.short(), %error, "a peer stopped telling what it has");
                    let files = self.sources.ended(&node, watch, true).into_iter();
                    events.extend(files.map(|file| Event::HolderHas {
                        holder: node.into(),
                        file,
                        groups: Arc::default(),
                    }));
                }
            }
        }
        self.tell_all(events);
    }

    /// Takes in who else fetches a file, and what they were given of it.
    fn gathers(&mut self, teller: NodeId, gathering: Gathering) -> Option<Event> {
        let Gathering { hash: file, gave, peers } = gathering;
        for (node, addr) in peers {
            let known = self.running.get(&file)?.providers.iter();
            let known = known.filter(|node| !self.sources.is_dead(node)).count();
            if known >= MAX_SOURCES || !self.sources.believes(&teller, &node) {
                continue;
            }
            // One who is known is as near as it was: it may be reached elsewhere than this stranger says. For a new one
            // there is no other way than this address, so that a lie about it wins no more than a dial that fails.
            let near = self.sources.provider(&node).is_none() && self.config.on_link.is(&addr);
            let source = if near { ProviderSource::Lan } else { ProviderSource::Dht };
            self.hears_of(file, Provider { node, addrs: vec![addr], source });
        }
        Some(Event::HolderGave { holder: teller.into(), file, groups: Arc::new(gave) })
    }

    fn holds(&mut self, node: NodeId, holding: Holding) -> Option<Event> {
        let Holding { hash: file, size, have: groups } = holding;
        let run = self.running.get_mut(&file)?;
        if size != run.job.want.size {
            tracing::debug!(node = %node.short(), %file, size, "a peer says another size than the link; not asked");
            return None;
        }
        if !groups.is_empty() {
            run.starved = false;
        }
        // An origin sends no tree: whoever has the whole file has one, by which the origin's bytes are checked.
        if !run.remotes.is_empty() && groups.contains(0..GroupSet::whole(size).len()) {
            self.want_tree(&file, node);
        }
        Some(Event::HolderHas { holder: node.into(), file, groups: Arc::new(groups) })
    }

    fn want_tree(&mut self, hash: &BlobHash, node: NodeId) {
        let (Some(run), Some(provider)) = (self.running.get(hash), self.sources.provider(&node)) else {
            return;
        };
        if !run.job.partial.has_tree() {
            self.trees.ask(&self.peers, provider.clone(), &run.job.partial);
        }
    }

    fn got_tree(&mut self, got: GotTree) {
        let GotTree { hash, node, result } = got;
        match result {
            Ok(()) => self.tell_remotes(&hash),
            Err(error) => {
                tracing::debug!(node = %node.short(), %hash, %error, "a peer did not send a tree");
            }
        }
    }

    /// Has the plan ask the origins of a file, once what they send can be checked.
    fn tell_remotes(&mut self, hash: &BlobHash) {
        let Some(run) = self.running.get_mut(hash) else { return };
        if run.remotes.is_empty() || !run.job.partial.has_tree() {
            return;
        }
        run.starved = false;
        run.job.treed.send_replace(true);
        let (size, file) = (run.job.want.size, *hash);
        let origins: Vec<Source> = run.remotes.keys().copied().collect();
        let found = origins.iter().map(|holder| Event::HolderFound { holder: *holder, lan: false });
        let has = origins.iter().map(|holder| {
            let groups = Arc::new(GroupSet::whole(size));
            Event::HolderHas { holder: *holder, file, groups }
        });
        let events = found.chain(has).collect();
        self.tell_all(events);
    }

    fn segment_ended(&mut self, ended: Ended) {
        let Ended { request, holder, file, groups, result, last } = ended;
        self.step(&last);
        let error = match result {
            Ok(()) => return self.tell(Event::SegmentDone { request }),
            Err(error) => error,
        };
        tracing::debug!(from = %holder, %file, ?groups, %error, "a segment failed");
        if let Some(run) = self.running.get(&file) {
            // What was written last may not have been counted.
            let here = run.job.partial.have().intersection(&groups.into());
            self.tell(Event::Verified { file, groups: here });
        }
        let kind = error.failure();
        if let Some(source) = error.into_disk() {
            return self.disk_failed(&file, source);
        }
        if let (Failure::NotHeld, Some(node)) = (kind, holder.node()) {
            self.sources.doubt(&node, &file);
        }
        self.tell(Event::SegmentFailed { request, kind });
    }

    fn disk_failed(&mut self, hash: &BlobHash, source: StoreError) {
        let source = Arc::new(source);
        self.finish(hash, State::Failed(FetchError::Disk { hash: *hash, source }));
    }

    /// Tells the plan of bytes that came.
    fn step(&mut self, step: &Step) {
        let Step { request, holder, file, first, held, more, bytes } = *step;
        if let Some(run) = self.running.get_mut(&file)
            && (run.from.len() < MAX_COUNTED || run.from.contains_key(&holder))
        {
            *run.from.entry(holder).or_default() += more;
        }
        if let Some(after) = first {
            self.tell(Event::SegmentStarted { request, after });
        }
        if held {
            self.tell(Event::SegmentHeld { request });
        }
        self.tell(Event::SegmentProgress { request, bytes });
    }

    fn tick(&mut self) {
        let limits = &self.config.limits;
        if let Some(spent) = limits.down().spent(Use::Content) {
            return self.stop_all(spent);
        }
        self.tell_limits();
        for step in self.segments.steps() {
            self.step(&step);
        }
        self.tell(Event::Tick);
        self.move_readers();
        self.sources.tick();
        self.running.values_mut().for_each(Run::show);
        self.end_unused();
        self.end_starved();
    }

    /// Tells the plan of the cap on what comes in, and of what is paid for, if that is another.
    fn tell_limits(&mut self) {
        let rate = self.config.limits.down().rate().bytes();
        if rate != self.cap {
            self.cap = rate;
            self.tell(Event::Capped { rate });
        }
        let origins = self.config.limits.valve(Direction::Origin).is_metered();
        if origins != self.metered {
            self.metered = origins;
            self.tell(Event::Metered { origins });
        }
    }

    /// Ends every fetch: what is verified stays, and whoever asks again is told why nothing more comes.
    fn stop_all(&mut self, spent: Spent) {
        let running: Vec<BlobHash> = self.running.keys().copied().collect();
        for hash in running {
            self.finish(&hash, State::Failed(FetchError::Spent { hash, spent }));
        }
    }

    /// Tells the plan where the readers are.
    fn move_readers(&mut self) {
        let mut events = Vec::new();
        for (hash, run) in &mut self.running {
            let Some(places) = run.job.moved_readers() else { continue };
            let gone = run.readers.iter().filter(|id| !places.contains_key(id));
            events.extend(gone.map(|id| Event::ReaderGone { reader: ReaderId(*id) }));
            events.extend(places.iter().map(|(id, range)| Event::ReaderAt {
                reader: ReaderId(*id),
                file: *hash,
                offset: range.start,
                end: range.end,
            }));
            run.readers = places.into_keys().collect();
        }
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// Tells the plan of bytes that it did not ask for.
    fn take_poured(&mut self) {
        let poured = self.running.iter().filter(|(_, run)| run.job.was_poured());
        let events: Vec<Event> = poured
            .map(|(file, run)| Event::Verified { file: *file, groups: run.job.partial.have() })
            .collect();
        self.tell_all(events);
    }

    /// Forgets fetches that were given up before they began: the caller was dropped while it waited for room in
    /// the inbox.
    fn sweep(&self) {
        let mut jobs = lock(&self.jobs);
        if jobs.len() > self.running.len() {
            jobs.retain(|hash, job| {
                self.running.contains_key(hash) || job.handles.load(Ordering::Acquire) > 0
            });
        }
    }

    /// Ends fetches that nobody has had a handle to for a while.
    fn end_unused(&mut self) {
        let linger = self.config.linger;
        let unused: Vec<BlobHash> = self
            .running
            .iter_mut()
            .filter_map(|(hash, run)| {
                if run.job.handles.load(Ordering::Acquire) > 0 {
                    run.unused_since = None;
                    return None;
                }
                let since = *run.unused_since.get_or_insert_with(Instant::now);
                (since.elapsed() >= linger).then_some(*hash)
            })
            .collect();
        for hash in unused {
            let mut jobs = lock(&self.jobs);
            // Handles are made under this lock: none can appear now.
            let unused = jobs.get(&hash).is_some_and(|job| job.handles.load(Ordering::Acquire) == 0);
            if unused {
                jobs.remove(&hash);
            }
            drop(jobs);
            if unused {
                self.finish(&hash, State::Failed(FetchError::Stopped { hash }));
            }
        }
    }

    /// Fails fetches whose rest nobody has.
    fn end_starved(&mut self) {
        let starved: Vec<(BlobHash, Duration)> = self
            .running
            .iter()
            .filter(|(_, run)| {
                let nobody = run.feeds == 0 && run.providers.is_empty();
                let nobody = nobody && (run.remotes.is_empty() || !run.job.partial.has_tree());
                let hopeless = nobody && run.began.elapsed() >= HOPELESS_AFTER;
                let waits = run.providers.iter().any(|node| self.sources.is_pending(node));
                hopeless || run.starved && !waits
            })
            .map(|(hash, run)| (*hash, run.began.elapsed()))
            .collect();
        for (hash, looked) in starved {
            let patience = looked.min(self.config.patience);
            let spent = self.config.limits.origin_spent(Use::Content);
            let upstream = self.running.get(&hash).is_some_and(|run| !run.remotes.is_empty());
            let why = match spent.filter(|_| upstream) {
                Some(spent) => FetchError::Spent { hash, spent },
                None => FetchError::NoSource { hash, patience },
            };
            self.finish(&hash, State::Failed(why));
        }
    }

    fn tell(&mut self, event: Event) {
        self.tell_all(vec![event]);
    }

    /// Tells the plan, and does what it says.
    fn tell_all(&mut self, mut events: Vec<Event>) {
        while !events.is_empty() {
            let now = self.start.elapsed();
            let actions = self.plan.handle_all(now, std::mem::take(&mut events));
            events.extend(actions.into_iter().filter_map(|action| self.obey(action)));
        }
    }

    /// Does what the plan says; what comes of it at once is told next.
    fn obey(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Request { request, holder, file, groups, urgent } => {
                let Some((run, from)) = self.sender(&file, holder) else {
                    return Some(Event::SegmentFailed { request, kind: Failure::NotHeld });
                };
                if run.job.partial.has(groups.clone()) {
                    return Some(Event::SegmentDone { request });
                }
                let into = run.job.partial.clone();
                self.segments.start(request, from, groups, into, urgent);
            }
            Action::Cancel { request } => self.segments.cancel(request),
            Action::DropHolder { holder, why } => {
                let node = holder.node()?;
                if why == Dropped::Lied {
                    tracing::warn!(node = %node.short(), "a peer sent wrong bytes and is not asked again");
                }
                self.sources.remove(&node);
                for run in self.running.values_mut() {
                    run.providers.remove(&node);
                }
            }
            Action::FileDone { file } => {
                self.settle(&file, State::Done);
                return Some(Event::FileRemoved { file });
            }
            Action::Starved { file } => {
                if let Some(run) = self.running.get_mut(&file) {
                    run.starved = true;
                }
            }
        }
        None
    }

    /// Whoever a segment of `file` is asked of, as far as it is still known.
    fn sender(&self, file: &BlobHash, holder: Source) -> Option<(&Run, From)> {
        let run = self.running.get(file)?;
        let from = match holder {
            Source::Peer(node) => From::Peer(self.peers.clone(), self.sources.provider(&node)?.clone()),
            Source::Origin(_) => From::Origin(run.remotes.get(&holder)?.clone()),
        };
        Some((run, from))
    }

    /// Ends a fetch from outside the plan.
    fn finish(&mut self, hash: &BlobHash, end: State) {
        self.settle(hash, end);
        self.tell(Event::FileRemoved { file: *hash });
    }

    /// Tells everybody who waits how a fetch ended, and lets go of it.
    fn settle(&mut self, hash: &BlobHash, end: State) {
        let Some(mut run) = self.running.remove(hash) else { return };
        run.end.cancel();
        run.show();
        self.sources.forget(hash);
        let mut jobs = lock(&self.jobs);
        if jobs.get(hash).is_some_and(|job| Arc::ptr_eq(job, &run.job)) {
            jobs.remove(hash);
        }
        drop(jobs);
        run.job.state.send_replace(end);
    }
}

/// Whatever ends the driver, nobody waits for it for ever.
impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.cancel();
        self.inbox.close();
        let jobs: Vec<Arc<Job>> = lock(&self.jobs).drain().map(|(_, job)| job).collect();
        for job in jobs.into_iter().filter(|job| job.is_running()) {
            let hash = job.want.hash;
            job.state.send_replace(State::Failed(FetchError::Stopped { hash }));
        }
    }
}

fn lock(jobs: &Jobs) -> MutexGuard<'_, HashMap<BlobHash, Arc<Job>>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}
