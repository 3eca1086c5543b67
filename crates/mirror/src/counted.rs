//! Counts the bytes that each peer sent since the start.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use hubless_store::{Draft, DraftNews, PartialBlob};
use hubless_transfer::{Gathering, HeldRepos, Holding, ManifestReply, PeerClient, Tick, TransferError};
use hubless_types::{BlobHash, CommitId, FileDigest, Link, NodeId, Provider, RepoId, Revision, Statement};

use crate::util::locked;

/// Peers that are counted apart; what further ones send is not counted.
const MAX_COUNTED: usize = 4096;

/// A [`PeerClient`] that counts what peers send of files and manifests.
pub(crate) struct Counted {
    peers: Arc<dyn PeerClient>,
    bytes: Mutex<HashMap<NodeId, Arc<AtomicU64>>>,
}

impl Counted {
    pub(crate) fn new(peers: Arc<dyn PeerClient>) -> Self {
        Self { peers, bytes: Mutex::default() }
    }

    /// Bytes of files and manifests that `node` sent.
    pub(crate) fn bytes_from(&self, node: &NodeId) -> u64 {
        locked(&self.bytes).get(node).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count(&self, node: NodeId) -> Arc<AtomicU64> {
        let mut bytes = locked(&self.bytes);
        if bytes.len() >= MAX_COUNTED && !bytes.contains_key(&node) {
            return Arc::default();
        }
        bytes.entry(node).or_default().clone()
    }

    /// As `tick`, counting what `node` sends.
    fn counting(&self, node: NodeId, tick: Tick) -> Tick {
        let count = self.count(node);
        Arc::new(move |bytes| {
            count.fetch_add(bytes, Ordering::Relaxed);
            tick(bytes);
        })
    }
}

#[async_trait]
impl PeerClient for Counted {
    async fn manifest(&self, peer: &Provider, commit: CommitId) -> Result<ManifestReply, TransferError> {
        let reply = self.peers.manifest(peer, commit).await?;
        let bytes = reply.bundle.len() + reply.links.as_ref().map_or(0, Vec::len);
        self.count(peer.node).fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(reply)
    }

    async fn statements(
        &self,
        peer: &Provider,
        repo: &RepoId,
        revision: Option<&Revision>,
    ) -> Result<Vec<Statement>, TransferError> {
        self.peers.statements(peer, repo, revision).await
    }

    async fn repos(&self, peer: &Provider, after: Option<CommitId>) -> Result<HeldRepos, TransferError> {
        self.peers.repos(peer, after).await
    }

    async fn links(&self, peer: &Provider, digests: &[FileDigest]) -> Result<Vec<Link>, TransferError> {
        self.peers.links(peer, digests).await
    }

    async fn small_files(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, Bytes)>, TransferError> {
        let files = self.peers.small_files(peer, digests).await?;
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        self.count(peer.node).fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(files)
    }

    async fn holdings(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Holding, TransferError>>, TransferError> {
        self.peers.holdings(peer, wanted).await
    }

    async fn crowd(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Gathering, TransferError>>, TransferError> {
        self.peers.crowd(peer, wanted).await
    }

    async fn segment(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), TransferError> {
        self.peers.segment(peer, groups, into, self.counting(peer.node, tick)).await
    }

    async fn segment_now(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), TransferError> {
        self.peers.segment_now(peer, groups, into, self.counting(peer.node, tick)).await
    }

    async fn tree(&self, peer: &Provider, into: &PartialBlob) -> Result<(), TransferError> {
        self.peers.tree(peer, into).await
    }

    async fn drafts(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, DraftNews)>, TransferError> {
        self.peers.drafts(peer, digests).await
    }

    async fn part(
        &self,
        peer: &Provider,
        digest: FileDigest,
        groups: Range<u64>,
        into: &Draft,
        tick: Tick,
    ) -> Result<(), TransferError> {
        self.peers.part(peer, digest, groups, into, self.counting(peer.node, tick)).await
    }
}
