//! Which repositories a blob that is kept back may be shown in.
//!
//! Anybody can write a manifest that names any digest. So bytes that nobody said are for everybody, and that lie in the
//! store's own files, are shown under a repository only once a source gave them as a file of that very repository.
//!
//! **Not here:** who may read the repository (`upstream`), what peers are given (`sharing`).

use std::collections::{HashSet, VecDeque};

use hubless_types::{BlobHash, RepoId};

use crate::MirrorError;
use crate::mirror::Inner;
use crate::util::locked;

/// Blobs of repositories that are remembered; of what is forgotten the origin is asked again.
const MAX_SHOWN: usize = 16_384;

/// Blobs that came as files of a repository; the oldest make room.
#[derive(Default)]
pub(crate) struct Shown {
    pairs: HashSet<(RepoId, BlobHash)>,
    order: VecDeque<(RepoId, BlobHash)>,
}

impl Shown {
    fn add(&mut self, pair: (RepoId, BlobHash)) {
        if !self.pairs.insert(pair.clone()) {
            return;
        }
        self.order.push_back(pair);
        if self.order.len() > MAX_SHOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.pairs.remove(&oldest);
        }
    }
}

impl Shown {
    /// What came as a file of `repo` has to come as one again.
    pub(crate) fn forget(&mut self, repo: &RepoId) {
        self.pairs.retain(|pair| pair.0 != *repo);
        self.order.retain(|pair| pair.0 != *repo);
    }
}

impl Inner {
    /// Whether a blob may be shown as a file of `repo` to whoever may read that. Blocks a little.
    pub(crate) fn may_show(&self, repo: &RepoId, hash: &BlobHash) -> Result<bool, MirrorError> {
        if !self.store.blobs().is_kept_back(hash)? {
            return Ok(true);
        }
        Ok(locked(&self.shown).pairs.contains(&(repo.clone(), *hash)))
    }

    /// A source gave a blob as a file of `repo`.
    pub(crate) fn came_under(&self, repo: &RepoId, hash: BlobHash) {
        locked(&self.shown).add((repo.clone(), hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let repo: RepoId = "acme/tiny".parse().unwrap();
        let pair = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            (repo.clone(), BlobHash::from_bytes(bytes))
        };
        let mut shown = Shown::default();
        (0..=MAX_SHOWN).for_each(|n| shown.add(pair(n)));
        shown.add(pair(MAX_SHOWN));
        assert_eq!((shown.pairs.len(), shown.order.len()), (MAX_SHOWN, MAX_SHOWN));
        assert!(!shown.pairs.contains(&pair(0)) && shown.pairs.contains(&pair(MAX_SHOWN)));
    }
}
