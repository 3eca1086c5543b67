//! Whether this node should answer for others: a pure decision over what is known of its reachability.

use std::net::SocketAddr;

use crate::DhtMode;
use crate::addrs;

/// What is known of how this node is reached.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reach<'a> {
    /// The addresses it tells others.
    pub(crate) published: &'a [SocketAddr],
    /// Whether the operator named an address by which others reach it.
    pub(crate) configured: bool,
    /// Whether a connection came in from a global address: somebody far away did reach it.
    pub(crate) reached_from_afar: bool,
    /// Whether it is connected with nodes at global addresses, who may not reach a private one.
    pub(crate) talks_afar: bool,
}

impl Reach<'_> {
    /// Server where those whom this node talks with can reach it; else client, so that nobody's walk waits for
    /// a node behind a NAT.
    pub(crate) fn mode(&self) -> DhtMode {
        let known = self.configured || self.reached_from_afar;
        let global = self.published.iter().any(addrs::is_global);
        let near = !self.published.is_empty() && !self.talks_afar;
        if known || global || near { DhtMode::Server } else { DhtMode::Client }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(addr: &str, configured: bool, reached_from_afar: bool, talks_afar: bool) -> DhtMode {
        let published: Vec<SocketAddr> = addr.split_whitespace().map(|a| a.parse().unwrap()).collect();
        Reach { published: &published, configured, reached_from_afar, talks_afar }.mode()
    }

    #[test]
    fn a_node_among_neighbours_serves_them() {
        assert_eq!(mode("127.0.0.1:1", false, false, false), DhtMode::Server);
        assert_eq!(mode("192.168.1.2:1", false, false, false), DhtMode::Server);
    }

    #[test]
    fn a_node_behind_a_nat_asks_only_until_somebody_reaches_it() {
        assert_eq!(mode("192.168.1.2:1", false, false, true), DhtMode::Client);
        assert_eq!(mode("192.168.1.2:1", false, true, true), DhtMode::Server);
        assert_eq!(mode("192.168.1.2:1", true, false, true), DhtMode::Server);
    }

    #[test]
    fn a_node_that_listens_nowhere_is_a_client() {
        assert_eq!(mode("", false, false, false), DhtMode::Client);
        assert_eq!(mode("9.9.9.5:1", false, false, true), DhtMode::Server);
    }
}
