//! Others are told of what a node holds: new things at once, many things together, parts for a short time.

mod common;

use std::time::{Duration, Instant};

use common::*;
use hubless_discovery::{DhtKey, Lifetime};
use hubless_mirror::TraceTarget;
use hubless_transfer::Faults;
use hubless_types::{CommitId, FileDigest};

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
    assert!(report.holders[0].holds.as_ref().is_some_and(|holds| holds.contains("the manifest")));
    Ok(())
}
