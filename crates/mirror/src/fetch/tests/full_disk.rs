//! A disk that fills up in the middle of a fetch.

use super::*;

/// Passes everything on, until this node's disk is full.
struct FullDisk {
    net: Arc<dyn PeerClient>,
    segments_left: AtomicU64,
}

#[async_trait::async_trait]
impl PeerClient for FullDisk {
    async fn manifest(&self, peer: &Provider, commit: CommitId) -> Result<ManifestReply, TransferError> {
        self.net.manifest(peer, commit).await
    }

    async fn statements(
        &self,
        peer: &Provider,
        repo: &RepoId,
        revision: Option<&Revision>,
    ) -> Result<Vec<Statement>, TransferError> {
        self.net.statements(peer, repo, revision).await
    }

    async fn links(&self, peer: &Provider, digests: &[FileDigest]) -> Result<Vec<Link>, TransferError> {
        self.net.links(peer, digests).await
    }

    async fn small_files(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, Bytes)>, TransferError> {
        self.net.small_files(peer, digests).await
    }

    async fn holdings(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Holding, TransferError>>, TransferError> {
        self.net.holdings(peer, wanted).await
    }

    async fn crowd(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Gathering, TransferError>>, TransferError> {
        self.net.crowd(peer, wanted).await
    }

    async fn segment(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), TransferError> {
        let left = self.segments_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_err() {
            return Err(TransferError::Disk(StoreError::DiskFull { path: "/full".into() }));
        }
        self.net.segment(peer, groups, into, tick).await
    }

    async fn tree(&self, peer: &Provider, into: &PartialBlob) -> Result<(), TransferError> {
        self.net.tree(peer, into).await
    }

    async fn drafts(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, DraftNews)>, TransferError> {
        self.net.drafts(peer, digests).await
    }

    async fn part(
        &self,
        peer: &Provider,
        digest: FileDigest,
        groups: Range<u64>,
        into: &Draft,
        tick: Tick,
    ) -> Result<(), TransferError> {
        self.net.part(peer, digest, groups, into, tick).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_ends_the_fetch_at_once_and_keeps_what_is_verified() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let bytes = random_bytes(16 * MIB);
    let file = seed.add(&bytes)?;
    net.set_faults(seed.id, rate(2 * MIB));
    let full = Arc::new(FullDisk { net: me.client.clone(), segments_left: AtomicU64::new(3) });
    let fetcher = Fetcher::new(me.store.clone(), full, config(2));
    let handle = fetcher.fetch(want(&file), stream::iter([seed.provider()]).boxed()).await?;
    let error = timeout(LIMIT, handle.wait_done()).await?.unwrap_err();
    let FetchError::Disk { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, StoreError::DiskFull { .. }));
    assert_eq!(fetcher.running(), 0);
    fetcher.shutdown().await;

    // With room again, only the rest is fetched.
    let held = me.store.blobs().partial(file.hash, file.size)?.have().bytes(file.size);
    assert!(held > 0);
    let before = net.sent_by(seed.id);
    drop(me.fetch_whole(&file, &[&seed]).await?);
    assert!(net.sent_by(seed.id) - before < file.size - held + MIB / 2);
    assert_eq!(me.read(&file)?, bytes);
    Ok(())
}
