//! Where a blob's files lie, and what tells that a referenced file is still the one that was hashed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hubless_types::{BlobHash, FileDigest};

use crate::catalogue::FileStamp;
use crate::error::StoreError;

/// `blobs/ab/<hash>.data` and `blobs/ab/<hash>.tree` beneath the data folder.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// Ending of a file that is being written and has no name yet.
pub(crate) const TEMP_SUFFIX: &str = ".part";

impl Layout {
    pub(crate) fn create(data_dir: &Path) -> Result<Self, StoreError> {
        let root = data_dir.join("blobs");
        std::fs::create_dir_all(&root).map_err(|e| StoreError::io(&root, e))?;
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn data(&self, hash: &BlobHash) -> PathBuf {
        self.file(hash, "data")
    }

    pub(crate) fn tree(&self, hash: &BlobHash) -> PathBuf {
        self.file(hash, "tree")
    }

    fn file(&self, hash: &BlobHash, ending: &str) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(format!("{name}.{ending}"))
    }

    /// Makes the folder that a blob's files lie in.
    pub(crate) fn prepare(&self, hash: &BlobHash) -> Result<(), StoreError> {
        let folder = self.root.join(&hash.to_string()[..2]);
        std::fs::create_dir_all(&folder).map_err(|e| StoreError::io(&folder, e))
    }

    /// The folder of files whose root is not known yet.
    pub(crate) fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    pub(crate) fn prepare_drafts(&self) -> Result<(), StoreError> {
        let folder = self.drafts();
        std::fs::create_dir_all(&folder).map_err(|e| StoreError::io(&folder, e))
    }

    /// `drafts/sha256-<hex>.data` and `.tree`.
    pub(crate) fn draft(&self, digest: &FileDigest, ending: &str) -> PathBuf {
        self.drafts().join(format!("{}.{ending}", digest.to_string().replace(':', "-")))
    }

    /// A name that no other file has, for something whose hash is not known yet.
    pub(crate) fn temp(&self, number: u64) -> PathBuf {
        self.root.join(format!("{}-{number}{TEMP_SUFFIX}", std::process::id()))
    }
}

/// The draft that a file in the drafts' folder belongs to.
pub(crate) fn draft_digest(name: &str) -> Option<FileDigest> {
    let (stem, _) = name.split_once('.')?;
    stem.replacen('-', ":", 1).parse().ok()
}

/// What of a file's metadata changes when somebody changes the file.
pub(crate) fn stamp(meta: &Metadata) -> FileStamp {
    FileStamp {
        size: meta.len(),
        mtime_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
        ctime_ns: meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec()),
        inode: meta.ino(),
        device: meta.dev(),
    }
}

/// Whether `path` still is the file that was hashed, as far as a glance tells.
///
/// The time of its last change of metadata is left out: a new mode or a new hard link changes nothing that is
/// served, and every group is checked against the tree when it is read anyway.
pub(crate) fn same_file(path: &Path, before: &FileStamp) -> bool {
    let Ok(meta) = std::fs::metadata(path) else { return false };
    meta.is_file() && stamp(&meta) == FileStamp { ctime_ns: stamp(&meta).ctime_ns, ..*before }
}

/// Opens a regular file and takes its stamp from the open handle.
pub(crate) fn open_stamped(path: &Path) -> Result<(File, FileStamp), StoreError> {
    let file = File::open(path).map_err(|e| StoreError::io(path, e))?;
    let meta = file.metadata().map_err(|e| StoreError::io(path, e))?;
    if !meta.is_file() {
        return Err(StoreError::NotAFile { path: path.to_owned() });
    }
    Ok((file, stamp(&meta)))
}

/// Deletes a file if it is there.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, e)),
        _ => Ok(()),
    }
}
