//! The segments in flight: one task each, counted as their bytes are written.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hubless_store::PartialBlob;
use hubless_transfer::{PeerClient, TransferError};
use hubless_types::{BlobHash, NodeId, Provider};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

use crate::plan::{Failure, RequestId};

/// What a segment's task counts while it runs.
struct Meter {
    sent: Instant,
    bytes: AtomicU64,
    first: OnceLock<Duration>,
}

/// One segment in flight.
struct Live {
    holder: NodeId,
    file: BlobHash,
    groups: Range<u64>,
    meter: Arc<Meter>,
    told: u64,
    told_first: bool,
    task: AbortHandle,
}

/// What a segment did since it was last looked at.
pub(super) struct Step {
    pub(super) request: RequestId,
    pub(super) holder: NodeId,
    pub(super) file: BlobHash,
    /// When its first byte came, told once.
    pub(super) first: Option<Duration>,
    /// Bytes since the last look, and in all.
    pub(super) more: u64,
    pub(super) bytes: u64,
}

/// A segment that ended by itself.
pub(super) struct Ended {
    pub(super) request: RequestId,
    pub(super) holder: NodeId,
    pub(super) file: BlobHash,
    pub(super) groups: Range<u64>,
    pub(super) result: Result<(), TransferError>,
    /// What it did since the last look.
    pub(super) last: Step,
}

/// The segments in flight. Dropping it cancels them all; what they verified stays.
#[derive(Default)]
pub(super) struct Segments {
    tasks: JoinSet<Result<(), TransferError>>,
    names: HashMap<Id, RequestId>,
    live: HashMap<RequestId, Live>,
}

impl Segments {
    pub(super) fn start(
        &mut self,
        request: RequestId,
        peers: &Arc<dyn PeerClient>,
        provider: Provider,
        groups: Range<u64>,
        into: PartialBlob,
    ) {
        let meter =
            Arc::new(Meter { sent: Instant::now(), bytes: AtomicU64::new(0), first: OnceLock::new() });
        let (counted, peers, asked) = (meter.clone(), peers.clone(), groups.clone());
        let (holder, file) = (provider.node, into.hash());
        let task = self.tasks.spawn(async move {
            let tick = Arc::new(move |bytes: u64| {
                counted.first.get_or_init(|| counted.sent.elapsed());
                counted.bytes.fetch_add(bytes, Ordering::Relaxed);
            });
            peers.segment(&provider, asked, &into, tick).await
        });
        self.names.insert(task.id(), request);
        self.live.insert(request, Live { holder, file, groups, meter, told: 0, told_first: false, task });
    }

    pub(super) fn cancel(&mut self, request: RequestId) {
        if let Some(live) = self.live.remove(&request) {
            live.task.abort();
        }
    }

    /// What every segment did since the last look.
    pub(super) fn steps(&mut self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.live.iter_mut().map(|(request, live)| live.step(*request)).collect();
        steps.retain(|step| step.more > 0 || step.first.is_some());
        steps.sort_unstable_by_key(|step| step.request);
        steps
    }

    /// The next segment that ends by itself; `None` while none runs.
    ///
    /// Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<Ended> {
        loop {
            let (id, result) = match self.tasks.join_next_with_id().await? {
                Ok((id, result)) => (id, result),
                // It was cancelled, or its task panicked: the peer gets the blame of a lost connection.
                Err(error) => (error.id(), Err(TransferError::Stopping)),
            };
            let Some(request) = self.names.remove(&id) else { continue };
            if let Some(mut live) = self.live.remove(&request) {
                let last = live.step(request);
                let Live { holder, file, groups, .. } = live;
                return Some(Ended { request, holder, file, groups, result, last });
            }
        }
    }

    /// Cancels all and waits for their tasks.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }
}

impl Live {
    fn step(&mut self, request: RequestId) -> Step {
        let bytes = self.meter.bytes.load(Ordering::Relaxed);
        let more = bytes.saturating_sub(self.told);
        self.told = bytes;
        let first = if self.told_first { None } else { self.meter.first.get().copied() };
        self.told_first |= first.is_some();
        Step { request, holder: self.holder, file: self.file, first, more, bytes }
    }
}

/// What the plan makes of an error that is not this node's own.
pub(super) const fn failure_of(error: &TransferError) -> Failure {
    match error {
        TransferError::WrongBytes { .. } => Failure::Wrong,
        TransferError::Stalled { .. } => Failure::Stalled,
        TransferError::NotHeld { .. } => Failure::NotHeld,
        TransferError::Refused { .. }
        | TransferError::Busy { .. }
        | TransferError::TooManyConnections { .. }
        | TransferError::AsksTooMuch { .. } => Failure::Refused,
        _ => Failure::Lost,
    }
}
