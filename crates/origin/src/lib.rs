//! Upstreams: hubs and git hosts that repositories come from, where they still answer.
//!
//! An [`Origin`] is asked for what a name means, for a commit's git objects and for bytes; what it sends is checked
//! by whoever asked, against the commit and the digests, as what a peer sends is.
//!
//! **Invariant:** a user's token goes to the origin's own host, for the request that it came with, and is kept
//! nowhere; no redirect leads to a private address unless the origin itself is one, nor from https down to http;
//! one budget a host is shared by all who show it the same token, or none.
//! **Not here:** whether what came is right (`mirror`, `store`), when to ask an origin rather than a peer (`mirror`).

mod assemble;
mod config;
mod error;
mod git;
mod http;
mod hub;
mod pace;
mod seen;
pub mod xet;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use hubless_proof::Bundle;
use hubless_types::{ByteRange, CommitId, FileEntry, RepoId, Revision, Token};

pub use config::{OriginConfig, OriginKind, Patience, build, build_within};
pub use error::{MAX_SAID_CHARS, OriginError, OriginErrorKind};
pub use git::GitOrigin;
pub use hub::HubOrigin;
pub use seen::{Breaker, OriginStatus, Seen, SeenRef};

/// Bytes as they arrive; nothing of them is checked yet but their number. An empty piece says that this node's own cap
/// holds the next ones back: the origin is not slow.
pub type OriginBody = BoxStream<'static, Result<Bytes, OriginError>>;

/// One upstream. Clones of an `Arc` of it share its budget and its breaker.
#[async_trait]
pub trait Origin: Send + Sync + 'static {
    /// Its address without user and password, as statements and logs name it.
    fn name(&self) -> &str;

    /// How it is doing.
    fn status(&self) -> OriginStatus;

    /// Which commit `revision` is now, and what is said of the repository. One request.
    async fn resolve(
        &self,
        repo: &RepoId,
        revision: &Revision,
        token: Option<&Token>,
    ) -> Result<Seen, OriginError>;

    /// The branches, tags, conversions and pull requests that it lists, by their full names (`refs/heads/main`).
    async fn refs(&self, repo: &RepoId, token: Option<&Token>) -> Result<Vec<SeenRef>, OriginError>;

    /// The commit's objects, its small blobs and the sizes of the others, as they came: the caller checks them.
    async fn bundle(
        &self,
        repo: &RepoId,
        commit: CommitId,
        token: Option<&Token>,
    ) -> Result<Bundle, OriginError>;

    /// The bytes of `range` (half-open, within the file) of a file of `commit`. Ends with an error where fewer or
    /// more bytes than asked for come.
    async fn open(
        &self,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
        range: ByteRange,
        token: Option<&Token>,
    ) -> Result<OriginBody, OriginError>;

    /// Whether whoever holds `token` (or nobody in particular) may read the content of `repo` now.
    async fn may_read(&self, repo: &RepoId, token: Option<&Token>) -> Result<(), OriginError>;

    /// Who holds `token`, in the hub's own JSON (`/api/whoami-v2`).
    async fn whoami(&self, token: &Token) -> Result<Bytes, OriginError>;

    /// Whether a range of `entry` costs it no more than that range. Of a plain blob git sends all that lies before it, too.
    fn seeks(&self, _entry: &FileEntry) -> bool {
        true
    }

    /// Whether it can tell who holds a token. A git host cannot.
    fn has_accounts(&self) -> bool {
        true
    }
}
