//! Real nodes over loopback, on ports of their own, and patience.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use hubless_discovery::{Dht, DhtConfig, DhtKey, Discovery, DiscoveryError, MemoryTable, pick_port};
use hubless_types::{Clock, CommitId, NodeId, PeerAddr, SystemClock};

pub(crate) type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Longest wait for something that happens soon.
pub(crate) const SOON: Duration = Duration::from_secs(8);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The secret of node `n`.
pub(crate) fn secret(n: u8) -> [u8; 32] {
    [n + 1; 32]
}

pub(crate) fn commit(n: u8) -> DhtKey {
    DhtKey::Commit(CommitId::from_bytes([n; 20]))
}

/// A config on a free loopback port.
pub(crate) fn config(n: u8, bootstrap: &[PeerAddr]) -> DhtConfig {
    let port = pick_port(LOCAL).unwrap();
    let mut config = DhtConfig::new(secret(n), vec![SocketAddr::new(LOCAL, port)]);
    config.bootstrap = bootstrap.to_vec();
    config.lookup_timeout = Duration::from_secs(5);
    config
}

pub(crate) async fn start(config: DhtConfig) -> Result<Dht, DiscoveryError> {
    Dht::start(config, Arc::new(MemoryTable::new()), Arc::new(SystemClock)).await
}

pub(crate) async fn start_with_clock(
    config: DhtConfig,
    clock: Arc<dyn Clock>,
) -> Result<Dht, DiscoveryError> {
    Dht::start(config, Arc::new(MemoryTable::new()), clock).await
}

/// `count` nodes; all but the first know the first.
pub(crate) async fn cluster(count: u8) -> Result<Vec<Arc<Dht>>, DiscoveryError> {
    let first = start(config(0, &[])).await?;
    let bootstrap = first.addresses();
    let mut nodes = vec![Arc::new(first)];
    for n in 1..count {
        nodes.push(Arc::new(start(config(n, &bootstrap)).await?));
    }
    Ok(nodes)
}

/// Who provides `key`, by this node's lookup.
pub(crate) async fn found(node: &dyn Discovery, key: &DhtKey) -> BTreeSet<NodeId> {
    node.find(key).map(|provider| provider.node).collect().await
}

/// Waits until `check` holds.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !check().await {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a lookup for `key` names exactly `nodes`.
pub(crate) async fn eventually_found(by: &dyn Discovery, key: &DhtKey, nodes: &[NodeId]) {
    let expected = BTreeSet::from_iter(nodes.iter().copied());
    eventually("the lookup names the expected nodes", async || found(by, key).await == expected).await;
}
