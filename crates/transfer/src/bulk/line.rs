//! The fetching side of a line: asks for segments on its QUIC stream, receives them in a thread of its own.
//!
//! Segments wait in the server's hands while the one before them is being sent, so a line need not be idle between two.
//! The thread opens, checks and writes what comes: all of it while the bytes are in the processor's cache.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};

use hubless_limits::{Limits, Use};
use hubless_store::PartialBlob;
use hubless_types::NodeId;
use iroh::endpoint::{RecvStream, SendStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::inbox::{Came, Inbox, InboxError};
use super::offer::EndsLine;
use super::words::Wish;
use crate::TransferError;
use crate::client::Tick;
use crate::decode::Verified;
use crate::get::Get;
use crate::limits::{IDLE_LINE, MAX_ASKED_PER_LINE, STALL_TIMEOUT, STREAM_WAIT};
use crate::pool::Lease;
use crate::refusal::Refusal;
use crate::shape;
use crate::stats::Counter;

/// Why a segment did not come on a line.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The line is no more; so many groups from the first one on are here. Another way may be tried.
    Line { groups: u64, why: String },
    /// The answer was none, and would not be one elsewhere.
    Answer(TransferError),
}

/// A segment on its way.
struct Job {
    get: Get,
    expected: u64,
    verified: Verified,
    ticket: Arc<JobState>,
    done: oneshot::Sender<Result<(), Broken>>,
}

/// What is known of a job outside of the thread.
#[derive(Debug, Default)]
struct JobState {
    cancelled: AtomicBool,
    over: AtomicBool,
}

/// A line that is open. Clones are the same line; it closes when nobody asks for anything for a while.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    node: NodeId,
    jobs: mpsc::Sender<Job>,
    nudge: Arc<Notify>,
    /// Bytes that were asked for and have not come.
    queued: Arc<AtomicU64>,
}

/// Tells the steering task that a job is over, or that whoever wanted it is gone.
struct Wanted<'a> {
    line: &'a Line,
    state: Arc<JobState>,
    bytes: u64,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.line.queued.fetch_sub(self.bytes, Ordering::Relaxed);
        if !self.state.over.load(Ordering::Acquire) {
            self.state.cancelled.store(true, Ordering::Release);
        }
        self.line.nudge.notify_one();
    }
}

impl Line {
    /// A line that leads nowhere, and who is to take what is asked for on it.
    #[cfg(test)]
    pub(super) fn idle(node: NodeId) -> (Self, impl Sized) {
        let (jobs, asked) = mpsc::channel::<Job>(1);
        (Self { node, jobs, nudge: Arc::default(), queued: Arc::default() }, asked)
    }

    /// Whether nothing more can be asked for on it.
    pub(super) fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Bytes that were asked for and have not come.
    pub(super) fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Fetches `groups`, after what was asked for before. Dropping the future takes it back.
    pub(crate) async fn segment(
        &self,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), Broken> {
        let lost = |why: &str| Broken::Line { groups: 0, why: why.into() };
        let state = Arc::new(JobState::default());
        let (done, over) = oneshot::channel();
        let expected = shape::answer_len(into.size(), &groups);
        let job = Job {
            get: Get::groups(into.hash(), &groups),
            expected,
            verified: Verified::new(into, groups, self.node, tick),
            ticket: state.clone(),
            done,
        };
        self.queued.fetch_add(expected, Ordering::Relaxed);
        let _wanted = Wanted { line: self, state, bytes: expected };
        self.jobs.try_send(job).map_err(|_| lost("it takes no more"))?;
        over.await.unwrap_or_else(|_| Err(lost("it was closed")))
    }
}

/// What a line is made of.
pub(super) struct Parts {
    pub(super) node: NodeId,
    pub(super) lease: Lease,
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    pub(super) stream: TcpStream,
    pub(super) opener: super::seal::Opener,
    pub(super) counter: Arc<Counter>,
    pub(super) received: Arc<AtomicU64>,
    pub(super) limits: Limits,
    pub(super) stop: CancellationToken,
    /// Given back when the thread has ended.
    pub(super) place: OwnedSemaphorePermit,
    pub(super) token: TaskTrackerToken,
}

/// Starts a line's thread. The future steers it, and ends it when it is dropped.
pub(super) fn start(parts: Parts) -> std::io::Result<(Line, impl Future<Output = ()> + Send)> {
    let Parts { node, lease, send, recv, stream, opener, counter, received, limits, stop, place, token } =
        parts;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL_TIMEOUT))?;
    let stream = Arc::new(stream);
    let ends = EndsLine(stream.clone());
    let (jobs, inbox) = mpsc::channel(MAX_ASKED_PER_LINE);
    let (asked, asked_jobs) = std_mpsc::sync_channel(MAX_ASKED_PER_LINE);
    let (over, ended) = oneshot::channel::<()>();
    let line = Line { node, jobs, nudge: Arc::default(), queued: Arc::default() };
    let receiver = Receiver { node, inbox: Inbox::new(stream, opener), counter, received, limits };
    // Of the blocking pool, which waits for its threads: none of them outlives the runtime, and with it the store.
    tokio::task::spawn_blocking(move || {
        receiver.run(&asked_jobs);
        drop((over, place, token));
    });
    let nudge = line.nudge.clone();
    let steered = async move {
        let mut steer = Steer { send, nudge, asked, open: VecDeque::new(), next: 0 };
        stop.run_until_cancelled(steer.run(inbox, recv, ended)).await;
        let _ = steer.send.finish();
        drop((ends, lease));
    };
    Ok((line, steered))
}

/// Says on the QUIC stream what is wanted, in the order in which the thread expects it.
struct Steer {
    send: SendStream,
    nudge: Arc<Notify>,
    asked: std_mpsc::SyncSender<Job>,
    /// What was asked for, by number, and is neither over nor taken back.
    open: VecDeque<(u64, Arc<JobState>)>,
    next: u64,
}

impl Steer {
    async fn run(
        &mut self,
        mut jobs: mpsc::Receiver<Job>,
        mut recv: RecvStream,
        mut ended: oneshot::Receiver<()>,
    ) {
        loop {
            self.open.retain(|(_, state)| !state.over.load(Ordering::Acquire));
            let full = self.open.len() >= MAX_ASKED_PER_LINE;
            tokio::select! {
                job = jobs.recv(), if !full => {
                    let Some(job) = job else { return };
                    if !self.ask(job).await {
                        return;
                    }
                }
                () = self.nudge.notified() => if !self.take_back().await { return },
                // The server ends its stream, or resets it, when the line is over.
                _ = recv.read_chunk(1) => return,
                _ = &mut ended => return,
                () = sleep(IDLE_LINE), if self.open.is_empty() => return,
            }
        }
    }

    async fn ask(&mut self, job: Job) -> bool {
        if job.ticket.cancelled.load(Ordering::Acquire) {
            return true;
        }
        let (wish, state) = (Wish::Ask(job.get.clone()), job.ticket.clone());
        // The thread first: the answer may be there before this task runs again.
        if self.asked.try_send(job).is_err() || !self.say(&wish).await {
            return false;
        }
        self.open.push_back((self.next, state));
        self.next += 1;
        true
    }

    async fn take_back(&mut self) -> bool {
        let gone = |(_, state): &(u64, Arc<JobState>)| state.cancelled.load(Ordering::Acquire);
        let cancelled: Vec<u64> =
            self.open.iter().filter(|job| gone(job)).map(|(number, _)| *number).collect();
        self.open.retain(|job| !gone(job));
        for number in cancelled {
            if !self.say(&Wish::Cancel(number)).await {
                return false;
            }
        }
        true
    }

    async fn say(&mut self, wish: &Wish) -> bool {
        matches!(timeout(STREAM_WAIT, self.send.write_chunk(wish.encode())).await, Ok(Ok(())))
    }
}

/// The thread that receives.
struct Receiver {
    node: NodeId,
    inbox: Inbox,
    counter: Arc<Counter>,
    received: Arc<AtomicU64>,
    limits: Limits,
}

impl Receiver {
    fn run(mut self, jobs: &std_mpsc::Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let Job { expected, verified, ticket, done, .. } = job;
            let result = self.receive(expected, verified, &ticket);
            // After a refusal the next answer follows; after anything else nobody knows what would.
            let goes_on = match &result {
                Ok(()) => true,
                Err(Broken::Answer(error)) => {
                    !error.blames_peer()
                        && !matches!(
                            error,
                            TransferError::Disk(_)
                                | TransferError::WrongSize { .. }
                                | TransferError::Spent(_)
                        )
                }
                Err(Broken::Line { .. }) => false,
            };
            ticket.over.store(true, Ordering::Release);
            let _ = done.send(result);
            if !goes_on {
                break;
            }
        }
    }

    fn receive(&mut self, expected: u64, verified: Verified, state: &JobState) -> Result<(), Broken> {
        let (mut verified, mut left) = (Some(verified), expected);
        while left > 0 {
            if let Some(spent) = self.limits.down().spent(Use::Content) {
                return Err(Broken::Answer(spent.into()));
            }
            let bytes = match self.inbox.next(left) {
                Ok(Came::Bytes(bytes)) => bytes,
                Ok(Came::End(code)) => return Err(Broken::Answer(Refusal::error(code, self.node))),
                Err(error) => return Err(self.broken(error, verified.as_ref())),
            };
            self.counter.received(bytes.len());
            self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let came = bytes.len();
            left -= came as u64;
            // What nobody wants any more is still to be taken off the line, up to its end.
            if state.cancelled.load(Ordering::Acquire) {
                verified = None;
            }
            if let Some(verified) = &mut verified {
                verified.push(bytes).map_err(Broken::Answer)?;
            }
            // No line is asked under a cap; this is for the rest of a segment when one is set.
            self.limits.down().pay_blocking(came);
        }
        verified.map_or(Ok(()), |verified| verified.finish().map_err(Broken::Answer))
    }

    fn broken(&self, error: InboxError, verified: Option<&Verified>) -> Broken {
        let node = self.node;
        match error {
            InboxError::Silent => Broken::Answer(TransferError::Stalled { node, after: STALL_TIMEOUT }),
            InboxError::TooMuch => Broken::Answer(TransferError::Protocol { node, what: error.to_string() }),
            error => {
                Broken::Line { groups: verified.map_or(0, Verified::groups_done), why: error.to_string() }
            }
        }
    }
}
