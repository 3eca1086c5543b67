//! What a caller holds of a fetch: waiting for bytes, steering it by where it reads, watching it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hubless_store::{Hold, PartialBlob};
use hubless_types::{BlobHash, ByteRange};
use tokio::sync::{Notify, watch};

use super::{FetchError, Want};
use hubless_plan::Source;

/// How far a fetch is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchProgress {
    /// Bytes that are here and verified, those from before this fetch included.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
    /// Bytes that each node or origin sent in this fetch, duplicates and proofs included.
    pub from: Vec<(Source, u64)>,
    /// Bytes a second of late.
    pub rate: u64,
}

/// Where a fetch stands.
#[derive(Debug, Clone)]
pub(super) enum State {
    Running,
    Done,
    Failed(FetchError),
}

/// Readers that one file may have; further ones wait without steering.
const MAX_READERS: usize = 64;

/// One fetch, as its handles and the driver share it.
pub(super) struct Job {
    pub(super) want: Want,
    pub(super) partial: PartialBlob,
    pub(super) progress: watch::Sender<FetchProgress>,
    pub(super) state: watch::Sender<State>,
    /// Whether its tree is here, so that what an origin sends can be checked as it comes.
    pub(super) treed: watch::Sender<bool>,
    /// How many handles there are. It leaves 0 only under the lock of the fetcher's table.
    pub(super) handles: AtomicUsize,
    readers: Mutex<BTreeMap<u64, ByteRange>>,
    moved: AtomicBool,
    /// Set when bytes came that the plan did not ask for.
    poured: AtomicBool,
    next_reader: Arc<AtomicU64>,
    wake: Arc<Notify>,
    /// Keeps the collector away while anybody is here.
    _hold: Hold,
}

impl Job {
    pub(super) fn new(
        want: Want,
        partial: PartialBlob,
        hold: Hold,
        next_reader: Arc<AtomicU64>,
        wake: Arc<Notify>,
    ) -> Self {
        let done = partial.have().bytes(want.size);
        let progress = FetchProgress { done, total: want.size, ..FetchProgress::default() };
        let state = if partial.is_complete() { State::Done } else { State::Running };
        Self {
            want,
            partial,
            progress: watch::Sender::new(progress),
            state: watch::Sender::new(state),
            treed: watch::Sender::new(false),
            handles: AtomicUsize::new(0),
            readers: Mutex::default(),
            moved: AtomicBool::new(false),
            poured: AtomicBool::new(false),
            next_reader,
            wake,
            _hold: hold,
        }
    }

    /// The readers' places, if any moved since this was last asked.
    pub(super) fn moved_readers(&self) -> Option<BTreeMap<u64, ByteRange>> {
        self.moved.swap(false, Ordering::AcqRel).then(|| self.readers().clone())
    }

    /// Whether bytes came, since this was last asked, that the plan did not ask for.
    pub(super) fn was_poured(&self) -> bool {
        self.poured.swap(false, Ordering::AcqRel)
    }

    /// Whether nobody can tell the end of this fetch from its state yet.
    pub(super) fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), State::Running)
    }

    fn readers(&self) -> MutexGuard<'_, BTreeMap<u64, ByteRange>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_moved(&self) {
        self.moved.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// A share in a fetch. Clones share it too; the last one dropped stops it after `FetchConfig::linger`,
/// and what is verified stays.
#[must_use = "dropping the last handle stops the fetch"]
pub struct FetchHandle {
    job: Arc<Job>,
}

impl FetchHandle {
    /// A handle to `job`. The caller holds the lock of the fetcher's table.
    pub(super) fn new(job: Arc<Job>) -> Self {
        job.handles.fetch_add(1, Ordering::AcqRel);
        Self { job }
    }

    pub(super) fn job(&self) -> Arc<Job> {
        self.job.clone()
    }

    /// What is fetched.
    pub fn hash(&self) -> BlobHash {
        self.job.want.hash
    }

    /// The file's length in bytes.
    pub fn size(&self) -> u64 {
        self.job.want.size
    }

    /// The file as far as it is here; only verified groups can be read from it.
    pub fn partial(&self) -> PartialBlob {
        self.job.partial.clone()
    }

    /// Has the bytes from `offset` on fetched before others, until the guard is dropped.
    pub fn want_at(&self, offset: u64) -> ReaderGuard {
        self.want_range(ByteRange::new(offset, self.job.want.size))
    }

    /// Has `range` fetched before other bytes, in order, until the guard is dropped.
    pub fn want_range(&self, range: ByteRange) -> ReaderGuard {
        let id = self.job.next_reader.fetch_add(1, Ordering::Relaxed);
        let mut readers = self.job.readers();
        if readers.len() < MAX_READERS {
            readers.insert(id, range);
        }
        drop(readers);
        self.job.tell_moved();
        ReaderGuard { job: self.job.clone(), id, end: range.end }
    }

    /// Returns when every byte of `range` is on disk and verified; has them fetched first until then.
    ///
    /// # Errors
    /// [`FetchError::OutOfRange`] at once if the file is shorter; [`FetchError::NoSource`], [`FetchError::Disk`]
    /// or [`FetchError::Stopped`] if the fetch ends without them.
    pub async fn wait_for(&self, range: ByteRange) -> Result<(), FetchError> {
        let Want { hash, size } = self.job.want;
        if range.end > size {
            return Err(FetchError::OutOfRange { hash, size, end: range.end });
        }
        if self.holds(range) {
            return Ok(());
        }
        let _steer = self.want_range(range);
        self.until(|| self.holds(range)).await
    }

    /// Returns when the whole file is on disk and verified.
    ///
    /// # Errors
    /// As [`FetchHandle::wait_for`].
    pub async fn wait_done(&self) -> Result<(), FetchError> {
        self.until(|| false).await
    }

    /// A look at it that keeps nothing alive.
    pub(crate) fn view(&self) -> FetchView {
        FetchView { job: Arc::downgrade(&self.job), progress: self.progress() }
    }

    /// How far the fetch is; a few updates a second.
    pub fn progress(&self) -> watch::Receiver<FetchProgress> {
        self.job.progress.subscribe()
    }

    fn holds(&self, range: ByteRange) -> bool {
        self.job.partial.is_complete() || self.job.partial.have().contains(range.groups())
    }

    /// Waits until `enough` or the end. What is here counts, whatever became of the fetch.
    async fn until(&self, enough: impl Fn() -> bool) -> Result<(), FetchError> {
        let mut changed = self.job.partial.changed();
        let mut state = self.job.state.subscribe();
        loop {
            changed.mark_unchanged();
            let ended = match &*state.borrow_and_update() {
                State::Running => None,
                State::Done => Some(Ok(())),
                State::Failed(why) => Some(Err(why.clone())),
            };
            if enough() {
                return Ok(());
            }
            if let Some(end) = ended {
                return end;
            }
            tokio::select! {
                more = changed.changed() => if more.is_err() { changed = self.job.partial.changed(); },
                over = state.changed() => if over.is_err() {
                    return Err(FetchError::Stopped { hash: self.job.want.hash });
                },
            }
        }
    }
}

impl Clone for FetchHandle {
    fn clone(&self) -> Self {
        // This one lives, so the count is not 0 and the table's lock is not needed.
        Self::new(self.job.clone())
    }
}

impl Drop for FetchHandle {
    fn drop(&mut self) {
        if self.job.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.job.wake.notify_one();
        }
    }
}

/// A look at a fetch that keeps nothing alive.
#[derive(Clone)]
pub(crate) struct FetchView {
    job: Weak<Job>,
    progress: watch::Receiver<FetchProgress>,
}

impl FetchView {
    /// How far the fetch is, or was when it ended.
    pub(crate) fn progress(&self) -> FetchProgress {
        self.progress.borrow().clone()
    }

    /// Waits until something of the file is here; `false` if the fetch ended without.
    pub(crate) async fn first_bytes(&mut self) -> bool {
        self.progress.wait_for(|progress| progress.done > 0).await.is_ok()
    }

    /// Whether the file's whole tree is here and its origins are asked as well.
    pub(crate) fn has_tree(&self) -> bool {
        self.job.upgrade().is_some_and(|job| job.is_running() && *job.treed.borrow())
    }

    /// The file as far as it is here, while the fetch runs.
    pub(crate) fn partial(&self) -> Option<PartialBlob> {
        self.job.upgrade().map(|job| job.partial.clone())
    }

    /// Has the plan look at what is here: bytes came from elsewhere.
    pub(crate) fn poured(&self) {
        if let Some(job) = self.job.upgrade() {
            job.poured.store(true, Ordering::Release);
            job.wake.notify_one();
        }
    }
}

/// A place in a file that is fetched first while this lives.
#[must_use = "dropping it ends the preference"]
pub struct ReaderGuard {
    job: Arc<Job>,
    id: u64,
    end: u64,
}

impl ReaderGuard {
    /// Moves the place to `offset`; the window before it moves along.
    pub fn move_to(&self, offset: u64) {
        if let Some(range) = self.job.readers().get_mut(&self.id) {
            *range = ByteRange::new(offset.min(self.end), self.end);
        }
        self.job.tell_moved();
    }
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.job.readers().remove(&self.id);
        self.job.tell_moved();
    }
}
