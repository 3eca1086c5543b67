//! Decides who is asked for what next: the fetch plan.
//!
//! A pure state machine. [`Plan::handle`] takes an [`Event`] and the time, and gives back [`Action`]s; whoever runs
//! it does the asking (the mirror's `fetch` over the network, `sim` in virtual time). All files that a node fetches are in one
//! plan, so that a holder's rate and its requests in flight are counted once.
//!
//! What is asked for, in this order:
//! 1. the window before each reader's position, in order, from whoever would be done with it first, in small
//!    segments at the position and longer ones further on;
//! 2. everything else, rarest first over all files. Among equally rare parts each holder is followed along a
//!    stretch that begins at a seeded random place: nodes that start together begin at different places, meet what
//!    others have by then (which is no longer rare), and go elsewhere;
//! 3. at the end, the second half of what another holder is slow with, or all of it where that one does not move.
//!
//! **Invariant:** a group is asked of one holder at a time, of at most two at the end or before a reader, and never
//! after it is verified. The same seed and events give the same actions.
//! **Not here:** clocks, disk, network, tasks, finding holders, and checking bytes.

mod bits;
mod choose;
mod endgame;
mod file;
mod holder;
mod limits;
mod requests;
mod rng;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hubless_types::{BlobHash, GROUP_BYTES, GroupSet};

pub use limits::{MAX_HOLDERS, MAX_OUTSTANDING, TICK};
pub use words::{Action, Dropped, Event, Failure, ReaderId, RequestId, Source};

use bits::Bits;
use file::{File, Mark};
use holder::Holder;
use limits::{
    CHECK_STARVING, LAN_ALONE, LAN_GRACE, MAX_BANNED, MAX_RUNS, PEERS_ALONE, PEERS_ALONE_METERED,
    RECLAIM_AFTER,
};
use requests::Request;
use rng::Rng;

/// How a plan behaves.
#[derive(Debug, Clone)]
pub struct PlanConfig {
    /// Where this node begins among parts that are equally rare; must differ from node to node.
    pub seed: u64,
    /// How long a file may have no usable holder before it is called starved.
    pub patience: Duration,
    /// Most requests that one origin has in flight, for all files together.
    pub origin_streams: usize,
}

/// The fetch plan of a node.
#[derive(Debug)]
pub struct Plan {
    config: PlanConfig,
    rng: Rng,
    now: Duration,
    files: BTreeMap<BlobHash, File>,
    holders: BTreeMap<Source, Holder>,
    requests: BTreeMap<RequestId, Request>,
    readers: BTreeMap<ReaderId, Reader>,
    banned: BTreeSet<Source>,
    banned_order: VecDeque<Source>,
    next_request: u64,
    /// Counts what may give a holder that had nothing to do something to do.
    changes: u64,
    /// Whether what the local network has is left to it.
    lan_alone: bool,
    /// Whether what peers have is left to them by the origins.
    peers_alone: bool,
    /// What this node's own cap lets all holders together send, in bytes a second.
    cap: Option<u64>,
    /// Whether what origins send costs something.
    metered: bool,
    /// When that cap last held bytes back.
    held_at: Option<Duration>,
    /// Whether those two are to be weighed anew.
    weigh: bool,
    /// Who is to be given something before the next answer.
    wake: Wake,
    checked_starving: Duration,
    actions: Vec<Action>,
}

/// Holders that may have room, or something new.
#[derive(Debug, Default)]
struct Wake {
    all: bool,
    some: BTreeSet<Source>,
}

#[derive(Debug, Clone)]
struct Reader {
    file: BlobHash,
    /// The group it reads next, and one past the last it will read.
    next: u64,
    end: u64,
}

impl Plan {
    /// A plan with nothing to do.
    pub fn new(config: PlanConfig) -> Self {
        let rng = Rng::new(config.seed);
        Self {
            config,
            rng,
            now: Duration::ZERO,
            files: BTreeMap::new(),
            holders: BTreeMap::new(),
            requests: BTreeMap::new(),
            readers: BTreeMap::new(),
            banned: BTreeSet::new(),
            banned_order: VecDeque::new(),
            next_request: 0,
            changes: 0,
            lan_alone: false,
            peers_alone: false,
            cap: None,
            metered: false,
            held_at: None,
            weigh: false,
            wake: Wake::default(),
            checked_starving: Duration::ZERO,
            actions: Vec::new(),
        }
    }

    /// Takes in what happened at `now` (time since the plan began; it never goes back) and says what to do.
    ///
    /// What is said about requests, files and holders that the plan does not know any more is ignored.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.handle_all(now, [event])
    }

    /// As [`Plan::handle`] for several events, of which all are taken in before anything is asked for: who has
    /// heard of a hundred files at once begins at any of them, not at the first.
    pub fn handle_all(&mut self, now: Duration, events: impl IntoIterator<Item = Event>) -> Vec<Action> {
        self.now = self.now.max(now);
        for event in events {
            self.apply(event);
        }
        if std::mem::take(&mut self.weigh) {
            self.weigh_alone();
        }
        self.fill();
        std::mem::take(&mut self.actions)
    }

    /// Measured rates of the holders, in bytes a second.
    pub fn rates(&self) -> impl Iterator<Item = (Source, Option<u64>)> + '_ {
        self.holders.iter().map(|(id, holder)| (*id, holder.rate()))
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::FileAdded { file, size, held, wanted } => self.add_file(file, size, held, &wanted),
            Event::FileRemoved { file } => self.remove_file(&file),
            Event::HolderFound { holder, lan } => self.add_holder(holder, lan),
            Event::HolderHas { holder, file, groups } => self.holder_has(holder, file, groups),
            Event::HolderGave { holder, file, groups } => {
                self.holder_gave(&holder, &file, groups);
                self.take_back_given(&holder, &file);
            }
            Event::HolderGone { holder } => self.remove_holder(&holder),
            Event::SegmentStarted { request, after } => self.started(request, after),
            Event::SegmentProgress { request, bytes } => self.progressed(request, bytes),
            Event::SegmentHeld { request } => self.held_back(request),
            Event::Capped { rate } => self.cap = rate,
            Event::Metered { origins } => (self.metered, self.weigh) = (origins, true),
            Event::SegmentDone { request } => self.finished(request),
            Event::SegmentFailed { request, kind } => self.failed(request, kind),
            Event::Verified { file, groups } => {
                groups.runs().iter().for_each(|run| self.learn(&file, run.clone()))
            }
            Event::ReaderAt { reader, file, offset, end } => self.reader_at(reader, file, offset, end),
            Event::ReaderGone { reader } => drop(self.readers.remove(&reader)),
            Event::Tick => self.tick(),
        }
    }

    fn add_file(&mut self, hash: BlobHash, size: u64, held: GroupSet, wanted: &GroupSet) {
        if self.files.contains_key(&hash) {
            return self.want_more(&hash, wanted);
        }
        self.files.insert(hash, File::new(size, held, wanted));
        self.changed();
        self.check_done(&hash);
        self.weigh = true;
    }

    fn want_more(&mut self, hash: &BlobHash, wanted: &GroupSet) {
        let Some(file) = self.files.get_mut(hash) else { return };
        let mut all = file.wanted.clone();
        all.insert_all(&wanted.intersection(&GroupSet::whole(file.size)));
        file.wanted = all.clone();
        file.done = file.is_whole();
        for run in all.runs() {
            self.give_back(hash, run.clone());
        }
    }

    fn remove_file(&mut self, hash: &BlobHash) {
        self.cancel_where(|request| request.file == *hash);
        self.files.remove(hash);
        self.readers.retain(|_, reader| reader.file != *hash);
        let idle = self.files.is_empty();
        for holder in self.holders.values_mut() {
            let had = holder.has.remove(hash);
            if let Some(had) = &had {
                holder.fetching -= usize::from(had.is_part());
                holder.runs -= had.groups.runs().len() + had.gave.runs().len();
            }
            if idle || had.is_some() && holder.has.is_empty() {
                holder.parted();
            }
        }
    }

    /// Whoever had nothing to do may have something now.
    fn changed(&mut self) {
        self.changes += 1;
        self.wake.all = true;
    }

    fn add_holder(&mut self, id: Source, lan: bool) {
        if self.banned.contains(&id) {
            return self.actions.push(Action::DropHolder { holder: id, why: Dropped::Lied });
        }
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.found(self.now);
            if lan && !std::mem::replace(&mut holder.lan, true) {
                for (hash, has) in holder.has.iter().filter(|_| !holder.away) {
                    let Some(file) = self.files.get_mut(hash) else { continue };
                    has.pieces.iter().for_each(|piece| file.mark(piece, Mark::Lan, true));
                }
                self.weigh = true;
            }
            return;
        }
        // Origins are few and chosen by the operator: they need no room.
        if !id.is_origin() && self.holders.len() >= MAX_HOLDERS && !self.make_room() {
            return self.actions.push(Action::DropHolder { holder: id, why: Dropped::NoRoom });
        }
        let holder = match id {
            Source::Peer(_) => Holder::new(self.now, lan),
            Source::Origin(_) => Holder::origin(self.now, self.config.origin_streams),
        };
        self.holders.insert(id, holder);
        self.weigh |= lan || self.has_origin();
    }

    /// Drops a holder that is of no use, if there is one.
    fn make_room(&mut self) -> bool {
        let (now, files) = (self.now, &self.files);
        let lacking = |holder: &Holder| {
            let mut all = holder.has.iter();
            all.any(|(hash, has)| files.get(hash).is_some_and(|file| file.lacks_any_of(&has.groups)))
        };
        let useful = |holder: &Holder| {
            let usable = holder.usable(now);
            holder.outstanding > 0
                || usable && holder.known_for(now) < RECLAIM_AFTER
                || (usable || holder.keeps_place()) && lacking(holder)
        };
        let mut idle = self.holders.iter().filter(|(id, holder)| !id.is_origin() && !useful(holder));
        let Some(id) = idle.next().map(|(id, _)| *id) else {
            return false;
        };
        self.remove_holder(&id);
        self.actions.push(Action::DropHolder { holder: id, why: Dropped::NoRoom });
        true
    }

    fn holder_has(&mut self, id: Source, hash: BlobHash, groups: Arc<GroupSet>) {
        let (Some(holder), Some(file)) = (self.holders.get_mut(&id), self.files.get_mut(&hash)) else {
            return;
        };
        let entry = holder.has.entry(hash).or_default();
        holder.runs -= entry.groups.runs().len();
        let groups = file.within(groups, MAX_RUNS - holder.runs);
        holder.runs += groups.runs().len();
        if !groups.is_empty() {
            holder.returned();
        }
        let marks = holder.marks();
        let entry = holder.has.entry(hash).or_default();
        let pieces = Bits::touched_by(&groups);
        let (mut news, mut less) = (false, false);
        for (more, piece) in pieces.differences(&entry.pieces) {
            news |= more;
            less |= !more;
            // An origin has everything: it makes nothing less rare.
            if !id.is_origin() {
                marks.iter().for_each(|mark| file.mark(piece, *mark, more));
            }
        }
        let was_part = entry.is_part();
        entry.whole = groups.contains(0..file.groups());
        entry.full = Bits::covered_by(&groups, file.groups());
        news = (news || groups.len() > entry.groups.len()) && pieces.meets(file.open());
        (entry.pieces, entry.groups) = (pieces, groups);
        holder.fetching = holder.fetching + usize::from(entry.is_part()) - usize::from(was_part);
        if news {
            holder.idle_at = None;
            self.wake.some.insert(id);
        }
        self.weigh |= holder.lan || self.has_origin();
        if less {
            self.left_to_others();
        }
    }

    fn holder_gave(&mut self, id: &Source, hash: &BlobHash, groups: Arc<GroupSet>) {
        let (Some(holder), Some(file)) = (self.holders.get_mut(id), self.files.get_mut(hash)) else {
            return;
        };
        let entry = holder.has.entry(*hash).or_default();
        holder.runs -= entry.gave.runs().len();
        let groups = file.within(groups, MAX_RUNS - holder.runs);
        holder.runs += groups.runs().len();
        let given = Bits::covered_by(&groups, file.groups());
        for (more, piece) in given.differences(&entry.given) {
            file.mark(piece, Mark::Gave, more);
        }
        let mine = |run: &std::ops::Range<u64>| {
            let mut rest = file.held.missing(run.clone());
            let requests = file.requests.iter().filter_map(|id| self.requests.get(id));
            requests.for_each(|request| rest.remove(request.rest()));
            rest.is_empty()
        };
        holder.gives_others |= !groups.runs().iter().all(mine);
        (entry.given, entry.gave) = (given, groups);
    }

    fn remove_holder(&mut self, id: &Source) {
        self.cancel_where(|request| request.holder == *id);
        let Some(holder) = self.holders.remove(id) else { return };
        for (hash, has) in &holder.has {
            let Some(file) = self.files.get_mut(hash).filter(|_| !id.is_origin()) else { continue };
            has.given.iter().for_each(|piece| file.mark(piece, Mark::Gave, false));
            for piece in has.pieces.iter() {
                holder.marks().iter().for_each(|mark| file.mark(piece, *mark, false));
            }
        }
        self.weigh = true;
        self.left_to_others();
    }

    /// What a holder has counts for something only while it answers.
    fn set_away(&mut self, id: &Source, away: bool) {
        let Some(holder) = self.holders.get_mut(id).filter(|holder| holder.away != away) else { return };
        let before = holder.marks();
        holder.away = away;
        for (hash, has) in holder.has.iter().filter(|_| !id.is_origin()) {
            let Some(file) = self.files.get_mut(hash) else { continue };
            for piece in has.pieces.iter() {
                before.iter().for_each(|mark| file.mark(piece, *mark, false));
                holder.marks().iter().for_each(|mark| file.mark(piece, *mark, true));
            }
        }
        if away {
            self.left_to_others();
        }
    }

    /// Somebody has something no more: whoever left it to the local network, or to the peers, may have to bring it now.
    fn left_to_others(&mut self) {
        if self.lan_alone || self.peers_alone {
            self.changed();
        }
    }

    fn ban(&mut self, id: Source) {
        self.remove_holder(&id);
        if self.banned.insert(id) {
            self.banned_order.push_back(id);
        }
        if self.banned_order.len() > MAX_BANNED
            && let Some(oldest) = self.banned_order.pop_front()
        {
            self.banned.remove(&oldest);
        }
        self.actions.push(Action::DropHolder { holder: id, why: Dropped::Lied });
    }

    fn reader_at(&mut self, reader: ReaderId, hash: BlobHash, offset: u64, end: u64) {
        let Some(file) = self.files.get(&hash) else { return };
        let (next, end) = (offset.min(file.size) / GROUP_BYTES, end.min(file.size).div_ceil(GROUP_BYTES));
        self.readers.insert(reader, Reader { file: hash, next, end });
        self.wake.all = true;
    }

    fn tick(&mut self) {
        let now = self.now;
        let silent: Vec<Source> = self
            .holders
            .iter_mut()
            .filter_map(|(id, holder)| {
                holder.measure(now);
                holder.is_silent(now).then_some(*id)
            })
            .collect();
        silent.iter().for_each(|id| self.stalled(id));
        self.weigh = true;
        self.wake.all = true;
        if self.requests.is_empty() {
            // Nothing that ends would have anybody looked at again.
            self.changed();
        }
        // What waits for this node's own cap comes no sooner from anybody else.
        if !self.is_held_back() {
            self.reclaim_slow();
            self.rescue_readers();
            self.endgame();
        }
        self.look_for_starving();
    }

    /// Decides whether the local network, or the peers, are left alone with what they have.
    fn weigh_alone(&mut self) {
        let lan = self.holders.values().any(|holder| holder.lan);
        let lan = lan && self.suffice(LAN_ALONE, |_, holder| holder.lan);
        let time = if self.metered { PEERS_ALONE_METERED } else { PEERS_ALONE };
        let peers = self.has_origin() && self.suffice(time, |id, _| !id.is_origin());
        if (lan, peers) != (self.lan_alone, self.peers_alone) {
            (self.lan_alone, self.peers_alone) = (lan, peers);
            self.changed();
        }
    }

    fn has_origin(&self) -> bool {
        self.holders.last_key_value().is_some_and(|(id, _)| id.is_origin())
    }

    /// Whether those holders alone would be done within `time`, as far as can be told.
    fn suffice(&self, time: Duration, which: impl Fn(&Source, &Holder) -> bool) -> bool {
        let now = self.now;
        // Who has nothing of what is lacking brings none of it, however fast it was.
        let helps = |holder: &Holder| {
            let lacks = |hash: &BlobHash, has: &GroupSet| {
                self.files.get(hash).is_some_and(|file| file.lacks_any_of(has))
            };
            holder.has.iter().any(|(hash, has)| lacks(hash, &has.groups))
        };
        let them = self
            .holders
            .iter()
            .filter(|(id, holder)| which(id, holder) && holder.usable(now) && helps(holder));
        let mut rate = 0_u64;
        let mut fresh = false;
        for (_, holder) in them {
            rate += holder.rate().unwrap_or(0);
            fresh |= holder.rate().is_none() && holder.known_for(now) < LAN_GRACE;
        }
        fresh
            || rate > 0 && {
                let lacking: u64 = self.files.values().map(File::lacking).sum();
                rate.saturating_mul(time.as_secs()) >= lacking
            }
    }

    fn look_for_starving(&mut self) {
        let (now, patience, holders) = (self.now, self.config.patience, &self.holders);
        if now.saturating_sub(self.checked_starving) < CHECK_STARVING {
            return;
        }
        self.checked_starving = now;
        for (hash, file) in self.files.iter_mut().filter(|(_, file)| !file.done) {
            let fed = !file.requests.is_empty()
                || holders.values().any(|holder| {
                    holder.usable(now)
                        && holder.has.get(hash).is_some_and(|has| file.lacks_any_of(&has.groups))
                });
            if fed {
                file.starving = None;
                file.starved = false;
                continue;
            }
            let since = *file.starving.get_or_insert(now);
            if !file.starved && now.saturating_sub(since) >= patience {
                file.starved = true;
                self.actions.push(Action::Starved { file: *hash });
            }
        }
    }
}
