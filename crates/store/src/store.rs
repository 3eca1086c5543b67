//! Opens a data folder: its lock, its owner, its format, and the two halves of what it keeps.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hubless_types::{Clock, NodeId};
use serde::{Deserialize, Serialize};

use crate::blobs::Blobs;
use crate::catalogue::{CATALOGUE_FOLDER, Catalogue, FORMAT};
use crate::error::{Result, StoreError};
use crate::lock::FolderLock;

/// Names the folder's owner and format, in JSON.
const FORMAT_FILE: &str = "format.json";
/// Longest such file that is read, in bytes.
const MAX_FORMAT_BYTES: u64 = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct FormatNote {
    format: u32,
    node: NodeId,
}

/// A data folder that is open. Cheap to clone; the last clone lets the folder go.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    catalogue: Catalogue,
    blobs: Blobs,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens the data folder `dir` of node `node`, or makes it; one of an older version is brought up to this one.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::OtherNode`] if it belongs to another node,
    /// [`StoreError::NewerVersion`] if a later version wrote it (in both cases nothing is touched),
    /// [`StoreError::Corrupt`], [`StoreError::Rocks`], [`StoreError::Io`] or [`StoreError::DiskFull`] if it cannot
    /// be read or written.
    pub fn open(dir: &Path, node: NodeId, clock: Arc<dyn Clock>) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| StoreError::io(dir, e))?;
        // Once before the lock, which writes; once under it, when nobody else can change it any more.
        found_format(dir, node)?;
        let lock = FolderLock::take(dir)?;
        let found = found_format(dir, node)?;
        let catalogue = match found {
            Some(found) => open_catalogue(dir, node, found, lock)?,
            None => {
                write_note(dir, node)?;
                open_catalogue(dir, node, FORMAT, lock)?
            }
        };
        let blobs = Blobs::beneath(dir, catalogue.clone())?;
        let inner = Inner { dir: dir.to_owned(), catalogue, blobs, clock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The data folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// What this node knows.
    pub fn catalogue(&self) -> &Catalogue {
        &self.inner.catalogue
    }

    /// The bytes that are here.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// The clock it was opened with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

fn open_catalogue(dir: &Path, node: NodeId, found: u32, lock: FolderLock) -> Result<Catalogue> {
    let catalogue = Catalogue::open(dir, node, found, Some(lock))?;
    if found < FORMAT {
        catalogue.sync()?;
        write_note(dir, node)?;
    }
    Ok(catalogue)
}

/// The folder's format; `None` if the folder is new. Folders of format 0 had no note.
fn found_format(dir: &Path, node: NodeId) -> Result<Option<u32>> {
    let Some(note) = read_note(dir)? else {
        return Ok(dir.join(CATALOGUE_FOLDER).join("CURRENT").exists().then_some(0));
    };
    if note.format > FORMAT {
        return Err(StoreError::NewerVersion { found: note.format, supported: FORMAT });
    }
    if note.node != node {
        return Err(StoreError::OtherNode { dir: dir.to_owned(), expected: node, found: note.node });
    }
    Ok(Some(note.format))
}

fn read_note(dir: &Path) -> Result<Option<FormatNote>> {
    let path = dir.join(FORMAT_FILE);
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io(&path, e)),
        Ok(meta) if meta.len() > MAX_FORMAT_BYTES => {
            return Err(StoreError::corrupt("format", "the note is too long"));
        }
        Ok(_) => {}
    }
    let text = std::fs::read(&path).map_err(|e| StoreError::io(&path, e))?;
    serde_json::from_slice(&text).map(Some).map_err(|e| StoreError::corrupt("format", e))
}

/// Written beside it and renamed, so that it is whole at any instant.
fn write_note(dir: &Path, node: NodeId) -> Result<()> {
    let (path, fresh) = (dir.join(FORMAT_FILE), dir.join("format.json.new"));
    let fail = |e| StoreError::io(&path, e);
    let text = serde_json::to_vec(&FormatNote { format: FORMAT, node })
        .map_err(|e| StoreError::corrupt("format", e))?;
    let mut file = std::fs::File::create(&fresh).map_err(fail)?;
    file.write_all(&text).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&fresh, &path).map_err(fail)?;
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(fail)
}
