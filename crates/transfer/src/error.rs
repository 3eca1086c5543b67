//! What can go wrong between two nodes, sorted by who has to act.

use std::net::SocketAddr;
use std::time::Duration;

use hubless_limits::Spent;
use hubless_store::StoreError;
use hubless_types::NodeId;

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// No connection came about, or it was lost.
    #[error("{} cannot be reached: {why}", node.short())]
    Unreachable {
        /// Who was dialled.
        node: NodeId,
        /// What the network said.
        why: String,
    },
    /// One of the two nodes does not talk with the other: a closed swarm.
    #[error("{} and this node are not in one closed swarm", node.short())]
    Refused {
        /// Who refused, or was refused.
        node: NodeId,
    },
    /// It has no slot free now.
    #[error("{} is busy", node.short())]
    Busy {
        /// Who is busy.
        node: NodeId,
    },
    /// This node has as many connections in use as it may.
    #[error("all {limit} connections are in use")]
    TooManyConnections {
        /// The bound, `max_connections`.
        limit: usize,
    },
    /// It does not hold what was asked for.
    #[error("{} does not hold what was asked for", node.short())]
    NotHeld {
        /// Who was asked.
        node: NodeId,
    },
    /// It accepted and then sent nothing.
    #[error("{} sent nothing for {} s", node.short(), after.as_secs())]
    Stalled {
        /// Who went silent.
        node: NodeId,
        /// For how long.
        after: Duration,
    },
    /// What it sent is not in the tree that was asked for. Nothing of it was kept.
    #[error("{} sent wrong bytes at byte {offset}", node.short())]
    WrongBytes {
        /// Who sent them.
        node: NodeId,
        /// The first byte of the group that failed, in the file.
        offset: u64,
    },
    /// It believes the file to be of another size. One of the two is wrong, and nobody knows yet who.
    #[error("{} says that the file has {said} bytes; {expected} were expected", node.short())]
    WrongSize {
        /// Who says so.
        node: NodeId,
        /// Bytes by its word.
        said: u64,
        /// Bytes by whoever told the link.
        expected: u64,
    },
    /// It does not keep to the protocol.
    #[error("{} does not keep to the protocol: {what}", node.short())]
    Protocol {
        /// Who.
        node: NodeId,
        /// What was wrong.
        what: String,
    },
    /// More was asked for than one request may.
    #[error("one request may name at most {limit} {what}")]
    AsksTooMuch {
        /// What there was too much of.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A socket could not be bound.
    #[error("cannot listen on {addr} (UDP): {why}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// This node's bytes of the month are used up.
    #[error(transparent)]
    Spent(#[from] Spent),
    /// The TCP port for bulk lines could not be bound.
    #[error("cannot listen on {addr} (TCP, bulk): {why}")]
    ListenBulk {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// This node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// This node's own disk or database failed.
    #[error("the store failed")]
    Disk(#[from] StoreError),
}

impl TransferError {
    /// Whether the peer did what no honest, healthy node does. Such a peer is scored down; after any other
    /// error it may be asked again.
    pub const fn blames_peer(&self) -> bool {
        matches!(self, Self::Stalled { .. } | Self::WrongBytes { .. } | Self::Protocol { .. })
    }

    /// The peer that the error is about.
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Unreachable { node, .. }
            | Self::Refused { node }
            | Self::Busy { node }
            | Self::NotHeld { node }
            | Self::Stalled { node, .. }
            | Self::WrongBytes { node, .. }
            | Self::WrongSize { node, .. }
            | Self::Protocol { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("check that its UDP port is open, with the same number as its TCP port")
            }
            Self::Refused { .. } => Some("both nodes must list each other where a swarm is closed"),
            Self::TooManyConnections { .. } => Some("raise `max_connections` in `[limits]`"),
            Self::Spent(spent) => Some(spent.hint()),
            Self::Listen { .. } => Some("choose another `--listen` port, or stop the program that uses it"),
            Self::ListenBulk { .. } => {
                Some("choose another `transfer.bulk_port`, or 0 for any, or stop the program that uses it")
            }
            _ => None,
        }
    }
}
