//! A link: which BLAKE3 tree holds the file that git or LFS names.

use crate::{BlobHash, FileDigest};

/// How a link is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkTrust {
    /// Any peer said so: the whole file is fetched and hashed before anyone sees a byte of it.
    Claimed,
    /// A witness whom the operator chose signed it.
    Vouched,
    /// This node hashed the whole file both ways.
    Proven,
}

/// Ties a file's digest to the root of its BLAKE3 tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Link {
    /// What git or LFS calls the file.
    pub digest: FileDigest,
    /// What its bytes are fetched by.
    pub hash: BlobHash,
    /// Its length in bytes.
    pub size: u64,
    /// How this is known.
    pub trust: LinkTrust,
}

impl Link {
    /// Whether bytes may be shown before the whole file is here.
    pub fn may_stream(&self) -> bool {
        self.trust >= LinkTrust::Vouched
    }
}
