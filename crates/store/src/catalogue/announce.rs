//! The announce queue: what is to be told to the DHT, and when next.

use hubless_types::Timestamp;

use super::db::Cf;
use super::txn::Txn;
use super::{Catalogue, MAX_KEY_BYTES, codec};
use crate::error::{Result, StoreError};

/// Most keys that wait to be announced.
pub const ANNOUNCE_QUEUE_MAX: u64 = 8_000_000;

/// Counts the keys in the queue.
const COUNTER: &[u8] = b"announce";

impl Catalogue {
    /// Puts a key into the queue, or moves it to another time.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] if the key is longer than [`MAX_KEY_BYTES`] or the queue holds
    /// [`ANNOUNCE_QUEUE_MAX`] keys; else as [`Catalogue::set_ref`].
    pub fn schedule(&self, key: &[u8], due: Timestamp) -> Result<()> {
        self.change(|txn| schedule(txn, key, due))
    }

    /// Takes a key out of the queue; `false` if it was not there.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn unschedule(&self, key: &[u8]) -> Result<bool> {
        self.change(|txn| unschedule(txn, key))
    }

    /// The keys that are due at `now`, longest due first; at most `limit`. They stay in the queue.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<(Timestamp, Vec<u8>)>> {
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        self.db().scan(Cf::AnnounceDue, &[], &[], |key, _| {
            let (due, key) = read_due_key(key)?;
            if due <= now {
                rows.push((due, key.to_vec()));
            }
            Ok(due <= now && rows.len() < limit)
        })?;
        Ok(rows)
    }

    /// The keys from `first` to `last`, both of them included and compared by as many bytes as they have, that are due
    /// at `until`; in the order of the keys, those after the key `after`; at most `limit`. They stay in the queue.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn scheduled_between(
        &self,
        first: &[u8],
        last: &[u8],
        after: Option<&[u8]>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        let from = after.map_or_else(|| first.to_vec(), super::keys::next);
        self.db().scan(Cf::AnnounceKeys, &[], &from, |key, due| {
            if key.len() >= last.len() && key[..last.len()] > *last {
                return Ok(false);
            }
            if codec::decode::<u64>(due)? <= until.0 {
                keys.push(key.to_vec());
            }
            Ok(keys.len() < limit)
        })?;
        Ok(keys)
    }

    /// When the next key is due; `None` if the queue is empty.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn next_due(&self) -> Result<Option<Timestamp>> {
        Ok(self.due(Timestamp(u64::MAX), 1)?.first().map(|row| row.0))
    }

    /// When a key is due; `None` if it is not in the queue.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn due_of(&self, key: &[u8]) -> Result<Option<Timestamp>> {
        Ok(self.db().get(Cf::AnnounceKeys, key)?.map(Timestamp))
    }

    /// How many keys are in the queue.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn scheduled_count(&self) -> Result<u64> {
        Ok(self.db().get(Cf::Counters, COUNTER)?.unwrap_or(0))
    }
}

/// `due key`, so that rows sort by time.
fn due_key(due: u64, key: &[u8]) -> Vec<u8> {
    [&due.to_be_bytes(), key].concat()
}

fn read_due_key(bytes: &[u8]) -> Result<(Timestamp, &[u8])> {
    let (due, key) =
        bytes.split_first_chunk().ok_or_else(|| StoreError::corrupt("announce key", "it is too short"))?;
    Ok((Timestamp(u64::from_be_bytes(*due)), key))
}

pub(super) fn schedule(txn: &mut Txn<'_>, key: &[u8], due: Timestamp) -> Result<()> {
    let too_large = |what, size, limit| Err(StoreError::TooLarge { what, size, limit });
    if key.len() > MAX_KEY_BYTES {
        return too_large("the key", key.len() as u64, MAX_KEY_BYTES as u64);
    }
    match txn.get::<u64>(Cf::AnnounceKeys, key)? {
        Some(old) => txn.delete(Cf::AnnounceDue, due_key(old, key)),
        None => {
            let count = txn.count(COUNTER, 1)?;
            if count > ANNOUNCE_QUEUE_MAX {
                return too_large("the announce queue", count, ANNOUNCE_QUEUE_MAX);
            }
        }
    }
    txn.put(Cf::AnnounceKeys, key.to_vec(), &due.0)?;
    txn.put(Cf::AnnounceDue, due_key(due.0, key), &())
}

pub(super) fn unschedule(txn: &mut Txn<'_>, key: &[u8]) -> Result<bool> {
    let Some(due) = txn.get::<u64>(Cf::AnnounceKeys, key)? else { return Ok(false) };
    txn.delete(Cf::AnnounceKeys, key.to_vec());
    txn.delete(Cf::AnnounceDue, due_key(due, key));
    txn.count(COUNTER, -1)?;
    Ok(true)
}
