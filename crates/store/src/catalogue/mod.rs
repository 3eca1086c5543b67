//! The catalogue: everything this node knows that is not bytes of files, in RocksDB.
//!
//! **Invariants:** a change is written whole or not at all, and in order: what survives a power cut is what was
//! committed up to some moment. Nothing is read whole that grows with the number of repositories: lists come in
//! pages. Rows that strangers cause are bounded by named constants.
//! **Not here:** bytes of files and their hash trees (`blobs`), whether a statement or a proof is right (`proof`),
//! the time (callers pass it).

mod aliases;
mod announce;
mod batch;
mod blobs;
mod codec;
mod db;
mod dht;
mod drafts;
mod facts;
mod forget;
mod keys;
mod links;
mod looks;
mod manifest_cache;
mod manifest_rows;
mod manifests;
mod migrate;
mod moves;
mod pins;
mod records;
mod refs;
mod repos;
mod shared;
mod shelf;
mod statements;
#[cfg(test)]
mod tests;
mod traffic;
mod txn;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hubless_types::NodeId;

pub use self::announce::ANNOUNCE_QUEUE_MAX;
pub use self::batch::Batch;
pub use self::dht::{
    DHT_MAX_ADDRS, DHT_MAX_PER_KEY, DHT_MAX_PER_PEER, DHT_MAX_PER_SUBNET, DHT_MAX_TOTAL, DHT_SEATS,
};
pub(crate) use self::drafts::DraftRecord;
pub use self::facts::{CARD_MAX_BYTES, TAG_MAX_BYTES, TAGS_MAX};
pub use self::manifests::ManifestHead;
pub(crate) use self::migrate::FORMAT;
pub use self::moves::{MOVES_MAX, Move};
pub use self::records::{BlobRecord, DhtRow, DhtVerdict, FileStamp, Place, RefRecord, RefSource};
pub use self::shelf::{ELSEWHERE_MAX, HEARD_MAX};
pub use self::statements::{STATEMENT_MAX_PER_REPO, STATEMENT_MAX_SIGNERS, STATEMENT_MAX_STRANGERS};
pub use self::traffic::TrafficRecord;

use self::db::Db;
use self::dht::DhtLimits;
use self::looks::Looks;
use self::manifest_cache::ManifestCache;
use self::txn::Txn;
use crate::error::Result;
use crate::lock::FolderLock;
use crate::shelf::Shelf;

/// Longest key of the announce queue and of the DHT table, in bytes.
pub const MAX_KEY_BYTES: usize = 64;

/// The database's folder inside the data folder.
pub(crate) const CATALOGUE_FOLDER: &str = "catalogue";

/// What this node knows. Cheap to clone; the last clone closes the database and lets the data folder go.
///
/// Every call reads or writes the disk, quickly: a row takes microseconds, a page or a manifest milliseconds.
#[derive(Clone)]
pub struct Catalogue {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    /// Held by whoever changes something: most changes depend on what they find.
    write: Mutex<()>,
    manifests: ManifestCache,
    node: NodeId,
    dht_limits: DhtLimits,
    /// Most statements of signers who do not count; tests have a lower one.
    statement_limit: u64,
    shelf: Shelf,
    looks: Looks,
    /// Let go only after the database is closed: fields are dropped in this order.
    _lock: Option<FolderLock>,
}

impl Catalogue {
    /// Opens the database beneath the data folder `dir` and brings it up from format `found`.
    pub(crate) fn open(dir: &Path, node: NodeId, found: u32, lock: Option<FolderLock>) -> Result<Self> {
        let db = Db::open(&dir.join(CATALOGUE_FOLDER))?;
        let inner = Inner {
            db,
            write: Mutex::new(()),
            manifests: ManifestCache::default(),
            node,
            dht_limits: DhtLimits::default(),
            statement_limit: STATEMENT_MAX_STRANGERS,
            shelf: Shelf::open(dir),
            looks: Looks::default(),
            _lock: lock,
        };
        let catalogue = Self { inner: Arc::new(inner) };
        catalogue.migrate(found)?;
        catalogue.load_shelf()?;
        Ok(catalogue)
    }

    fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Makes one change, whole or not at all.
    fn change<T>(&self, change: impl FnOnce(&mut Txn<'_>) -> Result<T>) -> Result<T> {
        let _writing = lock(&self.inner.write);
        let mut txn = Txn::new(self.db());
        let done = change(&mut txn)?;
        let touched = shelf::note(&mut txn, &self.inner.shelf)?;
        txn.commit()?;
        if !touched.is_empty() {
            self.inner.looks.forget();
        }
        touched.iter().try_for_each(|repo| shelf::tell(self.db(), &self.inner.shelf, repo))?;
        Ok(done)
    }

    /// Begins a change of several rows that is written whole or not at all.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Makes the disk itself take all that was written: it then survives a power cut, not only a killed process.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`](crate::StoreError::DiskFull) or [`StoreError::Rocks`](crate::StoreError::Rocks).
    pub fn sync(&self) -> Result<()> {
        self.db().sync()
    }
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalogue").field("node", &self.inner.node).finish_non_exhaustive()
    }
}

/// Nothing is left half-done by a panic under these locks: what they guard is written at the end, in one go.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
