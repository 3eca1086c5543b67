//! A pack of one blob, inflated as it arrives.
//!
//! **Invariant:** holds one piece of the pack and makes at most [`MAX_PIECE`] bytes a call, however well the blob was
//! packed.

use flate2::{Decompress, FlushDecompress, Status};
use hubless_proof::{ObjectKind, ProofError, peek_object};

/// Most bytes that are made at once.
const MAX_PIECE: usize = 256 * 1024;
/// Bytes within which the blob must have begun.
const MAX_HEAD: usize = 64;

const fn malformed(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "git pack", why }
}

/// See the module.
pub(super) struct PackedBlob {
    zlib: Decompress,
    input: Vec<u8>,
    at: usize,
    size: Option<u64>,
    ended: bool,
}

impl PackedBlob {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true), input: Vec::new(), at: 0, size: None, ended: false }
    }

    /// Adds what arrived. Call [`PackedBlob::piece`] until it gives `None` before adding more.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.extend_from_slice(bytes);
    }

    /// How long the blob says it is, once that is known.
    pub(super) const fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether the blob is here whole.
    pub(super) const fn is_whole(&self) -> bool {
        self.ended
    }

    /// The next bytes of the blob; `None` where more of the pack is needed, and at its end.
    pub(super) fn piece(&mut self) -> Result<Option<Vec<u8>>, ProofError> {
        let Some(size) = self.read_head()? else { return Ok(None) };
        while !self.ended {
            let mut out = Vec::with_capacity(MAX_PIECE);
            let before = self.zlib.total_in();
            let rest = self.input.get(self.at..).unwrap_or_default();
            let status = self.zlib.decompress_vec(rest, &mut out, FlushDecompress::None);
            let status = status.map_err(|_| malformed("the blob does not inflate"))?;
            let read = (self.zlib.total_in() - before) as usize;
            self.at += read;
            if self.zlib.total_out() > size {
                return Err(malformed("the blob is longer than it says"));
            }
            self.ended = status == Status::StreamEnd;
            if self.ended && self.zlib.total_out() < size {
                return Err(malformed("the blob is shorter than it says"));
            }
            if !out.is_empty() {
                return Ok(Some(out));
            }
            if read == 0 {
                break;
            }
        }
        Ok(None)
    }

    fn read_head(&mut self) -> Result<Option<u64>, ProofError> {
        if self.size.is_none() {
            match peek_object(&self.input)? {
                Some((ObjectKind::Blob, size, at)) => (self.size, self.at) = (Some(size), at),
                Some(_) => return Err(malformed("it does not begin with the blob that was asked for")),
                None if self.input.len() > MAX_HEAD => {
                    return Err(malformed("its first object has no end of head"));
                }
                None => {}
            }
        }
        Ok(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_proof::{PackKind, PackWriter};
    use proptest::prelude::*;

    fn pack(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = PackWriter::new(1, &mut out);
        writer.object(PackKind::Blob, content, &mut out).unwrap();
        writer.finish(&mut out).unwrap();
        out
    }

    fn unpack(pack: &[u8], piece: usize) -> Result<(Vec<u8>, bool), ProofError> {
        let (mut blob, mut out) = (PackedBlob::new(), Vec::new());
        for piece in pack.chunks(piece) {
            blob.push(piece);
            while let Some(made) = blob.piece()? {
                assert!(made.len() <= MAX_PIECE);
                out.extend(made);
            }
        }
        Ok((out, blob.is_whole()))
    }

    proptest! {
        #[test]
        fn a_blob_comes_whole_however_it_is_cut(content in prop::collection::vec(any::<u8>(), 0..3000), piece in 1..500_usize, flip: prop::sample::Index) {
            let mut pack = pack(&content);
            prop_assert_eq!(unpack(&pack, piece), Ok((content, true)));
            let at = flip.index(pack.len());
            pack[at] ^= 1;
            let _ = unpack(&pack, piece);
            prop_assert!(unpack(&pack[..at.min(pack.len() - 21)], piece).is_ok_and(|(_, whole)| !whole) || at < 12 || unpack(&pack[..at], piece).is_err());
        }
    }

    #[test]
    fn a_blob_that_packs_well_is_made_in_pieces() {
        let zeros = vec![0; 5 << 20];
        let pack = pack(&zeros);
        assert!(pack.len() < 100_000);
        assert!(unpack(&pack, pack.len()) == Ok((zeros, true)));
        let mut tree = pack;
        tree[12] ^= 0x10;
        assert!(unpack(&tree, 9000).is_err(), "not a blob");
        assert!(unpack(&[0; 100], 100).is_err());
    }
}
