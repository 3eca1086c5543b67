//! An origin that speaks git and LFS over HTTP.

mod upload_pack;

use async_trait::async_trait;
use bytes::Bytes;
use hubless_proof::Bundle;
use hubless_types::{ByteRange, CommitId, FileEntry, RepoId, Revision, Token};

pub(crate) use upload_pack::{ABOVE_POINTERS, UploadPack};

use crate::{Breaker, Origin, OriginBody, OriginConfig, OriginError, OriginStatus, Seen, SeenRef};

/// An origin that speaks git and LFS over HTTP.
#[derive(Debug)]
pub struct GitOrigin {
    name: String,
}

impl GitOrigin {
    /// The origin at `config.url`. Asks nothing of it yet.
    ///
    /// # Errors
    /// As [`build`](crate::build).
    pub fn new(config: &OriginConfig) -> Result<Self, OriginError> {
        Ok(Self { name: config.name() })
    }

    fn cannot<T>(&self, what: &'static str) -> Result<T, OriginError> {
        Err(OriginError::Unsupported { origin: self.name.clone(), what })
    }
}

#[async_trait]
impl Origin for GitOrigin {
    fn name(&self) -> &str {
        &self.name
    }

    fn status(&self) -> OriginStatus {
        OriginStatus {
            name: self.name.clone(),
            breaker: Breaker::Closed,
            wait: None,
            budget: None,
            requests: 0,
            failures: 0,
            bytes: 0,
            last_error: None,
        }
    }

    async fn resolve(&self, _: &RepoId, _: &Revision, _: Option<&Token>) -> Result<Seen, OriginError> {
        self.cannot("resolve yet")
    }

    async fn refs(&self, _: &RepoId, _: Option<&Token>) -> Result<Vec<SeenRef>, OriginError> {
        self.cannot("list refs yet")
    }

    async fn bundle(&self, _: &RepoId, _: CommitId, _: Option<&Token>) -> Result<Bundle, OriginError> {
        self.cannot("give objects yet")
    }

    async fn open(
        &self,
        _: &RepoId,
        _: CommitId,
        _: &FileEntry,
        _: ByteRange,
        _: Option<&Token>,
    ) -> Result<OriginBody, OriginError> {
        self.cannot("give bytes yet")
    }

    async fn may_read(&self, _: &RepoId, _: Option<&Token>) -> Result<(), OriginError> {
        self.cannot("tell who may read yet")
    }

    async fn whoami(&self, _: &Token) -> Result<Bytes, OriginError> {
        self.cannot("tell who holds a token yet")
    }
}
