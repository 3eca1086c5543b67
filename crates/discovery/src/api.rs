//! What the rest of the program asks of discovery: five verbs and a status.

use std::net::SocketAddr;

use async_trait::async_trait;
use futures::stream::BoxStream;
use hubless_types::{NodeId, Provider};

use crate::{DhtKey, DiscoveryError};

/// Whether this node answers other nodes' lookups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DhtMode {
    /// It asks, but is not asked: others cannot reach it.
    #[default]
    Client,
    /// It keeps records for others and answers them.
    Server,
}

/// What discovery is doing, for people to read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DiscoveryStatus {
    /// This node.
    pub node: NodeId,
    /// Nodes of our network that are connected now.
    pub peers_connected: usize,
    /// Nodes of our network that answered on the local network (mDNS).
    pub lan_peers: usize,
    /// Nodes in the routing table, connected or not.
    pub routing_table: usize,
    /// Whether others may ask this node.
    pub mode: DhtMode,
    /// Where it listens, TCP; the same port is iroh's on UDP.
    pub listen: Vec<SocketAddr>,
    /// Where it tells others to reach it.
    pub external: Vec<SocketAddr>,
    /// Keys that this node itself announces.
    pub own_records: u64,
    /// Records kept for other nodes.
    pub other_records: u64,
}

/// Announce, find, withdraw.
#[async_trait]
pub trait Discovery: Send + Sync + 'static {
    /// Tells the network that this node provides `key`, and returns when the walk has ended. The record lives
    /// [`crate::RECORD_TTL_SECS`] seconds; announcing it again renews it.
    ///
    /// # Errors
    /// [`DiscoveryError::NoPeers`] if nobody could be told; this node itself still answers for the key to
    /// whoever joins later. [`DiscoveryError::Timeout`] if the walk did not end;
    /// [`DiscoveryError::Stopped`] after [`Discovery::shutdown`].
    async fn announce(&self, key: &DhtKey) -> Result<(), DiscoveryError>;

    /// Takes `key` back: at once here, and as well as it goes at the nodes that keep the record (a node that
    /// cannot be reached drops it when it expires). Withdrawing what was never announced is no error.
    ///
    /// # Errors
    /// [`DiscoveryError::Stopped`]; [`DiscoveryError::Table`].
    async fn withdraw(&self, key: &DhtKey) -> Result<(), DiscoveryError>;

    /// Providers of `key` as they are found: each once, never this node, each with at least one address. Ends
    /// when the walk ends or after the lookup timeout; dropping it stops the walk.
    fn find(&self, key: &DhtKey) -> BoxStream<'static, Provider>;

    /// Nodes of our network now connected or seen on the local network, the local ones first, each with at
    /// least one address.
    fn peers(&self) -> Vec<Provider>;

    /// How discovery fares.
    fn status(&self) -> DiscoveryStatus;

    /// Ends it and waits until nothing of it runs. Calls that still wait end with
    /// [`DiscoveryError::Stopped`].
    async fn shutdown(&self);
}
