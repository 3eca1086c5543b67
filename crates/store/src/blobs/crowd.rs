//! What this node does about files that it fetches from an origin, for others that fetch the same ones now: a crowd.
//!
//! A draft's bytes are known by nobody's hash before their end. So those that fetch the same file hand each other what
//! an origin sent them as just that: as parts of a draft, which nobody is shown before all of it has its digest.
//!
//! **Invariants:** what leaves is what an origin sent to this node: each piece is hashed once it is on the disk, and
//! again whenever it is read for somebody. Only what was offered leaves, and a seat that was retracted offers nothing.
//! **Not here:** who fetches which part, and whether anybody may have it (`mirror`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use hubless_types::{BlobHash, ByteRange, FileDigest, GROUP_BYTES, GroupSet, NodeId};
use tokio::sync::Notify;

use super::Blobs;
use super::draft::{Draft, DraftCore, lock};
use crate::error::{Result, StoreError};

/// Groups that are hashed together: 1 MiB. Offers begin and end with such a piece, or with the file.
pub const PIECE_GROUPS: u64 = 64;
/// Askers that a seat remembers until somebody looks.
pub(super) const MAX_ASKERS: usize = 64;

/// What a node says that it does about a file which it fetches from an origin. None of it is proven.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DraftNews {
    /// The file's length in bytes.
    pub size: u64,
    /// Groups that it can send.
    pub offers: GroupSet,
    /// Groups that it has asked an origin for, and that are still to come.
    pub awaits: GroupSet,
    /// Groups that it has, wherever they came from.
    pub have: GroupSet,
}

/// The files for which this node sits in a crowd.
#[derive(Debug, Default)]
pub(super) struct Crowds {
    seats: Mutex<HashMap<FileDigest, Weak<Seat>>>,
    stirred: Arc<Notify>,
}

/// This node's place in the crowd of one file. Dropping it leaves the crowd.
#[derive(Debug)]
pub struct CrowdSeat {
    seat: Arc<Seat>,
    blobs: Blobs,
}

#[derive(Debug)]
struct Seat {
    digest: FileDigest,
    size: u64,
    retracted: AtomicBool,
    state: Mutex<SeatState>,
}

#[derive(Debug, Default)]
struct SeatState {
    /// Kept for as long as the seat: what is whole is offered on until others can have it as a blob.
    draft: Option<Arc<DraftCore>>,
    awaits: GroupSet,
    offers: GroupSet,
    /// What each offered piece hashed to when it had come.
    pieces: BTreeMap<u64, [u8; 32]>,
    askers: VecDeque<NodeId>,
    asked: bool,
}

impl Blobs {
    /// Takes a seat in the crowd of a file; `None` if this node has one already. Whoever asks hears of it from now on.
    pub fn join_crowd(&self, digest: FileDigest, size: u64) -> Option<CrowdSeat> {
        let mut seats = lock(&self.0.crowds.seats);
        if seats.get(&digest).is_some_and(|seat| seat.strong_count() > 0) {
            return None;
        }
        let seat = Seat { digest, size, retracted: AtomicBool::new(false), state: Mutex::default() };
        let seat = Arc::new(seat);
        seats.insert(digest, Arc::downgrade(&seat));
        Some(CrowdSeat { seat, blobs: self.clone() })
    }

    /// Wakes whoever waits when somebody new asks about a file for which this node has a seat.
    pub fn crowd_stirred(&self) -> Arc<Notify> {
        Arc::clone(&self.0.crowds.stirred)
    }

    /// Notes that `node` asks about these files: it fetches them, too.
    pub fn crowd_asked(&self, digests: &[FileDigest], node: NodeId) {
        let mut stirs = false;
        for seat in digests.iter().filter_map(|digest| self.seat(digest)) {
            let mut state = lock(&seat.state);
            state.asked = true;
            if state.askers.len() < MAX_ASKERS && !state.askers.contains(&node) {
                state.askers.push_back(node);
                stirs = true;
            }
        }
        if stirs {
            self.0.crowds.stirred.notify_one();
        }
    }

    /// What this node does about a file; `None` if it has no seat, or may not tell.
    pub fn crowd_news(&self, digest: &FileDigest) -> Option<DraftNews> {
        let seat = self.seat(digest)?;
        let state = lock(&seat.state);
        let have = state.draft.as_ref().map(|draft| draft.state().have.clone()).unwrap_or_default();
        let (offers, awaits) = (state.offers.clone(), state.awaits.clone());
        Some(DraftNews { size: seat.size, offers, awaits, have })
    }

    /// The bytes of groups that were offered, piece by piece; `None` if they were not, or are no longer.
    pub fn offered(&self, digest: &FileDigest, groups: Range<u64>) -> Option<Offered> {
        let seat = self.seat(digest)?;
        let state = lock(&seat.state);
        let draft = state.draft.clone()?;
        if groups.is_empty() || !state.offers.contains(groups.clone()) {
            return None;
        }
        let pieces = state.pieces.range(groups.start / PIECE_GROUPS..groups.end.div_ceil(PIECE_GROUPS));
        let pieces = pieces.map(|(piece, hash)| (*piece, *hash)).collect();
        drop(state);
        Some(Offered { seat, draft, groups, pieces })
    }

    fn seat(&self, digest: &FileDigest) -> Option<Arc<Seat>> {
        let seat = lock(&self.0.crowds.seats).get(digest).and_then(Weak::upgrade)?;
        (!seat.retracted.load(Ordering::Acquire)).then_some(seat)
    }
}

impl CrowdSeat {
    /// Which file.
    pub fn digest(&self) -> FileDigest {
        self.seat.digest
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.seat.size
    }

    /// Tells of `draft` from now on; what was offered of another is forgotten.
    pub fn fills(&self, draft: &Draft) {
        let mut state = lock(&self.seat.state);
        *state = SeatState {
            draft: Some(Arc::clone(&draft.0.core)),
            askers: std::mem::take(&mut state.askers),
            asked: state.asked,
            ..SeatState::default()
        };
    }

    /// Tells which groups an origin was asked for.
    pub fn awaits(&self, groups: GroupSet) {
        lock(&self.seat.state).awaits = groups;
    }

    /// Whether anybody ever asked.
    pub fn was_asked(&self) -> bool {
        lock(&self.seat.state).asked
    }

    /// Nodes that asked since this was last called.
    pub fn askers(&self) -> Vec<NodeId> {
        lock(&self.seat.state).askers.drain(..).collect()
    }

    /// What is offered so far.
    pub fn offers(&self) -> GroupSet {
        lock(&self.seat.state).offers.clone()
    }

    /// Offers `groups` of `draft`, which are here and came from an origin that gives them to everybody. They are
    /// whole pieces of 1 MiB, or end with the file; others are passed over. Blocks: each piece is hashed.
    ///
    /// # Errors
    /// Of reading the disk.
    pub fn offer(&self, draft: &Draft, groups: Range<u64>) -> Result<()> {
        let end = draft.size().div_ceil(GROUP_BYTES);
        let mut buffer = Vec::new();
        for piece in groups.start.div_ceil(PIECE_GROUPS)..groups.end.div_ceil(PIECE_GROUPS) {
            let of_piece = piece * PIECE_GROUPS..((piece + 1) * PIECE_GROUPS).min(end);
            if of_piece.end > groups.end {
                break;
            }
            draft.0.read(ByteRange::of_groups(of_piece.clone(), draft.size()), &mut buffer)?;
            let hash = *blake3::hash(&buffer).as_bytes();
            let mut state = lock(&self.seat.state);
            state.pieces.insert(piece, hash);
            state.offers.insert(of_piece);
        }
        Ok(())
    }

    /// Nothing of it is told or given to anybody any more.
    pub fn retract(&self) {
        self.seat.retracted.store(true, Ordering::Release);
    }
}

impl Drop for CrowdSeat {
    fn drop(&mut self) {
        let mut seats = lock(&self.blobs.0.crowds.seats);
        if seats.get(&self.seat.digest).is_some_and(|seat| std::ptr::eq(seat.as_ptr(), &*self.seat)) {
            seats.remove(&self.seat.digest);
        }
    }
}

/// Offered bytes on their way out, a piece of at most 1 MiB at a time. Reading blocks.
#[derive(Debug)]
pub struct Offered {
    seat: Arc<Seat>,
    draft: Arc<DraftCore>,
    groups: Range<u64>,
    pieces: VecDeque<(u64, [u8; 32])>,
}

impl Iterator for Offered {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        let (piece, hash) = self.pieces.pop_front()?;
        if self.seat.retracted.load(Ordering::Acquire) {
            self.pieces.clear();
            return Some(Err(StoreError::DraftGone { digest: self.seat.digest }));
        }
        let end = self.draft.size.div_ceil(GROUP_BYTES);
        let of_piece = piece * PIECE_GROUPS..((piece + 1) * PIECE_GROUPS).min(end);
        let whole = ByteRange::of_groups(of_piece.clone(), self.draft.size);
        let mut bytes = vec![0; whole.len() as usize];
        if let Err(error) = self.draft.data.read_exact_at(&mut bytes, whole.start) {
            return Some(Err(StoreError::io(&self.draft.data_path, error)));
        }
        if *blake3::hash(&bytes).as_bytes() != hash {
            let wrong = std::io::Error::other("the disk gives other bytes than came from the origin");
            return Some(Err(StoreError::io(&self.draft.data_path, wrong)));
        }
        let wanted = self.groups.start.max(of_piece.start)..self.groups.end.min(of_piece.end);
        let wanted = ByteRange::of_groups(wanted, self.draft.size);
        let bytes = Bytes::from(bytes);
        Some(Ok(bytes.slice((wanted.start - whole.start) as usize..(wanted.end - whole.start) as usize)))
    }
}

impl Draft {
    /// Hashes what is left, and says whether it is the file that it was taken for; all of it must be here. Nothing of
    /// it changes: [`Draft::finish`] comes after it, and takes moments then. Blocks.
    ///
    /// # Errors
    /// As there.
    pub fn is_right(&self) -> Result<bool> {
        self.0.hashed_to_end().map(|(_, found)| found == Some(self.0.digest))
    }

    /// What the bytes of `groups` hash to, to compare with [`Blobs::piece_hash`]. Blocks.
    ///
    /// # Errors
    /// Of reading the disk.
    pub fn piece_hash(&self, groups: Range<u64>) -> Result<BlobHash> {
        hash_of(ByteRange::of_groups(groups, self.size()), |range, buffer| self.0.read(range, buffer))
    }
}

impl Blobs {
    /// What the bytes of `groups` of a whole blob hash to. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotHere`]; of reading the disk.
    pub fn piece_hash(&self, hash: &BlobHash, groups: Range<u64>) -> Result<BlobHash> {
        let file = self.open(hash)?.ok_or(StoreError::NotHere { hash: *hash })?;
        hash_of(ByteRange::of_groups(groups, file.size()), |range, buffer| {
            *buffer = file.read(range)?.to_vec();
            Ok(())
        })
    }
}

fn hash_of(
    range: ByteRange,
    mut read: impl FnMut(ByteRange, &mut Vec<u8>) -> Result<()>,
) -> Result<BlobHash> {
    let (mut hasher, mut buffer, mut at) = (blake3::Hasher::new(), Vec::new(), range.start);
    while at < range.end {
        let next = range.end.min(at + PIECE_GROUPS * GROUP_BYTES);
        read(ByteRange::new(at, next), &mut buffer)?;
        hasher.update(&buffer);
        at = next;
    }
    Ok(BlobHash::from_bytes(*hasher.finalize().as_bytes()))
}
