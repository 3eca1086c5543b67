//! Frames of git's protocol from a stranger: whole or in pieces, the same frames come out.
#![no_main]

use hubless_proof::{PacketBuffer, Packets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut whole = Packets::new(bytes);
    let mut buffer = PacketBuffer::default();
    for piece in bytes.chunks(7) {
        buffer.push(piece);
        while let Ok(Some(packet)) = buffer.next_packet() {
            assert_eq!(whole.next(), Some(Ok(packet)));
        }
    }
});
