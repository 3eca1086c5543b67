//! What is known of each blob's bytes.

use hubless_types::{BlobHash, GroupSet, Link};
use serde::{Deserialize, Serialize};

use super::codec::Record;
use super::db::Cf;
use super::records::{BlobRecord, Place};
use super::txn::Txn;
use super::{Catalogue, codec, links};
use crate::error::{Result, StoreError};

/// Version 0 told nothing of the disk and the boot.
#[derive(Serialize, Deserialize)]
pub(super) struct BlobRecordV0 {
    pub(super) size: u64,
    pub(super) place: Place,
    pub(super) have: Option<GroupSet>,
}

/// Version 1 told nothing of peers, and had no tree before its bytes.
#[derive(Serialize, Deserialize)]
pub(super) struct BlobRecordV1 {
    pub(super) size: u64,
    pub(super) place: Place,
    pub(super) have: Option<GroupSet>,
    pub(super) synced: bool,
    pub(super) boot: [u8; 16],
}

impl Record for BlobRecord {
    const NAME: &'static str = "blob";
    const VERSION: u8 = 2;

    fn upgrade(version: u8, body: &[u8]) -> Option<Self> {
        let old: BlobRecordV1 = match version {
            0 => {
                let BlobRecordV0 { size, place, have } = codec::parse(body).ok()?;
                BlobRecordV1 { size, place, have, synced: false, boot: [0; 16] }
            }
            1 => codec::parse(body).ok()?,
            _ => return None,
        };
        let BlobRecordV1 { size, place, have, synced, boot } = old;
        Some(Self { size, place, have, synced, boot, shared: false, parents: 0 })
    }
}

impl Catalogue {
    /// What is known of a blob.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn blob(&self, hash: &BlobHash) -> Result<Option<BlobRecord>> {
        self.db().get(Cf::Blobs, hash.as_bytes())
    }

    /// Stores what is known of a blob. Its bytes are on the disk before this is called. Whether peers may have it stays
    /// as it is where the blob is known already.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_blob(&self, hash: &BlobHash, record: &BlobRecord) -> Result<()> {
        self.change(|txn| put(txn, hash, record))
    }

    /// Stores a blob and its link together.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_blob_and_link(&self, hash: &BlobHash, record: &BlobRecord, link: &Link) -> Result<()> {
        self.change(|txn| {
            put(txn, hash, record)?;
            links::put(txn, link).map(drop)
        })
    }

    /// Notes that a whole blob's bytes have reached the disk itself; does nothing if it is gone meanwhile.
    pub(crate) fn mark_synced(&self, hash: &BlobHash) -> Result<()> {
        self.change(|txn| match txn.get::<BlobRecord>(Cf::Blobs, hash.as_bytes())? {
            Some(record) if record.have.is_none() => put(txn, hash, &BlobRecord { synced: true, ..record }),
            _ => Ok(()),
        })
    }

    /// Replaces what is known of a blob (`None` forgets it), if that still speaks of the bytes that were `seen`; says
    /// whether it did. Whoever acts on what was read a while ago must not undo what came since.
    pub(crate) fn replace_blob(
        &self,
        hash: &BlobHash,
        seen: &BlobRecord,
        record: Option<&BlobRecord>,
    ) -> Result<bool> {
        self.change(|txn| {
            let now = txn.get::<BlobRecord>(Cf::Blobs, hash.as_bytes())?;
            if !now.is_some_and(|now| now.is_of_same_bytes(seen)) {
                return Ok(false);
            }
            match record {
                Some(record) => put(txn, hash, record)?,
                None => remove(txn, hash)?,
            }
            Ok(true)
        })
    }

    /// Forgets a blob. Its links stay: they are as true without its bytes.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn remove_blob(&self, hash: &BlobHash) -> Result<()> {
        self.change(|txn| remove(txn, hash))
    }

    /// Blobs sorted by hash, those after `after`; at most `limit`.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn blobs(&self, after: Option<BlobHash>, limit: usize) -> Result<Vec<(BlobHash, BlobRecord)>> {
        let after = after.as_ref().map(|hash| &hash.as_bytes()[..]);
        self.db().page(Cf::Blobs, &[], after, limit, |key, value| Ok((read_key(key)?, codec::decode(value)?)))
    }
}

fn read_key(key: &[u8]) -> Result<BlobHash> {
    BlobHash::from_slice(key).ok_or_else(|| StoreError::corrupt("blob key", "it is no BLAKE3 root"))
}

/// Whoever writes down progress knows nothing of peers: what was said of them stays.
pub(super) fn put(txn: &mut Txn<'_>, hash: &BlobHash, record: &BlobRecord) -> Result<()> {
    let before = txn.get::<BlobRecord>(Cf::Blobs, hash.as_bytes())?;
    let shared = before.map_or(record.shared, |before| before.shared);
    put_as_it_is(txn, hash, &BlobRecord { shared, ..record.clone() })
}

pub(super) fn put_as_it_is(txn: &mut Txn<'_>, hash: &BlobHash, record: &BlobRecord) -> Result<()> {
    txn.put(Cf::Blobs, hash.as_bytes().to_vec(), record)
}

pub(super) fn remove(txn: &mut Txn<'_>, hash: &BlobHash) -> Result<()> {
    txn.delete(Cf::Blobs, hash.as_bytes().to_vec());
    Ok(())
}
