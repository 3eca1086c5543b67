//! The key space: where keys and nodes lie in it, and parts of it.
//!
//! A place is the SHA-256 of a key or of a node's id, as libp2p's Kademlia has it; how far two places are from each
//! other is their exclusive or. Pure.

use libp2p::PeerId;
use sha2::{Digest as _, Sha256};

/// How many nodes keep a record, and how many a walk looks for: Kademlia's k.
pub(crate) const K: usize = 20;
/// Longest prefix that names a part of the key space, in bits; no network has so many nodes that more were needed.
const MAX_BITS: u32 = 48;

/// Where something lies in the key space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place([u8; 32]);

impl Place {
    /// From its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn of_key(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    pub(crate) fn of_peer(peer: &PeerId) -> Self {
        Self::of_key(&peer.to_bytes())
    }

    /// Its first eight bytes as a number: places sort as these do.
    pub fn lead(&self) -> u64 {
        let mut lead = [0; 8];
        lead.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(lead)
    }

    pub(crate) fn distance(&self, other: &Self) -> Distance {
        let mut xor = self.0;
        xor.iter_mut().zip(other.0).for_each(|(a, b)| *a ^= b);
        Distance(xor)
    }

    /// How many leading bits both have in common.
    pub(crate) fn shared_bits(&self, other: &Self) -> u32 {
        self.distance(other).leading_zeros()
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}…", self.lead())
    }
}

/// How far two places are from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Distance([u8; 32]);

impl Distance {
    pub(crate) fn leading_zeros(&self) -> u32 {
        let whole = self.0.iter().take_while(|b| **b == 0).count();
        whole as u32 * 8 + self.0.get(whole).map_or(0, |b| b.leading_zeros())
    }
}

/// A part of the key space: all places that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    around: Place,
    bits: u32,
}

impl Region {
    /// The whole key space.
    pub const fn whole() -> Self {
        Self { around: Place([0; 32]), bits: 0 }
    }

    /// The places that have the first `bits` (48 at most) in common with `place`.
    pub fn around(place: Place, bits: u32) -> Self {
        Self { around: place, bits: bits.min(MAX_BITS) }
    }

    /// Whether `place` lies in it.
    pub fn has(&self, place: &Place) -> bool {
        self.around.shared_bits(place) >= self.bits
    }

    /// How many leading bits its places share.
    pub const fn bits(&self) -> u32 {
        self.bits
    }

    /// The [`Place::lead`]s of its first and its last place.
    pub fn leads(&self) -> (u64, u64) {
        let rest = u64::MAX.checked_shr(self.bits).unwrap_or(0);
        let lead = self.around.lead();
        (lead & !rest, lead | rest)
    }
}

/// How many bits the prefix of a part has in which [`K`] to twice as many of `nodes` nodes are to be expected.
pub(crate) fn expected_bits(nodes: u64) -> u32 {
    (nodes / K as u64).checked_ilog2().unwrap_or(0).min(MAX_BITS)
}

/// How many nodes the network has, by the places of those that the node at `own` knows.
///
/// A routing table keeps all nodes near its owner and only some of those far away. Where a bucket is full, and all
/// that are farther, nothing can be said; the nearer ones are all there are in their part of the key space.
pub(crate) fn estimate(own: &Place, known: impl IntoIterator<Item = Place>, bucket: usize) -> u64 {
    let mut buckets = [0usize; 65];
    for place in known {
        buckets[own.shared_bits(&place).min(64) as usize] += 1;
    }
    let first = buckets.iter().rposition(|count| *count >= bucket).map_or(0, |full| full + 1);
    let near: usize = buckets[first.min(64)..].iter().sum();
    (near as u64 + 1).saturating_mul(1 << first.min(40))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(n: u32) -> Place {
        Place::of_key(&n.to_be_bytes())
    }

    #[test]
    fn a_place_is_where_libp2p_puts_it() {
        let peer = PeerId::random();
        let theirs = libp2p::kad::KBucketKey::from(peer);
        let other = libp2p::kad::KBucketKey::from(libp2p::kad::RecordKey::from(vec![7; 34]));
        let distance = Place::of_peer(&peer).distance(&Place::of_key(&[7; 34]));
        assert_eq!(Some(255 - distance.leading_zeros()), theirs.distance(&other).ilog2());
    }

    #[test]
    fn the_size_is_estimated_from_the_full_neighbourhood() {
        for size in [1u32, 5, 19, 60, 128, 1_000, 20_000] {
            let own = place(0);
            let mut buckets = [0usize; 257];
            let known = (1..size).map(place).filter(|p| {
                let bucket = &mut buckets[own.shared_bits(p) as usize];
                *bucket += 1;
                *bucket <= K
            });
            let guess = estimate(&own, known.collect::<Vec<_>>(), K);
            let (least, most) = (u64::from(size) / 3, u64::from(size) * 3);
            assert!((least.max(1)..=most).contains(&guess), "{size} taken for {guess}");
        }
    }

    #[test]
    fn a_part_is_expected_to_hold_k_to_twice_k() {
        assert_eq!([0, 1, 39, 40, 128, 1_000_000].map(expected_bits), [0, 0, 0, 1, 2, 15]);
    }

    proptest! {
        #[test]
        fn a_region_has_what_lies_between_its_ends(a: u32, b: u32, bits in 0u32..60) {
            let (region, other) = (Region::around(place(a), bits), place(b));
            let (first, last) = region.leads();
            prop_assert!(region.has(&place(a)));
            prop_assert_eq!(region.has(&other), (first..=last).contains(&other.lead()));
        }
    }
}
