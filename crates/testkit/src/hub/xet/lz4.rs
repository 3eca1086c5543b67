//! LZ4 frames, written by hand: what reads them must not depend on one library's writer.
//!
//! **Not here:** reading; speed.

/// Shortest match, in bytes.
const SHORTEST: usize = 4;
/// No match begins in so many last bytes, and none reaches the last five.
const TAIL: usize = 12;
const LAST_LITERALS: usize = 5;
/// Farthest match, in bytes.
const FARTHEST: usize = 65_535;
/// Places that are remembered, by a hash of the four bytes there.
const PLACES: usize = 4096;
/// What a number has that does not fit four bits.
const NIBBLE: usize = 15;

/// One frame of independent blocks of at most 64 KiB, without checksums but the header's.
pub(super) fn frame(bytes: &[u8]) -> Vec<u8> {
    let descriptor = [0x60, 0x40];
    let mut out = vec![0x04, 0x22, 0x4d, 0x18];
    out.extend(descriptor);
    out.push((xxh32(&descriptor) >> 8) as u8);
    for piece in bytes.chunks(64 * 1024) {
        let packed = block(piece);
        let (len, content) = match packed.len() < piece.len() {
            true => (packed.len() as u32, &packed[..]),
            false => (piece.len() as u32 | 1 << 31, piece),
        };
        out.extend(len.to_le_bytes());
        out.extend(content);
    }
    out.extend([0; 4]);
    out
}

fn block(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seen = [usize::MAX; PLACES];
    let (mut at, mut literals) = (0, 0);
    while at + TAIL <= bytes.len() {
        let Some(word) = bytes[at..].first_chunk::<SHORTEST>() else { break };
        let place = u32::from_le_bytes(*word).wrapping_mul(2_654_435_761) >> 20;
        let found = std::mem::replace(&mut seen[place as usize], at);
        let same = found != usize::MAX && at - found <= FARTHEST && bytes[found..].starts_with(word);
        match Some(found).filter(|_| same) {
            Some(found) => {
                let most = bytes.len() - LAST_LITERALS - at;
                let same = (0..most).take_while(|i| bytes[found + i] == bytes[at + i]).count();
                sequence(&bytes[literals..at], Some((at - found, same)), &mut out);
                at += same;
                literals = at;
            }
            None => at += 1,
        }
    }
    sequence(&bytes[literals..], None, &mut out);
    out
}

fn sequence(literals: &[u8], found: Option<(usize, usize)>, out: &mut Vec<u8>) {
    let same = found.map_or(0, |(_, same)| same - SHORTEST);
    out.push((literals.len().min(NIBBLE) << 4 | same.min(NIBBLE)) as u8);
    rest(literals.len(), out);
    out.extend(literals);
    if let Some((back, _)) = found {
        out.extend((back as u16).to_le_bytes());
        rest(same, out);
    }
}

fn rest(number: usize, out: &mut Vec<u8>) {
    let Some(mut left) = number.checked_sub(NIBBLE) else { return };
    while left >= 255 {
        out.push(255);
        left -= 255;
    }
    out.push(left as u8);
}

/// xxHash of fewer than four bytes, seed 0.
fn xxh32(bytes: &[u8]) -> u32 {
    let mut hash = 374_761_393_u32.wrapping_add(bytes.len() as u32);
    for byte in bytes {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(374_761_393));
        hash = hash.rotate_left(11).wrapping_mul(2_654_435_761);
    }
    hash = (hash ^ hash >> 15).wrapping_mul(2_246_822_519);
    hash = (hash ^ hash >> 13).wrapping_mul(3_266_489_917);
    hash ^ hash >> 16
}
