//! The bulk port: takes TCP connections, reads one ticket from each, and hands them to whoever issued it.
//!
//! **Invariant:** of a connection at most 16 bytes are read before its ticket is known, within three seconds, of at most 64
//! connections at once. A ticket is good once, for as long as its holder waits.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::words::{TICKET_BYTES, Ticket};
use crate::TransferError;
use crate::limits::{MAX_TICKETLESS, TICKET_WAIT};
use crate::transfer::Shared;

/// Pause after the system refused to hand out a connection: it is out of files, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Tickets that are out, and where they lead. There are no more than there are places for lines.
#[derive(Debug)]
pub(crate) struct Desk {
    port: u16,
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<TcpStream>>>,
    ticketless: Arc<Semaphore>,
}

/// A ticket that is out; dropping it takes it back.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    desk: &'a Desk,
    pub(super) ticket: Ticket,
    shown: oneshot::Receiver<TcpStream>,
}

impl Claim<'_> {
    /// The connection on which the ticket is shown.
    pub(super) async fn shown(&mut self) -> Option<TcpStream> {
        (&mut self.shown).await.ok()
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.desk.waiting().remove(&self.ticket);
    }
}

impl Desk {
    /// The TCP port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// A new ticket; `None` if the system has no randomness.
    pub(super) fn issue(&self) -> Option<Claim<'_>> {
        let mut ticket = [0; TICKET_BYTES];
        SystemRandom::new().fill(&mut ticket).ok()?;
        let (show, shown) = oneshot::channel();
        self.waiting().insert(ticket, show);
        Some(Claim { desk: self, ticket, shown })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Ticket, oneshot::Sender<TcpStream>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, ticket: &Ticket, stream: TcpStream) {
        if let Some(waiter) = self.waiting().remove(ticket) {
            let _ = waiter.send(stream);
        }
    }
}

/// Binds `port` at each of `addrs`: port 0 takes a free one at the first of them, and the same at the others.
///
/// # Errors
/// [`TransferError::ListenBulk`] if the first cannot be bound; of others it is only said.
pub(crate) async fn listen(
    addrs: &[SocketAddr],
    port: u16,
) -> Result<(Arc<Desk>, Vec<TcpListener>), TransferError> {
    let (mut port, mut listeners) = (port, Vec::new());
    for addr in addrs {
        let addr = SocketAddr::new(addr.ip(), port);
        match TcpListener::bind(addr).await {
            Ok(listener) => {
                port = listener.local_addr().map_or(port, |addr| addr.port());
                listeners.push(listener);
            }
            Err(error) if listeners.is_empty() => {
                return Err(TransferError::ListenBulk { addr, why: error.to_string() });
            }
            Err(error) => tracing::warn!(%addr, %error, "no bulk lines at this address"),
        }
    }
    let ticketless = Arc::new(Semaphore::new(MAX_TICKETLESS));
    Ok((Arc::new(Desk { port, waiting: Mutex::default(), ticketless }), listeners))
}

/// Takes connections until the node stops.
pub(crate) async fn accept(listener: TcpListener, desk: Arc<Desk>, shared: Arc<Shared>) {
    while let Some(accepted) = shared.cancel.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // One too many is closed by being dropped: whoever dialled goes on over QUIC.
        let Ok(place) = desk.ticketless.clone().try_acquire_owned() else { continue };
        let (desk, cancel) = (desk.clone(), shared.cancel.clone());
        shared.tasks.spawn(async move {
            cancel.run_until_cancelled(read_ticket(stream, &desk)).await;
            drop(place);
        });
    }
}

async fn read_ticket(mut stream: tokio::net::TcpStream, desk: &Desk) {
    let mut ticket = [0; TICKET_BYTES];
    if !matches!(timeout(TICKET_WAIT, stream.read_exact(&mut ticket)).await, Ok(Ok(_))) {
        return;
    }
    if let Ok(stream) = stream.into_std()
        && stream.set_nonblocking(false).is_ok()
    {
        desk.show(&ticket, stream);
    }
}
