//! A node's line to the others: where its faults happen.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Faults, lock};
use crate::limits::STALL_TIMEOUT;

/// Parts of a second by which a slow line lets bytes through.
const SLICES_PER_SECOND: u64 = 20;

/// What became of bytes that were put on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// So many went through, at least one.
    Bytes(usize),
    /// The stall timeout ran out.
    Stalled,
    /// The connection broke.
    Cut,
}

#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    /// Counts cuts; whoever is sending sees it move.
    cuts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    /// Bytes sent since the faults were set.
    sent: u64,
    /// Segments taken in since then.
    taken: u64,
    /// When the slow line is free again.
    free_at: Option<Instant>,
}

impl Default for Line {
    fn default() -> Self {
        Self { state: Mutex::default(), cuts: watch::Sender::new(0) }
    }
}

impl Line {
    pub(super) fn set(&self, faults: Faults) {
        *lock(&self.state) = State { faults, ..State::default() };
    }

    /// Takes in one more segment; `false` if there is no room on the disk.
    pub(super) fn take_in(&self) -> bool {
        let mut state = lock(&self.state);
        state.taken += 1;
        state.faults.disk_full_after.is_none_or(|most| state.taken <= most)
    }

    pub(super) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    pub(super) fn faults(&self) -> Faults {
        lock(&self.state).faults
    }

    /// To be taken when a request starts: it breaks at the next cut.
    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        let mut cuts = self.cuts.subscribe();
        cuts.borrow_and_update();
        cuts
    }

    /// Sends up to `len` bytes (not 0), after as long as that takes.
    pub(super) async fn pass(&self, len: usize, cuts: &mut watch::Receiver<u64>) -> Passed {
        let next = self.reserve(len as u64);
        tokio::select! {
            biased;
            _ = cuts.changed() => Passed::Cut,
            passed = next.happen() => {
                if passed == Passed::Cut {
                    self.cut();
                }
                passed
            }
        }
    }

    fn reserve(&self, len: u64) -> Next {
        let mut state = lock(&self.state);
        let left = |after: Option<u64>, sent: u64| after.map_or(u64::MAX, |after| after.saturating_sub(sent));
        let until_cut = left(state.faults.cut_after, state.sent);
        let until_stall = left(state.faults.stall_after, state.sent);
        if until_cut == 0 {
            state.faults.unreachable = true;
            return Next::Cut;
        }
        if until_stall == 0 {
            return Next::Stall;
        }
        let mut now = len.min(until_cut).min(until_stall);
        let Some(rate) = state.faults.bytes_per_second.map(|rate| rate.max(1)) else {
            state.sent += now;
            return Next::Bytes(now, None);
        };
        now = now.min((rate / SLICES_PER_SECOND).max(1));
        state.sent += now;
        let start = state.free_at.map_or_else(Instant::now, |free_at| free_at.max(Instant::now()));
        let end = start + Duration::from_secs_f64(now as f64 / rate as f64);
        state.free_at = Some(end);
        Next::Bytes(now, Some(end))
    }
}

enum Next {
    Bytes(u64, Option<Instant>),
    Stall,
    Cut,
}

impl Next {
    async fn happen(self) -> Passed {
        match self {
            Self::Cut => Passed::Cut,
            Self::Stall => {
                sleep(STALL_TIMEOUT).await;
                Passed::Stalled
            }
            Self::Bytes(bytes, at) => {
                if let Some(at) = at {
                    sleep_until(at).await;
                }
                Passed::Bytes(bytes as usize)
            }
        }
    }
}
