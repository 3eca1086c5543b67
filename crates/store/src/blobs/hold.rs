//! Holds: a blob that somebody is reading or writing is not collected under their hands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hubless_types::BlobHash;

/// Counts who holds what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds(Arc<Mutex<HashMap<BlobHash, usize>>>);

impl Holds {
    pub(crate) fn take(&self, hash: BlobHash) -> Hold {
        *self.lock().entry(hash).or_insert(0) += 1;
        Hold { holds: self.clone(), hash }
    }

    pub(crate) fn is_held(&self, hash: &BlobHash) -> bool {
        self.lock().contains_key(hash)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BlobHash, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one blob from being evicted until it is dropped.
#[derive(Debug)]
#[must_use = "dropping the hold lets the blob be collected"]
pub struct Hold {
    holds: Holds,
    hash: BlobHash,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.holds.lock();
        if let Some(count) = counts.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.hash);
            }
        }
    }
}
