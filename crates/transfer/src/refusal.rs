//! Why a request is not answered, as the code that resets its stream.
//!
//! The first three are iroh-blobs' own, so that its clients understand them.

use hubless_store::StoreError;
use hubless_types::NodeId;

use crate::TransferError;

/// Why a request is not answered, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The asker may not.
    Refused,
    /// No slot is free, or the month's bytes are used up.
    Busy,
    /// This node's disk or database failed, or a file changed underneath.
    Failed,
    /// What was asked for is not held.
    NotHeld,
    /// The request cannot be read, or asks for what is not served.
    BadRequest,
    /// The node is stopping.
    Stopping,
}

impl Refusal {
    /// The code on the wire.
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::Refused => 1,
            Self::Busy => 2,
            Self::Failed => 3,
            Self::NotHeld => 4,
            Self::BadRequest => 5,
            Self::Stopping => 6,
        }
    }

    /// What a code from the wire means for whoever asked `node`.
    ///
    /// iroh-blobs answers 3 for a blob that it does not have; of ours, too, 3 says that it cannot be had there.
    pub(crate) fn error(code: u64, node: NodeId) -> TransferError {
        match code {
            1 => TransferError::Refused { node },
            2 => TransferError::Busy { node },
            3 | 4 => TransferError::NotHeld { node },
            5 => TransferError::Protocol { node, what: "it does not understand what it was asked".into() },
            0 | 6 => TransferError::Unreachable { node, why: "it ended the connection".into() },
            other => TransferError::Protocol { node, what: format!("it refused with unknown code {other}") },
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotHere { .. } => Self::NotHeld,
            error => {
                tracing::warn!(%error, "a peer's request failed here");
                Self::Failed
            }
        }
    }
}
