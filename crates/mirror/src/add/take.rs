//! Takes files into the store, on all cores, each in one pass.

use std::io::Read as _;
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hubless_proof::{NewContent, NewFile, Pointer};
use hubless_store::{DigestKind, Hold, ImportMode, StoreError};
use hubless_types::{BlobHash, FileDigest, LFS_MIN_BYTES, POINTER_MAX_BYTES};

use super::teller::Teller;
use super::walk::{Found, bad};
use crate::MirrorError;
use crate::mirror::Inner;
use crate::util::locked;

/// Most files that are hashed at once.
const MAX_THREADS: usize = 16;

/// A file that is in the store now.
pub(crate) struct Taken {
    /// What the commit says of it.
    pub(crate) file: NewFile,
    /// Its row in the link table.
    pub(crate) link: (FileDigest, BlobHash, u64),
    /// Keeps the collector away until something pins it.
    pub(crate) _hold: Hold,
}

/// Which digest names each file: git or LFS, by its size, unless the caller knows better.
pub(crate) type KindOf<'a> = &'a (dyn Fn(&Found) -> DigestKind + Sync);

/// `add`'s own rule.
pub(crate) fn kind_by_size(found: &Found) -> DigestKind {
    if found.size >= LFS_MIN_BYTES { DigestKind::Sha256 } else { DigestKind::GitBlob }
}

impl Inner {
    /// Takes `files` in by reference, in their order; `teller` is told of bytes and of files. Blocks.
    ///
    /// # Errors
    /// Of the first file that failed; the others stay in the store until they are collected.
    pub(crate) fn take(
        &self,
        files: &[Found],
        kind: KindOf<'_>,
        teller: &Teller,
    ) -> Result<Vec<Taken>, MirrorError> {
        let taken = self.take_each(files, kind, teller, true)?;
        let taken = taken.into_iter().collect::<Result<Vec<_>, _>>()?;
        if taken.len() < files.len() { Err(MirrorError::Stopped) } else { Ok(taken) }
    }

    /// As [`Inner::take`], with what became of each file; after the first error it stops if `strict`.
    ///
    /// # Errors
    /// [`MirrorError::Stopped`] at shutdown, or when nobody waits for it any more.
    pub(crate) fn take_each(
        &self,
        files: &[Found],
        kind: KindOf<'_>,
        teller: &Teller,
        strict: bool,
    ) -> Result<Vec<Result<Taken, MirrorError>>, MirrorError> {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let taken: Mutex<Vec<(usize, Result<Taken, MirrorError>)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..threads.min(files.len()) {
                scope.spawn(|| {
                    while !failed.load(Ordering::Relaxed) && !teller.is_given_up() {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(found) = files.get(i) else { return };
                        let result = self.take_one(found, kind(found), &|n| teller.bytes(n));
                        match &result {
                            Ok(_) => teller.file(found),
                            Err(_) => failed.store(strict, Ordering::Relaxed),
                        }
                        locked(&taken).push((i, result));
                    }
                });
            }
        });
        let mut taken = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
        taken.sort_by_key(|(i, _)| *i);
        teller.go_on()?;
        Ok(taken.into_iter().map(|(_, result)| result).collect())
    }

    fn take_one(
        &self,
        found: &Found,
        kind: DigestKind,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Taken, MirrorError> {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let blobs = self.store.blobs();
        let small = kind == DigestKind::GitBlob && found.size <= POINTER_MAX_BYTES;
        let (imported, content) = if small {
            let bytes = read_small(&found.disk, found.size)?;
            let imported = blobs.import_bytes(&bytes, kind)?;
            progress(found.size);
            (imported, NewContent::Bytes(bytes))
        } else {
            let imported = blobs.import(&found.disk, ImportMode::Reference, kind, progress)?;
            let content = match imported.digest {
                FileDigest::Sha256(sha256) => NewContent::Lfs { sha256, size: imported.size },
                FileDigest::Git(blob) => NewContent::Git { blob, size: imported.size },
            };
            (imported, content)
        };
        if imported.size != found.size {
            return Err(StoreError::ChangedWhileRead { path: found.disk.clone() }.into());
        }
        let file = NewFile { path: found.path.clone(), mode: found.mode, content };
        let link = (imported.digest, imported.hash, imported.size);
        Ok(Taken { file, link, _hold: blobs.hold(imported.hash) })
    }
}

fn read_small(path: &Path, size: u64) -> Result<Vec<u8>, MirrorError> {
    let mut bytes = Vec::new();
    // It may have grown since it was looked at, by any amount.
    let read = std::fs::File::open(path).and_then(|file| file.take(size + 1).read_to_end(&mut bytes));
    read.map_err(|e| StoreError::io(path, e))?;
    if bytes.len() as u64 != size {
        return Err(StoreError::ChangedWhileRead { path: path.to_owned() }.into());
    }
    // Git would take it for the file that it points to, whose content is not here.
    if Pointer::parse(&bytes).is_some() {
        let hint = "fetch the real file with `git lfs pull`, and add the folder again";
        return Err(bad(path, "is a Git LFS pointer, not the file that it stands for", hint));
    }
    Ok(bytes)
}
