//! Writes a pull into a Hugging Face cache, in the layout that `huggingface_hub` reads offline:
//! `models--owner--name/` with `blobs/<etag>`, `snapshots/<commit>/…` as relative links into `blobs`, and
//! `refs/<revision>` with the commit's id.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hubless_store::Store;
use hubless_types::{CommitId, FileEntry, FileMode, Link, RepoId, RepoPath, Revision};

use super::folder::{Others, Temp, disk, make_folders, temp_path, write_file};
use super::output::ready_folder;
use crate::MirrorError;

/// One snapshot of one repository in a cache.
#[derive(Clone)]
pub(super) struct HfCache {
    repo: PathBuf,
    commit: CommitId,
}

/// The folder that holds `models--…`: `cache` itself, or the `hub` in it.
pub(crate) fn hub_folder(cache: &Path) -> PathBuf {
    let inner = cache.join("hub");
    if inner.is_dir() { inner } else { cache.to_owned() }
}

/// `models--owner--name`.
fn repo_folder_name(repo: &RepoId) -> String {
    format!("{}--{}", repo.kind().plural(), repo.name().replace('/', "--"))
}

impl HfCache {
    /// Makes the folders ready.
    pub(super) fn new(cache: &Path, repo: &RepoId, commit: CommitId) -> Result<Self, MirrorError> {
        let hub = ready_folder(&hub_folder(cache))?;
        let repo = ready_folder(&hub.join(repo_folder_name(repo)))?;
        for part in ["blobs", "refs"] {
            ready_folder(&repo.join(part))?;
        }
        ready_folder(&repo.join("snapshots").join(commit.to_string()))?;
        Ok(Self { repo, commit })
    }

    fn snapshot(&self) -> PathBuf {
        self.repo.join("snapshots").join(self.commit.to_string())
    }

    /// Writes one file's content, then the link that names it.
    pub(super) fn put(&self, store: &Store, entry: &FileEntry, link: &Link) -> Result<(), MirrorError> {
        let etag = entry.digest().hex();
        let name: RepoPath = etag.parse()?;
        write_file(store, link, &self.repo.join("blobs"), (&name, FileMode::Regular), Others::Replace)?;
        let snapshot = self.snapshot();
        let folder = make_folders(&snapshot, &entry.path)?;
        // From the file's folder up to `snapshots/<commit>`, and from there to the repository.
        let up = "../".repeat(entry.path.parts().count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        let place = entry.path.under(&snapshot);
        if fs::read_link(&place).is_ok_and(|there| there == target) {
            return Ok(());
        }
        let temp = temp_path(&folder);
        symlink(&target, &temp).map_err(|e| disk("write", &temp, e))?;
        fs::rename(&temp, &place).map_err(|e| {
            let _ = fs::remove_file(&temp);
            disk("write", &place, e)
        })
    }

    /// Has the revision's name point to the snapshot, and returns the snapshot's folder.
    pub(super) fn finish(&self, revision: &Revision) -> Result<PathBuf, MirrorError> {
        if revision.as_commit().is_none() {
            let refs = self.repo.join("refs");
            let name: RepoPath = revision.as_str().parse()?;
            let folder = make_folders(&refs, &name)?;
            let temp = Temp::in_folder(&folder)?;
            let place = name.under(&refs);
            std::io::Write::write_all(&mut &temp.file, self.commit.to_string().as_bytes())
                .map_err(|e| disk("write", &place, e))?;
            temp.rename_to(&place)?;
        }
        Ok(self.snapshot())
    }
}
