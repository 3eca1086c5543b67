//! What a mirror is made of, and the settings of its decisions.

use std::sync::Arc;
use std::time::Duration;

use hubless_discovery::Discovery;
use hubless_limits::Limits;
use hubless_origin::Origin;
use hubless_proof::NodeKey;
use hubless_store::Store;
use hubless_transfer::PeerClient;
use hubless_types::{Clock, NodeId};

/// What a mirror is made of.
pub struct MirrorParts {
    /// Catalogue and bytes.
    pub store: Store,
    /// Signs this node's statements; must be the key of the node the store belongs to.
    pub key: NodeKey,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Settings.
    pub config: MirrorConfig,
    /// Finds and announces.
    pub discovery: Arc<dyn Discovery>,
    /// Asks other nodes.
    pub peers: Arc<dyn PeerClient>,
    /// Upstreams, in the order in which they are asked.
    pub origins: Vec<Arc<dyn Origin>>,
    /// Caps, the same that `peers` and `origins` keep to. The mirror turns them with the clock and keeps their counts.
    pub limits: Limits,
}

/// Settings of a mirror's decisions.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// Nodes whose statements about names and links are believed (`[names] trusted`).
    pub trusted: Vec<NodeId>,
    /// Nodes that are believed about what they saw at an origin, if enough of them agree (`[names] witnesses`).
    pub witnesses: Vec<NodeId>,
    /// How many of them must agree (`[names] threshold`); at least 1.
    pub threshold: usize,
    /// Longest wait for an origin to say what a name means (`[origin] answer_within`).
    pub answer_within: Duration,
    /// Whether what an origin deleted, hid or switched off is withheld here as well (`[origin] honour_removal`).
    pub honour_removal: bool,
    /// Longest wait for peers to say what a name means, or for the first source of a file.
    pub lookup_timeout: Duration,
    /// Parts of one file that are asked of an origin at the same time.
    pub origin_streams: usize,
    /// Longest wait for the first byte of a file that may be streamed.
    pub first_byte_timeout: Duration,
    /// Longest wait for a file that must be whole before it is shown.
    pub claimed_wait: Duration,
    /// Files that one pull fetches at the same time below an origin; without one its large files are planned together.
    pub parallel_files: usize,
    /// Whether this node tells others what it holds.
    pub announce: bool,
    /// How long an announcement lasts before it is made again.
    pub announce_interval: Duration,
}

impl Default for MirrorConfig {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            witnesses: Vec::new(),
            threshold: 1,
            answer_within: Duration::from_secs(3),
            honour_removal: true,
            lookup_timeout: Duration::from_secs(5),
            origin_streams: 4,
            first_byte_timeout: Duration::from_secs(9),
            claimed_wait: Duration::from_secs(8),
            parallel_files: 4,
            announce: true,
            announce_interval: Duration::from_secs(22 * 3600),
        }
    }
}
