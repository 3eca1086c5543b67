//! The lines that this node has open, by peer: finds one, opens more, and remembers with whom none comes about.
//!
//! **Invariant:** nobody waits for a line. While one is being opened, and wherever none can be, segments go over QUIC.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hubless_limits::Limits;
use hubless_types::{NodeId, Provider};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::line::{Line, Parts, start};
use super::seal::{Ciphers, Opener};
use super::words::{MAX_OFFER_FRAME, Offer, line_key};
use crate::TransferError;
use crate::decode::garbled;
use crate::endpoint::way;
use crate::limits::{
    FAR, FIRST_LINE_REST, LINE_DIAL_TIMEOUT, LINES_PER_NODE, MAX_LINE_PEERS, MAX_LINE_REST, MAX_LINES,
    STALL_TIMEOUT, STREAM_WAIT,
};
use crate::pool::{Protocol, Want};
use crate::receive::{connection_error, read_frame, write_error};
use crate::stats::PeerBytes;
use crate::transfer::Shared;
use crate::wire::Question;

/// Lines to a peer that is near: one does what a core can.
const NEAR_LINES: usize = 1;

/// All lines.
#[derive(Debug)]
pub(crate) struct Lines {
    peers: Mutex<HashMap<NodeId, Ways>>,
    places: Arc<Semaphore>,
    /// Bytes that came over all of them.
    received: Arc<AtomicU64>,
    /// Bytes that went over those that others opened.
    sent: AtomicU64,
}

/// What is known of one peer.
#[derive(Debug)]
struct Ways {
    lines: Vec<Line>,
    /// How many are being opened.
    opening: usize,
    /// How many lines are worth having.
    worth: usize,
    /// Whether QUIC begins slowly there.
    far: bool,
    /// Told once for each line that is opened.
    news: Arc<Notify>,
    failures: u32,
    rests_until: Option<Instant>,
    used: Instant,
}

impl Ways {
    fn new() -> Self {
        Self {
            lines: Vec::new(),
            opening: 0,
            worth: NEAR_LINES,
            far: false,
            news: Arc::default(),
            failures: 0,
            rests_until: None,
            used: Instant::now(),
        }
    }

    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether a segment that is on its way over QUIC would be here sooner by a line.
    fn is_free(&self) -> bool {
        let idle = |line: &Line| !line.is_closed() && line.queued() == 0;
        self.far && !self.rests() && self.lines.iter().any(idle)
    }

    fn may_open(&self) -> bool {
        !self.rests() && self.lines.len() + self.opening < self.worth
    }

    /// No line came about. Beside lines that are open it is only that the peer gives no more of them; and so it may be beside
    /// those that are being opened: one that comes ends the rest.
    fn refused(&mut self) {
        if self.lines.is_empty() && !self.rests() {
            self.failed();
        }
        self.worth = (self.lines.len() + self.opening).max(NEAR_LINES);
    }

    fn failed(&mut self) {
        let rest = FIRST_LINE_REST.saturating_mul(1 << self.failures.min(8)).min(MAX_LINE_REST);
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(Instant::now() + rest);
    }
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self {
            peers: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_LINES)),
            received: Arc::default(),
            sent: AtomicU64::new(0),
        }
    }

    /// The line to `peer` with the least to do, if there is one. With `open`, more are opened meanwhile where that helps: one,
    /// and as many more as its round trip makes worth having, while half of all places are left for other peers' first ones.
    /// None under a cap on what comes in: QUIC's own flow control then holds the peer back, and a cap is slow enough for it.
    pub(crate) fn to(&self, shared: &Arc<Shared>, peer: &Provider, open: bool) -> Option<Line> {
        if shared.limits.down().rate().bytes().is_some() {
            return None;
        }
        let mut peers = self.peers();
        if peers.len() >= MAX_LINE_PEERS && !peers.contains_key(&peer.node) {
            make_room(&mut peers);
        }
        let ways = peers.entry(peer.node).or_insert_with(Ways::new);
        ways.used = Instant::now();
        ways.lines.retain(|line| !line.is_closed());
        let line = ways.lines.iter().min_by_key(|line| line.queued()).cloned();
        if open && line.as_ref().is_none_or(|line| line.queued() > 0) {
            self.open_to(shared, peer, ways);
        }
        line
    }

    /// Opens as many lines as are worth it and allowed.
    fn open_to(&self, shared: &Arc<Shared>, peer: &Provider, ways: &mut Ways) {
        while ways.may_open()
            && (ways.lines.len() + ways.opening == 0 || self.places.available_permits() > MAX_LINES / 2)
            && let Ok(place) = self.places.clone().try_acquire_owned()
        {
            ways.opening += 1;
            let (shared, peer) = (shared.clone(), peer.clone());
            shared.tasks.clone().spawn(async move { run(shared, peer, place).await });
        }
    }

    /// `peer`, with which a first line is being opened, is so far away: if it is far, the others are opened at once. One
    /// after the other would each take two round trips.
    fn measured(&self, shared: &Arc<Shared>, peer: &Provider, round_trip: Option<Duration>) {
        if let Some(ways) = self.peers().get_mut(&peer.node).filter(|ways| ways.lines.is_empty()) {
            let was_far = std::mem::replace(&mut ways.far, round_trip.is_some_and(|trip| trip >= FAR));
            // Once: who closes each connection that it was asked on is not dialled for the others.
            if ways.far && !was_far && !ways.rests() {
                ways.worth = LINES_PER_NODE;
                self.open_to(shared, peer, ways);
            }
        }
    }

    /// A line to `node` broke, or an answer on it was wrong: it is asked over QUIC for a while.
    pub(crate) fn failed(&self, node: NodeId) {
        if let Some(ways) = self.peers().get_mut(&node)
            && ways.rests_until.is_none_or(|until| until <= Instant::now())
        {
            ways.failed();
        }
    }

    /// Comes when there is a line to `node` that nothing is asked for on, and it is far: QUIC begins slowly there, and takes each
    /// loss for congestion. To one that is near it is no slower. Each line that is opened is one segment's.
    pub(crate) async fn far(&self, limits: &Limits, node: NodeId) {
        loop {
            let Some((news, free)) = self.peers().get(&node).map(|ways| (ways.news.clone(), ways.is_free()))
            else {
                break;
            };
            if free && limits.down().rate().bytes().is_none() {
                return;
            }
            news.notified().await;
        }
        std::future::pending().await
    }

    /// Lines that are open, for figures.
    pub(crate) fn open(&self) -> usize {
        let open = |ways: &Ways| ways.lines.iter().filter(|line| !line.is_closed()).count();
        self.peers().values().map(open).sum()
    }

    /// Counts bytes that went over a line that another node opened; they were counted as its own before.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that all lines carried so far, whoever opened them.
    pub(crate) fn carried(&self) -> PeerBytes {
        PeerBytes { up: self.sent.load(Ordering::Relaxed), down: self.received.load(Ordering::Relaxed) }
    }

    fn opened(&self, node: NodeId, line: Line) {
        if let Some(ways) = self.peers().get_mut(&node) {
            ways.opening = ways.opening.saturating_sub(1);
            (ways.failures, ways.rests_until) = (0, None);
            if ways.far && ways.lines.is_empty() && ways.opening == 0 {
                // After a rest it may grant more than it did.
                ways.worth = LINES_PER_NODE;
            }
            ways.lines.push(line);
            ways.news.notify_one();
        }
    }

    fn not_opened(&self, node: NodeId, error: &TransferError) {
        tracing::debug!(node = %node.short(), %error, "no bulk line");
        if let Some(ways) = self.peers().get_mut(&node) {
            ways.opening = ways.opening.saturating_sub(1);
            ways.refused();
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<NodeId, Ways>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(peers: &mut HashMap<NodeId, Ways>) {
    let idle = peers.iter().filter(|(_, ways)| ways.lines.is_empty() && ways.opening == 0);
    let oldest = idle.min_by_key(|(_, ways)| ways.used).map(|(node, _)| *node);
    if let Some(node) = oldest {
        peers.remove(&node);
    }
}

/// Opens a line and steers it to its end.
async fn run(shared: Arc<Shared>, peer: Provider, place: OwnedSemaphorePermit) {
    let opened = match shared.cancel.run_until_cancelled(open(&shared, &peer, place)).await {
        Some(opened) => opened,
        None => return,
    };
    match opened {
        Ok(parts) => match start(parts) {
            Ok((line, steered)) => {
                shared.lines.opened(peer.node, line);
                steered.await;
            }
            Err(error) => shared.lines.not_opened(peer.node, &unreachable(peer.node, &error)),
        },
        Err(error) => shared.lines.not_opened(peer.node, &error),
    }
}

/// Asks for a line, dials it, and shows the ticket.
async fn open(
    shared: &Arc<Shared>,
    peer: &Provider,
    place: OwnedSemaphorePermit,
) -> Result<Parts, TransferError> {
    let node = peer.node;
    let lease = shared.pool.connect(peer, Protocol::Hubless, Want::Answer).await?;
    shared.lines.measured(shared, peer, lease.round_trip());
    let question = Question::Bulk(Ciphers::here()).encode().map_err(|e| garbled(node, &e))?;
    let asked = async {
        let (mut send, recv) = lease.open_bi().await.map_err(|e| connection_error(e, node))?;
        send.write_chunk(question.into()).await.map_err(|e| write_error(e, node))?;
        Ok::<_, TransferError>((send, recv))
    };
    let (send, mut recv) = timeout(STREAM_WAIT, asked).await.map_err(|_| TransferError::Busy { node })??;
    let offer =
        read_frame(&mut recv, MAX_OFFER_FRAME, Some(STALL_TIMEOUT), node, shared.limits.down()).await?;
    let offer = offer.ok_or_else(|| unreachable(node, &"it offers none"))?;
    let offer = Offer::decode(&offer).map_err(|e| garbled(node, &e))?;
    let (mut addr, _) = way(&lease).ok_or_else(|| unreachable(node, &"it is not reached directly"))?;
    addr.set_port(offer.port);
    let dialled = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(&offer.ticket).await?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        std::io::Result::Ok(stream)
    };
    let dialled = timeout(LINE_DIAL_TIMEOUT, dialled).await;
    let stream = dialled
        .map_err(|_| unreachable(node, &format!("no answer from {addr} (TCP)")))?
        .map_err(|e| unreachable(node, &e))?;
    let key = line_key(&lease, &offer.ticket).ok_or_else(|| unreachable(node, &"no key"))?;
    let opener = Opener::new(offer.cipher, &key).map_err(|e| unreachable(node, &e))?;
    Ok(Parts {
        node,
        lease,
        send,
        recv,
        stream,
        opener,
        counter: shared.counters.of(node),
        received: shared.lines.received.clone(),
        limits: shared.limits.clone(),
        stop: shared.cancel.clone(),
        place,
        token: shared.tasks.token(),
    })
}

fn unreachable(node: NodeId, why: &dyn std::fmt::Display) -> TransferError {
    TransferError::Unreachable { node, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    const NODE: NodeId = NodeId::from_bytes([1; 32]);

    fn opening(far: bool, opening: usize) -> Lines {
        let lines = Lines::new();
        lines.peers().insert(NODE, Ways { far, opening, worth: LINES_PER_NODE, ..Ways::new() });
        lines
    }

    /// Of the segments that are on their way over QUIC each line takes one; to a near peer they stay where they are.
    #[tokio::test]
    async fn each_line_to_a_far_peer_takes_one_segment() {
        let (limits, (line, _asked), (other, _asked_too)) =
            (Limits::default(), Line::idle(NODE), Line::idle(NODE));
        let lines = opening(true, 8);
        let (mut first, mut second) =
            (Box::pin(lines.far(&limits, NODE)), Box::pin(lines.far(&limits, NODE)));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        lines.opened(NODE, line.clone());
        assert!(poll!(&mut first).is_ready() && poll!(&mut second).is_pending());
        lines.opened(NODE, other);
        assert!(poll!(&mut second).is_ready());
        let near = opening(false, 1);
        let mut waits = Box::pin(near.far(&limits, NODE));
        near.opened(NODE, line);
        assert!(poll!(&mut waits).is_pending());
    }

    /// A peer that grants two of eight lines has two, whether it refuses the others before those are open or after.
    #[test]
    fn who_grants_a_few_lines_has_as_many() {
        let error = unreachable(NODE, &"it gives no more");
        for refused_first in [3, 6, 0] {
            let (lines, lined) = (opening(true, 8), [Line::idle(NODE), Line::idle(NODE)]);
            (0..refused_first).for_each(|_| lines.not_opened(NODE, &error));
            lined.iter().for_each(|(line, _)| lines.opened(NODE, line.clone()));
            (refused_first..6).for_each(|_| lines.not_opened(NODE, &error));
            let peers = lines.peers();
            let ways = &peers[&NODE];
            assert_eq!((ways.lines.len(), ways.opening, ways.worth), (2, 0, 2));
            assert!(ways.far && !ways.rests() && !ways.may_open());
        }
    }

    /// Who refuses the first of eight is asked for no other meanwhile, and rests once for all of them; who grants one later may
    /// grant them all.
    #[test]
    fn who_refuses_every_line_rests_once() {
        let (lines, error) = (opening(true, 8), unreachable(NODE, &"it is closed"));
        for left in (0..8).rev() {
            lines.not_opened(NODE, &error);
            let peers = lines.peers();
            let ways = &peers[&NODE];
            assert!(ways.rests() && !ways.may_open());
            assert_eq!((ways.failures, ways.opening, ways.worth), (1, left, left.max(NEAR_LINES)));
        }
        lines.peers().get_mut(&NODE).unwrap().opening = 1;
        lines.opened(NODE, Line::idle(NODE).0);
        assert!(lines.peers()[&NODE].may_open());
    }
}
