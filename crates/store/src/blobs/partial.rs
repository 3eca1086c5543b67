//! A blob that is being fetched: written in any order by many hands, read by others as far as it has come.
//!
//! **Invariant:** the record of what is held is written after the bytes that it speaks of, so a killed process
//! finds nothing marked that is not there, and at most [`PERSIST_EVERY`] worth of groups to fetch anew.

use std::fs::File;
use std::io::IoSlice;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hubless_types::{BlobHash, ByteRange, GROUP_BYTES, GroupSet};
use tokio::sync::watch;

use super::decode::Decoder;
use super::file::{MAX_READ_BYTES, TreeWindow, read_exact_at};
use super::fill::Filler;
use super::hold::Hold;
use super::tree::{Cv, Node, PARENT_BYTES, group_count};
use super::tree_decode::TreeDecoder;
use super::{Blobs, Inner};
use crate::catalogue::{BlobRecord, Place};
use crate::error::{Result, StoreError};

/// How much progress a killed process may lose.
pub(crate) const PERSIST_EVERY: Duration = Duration::from_millis(200);

/// A blob that is being fetched. Clones are the same blob; there is one a hash.
#[derive(Debug, Clone)]
pub struct PartialBlob(pub(super) Arc<Live>);

/// The shared part of a [`PartialBlob`].
#[derive(Debug)]
pub(super) struct Live {
    pub(super) hash: BlobHash,
    pub(super) size: u64,
    pub(super) data: File,
    /// `None` for a blob of one group, which has no parents.
    pub(super) tree: Option<File>,
    pub(super) path: PathBuf,
    /// Whether the file is somebody else's: it was added by reference before it had to be fetched.
    pub(super) foreign: bool,
    pub(super) state: Mutex<State>,
    pub(super) changed: watch::Sender<u64>,
    pub(super) blobs: Arc<Inner>,
    pub(super) _hold: Hold,
}

/// What changes while it is fetched.
#[derive(Debug)]
pub(super) struct State {
    pub(super) have: GroupSet,
    pub(super) persisted_at: Instant,
    pub(super) dirty: bool,
    /// Parents of its tree that are here from the first one on, in pre-order, all verified.
    pub(super) parents: u64,
    /// Set when its record is no longer this fetch's to write: it is complete, or was added from elsewhere.
    pub(super) settled: bool,
}

impl PartialBlob {
    /// Its BLAKE3 root.
    pub fn hash(&self) -> BlobHash {
        self.0.hash
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Which groups are here and verified.
    pub fn have(&self) -> GroupSet {
        self.0.state().have.clone()
    }

    /// Whether all of `groups` are here.
    pub fn has(&self, groups: Range<u64>) -> bool {
        self.0.state().have.contains(groups)
    }

    /// Whether all of it is here.
    pub fn is_complete(&self) -> bool {
        self.has(0..self.size().div_ceil(hubless_types::GROUP_BYTES))
    }

    /// Tells how many groups are held, whenever that number grows.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Takes one answer of a peer that was asked for `groups`.
    pub fn decoder(&self, groups: impl Into<GroupSet>) -> Decoder {
        Decoder::new(self.clone(), groups.into())
    }

    /// Reads bytes that are here, cut at the end of the file and at [`MAX_READ_BYTES`]. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotHere`] if a group of it is not here yet.
    pub fn read(&self, range: ByteRange) -> Result<Bytes> {
        let end = range.end.min(self.size()).min(range.start.saturating_add(MAX_READ_BYTES));
        let range = ByteRange::new(range.start.min(end), end);
        if !self.has(range.groups()) {
            return Err(StoreError::NotHere { hash: self.hash() });
        }
        if self.0.foreign {
            let blob = Blobs(Arc::clone(&self.0.blobs)).open(&self.0.hash)?;
            return blob.ok_or(StoreError::NotHere { hash: self.hash() })?.read(range);
        }
        let mut buffer = vec![0; range.len() as usize];
        read_exact_at(&self.0.data, &mut buffer, range.start).map_err(|e| StoreError::io(&self.0.path, e))?;
        Ok(buffer.into())
    }

    /// Lets peers have it if nothing of it is here yet: all that comes from now on then comes from where it may be given
    /// on. Says whether peers may have it.
    ///
    /// Whoever goes on with a shared blob from where it may not be given on calls [`Blobs::unshare`] first.
    ///
    /// # Errors
    /// Of the catalogue.
    pub fn share_if_empty(&self) -> Result<bool> {
        let state = self.0.state();
        let blobs = Blobs(Arc::clone(&self.0.blobs));
        if state.have.is_empty() && !state.settled {
            blobs.share(&self.0.hash)
        } else {
            blobs.is_shared(&self.0.hash)
        }
    }

    /// Whether the tree above all groups is here, so that bytes from anywhere can be checked.
    pub fn has_tree(&self) -> bool {
        let state = self.0.state();
        self.0.tree.is_none() || self.0.is_whole(&state) || state.parents == group_count(self.0.size) - 1
    }

    /// Takes the tree from a peer, from the first parent that is missing on.
    ///
    /// # Errors
    /// Of reading the disk.
    pub fn tree_decoder(&self) -> Result<TreeDecoder> {
        TreeDecoder::new(self.clone())
    }

    /// Takes the plain bytes of `groups`, in order, from whoever has them; each group is checked against the tree, which
    /// must be here.
    ///
    /// # Errors
    /// [`StoreError::NoTree`] if the tree is not here.
    pub fn filler(&self, groups: Range<u64>) -> Result<Filler> {
        if !self.has_tree() {
            return Err(StoreError::NoTree { hash: self.hash() });
        }
        Ok(Filler::new(self.clone(), groups))
    }

    /// Notes that so much of the tree is on the disk; who is behind another hand changes nothing. None at all means that
    /// the disk has lost it.
    pub(super) fn set_parents(&self, parents: u64) -> Result<()> {
        let mut state = self.0.state();
        state.parents = if parents == 0 { 0 } else { parents.max(state.parents) };
        state.dirty = true;
        let whole = parents == group_count(self.0.size) - 1;
        if whole || state.persisted_at.elapsed() >= PERSIST_EVERY {
            self.0.persist(&mut state)
        } else {
            Ok(())
        }
    }

    /// The two child hashes of a parent of the tree on the disk, which must hash to `hash`.
    pub(super) fn checked_parent(
        &self,
        node: &Node,
        hash: &Cv,
        window: &mut TreeWindow,
    ) -> Result<[u8; PARENT_BYTES]> {
        let wrong = || StoreError::Mismatch { hash: self.hash(), offset: node.start * GROUP_BYTES };
        let tree = self.0.tree.as_ref().ok_or_else(wrong)?;
        let path = || self.0.blobs.layout.tree(&self.0.hash);
        let pair = window.parent(tree, node).map_err(|e| StoreError::io(path(), e))?;
        if node.hash_parent(&pair) == *hash { Ok(pair) } else { Err(wrong()) }
    }

    pub(super) fn write_data(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<()> {
        write_all_vectored(&self.0.data, slices, offset).map_err(|e| StoreError::io(&self.0.path, e))
    }

    pub(super) fn write_tree(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<()> {
        let Some(tree) = &self.0.tree else { return Ok(()) };
        let path = || self.0.blobs.layout.tree(&self.0.hash);
        write_all_vectored(tree, slices, offset).map_err(|e| StoreError::io(path(), e))
    }

    /// Marks groups whose bytes and parents are written.
    pub(super) fn mark(&self, groups: Range<u64>) -> Result<()> {
        let held = {
            let mut state = self.0.state();
            state.have.insert(groups);
            state.dirty = true;
            if self.0.is_whole(&state) || state.persisted_at.elapsed() >= PERSIST_EVERY {
                self.0.persist(&mut state)?;
            }
            state.have.len()
        };
        self.0.changed.send_replace(held);
        Ok(())
    }
}

impl Live {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its record is no longer this fetch's to write.
    pub(super) fn is_settled(&self) -> bool {
        self.state().settled
    }

    fn is_whole(&self, state: &State) -> bool {
        state.have.contains(0..group_count(self.size))
    }

    /// Bytes that are still to be written.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.size.saturating_sub(self.state().have.bytes(self.size))
    }

    fn persist(&self, state: &mut State) -> Result<()> {
        if state.settled || !state.dirty {
            return Ok(());
        }
        let complete = self.is_whole(state);
        let have = (!complete).then(|| state.have.clone());
        let mut record = BlobRecord::fresh(self.size, Place::Owned, have, self.blobs.boot);
        record.parents = state.parents;
        self.blobs.catalogue.put_blob(&self.hash, &record)?;
        state.dirty = false;
        state.persisted_at = Instant::now();
        if complete {
            state.settled = true;
            self.blobs.syncer.soon(self.hash);
        }
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut state = std::mem::replace(
            self.state.get_mut().unwrap_or_else(PoisonError::into_inner),
            State {
                have: GroupSet::new(),
                persisted_at: Instant::now(),
                dirty: false,
                parents: 0,
                settled: true,
            },
        );
        if let Err(error) = self.persist(&mut state) {
            tracing::warn!(hash = %self.hash, %error, "progress of a fetch was not written; it is fetched anew");
        }
    }
}

/// Most slices that one call to the system takes (Linux: `IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Writes all slices one after another from `offset` on.
fn write_all_vectored(file: &File, slices: &[IoSlice<'_>], mut offset: u64) -> std::io::Result<()> {
    for batch in slices.chunks(MAX_SLICES) {
        let wanted: usize = batch.iter().map(|s| s.len()).sum();
        let mut written = rustix::io::retry_on_intr(|| rustix::io::pwritev(file, batch, offset))?;
        let mut at = offset;
        offset += wanted as u64;
        if written == wanted {
            continue;
        }
        // A short write (a signal, a disk about to be full): the rest goes a slice at a time, with its cause.
        for slice in batch {
            let skip = written.min(slice.len());
            written -= skip;
            std::os::unix::fs::FileExt::write_all_at(file, &slice[skip..], at + skip as u64)?;
            at += slice.len() as u64;
        }
    }
    Ok(())
}
