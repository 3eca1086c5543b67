//! The handle of a real node: starts its thread, speaks to it over bounded queues, and ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use hubless_types::{Clock, NodeId, PeerAddr, Provider};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::driver::{Driver, Snapshot};
use crate::place::Region;
use crate::sweep::Tally;
use crate::walks::{FIND_BUFFER, FindOrder, News, TellOrder};
use crate::{
    DhtConfig, DhtKey, Discovery, DiscoveryError, DiscoveryStatus, Lifetime, ProviderTable, Told, Trace,
    addrs, node_id_of_secret, port,
};

/// Announcements and withdrawals that may wait for the node's attention; more make their callers wait.
const TELL_QUEUE: usize = 256;
/// Lookups that may wait for the node's attention.
const FIND_QUEUE: usize = 64;
/// How long the runtime is given to end what it runs, DNS lookups above all.
const RUNTIME_END: Duration = Duration::from_secs(1);
/// How long [`Discovery::shutdown`] waits for the thread.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// A node of the network. Dropping it ends it soon; [`Discovery::shutdown`] waits until it has ended.
#[must_use = "dropping the node ends it"]
#[derive(Debug)]
pub struct Dht {
    node: NodeId,
    tell: mpsc::Sender<TellOrder>,
    find: mpsc::Sender<FindOrder>,
    snapshot: watch::Receiver<Snapshot>,
    table: TableHandle,
    cancel: CancellationToken,
    ended: watch::Receiver<bool>,
}

struct TableHandle(Arc<dyn ProviderTable>);

impl std::fmt::Debug for TableHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProviderTable").field(&self.0.counts()).finish()
    }
}

/// What the thread needs to begin.
struct Start {
    config: DhtConfig,
    table: Arc<dyn ProviderTable>,
    clock: Arc<dyn Clock>,
    tell: mpsc::Receiver<TellOrder>,
    find: mpsc::Receiver<FindOrder>,
    cancel: CancellationToken,
    ready: oneshot::Sender<Result<watch::Receiver<Snapshot>, DiscoveryError>>,
    ended: watch::Sender<bool>,
}

impl Dht {
    /// Starts a node and returns when it listens. Joining the network goes on behind.
    ///
    /// # Errors
    /// [`DiscoveryError::Config`]; [`DiscoveryError::PortInUse`] and [`DiscoveryError::Listen`], naming the
    /// address; [`DiscoveryError::Start`].
    pub async fn start(
        config: DhtConfig,
        table: Arc<dyn ProviderTable>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DiscoveryError> {
        config.validate()?;
        config.listen.iter().try_for_each(|addr| port::probe(*addr))?;
        let node = node_id_of_secret(&config.secret);
        let (tell, tells) = mpsc::channel(TELL_QUEUE);
        let (find, finds) = mpsc::channel(FIND_QUEUE);
        let (ready, is_ready) = oneshot::channel();
        let (ended, has_ended) = watch::channel(false);
        let cancel = CancellationToken::new();
        // Held while waiting: if the caller gives up starting, the thread ends.
        let guard = cancel.clone().drop_guard();
        let handle = TableHandle(table.clone());
        let start =
            Start { config, table, clock, tell: tells, find: finds, cancel: cancel.clone(), ready, ended };
        let thread = std::thread::Builder::new().name("hubless-dht".to_owned());
        thread.spawn(move || live(start)).map_err(|e| DiscoveryError::Start(e.to_string()))?;
        let snapshot = is_ready.await.map_err(|_| DiscoveryError::Stopped)??;
        guard.disarm();
        Ok(Self { node, tell, find, snapshot, table: handle, cancel, ended: has_ended })
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Addresses that others may give as a bootstrap, likeliest first.
    pub fn addresses(&self) -> Vec<PeerAddr> {
        let external = self.snapshot.borrow().external.clone();
        external.into_iter().map(|addr| PeerAddr::new(self.node, addr)).collect()
    }

    /// Nodes of the routing table that this node reached itself: whom to give as [`DhtConfig::known`] next time.
    pub fn known(&self) -> Vec<PeerAddr> {
        self.snapshot.borrow().known.clone()
    }

    async fn tell(&self, keys: &[DhtKey], news: News) -> Result<Tally, DiscoveryError> {
        let (reply, answer) = oneshot::channel();
        let order = TellOrder { keys: keys.iter().map(DhtKey::to_bytes).collect(), news, reply };
        self.tell.send(order).await.map_err(|_| DiscoveryError::Stopped)?;
        answer.await.map_err(|_| DiscoveryError::Stopped)?
    }
}

#[async_trait]
impl Discovery for Dht {
    async fn announce(&self, keys: &[DhtKey], lifetime: Lifetime) -> Result<Told, DiscoveryError> {
        let ttl = u32::try_from(lifetime.secs()).unwrap_or(u32::MAX);
        let Tally { walks, messages, kept, refused, missed, unwanted, region, .. } =
            self.tell(keys, News::Provided { ttl }).await?;
        let region = region.unwrap_or_else(Region::whole);
        Ok(Told { region, walks, messages, kept, refused, missed, unwanted })
    }

    async fn withdraw(&self, keys: &[DhtKey]) -> Result<(), DiscoveryError> {
        self.tell(keys, News::Withdrawn).await.map(drop)
    }

    async fn trace(&self, key: &DhtKey) -> Result<Trace, DiscoveryError> {
        // Held to the end: a lookup without a reader is ended.
        let (to, _found) = mpsc::channel(FIND_BUFFER);
        let (trace, traced) = oneshot::channel();
        let order = FindOrder { key: key.to_bytes(), to, trace: Some(trace) };
        self.find.send(order).await.map_err(|_| DiscoveryError::Stopped)?;
        traced.await.map_err(|_| DiscoveryError::Stopped)
    }

    fn find(&self, key: &DhtKey) -> BoxStream<'static, Provider> {
        let (to, found) = mpsc::channel(FIND_BUFFER);
        let order = FindOrder { key: key.to_bytes(), to, trace: None };
        let orders = self.find.clone();
        let started = async move {
            // A node that has ended finds nothing: the sender is dropped with the order and the stream ends.
            let _ = orders.send(order).await;
            futures::stream::unfold(found, |mut found| async move {
                found.recv().await.map(|provider| (provider, found))
            })
        };
        futures::stream::once(started).flatten().boxed()
    }

    fn peers(&self) -> Vec<Provider> {
        self.snapshot.borrow().peers.clone()
    }

    fn is_on_link(&self, addr: &SocketAddr) -> bool {
        addrs::is_on_link(addr, &self.snapshot.borrow().listen)
    }

    fn status(&self) -> DiscoveryStatus {
        let counts = self.table.0.counts();
        let now = self.snapshot.borrow();
        DiscoveryStatus {
            node: self.node,
            peers_connected: now.connected,
            lan_peers: now.lan,
            routing_table: now.routes,
            mode: now.mode,
            listen: now.listen.clone(),
            external: now.external.clone(),
            network: now.network,
            own_records: counts.own,
            other_records: counts.others,
        }
    }

    async fn shutdown(&self) {
        self.cancel.cancel();
        let mut ended = self.ended.clone();
        let waited = tokio::time::timeout(SHUTDOWN_WAIT, ended.wait_for(|ended| *ended)).await;
        if waited.is_err() {
            tracing::warn!("the DHT's thread has not ended within {} s", SHUTDOWN_WAIT.as_secs());
        }
    }
}

impl Drop for Dht {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// The thread: a runtime whose end is the end of every task that libp2p spawned.
fn live(start: Start) {
    let Start { config, table, clock, tell, find, cancel, ready, ended } = start;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(DiscoveryError::Start(error.to_string())))),
    };
    runtime.block_on(async move {
        let built = tokio::select! {
            built = Driver::start(config, table, clock, tell, find) => built,
            () = cancel.cancelled() => Err(DiscoveryError::Stopped),
        };
        match built {
            Ok((driver, snapshot)) => {
                // Nobody waits for the start any more: the token says so too.
                let _ = ready.send(Ok(snapshot));
                driver.run(cancel).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    runtime.shutdown_timeout(RUNTIME_END);
    ended.send_replace(true);
}
