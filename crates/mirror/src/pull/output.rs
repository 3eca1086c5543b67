//! Where a pull's files go besides the store.

use std::path::{Path, PathBuf};

use hubless_store::Store;
use hubless_types::{CommitId, FileEntry, Link, Revision};

use super::folder::{Others, nothing_else_at, write_file};
use super::hf_cache::HfCache;
use crate::util::blocking;
use crate::{MirrorError, PullRequest, PullTo};

/// Where a pull's files go besides the store.
#[derive(Clone)]
pub(super) enum Output {
    Store,
    Dir { root: PathBuf, others: Others },
    HfCache(HfCache),
}

impl Output {
    /// Makes the folder ready.
    pub(super) async fn new(request: &PullRequest, commit: CommitId) -> Result<Self, MirrorError> {
        let (to, repo) = (request.to.clone(), request.repo.clone());
        let others = if request.overwrite { Others::Replace } else { Others::Keep };
        blocking(move || match to {
            PullTo::Store => Ok(Self::Store),
            PullTo::Dir(dir) => Ok(Self::Dir { root: ready_folder(&dir)?, others }),
            PullTo::HfCache(cache) => Ok(Self::HfCache(HfCache::new(&cache, &repo, commit)?)),
        })
        .await
    }

    /// Whether the files stay in the store alone.
    pub(super) const fn is_store(&self) -> bool {
        matches!(self, Self::Store)
    }

    /// That nothing which is seen at a glance stands in the way of `entries`; before anything is fetched. A file of the
    /// right length is looked into when it is to be written.
    pub(super) async fn check(&self, entries: &[FileEntry]) -> Result<(), MirrorError> {
        let Self::Dir { root, others: Others::Keep } = self else { return Ok(()) };
        let places: Vec<_> = entries.iter().map(|entry| (entry.path.under(root), entry.size)).collect();
        blocking(move || places.iter().try_for_each(|(place, size)| nothing_else_at(place, *size))).await
    }

    /// Writes one file, which is here and proven.
    pub(super) async fn put(&self, store: &Store, entry: &FileEntry, link: &Link) -> Result<(), MirrorError> {
        if self.is_store() {
            return Ok(());
        }
        let (output, store, entry, link) = (self.clone(), store.clone(), entry.clone(), *link);
        blocking(move || match output {
            Self::Store => Ok(()),
            Self::Dir { root, others } => write_file(&store, &link, &root, (&entry.path, entry.mode), others),
            Self::HfCache(cache) => cache.put(&store, &entry, &link),
        })
        .await
    }

    /// Ends the pull; returns the folder where the files are. Blocks.
    pub(super) fn finish(&self, revision: &Revision) -> Result<Option<PathBuf>, MirrorError> {
        match self {
            Self::Store => Ok(None),
            Self::Dir { root, .. } => Ok(Some(root.clone())),
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
