//! The memory twin keeps its promises: the same answers as over the network, and the faults that were asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use hubless_store::Imported;
use hubless_transfer::{Delivered, Faults, MemoryNet, PeerClient, STALL_TIMEOUT, TransferError};
use hubless_types::{GROUP_BYTES, GroupSet, NodeId, Provider, ProviderSource};

use crate::support::{Disk, MIB, counting, groups_of, no_tick, node_id, random_bytes};

type Flat = Result<()>;

struct Pair {
    net: MemoryNet,
    holder: Disk,
    asker: Disk,
    client: Arc<dyn PeerClient>,
    file: Imported,
    content: Vec<u8>,
}

const HOLDER: u8 = 90;
const ASKER: u8 = 91;

impl Pair {
    fn new() -> Result<Self> {
        let (net, holder, asker) = (MemoryNet::new(), Disk::new(HOLDER)?, Disk::new(ASKER)?);
        net.join(node_id(HOLDER), holder.store.clone());
        let client = net.join(node_id(ASKER), asker.store.clone());
        let content = random_bytes(MIB + 5);
        let file = holder.add(&content)?;
        Ok(Self { net, holder, asker, client, file, content })
    }

    fn peer(&self) -> Provider {
        Provider { node: node_id(HOLDER), addrs: Vec::new(), source: ProviderSource::Dht }
    }

    fn set(&self, faults: Faults) {
        self.net.set_faults(node_id(HOLDER), faults);
    }

    /// Fetches all; an error comes with what arrived before it.
    async fn fetch(&self) -> Result<GroupSet, (TransferError, GroupSet)> {
        let blob = self.asker.store.blobs().partial(self.file.hash, self.file.size);
        let blob = blob.map_err(|error| (error.into(), GroupSet::new()))?;
        let fetched = self.client.segment(&self.peer(), groups_of(self.file.size), &blob, no_tick()).await;
        fetched.map(|()| blob.have()).map_err(|error| (error, blob.have()))
    }
}

#[tokio::test]
async fn a_blob_arrives_and_is_recorded() -> Flat {
    let pair = Pair::new()?;
    let blob = pair.asker.partial(&pair.file)?;
    let (tick, told) = counting();
    pair.client.segment(&pair.peer(), groups_of(pair.file.size), &blob, tick).await?;
    assert_eq!(pair.asker.read(&pair.file)?, pair.content);
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), pair.file.size);
    let sent = pair.net.sent(node_id(HOLDER), node_id(ASKER));
    assert!(sent > pair.file.size && sent < pair.file.size + 10_000, "{sent}");
    assert_eq!(pair.net.sent_by(node_id(HOLDER)), sent);
    let what = Delivered::Segment { hash: pair.file.hash, groups: groups_of(pair.file.size) };
    assert_eq!(pair.net.deliveries()[0].what, what);
    let files = pair.client.small_files(&pair.peer(), &[pair.file.digest]).await?;
    assert!(files.is_empty(), "it is too large for a small file");
    let links = pair.client.links(&pair.peer(), &[pair.file.digest]).await?;
    assert_eq!(links[0].hash, pair.file.hash);
    Ok(())
}

#[tokio::test]
async fn holdings_grow_and_end() -> Flat {
    let pair = Pair::new()?;
    let third = Disk::new(92)?;
    let third_client: Arc<dyn PeerClient> = pair.net.join(node_id(92), third.store.clone());
    let asker = Provider { node: node_id(ASKER), ..pair.peer() };
    let mut holdings = third_client.holdings(&asker, &[pair.file.hash]).await?;
    let blob = pair.asker.partial(&pair.file)?;
    pair.client.segment(&pair.peer(), 3..7, &blob, no_tick()).await?;
    assert_eq!(holdings.next().await.context("a push")??.have, GroupSet::from(3..7));
    pair.fetch().await.map_err(|(error, _)| error)?;
    assert_eq!(holdings.next().await.context("a push")??.have, GroupSet::whole(pair.file.size));
    assert!(holdings.next().await.is_none());
    Ok(())
}

#[tokio::test]
async fn a_wrong_byte_is_found() -> Flat {
    let pair = Pair::new()?;
    pair.set(Faults { wrong_byte_at: Some(20 * GROUP_BYTES + 9), ..Faults::default() });
    let (error, have) = pair.fetch().await.unwrap_err();
    let offset = 20 * GROUP_BYTES;
    assert!(matches!(error, TransferError::WrongBytes { offset: o, .. } if o == offset), "{error:?}");
    assert_eq!(have, GroupSet::from(0..20));
    Ok(())
}

#[tokio::test]
async fn a_stall_a_cut_and_a_silence() -> Flat {
    let pair = Pair::new()?;
    pair.set(Faults { cut_after: Some(300_000), ..Faults::default() });
    let (error, have) = pair.fetch().await.unwrap_err();
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error:?}");
    assert!((17..19).contains(&have.len()), "{have:?}");
    assert!(matches!(pair.fetch().await, Err((TransferError::Unreachable { .. }, _))));

    pair.set(Faults { unreachable: true, ..Faults::default() });
    assert!(matches!(pair.fetch().await, Err((TransferError::Unreachable { .. }, _))));
    pair.set(Faults { refuses: true, ..Faults::default() });
    assert!(matches!(pair.fetch().await, Err((TransferError::Refused { .. }, _))));

    pair.set(Faults { stall_after: Some(100_000), ..Faults::default() });
    let before = Instant::now();
    assert!(matches!(pair.fetch().await, Err((TransferError::Stalled { .. }, _))));
    assert!(before.elapsed() >= STALL_TIMEOUT);

    pair.set(Faults::default());
    pair.fetch().await.map_err(|(error, _)| error)?;
    let stranger: NodeId = node_id(99);
    pair.net.leave(node_id(HOLDER));
    let gone = Provider { node: stranger, ..pair.peer() };
    assert!(pair.client.links(&gone, &[pair.file.digest]).await.is_err());
    assert!(pair.client.links(&pair.peer(), &[pair.file.digest]).await.is_err());
    drop(pair.holder);
    Ok(())
}

#[tokio::test]
async fn a_slow_line_is_as_slow_as_was_asked() -> Flat {
    let pair = Pair::new()?;
    pair.set(Faults { bytes_per_second: Some(2 * MIB as u64), ..Faults::default() });
    let before = Instant::now();
    pair.fetch().await.map_err(|(error, _)| error)?;
    let took = before.elapsed();
    assert!(took > Duration::from_millis(480) && took < Duration::from_millis(1500), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_cut_breaks_what_is_under_way() -> Flat {
    let pair = Pair::new()?;
    pair.set(Faults { bytes_per_second: Some(MIB as u64 / 2), ..Faults::default() });
    let mut holdings = pair
        .client
        .holdings(&pair.peer(), &[pair.file.hash, hubless_types::BlobHash::from_bytes([1; 32])])
        .await?;
    assert!(holdings.next().await.context("a push")?.is_ok());
    let (fetched, ()) = tokio::join!(pair.fetch(), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        pair.net.cut(node_id(HOLDER));
    });
    assert!(matches!(fetched, Err((TransferError::Unreachable { .. }, _))), "{fetched:?}");
    assert!(holdings.next().await.context("the end")?.is_err());
    assert!(holdings.next().await.is_none());
    pair.set(Faults::default());
    pair.fetch().await.map_err(|(error, _)| error)?;
    Ok(())
}
