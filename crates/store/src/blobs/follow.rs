//! Hashes what has arrived of drafts, a little behind their writers: two threads, however many drafts there are.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;

use super::draft::{LiveDraft, lock};

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

type Job = (Weak<LiveDraft>, Part);

/// Threads that follow drafts; they start with the first. Dropping it lets each end its turn.
#[derive(Debug, Default)]
pub(super) struct Follower(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    queue: SyncSender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Follower {
    /// Has what lags of `draft` hashed when its turn comes.
    pub(super) fn soon(&self, draft: &Arc<LiveDraft>) {
        let lags = draft.lags();
        for part in [Part::Tree, Part::Digest] {
            if lags[part as usize] && !draft.queued[part as usize].swap(true, Ordering::AcqRel) {
                self.queue((Arc::downgrade(draft), part), draft);
            }
        }
    }

    fn queue(&self, job: Job, draft: &LiveDraft) {
        let part = job.1;
        let mut running = lock(&self.0);
        let sent = match running.get_or_insert_with(Running::start).queue.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        if !sent {
            draft.queued[part as usize].store(false, Ordering::Release);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let Some(Running { queue, threads }) = lock(&self.0).take() else { return };
        drop(queue);
        for thread in threads {
            // The last handle of a store may go on one of these threads: it ends by itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Running {
    fn start() -> Self {
        let (queue, inbox) = sync_channel(MAX_WAITING);
        let inbox = Arc::new(Mutex::new(inbox));
        let start = |n| {
            let inbox = Arc::clone(&inbox);
            let name = format!("draft-hash-{n}");
            std::thread::Builder::new().name(name).spawn(move || run(&inbox)).ok()
        };
        Self { queue, threads: (0..THREADS).filter_map(start).collect() }
    }
}

fn run(inbox: &Mutex<Receiver<Job>>) {
    loop {
        let next = lock(inbox).recv();
        let Ok((draft, part)) = next else { return };
        let Some(draft) = draft.upgrade().filter(|draft| !draft.is_settled()) else { continue };
        // Before the look at what has arrived: what comes after it queues a new job.
        draft.queued[part as usize].store(false, Ordering::Release);
        let more = match part {
            Part::Tree => draft.advance_tree(TURN_BYTES),
            Part::Digest => draft.advance_digest(TURN_BYTES),
        };
        match more {
            Ok(true) => draft.blobs.clone().follower.soon(&draft),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(digest = %draft.digest, %error, "not hashed yet; it is when the file is whole");
            }
        }
    }
}
