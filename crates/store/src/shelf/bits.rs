//! Sets of small numbers (documents, blocks) as bits, and the compact form in which they lie on disk.
//!
//! **Invariant:** reading never fails and never yields a number outside the set's size, whatever the bytes are.

/// A set of numbers below its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    size: u32,
}

impl Bits {
    /// The empty set of numbers below `size`.
    pub(super) fn none(size: u32) -> Self {
        Self { words: vec![0; (size as usize).div_ceil(64)], size }
    }

    /// All numbers below `size`.
    pub(super) fn all(size: u32) -> Self {
        let mut all = Self { words: vec![u64::MAX; (size as usize).div_ceil(64)], size };
        all.trim();
        all
    }

    /// Clears what lies beyond the size in the last word.
    fn trim(&mut self) {
        if let (Some(last), rest @ 1..) = (self.words.last_mut(), self.size % 64) {
            *last &= (1 << rest) - 1;
        }
    }

    pub(super) fn set(&mut self, n: u32) {
        if n < self.size {
            self.words[n as usize / 64] |= 1 << (n % 64);
        }
    }

    pub(super) fn has(&self, n: u32) -> bool {
        self.words.get(n as usize / 64).is_some_and(|word| word >> (n % 64) & 1 == 1)
    }

    /// Keeps what is in both.
    pub(super) fn and(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(mine, theirs)| *mine &= theirs);
    }

    /// Keeps what is not in the other.
    pub(super) fn without(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(mine, theirs)| *mine &= !theirs);
    }

    /// The numbers of the set that are at least `from` and below `to`, rising.
    pub(super) fn between(&self, from: u32, to: u32) -> impl Iterator<Item = u32> + '_ {
        let to = to.min(self.size);
        let (first, last) = (from as usize / 64, (to as usize).div_ceil(64));
        let words = self.words.get(first..last).unwrap_or_default().iter().zip(first..);
        words
            .flat_map(|(word, at)| Ones(*word).map(move |bit| at as u32 * 64 + bit))
            .filter(move |n| (from..to).contains(n))
    }

    /// How many numbers from `from` (rounded down) to `to` (rounded up) to multiples of 64 the set has.
    pub(super) fn about(&self, from: u32, to: u32) -> u64 {
        let words = self.words.get(from as usize / 64..(to.min(self.size) as usize).div_ceil(64));
        words.unwrap_or_default().iter().map(|w| u64::from(w.count_ones())).sum()
    }
}

/// The places of a word's ones.
struct Ones(u64);

impl Iterator for Ones {
    type Item = u32;
    fn next(&mut self) -> Option<u32> {
        let at = (self.0 != 0).then(|| self.0.trailing_zeros())?;
        self.0 &= self.0 - 1;
        Some(at)
    }
}

/// Before a list of gaps.
const GAPS: u8 = 0;
/// Before a bit a number.
const PLAIN: u8 = 1;

/// Gathers rising numbers as the gaps between them: one byte for most.
#[derive(Debug, Clone, Default)]
pub(super) struct Gaps {
    bytes: Vec<u8>,
    /// One more than the last number.
    past: u32,
}

impl Gaps {
    /// Adds a number; one that is not above the last is there already.
    pub(super) fn add(&mut self, n: u32) {
        if n < self.past {
            return;
        }
        let mut gap = n - self.past;
        while gap >= 0x80 {
            self.bytes.push(gap as u8 | 0x80);
            gap >>= 7;
        }
        self.bytes.push(gap as u8);
        self.past = n.saturating_add(1);
    }

    /// The set's compact form, for numbers below `size`.
    pub(super) fn write(&self, size: u32, to: &mut Vec<u8>) {
        let plain = (size as usize).div_ceil(8);
        if self.bytes.len() <= plain {
            to.push(GAPS);
            to.extend_from_slice(&self.bytes);
            return;
        }
        to.push(PLAIN);
        let start = to.len();
        to.resize(start + plain, 0);
        each_gap(&self.bytes, |n| {
            if n < size {
                to[start + n as usize / 8] |= 1 << (n % 8);
            }
        });
    }
}

/// Reads a set from its compact form.
pub(super) fn read(bytes: &[u8], size: u32) -> Bits {
    let mut bits = Bits::none(size);
    match bytes.split_first() {
        Some((&GAPS, gaps)) => each_gap(gaps, |n| bits.set(n)),
        Some((&PLAIN, plain)) => {
            for (word, eight) in bits.words.iter_mut().zip(plain.chunks(8)) {
                let mut whole = [0; 8];
                whole[..eight.len()].copy_from_slice(eight);
                *word = u64::from_le_bytes(whole);
            }
            bits.trim();
        }
        _ => {}
    }
    bits
}

fn each_gap(bytes: &[u8], mut visit: impl FnMut(u32)) {
    let (mut past, mut gap, mut shift) = (0_u32, 0_u32, 0);
    for byte in bytes {
        gap |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        shift += 7;
        if byte & 0x80 == 0 {
            let Some(n) = past.checked_add(gap) else { return };
            visit(n);
            let Some(next) = n.checked_add(1) else { return };
            (past, gap, shift) = (next, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn written(numbers: &BTreeSet<u32>, size: u32) -> Vec<u8> {
        let mut gaps = Gaps::default();
        numbers.iter().for_each(|n| gaps.add(*n));
        let mut bytes = Vec::new();
        gaps.write(size, &mut bytes);
        bytes
    }

    #[test]
    fn many_numbers_take_a_bit_each() {
        let all: BTreeSet<u32> = (0..1000).collect();
        assert_eq!(written(&all, 1000).len(), 126);
        assert_eq!(written(&[7].into(), 1000).len(), 2);
        assert_eq!(read(&written(&all, 1000), 1000).between(0, 2000).count(), 1000);
    }

    proptest! {
        #[test]
        fn a_set_comes_back(numbers in prop::collection::btree_set(0_u32..5000, 0..600), from in 0_u32..5000, to in 0_u32..6000) {
            let bits = read(&written(&numbers, 5000), 5000);
            let found: Vec<u32> = bits.between(from, to).collect();
            let expected: Vec<u32> = numbers.iter().copied().filter(|n| (from..to).contains(n)).collect();
            prop_assert!(found.len() as u64 <= bits.about(from, to));
            prop_assert_eq!(found, expected);
            prop_assert!((0..5000).all(|n| bits.has(n) == numbers.contains(&n)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 0_u32..2000) {
            let bits = read(&bytes, size);
            prop_assert!(bits.between(0, u32::MAX).all(|n| n < size));
        }
    }
}
