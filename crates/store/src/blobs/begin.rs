//! Begins a fetch, or goes on with one that a former process began.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use hubless_types::{BlobHash, GroupSet};
use tokio::sync::watch;

use super::partial::{Live, State};
use super::tree::{Node, PARENT_BYTES, hash_bytes};
use super::{Inner, Lives};
use crate::catalogue::{BlobRecord, Place};
use crate::error::{Result, StoreError};

/// Room that a fetch leaves on the disk for everything else, in bytes.
const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// Whether a blob is opened to be fetched, and so wants room on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Needed,
    Unneeded,
}

impl Inner {
    /// Opens or makes the files of a blob that is to be fetched.
    pub(super) fn begin(
        self: &Arc<Self>,
        lives: &Lives<'_>,
        hash: BlobHash,
        size: u64,
        room: Room,
    ) -> Result<Live> {
        let record = match self.known_record(lives, &hash, size)? {
            None if size == 0 => self.begin_empty(&hash)?,
            Some(record) => record,
            None => {
                let have = Some(GroupSet::new());
                BlobRecord::fresh(size, Place::Owned, have, self.boot)
            }
        };
        let complete = record.have.is_none();
        let (path, foreign) = match &record.place {
            Place::Reference { path, .. } => (path.clone(), true),
            Place::Owned => (self.layout.data(&hash), false),
        };
        let tree_path = self.layout.tree(&hash);
        let tree_bytes = (Node::root(size).groups - 1) * PARENT_BYTES as u64;
        let mut have = record.have.clone().unwrap_or_else(|| GroupSet::whole(size));
        let mut parents = if complete { Node::root(size).groups - 1 } else { record.parents };
        if !complete {
            self.layout.prepare(&hash)?;
            // Files that are gone or cut would be made anew, full of zeros: nothing of them may be believed.
            if !has_length(&path, size) || tree_bytes > 0 && !has_length(&tree_path, tree_bytes) {
                (have, parents) = (GroupSet::new(), 0);
            }
        }
        if !complete && room == Room::Needed {
            let promised =
                lives.values().filter_map(Weak::upgrade).map(|live| live.missing_bytes()).sum::<u64>();
            let promised = promised.saturating_add(self.drafts.missing_bytes());
            check_room(self.layout.root(), &path, size.saturating_sub(have.bytes(size)), promised)?;
        }
        let data = open_for_fetch(&path, size, complete)?;
        let tree = (tree_bytes > 0).then(|| open_for_fetch(&tree_path, tree_bytes, complete)).transpose()?;
        if !complete {
            self.catalogue.put_blob(&hash, &BlobRecord { have: Some(have.clone()), parents, ..record })?;
        }
        let (changed, _) = watch::channel(have.len());
        let state = State { have, persisted_at: Instant::now(), dirty: false, parents, settled: complete };
        Ok(Live {
            hash,
            size,
            data,
            tree,
            path,
            foreign,
            state: Mutex::new(state),
            changed,
            blobs: Arc::clone(self),
            _hold: self.holds.take(hash),
        })
    }

    /// What is known of a blob that is to have `size` bytes.
    fn known_record(&self, lives: &Lives<'_>, hash: &BlobHash, size: u64) -> Result<Option<BlobRecord>> {
        let Some(mut record) = self.settled_locked(lives, hash)? else { return Ok(None) };
        if record.size != size && record.have.as_ref().is_some_and(GroupSet::is_empty) {
            // Somebody said another size, and nothing came of it: that word binds nobody.
            self.forget_if(lives, hash, &record)?;
            return Ok(None);
        }
        check_size(hash, record.size, size)?;
        if record.have.as_ref().is_some_and(|have| have.contains(0..Node::root(size).groups)) {
            // The last group came, but the disk refused the last word of it.
            record.have = None;
            self.catalogue.put_blob(hash, &record)?;
        }
        Ok(Some(record))
    }

    /// The empty blob needs no fetch; nothing else is empty.
    fn begin_empty(&self, hash: &BlobHash) -> Result<BlobRecord> {
        if hash_bytes(&[]) != *hash {
            return Err(StoreError::Mismatch { hash: *hash, offset: 0 });
        }
        self.layout.prepare(hash)?;
        open_for_fetch(&self.layout.data(hash), 0, false)?;
        let record = BlobRecord::fresh(0, Place::Owned, None, self.boot);
        self.catalogue.put_blob(hash, &record)?;
        Ok(record)
    }
}

pub(super) fn open_for_fetch(path: &Path, size: u64, complete: bool) -> Result<File> {
    let fail = |e| StoreError::io(path, e);
    if complete {
        return File::open(path).map_err(fail);
    }
    let file =
        File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
    file.set_len(size).map_err(fail)?;
    Ok(file)
}

pub(super) fn check_size(hash: &BlobHash, known: u64, said: u64) -> Result<()> {
    if known == said { Ok(()) } else { Err(StoreError::SizeClash { hash: *hash, known, said }) }
}

pub(super) fn has_length(path: &Path, len: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.len() == len)
}

/// Refuses a fetch that cannot end well, before it begins: `promised` bytes are still to come of others.
pub(super) fn check_room(folder: &Path, path: &Path, missing: u64, promised: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(folder).map_err(|e| StoreError::io(folder, e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if missing.saturating_add(promised).saturating_add(DISK_RESERVE_BYTES) > free {
        return Err(StoreError::DiskFull { path: path.to_owned() });
    }
    Ok(())
}
