//! Caps in a swarm: what they hold back is nobody's fault, what they count outlives a restart, and what they stop is told.

mod common;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use common::*;
use futures::{StreamExt as _, stream};
use hubless_limits::{Direction, Each, Limits, Rate, Settings, Use, Volume};
use hubless_mirror::fetch::{FetchConfig, FetchError, Fetcher, Want};
use hubless_mirror::{ErrorKind, LimitsRequest, MirrorError};
use hubless_store::{DigestKind, Imported, Store};
use hubless_transfer::{Delivered, MemoryNet};
use hubless_types::{ManualClock, NodeId, Provider, ProviderSource, Timestamp};
use jiff::tz::TimeZone;
use tempfile::TempDir;
use tokio::time::Instant;

const MB: u64 = 1_000_000;

fn capped(change: impl FnOnce(&mut Settings)) -> Limits {
    let mut settings = Settings::default();
    change(&mut settings);
    let limits = Limits::new(settings, TimeZone::UTC);
    limits.turn(START);
    limits
}

/// A store on the network in memory.
struct Disk {
    node: NodeId,
    store: Store,
    _dir: TempDir,
}

impl Disk {
    fn new(seed: u8) -> Result<Self> {
        let (dir, node) = (tempfile::tempdir()?, NodeId::from_bytes([seed; 32]));
        let store = Store::open(dir.path(), node, Arc::new(ManualClock::at(Timestamp(1_800_000_000))))?;
        Ok(Self { node, store, _dir: dir })
    }

    fn provider(&self) -> Provider {
        Provider { node: self.node, addrs: Vec::new(), source: ProviderSource::Dht }
    }

    fn add(&self, bytes: &[u8]) -> Result<Imported> {
        let taken = self.store.blobs().import_bytes(bytes, DigestKind::Sha256)?;
        self.store.blobs().share(&taken.hash)?;
        Ok(taken)
    }
}

/// Four peers that could send all of it at once, and a cap of 50 kB/s here: the file takes as long as the cap says, and
/// nobody is taken for slow or silent: nothing is asked for twice, and no request is broken off.
#[tokio::test(start_paused = true)]
async fn a_low_cap_is_no_peers_fault() -> TestResult {
    for rate in [10_000, 50_000, 400_000] {
        let net = MemoryNet::new();
        let peers = [Disk::new(1)?, Disk::new(2)?, Disk::new(3)?, Disk::new(4)?];
        let bytes = noise(rate, 30 * rate as usize);
        let mut file = None;
        for peer in &peers {
            net.join(peer.node, peer.store.clone());
            file = Some(peer.add(&bytes)?);
        }
        let Some(file) = file else { continue };
        let me = Disk::new(9)?;
        let limits = capped(|s| s.rates.down = Rate::per_second(rate));
        let client = net.join_within(me.node, me.store.clone(), limits.clone());
        let config = FetchConfig { limits: limits.clone(), ..FetchConfig::default() };
        let fetcher = Fetcher::new(me.store.clone(), client, config);
        let feed: Vec<Provider> = peers.iter().map(Disk::provider).collect();
        let begun = Instant::now();
        let handle =
            fetcher.fetch(Want { hash: file.hash, size: file.size }, stream::iter(feed).boxed()).await?;
        handle.wait_done().await?;
        let took = begun.elapsed().as_secs_f64();
        assert!((29.0..32.0).contains(&took), "{took} s at {rate} B/s where 30 s are the cap's");

        let segments: Vec<_> =
            net.deliveries().into_iter().filter(|d| matches!(d.what, Delivered::Segment { .. })).collect();
        let sent: u64 = segments.iter().map(|d| d.bytes).sum();
        // Parents take 64 bytes for each 16 KiB, and a few more for each request's path.
        assert!(sent < file.size * 103 / 100, "{sent} bytes for {}: something came twice", file.size);
        let broken = segments.iter().filter(|d| is_broken(&d.what, d.bytes, file.size)).count();
        assert_eq!(broken, 0, "of {} requests at {rate} B/s", segments.len());
        fetcher.shutdown().await;
    }
    Ok(())
}

/// Whether a request was broken off: fewer bytes came than its groups have.
fn is_broken(what: &Delivered, bytes: u64, size: u64) -> bool {
    let Delivered::Segment { groups, .. } = what else { return false };
    bytes < hubless_types::ByteRange::of_groups(groups.clone(), size).len()
}

/// A peer that really falls silent under a cap is still passed over.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_passed_over_under_a_cap_too() -> TestResult {
    let net = MemoryNet::new();
    let (silent, other, me) = (Disk::new(1)?, Disk::new(2)?, Disk::new(9)?);
    let bytes = noise(5, 2_000_000);
    let file = silent.add(&bytes)?;
    other.add(&bytes)?;
    net.join(silent.node, silent.store.clone());
    net.join(other.node, other.store.clone());
    net.set_faults(
        silent.node,
        hubless_transfer::Faults { stall_after: Some(100_000), ..Default::default() },
    );
    let limits = capped(|s| s.rates.down = Rate::per_second(200_000));
    let client = net.join_within(me.node, me.store.clone(), limits.clone());
    let fetcher = Fetcher::new(me.store.clone(), client, FetchConfig { limits, ..FetchConfig::default() });
    let feed = stream::iter([silent.provider(), other.provider()]).boxed();
    let begun = Instant::now();
    fetcher.fetch(Want { hash: file.hash, size: file.size }, feed).await?.wait_done().await?;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(net.sent(other.node, me.node) > 1_800_000);
    fetcher.shutdown().await;
    Ok(())
}

/// The month's bytes run out in the middle of a fetch: it ends and says why, what is verified stays, and with a higher cap
/// the same fetch goes on from there.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_the_month_ends_goes_on_when_there_is_more() -> TestResult {
    let net = MemoryNet::new();
    let (peer, me) = (Disk::new(1)?, Disk::new(9)?);
    let file = peer.add(&noise(6, 8_000_000))?;
    net.join(peer.node, peer.store.clone());
    let limits = capped(|s| {
        s.rates.down = Rate::per_second(MB);
        s.months.down = Volume::of(4 * MB);
    });
    let client = net.join_within(me.node, me.store.clone(), limits.clone());
    let config = FetchConfig { limits: limits.clone(), ..FetchConfig::default() };
    let fetcher = Fetcher::new(me.store.clone(), client, config);
    let want = Want { hash: file.hash, size: file.size };
    let feed = || stream::iter([peer.provider()]).boxed();
    let ended = fetcher.fetch(want, feed()).await?.wait_done().await;
    assert!(matches!(ended, Err(FetchError::Spent { .. })), "{ended:?}");
    let used = limits.down().used();
    assert!((3_960_000..4 * MB + 300_000).contains(&used), "{used} of 4 MB");
    let asked = (Instant::now(), net.sent(peer.node, me.node));
    let again = fetcher.fetch(want, feed()).await?.wait_done().await;
    assert!(matches!(again, Err(FetchError::Spent { .. })), "{again:?}");
    assert!(asked.0.elapsed() < Duration::from_secs(1), "at once");
    assert_eq!(net.sent(peer.node, me.node), asked.1, "nobody is asked");

    limits.reconfigure(Settings::default(), START);
    fetcher.fetch(want, feed()).await?.wait_done().await?;
    let all = net.sent(peer.node, me.node);
    assert!(all < file.size * 108 / 100, "{all}: what was here was fetched anew");
    fetcher.shutdown().await;
    Ok(())
}

/// What a mirror counted goes on after a restart; a used-up month stops what must be fetched, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn counts_outlive_a_restart_and_what_is_held_is_served() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let (held, wanted) = (noise(1, 3 * MIB), noise(2, 3 * MIB));
    let added = a.add(&swarm.folder("one", &[("held.bin", &held)])?).await?;
    let month = |cap: u64| capped(|s| s.months.down = Volume::of(cap));
    let b = swarm.node_within(month(4 * MB), Vec::new(), |_| {})?;
    b.pull_from(&[a.id]).await?;
    let counted = b.mirror.limits().down.month_used;
    assert!(counted > 3 * MB, "{counted}");
    b.mirror.shutdown().await;

    let b = swarm.again(b, month(3 * MB))?;
    let report = b.mirror.limits();
    assert_eq!(report.down.month_used, counted);
    assert!(report.down.spent.is_some_and(|text| text.contains("`down_month` is 3 MB")));
    assert!(b.mirror.status()?.limits.down.hint.is_some_and(|hint| hint.contains("--down-month")));
    assert_eq!(b.read(added.commit, "held.bin", 0).await?, held, "what is held is served");

    let next = a.add(&swarm.folder("two", &[("wanted.bin", &wanted)])?).await?;
    let refused = b.pull_commit(next.commit).await.unwrap_err();
    assert!(refused.spent().is_some(), "{refused:?}");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);

    let mut more = LimitsRequest::default();
    more.months.down = Some(Volume::of(50 * MB));
    assert_eq!(b.mirror.set_limits(&more).down.spent, None);
    b.pull_commit(next.commit).await?;
    assert_eq!(b.read(next.commit, "wanted.bin", 0).await?, wanted);
    for node in [a, b] {
        node.mirror.shutdown().await;
    }
    Ok(())
}

/// A node whose month is used up gives nobody content, and is asked for names still.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_sent_enough_tells_names_and_sends_no_content() -> TestResult {
    let swarm = Swarm::new()?;
    let limits = capped(|s| s.months = Each { up: Volume::of(100 * MB), ..Each::default() });
    let a = swarm.node_within(limits.clone(), Vec::new(), |_| {})?;
    let added = a.add(&swarm.folder("one", &[("w.bin", &noise(1, MIB))])?).await?;
    limits.valve(Direction::Up).count(99 * MB + 500_000);
    assert!(limits.up().spent(Use::Content).is_some() && limits.up().spent(Use::Words).is_none());
    let b = swarm.node()?;
    assert_eq!(b.resolve(&[a.id]).await?.commit, added.commit);
    let pulled = tokio::time::timeout(Duration::from_secs(60), b.pull_from(&[a.id])).await?;
    assert!(matches!(pulled, Err(ref error) if error.kind() == ErrorKind::Unavailable), "{pulled:?}");
    assert!(swarm.net.sent(a.id, b.id) < 100_000, "{}", swarm.net.sent(a.id, b.id));
    assert!(!matches!(pulled, Err(MirrorError::Spent(_))), "it is not this node's month");
    for node in [a, b] {
        node.mirror.shutdown().await;
    }
    Ok(())
}
