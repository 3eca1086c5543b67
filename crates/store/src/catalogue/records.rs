//! What the catalogue says of blobs, refs and DHT rows.

use std::net::SocketAddr;
use std::path::PathBuf;

use hubless_types::{CommitId, GroupSet, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// What of a file's metadata changes when somebody changes the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileStamp {
    /// Length in bytes.
    pub size: u64,
    /// When its content changed, in nanoseconds since 1970 (saturating).
    pub mtime_ns: i64,
    /// When its content or metadata changed, in nanoseconds since 1970 (saturating).
    pub ctime_ns: i64,
    /// Its number on the device.
    pub inode: u64,
    /// The device.
    pub device: u64,
}

/// Where a blob's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    /// In the data folder.
    Owned,
    /// In a file of somebody else's, who may change it.
    Reference {
        /// Absolute; any bytes that Linux allows.
        #[serde(with = "path_bytes")]
        path: PathBuf,
        /// What the file looked like when it was hashed.
        stamp: FileStamp,
    },
}

/// What is known of one blob's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Length of the whole blob, in bytes.
    pub size: u64,
    /// Where it lies.
    pub place: Place,
    /// The groups that are here and verified; `None` if all are.
    pub have: Option<GroupSet>,
    /// Whether the bytes reached the disk itself before this record was written.
    pub synced: bool,
    /// The boot of the machine during which it was written: bytes that were not synced survive a killed
    /// process, but not a power cut. All zero where it is not known.
    pub boot: [u8; 16],
    /// Whether peers may have it. A new record's word counts only where there was none: see
    /// [`Blobs::share`](crate::Blobs::share).
    pub shared: bool,
    /// Of a partial blob: so many parents of its tree are here from the first one on, in pre-order, all verified.
    pub parents: u64,
}

impl BlobRecord {
    /// Of bytes that were written just now, during `boot`: unsynced, and not shared.
    pub(crate) const fn fresh(size: u64, place: Place, have: Option<GroupSet>, boot: [u8; 16]) -> Self {
        Self { size, place, have, synced: false, boot, shared: false, parents: 0 }
    }

    /// Whether both speak of the same bytes: all is equal but what changes beside them, such as `synced` a little
    /// after a blob was written.
    pub(crate) fn is_of_same_bytes(&self, other: &Self) -> bool {
        let Self { size, place, have, synced: _, boot, shared: _, parents: _ } = self;
        (size, place, have, boot) == (&other.size, &other.place, &other.have, &other.boot)
    }
}

/// How this node came to know where a name points.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefSource {
    /// `add` wrote the commit here.
    Published,
    /// It was found in a Hugging Face cache.
    Adopted,
    /// A node's signed statement.
    Statement(NodeId),
    /// An origin, by its address.
    Origin(String),
    /// The commit itself was asked for.
    Commit,
    /// Nodes that the operator chose saw it at an origin.
    Witnesses {
        /// How many said so.
        agree: u16,
        /// How many were chosen.
        of: u16,
    },
}

/// Where a name pointed when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RefRecord {
    /// The commit.
    pub commit: CommitId,
    /// When that was seen.
    pub seen: Timestamp,
    /// Who said so.
    pub by: RefSource,
}

/// One provider of one DHT key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DhtRow {
    /// Who provides it.
    pub provider: NodeId,
    /// Where it is reached; at most [`DHT_MAX_ADDRS`](crate::DHT_MAX_ADDRS) are kept.
    pub addrs: Vec<SocketAddr>,
    /// Until when the row counts. Rows of our own stay until they are removed.
    pub expires: Timestamp,
    /// Whether it is this node's own.
    pub own: bool,
}

/// What became of a row that was offered to the DHT table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhtVerdict {
    /// It is a new row.
    Added,
    /// The provider had a row for the key; it is renewed.
    Renewed,
    /// The key was full; the row that was nearest to its expiry made room.
    Replaced,
    /// The key is full of rows that last at least as long.
    KeyFull,
    /// The provider has [`DHT_MAX_PER_PEER`](crate::DHT_MAX_PER_PEER) rows.
    PeerFull,
    /// Strangers have [`DHT_MAX_TOTAL`](crate::DHT_MAX_TOTAL) rows.
    TableFull,
    /// The key is empty or longer than [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES).
    BadKey,
}

impl DhtVerdict {
    /// Whether the row is in the table now.
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::Added | Self::Renewed | Self::Replaced)
    }
}

/// A path as its bytes: serde's own form refuses what is not UTF-8.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(path.as_os_str().as_bytes())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(d)?).into())
    }
}
