//! What a mirror answers. Every type serialises to the JSON that `--json` prints.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::BoxStream;
use hubless_limits::LimitsReport;
use hubless_origin::OriginStatus;
use hubless_store::RefSource;
use hubless_types::{
    ByteRange, CommitId, FileDigest, FileEntry, NodeId, ProviderSource, RepoId, RepoPath, Revision, Timestamp,
};
use serde::Serialize;

use crate::{Fork, MirrorError, ResolvedBy};

/// A file opened for reading.
pub struct FileReader {
    /// The file.
    pub entry: FileEntry,
    /// Which of its bytes follow.
    pub range: ByteRange,
    /// Those bytes in order, verified, in pieces of at most 1 MiB; the last item may be an error.
    pub body: BoxStream<'static, Result<Bytes, MirrorError>>,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader")
            .field("entry", &self.entry)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PullReport {
    /// The repository.
    pub repo: RepoId,
    /// What was asked for.
    pub revision: Revision,
    /// What it was.
    pub commit: CommitId,
    /// On whose word.
    pub by: ResolvedBy,
    /// How old that word is, in seconds.
    pub age: u64,
    /// The name moved of late to a commit that does not descend from the former.
    pub fork: Option<Fork>,
    /// Files that are here now, of those asked for.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Bytes by source: a node's short id, or `here`.
    pub from: Vec<(String, u64)>,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// Where the files were written to, if not to the store only.
    pub to: Option<PathBuf>,
    /// Whether the commit is pinned.
    pub pinned: bool,
}

/// What an add did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddReport {
    /// The repository.
    pub repo: RepoId,
    /// The branch.
    pub revision: Revision,
    /// The commit that it now is.
    pub commit: CommitId,
    /// The commit before, if there was one.
    pub parent: Option<CommitId>,
    /// Files in the commit.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Whether the folder was as it was in `commit` already, and nothing was written.
    pub unchanged: bool,
}

/// What became of one repository of an adopted cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdoptedRepo {
    /// The repository.
    pub repo: RepoId,
    /// Its snapshots: the commit as the cache names it, and the commit under which others can fetch it.
    pub snapshots: Vec<(CommitId, CommitId)>,
    /// Its refs, by the cache's word.
    pub refs: Vec<(Revision, CommitId)>,
    /// Files taken over.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// What an adoption did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AdoptReport {
    /// The repositories taken over.
    pub repos: Vec<AdoptedRepo>,
    /// What was left out, and why.
    pub skipped: Vec<BadFile>,
}

/// A file that something is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadFile {
    /// Its digest, if it has one.
    pub digest: Option<FileDigest>,
    /// Where it is on disk, if it lies outside the store.
    pub place: Option<PathBuf>,
    /// The repositories and paths that use it.
    pub used_by: Vec<(RepoId, RepoPath)>,
    /// What is wrong with it.
    pub why: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Those that were wrong, and were dropped; and those that are kept, were here, and are gone.
    pub bad: Vec<BadFile>,
    /// How many of those are being fetched anew, because something pinned needs them.
    pub refetching: u64,
}

/// What a collection took away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Files removed (or that would be).
    pub files: u64,
    /// Bytes freed (or that would be).
    pub bytes: u64,
    /// Files that stay.
    pub kept: u64,
    /// Commits of which nothing was here but their lists of files, and that were forgotten (or would be).
    pub commits: u64,
    /// Whether nothing was really removed.
    pub dry_run: bool,
}

/// What was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForgetReport {
    /// The repository, by the name that it was kept under.
    pub repo: RepoId,
    /// Commits that went with it: no other repository here lists them.
    pub commits: u64,
}

/// One revision that this node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepoSummary {
    /// The repository.
    pub repo: RepoId,
    /// The revision.
    pub revision: Revision,
    /// What it is.
    pub commit: CommitId,
    /// On whose word.
    pub by: RefSource,
    /// When that was seen so.
    pub seen: Timestamp,
    /// Whether its manifest is here; without it, how many files it has is not known.
    pub listed: bool,
    /// Files in the commit; 0 while its manifest is not here.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Of those, bytes that are here and verified.
    pub bytes_here: u64,
    /// Whether it is pinned.
    pub pinned: bool,
}

/// The announce queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AnnounceStatus {
    /// Keys that this node tells others of.
    pub keys: u64,
    /// Keys due now.
    pub due: u64,
    /// Announcements made since the start.
    pub made: u64,
    /// Announcements that failed since the start.
    pub failed: u64,
    /// Walks over the DHT that they took.
    pub walks: u64,
    /// Messages with keys that were sent.
    pub messages: u64,
    /// Records that others refused, having no room.
    pub refused: u64,
    /// By how many seconds the longest due key is late.
    pub late_secs: u64,
    /// Why announcing falls behind, if it does: others then forget what this node holds.
    pub behind: Option<String>,
}

/// How this node stands in the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiscoverySummary {
    /// Nodes connected now.
    pub peers: u64,
    /// Nodes in the routing table.
    pub routing: u64,
    /// Nodes that the network is taken to have.
    pub network: u64,
    /// `server` or `client`.
    pub mode: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Where others say they reach it.
    pub external: Vec<String>,
}

/// One fetch that is under way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FetchSummary {
    /// What git or LFS calls the file.
    pub digest: FileDigest,
    /// Bytes verified.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes a second.
    pub rate: u64,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Who it is.
    pub node: NodeId,
    /// Whether it has a network.
    pub online: bool,
    /// Repositories known here.
    pub repos: u64,
    /// Commits whose manifest is here.
    pub commits: u64,
    /// Pins.
    pub pins: u64,
    /// Files that are whole.
    pub files: u64,
    /// Bytes in the store's own folder.
    pub owned_bytes: u64,
    /// Bytes that stay where they were added from.
    pub referenced_bytes: u64,
    /// Bytes of files that are not whole yet.
    pub partial_bytes: u64,
    /// The announce queue.
    pub announce: AnnounceStatus,
    /// The network, if there is one.
    pub discovery: Option<DiscoverySummary>,
    /// What is being fetched.
    pub fetches: Vec<FetchSummary>,
    /// The upstreams, in the order in which they are asked.
    pub origins: Vec<OriginSummary>,
    /// Caps, and what is used of them.
    pub limits: LimitsReport,
}

/// How an upstream is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OriginSummary {
    /// By its own account.
    #[serde(flatten)]
    pub status: OriginStatus,
    /// How often it sent something else than it should have. None of that was kept.
    pub wrong: u64,
    /// The last time: what, and what it was instead.
    pub last_wrong: Option<String>,
}

/// One node that is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerSummary {
    /// Who.
    pub node: NodeId,
    /// Where.
    pub addrs: Vec<SocketAddr>,
    /// How it became known.
    pub source: ProviderSource,
    /// Bytes of files and manifests that it sent since the start.
    pub bytes_from: u64,
}
