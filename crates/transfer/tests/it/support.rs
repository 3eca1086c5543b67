//! Nodes for tests: a store in a folder that goes away, and a transfer on a free loopback port.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use hubless_store::{BlobStatus, DigestKind, Imported, PartialBlob, Store};
use hubless_transfer::{PeerClient, Tick, Transfer, TransferConfig, TransferError};
use hubless_types::{ByteRange, GROUP_BYTES, ManualClock, NodeId, Provider, ProviderSource, Timestamp};
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

pub(crate) const MIB: usize = 1024 * 1024;

pub(crate) fn node_id(seed: u8) -> NodeId {
    NodeId::from_bytes(*iroh::SecretKey::from_bytes(&[seed; 32]).public().as_bytes())
}

pub(crate) fn random_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rand::rngs::StdRng::seed_from_u64(len as u64).fill_bytes(&mut bytes);
    bytes
}

pub(crate) fn groups_of(size: u64) -> Range<u64> {
    0..size.div_ceil(GROUP_BYTES)
}

pub(crate) fn no_tick() -> Tick {
    Arc::new(|_| ())
}

/// Counts bytes.
pub(crate) fn counting() -> (Tick, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let tick = move |bytes| {
        counted.fetch_add(bytes, Ordering::Relaxed);
    };
    (Arc::new(tick), count)
}

/// A store and nothing else.
pub(crate) struct Disk {
    pub(crate) store: Store,
    pub(crate) dir: TempDir,
}

impl Disk {
    pub(crate) fn new(seed: u8) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000)));
        Ok(Self { store: Store::open(dir.path(), node_id(seed), clock)?, dir })
    }

    /// Takes bytes in, for others to have.
    pub(crate) fn add(&self, bytes: &[u8]) -> Result<Imported> {
        let taken = self.store.blobs().import_bytes(bytes, DigestKind::Sha256)?;
        self.store.blobs().share(&taken.hash)?;
        Ok(taken)
    }

    /// A blob that is about to be fetched, for others to have as it comes.
    pub(crate) fn partial(&self, of: &Imported) -> Result<PartialBlob> {
        let blob = self.store.blobs().partial(of.hash, of.size)?;
        blob.share_if_empty()?;
        Ok(blob)
    }

    /// All bytes of a blob that is whole here.
    pub(crate) fn read(&self, of: &Imported) -> Result<Vec<u8>> {
        let file = self.store.blobs().open(&of.hash)?.context("it is here")?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < of.size {
            bytes.extend_from_slice(&file.read(ByteRange::new(bytes.len() as u64, of.size))?);
        }
        Ok(bytes)
    }

    pub(crate) fn is_whole(&self, of: &Imported) -> Result<bool> {
        Ok(matches!(self.store.blobs().status(&of.hash)?, BlobStatus::Complete { .. }))
    }
}

/// A node on loopback.
pub(crate) struct Node {
    pub(crate) disk: Disk,
    pub(crate) transfer: Transfer,
    pub(crate) client: Arc<dyn PeerClient>,
    pub(crate) seed: u8,
}

impl Node {
    pub(crate) async fn start(seed: u8) -> Result<Self> {
        Self::start_with(seed, |_| ()).await
    }

    pub(crate) async fn start_with(seed: u8, change: impl FnOnce(&mut TransferConfig)) -> Result<Self> {
        let disk = Disk::new(seed)?;
        let mut config = TransferConfig::new([seed; 32], vec!["127.0.0.1:0".parse()?]);
        change(&mut config);
        let transfer = Transfer::start(config, disk.store.clone()).await?;
        Ok(Self { client: transfer.client(), disk, transfer, seed })
    }

    pub(crate) fn id(&self) -> NodeId {
        node_id(self.seed)
    }

    pub(crate) fn provider(&self) -> Provider {
        Provider { node: self.id(), addrs: self.transfer.listen_addrs(), source: ProviderSource::Lan }
    }

    pub(crate) async fn fetch(
        &self,
        from: &Provider,
        what: &Imported,
        groups: Range<u64>,
    ) -> Result<PartialBlob, TransferError> {
        let blob = self.disk.store.blobs().partial(what.hash, what.size)?;
        blob.share_if_empty()?;
        self.client.segment(from, groups, &blob, no_tick()).await?;
        Ok(blob)
    }
}
