//! What two honest nodes do with one another.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hubless_store::DigestKind;
use hubless_transfer::{Holding, SMALL_FILE_MAX, TransferError};
use hubless_types::{
    ByteRange, CommitId, CommitInfo, FileDigest, GROUP_BYTES, GroupSet, Link, LinkTrust, Manifest,
    PublicSignature, RepoId, Revision, Sha256, Statement, StatementBody, Timestamp, TreeId,
};

use crate::support::{MIB, Node, counting, groups_of, node_id, random_bytes};

type Flat = Result<()>;

/// A blob is fetched whole and is the same; every byte is told of once, and both ends counted it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_blob_arrives() -> Flat {
    let (a, b) = (Node::start(1).await?, Node::start(2).await?);
    for size in [1, 16 * 1024, 16 * 1024 + 1, 8 * MIB + 12_345] {
        let content = random_bytes(size);
        let file = a.disk.add(&content)?;
        let blob = b.disk.partial(&file)?;
        let (tick, told) = counting();
        b.client.segment(&a.provider(), groups_of(file.size), &blob, tick).await?;
        assert!(blob.is_complete() && b.disk.is_whole(&file)?);
        assert_eq!(b.disk.read(&file)?, content);
        assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), file.size);
    }
    let down = b.transfer.stats().total.down;
    assert!(down > 8 * MIB as u64, "{down}");
    assert!(b.transfer.stats().connections_out <= 2, "one for segments, one for the line's wishes");
    Ok(())
}

/// Any range can be fetched first; what is asked for is there, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_arrive_in_any_order() -> Flat {
    let (a, b) = (Node::start(3).await?, Node::start(4).await?);
    let content = random_bytes(5 * MIB + 7);
    let file = a.disk.add(&content)?;
    let groups = groups_of(file.size);
    let blob = b.fetch(&a.provider(), &file, 100..120).await?;
    assert_eq!(blob.have(), GroupSet::from(100..120));
    b.fetch(&a.provider(), &file, groups.end - 1..groups.end).await?;
    assert_eq!(blob.read(ByteRange::new(file.size - 7, file.size))?, content[content.len() - 7..]);
    // The rest at once, as several segments on one connection.
    let rest = blob.have().missing(groups);
    let peer = a.provider();
    let all = rest.runs().iter().map(|run| b.fetch(&peer, &file, run.clone()));
    futures::future::try_join_all(all).await?;
    assert_eq!(b.disk.read(&file)?, content);
    assert!(b.transfer.stats().connections_out <= 2, "one for segments, one for the line's wishes");
    Ok(())
}

/// A node that is still fetching serves what it has, and says at once that it lacks the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_holder_serves_what_it_has() -> Flat {
    let (a, b, c) = (Node::start(5).await?, Node::start(6).await?, Node::start(7).await?);
    let content = random_bytes(2 * MIB);
    let file = a.disk.add(&content)?;
    let held = b.fetch(&a.provider(), &file, 10..50).await?;
    let mut holdings = c.client.holdings(&b.provider(), &[file.hash]).await?;
    let first = holdings.next().await.context("a push")??;
    assert_eq!((first.size, first.have), (file.size, GroupSet::from(10..50)));

    let blob = c.fetch(&b.provider(), &file, 20..50).await?;
    assert_eq!(blob.have(), GroupSet::from(20..50));
    let before = Instant::now();
    let beyond = c.fetch(&b.provider(), &file, 40..60).await;
    assert!(matches!(beyond, Err(TransferError::NotHeld { node }) if node == b.id()), "{beyond:?}");
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(blob.have(), GroupSet::from(20..50));

    b.fetch(&a.provider(), &file, groups_of(file.size)).await?;
    drop(held);
    let mut last = None;
    while let Some(push) = holdings.next().await {
        last = Some(push?.have);
    }
    assert_eq!(last, Some(GroupSet::whole(file.size)), "the stream ends once all is held");
    c.fetch(&b.provider(), &file, groups_of(file.size)).await?;
    assert_eq!(c.disk.read(&file)?, content);
    Ok(())
}

/// Who waits for a blob that nobody holds is told soon after somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_turns_up_is_told() -> Flat {
    let (a, b) = (Node::start(8).await?, Node::start(9).await?);
    let content = random_bytes(100_000);
    let hash = crate::support::Disk::new(200)?.add(&content)?.hash;
    let mut holdings = b.client.holdings(&a.provider(), &[hash]).await?;
    let early = tokio::time::timeout(Duration::from_millis(300), holdings.next()).await;
    assert!(early.is_err(), "nothing to tell yet: {early:?}");
    let file = a.disk.add(&content)?;
    let push = tokio::time::timeout(Duration::from_secs(3), holdings.next()).await?.context("a push")??;
    assert_eq!((push.hash, push.have), (hash, GroupSet::whole(file.size)));
    assert!(holdings.next().await.is_none());
    Ok(())
}

pub(crate) fn manifest(commit: CommitId) -> Result<Manifest> {
    let info = CommitInfo {
        tree: TreeId::from_bytes([0; 20]),
        parents: Vec::new(),
        author: "A <a@example.org>".into(),
        time: Timestamp(1),
        message: "first".into(),
    };
    Ok(Manifest::new(commit, info, Vec::new(), Vec::new())?)
}

/// A manifest travels with its links; a commit that is not held is said to be so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_travels_with_its_links() -> Flat {
    let (a, b) = (Node::start(10).await?, Node::start(11).await?);
    let (with, without) = (CommitId::from_bytes([1; 20]), CommitId::from_bytes([2; 20]));
    let (bundle, links) = (random_bytes(3 * MIB), random_bytes(70_000));
    a.disk.store.catalogue().put_manifest(None, &manifest(with)?, &bundle, Some(&links))?;
    a.disk.store.catalogue().put_manifest(None, &manifest(without)?, &bundle[..9], None)?;
    let unshared = b.client.manifest(&a.provider(), with).await;
    assert!(matches!(unshared, Err(TransferError::NotHeld { .. })), "{unshared:?}");
    for commit in [with, without] {
        a.disk.store.catalogue().share_commit(commit)?;
    }
    let reply = b.client.manifest(&a.provider(), with).await?;
    assert!(reply.bundle == bundle && reply.links == Some(links));
    let reply = b.client.manifest(&a.provider(), without).await?;
    assert!(reply.bundle == bundle[..9] && reply.links.is_none());
    let unknown = b.client.manifest(&a.provider(), CommitId::from_bytes([3; 20])).await;
    assert!(matches!(unknown, Err(TransferError::NotHeld { .. })), "{unknown:?}");
    Ok(())
}

/// Only links that this node would itself believe are told, and they arrive as claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_arrive_as_claims() -> Flat {
    let (a, b) = (Node::start(12).await?, Node::start(13).await?);
    let proven = a.disk.add(b"proven")?;
    let digest = |n: u8| FileDigest::Sha256(Sha256::from_bytes([n; 32]));
    let link = |n: u8, trust| Link { digest: digest(n), hash: proven.hash, size: 6, trust };
    a.disk.store.catalogue().put_link(&link(1, LinkTrust::Vouched))?;
    a.disk.store.catalogue().put_link(&link(2, LinkTrust::Claimed))?;
    let mut asked: Vec<FileDigest> = vec![digest(1), digest(2), proven.digest];
    asked.extend((0..5000_u32).map(|n| {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        FileDigest::Sha256(Sha256::from_bytes(bytes))
    }));
    let links = b.client.links(&a.provider(), &asked).await?;
    let told: Vec<_> = links.iter().map(|l| (l.digest, l.trust)).collect();
    assert_eq!(told, [(digest(1), LinkTrust::Claimed), (proven.digest, LinkTrust::Claimed)]);
    Ok(())
}

/// Small files come whole, in as many turns as it takes; large and unknown ones are left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_come_whole() -> Flat {
    let (a, b) = (Node::start(14).await?, Node::start(15).await?);
    let contents: Vec<Vec<u8>> = (0..300).map(|n| random_bytes(n * 7)).collect();
    let mut digests = Vec::new();
    for content in &contents {
        let taken = a.disk.store.blobs().import_bytes(content, DigestKind::GitBlob)?;
        a.disk.store.blobs().share(&taken.hash)?;
        digests.push(taken.digest);
    }
    let largest = random_bytes(SMALL_FILE_MAX as usize);
    digests.push(a.disk.add(&largest)?.digest);
    digests.push(a.disk.add(&random_bytes(SMALL_FILE_MAX as usize + 1))?.digest);
    digests.push(FileDigest::Sha256(Sha256::from_bytes([1; 32])));
    let files = b.client.small_files(&a.provider(), &digests).await?;
    assert_eq!(files.len(), 301);
    for ((digest, content), expected) in files.iter().zip(contents.iter().chain([&largest])) {
        assert!(digests.contains(digest) && content == expected);
    }
    Ok(())
}

/// Statements are told by repository, and by revision if one is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_told() -> Flat {
    let (a, b) = (Node::start(16).await?, Node::start(17).await?);
    let repo: RepoId = "acme/tiny".parse()?;
    let statement = |revision: &str| -> Result<Statement> {
        Ok(Statement {
            body: StatementBody {
                repo: repo.clone(),
                revision: revision.parse()?,
                commit: CommitId::from_bytes([1; 20]),
                origin: None,
                seen: Timestamp(5),
                links: None,
            },
            signer: node_id(16),
            signature: PublicSignature([3; 64]),
        })
    };
    for revision in ["main", "v1"] {
        assert!(a.disk.store.catalogue().put_statement(&statement(revision)?)?);
    }
    let main: Revision = "main".parse()?;
    assert_eq!(b.client.statements(&a.provider(), &repo, Some(&main)).await?, [statement("main")?]);
    assert_eq!(b.client.statements(&a.provider(), &repo, None).await?.len(), 2);
    assert!(b.client.statements(&a.provider(), &"acme/other".parse()?, None).await?.is_empty());
    Ok(())
}

/// A closed swarm speaks with its members only, whoever dials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_swarm_refuses_strangers() -> Flat {
    let member = node_id(19);
    let closed = Node::start_with(18, |c| c.allow = Some(vec![member])).await?;
    let (friend, stranger) = (Node::start(19).await?, Node::start(20).await?);
    let file = closed.disk.add(&random_bytes(50_000))?;
    friend.fetch(&closed.provider(), &file, 0..4).await?;
    let before = Instant::now();
    let refused = stranger.fetch(&closed.provider(), &file, 0..4).await;
    assert!(matches!(refused, Err(TransferError::Refused { .. })), "{refused:?}");
    let refused = stranger.client.links(&closed.provider(), &[file.digest]).await;
    assert!(matches!(refused, Err(TransferError::Refused { .. })), "{refused:?}");
    let dialled = closed.client.links(&stranger.provider(), &[file.digest]).await;
    assert!(matches!(dialled, Err(TransferError::Refused { .. })), "{dialled:?}");
    assert!(before.elapsed() < Duration::from_secs(2));
    Ok(())
}

/// A node that is not there is given up after three seconds, once for all who ask for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_the_address() -> Flat {
    let a = Node::start(21).await?;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let mut peer = a.provider();
    peer.node = node_id(99);
    peer.addrs = vec![silent.local_addr()?];
    let digests = [FileDigest::Sha256(Sha256::from_bytes([1; 32]))];
    let before = Instant::now();
    let asked = futures::future::join_all((0..20).map(|_| a.client.links(&peer, &digests))).await;
    assert!(asked.iter().all(|r| matches!(r, Err(TransferError::Unreachable { .. }))), "{asked:?}");
    assert!(before.elapsed() < Duration::from_millis(3500), "{:?}", before.elapsed());
    Ok(())
}

/// More uploads than slots: those without one wait a moment, and hear that the node is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_slot_the_asker_hears_busy() -> Flat {
    let a = Node::start_with(22, |c| c.upload_slots = 0).await?;
    let b = Node::start(23).await?;
    let file = a.disk.add(&random_bytes(50_000))?;
    let busy = b.fetch(&a.provider(), &file, 0..4).await;
    assert!(matches!(busy, Err(TransferError::Busy { .. })), "{busy:?}");
    Ok(())
}

/// Whether what is listened to breaks off within a second.
async fn breaks_off(pushes: &mut BoxStream<'static, Result<Holding, TransferError>>) -> bool {
    let broke = async {
        while let Some(push) = pushes.next().await {
            if push.is_err() {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(Duration::from_secs(1), broke).await.unwrap_or(false)
}

/// With all places taken, the idle connection that was used longest ago makes room. What is only listened to does so next, for
/// a question at once; for others to listen to, once it had time to say that it has something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_make_room_and_then_those_that_are_listened_to() -> Flat {
    let a = Node::start_with(24, |c| c.max_connections = 2).await?;
    let peers = [Node::start(25).await?, Node::start(26).await?, Node::start(27).await?];
    let digests = [FileDigest::Sha256(Sha256::from_bytes([1; 32]))];
    for peer in &peers {
        assert!(a.client.links(&peer.provider(), &digests).await?.is_empty());
        assert!(a.transfer.stats().connections_out <= 2);
    }
    let wanted = [hubless_types::BlobHash::from_bytes([1; 32])];
    let mut first = a.client.holdings(&peers[0].provider(), &wanted).await?;
    let mut second = a.client.holdings(&peers[1].provider(), &wanted).await?;
    let full = a.client.holdings(&peers[2].provider(), &wanted).await.map(|_| ());
    assert!(matches!(full, Err(TransferError::TooManyConnections { limit: 2 })), "{full:?}");

    assert!(a.client.links(&peers[2].provider(), &digests).await?.is_empty());
    assert!(breaks_off(&mut first).await, "the first to be listened to made room");
    // The idle one goes for it, and the second is still listened to.
    let _first = a.client.holdings(&peers[0].provider(), &wanted).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let _third = a.client.holdings(&peers[2].provider(), &wanted).await?;
    assert!(breaks_off(&mut second).await, "it said nothing for two seconds");
    Ok(())
}

/// More peers are listened to than there are places, and most have nothing. Whoever has the file is among those that keep
/// their places, and its bytes come on a connection of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_have_nothing_make_room_for_bytes_of_one_who_has() -> Flat {
    let a = Node::start_with(100, |c| (c.max_connections, c.bulk_port) = (4, None)).await?;
    let source = Node::start(101).await?;
    let file = source.disk.add(&random_bytes(3 * MIB))?;
    let (mut others, mut told) = (Vec::new(), Vec::new());
    let mut holds = a.client.holdings(&source.provider(), &[file.hash]).await?;
    assert!(!holds.next().await.context("it says what it has")??.have.is_empty());
    for seed in 102..105 {
        let other = Node::start(seed).await?;
        told.push(a.client.holdings(&other.provider(), &[file.hash]).await?);
        others.push(other);
    }
    a.fetch(&source.provider(), &file, groups_of(file.size)).await?;
    assert!(a.disk.is_whole(&file)?);
    assert!(a.transfer.stats().connections_out <= 4);
    Ok(())
}

/// A fetch that nobody wants any more ends, and what it brought stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_fetch_keeps_what_it_brought() -> Flat {
    let (a, b) = (Node::start(28).await?, Node::start(29).await?);
    let file = a.disk.add(&random_bytes(12 * MIB))?;
    let blob = b.disk.partial(&file)?;
    let mut grown = blob.changed();
    let (client, peer, into) = (b.client.clone(), a.provider(), blob.clone());
    let (tick, _) = counting();
    tokio::select! {
        done = client.segment(&peer, groups_of(file.size), &into, tick) => done?,
        _ = grown.wait_for(|groups| *groups >= 32) => (),
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let have = blob.have();
    assert!(have.len() >= 32);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(blob.have(), have, "nothing arrives any more");
    for run in have.missing(groups_of(file.size)).runs() {
        b.fetch(&a.provider(), &file, run.clone()).await?;
    }
    assert!(b.disk.is_whole(&file)?);
    assert!(a.transfer.stats().total.up < file.size + 8 * MIB as u64);
    assert_eq!(a.transfer.stats().uploads, 0);
    Ok(())
}

/// A file served by reference that changes underneath ends the answer; no wrong byte is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_that_changes_is_not_served() -> Flat {
    let (a, b) = (Node::start(30).await?, Node::start(31).await?);
    let path = a.disk.dir.path().join("model.bin");
    std::fs::write(&path, random_bytes(2 * MIB))?;
    let mode = hubless_store::ImportMode::Reference;
    let file = a.disk.store.blobs().import(&path, mode, DigestKind::Sha256, &|_| ())?;
    a.disk.store.blobs().share(&file.hash)?;
    b.fetch(&a.provider(), &file, 0..10).await?;
    let mut changed = std::fs::read(&path)?;
    changed[20 * GROUP_BYTES as usize] ^= 1;
    std::fs::write(&path, changed)?;
    let gone = b.fetch(&a.provider(), &file, 10..30).await;
    assert!(matches!(gone, Err(TransferError::NotHeld { .. })), "{gone:?}");
    Ok(())
}

/// Stopping takes under two seconds in the middle of everything, and leaves no task behind.
#[test]
fn shutdown_leaves_no_task() -> Flat {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (a, b) = (Node::start(32).await?, Node::start(33).await?);
        let file = a.disk.add(&random_bytes(16 * MIB))?;
        let mut holdings =
            b.client.holdings(&a.provider(), &[hubless_types::BlobHash::from_bytes([1; 32])]).await?;
        let (client, peer, blob) = (b.client.clone(), a.provider(), b.disk.partial(&file)?);
        let mut grown = blob.changed();
        let fetch = async {
            let (tick, _) = counting();
            client.segment(&peer, groups_of(file.size), &blob, tick).await
        };
        let stop = async {
            let _ = grown.wait_for(|groups| *groups > 0).await;
            let before = Instant::now();
            a.transfer.shutdown().await;
            before.elapsed()
        };
        let (fetched, took) = tokio::join!(fetch, stop);
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(matches!(fetched, Ok(()) | Err(TransferError::Unreachable { .. })), "{fetched:?}");
        assert!(matches!(holdings.next().await, Some(Err(TransferError::Unreachable { .. })) | None));
        drop(holdings);
        let before = Instant::now();
        b.transfer.shutdown().await;
        assert!(before.elapsed() < Duration::from_secs(2));
        let stopped = b.client.links(&a.provider(), &[file.digest]).await;
        assert!(matches!(stopped, Err(TransferError::Stopping)), "{stopped:?}");
        drop((a, b));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
        Ok(())
    })
}

/// A port that is taken is named.
#[tokio::test]
async fn a_taken_port_is_named() -> Flat {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let addr = taken.local_addr()?;
    let Err(error) = Node::start_with(34, |c| c.listen = vec![addr]).await else {
        anyhow::bail!("it started")
    };
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    Ok(())
}
