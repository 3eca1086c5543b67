//! Accepts connections and speaks HTTP/1.1 on them.
//!
//! **Invariant:** every connection is owned by the set of its server and has a place ([`crate::seats`]); when the
//! server is told to stop, idle connections end at once and busy ones after their present answer, or after
//! [`DRAIN_TIMEOUT`].
//! **Not here:** what is answered ([`crate::app`], [`crate::admin`]).

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::util::MapRequest;

use hubless_mirror::Mirror;

use crate::head;
use crate::seats::{Seat, Seats};
use crate::stall::StallGuard;
use crate::{GatewayConfig, Reload, admin_router, router};

/// Longest wait for a request's head, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest request head that hyper reads, in bytes. It refuses larger ones by a bare status, so what is refused with
/// words ([`crate::head`]) comes before it.
const READ_HEAD_BYTES: usize = 2 * head::MAX_HEAD_BYTES;
/// Most header lines that hyper reads, likewise.
const READ_HEADERS: usize = 4 * head::MAX_HEADERS;
/// Most connections on the admin socket at once.
const MAX_ADMIN_CONNECTIONS: usize = 64;
/// Longest wait for busy connections when the server stops; then they are cut. A node has ten seconds for all its parts.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Pause after a failed accept (no file handles left, most likely), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the Hub-compatible endpoint on `listener` until `shutdown`.
pub async fn serve_http(
    listener: TcpListener,
    mirror: Mirror,
    config: GatewayConfig,
    shutdown: CancellationToken,
) {
    let app = router(mirror, &config, listener.local_addr().ok());
    serve(listener, app, config.max_connections, shutdown).await;
}

/// Serves the admin API on `listener`, which only its owner may open, until `shutdown`.
pub async fn serve_admin(
    listener: UnixListener,
    mirror: Mirror,
    reload: Option<Arc<dyn Reload>>,
    shutdown: CancellationToken,
) {
    let app = admin_router(mirror, reload);
    serve(listener, app, MAX_ADMIN_CONNECTIONS, shutdown).await;
}

/// Where connections come from.
trait Accept: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection, and from which address it comes.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    async fn next(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, from) = self.accept().await?;
        // Small answers must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        Ok((stream, Some(from.ip())))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    async fn next(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Ok((self.accept().await?.0, None))
    }
}

async fn serve(listener: impl Accept, app: Router, limit: usize, shutdown: CancellationToken) {
    let seats = Seats::new(limit);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let seated = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            seated = next_connection(&listener, &seats) => seated,
        };
        match seated {
            Ok(Some((stream, seat))) => {
                connections.spawn(converse(stream, app.clone(), seat, shutdown.clone()));
            }
            // Its address has its part of the places: it is hung up on.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drain(connections).await;
}

async fn next_connection<L: Accept>(listener: &L, seats: &Seats) -> io::Result<Option<(L::Stream, Seat)>> {
    let (stream, from) = listener.next().await?;
    Ok(seats.take(from).await.map(|seat| (stream, seat)))
}

async fn converse<S>(stream: S, app: Router, seat: Seat, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = seat.pulse.clone();
    let app = MapRequest::new(app, move |request| {
        asked.asked();
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(READ_HEADERS)
        .max_buf_size(READ_HEAD_BYTES)
        .serve_connection(
            TokioIo::new(StallGuard::new(stream, seat.pulse.clone())),
            TowerToHyperService::new(app),
        );
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = seat.end.cancelled() => return tracing::debug!("a client that took nothing made room for others"),
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn drain(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_err() {
        tracing::warn!(left = connections.len(), "connections were cut: they did not end in time");
        connections.shutdown().await;
    }
}
