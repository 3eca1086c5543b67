//! The segments in flight: one task each, counted as their bytes are written.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hubless_origin::{OriginError, OriginErrorKind};
use hubless_store::{PartialBlob, StoreError};
use hubless_transfer::{PeerClient, Tick, TransferError};
use hubless_types::{BlobHash, Provider};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

use crate::upstream::{FillError, Remote};
use hubless_plan::{Failure, RequestId, Source};

/// What a segment's task counts while it runs.
struct Meter {
    sent: Instant,
    bytes: AtomicU64,
    first: OnceLock<Duration>,
    /// Set while this node's own cap holds its bytes back.
    held: AtomicBool,
}

/// One segment in flight.
struct Live {
    holder: Source,
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
    pub(super) holder: Source,
    pub(super) file: BlobHash,
    /// When its first byte came, told once.
    pub(super) first: Option<Duration>,
    /// Whether this node's own cap held it back since the last look.
    pub(super) held: bool,
    /// Bytes since the last look, and in all.
    pub(super) more: u64,
    pub(super) bytes: u64,
}

/// A segment that ended by itself.
pub(super) struct Ended {
    pub(super) request: RequestId,
    pub(super) holder: Source,
    pub(super) file: BlobHash,
    pub(super) groups: Range<u64>,
    pub(super) result: Result<(), SegmentError>,
    /// What it did since the last look.
    pub(super) last: Step,
}

/// The segments in flight. Dropping it cancels them all; what they verified stays.
#[derive(Default)]
pub(super) struct Segments {
    tasks: JoinSet<Result<(), SegmentError>>,
    names: HashMap<Id, RequestId>,
    live: HashMap<RequestId, Live>,
}

impl Segments {
    pub(super) fn start(
        &mut self,
        request: RequestId,
        from: From,
        groups: Range<u64>,
        into: PartialBlob,
        urgent: bool,
    ) {
        let meter = Arc::new(Meter {
            sent: Instant::now(),
            bytes: AtomicU64::new(0),
            first: OnceLock::new(),
            held: AtomicBool::new(false),
        });
        let (counted, asked) = (meter.clone(), groups.clone());
        let (holder, file) = (from.source(), into.hash());
        let task = self.tasks.spawn(async move {
            let tick: Tick = Arc::new(move |bytes: u64| {
                if bytes == 0 {
                    return counted.held.store(true, Ordering::Relaxed);
                }
                counted.first.get_or_init(|| counted.sent.elapsed());
                counted.bytes.fetch_add(bytes, Ordering::Relaxed);
            });
            from.send(asked, &into, tick, urgent).await
        });
        self.names.insert(task.id(), request);
        self.live.insert(request, Live { holder, file, groups, meter, told: 0, told_first: false, task });
    }

    pub(super) fn cancel(&mut self, request: RequestId) {
        if let Some(live) = self.live.remove(&request) {
            tracing::trace!(file = %live.file, holder = ?live.holder, groups = ?live.groups, "a segment is taken back");
            live.task.abort();
        }
    }

    /// What every segment did since the last look.
    pub(super) fn steps(&mut self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.live.iter_mut().map(|(request, live)| live.step(*request)).collect();
        steps.retain(|step| step.more > 0 || step.first.is_some() || step.held);
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
                Err(error) => (error.id(), Err(SegmentError::Peer(TransferError::Stopping))),
            };
            let Some(request) = self.names.remove(&id) else { continue };
            if let Some(mut live) = self.live.remove(&request) {
                let last = live.step(request);
                let Live { holder, file, groups, meter, .. } = live;
                let took = meter.sent.elapsed();
                tracing::trace!(%file, ?holder, ?groups, ?took, ?result, "a segment ended");
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
        let held = self.meter.held.swap(false, Ordering::Relaxed);
        Step { request, holder: self.holder, file: self.file, first, held, more, bytes }
    }
}

/// Whoever is asked for a segment.
pub(super) enum From {
    Peer(Arc<dyn PeerClient>, Provider),
    Origin(Arc<Remote>),
}

impl From {
    fn source(&self) -> Source {
        match self {
            Self::Peer(_, provider) => provider.node.into(),
            Self::Origin(remote) => remote.source(),
        }
    }

    async fn send(
        &self,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
        urgent: bool,
    ) -> Result<(), SegmentError> {
        match self {
            Self::Peer(peers, provider) if urgent => {
                peers.segment_now(provider, groups, into, tick).await.map_err(SegmentError::Peer)
            }
            Self::Peer(peers, provider) => {
                peers.segment(provider, groups, into, tick).await.map_err(SegmentError::Peer)
            }
            Self::Origin(remote) => remote.fill(into, groups, tick).await.map_err(SegmentError::Origin),
        }
    }
}

/// Why a segment ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum SegmentError {
    #[error(transparent)]
    Peer(TransferError),
    #[error(transparent)]
    Origin(FillError),
}

impl SegmentError {
    /// What the plan makes of it, if it is not this node's own fault.
    pub(super) const fn failure(&self) -> Failure {
        match self {
            Self::Peer(error) => failure_of(error),
            Self::Origin(FillError::Wrong { .. }) => Failure::Wrong,
            Self::Origin(FillError::Origin(OriginError::Stalled { .. })) => Failure::Stalled,
            Self::Origin(FillError::Origin(error)) => match error.kind() {
                OriginErrorKind::Busy => Failure::Refused,
                OriginErrorKind::Unavailable | OriginErrorKind::Wrong => Failure::Lost,
                _ => Failure::NotHeld,
            },
            Self::Origin(_) => Failure::Lost,
        }
    }

    /// The store's own failure, if it was that.
    pub(super) fn into_disk(self) -> Option<StoreError> {
        match self {
            Self::Peer(TransferError::Disk(source)) | Self::Origin(FillError::Disk(source)) => Some(source),
            _ => None,
        }
    }
}

/// What the plan makes of a peer's error.
const fn failure_of(error: &TransferError) -> Failure {
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
