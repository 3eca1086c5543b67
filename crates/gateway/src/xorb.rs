//! Xorbs that nobody ever stored: a file cut into chunks of 64 KiB, each behind a header, 128 of them a xorb.
//!
//! The Xet clients take these for what their own store would send: a chunk may be stored as it is, and its name may
//! be anything. So a file of any size is served through them from the plain bytes.
//!
//! **Invariant:** pure; what is promised of lengths and offsets is what the framing gives.

use bytes::{BufMut, Bytes, BytesMut};
use hubless_types::{ByteRange, Sha256};
use sha2::Digest;

/// Bytes of a chunk; the last of a file may be shorter.
pub(crate) const CHUNK: u64 = 64 * 1024;
/// Chunks of a xorb; the last of a file may have fewer.
pub(crate) const CHUNKS: u64 = 128;
/// Bytes of a chunk's header: version, packed length (three bytes), scheme, length (three bytes).
pub(crate) const HEAD: u64 = 8;
/// Bytes of a file in one xorb.
pub(crate) const XORB: u64 = CHUNK * CHUNKS;

/// A part of a file that lies in one xorb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// Which xorb of the file.
    pub(crate) xorb: u64,
    /// Which of its chunks, half-open.
    pub(crate) chunks: (u64, u64),
    /// Bytes of the file in those chunks.
    pub(crate) len: u64,
    /// Where those chunks stand in the xorb, half-open.
    pub(crate) bytes: ByteRange,
}

/// The terms that cover `range` of a file of `size` bytes. `range` is not empty and lies within the file.
pub(crate) fn terms(range: ByteRange, size: u64) -> impl Iterator<Item = Term> {
    let (first, last) = (range.start / CHUNK, range.end.saturating_sub(1) / CHUNK);
    (first / CHUNKS..=last / CHUNKS).map(move |xorb| {
        let start = first.max(xorb * CHUNKS) - xorb * CHUNKS;
        let end = (last + 1).min((xorb + 1) * CHUNKS) - xorb * CHUNKS;
        let from = xorb * XORB + start * CHUNK;
        let len = (xorb * XORB + end * CHUNK).min(size).saturating_sub(from);
        let at = start * (HEAD + CHUNK);
        let bytes = ByteRange::new(at, at + len + (end - start) * HEAD);
        Term { xorb, chunks: (start, end), len, bytes }
    })
}

/// How a file's xorb is called: 64 hexadecimal digits that no other content has, as clients keep chunks by them.
pub(crate) fn name(file: &Sha256, xorb: u64) -> String {
    let hash = sha2::Sha256::new().chain_update(b"hubless xorb").chain_update(file.as_bytes());
    let hash: [u8; 32] = hash.chain_update(xorb.to_le_bytes()).finalize().into();
    Sha256::from_bytes(hash).to_string()
}

/// The bytes of the file that a xorb has; `None` if the file ends before.
pub(crate) fn part_of(xorb: u64, size: u64) -> Option<ByteRange> {
    let start = xorb.checked_mul(XORB).filter(|start| *start < size)?;
    Some(ByteRange::new(start, start.saturating_add(XORB).min(size)))
}

/// Bytes of a xorb that has `data` bytes of the file.
pub(crate) fn framed_len(data: u64) -> u64 {
    data + data.div_ceil(CHUNK) * HEAD
}

/// The bytes of the file that are needed for `wanted` of a xorb that has `part` of it: whole chunks.
pub(crate) fn needed(wanted: ByteRange, part: ByteRange) -> ByteRange {
    let first = wanted.start / (HEAD + CHUNK);
    let end = wanted.end.div_ceil(HEAD + CHUNK);
    let at = |chunks: u64| part.start + (chunks * CHUNK).min(part.len());
    ByteRange::new(at(first), at(end))
}

/// Puts headers between the bytes of a file, and cuts out what is wanted.
#[derive(Debug)]
pub(crate) struct Framing {
    /// Bytes of the file that are still to come.
    left: u64,
    /// Bytes that the chunk being sent still has.
    in_chunk: u64,
    /// Framed bytes before the wanted ones.
    skip: u64,
    /// Wanted bytes that have not been given.
    wanted: u64,
}

impl Framing {
    /// For `wanted` of a xorb that has `part` of a file; to be given the bytes that [`needed`] names.
    pub(crate) fn new(wanted: ByteRange, part: ByteRange) -> Self {
        let skip = wanted.start % (HEAD + CHUNK);
        Self { left: needed(wanted, part).len(), in_chunk: 0, skip, wanted: wanted.len() }
    }

    /// The next bytes of the file, framed; empty if none of them is wanted.
    pub(crate) fn push(&mut self, mut piece: Bytes) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len() + 64);
        while !piece.is_empty() {
            if self.in_chunk == 0 {
                self.in_chunk = self.left.min(CHUNK);
                if self.in_chunk == 0 {
                    break;
                }
                let len = (self.in_chunk as u32).to_le_bytes();
                self.give(&[0, len[0], len[1], len[2], 0, len[0], len[1], len[2]], &mut out);
            }
            let take = self.in_chunk.min(piece.len() as u64);
            let data = piece.split_to(usize::try_from(take).unwrap_or(usize::MAX).min(piece.len()));
            self.in_chunk -= take;
            self.left = self.left.saturating_sub(take);
            self.give(&data, &mut out);
        }
        out.freeze()
    }

    fn give(&mut self, bytes: &[u8], out: &mut BytesMut) {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let rest = bytes.get(skipped as usize..).unwrap_or_default();
        let given = self.wanted.min(rest.len() as u64);
        self.wanted -= given;
        out.put_slice(rest.get(..given as usize).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(size: u64) -> Vec<u8> {
        (0..size).map(|i| (i % 249) as u8).collect()
    }

    /// What a client reads from a chunk after its header.
    fn unframed(mut framed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some((head, rest)) = framed.split_first_chunk::<8>() {
            let len = u32::from_le_bytes([head[5], head[6], head[7], 0]) as usize;
            assert_eq!((head[0], head[4], &head[1..4]), (0, 0, &head[5..8]));
            out.extend_from_slice(&rest[..len]);
            framed = &rest[len..];
        }
        out
    }

    fn framed(wanted: ByteRange, part: ByteRange, file: &[u8], piece: usize) -> Vec<u8> {
        let needed = needed(wanted, part);
        let mut framing = Framing::new(wanted, part);
        let pieces = file[needed.start as usize..needed.end as usize].chunks(piece);
        pieces.flat_map(|piece| framing.push(Bytes::copy_from_slice(piece))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// What a client puts together from the terms of a range is that range.
        #[test]
        fn terms_give_the_file_back(size in 1..20_000_000_u64, a: prop::sample::Index, b: prop::sample::Index, piece in 1_000..2_000_000_usize) {
            let (a, b) = (a.index(size as usize) as u64, b.index(size as usize) as u64);
            let range = ByteRange::new(a.min(b), a.max(b) + 1);
            let file = content(size);
            let mut got = Vec::new();
            for term in terms(range, size) {
                let part = part_of(term.xorb, size).unwrap();
                prop_assert!(term.bytes.end <= framed_len(part.len()));
                let bytes = framed(term.bytes, part, &file, piece);
                prop_assert_eq!(bytes.len() as u64, term.bytes.len());
                let data = unframed(&bytes);
                prop_assert_eq!(data.len() as u64, term.len);
                got.extend(data);
            }
            let skip = (range.start % CHUNK) as usize;
            prop_assert!(got[skip..skip + range.len() as usize] == file[range.start as usize..range.end as usize]);
        }

        /// Any part of a xorb is the same part of the whole.
        #[test]
        fn a_part_of_a_xorb_is_that_part(size in 1..600_000_u64, a: prop::sample::Index, b: prop::sample::Index) {
            let part = part_of(0, size).unwrap();
            let whole = framed(ByteRange::whole(framed_len(size)), part, &content(size), 10_000);
            let (a, b) = (a.index(whole.len()), b.index(whole.len()));
            let wanted = ByteRange::new(a.min(b) as u64, a.max(b) as u64 + 1);
            let bytes = framed(wanted, part, &content(size), 7_777);
            prop_assert!(bytes == whole[wanted.start as usize..wanted.end as usize]);
        }
    }

    #[test]
    fn a_file_ends_where_it_ends() {
        assert_eq!(part_of(1, XORB + 5), Some(ByteRange::new(XORB, XORB + 5)));
        assert_eq!((part_of(1, XORB), part_of(u64::MAX, u64::MAX)), (None, None));
        assert_ne!(name(&Sha256::from_bytes([1; 32]), 0), name(&Sha256::from_bytes([1; 32]), 1));
    }
}
