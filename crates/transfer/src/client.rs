//! What one node asks of another. The mirror knows peers by this trait alone.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use hubless_store::{Draft, DraftNews, PartialBlob};
use hubless_types::{
    BlobHash, CommitId, FileDigest, GroupSet, Link, NodeId, Provider, RepoId, Revision, Statement,
};

use crate::TransferError;

/// A manifest as it travels. Nothing in it is proven yet: `proof` does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestReply {
    /// An encoded `proof::Bundle`, at most 64 MiB.
    pub bundle: Vec<u8>,
    /// An encoded `proof::LinkTable`, where the peer has one.
    pub links: Option<Vec<u8>>,
}

/// What a peer says it holds of one blob.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holding {
    /// The blob.
    pub hash: BlobHash,
    /// Its length in bytes, by the peer's word.
    pub size: u64,
    /// The groups that it can send now.
    pub have: GroupSet,
}

/// What a peer says of the crowd around one blob.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Gathering {
    /// The blob.
    pub hash: BlobHash,
    /// The groups that it gave to others who still ask, if it has all of the blob.
    pub gave: GroupSet,
    /// Others that ask it for the blob, and where it met them, at most 16; empty where it tells of the same as before.
    pub peers: Vec<(NodeId, SocketAddr)>,
}

/// A page of the repositories that a peer says it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeldRepos {
    /// Repositories, at most [`crate::limits::MAX_REPOS_TOLD`]; one may come again on a later page.
    pub repos: Vec<RepoId>,
    /// What the next page is asked for by, greater than what this one was; `None` if there is none.
    pub next: Option<CommitId>,
}

/// Told of bytes as they are verified and written; called from a blocking thread, must return at once. Told of 0 bytes, it
/// hears that bytes have come and that this node's own cap holds the next ones back: whoever sends is not slow.
pub type Tick = Arc<dyn Fn(u64) + Send + Sync>;

/// Asks other nodes. Nothing that comes back is trusted, except what [`PeerClient::segment`] has verified.
///
/// Every call has its own timeouts; a caller need not add any. Dropping a future cancels the request.
#[async_trait]
pub trait PeerClient: Send + Sync + 'static {
    /// The bundle of `commit`, and the link table that goes with it.
    ///
    /// # Errors
    /// [`TransferError::NotHeld`] if the peer has no such manifest.
    async fn manifest(&self, peer: &Provider, commit: CommitId) -> Result<ManifestReply, TransferError>;

    /// Statements that the peer keeps about `repo`, of one revision or of all, at most 1,024. No signature
    /// has been checked.
    async fn statements(
        &self,
        peer: &Provider,
        repo: &RepoId,
        revision: Option<&Revision>,
    ) -> Result<Vec<Statement>, TransferError>;

    /// Repositories that the peer holds something of and that are open to everyone: a page of them, the one that
    /// [`HeldRepos::next`] named or the first.
    ///
    /// # Errors
    /// [`TransferError::Protocol`] also from a peer that does not know this question.
    async fn repos(&self, peer: &Provider, after: Option<CommitId>) -> Result<HeldRepos, TransferError>;

    /// Links for those of `digests` that the peer knows, all as `Claimed` whatever the peer said.
    async fn links(&self, peer: &Provider, digests: &[FileDigest]) -> Result<Vec<Link>, TransferError>;

    /// Those of `digests` that the peer holds and that have at most [`crate::SMALL_FILE_MAX`] bytes. The caller
    /// hashes them.
    async fn small_files(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, Bytes)>, TransferError>;

    /// What the peer holds of `wanted` (at most 256): first what it has now, then each change. A blob of
    /// which it has nothing is not told until it has. The stream ends when the peer holds all of them wholly,
    /// or after an error.
    async fn holdings(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Holding, TransferError>>, TransferError>;

    /// Who else asks the peer for any of `wanted` (at most 256), and what it gave them: what there is now, then
    /// each change. Whoever asks is told of to the others. Ends with an error alone.
    async fn crowd(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Gathering, TransferError>>, TransferError>;

    /// Fetches `groups` into `into`, each group checked before it is written. `tick` is told of bytes as they
    /// are written. Dropping the future cancels; what was verified by then stays. All bytes are taken from the cap on
    /// what comes in.
    ///
    /// # Errors
    /// [`TransferError::Spent`] where the month's bytes are used up;
    /// [`TransferError::Stalled`] after [`crate::STALL_TIMEOUT`] without a byte; [`TransferError::NotHeld`] if the
    /// peer lacks any of `groups`; [`TransferError::WrongBytes`] at the first group that fails its check.
    async fn segment(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), TransferError>;

    /// As [`PeerClient::segment`], for what a reader waits for: it does not queue behind other segments from the peer.
    async fn segment_now(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), TransferError> {
        self.segment(peer, groups, into, tick).await
    }

    /// Fetches what is missing of `into`'s hash tree (64 bytes for each 16 KiB of the file), each parent checked before
    /// it is written; bytes from anywhere can be checked then ([`PartialBlob::filler`]). Dropping the future cancels;
    /// what was verified by then stays, and the next call goes on from there.
    ///
    /// # Errors
    /// As [`PeerClient::segment`]; [`TransferError::NotHeld`] if the peer has not all of the tree itself.
    async fn tree(&self, peer: &Provider, into: &PartialBlob) -> Result<(), TransferError>;

    /// What the peer does about those of `digests` (at most [`crate::limits::MAX_DRAFTS_ASKED`]) that it fetches from an
    /// origin now, or holds. Asking tells it that this node fetches them, too.
    ///
    /// # Errors
    /// [`TransferError::Protocol`] also from a peer that does not know this question.
    async fn drafts(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, DraftNews)>, TransferError>;

    /// Fetches `groups` that the peer offers of a draft (at most [`crate::limits::MAX_PART_GROUPS`]) into `into`. Nothing
    /// of it is checked: only the whole draft is. `tick` is told of bytes as they are written. Dropping the future
    /// cancels; what was written by then stays.
    ///
    /// # Errors
    /// As [`PeerClient::segment`], except for wrong bytes.
    async fn part(
        &self,
        peer: &Provider,
        digest: FileDigest,
        groups: Range<u64>,
        into: &Draft,
        tick: Tick,
    ) -> Result<(), TransferError>;
}
