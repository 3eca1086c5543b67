//! Ranges of bytes, and sets of the 16 KiB groups by which a file is checked.

use std::ops::Range;

use crate::ParseError;

/// Bytes in one group: the leaf that one BLAKE3 proof covers (16 chunks of 1 KiB).
pub const GROUP_BYTES: u64 = 16 * 1024;

/// Bytes of a file, half-open: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte; never below `start`.
    pub end: u64,
}

impl ByteRange {
    /// `start..end`; empty where `end` is not above `start`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end: if end < start { start } else { end } }
    }

    /// A whole file of `size` bytes.
    pub const fn whole(size: u64) -> Self {
        Self { start: 0, end: size }
    }

    /// How many bytes.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it has no byte.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The groups that it touches.
    pub const fn groups(&self) -> Range<u64> {
        if self.is_empty() {
            return 0..0;
        }
        self.start / GROUP_BYTES..self.end.div_ceil(GROUP_BYTES)
    }

    /// The bytes of `groups` in a file of `size` bytes.
    pub fn of_groups(groups: Range<u64>, size: u64) -> Self {
        let end = groups.end.saturating_mul(GROUP_BYTES).min(size);
        Self::new(groups.start.saturating_mul(GROUP_BYTES).min(end), end)
    }
}

/// A set of group numbers, kept as sorted, disjoint, non-adjacent half-open runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GroupSet {
    runs: Vec<Range<u64>>,
}

/// Most runs that a set from a stranger may have; a file fetched in any order needs far fewer.
const MAX_DECODED_RUNS: usize = 65_536;

impl GroupSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// All groups of a file of `size` bytes.
    pub fn whole(size: u64) -> Self {
        Self::from(0..size.div_ceil(GROUP_BYTES))
    }

    /// Adds a run.
    pub fn insert(&mut self, run: Range<u64>) {
        if run.is_empty() {
            return;
        }
        let first = self.runs.partition_point(|r| r.end < run.start);
        let last = self.runs.partition_point(|r| r.start <= run.end);
        let mut merged = run;
        if first < last {
            merged.start = merged.start.min(self.runs[first].start);
            merged.end = merged.end.max(self.runs[last - 1].end);
        }
        self.runs.splice(first..last, [merged]);
    }

    /// Takes a run away.
    pub fn remove(&mut self, run: Range<u64>) {
        if run.is_empty() {
            return;
        }
        let first = self.runs.partition_point(|r| r.end <= run.start);
        let last = self.runs.partition_point(|r| r.start < run.end);
        if first >= last {
            return;
        }
        let before = self.runs[first].start..run.start;
        let after = run.end..self.runs[last - 1].end;
        self.runs.splice(first..last, [before, after].into_iter().filter(|r| !r.is_empty()));
    }

    /// Adds all of `other`.
    pub fn insert_all(&mut self, other: &Self) {
        for run in &other.runs {
            self.insert(run.clone());
        }
    }

    /// The runs of `within` that are not in this set.
    pub fn missing(&self, within: Range<u64>) -> Self {
        let mut rest = Self::from(within.clone());
        let first = self.runs.partition_point(|r| r.end <= within.start);
        for run in self.runs[first..].iter().take_while(|r| r.start < within.end) {
            rest.remove(run.clone());
        }
        rest
    }

    /// The groups that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::new();
        let (mut a, mut b) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            both.insert(x.start.max(y.start)..x.end.min(y.end));
            if x.end < y.end {
                a.next()
            } else {
                b.next()
            };
        }
        both
    }

    /// Whether every group of `run` is in the set.
    pub fn contains(&self, run: Range<u64>) -> bool {
        if run.is_empty() {
            return true;
        }
        let i = self.runs.partition_point(|r| r.end <= run.start);
        self.runs.get(i).is_some_and(|r| r.start <= run.start && run.end <= r.end)
    }

    /// Whether any group of `run` is in the set.
    pub fn overlaps(&self, run: Range<u64>) -> bool {
        let i = self.runs.partition_point(|r| r.end <= run.start);
        !run.is_empty() && self.runs.get(i).is_some_and(|r| r.start < run.end)
    }

    /// How many groups from `start` on are in the set without a gap.
    pub fn run_from(&self, start: u64) -> u64 {
        let i = self.runs.partition_point(|r| r.end <= start);
        self.runs.get(i).filter(|r| r.start <= start).map_or(0, |r| r.end - start)
    }

    /// How many groups are in the set.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|r| r.end - r.start).sum()
    }

    /// Whether no group is in the set.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs, lowest first.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// How many bytes of a file of `size` bytes the set covers.
    pub fn bytes(&self, size: u64) -> u64 {
        self.runs.iter().map(|r| ByteRange::of_groups(r.clone(), size).len()).sum()
    }

    /// As gaps and lengths in LEB128, lowest run first: a whole file takes a few bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.runs.len() * 4);
        let mut at = 0;
        for run in &self.runs {
            put_varint(&mut out, run.start - at);
            put_varint(&mut out, run.end - run.start);
            at = run.end;
        }
        out
    }

    /// Reads what [`GroupSet::encode`] wrote.
    ///
    /// # Errors
    /// [`ParseError`] if a number is cut or overflows, a run is empty, runs touch, or there are over 65,536.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, ParseError> {
        let fail = |why: &str| ParseError::new("set of groups", "", why);
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut at = 0_u64;
        while !bytes.is_empty() {
            let gap = take_varint(&mut bytes).ok_or_else(|| fail("a number is cut off"))?;
            let len = take_varint(&mut bytes).ok_or_else(|| fail("a number is cut off"))?;
            let start = at.checked_add(gap).ok_or_else(|| fail("it overflows"))?;
            let end = start.checked_add(len).ok_or_else(|| fail("it overflows"))?;
            if len == 0 || (gap == 0 && !runs.is_empty()) {
                return Err(fail("a run is empty, or touches the one before"));
            }
            if runs.len() == MAX_DECODED_RUNS {
                return Err(fail("it has too many runs"));
            }
            runs.push(start..end);
            at = end;
        }
        Ok(Self { runs })
    }
}

impl From<Range<u64>> for GroupSet {
    fn from(run: Range<u64>) -> Self {
        Self { runs: if run.is_empty() { Vec::new() } else { vec![run] } }
    }
}

impl FromIterator<Range<u64>> for GroupSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(runs: I) -> Self {
        let mut set = Self::new();
        runs.into_iter().for_each(|run| set.insert(run));
        set
    }
}

impl serde::Serialize for GroupSet {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.encode())
    }
}

impl<'de> serde::Deserialize<'de> for GroupSet {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(d)?;
        Self::decode(bytes).map_err(serde::de::Error::custom)
    }
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn model(set: &GroupSet) -> BTreeSet<u64> {
        set.runs().iter().cloned().flatten().collect()
    }

    fn runs() -> impl Strategy<Value = Vec<(bool, u64, u64)>> {
        prop::collection::vec((any::<bool>(), 0..64_u64, 0..20_u64), 0..30)
    }

    fn built(steps: &[(bool, u64, u64)]) -> (GroupSet, BTreeSet<u64>) {
        let (mut set, mut plain) = (GroupSet::new(), BTreeSet::new());
        for &(add, start, len) in steps {
            if add {
                set.insert(start..start + len);
                plain.extend(start..start + len);
            } else {
                set.remove(start..start + len);
                plain.retain(|g| !(start..start + len).contains(g));
            }
        }
        (set, plain)
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(steps in runs(), others in runs(), from in 0..80_u64, len in 0..30_u64) {
            let ((set, plain), (other, other_plain)) = (built(&steps), built(&others));
            prop_assert_eq!(model(&set), plain.clone());
            prop_assert_eq!(set.len(), plain.len() as u64);
            prop_assert!(set.runs().windows(2).all(|w| w[0].end < w[1].start));
            let range = from..from + len;
            prop_assert_eq!(set.contains(range.clone()), range.clone().all(|g| plain.contains(&g)));
            prop_assert_eq!(set.overlaps(range.clone()), range.clone().any(|g| plain.contains(&g)));
            prop_assert_eq!(model(&set.missing(range.clone())), range.filter(|g| !plain.contains(g)).collect());
            prop_assert_eq!(model(&set.intersection(&other)), plain.intersection(&other_plain).copied().collect());
            prop_assert_eq!(set.run_from(from), (from..).take_while(|g| plain.contains(g)).count() as u64);
            prop_assert_eq!(GroupSet::decode(&set.encode()), Ok(set));
        }

        #[test]
        fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(set) = GroupSet::decode(&bytes) {
                prop_assert_eq!(GroupSet::decode(&set.encode()), Ok(set));
            }
        }

        #[test]
        fn groups_cover_their_bytes(start in 0..1_u64 << 40, len in 1..1_u64 << 30) {
            let range = ByteRange::new(start, start + len);
            let covered = ByteRange::of_groups(range.groups(), u64::MAX);
            prop_assert!(covered.start <= range.start && range.end <= covered.end);
            prop_assert!(covered.len() < len + 2 * GROUP_BYTES);
        }
    }
}
