//! Chunks of a xorb from a stranger: whatever comes unpacks within its bound, in one piece or byte by byte.
#![no_main]

use hubless_origin::xet::{MAX_CHUNK_BYTES, Unpacker};
use libfuzzer_sys::fuzz_target;

/// The lengths of what comes out, and whether it ended well.
fn unpack<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<usize>, bool) {
    let (mut unpacker, mut lengths) = (Unpacker::new(), Vec::new());
    for piece in pieces {
        unpacker.push(piece);
        loop {
            match unpacker.next_chunk() {
                Ok(Some(chunk)) => lengths.push(chunk.len()),
                Ok(None) => break,
                Err(_) => return (lengths, false),
            }
        }
    }
    (lengths, unpacker.end().is_ok())
}

fuzz_target!(|bytes: &[u8]| {
    let whole = unpack(std::iter::once(bytes));
    assert!(whole.0.iter().all(|len| (1..=MAX_CHUNK_BYTES).contains(len)));
    assert_eq!(whole, unpack(bytes.chunks(1)));
    // Behind a head that fits, so that more than the first comparison is reached.
    if let (Some((first, frame)), true) = (bytes.split_first(), bytes.len() < 4096) {
        let (packed, len) = ((frame.len() as u32).to_le_bytes(), u32::from(*first) * 17);
        let len = len.to_le_bytes();
        let head = [0, packed[0], packed[1], packed[2], 1 + first % 2, len[0], len[1], len[2]];
        unpack([&head[..], frame].into_iter());
    }
});
