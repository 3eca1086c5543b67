//! Who asks the origin for which part of a file that many fetch at once: each decides for itself, and all alike.
//!
//! A file is cut into parts. Of those that still lack a part, the one whose id and the part hash highest asks the origin
//! for it; the others have it from there. Who has nothing left to ask for helps whoever has much left, with parts
//! for which it is the second. Who owes parts and brings nothing is passed over.
//!
//! **Invariant:** pure; nobody is waited for longer than `patience` that never brought a part, nor longer than four times
//! that between two.
//! **Not here:** asking anybody for anything (`fill`), hearing what others do (`watch`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use hubless_store::DraftNews;
use hubless_types::{FileDigest, GROUP_BYTES, GroupSet, NodeId};
use tokio::time::Instant;

/// Groups in a MiB.
const MIB_GROUPS: u64 = 1024 * 1024 / GROUP_BYTES;
/// A file of at most so many groups, 16 MiB, is one request where nobody else is heard of.
const ONE_REQUEST_GROUPS: u64 = 16 * MIB_GROUPS;
/// Parts of a large file, if they are neither too short nor too long.
const PARTS: u64 = 256;
/// Shortest and longest part, in groups: 2 and 16 MiB. Each costs the origin a request.
const SHORTEST_PART: u64 = 2 * MIB_GROUPS;
const LONGEST_PART: u64 = 16 * MIB_GROUPS;
/// Parts from the front on among which the next one is chosen: hashing follows the front.
const WINDOW: usize = 64;
/// Parts that a mate must have before it, unasked for, to be helped: more than it may have asked for since it was last
/// heard of.
const HELP_FROM: usize = 8;
/// Parts that one mate is asked for at the same time.
const PER_MATE: usize = 2;

/// Refusals of a mate, without a part between them, after which it is given up.
const MAX_REFUSALS: u32 = 25;

/// Parts that a mate may leave off in the middle, without one that it brought between them, before it is given up. On a full line
/// some stall that would come on.
const MAX_STALLS: u32 = 3;

/// How many times as long as others a mate is waited for that has brought a part.
const PROVEN_FACTOR: u32 = 4;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// Ask the origin for these groups.
    Ask(Range<u64>),
    /// Others are at what is left, or it is asked for already.
    Wait,
    /// Nobody else is there: all of it is this node's.
    Alone,
}

/// The crowd of one file, as this node sees it.
#[derive(Debug)]
pub(super) struct View {
    me: u64,
    seed: u64,
    size: u64,
    groups: u64,
    part: u64,
    mates: BTreeMap<NodeId, Mate>,
}

/// Another node that fetches the file, or has it.
#[derive(Debug)]
struct Mate {
    key: u64,
    news: DraftNews,
    /// When it last brought something, or last owed nothing.
    since: Instant,
    /// It owes parts and brought nothing for too long.
    late: bool,
    /// It could not be had from, or must not be.
    failed: bool,
    /// Not asked before this.
    rests_until: Option<Instant>,
    /// Parts that it was asked for.
    busy: usize,
    delivered: bool,
    /// Refusals since it last brought a part.
    refusals: u32,
    /// Parts that it left off since it last brought one.
    stalls: u32,
}

impl Mate {
    /// One that brought something is not taken for a mere talker as soon.
    fn patience(&self, patience: Duration) -> Duration {
        if self.delivered { patience * PROVEN_FACTOR } else { patience }
    }
}

impl View {
    pub(super) fn new(me: NodeId, digest: &FileDigest, size: u64) -> Self {
        let groups = size.div_ceil(GROUP_BYTES);
        let part = (groups / PARTS).next_power_of_two().clamp(SHORTEST_PART, LONGEST_PART);
        let seed = match digest {
            FileDigest::Sha256(sha256) => fold(sha256.as_bytes()),
            FileDigest::Git(blob) => fold(blob.as_bytes()),
        };
        Self { me: fold(me.as_bytes()), seed, size, groups, part, mates: BTreeMap::new() }
    }

    /// A mate says what it does.
    pub(super) fn hear(&mut self, node: NodeId, news: DraftNews, now: Instant) {
        if news.size != self.size {
            return;
        }
        let mate = self.mates.entry(node).or_insert_with(|| Mate {
            key: fold(node.as_bytes()),
            news: DraftNews::default(),
            since: now,
            late: false,
            failed: false,
            rests_until: None,
            busy: 0,
            delivered: false,
            refusals: 0,
            stalls: 0,
        });
        if news.offers.len() > mate.news.offers.len() {
            (mate.since, mate.late) = (now, false);
        }
        mate.news = news;
    }

    /// A mate no longer fetches it.
    pub(super) fn lost(&mut self, node: &NodeId) {
        self.mates.remove(node);
    }

    /// Nobody else is there.
    pub(super) fn clear(&mut self) {
        self.mates.clear();
    }

    /// What to ask the origin for where others may be at the file of whom this node has not heard: of a large one the part
    /// that is the least likely to be another's. `None` for a file that is one request.
    pub(super) fn before_meeting(&self, given: &GroupSet) -> Option<Range<u64>> {
        let is_large = self.groups > ONE_REQUEST_GROUPS;
        let parts = self.missing(given).take(WINDOW).filter(|_| is_large);
        parts.max_by_key(|run| self.score(self.me, run.start / self.part))
    }

    /// Whether anybody else is.
    pub(super) fn is_alone(&self) -> bool {
        self.mates.values().all(|mate| mate.failed || mate.late)
    }

    /// Mates whom this node waits for just now.
    pub(super) fn mates(&self) -> usize {
        self.mates.values().filter(|mate| !mate.failed && !mate.late).count()
    }

    /// `node` was asked for a part.
    pub(super) fn asked(&mut self, node: &NodeId) {
        if let Some(mate) = self.mates.get_mut(node) {
            mate.busy += 1;
        }
    }

    /// `node` brought a part, or did not.
    pub(super) fn answered(&mut self, node: &NodeId, brought: Brought, now: Instant) {
        let Some(mate) = self.mates.get_mut(node) else { return };
        mate.busy = mate.busy.saturating_sub(1);
        match brought {
            Brought::All => {
                (mate.since, mate.late) = (now, false);
                (mate.delivered, mate.refusals, mate.stalls) = (true, 0, 0);
            }
            Brought::NotYet { rest } => {
                mate.rests_until = Some(now + rest);
                mate.refusals += 1;
                mate.failed |= mate.refusals > MAX_REFUSALS;
            }
            Brought::Stalled { rest } => {
                mate.rests_until = Some(now + rest);
                mate.stalls += 1;
                mate.failed |= mate.stalls > MAX_STALLS;
            }
            Brought::Failed => mate.failed = true,
        }
    }

    /// A part that a mate offers, and whom to ask for it. `given` is what is here or was asked for.
    pub(super) fn mate_turn(&self, given: &GroupSet, now: Instant) -> Option<(NodeId, Range<u64>)> {
        let free = |mate: &Mate| {
            !mate.failed && mate.busy < PER_MATE && mate.rests_until.is_none_or(|until| until <= now)
        };
        let free: Vec<_> = self.mates.iter().filter(|(_, mate)| free(mate)).collect();
        let offered = self.missing(given).filter_map(|run| {
            let holders = free.iter().filter(|(_, mate)| mate.news.offers.contains(run.clone()));
            let (node, _) = holders.min_by_key(|(node, mate)| (mate.busy, *node))?;
            Some((**node, run))
        });
        // A random one of the first: not everybody asks everybody for the same.
        offered.take(WINDOW).max_by_key(|(_, run)| self.score(self.me, run.start / self.part))
    }

    /// What to ask the origin for. `given` is what is here or was asked for.
    pub(super) fn origin_turn(&mut self, given: &GroupSet, now: Instant, patience: Duration) -> Turn {
        loop {
            if self.is_alone() {
                return Turn::Alone;
            }
            let mut plan = Plan::default();
            for run in self.missing(given) {
                self.assign(run, &mut plan);
            }
            let mut changed = false;
            for (node, mate) in &mut self.mates {
                if !plan.debtors.contains(node) {
                    mate.since = now;
                } else if now.duration_since(mate.since) > mate.patience(patience) && !mate.late {
                    (mate.late, changed) = (true, true);
                }
            }
            if !changed {
                return self.choose(plan);
            }
        }
    }

    /// Mates that were late and never brought anything.
    pub(super) fn idle_talkers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.mates.iter().filter(|(_, mate)| mate.late && !mate.delivered).map(|(node, _)| *node)
    }

    /// Decides whose `run` is.
    fn assign(&self, run: Range<u64>, plan: &mut Plan) {
        let part = run.start / self.part;
        let trusted = || self.mates.iter().filter(|(_, mate)| !mate.failed);
        // What is offered is had from there, however late its holder is with all else.
        if trusted().any(|(_, mate)| mate.news.offers.contains(run.clone())) {
            return;
        }
        let here = || trusted().filter(|(_, mate)| !mate.late);
        let awaited = here().find(|(_, mate)| mate.news.awaits.overlaps(run.clone()));
        if let Some((node, _)) = awaited {
            plan.debtors.insert(*node);
            return;
        }
        let lacks = here().filter(|(_, mate)| !mate.news.have.contains(run.clone()));
        let mut ranked: Vec<(u64, Option<NodeId>)> =
            lacks.map(|(node, mate)| (self.score(mate.key, part), Some(*node))).collect();
        let own = self.score(self.me, part);
        ranked.push((own, None));
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        match (ranked.first(), ranked.get(1)) {
            (Some((_, None)), _) => plan.mine.push((own, run)),
            (Some((score, Some(owner))), second) => {
                plan.debtors.insert(*owner);
                let second = second.is_some_and(|(_, node)| node.is_none());
                plan.theirs.entry(*owner).or_default().push((*score, second, run));
            }
            (None, _) => {}
        }
    }

    fn choose(&self, plan: Plan) -> Turn {
        // The part that is the least likely to be taken for its own by one of whom this node has not heard.
        let mine = plan.mine.into_iter().take(WINDOW).max_by_key(|(score, _)| *score);
        if let Some((_, run)) = mine {
            return Turn::Ask(run);
        }
        // The one that its owner would come to last.
        let helped = plan.theirs.into_values().filter(|parts| parts.len() >= HELP_FROM).flatten();
        let helped = helped.filter(|(_, second, _)| *second).min_by_key(|(score, ..)| *score);
        helped.map_or(Turn::Wait, |(_, _, run)| Turn::Ask(run))
    }

    /// What is missing of each part: its first run.
    fn missing(&self, given: &GroupSet) -> impl Iterator<Item = Range<u64>> + use<> {
        let (part, missing) = (self.part, given.missing(0..self.groups));
        let mut runs: Vec<Range<u64>> = Vec::new();
        for run in missing.runs() {
            let mut at = run.start;
            while at < run.end {
                let end = run.end.min((at / part + 1) * part);
                if runs.last().is_none_or(|last| last.start / part != at / part) {
                    runs.push(at..end);
                }
                at = end;
            }
        }
        runs.into_iter()
    }

    fn score(&self, key: u64, part: u64) -> u64 {
        mix(key ^ mix(self.seed.wrapping_add(part)))
    }
}

/// How a mate answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brought {
    /// With the part.
    All,
    /// That it has it not yet, or has no time now.
    NotYet {
        /// How long it is left alone.
        rest: Duration,
    },
    /// Not to its end: nothing more came for a while.
    Stalled {
        /// How long it is left alone.
        rest: Duration,
    },
    /// Not at all.
    Failed,
}

/// Whose what is.
#[derive(Default)]
struct Plan {
    mine: Vec<(u64, Range<u64>)>,
    /// Parts of others that they have not begun: the owner's score, and whether this node is the second.
    theirs: BTreeMap<NodeId, Vec<(u64, bool, Range<u64>)>>,
    /// Who owes anything.
    debtors: BTreeSet<NodeId>,
}

/// The finalizer of SplitMix64. Who chooses an id can choose to be first whatever the function is; what that gains is
/// bounded by `patience`.
const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fold(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}
