//! Tells how far the hashing of a folder is, and whether anybody still waits for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Found;
use crate::meter::TELL_EVERY;
use crate::util::locked;
use crate::{MirrorError, Progress, ProgressSink};

/// What the bytes of an added folder come from.
const DISK: &str = "disk";

/// Tells how far hashing is, and whether it is still wanted.
pub(crate) struct Teller {
    sink: ProgressSink,
    done: AtomicU64,
    started: Instant,
    told: Mutex<Instant>,
    given_up: CancellationToken,
}

impl Teller {
    /// `given_up` is cancelled when nobody waits for the work any more.
    pub(crate) fn new(sink: ProgressSink, given_up: CancellationToken) -> Self {
        let now = Instant::now();
        Self { sink, done: AtomicU64::new(0), started: now, told: Mutex::new(now), given_up }
    }

    /// Whether nobody waits for the work any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.is_cancelled()
    }

    /// Stops work that nobody waits for.
    ///
    /// # Errors
    /// [`MirrorError::Stopped`].
    pub(crate) fn go_on(&self) -> Result<(), MirrorError> {
        if self.is_given_up() { Err(MirrorError::Stopped) } else { Ok(()) }
    }

    pub(crate) fn tell(&self, progress: Progress) {
        let _ = self.sink.try_send(progress);
    }

    /// So many more bytes were hashed.
    pub(crate) fn bytes(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
        let mut told = locked(&self.told);
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            drop(told);
            self.end();
        }
    }

    pub(crate) fn file(&self, found: &Found) {
        self.tell(Progress::File { path: found.path.clone(), bytes: found.size });
    }

    /// Tells where it stands.
    pub(crate) fn end(&self) {
        let done = self.done.load(Ordering::Relaxed);
        let millis = self.started.elapsed().as_millis() as u64;
        let rate = done.saturating_mul(1000).checked_div(millis).unwrap_or(0);
        self.tell(Progress::Bytes { done, from: vec![(DISK.to_owned(), done)], rate });
    }
}
