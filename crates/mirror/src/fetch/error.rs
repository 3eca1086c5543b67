//! Why a fetch ended without its bytes. Cheap to clone: many wait for one fetch.

use std::sync::Arc;
use std::time::Duration;

use hubless_limits::Spent;
use hubless_store::StoreError;
use hubless_types::BlobHash;

/// Why a fetch ended without its bytes.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// No provider has what is missing.
    #[error("no reachable peer has the rest of {hash}; looked for {patience:?}")]
    NoSource {
        /// What was wanted.
        hash: BlobHash,
        /// How long none was there.
        patience: Duration,
    },
    /// The store cannot write or read.
    #[error("cannot store {hash}")]
    Disk {
        /// What was being written.
        hash: BlobHash,
        /// The store's own words.
        #[source]
        source: Arc<StoreError>,
    },
    /// A range past the end of the file was asked for.
    #[error("{hash} has {size} bytes; {end} were asked for")]
    OutOfRange {
        /// The file.
        hash: BlobHash,
        /// Its length in bytes.
        size: u64,
        /// One past the last byte asked for.
        end: u64,
    },
    /// This node's bytes of the month are used up.
    #[error("the rest of {hash} is not fetched: {spent}")]
    Spent {
        /// What was wanted.
        hash: BlobHash,
        /// Which cap.
        spent: Spent,
    },
    /// As many fetches run as may.
    #[error("{limit} fetches run at once, and no more are taken")]
    TooMany {
        /// How many may run.
        limit: usize,
    },
    /// The fetcher was shut down.
    #[error("the fetch of {hash} was stopped")]
    Stopped {
        /// What was being fetched.
        hash: BlobHash,
    },
}

impl FetchError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSource { .. } => {
                Some("check that a node which holds it runs and can be reached: `hubless peers`")
            }
            Self::Disk { .. } => {
                Some("see that the data folder can be written and has room; what is verified is kept")
            }
            Self::Spent { spent, .. } => Some(spent.hint()),
            Self::TooMany { .. } => Some("try again when some have ended"),
            Self::OutOfRange { .. } | Self::Stopped { .. } => None,
        }
    }
}
