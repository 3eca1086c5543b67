//! Chunks as a xorb holds them: behind eight bytes each, as they are or packed by LZ4, with or without their bytes
//! sorted by four.
//!
//! **Invariant:** bytes in, chunks out, whatever the bytes are; nothing is made room for before its length was
//! compared with [`MAX_CHUNK_BYTES`].
//! **Not here:** which chunks are wanted (`rebuild`), whether they are the file (its digest tells).

use std::io::Read as _;

use bytes::{Buf as _, Bytes, BytesMut};
use lz4_flex::frame::FrameDecoder;

/// Longest chunk, in bytes.
pub const MAX_CHUNK_BYTES: usize = 128 * 1024;
/// Longest packed chunk, in bytes: what packing makes longer is stored as it is, but not everyone looks.
const MAX_PACKED_BYTES: usize = 2 * MAX_CHUNK_BYTES;
/// Bytes of what stands before a chunk: version, packed length (three bytes), scheme, length (three bytes).
pub(super) const HEAD_BYTES: usize = 8;
/// The only version there is.
const VERSION: u8 = 0;

/// Why bytes are no chunks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Another format, or no format at all.
    #[error("a chunk has version {version} and scheme {scheme}")]
    Unknown {
        /// Its first byte.
        version: u8,
        /// How it is packed.
        scheme: u8,
    },
    /// No chunk has such lengths.
    #[error("a chunk of {len} bytes is packed into {packed}")]
    Length {
        /// Its own.
        len: usize,
        /// Packed.
        packed: usize,
    },
    /// It is packed otherwise than it says.
    #[error("a chunk cannot be unpacked: {why}")]
    Packing {
        /// What is wrong with it.
        why: String,
    },
    /// The bytes end within one.
    #[error("the bytes end within a chunk")]
    Cut,
}

/// How a chunk is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Plain,
    Lz4,
    /// First every fourth byte, then those that follow them, and so on; then LZ4. Floats pack better so.
    GroupedLz4,
}

/// What stands before a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    scheme: Scheme,
    len: usize,
    packed: usize,
}

impl Head {
    fn read(head: [u8; HEAD_BYTES]) -> Result<Self, ChunkError> {
        let [version, p0, p1, p2, scheme, l0, l1, l2] = head;
        let number = |a, b, c| u32::from_le_bytes([a, b, c, 0]) as usize;
        let (packed, len) = (number(p0, p1, p2), number(l0, l1, l2));
        let scheme = match (version, scheme) {
            (VERSION, 0) => Scheme::Plain,
            (VERSION, 1) => Scheme::Lz4,
            (VERSION, 2) => Scheme::GroupedLz4,
            _ => return Err(ChunkError::Unknown { version, scheme }),
        };
        let fits = (1..=MAX_CHUNK_BYTES).contains(&len) && (1..=MAX_PACKED_BYTES).contains(&packed);
        if !fits || (scheme == Scheme::Plain && packed != len) {
            return Err(ChunkError::Length { len, packed });
        }
        Ok(Self { scheme, len, packed })
    }

    fn unpack(self, packed: &[u8]) -> Result<Bytes, ChunkError> {
        match self.scheme {
            // Copied: a chunk that is kept for long must not hold on to all that came with it.
            Scheme::Plain => Ok(Bytes::copy_from_slice(packed)),
            Scheme::Lz4 => Ok(unframed(packed, self.len)?.into()),
            Scheme::GroupedLz4 => Ok(ungrouped(&unframed(packed, self.len)?).into()),
        }
    }
}

/// The content of one LZ4 frame, which has `len` bytes. The frame's own block size bounds what reading it takes: at
/// most a few times the format's 4 MiB, and no more of that is touched than is written.
fn unframed(frame: &[u8], len: usize) -> Result<Vec<u8>, ChunkError> {
    let packing = |why: String| ChunkError::Packing { why };
    let mut content = Vec::with_capacity(len);
    let mut reader = FrameDecoder::new(frame).take(len as u64 + 1);
    reader.read_to_end(&mut content).map_err(|error| packing(error.to_string()))?;
    match content.len() == len {
        true => Ok(content),
        false => Err(packing(format!("it is no chunk of {len} bytes"))),
    }
}

/// Puts bytes back that were sorted by their place in every four.
fn ungrouped(groups: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; groups.len()];
    let mut sorted = groups.iter();
    for place in 0..4 {
        // The front groups are one longer where the length is no multiple of four; stepping gives just that.
        for (byte, group) in bytes.iter_mut().skip(place).step_by(4).zip(&mut sorted) {
            *byte = *group;
        }
    }
    bytes
}

/// Takes the bytes of chunks as they come, and gives the chunks.
#[derive(Debug, Default)]
pub struct Unpacker {
    came: BytesMut,
    head: Option<Head>,
}

impl Unpacker {
    /// One that has no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes. What [`Unpacker::next_chunk`] gives none of is kept: less than a packed chunk, if it is asked until
    /// then.
    pub fn push(&mut self, bytes: &[u8]) {
        self.came.extend_from_slice(bytes);
    }

    /// The next chunk that is here whole.
    ///
    /// # Errors
    /// [`ChunkError`]; nothing after it can be read.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, ChunkError> {
        let head = match self.head {
            Some(head) => head,
            None => {
                let Some(bytes) = self.came.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
                let head = Head::read(*bytes)?;
                self.came.advance(HEAD_BYTES);
                *self.head.insert(head)
            }
        };
        if self.came.len() < head.packed {
            return Ok(None);
        }
        self.head = None;
        head.unpack(&self.came.split_to(head.packed)).map(Some)
    }

    /// That the bytes end here.
    ///
    /// # Errors
    /// [`ChunkError::Cut`] if they end within a chunk.
    pub fn end(&self) -> Result<(), ChunkError> {
        if self.head.is_none() && self.came.is_empty() { Ok(()) } else { Err(ChunkError::Cut) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    fn framed(bytes: &[u8], info: FrameInfo) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn grouped(bytes: &[u8]) -> Vec<u8> {
        (0..4).flat_map(|place| bytes.iter().skip(place).step_by(4).copied()).collect()
    }

    fn behind_head(scheme: u8, packed: &[u8], len: usize) -> Vec<u8> {
        let (p, l) = ((packed.len() as u32).to_le_bytes(), (len as u32).to_le_bytes());
        [&[VERSION, p[0], p[1], p[2], scheme, l[0], l[1], l[2]][..], packed].concat()
    }

    fn chunk(scheme: u8, bytes: &[u8], info: FrameInfo) -> Vec<u8> {
        let packed = match scheme {
            0 => bytes.to_vec(),
            1 => framed(bytes, info),
            _ => framed(&grouped(bytes), info),
        };
        behind_head(scheme, &packed, bytes.len())
    }

    fn only(bytes: &[u8]) -> Result<Option<Bytes>, ChunkError> {
        let mut unpacker = Unpacker::new();
        unpacker.push(bytes);
        unpacker.next_chunk()
    }

    #[test]
    fn bytes_that_were_sorted_by_four_are_put_back() {
        assert_eq!(ungrouped(&[0, 4, 8, 1, 5, 9, 2, 6, 3, 7]), (0..10).collect::<Vec<u8>>());
        for len in 0..9_u8 {
            let bytes: Vec<u8> = (0..len).collect();
            assert_eq!(ungrouped(&grouped(&bytes)), bytes);
        }
    }

    #[test]
    fn lengths_are_compared_before_room_is_made() {
        let head = |packed: [u8; 3], scheme, len: [u8; 3]| [&[0][..], &packed, &[scheme], &len].concat();
        for (scheme, packed, len) in [
            (0, [4, 0, 0], [5, 0, 0]),
            (1, [0, 0, 0], [5, 0, 0]),
            (1, [9, 0, 0], [0, 0, 0]),
            (1, [9, 0, 0], [0xff; 3]),
            (2, [9, 0, 0], [1, 0, 2]),
            (2, [0xff; 3], [9, 0, 0]),
            (0, [1, 0, 2], [1, 0, 2]),
        ] {
            let error = only(&head(packed, scheme, len)).unwrap_err();
            assert!(matches!(error, ChunkError::Length { .. }), "{scheme} {packed:?} {len:?}: {error}");
        }
        for (version, scheme) in [(1, 0), (0, 3), (b'X', b'E'), (0, 99)] {
            let error = only(&[version, 1, 0, 0, scheme, 1, 0, 0]).unwrap_err();
            assert_eq!(error, ChunkError::Unknown { version, scheme });
        }
    }

    #[test]
    fn a_chunk_is_as_long_as_it_says() {
        let zeros = framed(&[0; MAX_CHUNK_BYTES], FrameInfo::new());
        for len in [1, MAX_CHUNK_BYTES - 1] {
            let error = only(&behind_head(1, &zeros, len)).unwrap_err();
            assert!(matches!(error, ChunkError::Packing { .. }), "{error}");
        }
        let short = framed(&[0; 9], FrameInfo::new());
        assert!(only(&behind_head(1, &short, 10)).is_err());
        assert!(only(&behind_head(2, b"no frame", 10)).is_err());
        // A frame that would unpack to far more is read no further than one byte beyond.
        let bomb = framed(&vec![0; 64 << 20], FrameInfo::new().block_size(BlockSize::Max4MB));
        let error = only(&behind_head(1, &bomb[..MAX_PACKED_BYTES.min(bomb.len())], 100)).unwrap_err();
        assert!(matches!(error, ChunkError::Packing { .. }), "{error}");
    }

    #[test]
    fn an_end_within_a_chunk_is_told() {
        let whole = chunk(1, &[7; 1000], FrameInfo::new());
        for cut in 1..whole.len() {
            let mut unpacker = Unpacker::new();
            unpacker.push(&whole[..cut]);
            assert_eq!(unpacker.next_chunk(), Ok(None));
            assert_eq!(unpacker.end(), Err(ChunkError::Cut));
        }
    }

    fn any_info() -> impl Strategy<Value = FrameInfo> {
        let sizes = prop::sample::select(vec![
            BlockSize::Auto,
            BlockSize::Max64KB,
            BlockSize::Max256KB,
            BlockSize::Max4MB,
        ]);
        (sizes, any::<[bool; 4]>()).prop_map(|(size, [linked, sums, sum, sized])| {
            let mode = if linked { BlockMode::Linked } else { BlockMode::Independent };
            let info = FrameInfo::new().block_size(size).block_mode(mode);
            let info = info.block_checksums(sums).content_checksum(sum);
            if sized { info.content_size(Some(0)) } else { info }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What was packed comes back, in whatever pieces it arrives.
        #[test]
        fn chunks_come_back(
            chunks in prop::collection::vec((0..3_u8, prop::collection::vec(0..5_u8, 1..9000), any_info()), 1..5),
            piece in 1..5000_usize,
        ) {
            let sized = |info: FrameInfo, bytes: &[u8]| match info.content_size {
                Some(_) => info.content_size(Some(bytes.len() as u64)),
                None => info,
            };
            let xorb: Vec<u8> =
                chunks.iter().flat_map(|(scheme, bytes, info)| chunk(*scheme, bytes, sized(info.clone(), bytes))).collect();
            let (mut unpacker, mut got) = (Unpacker::new(), Vec::new());
            for piece in xorb.chunks(piece) {
                unpacker.push(piece);
                while let Some(chunk) = unpacker.next_chunk().unwrap() {
                    got.push(chunk.to_vec());
                }
            }
            prop_assert!(unpacker.end().is_ok());
            prop_assert_eq!(got, chunks.into_iter().map(|(_, bytes, _)| bytes).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_panic(mut bytes: Vec<u8>, scheme in 0..4_u8, len in 0..300_u16, damage in prop::option::of(any::<prop::sample::Index>())) {
            let _ = only(&bytes);
            let mut whole = chunk(scheme.min(2), &[scheme; 300], FrameInfo::new());
            if let Some(at) = damage {
                let at = at.index(whole.len());
                whole[at] = whole[at].wrapping_add(1);
            }
            let _ = only(&whole);
            bytes.truncate(len.into());
            let _ = only(&behind_head(scheme, &bytes, len.into()));
        }
    }
}
