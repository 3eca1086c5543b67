//! iroh-blobs' `GetRequest` in bytes, as far as it is spoken here: ranges of one raw blob.
//!
//! On the wire (postcard): kind 0, the 32 bytes of the hash, then a list of `(blobs to skip, widths)`. For one raw blob
//! that list has two entries: the widths of this blob's spans of 1 KiB chunks, alternately left out and wanted, and
//! from the next blob on nothing.
//!
//! **Invariant:** pure. What is accepted is what iroh-blobs 0.104 writes for a raw blob, whole or by ranges.

use std::ops::Range;

use hubless_types::{BlobHash, GROUP_BYTES, GroupSet};

use crate::limits::MAX_GET_BYTES;

/// The protocol's name in the TLS handshake.
pub(crate) const ALPN: &[u8] = b"/iroh-bytes/4";

const KIND_GET: u8 = 0;
const CHUNKS_PER_GROUP: u64 = 16;
const CHUNK_BYTES: u64 = GROUP_BYTES / CHUNKS_PER_GROUP;

/// A request for chunks of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Get {
    pub(crate) hash: BlobHash,
    /// Ends of spans, alternately left out and wanted, in chunks; an odd number wants all from the last on.
    boundaries: Vec<u64>,
}

impl Get {
    /// Asks for `groups`.
    pub(crate) fn groups(hash: BlobHash, groups: &Range<u64>) -> Self {
        let chunk = |group: u64| group.saturating_mul(CHUNKS_PER_GROUP);
        Self { hash, boundaries: vec![chunk(groups.start), chunk(groups.end)] }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(KIND_GET);
        out.extend_from_slice(self.hash.as_bytes());
        put(&mut out, 2);
        put(&mut out, 0);
        put(&mut out, self.boundaries.len() as u64);
        let mut before = 0;
        for &boundary in &self.boundaries {
            put(&mut out, boundary - before);
            before = boundary;
        }
        put(&mut out, 1);
        put(&mut out, 0);
        out
    }

    /// Reads a whole request; `None` if it is anything else than ranges of one raw blob.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&KIND_GET, rest) = bytes.split_first()? else { return None };
        let (hash, mut rest) = rest.split_at_checked(BlobHash::LEN)?;
        let head = [take(&mut rest)?, take(&mut rest)?];
        let count = take(&mut rest)?;
        if head != [2, 0] || count == 0 || count > MAX_GET_BYTES as u64 {
            return None;
        }
        let mut boundaries = Vec::new();
        let mut at = 0_u64;
        for index in 0..count {
            let width = take(&mut rest)?;
            if width == 0 && index > 0 {
                return None;
            }
            at = at.checked_add(width)?;
            boundaries.push(at);
        }
        let tail = [take(&mut rest)?, take(&mut rest)?];
        let whole = tail == [1, 0] && rest.is_empty();
        Some(Self { hash: BlobHash::from_slice(hash)?, boundaries }).filter(|_| whole)
    }

    /// The groups that are asked for of a blob of `size` bytes; `None` if a span begins or ends within a group, or lies
    /// beyond the end: proofs are kept, and given, for whole groups.
    pub(crate) fn wanted(&self, size: u64) -> Option<GroupSet> {
        let chunks = size.div_ceil(CHUNK_BYTES);
        let groups = size.div_ceil(GROUP_BYTES);
        let group = |chunk: u64| match chunk {
            chunk if chunk >= chunks => Some(groups),
            chunk if chunk % CHUNKS_PER_GROUP == 0 => Some(chunk / CHUNKS_PER_GROUP),
            _ => None,
        };
        let mut wanted = GroupSet::new();
        for span in self.boundaries.chunks(2) {
            let run = group(span[0])?..span.get(1).map_or(Some(groups), |end| group(*end))?;
            if run.is_empty() && size > 0 {
                return None;
            }
            wanted.insert(run);
        }
        Some(wanted)
    }
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (n, rest) = postcard::take_from_bytes(bytes).ok()?;
    *bytes = rest;
    Some(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt as _, GetRequest, Request};
    use proptest::prelude::*;

    const HASH: BlobHash = BlobHash::from_bytes([7; 32]);

    fn theirs(ranges: ChunkRanges) -> Vec<u8> {
        let request = Request::Get(GetRequest::blob_ranges([7; 32].into(), ranges));
        postcard::to_stdvec(&request).unwrap()
    }

    #[test]
    fn a_whole_blob_is_asked_for_as_iroh_blobs_does() {
        let bytes = postcard::to_stdvec(&Request::Get(GetRequest::blob([7; 32]))).unwrap();
        let get = Get::decode(&bytes).unwrap();
        assert_eq!(get.hash, HASH);
        assert_eq!(get.wanted(40_000), Some(GroupSet::whole(40_000)));
        assert_eq!(get.wanted(0), Some(GroupSet::new()));
    }

    #[test]
    fn a_sequence_of_blobs_is_not_served() {
        let bytes = postcard::to_stdvec(&Request::Get(GetRequest::all([7; 32]))).unwrap();
        assert_eq!(Get::decode(&bytes), None);
    }

    #[test]
    fn a_span_within_a_group_is_not_served() {
        let get = Get::decode(&theirs(ChunkRanges::chunks(3..5))).unwrap();
        assert_eq!(get.wanted(1 << 20), None);
        let size_proof = Get::decode(&theirs(ChunkRanges::last_chunk())).unwrap();
        assert_eq!(size_proof.wanted(1 << 20), None);
    }

    proptest! {
        #[test]
        fn groups_are_asked_for_as_iroh_blobs_does(start in 0..1_u64 << 30, len in 1..1_u64 << 20) {
            let groups = start..start + len;
            let get = Get::groups(HASH, &groups);
            prop_assert_eq!(get.encode(), theirs(ChunkRanges::chunks(start * 16..(start + len) * 16)));
            prop_assert_eq!(Get::decode(&get.encode()), Some(get.clone()));
            prop_assert_eq!(get.wanted((start + len) * GROUP_BYTES - 5), Some(GroupSet::from(groups)));
        }

        #[test]
        fn several_ranges_are_understood(a in 0..100_u64, b in 1..100_u64, c in 1..100_u64, d in 1..100_u64) {
            let runs = [a..a + b, a + b + c..a + b + c + d];
            let ranges = runs.iter().fold(ChunkRanges::empty(), |all, r| all | ChunkRanges::chunks(r.start * 16..r.end * 16));
            let get = Get::decode(&theirs(ranges)).unwrap();
            prop_assert_eq!(get.wanted(1 << 40), Some(runs.into_iter().collect()));
        }

        #[test]
        fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size: u64) {
            let mut request = vec![0];
            request.extend(&bytes);
            for bytes in [bytes, request] {
                if let Some(get) = Get::decode(&bytes) {
                    let _ = get.wanted(size);
                }
            }
        }
    }
}
