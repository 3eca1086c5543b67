//! Reading a pack that is here whole: bytes in, objects out.
//!
//! An object is believed to be what its content hashes to; nothing else in a pack names it. Deltas are resolved
//! from their bases outwards, so a chain costs no stack, and one whose base is not in the pack is an error.
//!
//! **Invariant:** what it costs is bounded by [`PackLimits`] whatever the pack says: every length that it gives
//! is counted before a byte is inflated or copied.

use std::collections::{BTreeMap, HashMap};

use flate2::{Decompress, FlushDecompress, Status};
use sha1_checked::Sha1;

use super::delta;
use crate::ProofError;
use crate::hash::object_id;

/// Longest chain of deltas that is followed; git makes none longer than 4,095.
pub const MAX_DELTA_DEPTH: usize = 4095;
/// `PACK`, version, number of objects.
const HEAD: usize = 12;
/// The SHA-1 at the end.
const TRAILER: usize = 20;
/// Fewest bytes that an object takes: its head, and the shortest zlib stream.
const MIN_OBJECT: usize = 9;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A commit.
    Commit,
    /// A folder.
    Tree,
    /// A file.
    Blob,
    /// An annotated tag.
    Tag,
}

impl ObjectKind {
    /// As git spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// What a pack may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackLimits {
    /// Its length, in bytes.
    pub bytes: usize,
    /// Its objects.
    pub objects: usize,
    /// All its objects and deltas together, inflated, in bytes.
    pub inflated: u64,
    /// Longest chain of deltas, at most [`MAX_DELTA_DEPTH`].
    pub depth: usize,
    /// Blobs above this length, in bytes, are hashed and measured, and their content is dropped.
    pub keep_blob: u64,
}

/// One object of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackObject {
    /// What it is.
    pub kind: ObjectKind,
    /// What it hashes to.
    pub id: [u8; 20],
    /// How long it is, in bytes.
    pub size: u64,
    /// The content (no header), unless it is a blob above [`PackLimits::keep_blob`].
    pub content: Option<Vec<u8>>,
}

const fn malformed(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "git pack", why }
}

fn at_most(what: &'static str, size: u64, limit: u64) -> Result<(), ProofError> {
    if size > limit { Err(ProofError::TooLarge { what, size, limit }) } else { Ok(()) }
}

/// How an object stands in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole(ObjectKind),
    /// Differs from the object that begins this many bytes before it.
    Before(u64),
    /// Differs from the object of this id.
    From([u8; 20]),
}

struct Entry {
    form: Form,
    /// Inflated: the object, or its delta.
    data: Vec<u8>,
}

/// The entries of a pack, by where they begin.
type Entries = BTreeMap<usize, Entry>;

/// Reads a whole pack, in the order in which its objects resolve.
///
/// # Errors
/// [`ProofError::TooLarge`] over a limit; [`ProofError::Malformed`] if it is no pack, its checksum is wrong, or a
/// delta's base is not in it; [`ProofError::Collision`] for an object that bears the marks of an attack on SHA-1.
pub fn read_pack(pack: &[u8], limits: &PackLimits) -> Result<Vec<PackObject>, ProofError> {
    at_most("a git pack, in bytes", pack.len() as u64, limits.bytes as u64)?;
    let body = pack.len().checked_sub(TRAILER).and_then(|end| pack.get(..end));
    let body = body.ok_or_else(|| malformed("it is cut off"))?;
    let count = read_head(body)?;
    at_most("objects of a git pack", u64::from(count), limits.objects as u64)?;
    if count as usize > body.len() / MIN_OBJECT {
        return Err(malformed("it is cut off"));
    }
    if pack.get(body.len()..) != Some(&Sha1::try_digest(body).hash()[..]) {
        return Err(malformed("its checksum is wrong"));
    }
    let mut left = limits.inflated;
    let entries = read_entries(body, count, &mut left)?;
    Resolve { entries, left, limits, found: Vec::with_capacity(count as usize) }.run()
}

/// What the first object of a pack is, and its length in bytes, from the pack's first bytes (32 are enough).
/// `None` where more are needed.
///
/// # Errors
/// [`ProofError::Malformed`] if it is no pack, is empty, or begins with a delta.
pub fn peek_object(front: &[u8]) -> Result<Option<(ObjectKind, u64, usize)>, ProofError> {
    if front.len() < HEAD {
        return Ok(None);
    }
    if read_head(front)? == 0 {
        return Err(malformed("it is empty"));
    }
    let mut at = HEAD;
    match read_entry_head(front, &mut at) {
        Ok((Form::Whole(kind), size)) => Ok(Some((kind, size, at))),
        Ok(_) => Err(malformed("its first object is a delta")),
        Err(_) if front.len() < 32 => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_head(pack: &[u8]) -> Result<u32, ProofError> {
    let (head, _) = pack.split_first_chunk::<HEAD>().ok_or_else(|| malformed("it is cut off"))?;
    let [b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, count @ ..] = head else {
        return Err(malformed("it begins as no pack does"));
    };
    Ok(u32::from_be_bytes(*count))
}

fn read_entries(body: &[u8], count: u32, left: &mut u64) -> Result<Entries, ProofError> {
    let mut entries = Entries::new();
    let mut zlib = Decompress::new(true);
    let mut at = HEAD;
    for _ in 0..count {
        let start = at;
        let (form, size) = read_entry_head(body, &mut at)?;
        spend(left, size)?;
        let (data, used) = inflate(&mut zlib, body.get(at..).unwrap_or_default(), size)?;
        at += used;
        entries.insert(start, Entry { form, data });
    }
    if at != body.len() {
        return Err(malformed("something follows its end"));
    }
    Ok(entries)
}

/// Counts `size` bytes that are about to be made.
fn spend(left: &mut u64, size: u64) -> Result<(), ProofError> {
    at_most("the objects of a git pack, in bytes", size, *left)?;
    *left -= size;
    Ok(())
}

fn read_entry_head(pack: &[u8], at: &mut usize) -> Result<(Form, u64), ProofError> {
    let first = next_byte(pack, at)?;
    let (mut size, mut shift, mut byte) = (u64::from(first & 0x0f), 4, first);
    while byte >= 0x80 {
        if shift > 56 {
            return Err(malformed("a length overflows"));
        }
        byte = next_byte(pack, at)?;
        size |= u64::from(byte & 0x7f) << shift;
        shift += 7;
    }
    let form = match first >> 4 & 7 {
        1 => Form::Whole(ObjectKind::Commit),
        2 => Form::Whole(ObjectKind::Tree),
        3 => Form::Whole(ObjectKind::Blob),
        4 => Form::Whole(ObjectKind::Tag),
        6 => Form::Before(read_distance(pack, at)?),
        7 => {
            let id = pack.get(*at..).and_then(|rest| rest.split_first_chunk::<20>());
            *at += 20;
            Form::From(*id.ok_or_else(|| malformed("it is cut off"))?.0)
        }
        _ => return Err(malformed("an object is of no kind that git knows")),
    };
    Ok((form, size))
}

/// Big-endian, 7 bits a byte, each further byte adding one to what is before it.
fn read_distance(pack: &[u8], at: &mut usize) -> Result<u64, ProofError> {
    let mut byte = next_byte(pack, at)?;
    let mut distance = u64::from(byte & 0x7f);
    while byte >= 0x80 {
        byte = next_byte(pack, at)?;
        distance = (distance + 1)
            .checked_mul(0x80)
            .map(|d| d | u64::from(byte & 0x7f))
            .ok_or_else(|| malformed("a distance overflows"))?;
    }
    Ok(distance)
}

fn next_byte(pack: &[u8], at: &mut usize) -> Result<u8, ProofError> {
    let byte = pack.get(*at).copied().ok_or_else(|| malformed("it is cut off"))?;
    *at += 1;
    Ok(byte)
}

/// Largest piece by which a buffer grows before a byte of it is there.
const INFLATE_STEP: usize = 64 * 1024;

/// Inflates exactly `size` bytes; gives them and how many bytes of `input` they took.
fn inflate(zlib: &mut Decompress, input: &[u8], size: u64) -> Result<(Vec<u8>, usize), ProofError> {
    let size = usize::try_from(size).map_err(|_| malformed("an object is too long"))?;
    let mut out = Vec::with_capacity(size.min(INFLATE_STEP));
    zlib.reset(true);
    loop {
        let (read, made) = (zlib.total_in() as usize, out.len());
        if made == out.capacity() && made < size {
            out.reserve_exact(made.max(INFLATE_STEP).min(size - made));
        }
        // One byte beyond the end shows a stream that is longer than it says.
        let mut beyond = [0_u8; 1];
        let input = input.get(read..).unwrap_or_default();
        let status = if made < size {
            zlib.decompress_vec(input, &mut out, FlushDecompress::None)
        } else {
            zlib.decompress(input, &mut beyond, FlushDecompress::None)
        };
        let status = status.map_err(|_| malformed("an object does not inflate"))?;
        if out.len() > size || zlib.total_out() > size as u64 {
            return Err(malformed("an object is longer than it says"));
        }
        match status {
            Status::StreamEnd if out.len() == size => return Ok((out, zlib.total_in() as usize)),
            Status::StreamEnd => return Err(malformed("an object is shorter than it says")),
            _ if zlib.total_in() as usize == read && out.len() == made => {
                return Err(malformed("an object is cut off"));
            }
            _ => {}
        }
    }
}

/// An object that is known, and is there until the deltas that need it are resolved.
struct Ready {
    at: usize,
    kind: ObjectKind,
    id: [u8; 20],
    content: Vec<u8>,
    depth: usize,
}

struct Resolve<'a> {
    entries: Entries,
    left: u64,
    limits: &'a PackLimits,
    found: Vec<PackObject>,
}

impl Resolve<'_> {
    fn run(mut self) -> Result<Vec<PackObject>, ProofError> {
        let (mut by_place, mut by_id) = self.children()?;
        let mut ready = Vec::new();
        let wholes: Vec<usize> = self
            .entries
            .iter()
            .filter(|(_, e)| matches!(e.form, Form::Whole(_)))
            .map(|(at, _)| *at)
            .collect();
        for at in wholes {
            let Some(Entry { form: Form::Whole(kind), data }) = self.entries.remove(&at) else { continue };
            ready.push(Self::ready(at, kind, data, 0)?);
            // Depth first: contents are dropped as soon as what differs from them is done.
            while let Some(base) = ready.pop() {
                let places = by_place.remove(&base.at).unwrap_or_default();
                for at in places.into_iter().chain(by_id.remove(&base.id).unwrap_or_default()) {
                    let Some(entry) = self.entries.remove(&at) else { continue };
                    ready.push(self.apply(at, &base, &entry.data)?);
                }
                self.keep(base);
            }
        }
        if self.entries.is_empty() { Ok(self.found) } else { Err(malformed("a delta's base is not in it")) }
    }

    /// Which entries differ from the one at a place, and which from an id.
    #[allow(clippy::type_complexity, reason = "two indexes, named by their uses above")]
    fn children(&self) -> Result<(HashMap<usize, Vec<usize>>, HashMap<[u8; 20], Vec<usize>>), ProofError> {
        let (mut by_place, mut by_id) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (&at, entry) in &self.entries {
            match entry.form {
                Form::Whole(_) => {}
                Form::From(id) => by_id.entry(id).or_default().push(at),
                Form::Before(distance) => {
                    let base = usize::try_from(distance).ok().and_then(|d| at.checked_sub(d));
                    let base = base.filter(|base| *base != at && self.entries.contains_key(base));
                    let base = base.ok_or_else(|| malformed("a delta's base begins nowhere"))?;
                    by_place.entry(base).or_default().push(at);
                }
            }
        }
        Ok((by_place, by_id))
    }

    fn apply(&mut self, at: usize, base: &Ready, instructions: &[u8]) -> Result<Ready, ProofError> {
        let depth = base.depth + 1;
        at_most("a chain of deltas", depth as u64, self.limits.depth.min(MAX_DELTA_DEPTH) as u64)?;
        spend(&mut self.left, delta::read_head(instructions)?.0.result)?;
        Self::ready(at, base.kind, delta::apply(&base.content, instructions)?, depth)
    }

    fn ready(at: usize, kind: ObjectKind, content: Vec<u8>, depth: usize) -> Result<Ready, ProofError> {
        let id = object_id(kind.as_str(), &content)?;
        Ok(Ready { at, kind, id, content, depth })
    }

    fn keep(&mut self, object: Ready) {
        let size = object.content.len() as u64;
        let dropped = object.kind == ObjectKind::Blob && size > self.limits.keep_blob;
        let content = (!dropped).then_some(object.content);
        self.found.push(PackObject { kind: object.kind, id: object.id, size, content });
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
