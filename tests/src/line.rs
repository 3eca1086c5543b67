//! A line to a node that can be made slow, so that a client can be killed in the middle of a transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Bytes that a slow line passes on at a time.
const PIECE: usize = 16 * 1024;

/// Passes bytes on between a client and a node. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Line {
    /// What a client is given in place of the node's address.
    pub endpoint: String,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    to: String,
    /// Bytes a second towards the client, of all connections together; 0 is no limit.
    rate: AtomicU64,
    passed: AtomicU64,
}

impl Line {
    /// A line to the node at `endpoint` (`http://…`), without a limit.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn to(endpoint: &str) -> Result<Self> {
        let to = endpoint.strip_prefix("http://").context("an endpoint is http")?.to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared { to, rate: AtomicU64::new(0), passed: AtomicU64::new(0) });
        let mut task = JoinSet::new();
        task.spawn(serve(listener, shared.clone()));
        Ok(Self { endpoint: own, shared, _task: task })
    }

    /// Holds it to so many bytes a second; `None` lifts the limit.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        self.shared.rate.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// Bytes that went to clients so far.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(pass(client, shared.clone(), turn.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(client: TcpStream, shared: Arc<Shared>, turn: Arc<tokio::sync::Mutex<()>>) {
    let Ok(node) = TcpStream::connect(&shared.to).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_node).await;
        let _ = to_node.shutdown().await;
    };
    let down = async {
        let mut piece = vec![0; PIECE];
        while let Ok(len @ 1..) = from_node.read(&mut piece).await {
            let rate = shared.rate.load(Ordering::Relaxed);
            if rate > 0 {
                // One connection at a time waits, so that the limit is for all of them together.
                let _turn = turn.lock().await;
                tokio::time::sleep(Duration::from_secs_f64(len as f64 / rate as f64)).await;
            }
            if to_client.write_all(&piece[..len]).await.is_err() {
                break;
            }
            shared.passed.fetch_add(len as u64, Ordering::Relaxed);
        }
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A limit holds for all connections together, and is gone when it is lifted.
    #[tokio::test]
    async fn a_line_is_as_slow_as_it_is_told() -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let mut servers = JoinSet::new();
        servers.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(&[7; 200_000]).await;
            }
        });
        let line = Line::to(&endpoint).await?;
        let fetch = || async {
            let mut stream = TcpStream::connect(line.endpoint.trim_start_matches("http://")).await?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await?;
            anyhow::ensure!(bytes == [7; 200_000]);
            Ok(())
        };
        line.limit(Some(1_000_000));
        let began = Instant::now();
        tokio::try_join!(fetch(), fetch())?;
        assert!(began.elapsed() > Duration::from_millis(350), "{:?}", began.elapsed());
        assert_eq!(line.passed(), 400_000);
        line.limit(None);
        let began = Instant::now();
        fetch().await?;
        assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
        Ok(())
    }
}
