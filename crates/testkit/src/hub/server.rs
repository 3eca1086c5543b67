//! The two ports: connections, and what each request is handed to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Shared;
use super::record::{PortOf, Record, Recorded, Who};

/// Opens a port of the loopback interface; 0 takes a free one.
pub(crate) async fn listen(port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))
}

/// Both ports. Dropping them closes every connection.
pub(crate) struct Doors {
    tasks: JoinSet<()>,
}

impl Doors {
    pub(crate) fn open(shared: Arc<Shared>, hub: TcpListener, content: TcpListener) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(shared.clone(), hub, PortOf::Hub));
        tasks.spawn(serve(shared, content, PortOf::Content));
        Self { tasks }
    }

    /// Returns when both are closed.
    pub(crate) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(_shared: Arc<Shared>, listener: TcpListener, _port: PortOf) {
    let _ = listener.accept().await;
}
