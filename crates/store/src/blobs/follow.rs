//! Hashes what has arrived of drafts, a little behind their writers: two threads, however many drafts there are.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use super::draft::{DraftCore, lock};

/// Threads that hash; whoever writes a draft builds its tree, so these are mostly at the digests.
const THREADS: usize = 2;
/// Most jobs that wait; what finds no room is hashed when the draft is finished.
const MAX_WAITING: usize = 4096;
/// Bytes after which a draft makes room for the next one.
const TURN_BYTES: u64 = 64 * 1024 * 1024;

/// What is to be hashed: the tree or the digest of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Tree = 0,
    Digest = 1,
}

type Job = (Weak<DraftCore>, Part);

/// Threads that follow drafts; they start with the first. Dropping it waits until each has ended its turn.
#[derive(Debug, Default)]
pub(super) struct Follower {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    stirred: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    stopped: bool,
}

impl Follower {
    /// Has what lags of `draft` hashed when its turn comes.
    pub(super) fn soon(&self, draft: &Arc<DraftCore>) {
        if self.queue.put(draft) {
            self.start();
        }
    }

    fn start(&self) {
        let mut threads = lock(&self.threads);
        while threads.len() < THREADS {
            let queue = Arc::clone(&self.queue);
            let name = format!("draft-hash-{}", threads.len());
            match std::thread::Builder::new().name(name).spawn(move || queue.work()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::warn!(%error, "no thread to hash with; files are hashed when they are whole");
                    return;
                }
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        lock(&self.queue.state).stopped = true;
        self.queue.stirred.notify_all();
        for thread in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Puts what lags of `draft` at the end; whether anything was put.
    fn put(&self, draft: &Arc<DraftCore>) -> bool {
        let lags = draft.lags();
        let mut put = false;
        for part in [Part::Tree, Part::Digest].into_iter().filter(|part| lags[*part as usize]) {
            if draft.queued[part as usize].swap(true, Ordering::AcqRel) {
                continue;
            }
            let mut state = lock(&self.state);
            if state.jobs.len() < MAX_WAITING {
                state.jobs.push_back((Arc::downgrade(draft), part));
                self.stirred.notify_one();
                put = true;
            } else {
                draft.queued[part as usize].store(false, Ordering::Release);
            }
        }
        put
    }

    /// The next job; `None` when all is over.
    fn take(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state = self.stirred.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        while let Some((draft, part)) = self.take() {
            let Some(draft) = draft.upgrade() else { continue };
            // Before the look at what has arrived: what comes after it queues a new job.
            draft.queued[part as usize].store(false, Ordering::Release);
            let more = match part {
                Part::Tree => draft.advance_tree(TURN_BYTES),
                Part::Digest => draft.advance_digest(TURN_BYTES),
            };
            match more {
                Ok(true) => {
                    self.put(&draft);
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(digest = %draft.digest, %error, "not hashed yet; it is when the file is whole");
                }
            }
        }
    }
}
