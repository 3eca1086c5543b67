//! What a plan knows of one file: what is here, what nobody was asked for yet, how rare each piece is.
//!
//! **Invariant:** a piece is in the level of its rarity as long as any of its groups is to do, and in no other.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hubless_types::{ByteRange, GROUP_BYTES, GroupSet};

use super::bits::Bits;
use super::limits::{MAX_HOLDERS, PIECE_GROUPS};
use super::words::RequestId;

/// Rarer than this is told apart; more holders than this are as good as this many.
const LEVELS: usize = MAX_HOLDERS + 2;
const _: () = assert!(LEVELS <= u128::BITS as usize, "they are counted by the bit");

#[derive(Debug)]
pub(super) struct File {
    pub(super) size: u64,
    /// Verified and here.
    pub(super) held: GroupSet,
    pub(super) wanted: GroupSet,
    /// Wanted, not here, and asked of nobody.
    todo: GroupSet,
    /// Requests in flight.
    pub(super) requests: Vec<RequestId>,
    pub(super) done: bool,
    /// Since when no usable holder has anything of it.
    pub(super) starving: Option<Duration>,
    pub(super) starved: bool,
    /// Who has something of each piece: one that has a part of it is fetching the rest.
    counts: Vec<Count>,
    /// The pieces with anything to do, by how many have them.
    levels: Vec<Bits>,
    /// All of these pieces.
    open: Bits,
    /// Which of the levels have any: one bit each.
    used: u128,
    /// The pieces that the local network has.
    lan: Bits,
}

/// The holders of one piece.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// Those that answer.
    here: u16,
    /// Those that were lost or went silent.
    away: u16,
    lan: u16,
    /// Those that gave it to others, by their own word.
    gave: u16,
}

impl Count {
    /// How many have it, as far as is known. Where a single node is known to have it and says that it gave it away,
    /// there is a second one that is not known here; unless that may be the one that went silent.
    fn rarity(self) -> usize {
        let unknown = self.here == 1 && self.away == 0 && self.gave > 0;
        (usize::from(self.here) + usize::from(unknown)).min(LEVELS - 1)
    }
}

/// In which way a holder has a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Here,
    Away,
    Lan,
    Gave,
}

impl File {
    pub(super) fn new(size: u64, held: GroupSet, wanted: &GroupSet) -> Self {
        let whole = GroupSet::whole(size);
        let wanted = wanted.intersection(&whole);
        let held = held.intersection(&whole);
        let todo: GroupSet =
            wanted.runs().iter().flat_map(|run| held.missing(run.clone()).runs().to_vec()).collect();
        let pieces = size.div_ceil(PIECE_GROUPS * GROUP_BYTES) as usize;
        Self {
            size,
            held,
            wanted,
            levels: vec![Bits::touched_by(&todo)],
            open: Bits::touched_by(&todo),
            used: u128::from(!todo.is_empty()),
            todo,
            requests: Vec::new(),
            done: false,
            starving: None,
            starved: false,
            counts: vec![Count::default(); pieces],
            lan: Bits::default(),
        }
    }

    /// One past its last group.
    pub(super) fn groups(&self) -> u64 {
        self.size.div_ceil(GROUP_BYTES)
    }

    /// What is kept of a stranger's word: nothing past the end, and no more runs than there is `room` for.
    pub(super) fn within(&self, groups: Arc<GroupSet>, room: usize) -> Arc<GroupSet> {
        let past = groups.runs().last().is_some_and(|run| run.end > self.groups());
        if !past && groups.runs().len() <= room {
            return groups;
        }
        let whole = groups.intersection(&GroupSet::whole(self.size));
        Arc::new(whole.runs().iter().take(room).cloned().collect())
    }

    /// Length of `groups` in bytes.
    pub(super) fn bytes(&self, groups: Range<u64>) -> u64 {
        ByteRange::of_groups(groups, self.size).len()
    }

    /// Wanted, not here, and asked of nobody.
    pub(super) const fn todo(&self) -> &GroupSet {
        &self.todo
    }

    pub(super) fn take_from_todo(&mut self, run: Range<u64>) {
        self.todo.remove(run.clone());
        self.place(run);
    }

    pub(super) fn put_into_todo(&mut self, groups: &GroupSet) {
        for run in groups.runs() {
            self.todo.insert(run.clone());
            self.place(run.clone());
        }
    }

    /// Brings the levels up to date after `run` came to or left what is to do.
    fn place(&mut self, run: Range<u64>) {
        if run.is_empty() {
            return;
        }
        for piece in run.start / PIECE_GROUPS..run.end.div_ceil(PIECE_GROUPS) {
            let open = self.todo.overlaps(piece * PIECE_GROUPS..(piece + 1) * PIECE_GROUPS);
            let level = self.rarity_of(piece);
            self.open.set(piece, open);
            self.set_level(level, piece, open);
        }
    }

    fn set_level(&mut self, level: usize, piece: u64, to: bool) {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Bits::default);
        }
        self.levels[level].set(piece, to);
        let used = 1 << level;
        self.used = if self.levels[level].is_empty() { self.used & !used } else { self.used | used };
    }

    /// The pieces with anything to do that are of that rarity.
    pub(super) fn level(&self, rarity: usize) -> Option<&Bits> {
        self.levels.get(rarity)
    }

    /// All pieces with anything to do.
    pub(super) const fn open(&self) -> &Bits {
        &self.open
    }

    /// The rarities of which there are any: one bit each.
    pub(super) const fn rarities(&self) -> u128 {
        self.used
    }

    /// The pieces that the local network has.
    pub(super) const fn lan(&self) -> &Bits {
        &self.lan
    }

    /// Wanted bytes that are not here.
    pub(super) fn lacking(&self) -> u64 {
        if self.done {
            return 0;
        }
        self.missing_of_wanted().map(|run| self.bytes(run)).sum()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.wanted.runs().iter().all(|run| self.held.contains(run.clone()))
    }

    fn missing_of_wanted(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.wanted.runs().iter().flat_map(|run| self.held.missing(run.clone()).runs().to_vec())
    }

    /// Whether `has` holds anything that is wanted and not here.
    pub(super) fn lacks_any_of(&self, has: &GroupSet) -> bool {
        !self.done && self.missing_of_wanted().any(|run| has.overlaps(run))
    }

    /// How many holders have something of the piece of `group`.
    pub(super) fn rarity(&self, group: u64) -> usize {
        self.rarity_of(group / PIECE_GROUPS)
    }

    fn rarity_of(&self, piece: u64) -> usize {
        self.counts.get(piece as usize).map_or(0, |count| count.rarity())
    }

    /// Whether a holder on the local network has something of the piece of `group`.
    pub(super) fn on_lan(&self, group: u64) -> bool {
        self.lan.has(group / PIECE_GROUPS)
    }

    /// A holder that had a piece in that way has it no more, or the other way round.
    pub(super) fn mark(&mut self, piece: u64, mark: Mark, more: bool) {
        let Some(count) = self.counts.get_mut(piece as usize) else { return };
        let before = count.rarity();
        let n = match mark {
            Mark::Here => &mut count.here,
            Mark::Away => &mut count.away,
            Mark::Lan => &mut count.lan,
            Mark::Gave => &mut count.gave,
        };
        *n = if more { n.saturating_add(1) } else { n.saturating_sub(1) };
        let (after, near) = (count.rarity(), count.lan > 0);
        if mark == Mark::Lan {
            self.lan.set(piece, near);
        }
        if before != after && self.open.has(piece) {
            self.set_level(before, piece, false);
            self.set_level(after, piece, true);
        }
    }
}

/// The first stretch of `run` that is in both sets, at most `most` groups long.
pub(super) fn first_in_both(a: &GroupSet, b: &GroupSet, run: Range<u64>, most: u64) -> Option<Range<u64>> {
    let mut at = run.start;
    while at < run.end {
        let start = next_in(a, at).max(next_in(b, at));
        if start >= run.end {
            return None;
        }
        let len = a.run_from(start).min(b.run_from(start)).min(run.end - start).min(most);
        if len > 0 {
            return Some(start..start + len);
        }
        at = start;
        // One of the two has a gap at `start`; the next round steps over it.
    }
    None
}

/// The first group of `set` at `from` or later; `u64::MAX` if there is none.
fn next_in(set: &GroupSet, from: u64) -> u64 {
    let i = set.runs().partition_point(|r| r.end <= from);
    set.runs().get(i).map_or(u64::MAX, |r| r.start.max(from))
}
