//! `[swarm]`: which swarm this node is part of.

use hubless_types::NodeId;
use serde::Deserialize;

use super::Unfit;

/// Longest network name, in bytes.
const MAX_NETWORK_BYTES: usize = 40;

/// `[swarm]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SwarmConfig {
    /// Part of the DHT protocol's name: nodes of different networks never meet.
    pub(crate) network: String,
    /// The only nodes this one speaks with; `None` for everyone.
    pub(crate) allow: Option<Vec<NodeId>>,
}

impl Default for SwarmConfig {
    fn default() -> Self {
        Self { network: "hubless".to_owned(), allow: None }
    }
}

impl SwarmConfig {
    pub(super) fn validate(&self) -> Result<(), Unfit> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let name = &self.network;
        if name.is_empty() || name.len() > MAX_NETWORK_BYTES || !name.bytes().all(fits) {
            return Err(Unfit::new("swarm.network", format!("{name:?}")));
        }
        if self.allow.as_ref().is_some_and(Vec::is_empty) {
            return Err(Unfit::new("swarm.allow", "[]"));
        }
        Ok(())
    }
}
