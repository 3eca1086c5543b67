//! Small things that several decisions use: blocking work off the runtime, locks, and one flight a key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::MirrorError;

/// Keys after which ended flights are cleared away.
const FLIGHTS_BEFORE_CLEARING: usize = 1024;

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MirrorError> + Send + 'static,
) -> Result<T, MirrorError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_cancelled() => Err(MirrorError::Stopped),
        Err(error) => Err(MirrorError::Internal(error.to_string())),
    }
}

/// Locks, whatever happened to others who held it: the tables kept here are whole between any two statements.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets one at a time work for a key; the others wait and then find the work done.
pub(crate) struct Flights<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

impl<K: Eq + Hash> Default for Flights<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash> Flights<K> {
    /// Waits until nobody else works for `key`.
    pub(crate) async fn enter(&self, key: K) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut flights = locked(&self.0);
            if flights.len() >= FLIGHTS_BEFORE_CLEARING {
                flights.retain(|_, flight| flight.strong_count() > 0);
            }
            let found = flights.get(&key).and_then(Weak::upgrade);
            found.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                flights.insert(key, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}
