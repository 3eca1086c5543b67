//! Which commits are being pulled: their lists of files are not collected, though no file of them may be here yet.

use std::sync::{Arc, Mutex};

use hubless_types::CommitId;

use crate::util::locked;

/// The commits that are being pulled, once for each pull.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Vec<CommitId>>>);

/// One pull; it is over when this is dropped.
pub(super) struct Pulling {
    all: UnderWay,
    commit: CommitId,
}

impl UnderWay {
    pub(super) fn enter(&self, commit: CommitId) -> Pulling {
        locked(&self.0).push(commit);
        Pulling { all: self.clone(), commit }
    }

    pub(crate) fn has(&self, commit: CommitId) -> bool {
        locked(&self.0).contains(&commit)
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        let mut all = locked(&self.all.0);
        if let Some(at) = all.iter().position(|commit| *commit == self.commit) {
            all.swap_remove(at);
        }
    }
}
