//! A file whose BLAKE3 root is not known yet, filled from an origin: by many hands, in any order.
//!
//! Nothing of it can be checked before all of it is here; so nothing of it is shown to anybody, and its digest, which
//! names it, decides at the end. Others that fill a draft of the same file are handed parts as such (`crowd`). Both hashes follow the front (what has arrived without a gap) while bytes arrive, so
//! that the end costs little.
//!
//! **Invariants:** the record of what is here is written after the bytes that it speaks of. No group is written twice:
//! what was hashed is what lies on the disk. A draft becomes a blob only if its bytes hash to its digest.

use std::fs::File;
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hubless_types::{BlobHash, ByteRange, FileDigest, GROUP_BYTES, GroupSet};
use tokio::sync::watch;

use super::draft_writer::DraftWriter;
use super::front::FrontTree;
use super::import::{DigestKind, Digester};
use super::partial::PERSIST_EVERY;
use super::{Imported, Inner};
use crate::catalogue::{Catalogue, DraftRecord, Place};
use crate::error::{Result, StoreError};

/// Bytes that are hashed between two looks at what has arrived.
const PIECE_BYTES: u64 = 1024 * 1024;
/// Bytes after which the disk itself is asked to take what has arrived: a power cut costs no more of a large file.
const SECURE_EVERY_BYTES: u64 = 1024 * 1024 * 1024;

/// A file that is being filled by an origin. Clones are the same draft; there is one a digest.
#[derive(Debug, Clone)]
pub struct Draft(pub(super) Arc<LiveDraft>);

/// What a whole draft turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The file: it is a blob now, not shared yet, and its link is proven.
    Is(Imported),
    /// Another file; all of it is dropped.
    IsNot {
        /// What it is; `None` if it was made to collide with another's SHA-1.
        found: Option<FileDigest>,
    },
}

/// The shared part of a [`Draft`].
#[derive(Debug)]
pub(super) struct LiveDraft {
    pub(super) core: Arc<DraftCore>,
    pub(super) blobs: Arc<Inner>,
}

/// What the threads that hash and sync have of a draft. It holds no handle of the store: the last one of those must not
/// go on such a thread, which nobody waits for then.
#[derive(Debug)]
pub(super) struct DraftCore {
    pub(super) digest: FileDigest,
    pub(super) size: u64,
    pub(super) data: File,
    /// `None` for a file of one group, which has no parents.
    pub(super) tree: Option<File>,
    pub(super) data_path: PathBuf,
    pub(super) tree_path: PathBuf,
    pub(super) state: Mutex<DraftState>,
    pub(super) front: Mutex<FrontTree>,
    pub(super) digester: Mutex<FrontDigest>,
    /// Held by whoever finishes it.
    pub(super) finishing: Mutex<()>,
    /// Whether a job to go on hashing is queued, for the tree and for the digest.
    pub(super) queued: [AtomicBool; 2],
    pub(super) changed: watch::Sender<u64>,
    pub(super) catalogue: Catalogue,
    pub(super) boot: [u8; 16],
}

impl Deref for LiveDraft {
    type Target = DraftCore;

    fn deref(&self) -> &DraftCore {
        &self.core
    }
}

/// What changes while it is filled.
#[derive(Debug)]
pub(super) struct DraftState {
    pub(super) have: GroupSet,
    /// Groups that somebody is writing at this moment.
    pub(super) busy: GroupSet,
    /// Groups that reached the disk itself.
    pub(super) safe: GroupSet,
    pub(super) persisted_at: Instant,
    pub(super) dirty: bool,
    /// Set when it is no longer a draft: it has become a blob, or was dropped.
    pub(super) settled: bool,
}

/// A digest that has come as far as `at`.
pub(super) struct FrontDigest {
    digester: Digester,
    at: u64,
}

impl FrontDigest {
    pub(super) fn new(digest: &FileDigest, size: u64) -> Self {
        Self { digester: Digester::new(DigestKind::of(digest), size), at: 0 }
    }
}

impl Draft {
    /// What git or LFS calls the file.
    pub fn digest(&self) -> FileDigest {
        self.0.digest
    }

    /// Its length in bytes, as whoever asked for it said.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Which groups are here, none of them checked.
    pub fn have(&self) -> GroupSet {
        self.0.state().have.clone()
    }

    /// Whether all of it is here, so that it can be finished.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// Tells how many groups are here, whenever that number grows.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// How many bytes have been hashed both ways so far: readers of the origin that stay near it keep the end cheap.
    pub fn hashed(&self) -> u64 {
        let tree = lock(&self.0.front).at();
        tree.min(lock(&self.0.digester).at)
    }

    /// Writes what arrives from byte `start` of the file on.
    pub fn writer(&self, start: u64) -> DraftWriter {
        DraftWriter::new(self.clone(), start)
    }

    /// Hashes what is left, and makes it a blob if it is the file that it was taken for: owned, not shared, with a
    /// proven link. Otherwise everything is dropped. Blocks; after bytes that came in order it takes moments.
    ///
    /// # Errors
    /// [`StoreError::DraftNotWhole`] if something is missing, [`StoreError::DraftGone`] if it was finished or
    /// discarded already; of reading the disk, after which it can be tried again.
    pub fn finish(&self) -> Result<Finished> {
        let live = &*self.0;
        let _alone = lock(&live.finishing);
        if live.is_settled() {
            return Err(StoreError::DraftGone { digest: live.digest });
        }
        let (root, found) = live.hashed_to_end()?;
        if found != Some(live.digest) {
            self.0.blobs.drop_draft(live)?;
            return Ok(Finished::IsNot { found });
        }
        let imported = Imported { digest: live.digest, hash: root, size: live.size };
        if !live.settle() {
            return Err(StoreError::DraftGone { digest: live.digest });
        }
        let tree = live.tree.is_some().then(|| live.tree_path.clone());
        let blobs = &self.0.blobs;
        if let Err(error) = blobs.adopt_files(&imported, Place::Owned, tree, Some(live.data_path.clone())) {
            live.state().settled = false;
            return Err(error);
        }
        blobs.remove_draft(&live.digest)?;
        Ok(Finished::Is(imported))
    }

    /// Drops all of it. Writers that are still at it fail.
    ///
    /// # Errors
    /// Of deleting the files or the record.
    pub fn discard(self) -> Result<()> {
        self.0.blobs.drop_draft(&self.0)
    }
}

impl DraftCore {
    pub(super) fn state(&self) -> MutexGuard<'_, DraftState> {
        lock(&self.state)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state().settled
    }

    /// Ends it as a draft; `false` if somebody else did already.
    pub(super) fn settle(&self) -> bool {
        !std::mem::replace(&mut self.state().settled, true)
    }

    /// Hashes what is left of a draft of which all is here: the root of its tree, and its digest (`None` if it was made
    /// to collide with another's SHA-1).
    pub(super) fn hashed_to_end(&self) -> Result<(BlobHash, Option<FileDigest>)> {
        if !self.is_complete() {
            return Err(StoreError::DraftNotWhole { digest: self.digest });
        }
        let (digested, built) = std::thread::scope(|scope| {
            let digesting = scope.spawn(|| self.advance_digest(u64::MAX));
            let built = self.advance_tree(u64::MAX);
            (digesting.join(), built)
        });
        built?;
        digested.unwrap_or_else(|_| Err(self.interrupted()))?;
        let root = lock(&self.front).root().ok_or_else(|| self.interrupted())?;
        Ok((root, lock(&self.digester).digester.clone().finish()))
    }

    fn is_complete(&self) -> bool {
        self.state().have == GroupSet::whole(self.size)
    }

    /// Bytes that are still to be written.
    pub(super) fn missing_bytes(&self) -> u64 {
        let state = self.state();
        if state.settled { 0 } else { self.size.saturating_sub(state.have.bytes(self.size)) }
    }

    fn interrupted(&self) -> StoreError {
        StoreError::io(&self.data_path, std::io::Error::other("hashing ended early"))
    }

    /// One past the last byte that has arrived without a gap from `at` on, which begins a group.
    pub(super) fn front_from(&self, at: u64) -> u64 {
        let groups = self.state().have.run_from(at / GROUP_BYTES);
        (at / GROUP_BYTES + groups).saturating_mul(GROUP_BYTES).min(self.size)
    }

    /// Builds the tree of what has arrived, at most about `budget` bytes; whether there is more to be done.
    pub(super) fn advance_tree(&self, budget: u64) -> Result<bool> {
        let (mut front, mut left) = (lock(&self.front), budget);
        let mut buffer = Vec::new();
        loop {
            let Some(bytes) = self.next_piece(front.at(), &mut buffer)? else { return Ok(false) };
            if left == 0 {
                return Ok(true);
            }
            left = left.saturating_sub(bytes.len() as u64);
            front.push(bytes, self.tree.as_ref()).map_err(|e| StoreError::io(&self.tree_path, e))?;
        }
    }

    /// As [`DraftCore::advance_tree`], for the digest.
    pub(super) fn advance_digest(&self, budget: u64) -> Result<bool> {
        let (mut front, mut left) = (lock(&self.digester), budget);
        let mut buffer = Vec::new();
        loop {
            let Some(bytes) = self.next_piece(front.at, &mut buffer)? else { return Ok(false) };
            if left == 0 {
                return Ok(true);
            }
            left = left.saturating_sub(bytes.len() as u64);
            front.digester.update(bytes);
            front.at += bytes.len() as u64;
        }
    }

    /// The next bytes from `at` on that have arrived without a gap; `None` if there are none yet.
    fn next_piece<'b>(&self, at: u64, buffer: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>> {
        let end = self.front_from(at).min(at.saturating_add(PIECE_BYTES));
        if end <= at || self.is_settled() {
            return Ok(None);
        }
        buffer.resize((end - at) as usize, 0);
        self.data.read_exact_at(buffer, at).map_err(|e| StoreError::io(&self.data_path, e))?;
        Ok(Some(buffer))
    }

    /// Whether the tree, and the digest, lag behind what has arrived. One that somebody is at is said to.
    pub(super) fn lags(&self) -> [bool; 2] {
        let lags = |at: Option<u64>| at.is_none_or(|at| self.front_from(at) > at);
        let tree = self.front.try_lock().ok().map(|front| front.at());
        let digest = self.digester.try_lock().ok().map(|front| front.at);
        [lags(tree), lags(digest)]
    }

    /// Has the disk itself take what has arrived.
    pub(super) fn secure(&self) -> Result<()> {
        let have = self.state().have.clone();
        self.data.sync_data().map_err(|e| StoreError::io(&self.data_path, e))?;
        let mut state = self.state();
        (state.safe, state.dirty) = (have, true);
        self.persist(&mut state)
    }

    fn persist(&self, state: &mut DraftState) -> Result<()> {
        if state.settled || !state.dirty {
            return Ok(());
        }
        let (have, safe) = (state.have.clone(), state.safe.clone());
        let record = DraftRecord { size: self.size, have, safe, boot: self.boot };
        self.catalogue.put_draft(&self.digest, &record)?;
        state.dirty = false;
        state.persisted_at = Instant::now();
        Ok(())
    }
}

impl LiveDraft {
    /// Hashes bytes that were written just now, if the tree has come exactly so far; else they are read again later.
    pub(super) fn follow(&self, start: u64, bytes: &[u8]) -> Result<()> {
        if let Ok(mut front) = self.front.try_lock()
            && front.at() == start
        {
            front.push(bytes, self.tree.as_ref()).map_err(|e| StoreError::io(&self.tree_path, e))?;
        }
        self.blobs.follower.soon(&self.core);
        Ok(())
    }

    /// Marks groups whose bytes are written.
    pub(super) fn mark(&self, written: &GroupSet) -> Result<()> {
        let (held, secure) = {
            let mut state = self.state();
            written.runs().iter().for_each(|run| state.busy.remove(run.clone()));
            state.have.insert_all(written);
            state.dirty = true;
            if state.persisted_at.elapsed() >= PERSIST_EVERY || state.have == GroupSet::whole(self.size) {
                self.persist(&mut state)?;
            }
            let unsafe_groups = state.have.len() - state.safe.len();
            (state.have.len(), unsafe_groups * GROUP_BYTES >= SECURE_EVERY_BYTES)
        };
        self.changed.send_replace(held);
        if secure {
            self.blobs.syncer.draft_soon(&self.core);
        }
        Ok(())
    }

    /// The bytes of `range`, unchecked: for this crate alone.
    pub(super) fn read(&self, range: ByteRange, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.resize(range.len() as usize, 0);
        self.data.read_exact_at(buffer, range.start).map_err(|e| StoreError::io(&self.data_path, e))
    }
}

impl Drop for LiveDraft {
    fn drop(&mut self) {
        let mut state = self.state();
        if let Err(error) = self.persist(&mut state) {
            tracing::warn!(digest = %self.digest, %error, "progress of a fetch was not written; it is fetched anew");
        }
        // Whoever is still hashing it stops.
        state.settled = true;
    }
}

impl std::fmt::Debug for FrontDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrontDigest({} bytes)", self.at)
    }
}

impl std::fmt::Debug for FrontTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrontTree({} bytes)", self.at())
    }
}

/// What these locks guard is put right before a piece of work ends, or begun anew.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
