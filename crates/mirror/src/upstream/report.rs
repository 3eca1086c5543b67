//! What origins sent that was something else than it should have been.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hubless_types::Link;

use super::remote::Remote;
use crate::util::locked;

/// Counts, for each origin, what it sent that was wrong. None of it was kept or shown.
#[derive(Default)]
pub(crate) struct Lies(Mutex<BTreeMap<String, Told>>);

#[derive(Debug, Clone, Default)]
struct Told {
    count: u64,
    last: String,
}

impl Lies {
    /// `remote` sent another file.
    pub(super) fn tell(&self, remote: &Remote, how: &str) {
        let entry = &remote.errand().entry;
        self.note(remote.name(), format!("`{}` is to be {}, and {how}", entry.path, entry.digest()));
    }

    /// The file of `link`, which is proven, is here: whatever did not fit its tree was wrong.
    pub(crate) fn blame(&self, remotes: &[Arc<Remote>], link: &Link) {
        for remote in remotes {
            if let Some(offset) = remote.misfit(&link.hash) {
                self.tell(remote, &format!("its bytes at {offset} are others"));
            }
        }
    }

    /// An origin sent something wrong.
    pub(super) fn note(&self, origin: &str, what: String) {
        tracing::warn!(origin, what, "an origin sent something else than it should have; dropped");
        let mut told = locked(&self.0);
        // As many as there are origins, which the config bounds.
        let told = told.entry(origin.to_owned()).or_default();
        told.count += 1;
        told.last = what;
    }

    /// How often `origin` did, and the last of it.
    pub(crate) fn of(&self, origin: &str) -> (u64, Option<String>) {
        let told = locked(&self.0);
        told.get(origin).map_or((0, None), |told| (told.count, Some(told.last.clone())))
    }
}
