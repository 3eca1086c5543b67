//! A node whose endpoint is served at a real address, for real clients.

use std::time::Duration;

use anyhow::Result;
use hubless_gateway::{GatewayConfig, serve_http};
use hubless_testkit::{Swarm, SwarmNode};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A served node; it stops when this is dropped.
pub struct Served {
    pub swarm: Swarm,
    pub node: SwarmNode,
    /// `http://127.0.0.1:…`
    pub url: String,
    _servers: JoinSet<()>,
}

impl Served {
    /// A node that reaches nobody.
    pub async fn begin() -> Result<Self> {
        let swarm = Swarm::new()?;
        let node = swarm.lone_node()?;
        Self::of(swarm, node).await
    }

    /// A node of a swarm.
    pub async fn of(swarm: Swarm, node: SwarmNode) -> Result<Self> {
        Self::with(swarm, node, |_| {}).await
    }

    /// A node whose endpoint's settings `change` changes.
    pub async fn with(
        swarm: Swarm,
        node: SwarmNode,
        change: impl FnOnce(&mut GatewayConfig),
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut config =
            GatewayConfig { answer_timeout: Duration::from_secs(30), ..GatewayConfig::default() };
        change(&mut config);
        let mut servers = JoinSet::new();
        servers.spawn(serve_http(listener, node.mirror.clone(), config, CancellationToken::new()));
        Ok(Self { swarm, node, url, _servers: servers })
    }
}
