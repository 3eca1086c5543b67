//! What one node may have at once, over all its connections.

use std::sync::{Arc, PoisonError};

use hubless_limits::Use;
use hubless_types::NodeId;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::{
    LINES_PER_NODE, LINES_PER_SLOT, MANIFESTS_PER_NODE, MAX_CONNECTIONS_PER_NODE, MAX_WATCHED_PER_NODE,
    QUESTIONS_PER_NODE,
};
use crate::refusal::Refusal;
use crate::transfer::Shared;

/// One node's places: each is taken before one of those that all nodes share.
#[derive(Debug)]
pub(crate) struct Share {
    pub(super) questions: Semaphore,
    pub(super) manifests: Semaphore,
    pub(super) watched: Semaphore,
    pub(crate) lines: Arc<Semaphore>,
}

impl Share {
    fn new(upload_slots: usize) -> Self {
        Self {
            questions: Semaphore::new(QUESTIONS_PER_NODE),
            manifests: Semaphore::new(MANIFESTS_PER_NODE),
            watched: Semaphore::new(MAX_WATCHED_PER_NODE),
            lines: Arc::new(Semaphore::new(LINES_PER_NODE.min(LINES_PER_SLOT * upload_slots / 2).max(1))),
        }
    }
}

/// Refuses where the month's bytes are used up: whoever asks goes elsewhere, as to a busy node.
pub(super) fn refuse_spent(shared: &Shared, what: Use) -> Result<(), Refusal> {
    if shared.limits.up().spent(what).is_some() { Err(Refusal::Busy) } else { Ok(()) }
}

/// Takes `count` places of a node's own and of all, or none.
pub(super) fn take<'a>(
    own: &'a Semaphore,
    all: &'a Semaphore,
    count: usize,
) -> Result<[SemaphorePermit<'a>; 2], Refusal> {
    let count = u32::try_from(count).map_err(|_| Refusal::Busy)?;
    let own = own.try_acquire_many(count).map_err(|_| Refusal::Busy)?;
    let all = all.try_acquire_many(count).map_err(|_| Refusal::Busy)?;
    Ok([own, all])
}

/// A node that has connections open with this one.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: usize,
    share: Arc<Share>,
}

/// Counts a node's connections for as long as they live.
pub(super) struct Guest<'a> {
    shared: &'a Shared,
    node: NodeId,
    share: Arc<Share>,
}

impl<'a> Guest<'a> {
    /// `None` if the node has as many as it may.
    pub(super) fn admit(shared: &'a Shared, node: NodeId) -> Option<Self> {
        let mut guests = shared.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let seat = guests
            .entry(node)
            .or_insert_with(|| Seat { connections: 0, share: Arc::new(Share::new(shared.upload_slots)) });
        if seat.connections >= MAX_CONNECTIONS_PER_NODE {
            return None;
        }
        seat.connections += 1;
        Some(Self { shared, node, share: seat.share.clone() })
    }

    pub(super) fn share(&self) -> Arc<Share> {
        self.share.clone()
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let mut guests = self.shared.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = guests.get_mut(&self.node) {
            seat.connections -= 1;
            if seat.connections == 0 {
                guests.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_either_budget_takes_nothing() {
        let (one, other, all) = (Semaphore::new(5), Semaphore::new(5), Semaphore::new(8));
        let taken = take(&one, &all, 5).unwrap();
        assert_eq!(take(&one, &all, 1).unwrap_err(), Refusal::Busy);
        assert_eq!(take(&other, &all, 4).unwrap_err(), Refusal::Busy);
        assert_eq!((other.available_permits(), all.available_permits()), (5, 3));
        drop(taken);
        assert!(take(&other, &all, 5).is_ok());
    }
}
