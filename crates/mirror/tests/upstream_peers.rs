//! Origins and peers together: one file from both, and what happens when either goes.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::*;
use hubless_mirror::*;
use hubless_store::BlobStatus;
use hubless_testkit::{Faults, MemoryOrigin, OriginFaults, Question};
use hubless_transfer::{Delivered, Delivery};
use hubless_types::*;
use tokio::time::Instant;

const RATE: u64 = 4 * MIB as u64;

/// A node that has a repository of `origin` whole, and one below the same origin that has nothing.
async fn pair(swarm: &Swarm, origin: &MemoryOrigin, size: usize) -> Result<(Node, Node, CommitId, Vec<u8>)> {
    let large = noise(7, size);
    let small = noise(8, 20_000);
    let files: [(&str, &[u8]); 2] = [("s.bin", &small), ("w.bin", &large)];
    let commit = origin.publish(&tiny(), "main", &files)?;
    let first = swarm.node_below(vec![origin.origin()], |_| {})?;
    assert_eq!(first.read(commit, "w.bin", 0).await?, large);
    assert_eq!(first.read(commit, "s.bin", 0).await?, small);
    let second = swarm.node_below(vec![origin.origin()], |_| {})?;
    origin.forget_asked();
    Ok((first, second, commit, large))
}

fn opened(origin: &MemoryOrigin) -> usize {
    origin.asked().iter().filter(|asked| matches!(asked.what, Question::Open(..))).count()
}

async fn pull(node: &Node, commit: CommitId) -> Result<PullReport, MirrorError> {
    node.mirror.pull(PullRequest::all(tiny(), commit.into()), ignore()).await
}

fn from(report: &PullReport, name: &str) -> u64 {
    report.from.iter().filter(|(source, _)| source == name).map(|(_, bytes)| bytes).sum()
}

/// What one node fetched reaches the next one from it: the origin is not asked again, and need not be there.
#[tokio::test]
async fn the_second_node_is_served_by_the_first() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let (first, second, commit, large) = pair(&swarm, &origin, 3 * MIB).await?;
    origin.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
    assert_eq!(second.read(commit, "w.bin", 0).await?, large);
    assert_eq!(opened(&origin), 0);
    assert!(swarm.net.sent(first.id, second.id) > large.len() as u64);
    Ok(())
}

/// The first byte of a file that only a neighbour has is soon there.
#[tokio::test]
async fn the_first_byte_from_a_neighbour_is_soon_there() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let (_first, second, commit, _) = pair(&swarm, &origin, 3 * MIB).await?;
    origin.set_faults(OriginFaults { delay: Duration::from_secs(5), ..OriginFaults::default() });
    let began = Instant::now();
    let (caller, repo, path) = (Caller::anyone(), tiny(), "s.bin".parse()?);
    second.mirror.open_file(&caller, &repo, commit, &path, ByteRange::new(0, 1)).await?;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}; alone it is below 300 ms", began.elapsed());
    Ok(())
}

/// A peer that is slow and an origin that is slow are faster together; what the origin had sent before the peer was
/// found is not fetched again.
#[tokio::test]
async fn a_slow_peer_and_a_slow_origin_feed_one_file() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let (first, second, commit, large) = pair(&swarm, &origin, 24 * MIB).await?;
    swarm.set_faults(&first, Faults { bytes_per_second: Some(RATE), ..Faults::default() });
    origin.set_faults(OriginFaults { bytes_per_second: Some(RATE / 4), ..OriginFaults::default() });
    let report = pull(&second, commit).await?;
    let (by_peer, by_origin) = (from(&report, &first.id.short()), from(&report, "origin"));
    assert!(by_peer > 4 * MIB as u64, "{:?}", report.from);
    assert!(by_origin > MIB as u64, "{:?}", report.from);
    assert!(by_peer + by_origin < large.len() as u64 * 5 / 4, "{:?}", report.from);
    assert_eq!(second.read(commit, "w.bin", 0).await?, large);
    Ok(())
}

/// The only peer goes in the middle: the origin goes on.
#[tokio::test]
async fn when_the_peer_goes_the_origin_goes_on() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let (first, second, commit, large) = pair(&swarm, &origin, 12 * MIB).await?;
    let faults = Faults { bytes_per_second: Some(2 * RATE), cut_after: Some(RATE), ..Faults::default() };
    swarm.set_faults(&first, faults);
    let report = pull(&second, commit).await?;
    assert!(from(&report, "origin") > 0, "{:?}", report.from);
    assert_eq!(second.read(commit, "w.bin", 0).await?, large);
    Ok(())
}

/// The origin goes in the middle: the peer goes on.
#[tokio::test]
async fn when_the_origin_goes_the_peer_goes_on() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let (first, second, commit, large) = pair(&swarm, &origin, 12 * MIB).await?;
    swarm.set_faults(&first, Faults { bytes_per_second: Some(RATE), ..Faults::default() });
    origin.set_faults(OriginFaults { cut_after: Some(MIB as u64), ..OriginFaults::default() });
    let pulling = pull(&second, commit);
    let going = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        origin.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
    };
    let (report, ()) = tokio::join!(pulling, going);
    report?;
    assert_eq!(second.read(commit, "w.bin", 0).await?, large);
    Ok(())
}

/// An origin whose bytes do not fit the tree is found out at the group, and the file comes whole from the peer.
#[tokio::test]
async fn an_origin_that_lies_beside_an_honest_peer_changes_nothing() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let (first, second, commit, large) = pair(&swarm, &origin, 12 * MIB).await?;
    swarm.set_faults(&first, Faults { bytes_per_second: Some(RATE), ..Faults::default() });
    origin.set_faults(OriginFaults { wrong_byte_at: Some(9 * MIB as u64), ..OriginFaults::default() });
    pull(&second, commit).await?;
    assert_eq!(second.read(commit, "w.bin", 0).await?, large);
    Ok(())
}

/// A neighbour that claims a wrong root for the right digest does not keep the file from coming from the origin.
#[tokio::test]
async fn a_lying_peer_does_not_keep_the_origin_from_serving() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let large = noise(7, 3 * MIB);
    let commit = origin.publish(&tiny(), "main", &[("w.bin", &large)])?;
    let liar = swarm.node()?;
    let wrong = liar.store.blobs().import_bytes(&noise(9, 3 * MIB), hubless_store::DigestKind::Sha256)?;
    liar.store.blobs().share(&wrong.hash)?;
    let below = swarm.node_below(vec![origin.origin()], |_| {})?;
    let manifest = below.mirror.manifest(&Caller::anyone(), Some(&tiny()), commit).await?;
    let digest = manifest.entries()[0].digest();
    let (hash, size) = (wrong.hash, wrong.size);
    liar.store.catalogue().put_link(&Link { digest, hash, size, trust: LinkTrust::Proven })?;
    assert_eq!(below.read(commit, "w.bin", 0).await?, large);
    Ok(())
}

/// What is gated is not even looked for among peers.
#[tokio::test]
async fn peers_are_not_asked_for_what_is_gated() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let (first, second, commit, _) = pair(&swarm, &origin, 2 * MIB).await?;
    origin.restrict(&tiny(), Access::GatedAuto, &["hf_good"])?;
    let caller = Caller { token: Token::new("hf_good").ok(), ..Caller::anyone() };
    second.mirror.resolve(&tiny(), &Revision::main(), &caller).await?;
    // What a name means is no secret; who has the files is not asked.
    let about_files = || {
        let of_files =
            |d: &Delivery| (d.from, d.to) == (first.id, second.id) && d.what != Delivered::Statements;
        swarm.net.deliveries().iter().filter(|d| of_files(d)).count()
    };
    let before = about_files();
    let range = ByteRange::new(0, u64::MAX);
    let reader = second.mirror.open_file(&caller, &tiny(), commit, &"w.bin".parse()?, range).await?;
    assert_eq!(reader.range.len(), 2 * MIB as u64);
    assert_eq!(about_files(), before);
    Ok(())
}

/// The first look at what is private, by somebody who may read it, asks its origin alone.
#[tokio::test]
async fn no_peer_hears_of_what_is_private_by_its_first_look() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    origin.publish(&tiny(), "main", &[("s.txt", b"secret")])?;
    origin.restrict(&tiny(), Access::Private, &["hf_good"])?;
    let (peer, node) = (swarm.node()?, swarm.node_below(vec![origin.origin()], |_| {})?);
    let caller = Caller { token: Token::new("hf_good").ok(), ..Caller::anyone() };
    node.mirror.resolve(&tiny(), &Revision::main(), &caller).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked: Vec<Delivered> =
        swarm.net.deliveries().into_iter().filter(|d| d.from == peer.id).map(|d| d.what).collect();
    assert!(!asked.contains(&Delivered::Statements), "{asked:?}");
    Ok(())
}

/// What only the origin has is got some files at a time: some are whole when it goes. What a peer has is planned
/// together, though there is an origin: nodes that begin at the same moment do not all ask for the same few first.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_has_is_planned_together_and_what_it_lacks_is_got_some_files_at_a_time() -> TestResult {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let files: Vec<(String, Vec<u8>)> =
        (0..10).map(|n| (format!("model-{n}.safetensors"), noise(n, 4 * MIB))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    let commit = origin.publish(&tiny(), "main", &files)?;
    origin.set_faults(OriginFaults { bytes_per_second: Some(RATE / 8), ..OriginFaults::default() });

    let alone = swarm.node_below(vec![origin.origin()], |_| {})?;
    let many_opened = async {
        eventually("four files are asked for", async || files_opened(&origin) == 4).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, anyhow::Error>(files_opened(&origin))
    };
    tokio::select! {
        pulled = pull(&alone, commit) => anyhow::bail!("it was done first: {pulled:?}"),
        opened = many_opened => assert_eq!(opened?, 4),
    }

    origin.set_faults(OriginFaults::default());
    let first = swarm.node_below(vec![origin.origin()], |_| {})?;
    pull(&first, commit).await?;
    swarm.set_faults(&first, Faults { bytes_per_second: Some(RATE / 2), ..Faults::default() });
    origin.set_faults(OriginFaults { bytes_per_second: Some(RATE / 8), ..OriginFaults::default() });
    let second = swarm.node_below(vec![origin.origin()], |_| {})?;
    let begun = async || {
        let rows = second.store.catalogue().blobs(None, 100).unwrap_or_default();
        let partial = |hash| matches!(second.store.blobs().status(hash), Ok(BlobStatus::Partial { .. }));
        rows.iter().filter(|(hash, _)| partial(hash)).count() == files.len()
    };
    tokio::select! {
        pulled = pull(&second, commit) => anyhow::bail!("it was done first: {pulled:?}"),
        all = eventually("all files are begun", begun) => all,
    }
}

/// Files of which the origin was asked for bytes.
fn files_opened(origin: &MemoryOrigin) -> usize {
    let asked = origin.asked();
    let paths = asked.iter().filter_map(|asked| match &asked.what {
        Question::Open(path, _) => Some(path),
        _ => None,
    });
    paths.collect::<std::collections::BTreeSet<_>>().len()
}
