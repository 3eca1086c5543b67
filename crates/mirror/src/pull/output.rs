//! Where a pull's files go besides the store.

use std::path::{Path, PathBuf};

use hubless_store::Store;
use hubless_types::{CommitId, FileEntry, Link, Revision};

use super::folder::write_file;
use super::hf_cache::HfCache;
use crate::util::blocking;
use crate::{MirrorError, PullRequest, PullTo};

/// Where a pull's files go besides the store.
#[derive(Clone)]
pub(super) enum Output {
    Store,
    Dir(PathBuf),
    HfCache(HfCache),
}

impl Output {
    /// Makes the folder ready.
    pub(super) async fn new(request: &PullRequest, commit: CommitId) -> Result<Self, MirrorError> {
        let (to, repo) = (request.to.clone(), request.repo.clone());
        blocking(move || match to {
            PullTo::Store => Ok(Self::Store),
            PullTo::Dir(dir) => Ok(Self::Dir(ready_folder(&dir)?)),
            PullTo::HfCache(cache) => Ok(Self::HfCache(HfCache::new(&cache, &repo, commit)?)),
        })
        .await
    }

    /// Whether the files stay in the store alone.
    pub(super) const fn is_store(&self) -> bool {
        matches!(self, Self::Store)
    }

    /// Writes one file, which is here and proven.
    pub(super) async fn put(&self, store: &Store, entry: &FileEntry, link: &Link) -> Result<(), MirrorError> {
        if self.is_store() {
            return Ok(());
        }
        let (output, store, entry, link) = (self.clone(), store.clone(), entry.clone(), *link);
        blocking(move || match output {
            Self::Store => Ok(()),
            Self::Dir(dir) => write_file(&store, &link, &dir, &entry.path, entry.mode),
            Self::HfCache(cache) => cache.put(&store, &entry, &link),
        })
        .await
    }

    /// Ends the pull; returns the folder where the files are. Blocks.
    pub(super) fn finish(&self, revision: &Revision) -> Result<Option<PathBuf>, MirrorError> {
        match self {
            Self::Store => Ok(None),
            Self::Dir(dir) => Ok(Some(dir.clone())),
            Self::HfCache(cache) => cache.finish(revision).map(Some),
        }
    }
}

/// Creates `dir` where it is missing, and gives its absolute path.
pub(super) fn ready_folder(dir: &Path) -> Result<PathBuf, MirrorError> {
    if dir.exists() && !dir.is_dir() {
        return Err(MirrorError::BadFile {
            path: dir.to_owned(),
            why: "is not a folder".into(),
            hint: "name a folder to write to; it is created where it is missing",
        });
    }
    let fail = |source| MirrorError::Disk { action: "create", path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(fail)?;
    dir.canonicalize().map_err(fail)
}
