//! The words of Hubless: one type an identifier, each parsed once at the edge and trusted afterwards.
//!
//! **Invariant:** a value of one of these types has passed its checks; nobody checks it again.
//! **Not here:** hashing, signing, disk, network, configuration.

mod addr;
mod clock;
mod facts;
mod ids;
mod link;
mod manifest;
mod path;
mod pin;
mod range;
mod repo;
mod statement;
mod token;

pub use addr::{Host, NodeId, PeerAddr, Provider, ProviderSource};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use facts::{Access, RepoFacts};
pub use ids::{BlobHash, BlobId, CommitId, FileDigest, Sha256, TreeId};
pub use link::{Link, LinkTrust};
pub use manifest::{
    CommitInfo, FileEntry, FileMode, LFS_MIN_BYTES, Lfs, MAX_MANIFEST_ENTRIES, Manifest, ManifestError,
    POINTER_MAX_BYTES, SHARD_MIN_BYTES,
};
pub use path::RepoPath;
pub use pin::Pin;
pub use range::{ByteRange, GROUP_BYTES, GroupSet};
pub use repo::{RepoId, RepoKind, Revision};
pub use statement::{PublicSignature, Statement, StatementBody};
pub use token::{Loan, MAX_TOKEN_BYTES, Token};

/// Why a text is not the identifier it should be; names the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no {what}: {why}", shorten(input))]
pub struct ParseError {
    /// What was expected, such as `repo id`.
    pub what: &'static str,
    /// The text that was given.
    pub input: String,
    /// What is wrong with it.
    pub why: String,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, input: &str, why: impl Into<String>) -> Self {
        Self { what, input: input.to_owned(), why: why.into() }
    }
}

/// Longest piece of somebody's input that is repeated in an error, in characters.
const SHOWN_INPUT_CHARS: usize = 120;

fn shorten(input: &str) -> String {
    let shown: String = input.chars().take(SHOWN_INPUT_CHARS).flat_map(char::escape_debug).collect();
    if input.chars().nth(SHOWN_INPUT_CHARS).is_some() { format!("{shown}…") } else { shown }
}

/// Serialises a type through its `Display` and `FromStr`: as the printed form in JSON, TOML and postcard alike. The crate that
/// uses it needs `serde`.
#[macro_export]
macro_rules! serde_as_text {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
