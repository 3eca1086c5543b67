//! Writes files beneath a folder, each whole or not at all.
//!
//! **Invariant:** nothing is written outside the folder: paths are [`RepoPath`]s, and a symbolic link that stands
//! in the way of one is refused, not followed.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hubless_store::{BlobFile, MAX_READ_BYTES, Store, StoreError};
use hubless_types::{ByteRange, FileMode, Link, RepoPath};

use crate::MirrorError;

/// Whether another file that stands where one is to be written is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// It is somebody's own.
    Keep,
    /// It is.
    Replace,
}

/// Writes the blob of `link` to `path` beneath `root`, unless the right content is there already. Blocks.
pub(super) fn write_file(
    store: &Store,
    link: &Link,
    root: &Path,
    (path, mode): (&RepoPath, FileMode),
    others: Others,
) -> Result<(), MirrorError> {
    let target = path.under(root);
    let folder = make_folders(root, path)?;
    let blob = store.blobs().open(&link.hash)?.ok_or(StoreError::NotHere { hash: link.hash })?;
    if !is_same(&blob, &target)? {
        if others == Others::Keep && fs::symlink_metadata(&target).is_ok() {
            return Err(in_the_way(&target));
        }
        let temp = Temp::in_folder(&folder)?;
        copy(&blob, &temp)?;
        temp.rename_to(&target)?;
    }
    if mode == FileMode::Executable { make_executable(&target) } else { Ok(()) }
}

/// That `target` is free, or holds a file of `size` bytes, which may be the one that is to be there.
pub(super) fn nothing_else_at(target: &Path, size: u64) -> Result<(), MirrorError> {
    match fs::symlink_metadata(target) {
        // Folders have an error of their own.
        Ok(meta) if meta.is_dir() || (meta.is_file() && meta.len() == size) => Ok(()),
        Ok(_) => Err(in_the_way(target)),
        Err(_) => Ok(()),
    }
}

fn in_the_way(target: &Path) -> MirrorError {
    MirrorError::BadFile {
        path: target.to_owned(),
        why: "is another file than the one that is to be written".into(),
        hint: "pull to another folder, move it away, or let it be replaced with `--overwrite`",
    }
}

/// Creates the folders that `path` lies in beneath `root`, and returns the innermost.
pub(super) fn make_folders(root: &Path, path: &RepoPath) -> Result<PathBuf, MirrorError> {
    let mut folder = root.to_path_buf();
    let parts: Vec<&str> = path.parts().collect();
    for part in &parts[..parts.len() - 1] {
        folder.push(part);
        match fs::create_dir(&folder) {
            Ok(()) => continue,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(disk("create", &folder, source)),
        }
        let meta = fs::symlink_metadata(&folder).map_err(|e| disk("read", &folder, e))?;
        if !meta.is_dir() {
            let what = if meta.is_symlink() { "is a symbolic link" } else { "is a file" };
            return Err(MirrorError::BadFile {
                path: folder,
                why: format!("{what}, and `{path}` needs a folder there"),
                hint: "move it away, or pull to another folder",
            });
        }
    }
    Ok(folder)
}

/// Whether `target` is a regular file with the blob's content.
fn is_same(blob: &BlobFile, target: &Path) -> Result<bool, MirrorError> {
    let Ok(meta) = fs::symlink_metadata(target) else { return Ok(false) };
    if meta.is_dir() {
        return Err(MirrorError::BadFile {
            path: target.to_owned(),
            why: "is a folder, and a file of that name is to be written".into(),
            hint: "move it away, or pull to another folder",
        });
    }
    if !meta.is_file() || meta.len() != blob.size() {
        return Ok(false);
    }
    let Ok(mut file) = File::open(target) else { return Ok(false) };
    let mut there = Vec::new();
    for piece in pieces(blob.size()) {
        there.resize(piece.len() as usize, 0);
        if file.read_exact(&mut there).is_err() || there != blob.read(piece)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy(blob: &BlobFile, temp: &Temp) -> Result<(), MirrorError> {
    let mut file = &temp.file;
    for piece in pieces(blob.size()) {
        let bytes = blob.read(piece)?;
        file.write_all(&bytes).map_err(|e| disk("write", &temp.path, e))?;
    }
    Ok(())
}

fn pieces(size: u64) -> impl Iterator<Item = ByteRange> {
    let start_of = move |n: u64| (n * MAX_READ_BYTES).min(size);
    (0..size.div_ceil(MAX_READ_BYTES)).map(move |n| ByteRange::new(start_of(n), start_of(n + 1)))
}

/// Whoever may read it may run it.
fn make_executable(path: &Path) -> Result<(), MirrorError> {
    let meta = fs::metadata(path).map_err(|e| disk("read", path, e))?;
    let mode = meta.permissions().mode();
    let wanted = mode | (mode & 0o444) >> 2;
    if wanted == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(wanted)).map_err(|e| disk("change", path, e))
}

/// A file that is being written; dropped before it got its name, it is removed.
pub(super) struct Temp {
    pub(super) file: File,
    path: PathBuf,
    named: bool,
}

impl Temp {
    pub(super) fn in_folder(folder: &Path) -> Result<Self, MirrorError> {
        let path = temp_path(folder);
        let file = File::create_new(&path).map_err(|e| disk("write", &path, e))?;
        Ok(Self { file, path, named: false })
    }

    pub(super) fn rename_to(mut self, target: &Path) -> Result<(), MirrorError> {
        fs::rename(&self.path, target).map_err(|e| disk("write", target, e))?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A name that nothing in the folder has.
pub(super) fn temp_path(folder: &Path) -> PathBuf {
    folder.join(format!(".hubless-{:016x}.tmp", rand::random::<u64>()))
}

pub(super) fn disk(action: &'static str, path: &Path, source: io::Error) -> MirrorError {
    MirrorError::Disk { action, path: path.to_owned(), source }
}
