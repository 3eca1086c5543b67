//! Origins as sources: what no node has, what peers have too, and what goes wrong on the way.

mod common;

use std::time::Duration;

use anyhow::{Context as _, Result};
use common::*;
use hubless_mirror::*;
use hubless_store::BlobStatus;
use hubless_testkit::{Faults, MemoryOrigin, OriginFaults, Question};
use hubless_types::*;

/// A node below `origin`, and a commit there with a small and a large file.
fn scene(swarm: &Swarm, size: usize) -> Result<(MemoryOrigin, Node, CommitId, Vec<u8>)> {
    let (origin, large) = (MemoryOrigin::new("https://hub.test"), noise(1, size));
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("w.bin", &large)];
    let commit = origin.publish(&tiny(), "main", &files)?;
    let node = swarm.node_below(vec![origin.origin()], |_| {})?;
    Ok((origin, node, commit, large))
}

/// The ranges that an origin was asked for, by path.
fn ranges(origin: &MemoryOrigin, path: &str) -> Vec<ByteRange> {
    let of_path = |asked: hubless_testkit::Asked| match asked.what {
        Question::Open(p, range) if p == path => Some(range),
        _ => None,
    };
    origin.asked().into_iter().filter_map(of_path).collect()
}

/// A file that no node ever had comes from the origin: one bundle, one request a file, and nothing the second time.
#[tokio::test]
async fn what_no_node_has_comes_from_the_origin() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, node, commit, large) = scene(&swarm, 3 * MIB + 5)?;
    assert_eq!(node.read(commit, "w.bin", 0).await?, large);
    assert_eq!(node.read(commit, "config.json", 0).await?, b"{}");
    let asked = origin.asked();
    assert_eq!(asked.iter().filter(|a| matches!(a.what, Question::Bundle(_))).count(), 1);
    assert_eq!(ranges(&origin, "w.bin"), [ByteRange::whole(large.len() as u64)]);
    // What is that small came with the commit.
    assert!(ranges(&origin, "config.json").is_empty());

    origin.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
    assert_eq!(node.read(commit, "w.bin", MIB as u64).await?, large[MIB..]);
    Ok(())
}

/// A large file is fetched by several ranges, and what an interrupted fetch left is not asked for again.
#[tokio::test]
async fn a_broken_fetch_goes_on_where_it_was() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, node, commit, large) = scene(&swarm, 40 * MIB)?;
    let cut = OriginFaults { cut_after: Some(3 * MIB as u64), ..OriginFaults::default() };
    origin.set_faults(cut);
    let reading = node.read(commit, "w.bin", 0);
    assert_eq!(reading.await?, large);
    let asked: u64 = origin.bytes_sent();
    assert!(asked < 41 * MIB as u64, "{asked} bytes were sent for 40 MiB");
    assert!(ranges(&origin, "w.bin").iter().all(|r| r.len() <= 32 * MIB as u64));
    Ok(())
}

/// A wrong byte from the origin: nothing of the file is shown, kept or announced, and the status tells of it.
#[tokio::test]
async fn an_origin_that_lies_is_found_out() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, node, commit, large) = scene(&swarm, 2 * MIB)?;
    origin.set_faults(OriginFaults { wrong_byte_at: Some(70_000), ..OriginFaults::default() });
    let error = node.read(commit, "w.bin", 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    let status = node.mirror.status()?;
    assert_eq!((status.partial_bytes, status.origins[0].wrong), (0, 1));
    assert!(status.origins[0].last_wrong.as_deref().is_some_and(|said| said.contains("w.bin")));

    origin.set_faults(OriginFaults::default());
    assert_eq!(node.read(commit, "w.bin", 0).await?, large);
    Ok(())
}

/// The next origin is asked where the first lies, has nothing, or is silent.
#[tokio::test]
async fn the_next_origin_is_asked() -> TestResult {
    let swarm = Swarm::new()?;
    let (first, second) = (MemoryOrigin::new("https://first.test"), MemoryOrigin::new("https://second.test"));
    let (small, large) = (noise(1, 3000), noise(2, 2 * MIB));
    let files: [(&str, &[u8]); 2] = [("s.bin", &small), ("w.bin", &large)];
    let commit = second.publish(&tiny(), "main", &files)?;
    let node = swarm.node_below(vec![first.origin(), second.origin()], |_| {})?;
    assert_eq!(node.read(commit, "s.bin", 0).await?, small, "the first knows no such repository");

    assert_eq!(first.publish(&tiny(), "main", &files)?, commit, "the same files are the same commit");
    first.set_faults(OriginFaults { wrong_byte_at: Some(1), ..OriginFaults::default() });
    assert_eq!(node.read(commit, "w.bin", 0).await?, large);
    assert_eq!(node.mirror.status()?.origins.iter().map(|o| o.wrong).collect::<Vec<_>>(), [1, 0]);
    Ok(())
}

/// An origin that is limited, gone or forbids says so in the error, and the error's kind follows.
#[tokio::test]
async fn an_origins_refusal_is_told() -> TestResult {
    use hubless_origin::OriginErrorKind as Kind;
    let swarm = Swarm::new()?;
    let (origin, node, commit, _) = scene(&swarm, 2 * MIB)?;
    for (kind, expected) in [
        (Kind::Gated, ErrorKind::Gated),
        (Kind::Disabled, ErrorKind::Disabled),
        (Kind::BadToken, ErrorKind::BadToken),
    ] {
        origin.set_faults(OriginFaults { refuses_content: Some(kind), ..OriginFaults::default() });
        let error = node.read(commit, "w.bin", 0).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
        assert!(error.to_string().contains("hub.test"), "{error}");
    }
    Ok(())
}

/// What is open is fetched without the caller's token, even if one is shown.
#[tokio::test]
async fn an_open_repository_sees_no_token() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, node, commit, large) = scene(&swarm, 2 * MIB)?;
    let caller = caller("hf_secret");
    assert_eq!(read_as(&node, &caller, commit, "w.bin").await?, large);
    assert!(origin.asked().iter().all(|asked| asked.token.is_none()));
    Ok(())
}

fn caller(token: &str) -> Caller {
    Caller { token: Token::new(token).ok(), ..Caller::anyone() }
}

async fn read_as(node: &Node, caller: &Caller, commit: CommitId, path: &str) -> Result<Vec<u8>, MirrorError> {
    use futures::TryStreamExt as _;
    let range = ByteRange::new(0, u64::MAX);
    let reader = node.mirror.open_file(caller, &tiny(), commit, &path.parse()?, range).await?;
    reader.body.map_ok(|b| b.to_vec()).try_concat().await
}

/// Gated content: fetched with the caller's token, served from here only to whom the origin lets in at that moment,
/// and never given to peers.
#[tokio::test]
async fn gated_content_is_asked_for_each_time() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, node, commit, large) = scene(&swarm, 2 * MIB)?;
    origin.restrict(&tiny(), Access::GatedManual, &["hf_good"])?;
    node.store
        .catalogue()
        .put_facts(&tiny(), &RepoFacts { access: Access::GatedManual, ..RepoFacts::default() })?;
    assert_eq!(read_as(&node, &caller("hf_good"), commit, "w.bin").await?, large);

    origin.user("hf_other");
    for stranger in [Caller::anyone(), caller("hf_other")] {
        let error = read_as(&node, &stranger, commit, "w.bin").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gated, "{error}");
    }
    let before = origin.asked().len();
    assert_eq!(read_as(&node, &caller("hf_good"), commit, "w.bin").await?, large);
    let asked = origin.asked().split_off(before);
    assert_eq!(asked.iter().map(|a| &a.what).collect::<Vec<_>>(), [&Question::MayRead]);

    origin.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
    let error = read_as(&node, &caller("hf_good"), commit, "w.bin").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gated);
    assert!(error.to_string().contains("cannot be asked"), "{error}");
    unshared(&node, commit)
}

/// A repository that turns out to want a token, though nobody said so, is closed from then on.
#[tokio::test]
async fn what_came_by_a_token_is_closed_from_then_on() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, node, commit, large) = scene(&swarm, 2 * MIB)?;
    origin.restrict(&tiny(), Access::Private, &["hf_good"])?;
    let error = read_as(&node, &Caller::anyone(), commit, "w.bin").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound(_)), "{error}");
    assert_eq!(read_as(&node, &caller("hf_good"), commit, "w.bin").await?, large);
    let stranger = read_as(&node, &Caller::anyone(), commit, "w.bin").await;
    assert!(matches!(stranger.unwrap_err().kind(), ErrorKind::NotFound(_)));
    let listing = node.mirror.manifest(&Caller::anyone(), Some(&tiny()), commit).await;
    assert!(listing.is_err(), "not even its files are named to strangers");
    unshared(&node, commit)
}

/// A repository is gated at its origin while a peer goes on giving it: of a file of which the peer sends the tree, and the
/// origin some to a token, peers are given nothing, though the fetch comes to no end; and whoever reads is asked about.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_a_token_is_nobody_elses_though_the_fetch_fails() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, first, commit, _) = scene(&swarm, 6 * MIB)?;
    first.read(commit, "w.bin", 0).await?;
    let node = swarm.node_below(vec![origin.origin()], |config| {
        config.claimed_wait = Duration::from_secs(60);
    })?;
    let manifest = node.mirror.manifest(&Caller::anyone(), Some(&tiny()), commit).await?;
    let digest = manifest.entry(&"w.bin".parse()?).context("the file")?.digest();
    let link = first.store.catalogue().link(&digest)?.context("it was hashed")?;
    assert!(first.store.blobs().is_shared(&link.hash)? && node.mirror.is_open(&tiny())?);

    origin.restrict(&tiny(), Access::GatedManual, &["hf_good"])?;
    let sent = MIB as u64 / 2;
    origin.set_faults(OriginFaults { stall_after: Some(sent), ..OriginFaults::default() });
    let rate = |rate| Faults { bytes_per_second: Some(rate), ..Faults::default() };
    // What it has it says once the origin is at it.
    swarm.set_faults(&first, rate(20));
    let (reader, before) = (caller("hf_good"), origin.bytes_sent());
    let blobs = node.store.blobs();
    let has_tree = || blobs.partial(link.hash, link.size).is_ok_and(|partial| partial.has_tree());
    let both = async {
        eventually("the origin sent some", async || origin.bytes_sent() - before >= sent).await?;
        swarm.set_faults(&first, rate(64 * 1024));
        eventually("the peer sent the tree", async || has_tree()).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok::<_, anyhow::Error>(())
    };
    tokio::select! {
        read = read_as(&node, &reader, commit, "w.bin") => anyhow::bail!("it came: {:?}", read.map(|all| all.len())),
        both = both => both?,
    }
    let here = match blobs.status(&link.hash)? {
        BlobStatus::Partial { have, .. } => have.bytes(link.size),
        _ => 0,
    };
    assert!(here < sent / 2, "{here} bytes are with what peers sent");
    assert!(!node.mirror.is_open(&tiny())?);
    assert!(node.read(commit, "w.bin", 0).await.is_err());
    unshared(&node, commit)
}

/// Nothing of `commit` is given to peers or announced.
fn unshared(node: &Node, commit: CommitId) -> TestResult {
    let catalogue = node.store.catalogue();
    assert!(!catalogue.is_commit_shared(commit)?);
    let manifest = catalogue.manifest(commit)?.context("it is here")?;
    for entry in manifest.entries() {
        if let Some(link) = catalogue.link(&entry.digest())? {
            assert!(!node.store.blobs().is_shared(&link.hash)?, "{}", entry.path);
        }
    }
    assert_eq!(node.mirror.status()?.announce.keys, 0);
    Ok(())
}

/// A file that takes long is answered with a time to come back, from the measured rate, and is there then.
#[tokio::test]
async fn a_slow_origin_means_come_back_later() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, large) = (MemoryOrigin::new("https://hub.test"), noise(1, 2 * MIB));
    let commit = origin.publish(&tiny(), "main", &[("w.bin", &large)])?;
    let node = swarm.node_below(vec![origin.origin()], |config| {
        config.claimed_wait = Duration::from_millis(300);
    })?;
    origin.set_faults(OriginFaults { bytes_per_second: Some(2 * MIB as u64), ..OriginFaults::default() });
    let error = node.read(commit, "w.bin", 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.retry_after().is_some_and(|wait| wait <= Duration::from_secs(3)), "{error}");
    eventually("it is here", async || node.read(commit, "w.bin", 0).await.is_ok()).await?;
    assert_eq!(node.read(commit, "w.bin", 0).await?, large);
    Ok(())
}

/// An origin that freezes is named to whoever waits for it; when it goes on, what had come is counted to nobody else.
#[tokio::test]
async fn who_waits_is_told_for_whom() -> TestResult {
    let swarm = Swarm::new()?;
    let (origin, node, commit, large) = scene(&swarm, 8 * MIB)?;
    let kept = 3 * MIB as u64;
    origin.set_faults(OriginFaults { stall_after: Some(kept), ..OriginFaults::default() });
    let (sink, mut progress) = tokio::sync::mpsc::channel(PROGRESS_QUEUE);
    let told = async {
        while let Some(step) = progress.recv().await {
            if let Progress::Note { text } = step
                && text.starts_with("nothing came for 5 s")
            {
                return text;
            }
        }
        String::new()
    };
    let request = PullRequest::all(tiny(), commit.into());
    let text = tokio::select! {
        report = node.mirror.pull(request.clone(), sink) => anyhow::bail!("it ended: {report:?}"),
        text = told => text,
    };
    assert!(text.contains("waiting for https://hub.test"), "{text}");

    // The origin's stream is given up, so that what is here of the file is nobody's any more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    origin.set_faults(OriginFaults::default());
    let report = node.mirror.pull(request, ignore()).await?;
    let from: u64 = report.from.iter().map(|(_, bytes)| bytes).sum();
    let here = report.from.iter().find(|(name, _)| name == "here").map_or(0, |(_, bytes)| *bytes);
    assert_eq!(from, report.bytes, "{:?}", report.from);
    assert!(from >= large.len() as u64, "{:?}", report.from);
    assert!(here >= kept - GROUP_BYTES, "{:?}", report.from);
    Ok(())
}
