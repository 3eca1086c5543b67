//! Others are told of what a node holds: new things at once, many things together, parts for a short time.

mod common;

use std::time::{Duration, Instant};

use common::*;
use hubless_discovery::{DhtKey, Lifetime};
use hubless_limits::Limits;
use hubless_mirror::{Mirror, MirrorConfig, TraceTarget};
use hubless_store::Store;
use hubless_transfer::Faults;
use hubless_types::{CommitId, FileDigest, Timestamp};

/// Waits until `check` holds.
async fn until(what: &str, mut check: impl FnMut() -> bool) -> TestResult {
    let begun = Instant::now();
    while !check() {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn made_up(n: u32) -> CommitId {
    let mut id = [7; 20];
    id[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
    CommitId::from_bytes(id)
}

/// Puts `count` made-up commits into a node's queue.
fn queue(node: &Node, count: u32) -> TestResult {
    let mut batch = node.store.catalogue().batch();
    for commit in (0..count).map(made_up) {
        let lead = DhtKey::Commit(commit).place().lead().to_be_bytes();
        batch.share_commit(commit).schedule(&[&lead[..], b"c", commit.as_bytes()].concat(), START);
    }
    Ok(batch.commit()?)
}

/// A node's whole queue.
fn queued(store: &Store) -> anyhow::Result<Vec<(Timestamp, Vec<u8>)>> {
    Ok(store.catalogue().due(Timestamp(u64::MAX), usize::MAX)?)
}

/// Ends a node and opens what it kept anew, as after a restart.
async fn restarted(swarm: &Swarm, node: Node) -> anyhow::Result<Node> {
    let Node { mirror, store, key, id } = node;
    mirror.shutdown().await;
    swarm.net.leave(id);
    drop((mirror, store));
    let dir = swarm.dir.path().join("node1");
    let open = || Store::open(&dir, id, swarm.clock.clone());
    let begun = Instant::now();
    let store = loop {
        match open() {
            // Whoever held the old one lets go of it a moment later.
            Err(_) if begun.elapsed() < Duration::from_secs(10) => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            opened => break opened?,
        }
    };
    let mirror = Mirror::offline(store.clone(), key.clone(), swarm.clock.clone(), MirrorConfig::default());
    swarm.again(Node { mirror, store, key, id }, Limits::default())
}

/// A commit is announced within a second of being added, though thousands of older keys are due.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_does_not_wait_for_the_sweep() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, _b) = (swarm.node()?, swarm.node()?);
    let mut batch = a.store.catalogue().batch();
    for n in 0..5_000 {
        batch.share_commit(made_up(n)).schedule(&[&b"c"[..], made_up(n).as_bytes()].concat(), START);
    }
    batch.commit()?;
    let added = a.add(&swarm.folder("repo", &[("s.txt", b"small")])?).await?;
    let begun = Instant::now();
    let key = DhtKey::Commit(added.commit);
    until("the commit is announced", || swarm.discovery.announced(&a.id, &key).is_some()).await?;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    Ok(())
}

/// A queue that an older version left, of thousands of keys, is told in a few batches, and each key has its own moment
/// in the next round.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_keys_are_told_together() -> TestResult {
    const KEYS: u32 = 5_000;
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let catalogue = a.store.catalogue();
    let mut batch = catalogue.batch();
    for n in 0..KEYS {
        batch.share_commit(made_up(n)).schedule(&[&b"c"[..], made_up(n).as_bytes()].concat(), START);
    }
    batch.commit()?;
    a.add(&swarm.folder("repo", &[("s.txt", b"small")])?).await?;
    swarm.clock.advance(2);
    let _b = swarm.node()?;
    until("all are announced", || {
        (0..KEYS).all(|n| swarm.discovery.announced(&a.id, &DhtKey::Commit(made_up(n))).is_some())
    })
    .await?;
    let batches = swarm.discovery.batches(&a.id);
    assert!(batches.len() < 12, "{batches:?}");
    until("nothing is due", || a.mirror.status().is_ok_and(|status| status.announce.due == 0)).await?;
    let status = a.mirror.status()?.announce;
    assert!(status.made >= u64::from(KEYS) && status.failed == 0 && status.behind.is_none(), "{status:?}");

    // None is due before half a round is over, about half of them are when a whole one is, all after one and a half.
    let due = |hours: u64| catalogue.due(START.plus(hours * 3600), usize::MAX).map(|due| due.len());
    assert_eq!((due(10)?, due(34)? >= KEYS as usize), (0, true));
    assert!((KEYS as usize / 3..KEYS as usize * 2 / 3).contains(&due(22)?), "{}", due(22)?);
    Ok(())
}

/// Peers that only ask are told nothing: all keys stay due as they were, however many there are, until somebody comes who
/// keeps records.
#[tokio::test(flavor = "multi_thread")]
async fn among_peers_that_keep_no_records_no_key_is_put_off() -> TestResult {
    const KEYS: u32 = 2_000;
    let swarm = Swarm::new()?;
    let client = swarm.node()?;
    swarm.discovery.make_client(client.id);
    let a = swarm.node()?;
    queue(&a, KEYS)?;
    a.add(&swarm.folder("repo", &[("s.txt", b"small")])?).await?;
    let before = queued(&a.store)?;
    assert!(before.len() > KEYS as usize);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(queued(&a.store)? == before, "a key was put off");
    let status = a.mirror.status()?.announce;
    assert_eq!((status.made, status.failed, status.due), (0, 0, before.len() as u64));
    swarm.clock.advance(4 * 3600);
    let behind = a.mirror.status()?.announce.behind;
    assert_eq!(behind.as_deref(), Some("no node that is reached keeps records"));

    let _keeper = swarm.node()?;
    until("all are announced", || a.mirror.status().is_ok_and(|status| status.announce.due == 0)).await?;
    assert_eq!(a.mirror.status()?.announce.failed, 0);
    Ok(())
}

/// What others have no room for is not taken for announced: the node says so, and tries again, yet not all the time.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_has_room_for_are_tried_again() -> TestResult {
    const KEYS: u32 = 5_000;
    let swarm = Swarm::new()?;
    swarm.discovery.set_room(2_000);
    let (a, _b) = (swarm.node()?, swarm.node()?);
    queue(&a, KEYS)?;
    a.add(&swarm.folder("repo", &[("s.txt", b"small")])?).await?;
    let status = || a.mirror.status().map(|status| status.announce);
    until("all were tried", || status().is_ok_and(|s| s.due == 0 && s.made + s.failed > u64::from(KEYS)))
        .await?;
    let (made, failed, batches) = (status()?.made, status()?.failed, swarm.discovery.batches(&a.id).len());
    assert!((2_000..2_010).contains(&made) && (3_000..3_010).contains(&failed), "{made} {failed}");

    swarm.clock.advance(3 * 3600);
    until("it says so", || status().is_ok_and(|s| s.behind.is_some_and(|why| why.contains("no room"))))
        .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(swarm.discovery.batches(&a.id).len(), batches, "none is told along, or at once");

    swarm.discovery.set_room(10_000);
    swarm.clock.advance(5 * 3600);
    a.add(&swarm.folder("other", &[("t.txt", b"other")])?).await?;
    let announced = |n| swarm.discovery.announced(&a.id, &DhtKey::Commit(made_up(n))).is_some();
    until("all are announced", || (0..KEYS).all(announced)).await?;
    until("nothing is late", || status().is_ok_and(|s| s.behind.is_none() && s.late_secs == 0)).await
}

/// A node that was restarted goes on with its round: what it told others before is not told again.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_brings_no_key_forward() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, _b) = (swarm.node()?, swarm.node()?);
    queue(&a, 500)?;
    a.add(&swarm.folder("repo", &[("w.bin", &noise(1, 9 * MIB))])?).await?;
    let is_idle = || a.mirror.status().is_ok_and(|s| s.announce.due == 0 && s.announce.made > 500);
    until("all is announced", is_idle).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (before, told) = (queued(&a.store)?, swarm.discovery.batches(&a.id));
    assert!(before.len() > 500 && before[0].0 > START.plus(10 * 3600));

    swarm.clock.advance(3 * 3600);
    let a = restarted(&swarm, a).await?;
    assert!(queued(&a.store)? == before, "a key is due at another time");
    // When something new has been announced, the queue has been looked at.
    let added = a.add(&swarm.folder("other", &[("t.txt", b"other")])?).await?;
    let key = DhtKey::Commit(added.commit);
    until("what is new is announced", || swarm.discovery.announced(&a.id, &key).is_some()).await?;
    until("nothing is due", || a.mirror.status().is_ok_and(|s| s.announce.due == 0)).await?;
    let after = queued(&a.store)?;
    assert!(before.iter().all(|row| after.contains(row)), "each is due when it was");
    let batches = swarm.discovery.batches(&a.id).split_off(told.len());
    assert!(batches.iter().all(|keys| *keys == 1) && (1..4).contains(&batches.len()), "{batches:?}");
    Ok(())
}

/// A node that reaches nobody says that others forget what it holds, and why.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_falls_behind_says_so() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    a.add(&swarm.folder("repo", &[("s.txt", b"small")])?).await?;
    assert_eq!(a.mirror.status()?.announce.behind, None);
    swarm.clock.advance(4 * 3600);
    until("the cause is known", || {
        let behind = a.mirror.status().ok().and_then(|status| status.announce.behind);
        behind.is_some_and(|why| why.contains("no other node is reached"))
    })
    .await?;
    assert_eq!(a.mirror.status()?.announce.late_secs, 4 * 3600);
    let _b = swarm.node()?;
    until("it has caught up", || a.mirror.status().is_ok_and(|s| s.announce.behind.is_none())).await
}

/// A node that is fetching a large file is named for a short time, from when the first of it came over a line however
/// thin, and for long when it has all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_announced_for_a_short_time() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let weights = noise(1, 12 * MIB);
    let added = a.add(&swarm.folder("repo", &[("w.bin", &weights)])?).await?;
    let manifest = a.mirror.manifest(&Caller::anyone(), None, added.commit).await?;
    let digest = manifest.entry(&"w.bin".parse()?).map(|entry| entry.digest());
    let Some(FileDigest::Sha256(shard)) = digest else { anyhow::bail!("no shard") };
    // At first so little comes that there is nothing to tell of when a part would be announced.
    let rate = |rate| Faults { bytes_per_second: Some(rate), ..Faults::default() };
    swarm.set_faults(&a, rate(4 * 1024));
    let from = [a.id];
    let pull = b.pull_from(&from);
    let part = async {
        let announced = || swarm.discovery.announced(&b.id, &DhtKey::Shard(shard));
        tokio::time::sleep(Duration::from_secs(1)).await;
        swarm.clock.advance(6);
        let other = b.add(&swarm.folder("other", &[("s.txt", b"small")])?).await?;
        let commit = DhtKey::Commit(other.commit);
        until("the queue was looked at", || swarm.discovery.announced(&b.id, &commit).is_some()).await?;
        until("nothing is due", || b.mirror.status().is_ok_and(|status| status.announce.due == 0)).await?;
        assert_eq!(announced(), None);
        swarm.set_faults(&a, rate(MIB as u64));
        let begun = Instant::now();
        while announced().is_none() && begun.elapsed() < Duration::from_secs(20) {
            swarm.clock.advance(6);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(announced())
    };
    let (pulled, part) = tokio::join!(pull, part);
    pulled?;
    assert_eq!(part?, Some(Lifetime::Partial));
    until("the whole is announced", || {
        swarm.discovery.announced(&b.id, &DhtKey::Shard(shard)) == Some(Lifetime::Whole)
    })
    .await
}

/// A trace names who says what, who was named, and what these hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_shows_every_step() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let b = swarm.node_trusting(vec![a.id])?;
    let added = a.add(&swarm.folder("repo", &[("w.bin", &noise(1, 9 * MIB))])?).await?;
    a.announced(&swarm, &b, DhtKey::Commit(added.commit)).await?;
    let target = format!("{}@main", tiny()).parse::<TraceTarget>()?;
    let report = b.mirror.trace(target, &Caller::anyone()).await?;
    let resolved = report.name.as_ref().and_then(|name| name.resolved.as_ref());
    assert_eq!(resolved.map(|resolved| resolved.commit), Some(added.commit));
    assert_eq!(report.lookups.len(), 2);
    assert_eq!(report.lookups[1].trace.providers[0].node, a.id);
    assert!(report.lookups[1].holders[0].holds.as_ref().is_some_and(|holds| holds.contains("the manifest")));
    Ok(())
}
