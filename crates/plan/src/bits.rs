//! Which pieces of a file: one bit each, so that a choice among thousands is a few dozen word operations.
//!
//! **Not here:** groups; they are `hubless_types::GroupSet`s.

use std::ops::Range;

use hubless_types::GroupSet;

use super::limits::PIECE_GROUPS;

/// Words that lie in the set itself: enough for a file of 128 MiB. A crowd is thousands of small sets, and most of what
/// a choice costs is to fetch them from memory.
const NEAR: usize = 4;

/// A set of pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits {
    near: [u64; NEAR],
    far: Vec<u64>,
    words: usize,
    count: usize,
}

impl Bits {
    /// The pieces of which `groups` has anything.
    pub(super) fn touched_by(groups: &GroupSet) -> Self {
        let mut bits = Self::default();
        let pieces = groups.runs().last().map_or(0, |run| run.end.div_ceil(PIECE_GROUPS));
        bits.far.reserve_exact((pieces.div_ceil(64) as usize).saturating_sub(NEAR));
        for run in groups.runs() {
            bits.set_run(run.start / PIECE_GROUPS..run.end.div_ceil(PIECE_GROUPS));
        }
        bits
    }

    /// The pieces of a file of `all` groups of which `groups` has everything.
    pub(super) fn covered_by(groups: &GroupSet, all: u64) -> Self {
        let mut bits = Self::default();
        for run in groups.runs() {
            let end = if run.end >= all { all.div_ceil(PIECE_GROUPS) } else { run.end / PIECE_GROUPS };
            bits.set_run(run.start.div_ceil(PIECE_GROUPS)..end);
        }
        bits
    }

    fn set_run(&mut self, run: Range<u64>) {
        let mut at = run.start;
        while at < run.end {
            let (word, end) = ((at / 64) as usize, run.end.min((at / 64 + 1) * 64));
            let mask = (u64::MAX >> (64 - (end - at))) << (at % 64);
            self.count += (mask & !self.word(word)).count_ones() as usize;
            *self.word_mut(word) |= mask;
            at = end;
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn has(&self, piece: u64) -> bool {
        self.word((piece / 64) as usize) >> (piece % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, piece: u64, to: bool) {
        if self.has(piece) == to {
            return;
        }
        *self.word_mut((piece / 64) as usize) ^= 1 << (piece % 64);
        if to {
            self.count += 1;
        } else {
            self.count -= 1;
        }
    }

    /// Whether any is in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        (0..self.words.min(other.words)).any(|i| self.word(i) & other.word(i) != 0)
    }

    /// The 64 pieces from `64 * i` on; 0 beyond the last that was ever set.
    pub(super) fn word(&self, i: usize) -> u64 {
        self.near.get(i).or_else(|| self.far.get(i - NEAR)).copied().unwrap_or(0)
    }

    fn word_mut(&mut self, i: usize) -> &mut u64 {
        self.words = self.words.max(i + 1);
        if i < NEAR {
            return &mut self.near[i];
        }
        if self.far.len() <= i - NEAR {
            self.far.resize(i - NEAR + 1, 0);
        }
        &mut self.far[i - NEAR]
    }

    /// How many words hold anything.
    pub(super) const fn words(&self) -> usize {
        self.words
    }

    /// What is in one of the two alone: whether in `self`, and which.
    pub(super) fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (bool, u64)> + 'a {
        (0..self.words().max(other.words())).flat_map(move |i| {
            let (mine, theirs) = (self.word(i), other.word(i));
            ones(mine ^ theirs).map(move |bit| (mine >> bit & 1 == 1, i as u64 * 64 + bit))
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.words()).flat_map(move |i| ones(self.word(i)).map(move |bit| i as u64 * 64 + bit))
    }
}

/// The places of the ones in `word`, lowest first.
pub(super) fn ones(mut word: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros();
            word &= word - 1;
            u64::from(bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set(steps in prop::collection::vec((0..300_u64, any::<bool>()), 0..200)) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for (piece, to) in steps {
                bits.set(piece, to);
                if to { set.insert(piece); } else { set.remove(&piece); }
            }
            prop_assert_eq!(bits.len(), set.len());
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn pieces_of_groups_are_those_that_any_group_is_in(
            runs in prop::collection::vec((0..9_000_u64, 1..900_u64), 0..20)
        ) {
            let groups: GroupSet = runs.iter().map(|(start, len)| *start..start + len).collect();
            let named: BTreeSet<u64> =
                groups.runs().iter().cloned().flatten().map(|group| group / PIECE_GROUPS).collect();
            let bits = Bits::touched_by(&groups);
            prop_assert_eq!(bits.len(), named.len());
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), named.into_iter().collect::<Vec<_>>());
        }
    }
}
