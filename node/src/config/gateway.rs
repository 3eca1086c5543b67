//! `[gateway]`: the door for Hub clients.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// The port that `HF_ENDPOINT` names in every example.
const DEFAULT_PORT: u16 = 8090;

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    /// Where Hub clients are served; port 0 takes any free port.
    pub(crate) listen: SocketAddr,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)) }
    }
}
