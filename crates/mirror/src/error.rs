//! What can go wrong, sorted by who must act.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::fetch::FetchError;
use hubless_discovery::DiscoveryError;
use hubless_limits::Spent;
use hubless_origin::{OriginError, OriginErrorKind};
use hubless_proof::ProofError;
use hubless_store::StoreError;
use hubless_types::{CommitId, FileDigest, NodeId, ParseError, RepoId, RepoPath, Revision, Timestamp};

/// What was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotFound {
    /// Nobody knows the repository.
    Repo,
    /// The repository is known, the revision is not.
    Revision,
    /// The commit has no such file.
    Entry,
}

/// Who must act on an error; decides exit codes and HTTP statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller asked for something that cannot be.
    BadInput,
    /// Nobody knows it.
    NotFound(NotFound),
    /// Somebody answers, but nobody whom this node's operator chose.
    Untrusted,
    /// The content needs a token that may read it.
    Gated,
    /// Its origin has switched the repository off.
    Disabled,
    /// The token is not one.
    BadToken,
    /// No source answers now; later one may.
    Unavailable,
    /// It is being fetched; ask again after [`MirrorError::retry_after`].
    Busy,
    /// What arrived is not what was named.
    Integrity,
    /// This machine's disk has no room for it.
    DiskFull,
    /// This machine's disk.
    Disk,
    /// A fault of this program.
    Internal,
}

impl ErrorKind {
    /// A stable word for machines: `bad-input`, `repo-not-found`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadInput => "bad-input",
            Self::NotFound(NotFound::Repo) => "repo-not-found",
            Self::NotFound(NotFound::Revision) => "revision-not-found",
            Self::NotFound(NotFound::Entry) => "entry-not-found",
            Self::Untrusted => "untrusted",
            Self::Gated => "gated",
            Self::Disabled => "disabled",
            Self::BadToken => "bad-token",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
            Self::Integrity => "integrity",
            Self::DiskFull => "disk-full",
            Self::Disk => "disk",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for ErrorKind {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// What one node says a name means.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Said {
    /// Who says it.
    pub by: NodeId,
    /// Where the ref points, by that node's word.
    pub commit: CommitId,
    /// When that node saw it so.
    pub seen: Timestamp,
}

/// Why a request to the mirror failed.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Neither this node nor a peer that answered knows the repository.
    #[error("nobody reached knows the repository `{repo}`")]
    RepoNotFound {
        /// What was asked for.
        repo: RepoId,
    },
    /// The repository is known, the revision is not.
    #[error("nobody reached knows the revision `{revision}` of `{repo}`")]
    RevisionNotFound {
        /// The repository.
        repo: RepoId,
        /// What was asked for.
        revision: Revision,
    },
    /// No peer that was reached has the commit's git objects.
    #[error("nobody reached has the commit {commit}")]
    CommitNotFound {
        /// The commit.
        commit: CommitId,
    },
    /// The commit has no such file.
    #[error("`{path}` is not in commit {commit} of `{repo}`")]
    EntryNotFound {
        /// The repository.
        repo: RepoId,
        /// The commit.
        commit: CommitId,
        /// What was asked for.
        path: RepoPath,
    },
    /// Filters that leave nothing.
    #[error("no file of `{repo}` passes the filters")]
    NothingMatches {
        /// The repository.
        repo: RepoId,
    },
    /// Peers say what the name means, but none of them is trusted.
    #[error("nobody trusted says what `{revision}` of `{repo}` is; {}", list_said(said))]
    Untrusted {
        /// The repository.
        repo: RepoId,
        /// The name.
        revision: Revision,
        /// Who says what, newest first.
        said: Vec<Said>,
    },
    /// Enough witnesses speak of the name, and too few of them agree.
    #[error(
        "the witnesses do not agree what `{revision}` of `{repo}` is ({threshold} must); {}",
        list_said(said)
    )]
    Split {
        /// The repository.
        repo: RepoId,
        /// The name.
        revision: Revision,
        /// How many must agree.
        threshold: usize,
        /// Who says what, newest first.
        said: Vec<Said>,
    },
    /// An origin refuses, or does not answer, and nobody else can.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// Whether the caller may read what is not open to everyone cannot be asked.
    #[error("`{repo}` is not open to everyone, and whether you may read it cannot be asked{}", because(source.as_deref()))]
    Unchecked {
        /// The repository.
        repo: RepoId,
        /// Why its origin did not say; none if this node has no origin.
        source: Option<Box<OriginError>>,
    },
    /// A file whose link is only claimed is not whole yet; the fetch goes on.
    #[error("`{path}` is being fetched and checked; ask again in {} s{}", retry_after.as_secs(), meanwhile(trouble.as_deref()))]
    NotYet {
        /// The file.
        path: RepoPath,
        /// What keeps its origin from sending it now.
        trouble: Option<Box<OriginError>>,
        /// When it may be whole, from the measured rate.
        retry_after: Duration,
    },
    /// No source for a file's bytes.
    #[error("no node reached has {what}")]
    NoSource {
        /// The file, as a person would name it.
        what: String,
    },
    /// Every source that answered lied about a file.
    #[error("every source of {digest} sent something else")]
    WrongContent {
        /// The file's digest.
        digest: FileDigest,
    },
    /// A plain git file whose content is right and whose size in the manifest, a peer's word, was not.
    #[error(
        "`{path}` has {found} bytes, not {claimed} as the manifest's sender said; the manifest is mended"
    )]
    WrongSize {
        /// The file.
        path: RepoPath,
        /// What the manifest said.
        claimed: u64,
        /// What it has.
        found: u64,
    },
    /// A fetch ended without its bytes.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An error that several who waited for one file share.
    #[error(transparent)]
    Shared(Arc<MirrorError>),
    /// This mirror has no network.
    #[error("{what} needs a running node with a network")]
    Offline {
        /// What was asked for.
        what: String,
    },
    /// This node's bytes of the month are used up.
    #[error(transparent)]
    Spent(#[from] Spent),
    /// The mirror is shutting down.
    #[error("the node is stopping")]
    Stopped,
    /// A text that is not the identifier it should be.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A glob that is none.
    #[error("`{glob}` is no glob: {why}")]
    Glob {
        /// The glob.
        glob: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file or folder that cannot be added or adopted.
    #[error("`{}` {why}", path.display())]
    BadFile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        why: String,
        /// What a person can do.
        hint: &'static str,
    },
    /// A commit id where a name is needed.
    #[error("`{revision}` is a commit id, and only a branch can be moved to a new commit")]
    NoBranch {
        /// What was given.
        revision: Revision,
    },
    /// A repository of which nothing is kept here.
    #[error("nothing is known here of the repository `{repo}`")]
    NotHere {
        /// What was asked for.
        repo: RepoId,
    },
    /// A pin that is not there.
    #[error("`{repo}` at `{revision}` is not pinned")]
    NotPinned {
        /// The repository.
        repo: RepoId,
        /// The revision.
        revision: Revision,
    },
    /// Git objects, a statement or a link table that do not prove what they should.
    #[error("{what} proves nothing")]
    Proof {
        /// What it was, and from whom.
        what: String,
        /// What is wrong with it.
        source: ProofError,
    },
    /// What a git client sent is no request, or asks for something that is not served.
    #[error(transparent)]
    GitRequest(ProofError),
    /// More packs are asked for than are made at once.
    #[error("too many packs are being made for others")]
    TooManyPacks,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Finding or announcing failed.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// A file or folder outside the store.
    #[error("cannot {action} `{}`", path.display())]
    Disk {
        /// `read`, `write`, …
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A fault of this program.
    #[error("internal fault: {0}")]
    Internal(String),
}

/// Most answers that an error repeats.
const SHOWN_SAID: usize = 8;

fn list_said(said: &[Said]) -> String {
    let one = |s: &Said| format!("{} says {}", s.by, s.commit);
    let mut text = said.iter().take(SHOWN_SAID).map(one).collect::<Vec<_>>().join(", ");
    if said.len() > SHOWN_SAID {
        text.push_str(&format!(", and {} more", said.len() - SHOWN_SAID));
    }
    text
}

fn meanwhile(trouble: Option<&OriginError>) -> String {
    trouble.map(|error| format!(" ({error})")).unwrap_or_default()
}

fn because(error: Option<&OriginError>) -> String {
    error.map_or_else(|| ": this node has no origin".to_owned(), |error| format!(": {error}"))
}

const fn kind_of_origin(kind: OriginErrorKind) -> ErrorKind {
    match kind {
        OriginErrorKind::RepoNotFound => ErrorKind::NotFound(NotFound::Repo),
        OriginErrorKind::RevisionNotFound => ErrorKind::NotFound(NotFound::Revision),
        OriginErrorKind::EntryNotFound => ErrorKind::NotFound(NotFound::Entry),
        OriginErrorKind::Gated => ErrorKind::Gated,
        OriginErrorKind::Disabled => ErrorKind::Disabled,
        OriginErrorKind::BadToken => ErrorKind::BadToken,
        OriginErrorKind::Busy => ErrorKind::Busy,
        OriginErrorKind::Unavailable => ErrorKind::Unavailable,
        OriginErrorKind::Wrong => ErrorKind::Integrity,
    }
}

impl MirrorError {
    /// Who must act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RepoNotFound { .. } => ErrorKind::NotFound(NotFound::Repo),
            Self::RevisionNotFound { .. } | Self::CommitNotFound { .. } => {
                ErrorKind::NotFound(NotFound::Revision)
            }
            Self::EntryNotFound { .. } => ErrorKind::NotFound(NotFound::Entry),
            Self::Untrusted { .. } | Self::Split { .. } => ErrorKind::Untrusted,
            // Left alone because it failed: what is said is what was said while it failed.
            Self::Origin(OriginError::Resting { .. }) => ErrorKind::Unavailable,
            Self::Origin(error) => kind_of_origin(error.kind()),
            Self::Unchecked { .. } => ErrorKind::Gated,
            Self::NotYet { .. } | Self::TooManyPacks => ErrorKind::Busy,
            Self::Shared(error) => error.kind(),
            Self::Fetch(FetchError::Disk { source, .. }) => of_store(source),
            Self::Fetch(FetchError::OutOfRange { .. }) => ErrorKind::Internal,
            Self::Fetch(_) => ErrorKind::Unavailable,
            Self::Spent(_)
            | Self::NoSource { .. }
            | Self::Offline { .. }
            | Self::Stopped
            | Self::Discovery(_) => ErrorKind::Unavailable,
            // The manifest is mended: whoever asks again is told right.
            Self::WrongSize { .. } => ErrorKind::Busy,
            Self::WrongContent { .. } | Self::Proof { .. } => ErrorKind::Integrity,
            Self::Parse(_)
            | Self::GitRequest(_)
            | Self::Glob { .. }
            | Self::BadFile { .. }
            | Self::NoBranch { .. }
            | Self::NotHere { .. }
            | Self::NotPinned { .. }
            | Self::NothingMatches { .. } => ErrorKind::BadInput,
            Self::Store(StoreError::ChangedWhileRead { .. }) => ErrorKind::Busy,
            Self::Store(StoreError::NotAFile { .. } | StoreError::Collision { .. }) => ErrorKind::BadInput,
            Self::Store(error) => of_store(error),
            Self::Disk { .. } => ErrorKind::Disk,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// What a person can do: `hint:` on the CLI, `"hint"` in HTTP errors.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Untrusted { said, .. } => {
                let id = said.first().map_or_else(|| "ID".to_owned(), |s| s.by.to_string());
                return Some(format!(
                    "if you trust one of them, give `--accept-from {id}`, or list it in `[names] trusted`"
                ));
            }
            Self::Split { .. } => {
                "a 40-hex commit needs nobody's word; `hubless names` shows who says what and when they saw it"
            }
            Self::Origin(error) => return error.hint().map(Into::into),
            Self::Unchecked { .. } => {
                "it is served again when its origin answers; see `[origin]` and `hubless status`"
            }
            Self::RepoNotFound { .. } => {
                "check the spelling, and with `hubless peers` that somebody is reached"
            }
            Self::RevisionNotFound { .. } => {
                "`hubless list` shows what is here; a 40-hex commit needs nobody's word"
            }
            Self::CommitNotFound { .. } | Self::NoSource { .. } => {
                "whoever holds it may be offline; what was fetched so far is kept, so try again later"
            }
            Self::EntryNotFound { .. } => "paths are told apart by case; list the commit's files to see them",
            Self::NothingMatches { .. } => "globs match whole paths: `*.json`, `onnx/*`",
            Self::Offline { .. } => "start it with `hubless run`",
            Self::NoBranch { .. } => "name a branch, such as `main`",
            Self::NotHere { .. } => "`hubless list` shows what is here",
            Self::NotPinned { .. } => "`hubless list` shows what is pinned",
            Self::Glob { .. } => "quote it, so that the shell leaves it alone: `--include '*.safetensors'`",
            Self::BadFile { hint, .. } => hint,
            Self::Disk { .. } => "check that the path exists, is yours to use, and that the disk is not full",
            Self::Store(error) => return error.hint().map(Into::into),
            Self::Fetch(error) => return error.hint().map(Into::into),
            Self::Spent(spent) => spent.hint(),
            Self::Discovery(error) => return error.hint().map(Into::into),
            Self::Shared(error) => return error.hint(),
            Self::WrongSize { .. } => "ask again",
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// The cap of the month that it is about, if it is.
    pub fn spent(&self) -> Option<Spent> {
        match self {
            Self::Spent(spent)
            | Self::Fetch(FetchError::Spent { spent, .. })
            | Self::Origin(OriginError::Spent { spent, .. }) => Some(*spent),
            Self::Shared(error) => error.spent(),
            _ => None,
        }
    }

    /// Whether nobody who was reached had the file.
    pub(crate) fn is_nowhere(&self) -> bool {
        match self {
            Self::NoSource { .. } | Self::Fetch(FetchError::NoSource { .. }) => true,
            Self::Shared(error) => error.is_nowhere(),
            _ => false,
        }
    }

    /// When asking again makes sense, for [`ErrorKind::Busy`] and [`ErrorKind::Unavailable`].
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotYet { retry_after, .. } => Some(*retry_after),
            Self::Origin(error) => error.retry_after(),
            Self::Shared(error) => error.retry_after(),
            _ => None,
        }
    }
}

const fn of_store(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::DiskFull { .. } => ErrorKind::DiskFull,
        _ => ErrorKind::Disk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_is_left_alone_is_out_of_reach_for_so_long() {
        let (origin, wait) = ("https://hub.test".to_owned(), Duration::from_secs(40));
        let resting =
            MirrorError::Origin(OriginError::Resting { origin: origin.clone(), why: String::new(), wait });
        assert_eq!((resting.kind(), resting.retry_after()), (ErrorKind::Unavailable, Some(wait)));
        let limited = MirrorError::Origin(OriginError::Limited { origin, status: 429, wait });
        assert_eq!((limited.kind(), limited.retry_after()), (ErrorKind::Busy, Some(wait)));
    }
}
