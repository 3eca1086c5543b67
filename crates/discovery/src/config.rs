//! What a [`crate::Dht`] is started with, and what of it can be refused without touching the network.

use std::net::SocketAddr;
use std::time::Duration;

use hubless_types::{NodeId, PeerAddr};

use crate::{DiscoveryError, Line, node_id_of_secret};

/// Connections kept at once unless configured otherwise.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 50;
/// The public network's name.
pub const DEFAULT_NETWORK: &str = "hubless";
/// Longest name of a network, in bytes.
const MAX_NETWORK_BYTES: usize = 40;
/// Fewest connections with which a walk can work: its parallel requests and room for those who ask.
const MIN_CONNECTIONS: u32 = 8;

/// How a node takes part in the network.
#[derive(Clone)]
pub struct DhtConfig {
    /// The node's ed25519 secret.
    pub secret: [u8; 32],
    /// Where to listen, TCP; ports must be chosen already (see [`crate::pick_port`]), as iroh takes the same.
    pub listen: Vec<SocketAddr>,
    /// Nodes to join the network by; dialled until there are peers.
    pub bootstrap: Vec<PeerAddr>,
    /// Whether to look for nodes on the local network.
    pub mdns: bool,
    /// Longest time a lookup may take.
    pub lookup_timeout: Duration,
    /// Most connections at once, 8 at least.
    pub max_connections: u32,
    /// If given, a closed swarm: everybody else is refused when connecting.
    pub allow: Option<Vec<NodeId>>,
    /// Addresses by which others reach this node, where it cannot know them itself (a forwarded port).
    pub external: Vec<SocketAddr>,
    /// Nodes that were known before the last restart; dialled while there is nobody else.
    pub known: Vec<PeerAddr>,
    /// For measuring: how long what this node dials takes. `None` is the line as it is.
    pub line: Option<Line>,
    /// Name of the network; nodes of another name do not talk with this one.
    pub network: String,
}

impl DhtConfig {
    /// A node of the public network that listens at `listen` and knows nobody yet.
    pub fn new(secret: [u8; 32], listen: Vec<SocketAddr>) -> Self {
        Self {
            secret,
            listen,
            bootstrap: Vec::new(),
            mdns: false,
            lookup_timeout: Duration::from_secs(10),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            allow: None,
            external: Vec::new(),
            known: Vec::new(),
            line: None,
            network: DEFAULT_NETWORK.to_owned(),
        }
    }

    /// Checks what can be checked without touching the network.
    ///
    /// # Errors
    /// [`DiscoveryError::Config`], naming the key, its value and what it must be.
    pub fn validate(&self) -> Result<(), DiscoveryError> {
        let name_fits = (1..=MAX_NETWORK_BYTES).contains(&self.network.len())
            && self.network.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !name_fits {
            let why = "it must be 1 to 40 lower-case letters, digits and `-`";
            return Err(refuse("network", format!("{:?}", self.network), why));
        }
        if let Some(addr) = self.listen.iter().find(|addr| addr.port() == 0) {
            return Err(refuse("listen", addr, "its port must be chosen before discovery starts"));
        }
        if let Some(addr) = self.external.iter().find(|a| a.port() == 0 || a.ip().is_unspecified()) {
            return Err(refuse("external", addr, "it must be an address and port that others can dial"));
        }
        if self.max_connections < MIN_CONNECTIONS {
            return Err(refuse("max_connections", self.max_connections, "it must be at least 8"));
        }
        if self.lookup_timeout.is_zero() {
            return Err(refuse("lookup_timeout", "0s", "it must be longer, e.g. `10s`"));
        }
        self.check_allowed()
    }

    fn check_allowed(&self) -> Result<(), DiscoveryError> {
        let Some(allow) = &self.allow else { return Ok(()) };
        match self.bootstrap.iter().find(|peer| !allow.contains(&peer.node)) {
            Some(peer) => {
                Err(refuse("bootstrap", peer, "in a closed swarm it must be one of the allowed nodes"))
            }
            None => Ok(()),
        }
    }
}

fn refuse(key: &'static str, value: impl ToString, why: &'static str) -> DiscoveryError {
    DiscoveryError::Config { key, value: value.to_string(), why }
}

/// Never shows the secret.
impl std::fmt::Debug for DhtConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DhtConfig")
            .field("node", &node_id_of_secret(&self.secret))
            .field("listen", &self.listen)
            .field("bootstrap", &self.bootstrap)
            .field("mdns", &self.mdns)
            .field("network", &self.network)
            .field("allow", &self.allow)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DhtConfig {
        DhtConfig::new([1; 32], vec!["127.0.0.1:4001".parse().unwrap()])
    }

    fn error(change: impl FnOnce(&mut DhtConfig)) -> String {
        let mut config = config();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_plain_config_passes() {
        config().validate().unwrap();
    }

    #[test]
    fn an_error_names_key_and_value() {
        assert!(error(|c| c.network = "My Net".into()).starts_with("`network` is \"My Net\""));
        assert!(error(|c| c.listen[0].set_port(0)).starts_with("`listen` is 127.0.0.1:0"));
        assert!(error(|c| c.max_connections = 2).contains("at least 8"));
        assert!(error(|c| c.lookup_timeout = Duration::ZERO).contains("`10s`"));
    }

    #[test]
    fn a_closed_swarm_must_allow_its_own_bootstrap_nodes() {
        let peer = PeerAddr::new(NodeId::from_bytes([5; 32]), "127.0.0.1:4002".parse().unwrap());
        let text = error(|c| {
            c.allow = Some(vec![NodeId::from_bytes([6; 32])]);
            c.bootstrap = vec![peer];
        });
        assert!(text.contains("closed swarm"), "{text}");
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", config()).contains("secret"));
    }
}
