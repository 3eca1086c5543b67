//! What strangers do who mean harm, or do not know the protocol.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hubless_store::Imported;
use hubless_transfer::{STALL_TIMEOUT, TransferError};
use hubless_types::{BlobHash, CommitId, GROUP_BYTES, GroupSet, Provider, ProviderSource};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode, SecretKey, TransportAddr};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

use crate::stories::manifest;
use crate::support::{Disk, MIB, Node, groups_of, no_tick, node_id, random_bytes};

type Flat = Result<()>;

const BLOBS: &[u8] = b"/iroh-bytes/4";
pub(crate) const HUBLESS: &[u8] = b"hubless/1";

pub(crate) async fn endpoint(seed: u8) -> Result<Endpoint> {
    Ok(Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&[seed; 32]))
        .relay_mode(RelayMode::Disabled)
        .alpns(vec![BLOBS.to_vec(), HUBLESS.to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")?
        .bind()
        .await?)
}

pub(crate) async fn dial(from: &Endpoint, node: &Node, alpn: &[u8]) -> Result<Connection> {
    let id = iroh::EndpointId::from_bytes(node.id().as_bytes())?;
    let addrs = node.transfer.listen_addrs().into_iter().map(TransportAddr::Ip);
    Ok(from.connect(EndpointAddr::from_parts(id, addrs), alpn).await?)
}

/// A server that reads each request and then does with its stream what it was told.
struct Liar {
    endpoint: Endpoint,
    provider: Provider,
    _tasks: JoinSet<()>,
}

impl Liar {
    async fn start<F: Future<Output = ()> + Send + 'static>(
        seed: u8,
        act: impl Fn(SendStream, RecvStream, Vec<u8>) -> F + Send + Sync + 'static,
    ) -> Result<Self> {
        let endpoint = endpoint(seed).await?;
        let addrs = endpoint.bound_sockets();
        let provider = Provider { node: node_id(seed), addrs, source: ProviderSource::Dht };
        let (accepting, act) = (endpoint.clone(), Arc::new(act));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Some(incoming) = accepting.accept().await {
                let Ok(connection) = incoming.await else { continue };
                let act = act.clone();
                streams.spawn(async move {
                    let mut running = JoinSet::new();
                    while let Ok((send, mut recv)) = connection.accept_bi().await {
                        let act = act.clone();
                        running.spawn(async move {
                            let request = recv.read_to_end(MIB).await.unwrap_or_default();
                            act(send, recv, request).await;
                        });
                    }
                });
            }
        });
        Ok(Self { endpoint, provider, _tasks: tasks })
    }
}

/// The answer that an honest node would give.
fn honest_answer(disk: &Disk, file: &Imported) -> Result<Vec<u8>> {
    let blob = Arc::new(disk.store.blobs().open(&file.hash)?.context("it is here")?);
    let pieces: Vec<Bytes> = blob.encode(groups_of(file.size)).collect::<Result<_, _>>()?;
    Ok(pieces.concat())
}

/// A peer that accepts and goes silent, at the start or half-way, is found out within the stall timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_found_out() -> Flat {
    let disk = Disk::new(50)?;
    let file = disk.add(&random_bytes(2 * MIB))?;
    let answer = honest_answer(&disk, &file)?;
    let half = Bytes::from(answer[..MIB].to_vec());
    let liar = Liar::start(51, move |mut send, recv, request| {
        let half = half.clone();
        async move {
            if request.first() == Some(&0) {
                let _ = send.write_chunk(half).await;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(recv);
        }
    })
    .await?;
    let node = Node::start(52).await?;
    let before = Instant::now();
    let blob = node.disk.partial(&file)?;
    let (segment, manifest) = tokio::join!(
        node.client.segment(&liar.provider, groups_of(file.size), &blob, no_tick()),
        node.client.manifest(&liar.provider, CommitId::from_bytes([1; 20])),
    );
    let took = before.elapsed();
    assert!(took >= STALL_TIMEOUT && took < STALL_TIMEOUT + Duration::from_secs(2), "{took:?}");
    let Err(stalled @ TransferError::Stalled { .. }) = segment else { panic!("{segment:?}") };
    assert!(stalled.blames_peer());
    assert!(matches!(manifest, Err(TransferError::Stalled { .. })), "{manifest:?}");
    assert!(blob.have().len() >= 60, "what came before the silence is kept: {:?}", blob.have());
    Ok(())
}

/// A wrong byte is found where it is: nothing of its group is kept, everything before it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_byte_is_found_where_it_is() -> Flat {
    let disk = Disk::new(53)?;
    let content = random_bytes(2 * MIB);
    let file = disk.add(&content)?;
    let mut answer = honest_answer(&disk, &file)?;
    // The last group of the answer is the last of the file; one byte of it is spoilt.
    let wrong_group = groups_of(file.size).end - 1;
    let place = answer.len() - 100;
    answer[place] ^= 1;
    let answer = Bytes::from(answer);
    let liar = Liar::start(54, move |mut send, _recv, _request| {
        let answer = answer.clone();
        async move {
            let _ = send.write_chunk(answer).await;
            let _ = send.finish();
            let _ = send.stopped().await;
        }
    })
    .await?;
    let node = Node::start(55).await?;
    let blob = node.disk.partial(&file)?;
    let wrong = node.client.segment(&liar.provider, groups_of(file.size), &blob, no_tick()).await;
    let Err(error @ TransferError::WrongBytes { .. }) = wrong else { panic!("{wrong:?}") };
    assert!(error.blames_peer());
    assert!(
        matches!(error, TransferError::WrongBytes { node, offset } if node == node_id(54) && offset == wrong_group * GROUP_BYTES)
    );
    assert_eq!(blob.have(), GroupSet::from(0..wrong_group));
    Ok(())
}

/// Answers that are too short, too long, of another size, or no answers at all are errors, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_none() -> Flat {
    let disk = Disk::new(56)?;
    let file = disk.add(&random_bytes(MIB))?;
    let honest = honest_answer(&disk, &file)?;
    let mut other_size = honest.clone();
    other_size[0] ^= 1;
    let (short, node) = (honest[..MIB / 2].to_vec(), Node::start(57).await?);
    for (seed, answer) in [(58, short), (59, other_size), (60, Vec::new()), (61, random_bytes(MIB))] {
        let answer = Bytes::from(answer);
        let liar = Liar::start(seed, move |mut send, _recv, _request| {
            let answer = answer.clone();
            async move {
                let _ = send.write_chunk(answer).await;
                let _ = send.finish();
                let _ = send.stopped().await;
            }
        })
        .await?;
        let before = Instant::now();
        let blob = node.disk.partial(&file)?;
        let error =
            node.client.segment(&liar.provider, groups_of(file.size), &blob, no_tick()).await.unwrap_err();
        let expected = match seed {
            59 | 61 => matches!(error, TransferError::WrongSize { .. }),
            _ => matches!(error, TransferError::Protocol { .. }),
        };
        assert!(expected, "{seed}: {error:?}");
        // On the other protocol, what comes is a frame far longer than it may be, or none.
        let digests = [file.digest];
        assert!(node.client.links(&liar.provider, &digests).await.is_err());
        assert!(
            node.client.small_files(&liar.provider, &digests).await.map_or(true, |files| files.is_empty())
        );
        assert!(before.elapsed() < Duration::from_secs(3), "{seed}: {:?}", before.elapsed());
        liar.endpoint.close().await;
    }
    Ok(())
}

/// Whatever bytes a stranger sends on either protocol, it is refused, and the node serves on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused() -> Flat {
    let node = Node::start(62).await?;
    let file = node.disk.add(&random_bytes(300_000))?;
    let stranger = endpoint(63).await?;
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    for alpn in [BLOBS, HUBLESS] {
        let connection = dial(&stranger, &node, alpn).await?;
        let mut asked = JoinSet::new();
        for kind in 0..120_u32 {
            let mut request = vec![0; rng.random_range(0..5000)];
            rng.fill_bytes(&mut request);
            match kind % 4 {
                // Half a request that names our blob.
                0 if alpn == BLOBS => {
                    request = [&[0][..], file.hash.as_bytes(), &request[..request.len() / 9]].concat()
                }
                // A head that promises far more than it may, or than follows.
                0 => request = vec![0x13, 255, 255, 255, request.len() as u8],
                1 if !request.is_empty() => request[0] = 0x10 | (kind / 4 % 8) as u8,
                _ => (),
            }
            let connection = connection.clone();
            asked.spawn(async move {
                let (mut send, mut recv) = connection.open_bi().await?;
                let _ = send.write_all(&request).await;
                let _ = send.finish();
                anyhow::Ok(recv.read_to_end(MIB).await.map_or(0, |answer| answer.len()))
            });
        }
        let all = async {
            while let Some(answer) = asked.join_next().await {
                assert_eq!(answer??, 0, "nothing is told");
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(8), all).await.context("a request hangs")??;
    }
    let honest = Node::start(64).await?;
    honest.fetch(&node.provider(), &file, groups_of(file.size)).await?;
    assert!(honest.disk.is_whole(&file)?);
    Ok(())
}

/// What the node does not serve on iroh-blobs' protocol: sequences, pushes, many at once, watching, ranges within a group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_of_iroh_blobs_is_served() -> Flat {
    use iroh_blobs::protocol::{
        ChunkRanges, ChunkRangesExt as _, GetManyRequest, GetRequest, ObserveRequest, PushRequest, Request,
    };
    let node = Node::start(65).await?;
    let file = node.disk.add(&random_bytes(300_000))?;
    let hash = iroh_blobs::Hash::from_bytes(*file.hash.as_bytes());
    let stranger = endpoint(66).await?;
    let connection = dial(&stranger, &node, BLOBS).await?;
    let within = GetRequest::blob_ranges(hash, ChunkRanges::chunks(1..3));
    let beyond = GetRequest::blob_ranges(hash, ChunkRanges::chunks(1600..3200));
    let requests = [
        Request::Get(GetRequest::all(hash)),
        Request::Get(within.clone()),
        Request::Get(beyond),
        Request::GetMany(GetManyRequest::from_iter([hash])),
        Request::Observe(ObserveRequest::new(hash)),
        Request::Push(PushRequest::new(within.hash, within.ranges)),
    ];
    for request in requests {
        let (mut send, mut recv) = connection.open_bi().await?;
        send.write_all(&postcard::to_stdvec(&request)?).await?;
        let _ = send.finish();
        let answer = tokio::time::timeout(Duration::from_secs(2), recv.read_to_end(MIB)).await?;
        assert!(answer.is_err(), "{request:?}");
    }
    Ok(())
}

/// A stranger that opens streams and says nothing is cut off, and others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_that_say_nothing_are_cut_off() -> Flat {
    let node = Node::start(67).await?;
    let file = node.disk.add(&random_bytes(300_000))?;
    let stranger = endpoint(68).await?;
    let connection = dial(&stranger, &node, BLOBS).await?;
    let mut open = Vec::new();
    for _ in 0..64 {
        let (mut send, recv) = connection.open_bi().await?;
        send.write_all(&[0]).await?;
        open.push((send, recv));
    }
    let more = tokio::time::timeout(Duration::from_millis(200), connection.open_bi()).await;
    assert!(more.is_err(), "the node lets nobody open more than 64 streams");
    let honest = Node::start(69).await?;
    honest.fetch(&node.provider(), &file, groups_of(file.size)).await?;
    let before = Instant::now();
    for (_, recv) in &mut open {
        assert!(recv.read_to_end(MIB).await.is_err());
    }
    assert!(before.elapsed() < Duration::from_secs(6), "{:?}", before.elapsed());
    Ok(())
}

/// Connections beyond the bound are turned away; one that has nothing to do gives its place back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_from_outside_are_bounded() -> Flat {
    let node = Node::start_with(70, |c| c.max_connections = 2).await?;
    let strangers = [endpoint(71).await?, endpoint(72).await?, endpoint(73).await?, endpoint(74).await?];
    // One has nothing to ask; the other has begun to.
    let idle = dial(&strangers[0], &node, BLOBS).await?;
    let busy = dial(&strangers[1], &node, HUBLESS).await?;
    let (mut question, _answer) = busy.open_bi().await?;
    question.write_all(&[1]).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut stay = Vec::new();
    for stranger in &strangers[2..] {
        let before = Instant::now();
        assert!(dial(stranger, &node, BLOBS).await.is_err());
        assert!(before.elapsed() < Duration::from_secs(2), "it is refused, not left waiting");
        // Whoever comes again has the place of the one that has been idle for longest.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stay.push(dial(stranger, &node, BLOBS).await?);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(idle.close_reason().is_some() && busy.close_reason().is_none());
    assert!(stay[0].close_reason().is_some() && stay[1].close_reason().is_none());
    Ok(())
}

/// All places are taken by one that asks, so that nobody is turned out for a newcomer. Then it leaves by itself: whoever comes next
/// is not turned out in its stead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_a_place_that_became_free_keeps_it() -> Flat {
    let node = Node::start_with(76, |c| c.max_connections = 1).await?;
    let strangers = [endpoint(77).await?, endpoint(78).await?];
    let busy = dial(&strangers[0], &node, HUBLESS).await?;
    let (mut question, _answer) = busy.open_bi().await?;
    question.write_all(&[1]).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(dial(&strangers[1], &node, BLOBS).await.is_err());
    busy.close(0_u32.into(), b"");
    let begun = Instant::now();
    let next = loop {
        if let Ok(next) = dial(&strangers[1], &node, BLOBS).await {
            break next;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "its place became free");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(next.close_reason().is_none(), "{:?}", next.close_reason());
    Ok(())
}

/// One connection may not watch without bound, nor name more blobs than a subscription may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_bounded() -> Flat {
    use futures::StreamExt as _;
    let (node, asker) = (Node::start(74).await?, Node::start(75).await?);
    let wanted = [BlobHash::from_bytes([1; 32])];
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(asker.client.holdings(&node.provider(), &wanted).await?);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(node.transfer.stats().subscriptions, 16);
    let mut more = asker.client.holdings(&node.provider(), &wanted).await?;
    assert!(matches!(more.next().await, Some(Err(TransferError::Busy { .. }))));
    drop(open);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(node.transfer.stats().subscriptions, 0);
    let many: Vec<_> = (0..=255_u8).map(|n| BlobHash::from_bytes([n; 32])).chain(wanted).collect();
    let too_many = asker.client.holdings(&node.provider(), &many).await;
    assert!(matches!(too_many, Err(TransferError::AsksTooMuch { limit: 256, .. })));
    Ok(())
}

/// Asks for the same on `streams` streams of each of four connections, and takes nothing of the answers.
async fn ask_and_take_nothing(
    from: &Endpoint,
    node: &Node,
    alpn: &[u8],
    request: &[u8],
    streams: usize,
) -> Result<Vec<(Connection, SendStream, RecvStream)>> {
    let mut open = Vec::new();
    for _ in 0..4 {
        let connection = dial(from, node, alpn).await?;
        for _ in 0..streams {
            let (mut send, recv) = connection.open_bi().await?;
            send.write_all(request).await?;
            let _ = send.finish();
            open.push((connection.clone(), send, recv));
        }
    }
    // Long enough for all of them to have taken what they can get.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(open)
}

/// One node has half of the upload slots, however many connections it opens; others are served at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stranger_does_not_take_all_upload_slots() -> Flat {
    use iroh_blobs::protocol::{GetRequest, Request};
    for (slots, share, seed) in [(2, 1, 80), (16, 8, 83)] {
        let node = Node::start_with(seed, |c| c.upload_slots = slots).await?;
        let file = node.disk.add(&random_bytes(16 * MIB))?;
        let stranger = endpoint(seed + 1).await?;
        let request = Request::Get(GetRequest::blob(iroh_blobs::Hash::from_bytes(*file.hash.as_bytes())));
        let request = postcard::to_stdvec(&request)?;
        let _held = ask_and_take_nothing(&stranger, &node, BLOBS, &request, 8).await?;
        assert_eq!(node.transfer.stats().uploads, share);
        let honest = Node::start(seed + 2).await?;
        let before = Instant::now();
        honest.fetch(&node.provider(), &file, 0..4).await?;
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    }
    Ok(())
}

/// One node is sent one manifest at a time; others get theirs at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stranger_does_not_take_all_manifest_slots() -> Flat {
    let node = Node::start(86).await?;
    let commit = CommitId::from_bytes([5; 20]);
    let bundle = random_bytes(6 * MIB);
    node.disk.store.catalogue().put_manifest(None, &manifest(commit)?, &bundle, None)?;
    node.disk.store.catalogue().share_commit(commit)?;
    let stranger = endpoint(87).await?;
    let request = [&[0x11, 21, 0, 0, 0, 20][..], commit.as_bytes().as_slice()].concat();
    let mut held = ask_and_take_nothing(&stranger, &node, HUBLESS, &request, 4).await?;
    let mut begun = 0;
    for (_, _, recv) in &mut held {
        let first = tokio::time::timeout(Duration::from_millis(10), recv.read_chunk(9)).await;
        begun += usize::from(matches!(first, Ok(Ok(Some(_)))));
    }
    assert_eq!(begun, 1);
    let honest = Node::start(88).await?;
    let before = Instant::now();
    honest.client.manifest(&node.provider(), commit).await?;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    Ok(())
}

/// One node may not have more blobs watched over several connections than it may over one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_watches_is_bounded_over_its_connections() -> Flat {
    use futures::StreamExt as _;
    let node = Node::start(89).await?;
    // Two endpoints with one key: one node with a connection each.
    let (asker, again, other) = (Node::start(92).await?, Node::start(92).await?, Node::start(93).await?);
    let wanted: Vec<_> = (0..=255_u8).map(|n| BlobHash::from_bytes([n; 32])).collect();
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(asker.client.holdings(&node.provider(), &wanted).await?);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(node.transfer.stats().subscriptions, 16);
    let mut more = again.client.holdings(&node.provider(), &wanted[..1]).await?;
    let refused = tokio::time::timeout(Duration::from_secs(2), more.next()).await?;
    assert!(matches!(refused, Some(Err(TransferError::Busy { .. }))), "{refused:?}");
    let _others = other.client.holdings(&node.provider(), &wanted).await?;
    open.pop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _more = again.client.holdings(&node.provider(), &wanted).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(node.transfer.stats().subscriptions, 17);
    Ok(())
}
