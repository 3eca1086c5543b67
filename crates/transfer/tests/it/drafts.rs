//! Drafts that many fill together, over the network and over its twin.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use hubless_store::{CrowdSeat, DigestKind, Draft, digest_bytes};
use hubless_transfer::{MemoryNet, PeerClient, TransferError};
use hubless_types::{FileDigest, GroupSet, Link, LinkTrust, Provider, ProviderSource};

use crate::support::{Disk, MIB, Node, counting, no_tick, node_id, random_bytes};

type Flat = Result<()>;

const SIZE: usize = 2 * MIB + 77;

/// A draft of which the first MiB is here and offered.
fn begun(disk: &Disk, bytes: &[u8], digest: FileDigest) -> Result<(Draft, CrowdSeat)> {
    let draft = disk.store.blobs().draft(digest, bytes.len() as u64)?;
    let seat = disk.store.blobs().join_crowd(digest, bytes.len() as u64).context("a seat")?;
    seat.fills(&draft);
    draft.writer(0).push(&bytes[..MIB])?;
    seat.offer(&draft, 0..64)?;
    seat.awaits((64..96).into());
    Ok((draft, seat))
}

/// One hears what the other does, is known to it from then on, and gets what was offered and nothing else.
async fn story(a: &Disk, b: &Disk, client: Arc<dyn PeerClient>, from: &Provider) -> Flat {
    let bytes = random_bytes(SIZE);
    let digest = digest_bytes(&bytes, DigestKind::Sha256).context("no collision")?;
    assert_eq!(client.drafts(from, &[digest]).await?, []);
    let (draft, seat) = begun(a, &bytes, digest)?;
    let other = digest_bytes(b"another", DigestKind::Sha256).context("no collision")?;
    let told = client.drafts(from, &[other, digest]).await?;
    let [(about, news)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*about, news.size), (digest, SIZE as u64));
    assert_eq!((&news.offers, &news.awaits), (&GroupSet::from(0..64), &GroupSet::from(64..96)));
    assert_eq!(seat.askers(), [node_id(2)]);

    let into = b.store.blobs().draft(digest, SIZE as u64)?;
    let (tick, count) = counting();
    client.part(from, digest, 3..64, &into, tick).await?;
    assert_eq!(into.have(), GroupSet::from(3..64));
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 61 * 16384);
    let beyond = client.part(from, digest, 0..65, &into, no_tick()).await;
    assert!(matches!(beyond, Err(TransferError::NotHeld { .. })), "{beyond:?}");

    // Whole and proven it is had as a blob, once it may be.
    draft.writer(MIB as u64).push(&bytes[MIB..])?;
    let hubless_store::Finished::Is(blob) = draft.finish()? else { panic!("it is the file") };
    drop((draft, seat));
    assert_eq!(client.drafts(from, &[digest]).await?, []);
    a.store.blobs().share(&blob.hash)?;
    a.store.catalogue().put_link(&Link {
        digest,
        hash: blob.hash,
        size: blob.size,
        trust: LinkTrust::Proven,
    })?;
    assert_eq!(client.drafts(from, &[digest]).await?[0].1.offers, GroupSet::whole(SIZE as u64));
    client.part(from, digest, 0..129, &into, no_tick()).await?;
    assert!(matches!(into.finish()?, hubless_store::Finished::Is(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_draft_travel_over_the_network() -> Flat {
    let (a, b) = (Node::start(1).await?, Node::start(2).await?);
    story(&a.disk, &b.disk, b.client.clone(), &a.provider()).await
}

#[tokio::test]
async fn parts_of_a_draft_travel_in_memory() -> Flat {
    let (net, a, b) = (MemoryNet::new(), Disk::new(1)?, Disk::new(2)?);
    net.join(node_id(1), a.store.clone());
    let client = net.join(node_id(2), b.store.clone());
    let from = Provider { node: node_id(1), addrs: Vec::new(), source: ProviderSource::Lan };
    story(&a, &b, client, &from).await
}
