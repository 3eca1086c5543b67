//! Connections that this node opened: at most so many, shared by all requests, closed when nobody needs them.
//!
//! **Invariant:** a connection on which something is asked is never closed to make room. Of the others the one that was of use
//! longest ago is: those that nobody uses first, then those on which a peer is only listened to. A node knows more who may
//! have something than it may have connections with, and most of them have nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hubless_limits::Limits;
use hubless_types::{NodeId, Provider};
use iroh::Endpoint;
use iroh::endpoint::{ConnectOptions, Connection, VarInt};
use tokio::time::{Instant, timeout};

use crate::endpoint::{dial_addr, transport, way, window_under};
use crate::limits::{DIAL_TIMEOUT, IDLE_CONNECTION, LISTENS_FOR};
use crate::overhead::Ledger;
use crate::{TransferError, get, wire};

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// Segments, as iroh-blobs sends them.
    Blobs,
    /// All else.
    Hubless,
}

impl Protocol {
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Blobs => get::ALPN,
            Self::Hubless => wire::ALPN,
        }
    }
}

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// A question that is answered, or bytes.
    Answer,
    /// To listen to what the peer says from time to time, for as long as it has a place.
    News,
}

type Key = (NodeId, Protocol);

#[derive(Debug)]
pub(crate) struct Pool {
    endpoint: Endpoint,
    limit: usize,
    limits: Limits,
    ledger: Arc<Ledger>,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
}

/// One peer and protocol: connected, being dialled, or failed a moment ago.
#[derive(Debug)]
struct Slot {
    /// Held while dialling: who comes meanwhile waits for the same attempt.
    connection: tokio::sync::Mutex<Attempt>,
    usage: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Attempt {
    connection: Option<Connection>,
    /// The last failure, which also answers those who were waiting while it happened.
    failed: Option<(Instant, String)>,
}

#[derive(Debug)]
struct Usage {
    users: usize,
    /// Those of `users` who only listen.
    listeners: usize,
    /// When it was of use last: a question or bytes, or that the peer has something.
    last: Instant,
    /// Bytes that may come ahead of what is read.
    window: VarInt,
    /// The shortest round trip that was seen: a full line makes them longer.
    round_trip: Option<Duration>,
    /// For closing it without waiting for `connection`.
    connection: Option<Connection>,
}

/// A connection in use. Dropping it lets the pool close it.
#[derive(Debug)]
pub(crate) struct Lease {
    slot: Arc<Slot>,
    connection: Connection,
    listens: bool,
}

impl std::ops::Deref for Lease {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Lease {
    /// How far the peer is: the shortest round trip that was seen since it was dialled; `None` if it is not reached directly.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let mut usage = self.slot.usage();
        let now = way(&self.connection).map(|(_, round_trip)| round_trip);
        usage.round_trip = usage.round_trip.into_iter().chain(now).min();
        usage.round_trip
    }

    /// From now on its holder only listens: the connection makes room where others need it more.
    pub(crate) fn listen(&mut self) {
        if !std::mem::replace(&mut self.listens, true) {
            self.slot.usage().listeners += 1;
        }
    }

    /// The peer said that it has something.
    pub(crate) fn was_of_use(&self) {
        self.slot.usage().last = Instant::now();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.listens {
            self.slot.stop_listening();
        } else {
            self.slot.release();
        }
    }
}

impl Slot {
    fn new() -> Self {
        let usage = Usage {
            users: 0,
            listeners: 0,
            last: Instant::now(),
            window: VarInt::MAX,
            round_trip: None,
            connection: None,
        };
        Self { connection: tokio::sync::Mutex::default(), usage: Mutex::new(usage) }
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self) {
        let mut usage = self.usage();
        usage.users -= 1;
        usage.last = Instant::now();
    }

    fn stop_listening(&self) {
        let mut usage = self.usage();
        usage.users -= 1;
        usage.listeners -= 1;
    }
}

impl Usage {
    /// Whether its connection may be closed for another that is wanted for `want`: the lower, the sooner. What nobody uses goes
    /// before what is listened to, and that only once it had time to say something, unless there is something to be asked.
    fn may_go(&self, want: Want) -> Option<(bool, Instant)> {
        let only_listened = self.users == self.listeners;
        let had_time = want == Want::Answer || self.last.elapsed() >= LISTENS_FOR;
        (self.users == 0 || only_listened && had_time).then_some((self.users > 0, self.last))
    }
}

/// Counts as a user until it becomes a lease or is dropped.
struct Claim(Option<Arc<Slot>>);

impl Claim {
    fn into_lease(mut self, connection: Connection) -> Option<Lease> {
        let lease = self.0.take().map(|slot| Lease { slot, connection, listens: false })?;
        // Often, so that one of them falls into a moment at which the line is not full.
        lease.round_trip();
        Some(lease)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            slot.release();
        }
    }
}

impl Pool {
    pub(crate) fn new(endpoint: Endpoint, limit: usize, limits: Limits, ledger: Arc<Ledger>) -> Self {
        Self { endpoint, limit: limit.max(1), limits, ledger, slots: Mutex::default() }
    }

    /// Has whoever sends on `lease` keep to the cap on what comes in that holds now.
    pub(crate) fn hold_to_cap(&self, lease: &Lease) {
        let window = window_under(self.limits.down().rate());
        let mut usage = lease.slot.usage();
        if usage.window != window {
            usage.window = window;
            lease.connection.set_receive_window(window);
        }
    }

    /// A connection with `peer`: one that is open, or a new one.
    pub(crate) async fn connect(
        &self,
        peer: &Provider,
        protocol: Protocol,
        want: Want,
    ) -> Result<Lease, TransferError> {
        let asked = Instant::now();
        let slot = self.claim((peer.node, protocol), want)?;
        let claim = Claim(Some(slot.clone()));
        let mut attempt = slot.connection.lock().await;
        if let Some(open) = attempt.connection.as_ref().filter(|c| c.close_reason().is_none()) {
            let open = open.clone();
            drop(attempt);
            return claim.into_lease(open).ok_or(TransferError::Stopping);
        }
        if let Some((at, why)) = &attempt.failed
            && *at >= asked
        {
            return Err(TransferError::Unreachable { node: peer.node, why: why.clone() });
        }
        let window = window_under(self.limits.down().rate());
        match self.dial(peer, protocol, window).await {
            Ok(connection) => {
                self.ledger.watch(&connection);
                *attempt = Attempt { connection: Some(connection.clone()), failed: None };
                {
                    let mut usage = slot.usage();
                    (usage.connection, usage.window) = (Some(connection.clone()), window);
                    usage.round_trip = None;
                }
                drop(attempt);
                claim.into_lease(connection).ok_or(TransferError::Stopping)
            }
            Err(error) => {
                let why = match &error {
                    TransferError::Unreachable { why, .. } => why.clone(),
                    other => other.to_string(),
                };
                *attempt = Attempt { connection: None, failed: Some((Instant::now(), why)) };
                Err(error)
            }
        }
    }

    async fn dial(
        &self,
        peer: &Provider,
        protocol: Protocol,
        window: VarInt,
    ) -> Result<Connection, TransferError> {
        let node = peer.node;
        let unreachable = |why: String| TransferError::Unreachable { node, why };
        let addr = dial_addr(peer).ok_or_else(|| unreachable("its key is none".into()))?;
        if addr.is_empty() {
            return Err(unreachable("no address of it is known".into()));
        }
        let transport = transport(Some(window)).map_err(|why| unreachable(why.into()))?;
        let options = ConnectOptions::new().with_transport_config(transport);
        let dialled = async {
            let connecting = self.endpoint.connect_with_opts(addr, protocol.alpn(), options).await;
            connecting.map_err(|e| e.to_string())?.await.map_err(|e| e.to_string())
        };
        match timeout(DIAL_TIMEOUT, dialled).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(unreachable(error)),
            Err(_) => {
                let addrs: Vec<String> = peer.addrs.iter().take(4).map(ToString::to_string).collect();
                Err(unreachable(format!(
                    "no answer from {} within {} s",
                    addrs.join(", "),
                    DIAL_TIMEOUT.as_secs()
                )))
            }
        }
    }

    /// The slot of `key`, with one more user; makes room for it if need be.
    fn claim(&self, key: Key, want: Want) -> Result<Arc<Slot>, TransferError> {
        let mut slots = self.slots();
        if !slots.contains_key(&key) && slots.len() >= self.limit {
            // What the peer itself says is why it is wanted.
            let others = slots.iter().filter(|((node, _), slot)| *node != key.0 || slot.usage().users == 0);
            let may_go = others.filter_map(|(key, slot)| Some((slot.usage().may_go(want)?, *key)));
            let first = may_go.min_by_key(|(order, _)| *order).map(|(_, key)| key);
            let first = first.ok_or(TransferError::TooManyConnections { limit: self.limit })?;
            close(slots.remove(&first));
        }
        let slot = slots.entry(key).or_insert_with(|| Arc::new(Slot::new())).clone();
        slot.usage().users += 1;
        Ok(slot)
    }

    /// Closes what nobody has used for a while, and forgets what is closed.
    pub(crate) fn sweep(&self) {
        let old: Vec<_> = {
            let mut slots = self.slots();
            let is_old = |slot: &Slot| {
                let usage = slot.usage();
                let dead = usage.connection.as_ref().is_none_or(|c| c.close_reason().is_some());
                usage.users == 0 && (dead || usage.last.elapsed() >= IDLE_CONNECTION)
            };
            slots.extract_if(|_, slot| is_old(slot)).collect()
        };
        old.into_iter().for_each(|(_, slot)| close(Some(slot)));
    }

    /// Connections that are alive.
    pub(crate) fn open_connections(&self) -> usize {
        let is_open =
            |slot: &Slot| slot.usage().connection.as_ref().is_some_and(|c| c.close_reason().is_none());
        self.slots().values().filter(|slot| is_open(slot)).count()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(slot: Option<Arc<Slot>>) {
    if let Some(connection) = slot.and_then(|slot| slot.usage().connection.take()) {
        connection.close(VarInt::from_u32(0), b"idle");
    }
}
