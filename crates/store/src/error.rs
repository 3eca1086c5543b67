//! What can go wrong in the store, for both of its halves: the catalogue and the bytes.

use std::io;
use std::path::{Path, PathBuf};

use hubless_types::{BlobHash, FileDigest, NodeId};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data folder open.
    #[error("the data folder `{}` is in use by {}", dir.display(), holder(*pid, program))]
    Locked {
        /// The data folder.
        dir: PathBuf,
        /// The other process, if it wrote its number down.
        pid: Option<u32>,
        /// The other process' program; empty if it is not known.
        program: String,
    },
    /// The data folder was made by a node with another key.
    #[error("the data folder `{}` belongs to node {found}, and this is node {expected}", dir.display())]
    OtherNode {
        /// The data folder.
        dir: PathBuf,
        /// This node.
        expected: NodeId,
        /// The folder's node.
        found: NodeId,
    },
    /// The data folder was written by a later version of this program.
    #[error("the data folder has format {found}, and this version reads up to {supported}")]
    NewerVersion {
        /// The folder's format.
        found: u32,
        /// The newest format that is understood.
        supported: u32,
    },
    /// A record that cannot be read.
    #[error("a record of the catalogue is damaged ({record}): {why}")]
    Corrupt {
        /// Which kind of record, such as `blob`.
        record: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// RocksDB refused.
    #[error("the catalogue's database failed")]
    Rocks(#[source] rocksdb::Error),
    /// A file could not be read or written.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No room is left.
    #[error("the disk that holds `{}` is full, or would be", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// Somebody wrote to a file while it was hashed.
    #[error("`{}` changed while it was read", path.display())]
    ChangedWhileRead {
        /// Which file.
        path: PathBuf,
    },
    /// A folder, device, socket or pipe where a file should be.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// What it was taken for.
        path: PathBuf,
    },
    /// Bytes on disk that are not those that were hashed.
    #[error("the bytes kept for {hash} are wrong at byte {offset}")]
    Mismatch {
        /// Whose bytes.
        hash: BlobHash,
        /// The first byte of the group that is wrong.
        offset: u64,
    },
    /// A blob is known with another size than was said.
    #[error("{hash} has {known} bytes, not {said}")]
    SizeClash {
        /// Which blob.
        hash: BlobHash,
        /// The size that is known.
        known: u64,
        /// The size that was said.
        said: u64,
    },
    /// Content that was made to collide with another's SHA-1.
    #[error("`{}` was made to have the SHA-1 of another file", path.display())]
    Collision {
        /// Which file.
        path: PathBuf,
    },
    /// A file is being filled by an origin with another size in mind.
    #[error("{digest} is being fetched with {known} bytes, not {said}")]
    DraftSizeClash {
        /// Which file.
        digest: FileDigest,
        /// The size that is being fetched.
        known: u64,
        /// The size that was said.
        said: u64,
    },
    /// A file that was being filled is finished or dropped.
    #[error("{digest} is no longer being fetched")]
    DraftGone {
        /// Which file.
        digest: FileDigest,
    },
    /// A file that was to be finished lacks some of its bytes.
    #[error("{digest} is not all here")]
    DraftNotWhole {
        /// Which file.
        digest: FileDigest,
    },
    /// Plain bytes cannot be checked before the tree is here.
    #[error("the hash tree of {hash} is not here yet")]
    NoTree {
        /// Whose tree.
        hash: BlobHash,
    },
    /// Something is read or fetched right now, so it cannot be deleted.
    #[error("{hash} is in use")]
    Held {
        /// What is in use.
        hash: BlobHash,
    },
    /// Beyond a bound of the store.
    #[error("{what} has {size}; at most {limit} is taken")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The bound, in the same unit.
        limit: u64,
    },
    /// The work was given up because it is not wanted any more.
    #[error("it was given up")]
    Cancelled,
    /// Bytes were asked for that are not here.
    #[error("{hash} is not here, or not that part of it")]
    NotHere {
        /// What was asked for.
        hash: BlobHash,
    },
}

/// What the store returns.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// A failed read or write of `path`; a full disk gets its own variant.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { path, source },
        }
    }

    pub(crate) fn corrupt(record: &'static str, why: impl ToString) -> Self {
        Self::Corrupt { record, why: why.to_string() }
    }

    /// RocksDB hands the operating system's error on as text only.
    pub(crate) fn rocks(dir: &Path, source: rocksdb::Error) -> Self {
        let text = source.to_string();
        if text.contains("No space left") || text.contains("Disk quota exceeded") {
            return Self::DiskFull { path: dir.to_owned() };
        }
        Self::Rocks(source)
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Locked { .. } => "stop the other process, or give this one its own folder with `--data`",
            Self::OtherNode { .. } => {
                "restore the key that made the folder, or give this node its own folder with `--data`"
            }
            Self::NewerVersion { .. } => "install the version of hubless that wrote it; nothing was changed",
            Self::Corrupt { record: "format", .. } => {
                "restore `format.json` in the data folder: it holds the format and the node's id, as in \
                 `{\"format\":N,\"node\":\"12D3KooW…\"}`"
            }
            Self::Corrupt { .. } | Self::Rocks(_) => {
                "check the disk; if the damage stays, move the `catalogue` folder away: what is kept is found again by `add`, `adopt` and `pull`"
            }
            Self::DiskFull { .. } => {
                "free some room, for example with `hubless gc`, and try again; a fetch leaves 64 MiB to everything else"
            }
            Self::ChangedWhileRead { .. } => "wait until nobody writes to the file, and try again",
            Self::NotAFile { .. } => "only regular files can be kept; take it out of the folder",
            Self::Mismatch { .. } => "run `hubless verify`; what is wrong is dropped and fetched anew",
            Self::Held { .. } => "try again when nobody reads or fetches it",
            Self::Io { source, .. } => return io_hint(source),
            Self::Collision { .. } => "do not keep this file; it was made to deceive git",
            Self::DraftSizeClash { .. }
            | Self::DraftGone { .. }
            | Self::DraftNotWhole { .. }
            | Self::NoTree { .. }
            | Self::TooLarge { .. }
            | Self::NotHere { .. }
            | Self::Cancelled
            | Self::SizeClash { .. } => return None,
        })
    }
}

fn io_hint(source: &io::Error) -> Option<&'static str> {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Some("give the user that runs hubless access to it"),
        io::ErrorKind::NotFound => Some("it is no longer there; add it again from where it is now"),
        io::ErrorKind::ReadOnlyFilesystem => Some("the disk is mounted read-only"),
        _ => None,
    }
}

fn holder(pid: Option<u32>, program: &str) -> String {
    match (pid, program) {
        (Some(pid), "") => format!("process {pid}"),
        (Some(pid), program) => format!("process {pid} ({program})"),
        (None, _) => "another process".to_owned(),
    }
}
