//! Many nodes that fetch the same files from one origin at the same moment: it sends each file once.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::*;
use futures::future::join_all;
use hubless_mirror::*;
use hubless_testkit::{MemoryOrigin, OriginFaults};
use hubless_types::*;
use tokio::time::Instant;

/// Nodes of a crowd.
const NODES: usize = 8;

/// A swarm below one origin that has these files; nobody has any of them.
struct Crowd {
    swarm: Swarm,
    origin: MemoryOrigin,
    nodes: Vec<Node>,
    commit: CommitId,
    files: Vec<(String, Vec<u8>)>,
}

impl Crowd {
    fn new(count: usize, size: usize) -> Result<Self> {
        let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
        let named = |n: usize| (format!("w{n:02}.bin"), noise(n as u64 + 1, size));
        let files: Vec<(String, Vec<u8>)> = (0..count).map(named).collect();
        let published: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
        let commit = origin.publish(&tiny(), "main", &published)?;
        let patient = |config: &mut MirrorConfig| config.claimed_wait = Duration::from_secs(60);
        let below = |_| swarm.node_below(vec![origin.origin()], patient);
        let nodes = (0..NODES).map(below).collect::<Result<Vec<_>>>()?;
        Ok(Self { swarm, origin, nodes, commit, files })
    }

    fn paced(&self, bytes_per_second: u64) {
        let faults = OriginFaults { bytes_per_second: Some(bytes_per_second), ..OriginFaults::default() };
        self.origin.set_faults(faults);
    }

    async fn pull(&self, node: &Node) -> Result<PullReport, MirrorError> {
        node.mirror.pull(PullRequest::all(tiny(), self.commit.into()), ignore()).await
    }

    fn content(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Copies of the content that the origin sent.
    fn copies(&self) -> f64 {
        self.origin.bytes_sent() as f64 / self.content() as f64
    }

    async fn is_right_at(&self, node: &Node) -> TestResult {
        for (path, bytes) in &self.files {
            assert!(node.read(self.commit, path, 0).await? == *bytes, "{path}");
        }
        Ok(())
    }
}

/// Eight nodes that start together on one large file: each has part of it from the origin, and the rest from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_sends_one_large_file_once() -> TestResult {
    let crowd = Crowd::new(1, 64 * MIB)?;
    crowd.paced(4 * MIB as u64);
    let began = Instant::now();
    for pulled in join_all(crowd.nodes.iter().map(|node| crowd.pull(node))).await {
        pulled?;
    }
    eprintln!("{:.3} copies in {:?}", crowd.copies(), began.elapsed());
    assert!(crowd.copies() <= 1.05, "{:.3} copies", crowd.copies());
    for node in &crowd.nodes {
        crowd.is_right_at(node).await?;
    }
    Ok(())
}

/// The same with a repository of sixteen files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_sends_sixteen_files_once() -> TestResult {
    let crowd = Crowd::new(16, 4 * MIB)?;
    crowd.paced(4 * MIB as u64);
    let began = Instant::now();
    for pulled in join_all(crowd.nodes.iter().map(|node| crowd.pull(node))).await {
        pulled?;
    }
    eprintln!("{:.3} copies in {:?}", crowd.copies(), began.elapsed());
    // By the clock of a busy machine a few of the small files are asked for twice.
    assert!(crowd.copies() <= 1.2, "{:.3} copies", crowd.copies());
    for node in &crowd.nodes {
        crowd.is_right_at(node).await?;
    }
    Ok(())
}

/// One of them goes half way: what it had asked for is asked for by others, and no more than that again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_goes_costs_its_own_part_at_most() -> TestResult {
    let crowd = Crowd::new(1, 64 * MIB)?;
    crowd.paced(MIB as u64);
    let (gone, others) = crowd.nodes.split_first().unwrap();
    let pulls = join_all(others.iter().map(|node| crowd.pull(node)));
    let goes = async {
        let _ = tokio::time::timeout(Duration::from_secs(3), crowd.pull(gone)).await;
        crowd.swarm.cut(gone);
        gone.mirror.shutdown().await;
    };
    let (pulled, ()) = tokio::join!(pulls, goes);
    for pulled in pulled {
        pulled?;
    }
    eprintln!("{:.3} copies", crowd.copies());
    // An eighth of the file is the part of each.
    assert!(crowd.copies() <= 1.15, "{:.3} copies", crowd.copies());
    for node in others {
        crowd.is_right_at(node).await?;
    }
    Ok(())
}

/// One that says what it fetches and gives nothing of it costs a moment, once; afterwards nobody listens to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_talks_and_gives_nothing_is_passed_over() -> TestResult {
    let crowd = Crowd::new(2, 16 * MIB)?;
    crowd.paced(4 * MIB as u64);
    let (talker, others) = crowd.nodes.split_first().unwrap();
    let manifest = others[0].mirror.manifest(&Caller::anyone(), Some(&tiny()), crowd.commit).await?;
    // It claims that all of both files is on its way to it, for as long as anybody asks.
    let mut seats = Vec::new();
    for entry in manifest.entries() {
        let seat = talker.store.blobs().join_crowd(entry.digest(), entry.size).unwrap();
        seat.awaits(GroupSet::whole(entry.size));
        seats.push(seat);
    }
    let mut took = Vec::new();
    for (path, bytes) in &crowd.files {
        let began = Instant::now();
        let read = join_all(others[..2].iter().map(|node| node.read(crowd.commit, path, 0))).await;
        took.push(began.elapsed());
        for read in read {
            assert!(read? == *bytes);
        }
    }
    eprintln!("{took:?}");
    assert!(took[0] < Duration::from_secs(15), "{took:?}");
    assert!(took[1] + Duration::from_secs(2) < took[0], "it is not waited for again: {took:?}");
    assert!(crowd.copies() <= 1.1, "{:.3} copies", crowd.copies());
    Ok(())
}

/// One whose parts are others than the origin's: everybody ends with the right bytes, and does not take its again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hands_on_wrong_parts_is_found_out() -> TestResult {
    let crowd = Crowd::new(2, 16 * MIB)?;
    crowd.paced(4 * MIB as u64);
    let (liar, others) = crowd.nodes.split_first().unwrap();
    let manifest = others[0].mirror.manifest(&Caller::anyone(), Some(&tiny()), crowd.commit).await?;
    let mut seats = Vec::new();
    for entry in manifest.entries() {
        let (draft, seat) = (
            liar.store.blobs().draft(entry.digest(), entry.size)?,
            liar.store.blobs().join_crowd(entry.digest(), entry.size).unwrap(),
        );
        seat.fills(&draft);
        draft.writer(0).push(&noise(99, 2 * MIB))?;
        seat.offer(&draft, 0..128)?;
        seats.push((seat, draft));
    }
    let mut sent = Vec::new();
    for (path, bytes) in &crowd.files {
        let before = crowd.swarm.net.sent_by(liar.id);
        for read in join_all(others[..3].iter().map(|node| node.read(crowd.commit, path, 0))).await {
            assert!(read? == *bytes);
        }
        sent.push(crowd.swarm.net.sent_by(liar.id) - before);
    }
    eprintln!("{sent:?}");
    assert!(sent[0] >= 3 * 2 * MIB as u64 && sent[1] < MIB as u64, "{sent:?}");
    Ok(())
}

/// What an origin gives to a token alone is nobody else's: no seat, no question.
#[tokio::test]
async fn what_is_gated_is_fetched_alone() -> TestResult {
    let crowd = Crowd::new(1, 4 * MIB)?;
    crowd.origin.restrict(&tiny(), Access::GatedAuto, &["hf_good"])?;
    let caller = Caller { token: Token::new("hf_good").ok(), ..Caller::anyone() };
    let [first, second, ..] = &crowd.nodes[..] else { unreachable!() };
    for node in [first, second] {
        node.mirror.resolve(&tiny(), &Revision::main(), &caller).await?;
    }
    crowd.swarm.net.listen();
    let read = async |node: &Node| {
        let range = ByteRange::new(0, u64::MAX);
        let path = crowd.files[0].0.parse()?;
        node.mirror.open_file(&caller, &tiny(), crowd.commit, &path, range).await?;
        anyhow::Ok(())
    };
    let (one, other) = tokio::join!(read(first), read(second));
    one?;
    other?;
    let part = &crowd.files[0].1[MIB..MIB + 64];
    assert!(!crowd.swarm.net.heard().windows(64).any(|window| window == part));
    assert!(crowd.copies() >= 2.0);
    Ok(())
}

/// One that is alone, with others connected that want nothing, loses no more than their head start.
#[tokio::test]
async fn one_that_is_alone_loses_no_time() -> TestResult {
    let crowd = Crowd::new(1, 2 * MIB)?;
    let node = &crowd.nodes[0];
    node.mirror.manifest(&Caller::anyone(), Some(&tiny()), crowd.commit).await?;
    let began = Instant::now();
    node.read(crowd.commit, &crowd.files[0].0, 0).await?;
    eprintln!("{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}; alone it is below 400 ms", began.elapsed());
    Ok(())
}
