//! One process a data folder: an advisory lock on `DIR/lock`, which the system lets go when the process ends.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Result, StoreError};

/// Name of the lock's file inside the data folder.
const LOCK_FILE: &str = "lock";
/// Longest note that is read from it, in bytes.
const MAX_NOTE_BYTES: u64 = 256;

/// Holds the data folder until it is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    /// Closing it lets the lock go. The file stays: deleting it would let two processes lock two files.
    _file: File,
}

impl FolderLock {
    /// Takes the folder, or says who has it.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        let path = dir.join(LOCK_FILE);
        let fail = |e| StoreError::io(&path, e);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false) // not before it is ours
            .open(&path)
            .map_err(fail)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(held_by(dir, &mut file)),
            Err(e) => return Err(fail(e.into())),
        }
        file.set_len(0).map_err(fail)?;
        file.rewind().map_err(fail)?;
        writeln!(file, "{} {}", std::process::id(), program()).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

/// The other process may be about to write its note; then its number is not known.
fn held_by(dir: &Path, file: &mut File) -> StoreError {
    let mut note = String::new();
    let _ = file.take(MAX_NOTE_BYTES).read_to_string(&mut note);
    let (pid, program) = note.trim().split_once(' ').unwrap_or((note.trim(), ""));
    StoreError::Locked { dir: dir.to_owned(), pid: pid.parse().ok(), program: program.to_owned() }
}

fn program() -> String {
    let path = std::env::current_exe().ok();
    path.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
