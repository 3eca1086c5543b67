//! Everything that ends a command early: what happened, what to do, and which exit code it is.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use hubless_discovery::DiscoveryError;
use hubless_mirror::{ErrorKind, MirrorError};
use hubless_origin::OriginError;
use hubless_proof::ProofError;
use hubless_store::StoreError;
use hubless_transfer::TransferError;
use hubless_types::{CommitId, RepoPath};

use crate::admin::SocketError;
use crate::config::ConfigError;
use crate::exit::Exit;
use crate::key::KeyError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error("cannot start discovery: {0}")]
    Discovery(#[from] DiscoveryError),
    #[error("cannot start transfer: {0}")]
    Transfer(#[from] TransferError),
    #[error("port {port} is in use: cannot listen on {addr} ({proto}) for {what}", port = addr.port())]
    PortInUse { addr: SocketAddr, proto: &'static str, what: &'static str },
    #[error("cannot listen on {addr} ({proto}) for {what}: {source}")]
    Listen { addr: SocketAddr, proto: &'static str, what: &'static str, source: io::Error },
    #[error("no node runs with the data in `{}`", dir.display())]
    NotRunning { dir: PathBuf },
    #[error("{0}")]
    Admin(String),
    #[error("the node stopped while it was asked: {0}")]
    HungUp(String),
    #[error("{error}")]
    Refused { exit: Exit, kind: String, error: String, hint: Option<String> },
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("{whose} proves nothing")]
    Unproven { whose: String, source: ProofError },
    #[error("this is a proof of `{found}`, not of `{wanted}`")]
    OtherProof { found: String, wanted: String },
    #[error("`{path}` is not in commit {commit}")]
    NotInCommit { path: RepoPath, commit: CommitId },
    #[error("{message}")]
    Unusable { message: String, hint: Option<String> },
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
}

impl NodeError {
    /// What a person can do.
    pub(crate) fn hint(&self) -> Option<String> {
        let fixed = |text: &str| Some(text.to_owned());
        match self {
            Self::Config(e) => e.hint(),
            Self::Key(e) => e.hint(),
            Self::Store(e) => e.hint().map(Into::into),
            Self::Mirror(e) => e.hint(),
            Self::Discovery(e) => e.hint().map(Into::into),
            Self::Transfer(e) => e.hint().map(Into::into),
            Self::PortInUse { what, .. } if what.contains("Hub") => {
                fixed("stop what listens there, or say `--http ADDR:PORT`; port 0 takes a free one")
            }
            Self::PortInUse { .. } => {
                fixed("stop what listens there, or say `--listen ADDR:PORT`; port 0 takes a free one")
            }
            Self::NotRunning { dir } => Some(format!("start it: hubless --data {} run", dir.display())),
            Self::Origin(e) => e.hint().map(Into::into),
            Self::Unproven { source, .. } => source.hint().map(Into::into),
            Self::NotInCommit { .. } => fixed("paths are told apart by case"),
            Self::Refused { hint, .. } | Self::Unusable { hint, .. } => hint.clone(),
            Self::OtherProof { .. } => fixed("leave the name out to see what it proves"),
            Self::HungUp(_) => Some("start the node and ask again; what was verified is kept".into()),
            Self::Socket(_) | Self::Listen { .. } | Self::Admin(_) | Self::Io { .. } => None,
        }
    }

    /// The process's exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Origin(_) | Self::Unusable { .. } => Exit::Usage,
            Self::Key(KeyError::Disk { .. }) | Self::Io { .. } | Self::Socket(_) => Exit::Disk,
            Self::Key(_) => Exit::Usage,
            Self::Store(e) => exit_of_store(e),
            Self::Mirror(e) => exit_of(e.kind()),
            Self::Transfer(TransferError::Listen { .. } | TransferError::ListenBulk { .. })
            | Self::Discovery(DiscoveryError::PortInUse { .. } | DiscoveryError::NoFreePort { .. }) => {
                Exit::Busy
            }
            Self::Discovery(_) | Self::Transfer(_) | Self::Admin(_) => Exit::Internal,
            Self::PortInUse { .. } => Exit::Busy,
            Self::Unproven { .. } | Self::OtherProof { .. } => Exit::Integrity,
            Self::NotInCommit { .. } => Exit::NotFound,
            Self::Listen { .. } => Exit::Usage,
            Self::NotRunning { .. } | Self::HungUp(_) => Exit::Unavailable,
            Self::Refused { exit, .. } => *exit,
        }
    }

    /// The error and everything that caused it, in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let said = error.to_string();
            // Some errors already repeat their cause.
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        text
    }

    /// The stable word for machines.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Refused { kind, .. } => kind.clone(),
            Self::Mirror(e) => e.kind().to_string(),
            _ => self.exit().kind().to_owned(),
        }
    }
}

fn exit_of(kind: ErrorKind) -> Exit {
    Exit::of_kind(kind.as_str())
}

fn exit_of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Locked { .. } | StoreError::Held { .. } => Exit::Busy,
        StoreError::OtherNode { .. } | StoreError::NewerVersion { .. } | StoreError::NotAFile { .. } => {
            Exit::Usage
        }
        StoreError::Mismatch { .. } => Exit::Integrity,
        _ => Exit::Disk,
    }
}
