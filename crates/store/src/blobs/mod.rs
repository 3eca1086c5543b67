//! The bytes of files, by BLAKE3 root: whole or in part, our own copy or somebody's file where it lies.
//!
//! A blob is `blobs/ab/<hash>.data` and `.tree` beneath the data folder; a reference has a `.tree` only. What
//! is held of it stands in the catalogue ([`BlobRecord`]).
//!
//! **Invariants:** bytes first, then the record that speaks of them. A group is readable only after it was
//! checked against the root. Nothing that is held ([`Hold`]) is deleted.
//! **Not here:** what is worth keeping (`mirror`), the network (`transfer`).
//!
//! Everything here blocks on the disk; call it from a thread that may.

mod begin;
mod collect;
mod crowd;
#[cfg(test)]
mod crowd_tests;
mod decode;
mod draft;
mod draft_table;
#[cfg(test)]
mod draft_tests;
mod draft_writer;
mod encode;
mod file;
mod fill;
mod follow;
mod front;
mod hold;
mod import;
mod layout;
mod partial;
mod pour;
mod prove;
mod recheck;
mod sync;
#[cfg(test)]
mod tests;
mod tree;
mod tree_decode;
mod tree_encode;
mod verify;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hubless_types::{BlobHash, FileDigest, GroupSet, Link, LinkTrust};

pub use self::collect::{GcReport, Usage};
pub use self::crowd::{CrowdSeat, DraftNews, Offered, PIECE_GROUPS};
pub use self::decode::{DecodeError, Decoder};
pub use self::draft::{Draft, Finished};
pub use self::draft_writer::DraftWriter;
pub use self::encode::Encoder;
pub use self::file::{BlobFile, MAX_READ_BYTES};
pub use self::fill::Filler;
pub use self::hold::Hold;
pub use self::import::{DigestKind, digest_bytes};
pub use self::partial::PartialBlob;
pub use self::prove::Prover;
pub use self::tree_decode::TreeDecoder;
pub use self::tree_encode::TreeEncoder;
pub use self::verify::{BadBlob, VerifyEvent, VerifyReport};

use self::begin::{Room, check_size};
use self::crowd::Crowds;
use self::draft_table::Drafts;
use self::file::{Backing, open_tree};
use self::follow::Follower;
use self::hold::Holds;
use self::layout::{Layout, open_stamped, remove_if_there, same_file, stamp};
use self::partial::Live;
use self::sync::{Syncer, boot_id};
use self::tree::{Node, hash_bytes};
use crate::catalogue::{BlobRecord, Catalogue, Place};
use crate::error::{Result, StoreError};

/// Looks at a record before whoever changes it all the time is taken to have dropped it.
const MAX_LOOKS: usize = 4;

/// Fetches under way: one a hash.
type Lives<'a> = MutexGuard<'a, HashMap<BlobHash, Weak<Live>>>;

/// What a glance at a blob's record and file tells.
enum Look {
    Absent,
    Fine(BlobRecord),
    /// A reference whose file is gone, or has another length than the one that was hashed.
    Stale(BlobRecord),
    /// Bytes that a power cut may have taken, or a reference whose file looks touched: to be hashed again.
    Doubtful(BlobRecord),
}

/// Whether an added file stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// It stays, and is checked whenever it is read.
    Reference,
    /// Its bytes are copied into the data folder.
    Copy,
}

/// A file that was taken in; its link is in the catalogue as proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// What git or LFS calls it.
    pub digest: FileDigest,
    /// Its BLAKE3 root.
    pub hash: BlobHash,
    /// Its length in bytes.
    pub size: u64,
}

/// How much of a blob is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobStatus {
    /// Nothing.
    Absent,
    /// Some groups, all verified.
    Partial {
        /// Length of the whole, in bytes.
        size: u64,
        /// What is here.
        have: GroupSet,
    },
    /// All of it.
    Complete {
        /// Its length in bytes.
        size: u64,
    },
}

/// Keeps blobs. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    layout: Layout,
    catalogue: Catalogue,
    /// Fetches under way: one a hash.
    live: Mutex<HashMap<BlobHash, Weak<Live>>>,
    holds: Holds,
    drafts: Drafts,
    crowds: Crowds,
    syncer: Syncer,
    follower: Follower,
    boot: [u8; 16],
    /// Held by whoever hashes a blob again: once is enough.
    rechecking: Mutex<()>,
    temp_number: AtomicU64,
}

impl Blobs {
    pub(crate) fn beneath(data_dir: &Path, catalogue: Catalogue) -> Result<Self> {
        let layout = Layout::create(data_dir)?;
        collect::remove_temps(&layout)?;
        let syncer = Syncer::start(layout.clone(), catalogue.clone())?;
        Ok(Self(Arc::new(Inner {
            layout,
            catalogue,
            live: Mutex::default(),
            holds: Holds::default(),
            drafts: Drafts::default(),
            crowds: Crowds::default(),
            syncer,
            follower: Follower::default(),
            boot: boot_id(),
            rechecking: Mutex::default(),
            temp_number: AtomicU64::new(0),
        })))
    }

    /// How much of a blob is here. A reference whose file changed or vanished is dropped, and absent; one that was only
    /// touched, or put back, is hashed again, and stays.
    pub fn status(&self, hash: &BlobHash) -> Result<BlobStatus> {
        if let Some(live) = self.0.live_one(hash) {
            return Ok(BlobStatus::Partial { size: live.size(), have: live.have() });
        }
        Ok(match self.0.settled_record(hash)? {
            None => BlobStatus::Absent,
            Some(BlobRecord { size, have: None, .. }) => BlobStatus::Complete { size },
            Some(BlobRecord { size, have: Some(have), .. }) => BlobStatus::Partial { size, have },
        })
    }

    /// Takes a file in; `progress` is told of bytes as they are hashed.
    ///
    /// # Errors
    /// [`StoreError::ChangedWhileRead`] if somebody writes to it meanwhile; [`StoreError::NotAFile`];
    /// [`StoreError::Collision`] for content made to break SHA-1.
    pub fn import(
        &self,
        path: &Path,
        mode: ImportMode,
        kind: DigestKind,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Imported> {
        let real = import::real_path(path).map_err(|e| StoreError::io(path, e))?;
        let (data, before) = open_stamped(&real)?;
        let size = before.size;
        let mut temps = Temps::default();
        let tree = (!Node::root(size).is_leaf()).then(|| self.0.temp_file(&mut temps)).transpose()?;
        let copy = (mode == ImportMode::Copy).then(|| self.0.temp_file(&mut temps)).transpose()?;
        let hashed = import::hash_file(
            &data,
            size,
            kind,
            tree.as_ref().map(|t| &t.1),
            copy.as_ref().map(|c| &c.1),
            progress,
        );
        let after = data.metadata().map(|m| stamp(&m)).map_err(|e| StoreError::io(path, e))?;
        let hashed = match hashed {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => None,
            Err(e) => return Err(StoreError::io(path, e)),
            Ok(hashed) => Some(hashed),
        };
        let Some(hashed) = hashed.filter(|_| after == before && same_file(&real, &before)) else {
            return Err(StoreError::ChangedWhileRead { path: path.to_owned() });
        };
        let digest = hashed.digest.ok_or_else(|| StoreError::Collision { path: path.to_owned() })?;
        let imported = Imported { digest, hash: hashed.hash, size };
        let place = match mode {
            ImportMode::Reference => Place::Reference { path: real, stamp: before },
            ImportMode::Copy => Place::Owned,
        };
        self.0.adopt_files(&imported, place, tree.map(|t| t.0), copy.map(|c| c.0))?;
        Ok(imported)
    }

    /// Takes bytes in that are in memory anyway; they are copied into the data folder.
    pub fn import_bytes(&self, bytes: &[u8], kind: DigestKind) -> Result<Imported> {
        let size = bytes.len() as u64;
        let hash = hash_bytes(bytes);
        let digest = digest_bytes(bytes, kind)
            .ok_or_else(|| StoreError::Collision { path: PathBuf::from(hash.to_string()) })?;
        let imported = Imported { digest, hash, size };
        if matches!(self.0.settled_record(&hash)?, Some(BlobRecord { have: None, .. })) {
            self.0.catalogue.put_link(&proven(&imported))?;
            return Ok(imported);
        }
        let mut temps = Temps::default();
        let (path, file) = self.0.temp_file(&mut temps)?;
        std::io::Write::write_all(&mut &file, bytes).map_err(|e| StoreError::io(&path, e))?;
        let tree = if Node::root(size).is_leaf() {
            None
        } else {
            let (tree_path, tree) = self.0.temp_file(&mut temps)?;
            import::hash_file(&file, size, kind, Some(&tree), None, &|_| {})
                .map_err(|e| StoreError::io(&tree_path, e))?;
            Some(tree_path)
        };
        self.0.adopt_files(&imported, Place::Owned, tree, Some(path))?;
        Ok(imported)
    }

    /// Opens a blob for reading; `None` if nothing of it is here.
    pub fn open(&self, hash: &BlobHash) -> Result<Option<BlobFile>> {
        let hold = self.0.holds.take(*hash);
        if let Some(live) = self.0.live_one(hash) {
            return self.0.open_live(live, hold).map(Some);
        }
        let Some(record) = self.0.settled_record(hash)? else { return Ok(None) };
        if record.have.is_some() {
            let live = self.0.join(*hash, record.size, Room::Unneeded)?;
            return self.0.open_live(live, hold).map(Some);
        }
        let (backing, path) = match &record.place {
            Place::Owned => (Backing::Owned, self.0.layout.data(hash)),
            Place::Reference { path, .. } => (Backing::Reference(path.clone()), path.clone()),
        };
        let data = match File::open(&path) {
            // Evicted between the look at its record and this, or deleted by somebody: either way it is not here.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.0.forget_if(&self.0.lives(), hash, &record)?;
                return Ok(None);
            }
            opened => opened.map_err(|e| StoreError::io(&path, e))?,
        };
        let Ok(tree) = open_tree(&self.0.layout.tree(hash), record.size) else {
            // It is made anew; or else the blob is no longer whole.
            self.0.recheck(hash, &record)?;
            return self.open(hash);
        };
        let (blobs, hash, size) = (Arc::clone(&self.0), *hash, record.size);
        Ok(Some(BlobFile { hash, size, data, tree, backing, path, live: None, blobs, _hold: hold }))
    }

    /// Creates a blob to be fetched, or goes on with one.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] if what is missing has no room; [`StoreError::SizeClash`] if the blob is known
    /// with another size.
    pub fn partial(&self, hash: BlobHash, size: u64) -> Result<PartialBlob> {
        self.0.join(hash, size, Room::Needed)
    }

    /// Hashes a whole blob by `expect`'s rule. `true`: the link is proven now. `false`: the content is another.
    ///
    /// # Errors
    /// [`StoreError::NotHere`] if it is not complete.
    pub fn prove(&self, hash: &BlobHash, expect: &FileDigest) -> Result<bool> {
        let blob = self.open(hash)?.filter(|b| b.have() == GroupSet::whole(b.size()));
        let blob = blob.ok_or(StoreError::NotHere { hash: *hash })?;
        let found = import::digest_file(&blob.data, blob.size, DigestKind::of(expect))
            .map_err(|e| StoreError::io(&blob.path, e))?;
        if found != Some(*expect) {
            return Ok(false);
        }
        let link = Link { digest: *expect, hash: *hash, size: blob.size, trust: LinkTrust::Proven };
        self.0.catalogue.put_link(&link)?;
        Ok(true)
    }

    /// Hashes a blob by `expect`'s rule while it arrives; see [`Prover`].
    pub fn prover(&self, blob: PartialBlob, expect: FileDigest) -> Prover {
        Prover::new(blob, expect)
    }

    /// Lets peers have a blob that is here, wholly or in part, and what comes of it later; `false` if nothing of it is
    /// here. Whatever is taken in or fetched is not shared before this is called, and what is dropped and comes again
    /// is not shared either.
    ///
    /// # Errors
    /// Of the catalogue.
    pub fn share(&self, hash: &BlobHash) -> Result<bool> {
        self.0.catalogue.set_blob_shared(hash, true)
    }

    /// Peers are no longer given a blob; `false` if nothing of it is here.
    ///
    /// # Errors
    /// Of the catalogue.
    pub fn unshare(&self, hash: &BlobHash) -> Result<bool> {
        self.0.catalogue.set_blob_shared(hash, false)
    }

    /// Whether peers may have a blob; never if nothing of it is here.
    ///
    /// # Errors
    /// Of the catalogue.
    pub fn is_shared(&self, hash: &BlobHash) -> Result<bool> {
        Ok(self.0.catalogue.blob(hash)?.is_some_and(|record| record.shared))
    }

    /// Whether a blob lies in this store's own files and is not shared: unlike a file that somebody keeps on this disk
    /// himself, it was brought here, and nobody said that everybody may have it.
    ///
    /// # Errors
    /// Of the catalogue.
    pub fn is_kept_back(&self, hash: &BlobHash) -> Result<bool> {
        let record = self.0.catalogue.blob(hash)?;
        Ok(record.is_some_and(|r| !r.shared && !matches!(r.place, Place::Reference { .. })))
    }

    /// Keeps a blob from being collected until the hold is dropped.
    pub fn hold(&self, hash: BlobHash) -> Hold {
        self.0.holds.take(hash)
    }
}

impl Inner {
    fn lives(&self) -> Lives<'_> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fetch of a blob that is under way, and not settled.
    fn live_one(&self, hash: &BlobHash) -> Option<PartialBlob> {
        let live = self.lives().get(hash).and_then(Weak::upgrade);
        live.filter(|live| !live.is_settled()).map(PartialBlob)
    }

    /// The one fetch of a blob: the one under way, else a new one.
    fn join(self: &Arc<Self>, hash: BlobHash, size: u64, room: Room) -> Result<PartialBlob> {
        self.settled_record(&hash)?;
        let mut lives = self.lives();
        if let Some(live) = lives.get(&hash).and_then(Weak::upgrade).filter(|live| !live.is_settled()) {
            check_size(&hash, live.size, size)?;
            return Ok(PartialBlob(live));
        }
        let live = Arc::new(self.begin(&lives, hash, size, room)?);
        lives.retain(|_, weak| weak.strong_count() > 0);
        lives.insert(hash, Arc::downgrade(&live));
        Ok(PartialBlob(live))
    }

    fn temp_file(&self, temps: &mut Temps) -> Result<(PathBuf, File)> {
        let path = self.layout.temp(self.temp_number.fetch_add(1, Ordering::Relaxed));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| StoreError::io(&path, e))?;
        temps.0.push(path.clone());
        Ok((path, file))
    }

    /// The record of a blob, after what can be seen at a glance was checked: a reference's file is the same
    /// one, or its bytes still are, and bytes that a power cut may have taken are hashed again.
    fn settled_record(&self, hash: &BlobHash) -> Result<Option<BlobRecord>> {
        for _ in 0..MAX_LOOKS {
            match self.look(hash)? {
                Look::Absent => return Ok(None),
                Look::Fine(record) => return Ok(Some(record)),
                Look::Stale(record) => self.forget_if(&self.lives(), hash, &record)?,
                Look::Doubtful(record) => self.recheck(hash, &record)?,
            }
        }
        Ok(None)
    }

    /// [`Inner::settled_record`] for whoever has the table of live fetches locked, under which nothing is hashed:
    /// what would have to be is taken for absent. Callers settle it before they lock.
    fn settled_locked(&self, lives: &Lives<'_>, hash: &BlobHash) -> Result<Option<BlobRecord>> {
        match self.look(hash)? {
            Look::Fine(record) => Ok(Some(record)),
            Look::Absent => Ok(None),
            Look::Stale(record) | Look::Doubtful(record) => {
                self.forget_if(lives, hash, &record)?;
                Ok(None)
            }
        }
    }

    fn look(&self, hash: &BlobHash) -> Result<Look> {
        let Some(record) = self.catalogue.blob(hash)? else { return Ok(Look::Absent) };
        Ok(match &record.place {
            Place::Reference { path, stamp } if !same_file(path, stamp) => match open_stamped(path) {
                Ok((_, now)) if now.size == record.size => Look::Doubtful(record),
                _ => Look::Stale(record),
            },
            Place::Owned if !record.synced && !self.is_this_boot(&record) => Look::Doubtful(record),
            _ => Look::Fine(record),
        })
    }

    fn is_this_boot(&self, record: &BlobRecord) -> bool {
        record.boot == self.boot && self.boot != [0; 16]
    }

    /// Drops a blob whose record is still the one that was `seen`, unless it is being fetched anew.
    fn forget_if(&self, lives: &Lives<'_>, hash: &BlobHash, seen: &BlobRecord) -> Result<()> {
        let fetched = lives.get(hash).and_then(Weak::upgrade).is_some_and(|live| !live.is_settled());
        if fetched || !self.catalogue.replace_blob(hash, seen, None)? {
            return Ok(());
        }
        if let Place::Reference { path, .. } = &seen.place {
            tracing::warn!(%hash, path = %path.display(), "a file that was added has changed or is gone; dropped");
        }
        self.remove_files(hash)
    }

    fn remove_files(&self, hash: &BlobHash) -> Result<()> {
        remove_if_there(&self.layout.data(hash))?;
        remove_if_there(&self.layout.tree(hash))
    }

    /// Gives finished files their names, then writes record and link.
    fn adopt_files(
        &self,
        imported: &Imported,
        place: Place,
        tree: Option<PathBuf>,
        data: Option<PathBuf>,
    ) -> Result<()> {
        let hash = imported.hash;
        self.settled_record(&hash)?;
        // Under the lock no fetch of the same blob can begin between the look and the record.
        let lives = self.lives();
        let held = self.settled_locked(&lives, &hash)?.filter(|r| r.have.is_none());
        if held.is_some_and(|held| held.place == Place::Owned || held.place == place) {
            // What is here already is as good, and may be open; the new files go with their names.
            return self.catalogue.put_link(&proven(imported));
        }
        self.layout.prepare(&hash)?;
        let owned = place == Place::Owned;
        for (from, to) in [(tree, self.layout.tree(&hash)), (data, self.layout.data(&hash))] {
            if let Some(from) = from {
                std::fs::rename(&from, &to).map_err(|e| StoreError::io(&to, e))?;
            }
        }
        // From here on the record is not the fetch's to write.
        if let Some(live) = lives.get(&hash).and_then(Weak::upgrade) {
            live.state().settled = true;
        }
        let record = BlobRecord::fresh(imported.size, place, None, self.boot);
        self.catalogue.put_blob_and_link(&hash, &record, &proven(imported))?;
        if !owned {
            // Only now: until the record spoke of the reference, these were the bytes of a fetch.
            remove_if_there(&self.layout.data(&hash))?;
        }
        self.syncer.soon(hash);
        Ok(())
    }

    fn open_live(self: &Arc<Self>, live: PartialBlob, hold: Hold) -> Result<BlobFile> {
        let data = live.0.data.try_clone().map_err(|e| StoreError::io(&live.0.path, e))?;
        let tree = live.0.tree.as_ref().map(File::try_clone).transpose();
        let tree = tree.map_err(|e| StoreError::io(&live.0.path, e))?;
        let (hash, size, path) = (live.hash(), live.size(), live.0.path.clone());
        let blobs = Arc::clone(self);
        Ok(BlobFile {
            hash,
            size,
            data,
            tree,
            backing: Backing::Owned,
            path,
            live: Some(live),
            blobs,
            _hold: hold,
        })
    }
}

/// Deletes what still has a temporary name when an import ends, well or badly.
#[derive(Debug, Default)]
struct Temps(Vec<PathBuf>);

impl Drop for Temps {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = remove_if_there(path);
        }
    }
}

fn proven(imported: &Imported) -> Link {
    let Imported { digest, hash, size } = *imported;
    Link { digest, hash, size, trust: LinkTrust::Proven }
}
