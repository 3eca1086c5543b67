//! Makes finished blobs outlive a power cut, a little after they are finished.
//!
//! A blob's record says whether its bytes were synced. One that was not, and was written during another boot of
//! the machine, is hashed again before it is believed.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use hubless_types::BlobHash;

use super::draft::DraftCore;
use super::layout::Layout;
use crate::catalogue::{Catalogue, Place};
use crate::error::{Result, StoreError};

/// Most blobs that wait to be synced; one that finds no room is hashed again after a power cut.
const MAX_WAITING: usize = 4096;

/// What is to be synced.
enum Job {
    Blob(BlobHash),
    Draft(Weak<DraftCore>),
}

/// A thread that syncs one blob after another. Dropping it lets the current one finish.
#[derive(Debug)]
pub(super) struct Syncer {
    queue: Option<SyncSender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Syncer {
    pub(super) fn start(layout: Layout, catalogue: Catalogue) -> Result<Self> {
        let (queue, inbox) = sync_channel(MAX_WAITING);
        let root = layout.root().to_owned();
        let thread = std::thread::Builder::new()
            .name("blob-sync".into())
            .spawn(move || run(&inbox, &layout, &catalogue))
            .map_err(|e| StoreError::io(root, e))?;
        Ok(Self { queue: Some(queue), thread: Mutex::new(Some(thread)) })
    }

    /// Syncs `hash` when its turn comes.
    pub(super) fn soon(&self, hash: BlobHash) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Job::Blob(hash));
        }
    }

    /// Syncs what has arrived of a draft when its turn comes.
    pub(super) fn draft_soon(&self, draft: &Arc<DraftCore>) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(Job::Draft(Arc::downgrade(draft)));
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn run(inbox: &Receiver<Job>, layout: &Layout, catalogue: &Catalogue) {
    while let Ok(job) = inbox.recv() {
        let synced = match &job {
            Job::Blob(hash) => sync_one(hash, layout, catalogue),
            Job::Draft(draft) => draft.upgrade().map_or(Ok(()), |draft| draft.secure()),
        };
        if let Err(error) = synced {
            tracing::debug!(%error, "not synced; it is checked again, or fetched again, after a power cut");
        }
    }
}

fn sync_one(hash: &BlobHash, layout: &Layout, catalogue: &Catalogue) -> Result<()> {
    let Some(record) = catalogue.blob(hash)?.filter(|r| r.have.is_none() && !r.synced) else { return Ok(()) };
    let sync = |path: std::path::PathBuf| {
        File::open(&path).and_then(|f| f.sync_data()).map_err(|e| StoreError::io(&path, e))
    };
    if record.place == Place::Owned {
        sync(layout.data(hash))?;
    }
    if record.size > hubless_types::GROUP_BYTES {
        sync(layout.tree(hash))?;
    }
    catalogue.mark_synced(hash)
}

/// The boot of the machine, so that what was written before a power cut is told from what came after.
/// All zero, which equals no boot, where the system does not say.
pub(super) fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> = text.bytes().filter_map(|b| (b as char).to_digit(16)).map(|d| d as u8).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    id
}
