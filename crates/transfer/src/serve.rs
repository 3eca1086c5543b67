//! Takes connections from outside and hands their streams on.
//!
//! **Invariant:** a stranger can hold at most one of `max_connections` places a connection, for as long as it
//! asks for something now and then, and while others want it, for as long as it asks for something; a node has at most four, and in each at most 64 streams. Of slots it has its own
//! share over all its connections, so that one node alone keeps nobody else from being served.

mod blobs;
mod hubless;
mod patience;
mod pump;
mod share;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use hubless_types::NodeId;
use iroh::Endpoint;
use iroh::endpoint::{Connection, Incoming, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::endpoint::{address_of, node_of, way};
use crate::get;
use crate::limits::{
    HANDSHAKE_TIMEOUT, IDLE_INBOUND, MAX_STREAMS, MAX_SUBSCRIPTIONS, MAX_UPLOADS_PER_CONNECTION,
};
use crate::refusal::Refusal;
use crate::stats::Counter;
use crate::transfer::{Shared, close_code};

pub(crate) use self::patience::Patience;
use self::share::Guest;
pub(crate) use self::share::{Seat, Share};

/// Accepts until the node stops.
pub(crate) async fn accept(endpoint: Endpoint, shared: Arc<Shared>) {
    while let Some(Some(incoming)) = shared.cancel.run_until_cancelled(endpoint.accept()).await {
        match shared.inbound.clone().try_acquire_owned() {
            Ok(place) => {
                // One that was wanted to go and had something to do may have gone by itself: nobody is wanted to any more.
                let _ = shared.crowded.notified().now_or_never();
                shared.tasks.spawn(serve(incoming, shared.clone(), place));
            }
            Err(_) => {
                // Whoever comes again finds a place, if any connection has nothing to do.
                shared.crowded.notify_one();
                incoming.refuse();
            }
        }
    }
}

async fn serve(incoming: Incoming, shared: Arc<Shared>, _place: OwnedSemaphorePermit) {
    let Ok(accepting) = incoming.accept() else { return };
    let connected = shared.cancel.run_until_cancelled(timeout(HANDSHAKE_TIMEOUT, accepting)).await;
    let Some(Ok(Ok(connection))) = connected else { return };
    let node = node_of(&connection.remote_id());
    if !shared.allows(&node) {
        connection.close(close_code(Refusal::Refused), b"closed swarm");
        return;
    }
    let Some(guest) = Guest::admit(&shared, node) else {
        connection.close(close_code(Refusal::Busy), b"too many connections");
        return;
    };
    shared.ledger.watch(&connection);
    let peer = Arc::new(Peer {
        counter: shared.counters.of(node),
        uploads: Semaphore::new(MAX_UPLOADS_PER_CONNECTION),
        subscriptions: Semaphore::new(MAX_SUBSCRIPTIONS),
        share: guest.share(),
        node,
        connection: connection.clone(),
        addr: address_of(&connection),
        shared: shared.clone(),
    });
    match shared.cancel.run_until_cancelled(streams(&connection, peer)).await {
        Some(()) => connection.close(0_u32.into(), b"idle"),
        None => connection.close(close_code(Refusal::Stopping), b"stopping"),
    }
}

/// Who asks, and what is shared by all its streams.
pub(crate) struct Peer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: NodeId,
    /// Where it is met.
    addr: Option<SocketAddr>,
    pub(crate) connection: Connection,
    pub(crate) counter: Arc<Counter>,
    /// Places for segments on this connection.
    uploads: Semaphore,
    /// Places for subscriptions on this connection.
    subscriptions: Semaphore,
    /// What the node may have at once, over all its connections.
    pub(crate) share: Arc<Share>,
}

impl Peer {
    /// How far away it is; nothing if that is not known.
    pub(crate) fn round_trip(&self) -> Duration {
        way(&self.connection).map_or(Duration::ZERO, |(_, round_trip)| round_trip)
    }
}

/// Serves streams until the connection ends, or is idle for long, or its place is wanted while it is idle: the one that has been
/// so for longest is the first to go. Dropping this aborts all of them.
async fn streams(connection: &Connection, peer: Arc<Peer>) {
    let is_blobs = connection.alpn() == get::ALPN;
    let mut running = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = connection.accept_bi(), if running.len() < MAX_STREAMS as usize => next,
            Some(_) = running.join_next() => continue,
            () = tokio::time::sleep(IDLE_INBOUND), if running.is_empty() => return,
            () = peer.shared.crowded.notified(), if running.is_empty() => return,
        };
        let Ok((send, recv)) = next else { return };
        running.spawn(one(is_blobs, send, recv, peer.clone()));
    }
}

async fn one(is_blobs: bool, mut send: SendStream, mut recv: RecvStream, peer: Arc<Peer>) {
    let answered = if is_blobs {
        blobs::answer(&mut send, &mut recv, &peer).await
    } else {
        hubless::answer(&mut send, &mut recv, &peer).await
    };
    match answered {
        Ok(()) => {
            let _ = send.finish();
        }
        Err(refusal) => {
            tracing::debug!(node = %peer.node, ?refusal, "a request was not answered");
            let _ = send.reset(close_code(refusal));
        }
    }
}
