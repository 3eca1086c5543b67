//! The handle that owns all of it: the endpoint, the accepting task, the pool, and their end.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hubless_limits::Limits;
use hubless_store::Store;
use hubless_types::NodeId;
use iroh::Endpoint;
use iroh::endpoint::VarInt;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::bulk::{self, Desk, Lines};
use crate::client::PeerClient;
use crate::crowd::Crowds;
use crate::endpoint::{TransferConfig, bind};
use crate::limits::{
    IDLE_CONNECTION, LINES_PER_SLOT, MANIFEST_SLOTS, MAX_LINES_SERVED, MAX_WATCHED, QUESTION_SLOTS,
    SHUTDOWN_TIMEOUT,
};
use crate::overhead::{Ledger, audit};
use crate::pool::Pool;
use crate::remote::Remote;
use crate::serve::Seat;
use crate::slots::Slots;
use crate::stats::{Counters, TransferStats};
use crate::{TransferError, serve};

/// What every task of this crate shares.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) pool: Pool,
    pub(crate) counters: Counters,
    pub(crate) limits: Limits,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) uploads: Arc<Slots>,
    pub(crate) questions: Semaphore,
    pub(crate) manifests: Semaphore,
    /// Places for blobs that are watched for others.
    pub(crate) watched: Semaphore,
    pub(crate) inbound: Arc<Semaphore>,
    /// Told of each connection that was refused for want of a place.
    pub(crate) crowded: Notify,
    /// The bulk port; `None` where bytes go over QUIC alone.
    pub(crate) desk: Option<Arc<Desk>>,
    /// Places for lines that others open.
    pub(crate) lines_served: Arc<Semaphore>,
    /// Lines that this node opened.
    pub(crate) lines: Lines,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// The nodes that have connections open with this one; no more rows than `inbound` has places.
    pub(crate) guests: Mutex<HashMap<NodeId, Seat>>,
    allow: Option<HashSet<NodeId>>,
    pub(crate) upload_slots: usize,
    /// Whether it is told which repositories are held here.
    pub(crate) lists_repos: bool,
    max_connections: usize,
    /// Who asks for what, and what they were given.
    pub(crate) crowds: Arc<Crowds>,
    /// Subscriptions that are open, for tests and figures.
    pub(crate) subscriptions: AtomicUsize,
}

impl Shared {
    /// Whether this node speaks with `node` at all.
    pub(crate) fn allows(&self, node: &NodeId) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.contains(node))
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// Serves this node's blobs and manifests, and fetches others'.
///
/// Dropping it stops everything at once; [`Transfer::shutdown`] says goodbye to its peers first.
#[must_use = "dropping it stops serving"]
pub struct Transfer {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    _stop: DropGuard,
}

impl Transfer {
    /// Binds the addresses and starts to serve from `store`.
    ///
    /// # Errors
    /// [`TransferError::Listen`] if an address cannot be bound.
    pub async fn start(config: TransferConfig, store: Store) -> Result<Self, TransferError> {
        let endpoint = bind(&config).await?;
        let bulk = match config.bulk_port {
            Some(port) => Some(bulk::listen(&config.listen, port).await?),
            None => None,
        };
        let (desk, listeners) = bulk.map_or((None, Vec::new()), |(desk, listeners)| (Some(desk), listeners));
        let cancel = CancellationToken::new();
        let ledger = Arc::new(Ledger::default());
        let shared = Arc::new(Shared {
            store,
            pool: Pool::new(endpoint.clone(), config.max_connections, config.limits.clone(), ledger.clone()),
            counters: Counters::default(),
            limits: config.limits,
            ledger,
            uploads: Arc::new(Slots::new(config.upload_slots)),
            questions: Semaphore::new(QUESTION_SLOTS),
            manifests: Semaphore::new(MANIFEST_SLOTS),
            watched: Semaphore::new(MAX_WATCHED),
            inbound: Arc::new(Semaphore::new(config.max_connections)),
            crowded: Notify::new(),
            desk: desk.clone(),
            lines_served: Arc::new(Semaphore::new(
                (LINES_PER_SLOT * config.upload_slots).min(MAX_LINES_SERVED),
            )),
            lines: Lines::new(),
            cancel: cancel.clone(),
            tasks: TaskTracker::new(),
            guests: Mutex::default(),
            allow: config.allow.map(|nodes| nodes.into_iter().collect()),
            upload_slots: config.upload_slots,
            lists_repos: config.lists_repos,
            max_connections: config.max_connections,
            crowds: Arc::default(),
            subscriptions: AtomicUsize::new(0),
        });
        shared.tasks.spawn(serve::accept(endpoint.clone(), shared.clone()));
        shared.tasks.spawn(sweep(shared.clone()));
        shared.tasks.spawn(audit(shared.clone()));
        for listener in listeners {
            let Some(desk) = desk.clone() else { break };
            shared.tasks.spawn(bulk::accept(listener, desk, shared.clone()));
        }
        Ok(Self { shared, endpoint, _stop: cancel.drop_guard() })
    }

    /// The client by which this node asks others.
    pub fn client(&self) -> Arc<dyn PeerClient> {
        Arc::new(Remote::new(self.shared.clone()))
    }

    #[cfg(test)]
    pub(crate) fn remote(&self) -> Remote {
        Remote::new(self.shared.clone())
    }

    /// The UDP addresses that are bound, with the ports that were chosen.
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.endpoint.bound_sockets()
    }

    /// The TCP port at which others fetch long segments, if there is one.
    pub fn bulk_port(&self) -> Option<u16> {
        self.shared.desk.as_ref().map(|desk| desk.port())
    }

    /// What has gone over the network so far.
    pub fn stats(&self) -> TransferStats {
        let (total, peers) = self.shared.counters.read();
        TransferStats {
            total,
            peers,
            connections_out: self.shared.pool.open_connections(),
            connections_in: self
                .shared
                .max_connections
                .saturating_sub(self.shared.inbound.available_permits()),
            lines_out: self.shared.lines.open(),
            by_lines: self.shared.lines.carried().down,
            uploads: self.shared.uploads.taken(),
            subscriptions: self.shared.subscriptions.load(Ordering::Relaxed),
        }
    }

    /// Tells all peers, ends all tasks and frees the sockets, within 2 s. Requests under way end with
    /// [`TransferError::Stopping`] or [`TransferError::Unreachable`].
    pub async fn shutdown(&self) {
        self.shared.cancel.cancel();
        self.shared.tasks.close();
        if timeout(SHUTDOWN_TIMEOUT, self.endpoint.close()).await.is_err() {
            tracing::debug!("some peers did not confirm that their connection ended");
        }
        if timeout(SHUTDOWN_TIMEOUT / 4, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.shared.tasks.len(), "tasks of the transfer did not end in time");
        }
    }
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfer").field("listen", &self.listen_addrs()).finish_non_exhaustive()
    }
}

/// Closes connections that nobody needs any more.
async fn sweep(shared: Arc<Shared>) {
    let mut ticks = interval(IDLE_CONNECTION / 4);
    while shared.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
        shared.pool.sweep();
    }
}

/// The code with which connections are closed.
pub(crate) const fn close_code(refusal: crate::refusal::Refusal) -> VarInt {
    VarInt::from_u32(refusal.code())
}
