//! A slow line, for measuring: what a node dials then takes as long as if it were far away, or leads nowhere.
//!
//! The side that dials delays both directions, since it alone knows who is at both ends. Nothing of this is used
//! unless a [`Line`] is set.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::Either;
use libp2p::core::ConnectedPoint;
use libp2p::tcp::tokio::TcpStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::addrs::to_socket;

/// Bytes that are read at once, and that may wait at either end of a line.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way in one direction.
const ON_THE_WAY: usize = 1_024;

/// Tells the round trip to the node that listens on a port, for so many bytes; `None` if it can no longer be reached.
type RoundTrip = dyn Fn(u16, usize) -> Option<Duration> + Send + Sync;

/// How long what a node dials takes.
#[derive(Clone)]
pub struct Line(Arc<RoundTrip>);

impl Line {
    /// Asked for each chunk that is sent or received, with its length, and with 0 before connecting.
    pub fn new(round_trip: impl Fn(u16, usize) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(round_trip))
    }

    pub(crate) async fn lay(
        self,
        stream: TcpStream,
        end: ConnectedPoint,
    ) -> Either<TcpStream, Compat<DuplexStream>> {
        let ConnectedPoint::Dialer { address, .. } = end else { return Either::Left(stream) };
        let port = to_socket(&address, None).map_or(0, |addr| addr.port());
        match (self.0)(port, 0) {
            Some(trip) => tokio::time::sleep(trip).await,
            None => std::future::pending().await,
        }
        let (near, far) = tokio::io::duplex(4 * CHUNK);
        let (from_near, to_near) = tokio::io::split(far);
        let (from_wire, to_wire) = stream.0.into_split();
        #[allow(
            clippy::disallowed_methods,
            reason = "it ends with the stream, at the latest with the runtime"
        )]
        tokio::spawn(async move {
            tokio::join!(self.carry(port, from_near, to_wire), self.carry(port, from_wire, to_near));
        });
        Either::Right(near.compat())
    }

    async fn carry(&self, port: u16, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let (send, mut sent) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
        let read = async move {
            let mut chunk = vec![0; CHUNK];
            while let Ok(len @ 1..) = from.read(&mut chunk).await {
                let Some(trip) = (self.0)(port, len) else { continue };
                if send.send((Instant::now() + trip / 2, chunk[..len].to_vec())).await.is_err() {
                    return;
                }
            }
        };
        let write = async {
            while let Some((due, chunk)) = sent.recv().await {
                tokio::time::sleep_until(due.into()).await;
                if to.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        };
        tokio::join!(read, write);
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}
