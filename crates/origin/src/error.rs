//! Why an origin did not give what it was asked for.

use std::time::Duration;

use hubless_limits::Spent;
use hubless_proof::ProofError;

/// Longest piece of an origin's own words that is kept, in characters.
pub const MAX_SAID_CHARS: usize = 300;

/// Who must act, and whether it helps to ask elsewhere or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OriginErrorKind {
    /// It has no such repository, or hides it.
    RepoNotFound,
    /// The repository has no such revision.
    RevisionNotFound,
    /// The commit has no such file.
    EntryNotFound,
    /// The content needs a token that may read it.
    Gated,
    /// The repository was switched off.
    Disabled,
    /// The token is not one.
    BadToken,
    /// Later it may answer.
    Busy,
    /// It does not answer, or not in a way that can be used.
    Unavailable,
    /// What it sent is not what was asked for.
    Wrong,
}

/// Why an origin did not give what it was asked for. Never holds a token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OriginError {
    /// It answered with a refusal that says what it means.
    #[error("{origin} answered {status}: {said}")]
    Refused {
        /// Its address.
        origin: String,
        /// The HTTP status.
        status: u16,
        /// What follows from it.
        kind: OriginErrorKind,
        /// Its own words, cut.
        said: String,
    },
    /// It asks for patience.
    #[error("{origin} answered {status}: it takes no more requests for {} s", wait.as_secs())]
    Limited {
        /// Its address.
        origin: String,
        /// The HTTP status.
        status: u16,
        /// How long.
        wait: Duration,
    },
    /// It failed too often and is left alone.
    #[error("{origin} failed too often ({why}) and is not asked for {} s", wait.as_secs())]
    Resting {
        /// Its address.
        origin: String,
        /// How it failed last, in a few words of this node's own.
        why: String,
        /// How long.
        wait: Duration,
    },
    /// This node's bytes of the month are used up.
    #[error("{origin} is not asked: {spent}")]
    Spent {
        /// Its address.
        origin: String,
        /// Which cap.
        spent: Spent,
    },
    /// No connection, or it broke.
    #[error("{origin} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        origin: String,
        /// Why.
        why: String,
    },
    /// It sent nothing for too long.
    #[error("{origin} sent nothing for {} s", after.as_secs())]
    Stalled {
        /// Its address.
        origin: String,
        /// How long.
        after: Duration,
    },
    /// It redirects where this node does not follow.
    #[error("{origin} redirects {why}")]
    Redirect {
        /// Its address.
        origin: String,
        /// Where, without the query, and why it is not followed.
        why: String,
    },
    /// It sent fewer or more bytes than it should have.
    #[error("{origin} sent {got} bytes of {expected}")]
    Length {
        /// Its address.
        origin: String,
        /// What came.
        got: u64,
        /// What should have come.
        expected: u64,
    },
    /// It sent what makes no sense, or more than is taken.
    #[error("{origin} sent {what} that makes no sense: {why}")]
    Malformed {
        /// Its address.
        origin: String,
        /// What it was to be.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Git objects that are none.
    #[error("{origin} sent git objects that prove nothing")]
    Proof {
        /// Its address.
        origin: String,
        /// What is wrong with them.
        #[source]
        source: ProofError,
    },
    /// A configured address that is none.
    #[error("the address of an origin cannot be used: {why}")]
    BadUrl {
        /// What is wrong with it; not the address itself, which may hold a password.
        why: String,
    },
    /// This machine lacks what it takes to ask it.
    #[error("{origin} cannot be asked from this machine: {why}")]
    Unusable {
        /// Its address.
        origin: String,
        /// What is lacking.
        why: String,
    },
    /// It cannot do that.
    #[error("{origin} cannot {what}")]
    Unsupported {
        /// Its address.
        origin: String,
        /// What was asked of it.
        what: &'static str,
    },
}

impl OriginError {
    /// What follows from it.
    pub const fn kind(&self) -> OriginErrorKind {
        match self {
            Self::Refused { kind, .. } => *kind,
            Self::Limited { .. } | Self::Resting { .. } => OriginErrorKind::Busy,
            Self::Spent { .. }
            | Self::Unreachable { .. }
            | Self::Stalled { .. }
            | Self::Redirect { .. }
            | Self::BadUrl { .. }
            | Self::Unusable { .. }
            | Self::Unsupported { .. } => OriginErrorKind::Unavailable,
            Self::Length { .. } | Self::Malformed { .. } | Self::Proof { .. } => OriginErrorKind::Wrong,
        }
    }

    /// The HTTP status, where it answered with one.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Limited { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// When it makes sense to ask again, where that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited { wait, .. } | Self::Resting { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    /// What a person can do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BadUrl { .. } => {
                return Some("in `[origin] urls`, write an address such as `https://huggingface.co`");
            }
            Self::Spent { spent, .. } => return Some(spent.hint()),
            Self::Unusable { .. } => return Some("install the package `ca-certificates`"),
            _ => {}
        }
        match self.kind() {
            OriginErrorKind::Gated => {
                Some("accept the terms on the repository's own page, and send a token that may read it")
            }
            OriginErrorKind::BadToken => Some("make a new token, or send none"),
            OriginErrorKind::Busy => Some("wait; what peers hold is still served"),
            OriginErrorKind::Unavailable => {
                Some("check `[origin]` in the config and the network; what peers hold is still served")
            }
            OriginErrorKind::Wrong => Some("nothing of it was kept; other sources are tried"),
            _ => None,
        }
    }
}
