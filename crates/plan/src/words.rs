//! What a plan is told, and what it asks for.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hubless_types::{BlobHash, GroupSet, NodeId};

/// Who sends bytes. Ordered so that of two that are as good a peer comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Another node.
    Peer(NodeId),
    /// An upstream, by its place in the configured order.
    Origin(u8),
}

impl Source {
    /// Whether it is an upstream.
    pub const fn is_origin(self) -> bool {
        matches!(self, Self::Origin(_))
    }

    /// The node, if it is one.
    pub const fn node(self) -> Option<NodeId> {
        match self {
            Self::Peer(node) => Some(node),
            Self::Origin(_) => None,
        }
    }
}

impl From<NodeId> for Source {
    fn from(node: NodeId) -> Self {
        Self::Peer(node)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(node) => f.write_str(&node.short()),
            Self::Origin(_) => f.write_str("origin"),
        }
    }
}

/// One request to one holder; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One reader of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file is to be fetched.
    FileAdded {
        /// Its root.
        file: BlobHash,
        /// Its length in bytes.
        size: u64,
        /// What is here already.
        held: GroupSet,
        /// What of it is wanted; what is held may be among it.
        wanted: GroupSet,
    },
    /// Nobody wants the file any more.
    FileRemoved {
        /// Its root.
        file: BlobHash,
    },
    /// A node became known that may hold something.
    HolderFound {
        /// Who.
        holder: Source,
        /// Whether it is on the local network.
        lan: bool,
    },
    /// All that a holder now has of a file; replaces what it said before.
    HolderHas {
        /// Who.
        holder: Source,
        /// The file's root.
        file: BlobHash,
        /// The groups that can be asked of it.
        groups: Arc<GroupSet>,
    },
    /// All that a holder has given of a file to others that are still there, or is giving now; replaces what it
    /// said before. It need not say.
    HolderGave {
        /// Who.
        holder: Source,
        /// The file's root.
        file: BlobHash,
        /// The groups that it gave.
        groups: Arc<GroupSet>,
    },
    /// A holder is no longer to be asked.
    HolderGone {
        /// Who.
        holder: Source,
    },
    /// The first bytes of a request came.
    SegmentStarted {
        /// Which request.
        request: RequestId,
        /// How long after it was sent.
        after: Duration,
    },
    /// More bytes of a request were verified and written.
    SegmentProgress {
        /// Which request.
        request: RequestId,
        /// File bytes verified since the request began, in order from its first group.
        bytes: u64,
    },
    /// Bytes of a request came, and it is this node's own cap that holds the next ones back: its holder is not silent.
    SegmentHeld {
        /// Which request.
        request: RequestId,
    },
    /// All holders together may send so many bytes a second from now on, by this node's own cap.
    Capped {
        /// Bytes a second; `None` without a cap.
        rate: Option<u64>,
    },
    /// From now on bytes from origins cost something, or no longer do.
    Metered {
        /// Whether they do.
        origins: bool,
    },
    /// Every group of a request is verified and written.
    SegmentDone {
        /// Which request.
        request: RequestId,
    },
    /// A request ended early.
    SegmentFailed {
        /// Which request.
        request: RequestId,
        /// Why.
        kind: Failure,
    },
    /// These groups are here, whoever brought them.
    Verified {
        /// The file's root.
        file: BlobHash,
        /// Which groups.
        groups: GroupSet,
    },
    /// A reader is at a place in a file, or moved there.
    ReaderAt {
        /// Which reader.
        reader: ReaderId,
        /// The file's root.
        file: BlobHash,
        /// The byte it reads next.
        offset: u64,
        /// One past the last byte it will read.
        end: u64,
    },
    /// A reader left.
    ReaderGone {
        /// Which reader.
        reader: ReaderId,
    },
    /// Time went by. Wanted every [`TICK`](super::TICK) while any file is fetched.
    Tick,
}

/// Why a request ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The holder went silent.
    Stalled,
    /// The holder sent a wrong byte.
    Wrong,
    /// The holder will not send now.
    Refused,
    /// The connection was lost, or never came about.
    Lost,
    /// The holder does not have what it said it had.
    NotHeld,
}

impl Failure {
    /// Whether it is an answer, of somebody who is there.
    pub(super) const fn is_polite(self) -> bool {
        matches!(self, Self::Refused | Self::NotHeld)
    }
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask `holder` for `groups` of `file`.
    Request {
        /// Name of the request in what follows.
        request: RequestId,
        /// Whom to ask.
        holder: Source,
        /// The file's root.
        file: BlobHash,
        /// Which groups, never empty.
        groups: Range<u64>,
        /// Whether a reader waits for it: it must not queue behind what else was asked of the holder.
        urgent: bool,
    },
    /// Give up a request; nothing more is to be told of it.
    Cancel {
        /// Which request.
        request: RequestId,
    },
    /// Have nothing more to do with a holder.
    DropHolder {
        /// Who.
        holder: Source,
        /// Why.
        why: Dropped,
    },
    /// Everything wanted of a file is here. The file stays in the plan until it is removed.
    FileDone {
        /// Its root.
        file: BlobHash,
    },
    /// For as long as the plan's patience, no usable holder had anything that is missing. Told once, and again
    /// only after a holder came and went.
    Starved {
        /// The file's root.
        file: BlobHash,
    },
}

/// Why a holder is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// It sent a wrong byte; it is never taken back. Never said of an origin.
    Lied,
    /// There are as many holders as a plan keeps, and others are of more use.
    NoRoom,
}
