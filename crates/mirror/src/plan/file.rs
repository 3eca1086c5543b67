//! What a plan knows of one file: what is here, what nobody was asked for yet, how rare each piece is.

use std::ops::Range;
use std::time::Duration;

use hubless_types::{ByteRange, GroupSet};

use super::limits::PIECE_GROUPS;

#[derive(Debug)]
pub(super) struct File {
    pub(super) size: u64,
    /// Verified and here.
    pub(super) held: GroupSet,
    pub(super) wanted: GroupSet,
    /// Wanted, not here, and asked of nobody.
    pub(super) todo: GroupSet,
    /// Requests in flight.
    pub(super) outstanding: usize,
    pub(super) done: bool,
    /// Since when no usable holder has anything of it.
    pub(super) starving: Option<Duration>,
    pub(super) starved: bool,
    /// How many holders have something of each piece: one that has a part of it is fetching the rest.
    rarity: Vec<Count>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: u16,
    lan: u16,
}

impl File {
    pub(super) fn new(size: u64, held: GroupSet, wanted: &GroupSet) -> Self {
        let whole = GroupSet::whole(size);
        let wanted = wanted.intersection(&whole);
        let held = held.intersection(&whole);
        let todo = wanted.runs().iter().flat_map(|run| held.missing(run.clone()).runs().to_vec()).collect();
        let pieces = size.div_ceil(PIECE_GROUPS * hubless_types::GROUP_BYTES) as usize;
        Self {
            size,
            held,
            wanted,
            todo,
            outstanding: 0,
            done: false,
            starving: None,
            starved: false,
            rarity: vec![Count::default(); pieces],
        }
    }

    /// One past its last group.
    pub(super) fn groups(&self) -> u64 {
        self.size.div_ceil(hubless_types::GROUP_BYTES)
    }

    /// Length of `groups` in bytes.
    pub(super) fn bytes(&self, groups: Range<u64>) -> u64 {
        ByteRange::of_groups(groups, self.size).len()
    }

    /// Wanted bytes that are not here.
    pub(super) fn lacking(&self) -> u64 {
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
        self.missing_of_wanted().any(|run| touches(has, &run))
    }

    /// How many holders have something of the piece of `group`.
    pub(super) fn rarity(&self, group: u64) -> u16 {
        self.rarity.get((group / PIECE_GROUPS) as usize).map_or(0, |count| count.all)
    }

    /// Whether a holder on the local network has something of the piece of `group`.
    pub(super) fn on_lan(&self, group: u64) -> bool {
        self.rarity.get((group / PIECE_GROUPS) as usize).is_some_and(|count| count.lan > 0)
    }

    /// A holder that had `old` now has `new`.
    pub(super) fn recount(&mut self, old: &GroupSet, new: &GroupSet, lan: bool) {
        let (old, new) = (pieces_of(old), pieces_of(new));
        for run in new.runs() {
            let added = old.missing(run.clone());
            added.runs().iter().cloned().flatten().for_each(|piece| self.count(piece, lan, true));
        }
        for run in old.runs() {
            let removed = new.missing(run.clone());
            removed.runs().iter().cloned().flatten().for_each(|piece| self.count(piece, lan, false));
        }
    }

    fn count(&mut self, piece: u64, lan: bool, more: bool) {
        let step = |n: u16| if more { n.saturating_add(1) } else { n.saturating_sub(1) };
        if let Some(count) = self.rarity.get_mut(piece as usize) {
            count.all = step(count.all);
            if lan {
                count.lan = step(count.lan);
            }
        }
    }
}

/// The pieces of which `groups` has anything.
fn pieces_of(groups: &GroupSet) -> GroupSet {
    groups.runs().iter().map(|run| run.start / PIECE_GROUPS..run.end.div_ceil(PIECE_GROUPS)).collect()
}

/// Whether `set` has any group of `run`.
pub(super) fn touches(set: &GroupSet, run: &Range<u64>) -> bool {
    let first = set.runs().partition_point(|r| r.end <= run.start);
    set.runs().get(first).is_some_and(|r| r.start < run.end)
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
