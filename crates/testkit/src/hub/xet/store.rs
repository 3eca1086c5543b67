//! A file in Xet: cut where its content says, each chunk stored once, and what a range of it is made of.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{XetPacking, lz4};

/// Chunks of a xorb: few, so that files of some megabytes have several.
const XORB_CHUNKS: usize = 24;
const SHORTEST_CHUNK: usize = 8 * 1024;
const LONGEST_CHUNK: usize = 128 * 1024;
/// One in so many places ends a chunk.
const CUT_MASK: u64 = 0xffff << 40;

/// A file's chunks.
pub(crate) struct Stored {
    chunks: Vec<Chunk>,
    xorbs: Vec<Xorb>,
}

/// A place in the file, and in a xorb.
struct Chunk {
    from: u64,
    len: u64,
    xorb: usize,
    index: usize,
}

/// Stored bytes, and where each chunk begins in them (and the end).
struct Xorb {
    bytes: Vec<u8>,
    starts: Vec<u64>,
}

impl Stored {
    pub(crate) fn of(file: &[u8], packing: XetPacking) -> Self {
        let mut stored = Self { chunks: Vec::new(), xorbs: Vec::new() };
        let mut known: HashMap<[u8; 32], (usize, usize)> = HashMap::new();
        let mut from = 0;
        while from < file.len() {
            let len = cut(&file[from..]);
            let content = &file[from..from + len];
            let hash: [u8; 32] = Sha256::digest(content).into();
            let (xorb, index) = match known.get(&hash) {
                Some(place) => *place,
                None => stored.put(content, packing),
            };
            known.insert(hash, (xorb, index));
            stored.chunks.push(Chunk { from: from as u64, len: len as u64, xorb, index });
            from += len;
        }
        stored
    }

    fn put(&mut self, content: &[u8], packing: XetPacking) -> (usize, usize) {
        if self.xorbs.last().is_none_or(|xorb| xorb.starts.len() > XORB_CHUNKS) {
            self.xorbs.push(Xorb { bytes: Vec::new(), starts: vec![0] });
        }
        let place = self.xorbs.len() - 1;
        let xorb = &mut self.xorbs[place];
        let index = xorb.starts.len() - 1;
        xorb.bytes.extend(packed(content, packing.scheme(index)));
        xorb.starts.push(xorb.bytes.len() as u64);
        (place, index)
    }

    /// Bytes of the whole file.
    pub(crate) fn len(&self) -> u64 {
        self.chunks.last().map_or(0, |chunk| chunk.from + chunk.len)
    }

    /// A xorb's bytes.
    pub(crate) fn xorb(&self, number: usize) -> Option<&[u8]> {
        self.xorbs.get(number).map(|xorb| &xorb.bytes[..])
    }

    /// What `range` is made of; `url` says where bytes of a xorb are.
    pub(crate) fn plan(&self, range: Range<u64>, url: impl Fn(usize, &Range<u64>) -> String) -> Value {
        let within = |chunk: &&Chunk| chunk.from < range.end && range.start < chunk.from + chunk.len;
        let chunks: Vec<_> = self.chunks.iter().filter(within).collect();
        let mut terms: Vec<(usize, Range<usize>, u64)> = Vec::new();
        let mut needed: HashMap<usize, Range<usize>> = HashMap::new();
        for chunk in &chunks {
            let all = needed.entry(chunk.xorb).or_insert(chunk.index..chunk.index + 1);
            *all = all.start.min(chunk.index)..all.end.max(chunk.index + 1);
            match terms.last_mut() {
                Some((xorb, run, bytes)) if *xorb == chunk.xorb && run.end == chunk.index => {
                    run.end += 1;
                    *bytes += chunk.len;
                }
                _ => terms.push((chunk.xorb, chunk.index..chunk.index + 1, chunk.len)),
            }
        }
        let terms = terms.into_iter().map(|(xorb, run, bytes)| {
            json!({ "hash": name(xorb), "unpacked_length": bytes, "range": { "start": run.start, "end": run.end } })
        });
        let fetches = needed.into_iter().map(|(xorb, run)| {
            let starts = &self.xorbs[xorb].starts;
            let bytes = starts[run.start]..starts[run.end];
            let place = json!({
                "range": { "start": run.start, "end": run.end },
                "url": url(xorb, &bytes),
                "url_range": { "start": bytes.start, "end": bytes.end - 1 },
            });
            (name(xorb), json!([place]))
        });
        json!({
            "offset_into_first_range": range.start - chunks.first().map_or(0, |chunk| chunk.from),
            "terms": terms.collect::<Vec<_>>(),
            "fetch_info": fetches.collect::<Map<_, _>>(),
        })
    }
}

fn name(xorb: usize) -> String {
    hex::encode(Sha256::digest(xorb.to_le_bytes()))
}

/// Where the first chunk of `bytes` ends: at a place that the bytes before it choose.
fn cut(bytes: &[u8]) -> usize {
    let most = bytes.len().min(LONGEST_CHUNK);
    let mut hash = 0_u64;
    for (i, byte) in bytes.iter().enumerate().take(most) {
        // The last 64 bytes count: older ones are shifted out.
        hash = (hash << 1).wrapping_add((u64::from(*byte) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if i + 1 >= SHORTEST_CHUNK && hash & CUT_MASK == 0 {
            return i + 1;
        }
    }
    most
}

fn packed(content: &[u8], scheme: u8) -> Vec<u8> {
    let body = match scheme {
        0 => content.to_vec(),
        1 => lz4::frame(content),
        _ => {
            let sorted: Vec<u8> =
                (0..4).flat_map(|place| content.iter().skip(place).step_by(4).copied()).collect();
            lz4::frame(&sorted)
        }
    };
    let (p, l) = ((body.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes());
    [&[0, p[0], p[1], p[2], scheme, l[0], l[1], l[2]], &body[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_follow_the_content_and_are_stored_once() {
        let mut state = 7_u64;
        let block: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(1 << 20)
        .collect();
        let file = [&block[..], b"something between", &block, &block].concat();
        let stored = Stored::of(&file, XetPacking::Plain);
        let bytes: usize = (0..).map_while(|i| stored.xorb(i)).map(<[u8]>::len).sum();
        assert_eq!(stored.len(), file.len() as u64);
        assert!(stored.xorbs.len() > 1 && bytes < file.len() / 2, "{bytes} bytes are stored");
        let plan = stored.plan(100..file.len() as u64, |xorb, _| format!("x{xorb}"));
        assert!(plan["terms"].as_array().unwrap().len() > plan["fetch_info"].as_object().unwrap().len());
    }
}
