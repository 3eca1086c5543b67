//! What the rest of the program asks of discovery: six verbs, a status, and what is near.

use std::net::SocketAddr;

use async_trait::async_trait;
use futures::stream::BoxStream;
use hubless_types::{NodeId, Provider};

use crate::place::Region;
use crate::{DhtKey, DiscoveryError, PARTIAL_TTL_SECS, RECORD_TTL_SECS, Trace};

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
    /// Nodes that the network is taken to have, by how densely the routing table's are.
    pub network: u64,
    /// Keys that this node itself announces.
    pub own_records: u64,
    /// Records kept for other nodes.
    pub other_records: u64,
}

/// How long a record is to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lifetime {
    /// [`RECORD_TTL_SECS`]: this node has it and keeps it.
    Whole,
    /// [`PARTIAL_TTL_SECS`]: this node has a part of it and is fetching the rest.
    Partial,
}

impl Lifetime {
    /// In seconds.
    pub const fn secs(self) -> u64 {
        match self {
            Self::Whole => RECORD_TTL_SECS,
            Self::Partial => PARTIAL_TTL_SECS,
        }
    }
}

/// What came of an announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The part of the key space around the first key whose keepers are now known: more keys in it need no walk
    /// for a while.
    pub region: Region,
    /// Walks that it took.
    pub walks: u64,
    /// Messages that were sent with keys.
    pub messages: u64,
    /// Records that others keep now, over all nodes.
    pub kept: u64,
    /// Records that others did not want, over all nodes.
    pub refused: u64,
    /// Keys of which nobody took a record, some of those who should not having answered: it is worth another try.
    pub missed: Vec<Vec<u8>>,
    /// Keys of which nobody took a record because nobody has room for it.
    pub unwanted: Vec<Vec<u8>>,
}

/// Announce, find, withdraw.
#[async_trait]
pub trait Discovery: Send + Sync + 'static {
    /// Tells the network that this node provides `keys`, and returns when those who keep the records have answered.
    /// Keys near each other share a walk and a message. The records live as long as `lifetime` says; announcing
    /// them again renews them.
    ///
    /// # Errors
    /// [`DiscoveryError::NoPeers`] if there is nobody to be told; this node itself still answers for the keys to
    /// whoever joins later. [`DiscoveryError::Table`]; [`DiscoveryError::Stopped`] after [`Discovery::shutdown`].
    async fn announce(&self, keys: &[DhtKey], lifetime: Lifetime) -> Result<Told, DiscoveryError>;

    /// Takes `keys` back: at once here, and as well as it goes at the nodes that keep the records (a node that
    /// cannot be reached drops them when they expire). Withdrawing what was never announced is no error.
    ///
    /// # Errors
    /// [`DiscoveryError::Stopped`]; [`DiscoveryError::Table`].
    async fn withdraw(&self, keys: &[DhtKey]) -> Result<(), DiscoveryError>;

    /// A whole lookup of `key`, with every step of it. Ends as [`Discovery::find`] does.
    ///
    /// # Errors
    /// [`DiscoveryError::Stopped`].
    async fn trace(&self, key: &DhtKey) -> Result<Trace, DiscoveryError>;

    /// Providers of `key` as they are found: each once, never this node, each with at least one address. Ends
    /// when the walk ends or after the lookup timeout; dropping it stops the walk.
    fn find(&self, key: &DhtKey) -> BoxStream<'static, Provider>;

    /// Nodes of our network now connected or seen on the local network, the local ones first, each with at
    /// least one address.
    fn peers(&self) -> Vec<Provider>;

    /// Whether whoever is reached at `addr` is on this machine or on a link of ours, as this node's own addresses tell; a
    /// VPN's and a carrier's private ranges are not.
    fn is_on_link(&self, addr: &SocketAddr) -> bool;

    /// How discovery fares.
    fn status(&self) -> DiscoveryStatus;

    /// Ends it and waits until nothing of it runs. Calls that still wait end with
    /// [`DiscoveryError::Stopped`].
    async fn shutdown(&self);
}
