//! The thread that answers on a line: reads, checks, seals and writes, one buffer for all of it.
//!
//! A thread of its own with blocking calls: between the file and the socket nothing is handed from one task to another,
//! and what was read is still in the processor's cache when it is hashed, sealed and sent.
//!
//! **Invariant:** as for every answer: each group is checked in the call that reads it, an upload slot is held while
//! groups are sent, and who takes too slowly is given up.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hubless_limits::Use;
use hubless_store::Encoder;
use hubless_types::GroupSet;
use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::pace::Pace;
use super::seal::{END_BYTES, HEAD_BYTES, Kind, MAX_SEALED, Sealer, TAG_BYTES};
use crate::answer::open_segment;
use crate::get::Get;
use crate::limits::{FAR, MAX_RECORD, RECORDS_AT_ONCE, SLOT_WAIT};
use crate::refusal::Refusal;
use crate::serve::{Patience, Peer};
use crate::slots::Slot;

/// A segment that is to be sent.
pub(super) struct Ask {
    pub(super) get: Get,
    /// Set when nobody wants it any more.
    pub(super) cancelled: Arc<AtomicBool>,
}

/// The line can carry nothing more: it broke, or the peer takes too slowly.
struct Over;

/// Records at the beginning of the buffer.
#[derive(Debug, Clone, Copy, Default)]
struct Filled {
    /// Their bytes.
    sealed: usize,
    /// The answer's bytes in them.
    plain: usize,
}

/// How an answer ended early.
enum Stop {
    Line,
    Answer(Refusal),
}

impl From<Over> for Stop {
    fn from(_: Over) -> Self {
        Self::Line
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Answer(refusal)
    }
}

pub(super) struct Sender {
    line: Arc<TcpStream>,
    sealer: Sealer,
    peer: Arc<Peer>,
    runtime: Handle,
    buffer: Vec<u8>,
    pace: Pace,
    /// That of the last answer, while the next one may follow.
    slot: Option<Slot>,
}

impl Sender {
    pub(super) fn new(line: Arc<TcpStream>, sealer: Sealer, peer: Arc<Peer>, runtime: Handle) -> Self {
        let socket = SockRef::from(&*line);
        // None of these is needed: without them a line is slower, or ends later.
        let _ = socket.set_tcp_nodelay(true);
        let pace = Pace::default();
        let _ = socket.set_tcp_notsent_lowat(pace.unsent());
        if peer.round_trip() >= FAR {
            let _ = socket.set_tcp_congestion(b"bbr");
        }
        let buffer = vec![0; RECORDS_AT_ONCE * MAX_SEALED];
        Self { line, sealer, peer, runtime, buffer, pace, slot: None }
    }

    /// Answers one ask after another until there are no more, or the line breaks.
    pub(super) fn run(mut self, asked: &mpsc::Receiver<Ask>) {
        while let Some(ask) = self.next(asked) {
            let stopped = match self.answer(&ask) {
                Ok(()) => Ok(()),
                Err(Stop::Answer(refusal)) => {
                    self.slot = None;
                    self.refuse(refusal)
                }
                Err(Stop::Line) => Err(Over),
            };
            if stopped.is_err() {
                break;
            }
        }
    }

    /// The next ask. No slot is kept while there is none.
    fn next(&mut self, asked: &mpsc::Receiver<Ask>) -> Option<Ask> {
        asked.try_recv().ok().or_else(|| {
            self.slot = None;
            asked.recv().ok()
        })
    }

    fn answer(&mut self, ask: &Ask) -> Result<(), Stop> {
        let peer = self.peer.clone();
        let taken_back = || ask.cancelled.load(Ordering::Relaxed);
        if taken_back() {
            return Err(Refusal::Busy.into());
        }
        let last = self.slot.take();
        let slot = async {
            let slot = timeout(SLOT_WAIT, peer.shared.uploads.take_after(last, peer.node));
            peer.shared.cancel.run_until_cancelled(slot).await
        };
        self.slot = match self.runtime.block_on(slot) {
            Some(Ok(slot)) => Some(slot),
            Some(Err(_)) => return Err(Refusal::Busy.into()),
            None => return Err(Refusal::Stopping.into()),
        };
        // What was taken back while it waited was given to nobody.
        if taken_back() {
            return Err(Refusal::Busy.into());
        }
        let gave = |groups: &GroupSet| peer.shared.crowds.gave(&ask.get.hash, &peer.node, groups);
        let wanted = |size| ask.get.wanted(size).inspect(gave);
        let mut encoder = open_segment(&peer.shared.store, &ask.get.hash, wanted)?;
        let mut patience = Patience::new();
        while !taken_back() {
            if peer.shared.limits.up().spent(Use::Content).is_some() {
                break;
            }
            let (filled, fault) = self.fill(&mut encoder);
            if filled.sealed > 0 {
                self.send(filled, &mut patience)?;
            }
            fault?;
            // Known at once: whoever has all of it expects another answer next, and no word about this one.
            if !encoder.has_more() {
                return Ok(());
            }
        }
        Err(Refusal::Busy.into())
    }

    /// Seals the next records into the buffer. Says how much they are, which is good, and what went wrong after them.
    fn fill(&mut self, encoder: &mut Encoder) -> (Filled, Result<(), Refusal>) {
        let mut filled = Filled::default();
        for _ in 0..self.pace.records() {
            let room = &mut self.buffer[filled.sealed..filled.sealed + MAX_SEALED];
            let len = match encoder.fill(&mut room[HEAD_BYTES..HEAD_BYTES + MAX_RECORD]) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) => return (filled, Err(error.into())),
            };
            match self.sealer.seal(Kind::Data, room, len) {
                Ok(sealed) => filled.sealed += sealed,
                Err(_) => return (filled, Err(Refusal::Failed)),
            }
            filled.plain += len;
        }
        (filled, Ok(()))
    }

    /// Says that an answer ends here.
    fn refuse(&mut self, refusal: Refusal) -> Result<(), Over> {
        tracing::debug!(node = %self.peer.node, ?refusal, "a segment was not sent");
        let room = &mut self.buffer[..HEAD_BYTES + END_BYTES + TAG_BYTES];
        room[HEAD_BYTES..HEAD_BYTES + END_BYTES].copy_from_slice(&refusal.code().to_le_bytes());
        let sealed = self.sealer.seal(Kind::End, room, END_BYTES).map_err(|_| Over)?;
        self.send(Filled { sealed, plain: 0 }, &mut Patience::new())
    }

    /// Writes what was filled. All that leaves on this line passes here.
    fn send(&mut self, filled: Filled, patience: &mut Patience) -> Result<(), Over> {
        let (within, began) = (patience.for_piece(filled.sealed), Instant::now());
        // Only waiting for the peer counts against it, not for this node's own cap.
        let mut waited = Duration::ZERO;
        let mut rest = &self.buffer[..filled.sealed];
        let mut allowed = 0;
        while !rest.is_empty() {
            if allowed == 0 {
                allowed = self.peer.shared.limits.up().take_blocking(rest.len()).clamp(1, rest.len());
            }
            let left = within.checked_sub(waited).filter(|left| !left.is_zero()).ok_or(Over)?;
            self.line.set_write_timeout(Some(left)).map_err(|_| Over)?;
            let before = Instant::now();
            match (&*self.line).write(&rest[..allowed]) {
                Ok(0) => return Err(Over),
                Ok(sent) => (rest, allowed) = (&rest[sent..], allowed - sent),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Broken, or not taken in time.
                Err(_) => return Err(Over),
            }
            waited += before.elapsed();
        }
        self.peer.counter.sent(filled.plain);
        self.peer.shared.lines.sent(filled.plain);
        self.peer.shared.uploads.sent(&self.peer.node, filled.plain);
        patience.spend(waited);
        // A refusal is too short to tell anything.
        if filled.plain > 0 && self.pace.took(filled.sealed, began.elapsed()) {
            let _ = SockRef::from(&*self.line).set_tcp_notsent_lowat(self.pace.unsent());
        }
        Ok(())
    }
}
