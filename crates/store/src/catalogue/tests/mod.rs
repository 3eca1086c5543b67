//! Stories of the catalogue, and random operations held against plain maps.

mod dht;
mod model;
mod stories;

use std::sync::Arc;

use hubless_types::{
    BlobHash, BlobId, CommitId, FileDigest, NodeId, PublicSignature, RepoId, Revision, Sha256, Statement,
    StatementBody, Timestamp,
};
use tempfile::TempDir;

use super::Catalogue;
use super::dht::DhtLimits;

/// A catalogue in a folder that goes with it.
pub(crate) struct Fixture {
    pub(crate) catalogue: Catalogue,
    dir: TempDir,
}

pub(super) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(dir.path(), node(0), super::FORMAT, None).unwrap();
    Fixture { catalogue, dir }
}

impl Fixture {
    fn with_dht_limits(mut self, limits: DhtLimits) -> Self {
        Arc::get_mut(&mut self.catalogue.inner).unwrap().dht_limits = limits;
        self
    }

    fn with_statement_limit(mut self, limit: u64) -> Self {
        Arc::get_mut(&mut self.catalogue.inner).unwrap().statement_limit = limit;
        self
    }

    /// Closes and opens it again.
    pub(crate) fn reopened(self) -> Self {
        let Self { catalogue, dir } = self;
        drop(catalogue);
        let catalogue = Catalogue::open(dir.path(), node(0), super::FORMAT, None).unwrap();
        Self { catalogue, dir }
    }
}

pub(super) fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

/// A statement whose signature nobody checks.
pub(super) fn statement(signer: NodeId, repo: &RepoId, name: &str, seen: u64) -> Statement {
    let body = StatementBody {
        repo: repo.clone(),
        revision: revision(name),
        commit: commit(1),
        origin: None,
        seen: Timestamp(seen),
        links: None,
    };
    Statement { body, signer, signature: PublicSignature([9; 64]) }
}

pub(super) fn hash(n: u8) -> BlobHash {
    BlobHash::from_bytes([n; 32])
}

fn commit(n: u8) -> CommitId {
    CommitId::from_bytes([n; 20])
}

fn digest(n: u8) -> FileDigest {
    if n.is_multiple_of(2) {
        FileDigest::Sha256(Sha256::from_bytes([n; 32]))
    } else {
        FileDigest::Git(BlobId::from_bytes([n; 20]))
    }
}

fn repo(name: &str) -> RepoId {
    name.parse().unwrap()
}

fn revision(name: &str) -> Revision {
    name.parse().unwrap()
}
