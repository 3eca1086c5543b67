//! `[gateway]`: limits and names of the Hub-compatible endpoint.

use std::time::Duration;

/// Most connections that the Hub-compatible endpoint serves at once; further ones wait to be accepted.
pub(crate) const MAX_CONNECTIONS: usize = 256;
/// Longest time from a request's arrival to the beginning of its answer. Hub clients give up after 10 s.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_millis(9_500);

/// Files above this many bytes are offered by Xet as well: Python clients refuse to take them by plain HTTP.
pub(crate) const XET_ABOVE: u64 = 50 * 1_000_000_000;

/// How the Hub-compatible endpoint behaves.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The version that `/healthz` tells.
    pub version: String,
    /// Most connections at once (1 or more); 256 if nothing is said.
    pub max_connections: usize,
    /// Longest wait before an answer begins; then the client is told to come again.
    pub answer_timeout: Duration,
    /// Files above this many bytes are offered by Xet as well.
    pub xet_above: u64,
    /// Names of this host that are its own, beside addresses and `localhost`: where the endpoint listens on loopback, what is
    /// not for everyone is shown by these alone.
    pub hosts: Vec<String>,
    /// Origins (`https://app.example`, or `*` for all) whose web pages may read what is not for everyone as well.
    pub cors_origins: Vec<String>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_connections: MAX_CONNECTIONS,
            answer_timeout: ANSWER_TIMEOUT,
            xet_above: XET_ABOVE,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
        }
    }
}
