//! iroh-blobs' own client fetches from this node, and this node from iroh-blobs' own provider.

use anyhow::Result;
use hubless_transfer::TransferError;
use hubless_types::{BlobHash, Provider, ProviderSource};
use iroh::endpoint::presets;
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey, TransportAddr};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt as _, GetRequest};
use iroh_blobs::store::mem::MemStore;
use iroh_blobs::{BlobsProtocol, Hash};

use crate::support::{MIB, Node, groups_of, no_tick, node_id, random_bytes};

async fn endpoint(seed: u8) -> Result<Endpoint> {
    Ok(Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&[seed; 32]))
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")?
        .bind()
        .await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_client_fetches_from_us() -> Result<()> {
    let node = Node::start(80).await?;
    let content = random_bytes(3 * MIB + 11);
    let file = node.disk.add(&content)?;
    let hash = Hash::from_bytes(*file.hash.as_bytes());
    let theirs = endpoint(81).await?;
    let addrs = node.transfer.listen_addrs().into_iter().map(TransportAddr::Ip);
    let addr = EndpointAddr::from_parts(EndpointId::from_bytes(node.id().as_bytes())?, addrs);
    let connection = theirs.connect(addr, iroh_blobs::ALPN).await?;

    let store = MemStore::new();
    // A range, then two ranges in one request, then what is missing of the whole.
    let chunks = |a: u64, b: u64| ChunkRanges::chunks(a * 16..b * 16);
    for ranges in [chunks(10, 20), chunks(30, 31) | chunks(50, 70)] {
        store.remote().execute_get(connection.clone(), GetRequest::blob_ranges(hash, ranges)).await?;
    }
    store.remote().fetch(connection.clone(), hash).await?;
    assert!(store.blobs().get_bytes(hash).await? == content);

    let at_once = MemStore::new();
    at_once.remote().fetch(connection.clone(), hash).await?;
    assert!(at_once.blobs().get_bytes(hash).await? == content);

    let unknown = store.remote().fetch(connection, Hash::from_bytes([9; 32])).await;
    assert!(unknown.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_fetch_from_their_provider() -> Result<()> {
    let store = MemStore::new();
    let content = random_bytes(3 * MIB + 11);
    let hash = store.blobs().add_bytes(content.clone()).await?.hash;
    let theirs = endpoint(82).await?;
    let addrs = theirs.bound_sockets();
    let router = Router::builder(theirs).accept(iroh_blobs::ALPN, BlobsProtocol::new(&store, None)).spawn();
    let provider = Provider { node: node_id(82), addrs, source: ProviderSource::Lan };

    let node = Node::start(83).await?;
    let hash = BlobHash::from_bytes(*hash.as_bytes());
    let size = content.len() as u64;
    let blob = node.disk.store.blobs().partial(hash, size)?;
    for groups in [100..150, 0..100, 150..groups_of(size).end] {
        node.client.segment(&provider, groups, &blob, no_tick()).await?;
    }
    assert!(blob.is_complete());
    let read = blob.read(hubless_types::ByteRange::new(size - 1000, size))?;
    assert_eq!(read, content[content.len() - 1000..]);

    let unknown = node.disk.store.blobs().partial(BlobHash::from_bytes([9; 32]), 100_000)?;
    let error = node.client.segment(&provider, 0..7, &unknown, no_tick()).await;
    assert!(matches!(error, Err(TransferError::NotHeld { .. })), "{error:?}");
    // It does not speak the other protocol.
    let links =
        node.client.links(&provider, &["git:0000000000000000000000000000000000000000".parse()?]).await;
    assert!(matches!(links, Err(TransferError::Unreachable { .. })), "{links:?}");
    router.shutdown().await?;
    Ok(())
}
