//! `[discovery]`: how this node finds others.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hubless_mirror::MirrorConfig;
use hubless_types::PeerAddr;
use serde::Deserialize;

use super::Unfit;

/// The port that nodes listen on unless told otherwise, TCP and UDP.
const DEFAULT_PORT: u16 = 4001;
/// Longest useful wait for providers.
const MAX_LOOKUP_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// More often than this only burdens others.
const MIN_ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Records live 48 h, and two announcements of one may be one and a half intervals apart.
const MAX_ANNOUNCE_INTERVAL: Duration = Duration::from_secs(30 * 3600);

/// `[discovery]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DiscoveryConfig {
    /// Where other nodes reach this one, TCP (DHT) and UDP (bytes); port 0 takes any free port.
    pub(crate) listen: SocketAddr,
    /// Nodes to begin with.
    pub(crate) bootstrap: Vec<PeerAddr>,
    /// Addresses under which others reach this node through a forwarding router.
    pub(crate) external: Vec<SocketAddr>,
    /// Whether to find nodes on the local network.
    pub(crate) mdns: bool,
    /// Longest wait for providers, of the DHT and of all that asks it. A little less than Hub clients wait for an answer
    /// leaves room for what follows a lookup.
    #[serde(with = "humantime_serde")]
    pub(crate) lookup_timeout: Duration,
    /// Whether to tell the DHT what this node holds.
    pub(crate) announce: bool,
    /// How often each record is renewed.
    #[serde(with = "humantime_serde")]
    pub(crate) announce_interval: Duration,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
            bootstrap: Vec::new(),
            external: Vec::new(),
            mdns: true,
            lookup_timeout: MirrorConfig::default().lookup_timeout,
            announce: true,
            announce_interval: Duration::from_secs(22 * 3600),
        }
    }
}

impl DiscoveryConfig {
    pub(super) fn validate(&self) -> Result<(), Unfit> {
        if self.lookup_timeout.is_zero() || self.lookup_timeout > MAX_LOOKUP_TIMEOUT {
            return Err(Unfit::new("discovery.lookup_timeout", format!("{:?}", self.lookup_timeout)));
        }
        if let Some(addr) = self.external.iter().find(|a| a.port() == 0 || a.ip().is_unspecified()) {
            return Err(Unfit::new("discovery.external", addr.to_string()));
        }
        if !(MIN_ANNOUNCE_INTERVAL..=MAX_ANNOUNCE_INTERVAL).contains(&self.announce_interval) {
            return Err(Unfit::new("discovery.announce_interval", format!("{:?}", self.announce_interval)));
        }
        Ok(())
    }
}
