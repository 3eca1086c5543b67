//! Why the gateway itself fails (not what it answers: [`crate::answer`]).

use std::io;
use std::path::PathBuf;

/// What keeps a server from serving.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The listener failed.
    #[error("the listener cannot be used")]
    Listener(#[source] io::Error),
    /// The admin socket could not be made.
    #[error("cannot make the admin socket `{}`", path.display())]
    Socket {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl GatewayError {
    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Listener(_) => None,
            Self::Socket { .. } => {
                Some("the data folder must be writable and its path shorter than 100 bytes")
            }
        }
    }
}
