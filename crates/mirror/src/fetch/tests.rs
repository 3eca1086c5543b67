//! Stories of fetches over the network in memory, with time that jumps.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::stream::{self, BoxStream, StreamExt as _};
use hubless_store::{DigestKind, Imported, PartialBlob, Store, StoreError};
use hubless_transfer::{Delivered, Faults, MemoryNet, PeerClient};
use hubless_types::{ByteRange, GROUP_BYTES, ManualClock, NodeId, Provider, ProviderSource, Timestamp};
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use super::{FetchConfig, FetchError, FetchHandle, Fetcher, Want};

mod full_disk;
mod told;

const MIB: u64 = 1024 * 1024;
/// Longest that any story may take, in virtual time.
const LIMIT: Duration = Duration::from_secs(300);

struct Node {
    id: NodeId,
    store: Store,
    client: Arc<dyn PeerClient>,
    fetcher: Fetcher,
    _dir: TempDir,
}

fn random_bytes(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    rand::rngs::StdRng::seed_from_u64(len).fill_bytes(&mut bytes);
    bytes
}

impl Node {
    fn new(net: &MemoryNet, seed: u8) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let id = NodeId::from_bytes([seed; 32]);
        let store = Store::open(dir.path(), id, Arc::new(ManualClock::at(Timestamp(1_800_000_000))))?;
        let client = net.join(id, store.clone());
        let fetcher = Fetcher::new(store.clone(), client.clone(), config(seed));
        Ok(Self { id, store, client, fetcher, _dir: dir })
    }

    fn provider(&self) -> Provider {
        Provider { node: self.id, addrs: Vec::new(), source: ProviderSource::Dht }
    }

    fn add(&self, bytes: &[u8]) -> Result<Imported> {
        let taken = self.store.blobs().import_bytes(bytes, DigestKind::Sha256)?;
        self.store.blobs().share(&taken.hash)?;
        Ok(taken)
    }

    /// Makes this node hold `groups` of a file that `from` has.
    async fn take(&self, file: &Imported, from: &Node, groups: Range<u64>) -> Result<PartialBlob> {
        let partial = self.store.blobs().partial(file.hash, file.size)?;
        partial.share_if_empty()?;
        self.client.segment(&from.provider(), groups, &partial, Arc::new(|_| ())).await?;
        Ok(partial)
    }

    fn read(&self, file: &Imported) -> Result<Vec<u8>> {
        let blob = self.store.blobs().open(&file.hash)?.context("it is not here")?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < file.size {
            bytes.extend_from_slice(&blob.read(ByteRange::new(bytes.len() as u64, file.size))?);
        }
        Ok(bytes)
    }

    async fn fetch(&self, file: &Imported, from: &[&Node]) -> Result<FetchHandle, FetchError> {
        let feed = stream::iter(from.iter().map(|node| node.provider()).collect::<Vec<_>>());
        // As the mirror does with what is to come from peers.
        let _ = self.store.blobs().partial(file.hash, file.size).and_then(|partial| partial.share_if_empty());
        self.fetcher.fetch(want(file), feed.boxed()).await
    }

    async fn fetch_whole(&self, file: &Imported, from: &[&Node]) -> Result<FetchHandle> {
        let handle = self.fetch(file, from).await?;
        timeout(LIMIT, handle.wait_done()).await.context("it takes too long")??;
        Ok(handle)
    }
}

fn config(seed: u8) -> FetchConfig {
    FetchConfig { seed: seed.into(), ..FetchConfig::default() }
}

fn want(file: &Imported) -> Want {
    Want { hash: file.hash, size: file.size }
}

fn rate(bytes_per_second: u64) -> Faults {
    Faults { bytes_per_second: Some(bytes_per_second), ..Faults::default() }
}

/// A provider that becomes known after a while.
fn later(provider: Provider, after: Duration) -> BoxStream<'static, Provider> {
    let known = async move {
        tokio::time::sleep(after).await;
        provider
    };
    stream::once(known).boxed()
}

/// Groups that `node` was asked for, each counted as often as it was asked for.
fn groups_asked(net: &MemoryNet, to: NodeId) -> Vec<u64> {
    let mut asked: Vec<u64> = net
        .deliveries()
        .into_iter()
        .filter(|delivery| delivery.to == to)
        .filter_map(|delivery| match delivery.what {
            Delivered::Segment { groups, .. } => Some(groups),
            _ => None,
        })
        .flatten()
        .collect();
    asked.sort_unstable();
    asked
}

#[tokio::test(start_paused = true)]
async fn two_halves_make_a_file() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, left, right, me) =
        (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?, Node::new(&net, 4)?);
    let bytes = random_bytes(5 * MIB + 77);
    let file = seed.add(&bytes)?;
    let end = file.size.div_ceil(GROUP_BYTES);
    let _left = left.take(&file, &seed, 0..100).await?;
    let _right = right.take(&file, &seed, 100..end).await?;
    net.leave(seed.id);

    let handle = me.fetch_whole(&file, &[&left, &right]).await?;

    assert_eq!(me.read(&file)?, bytes);
    assert_eq!(groups_asked(&net, me.id), (0..end).collect::<Vec<_>>(), "each group once");
    let progress = handle.progress().borrow().clone();
    assert_eq!((progress.done, progress.total), (file.size, file.size));
    let from: u64 = progress.from.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!((progress.from.len(), from), (2, file.size));
    me.fetcher.shutdown().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_that_stalls_is_passed_over() -> Result<()> {
    let net = MemoryNet::new();
    let (bad, good, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let bytes = random_bytes(24 * MIB);
    let file = bad.add(&bytes)?;
    good.add(&bytes)?;
    net.set_faults(bad.id, Faults { stall_after: Some(MIB), ..Faults::default() });
    net.set_faults(good.id, rate(8 * MIB));
    let start = Instant::now();
    drop(me.fetch_whole(&file, &[&bad, &good]).await?);
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    assert_eq!(me.read(&file)?, bytes);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_liar_is_dropped_and_the_file_is_right() -> Result<()> {
    let net = MemoryNet::new();
    let (liar, honest, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let bytes = random_bytes(24 * MIB);
    let file = liar.add(&bytes)?;
    honest.add(&bytes)?;
    net.set_faults(liar.id, Faults { wrong_byte_at: Some(8 * MIB + 5), ..Faults::default() });
    net.set_faults(honest.id, rate(8 * MIB));
    // The liar is alone at first, so it is asked for the byte that it gets wrong.
    let feed = stream::iter([liar.provider()]).chain(later(honest.provider(), Duration::from_secs(3)));
    let handle = me.fetcher.fetch(want(&file), feed.boxed()).await?;
    timeout(LIMIT, handle.wait_done()).await??;
    assert_eq!(me.read(&file)?, bytes);
    // It is asked for nothing more, in another fetch either.
    let other = random_bytes(MIB);
    let second = liar.add(&other)?;
    honest.add(&other)?;
    let before = net.sent(liar.id, me.id);
    drop(me.fetch_whole(&second, &[&liar, &honest]).await?);
    assert_eq!(net.sent(liar.id, me.id), before);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn another_provider_takes_over_where_one_died() -> Result<()> {
    let net = MemoryNet::new();
    let (first, second, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let bytes = random_bytes(16 * MIB);
    let file = first.add(&bytes)?;
    second.add(&bytes)?;
    net.set_faults(first.id, Faults { cut_after: Some(6 * MIB), ..rate(4 * MIB) });
    let feed = stream::iter([first.provider()]).chain(later(second.provider(), Duration::from_secs(5)));
    let handle = me.fetcher.fetch(want(&file), feed.boxed()).await?;
    timeout(LIMIT, handle.wait_done()).await??;
    assert_eq!(me.read(&file)?, bytes);
    assert!(net.sent(second.id, me.id) < 12 * MIB, "what came first is not asked for again");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_comes_back_is_used_again() -> Result<()> {
    let net = MemoryNet::new();
    let (only, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let bytes = random_bytes(8 * MIB);
    let file = only.add(&bytes)?;
    net.set_faults(only.id, Faults { cut_after: Some(2 * MIB), ..rate(MIB) });
    let handle = me.fetch(&file, &[&only]).await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    net.set_faults(only.id, Faults::default());
    timeout(LIMIT, handle.wait_done()).await??;
    assert_eq!(me.read(&file)?, bytes);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_verified_is_not_fetched_again_after_a_restart() -> Result<()> {
    let net = MemoryNet::new();
    let seed = Node::new(&net, 1)?;
    let bytes = random_bytes(16 * MIB);
    let file = seed.add(&bytes)?;
    net.set_faults(seed.id, rate(2 * MIB));
    let (dir, id) = (tempfile::tempdir()?, NodeId::from_bytes([2; 32]));
    let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000)));
    {
        let store = Store::open(dir.path(), id, clock.clone())?;
        let fetcher = Fetcher::new(store.clone(), net.join(id, store), config(2));
        let handle = fetcher.fetch(want(&file), stream::iter([seed.provider()]).boxed()).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        fetcher.shutdown().await;
        assert!(matches!(handle.wait_done().await, Err(FetchError::Stopped { .. })));
        net.leave(id);
    }
    let before = net.sent_by(seed.id);
    assert!(before > 5 * MIB, "{before}");
    let store = reopened(dir.path(), id, clock).await?;
    let held = store.blobs().partial(file.hash, file.size)?.have().bytes(file.size);
    assert!(held > 5 * MIB, "{held}");

    let fetcher = Fetcher::new(store.clone(), net.join(id, store.clone()), config(2));
    let handle = fetcher.fetch(want(&file), stream::iter([seed.provider()]).boxed()).await?;
    timeout(LIMIT, handle.wait_done()).await??;

    let asked = net.sent_by(seed.id) - before;
    let missing = file.size - held;
    assert!(asked < missing + missing / 50, "{asked} bytes for {missing} missing ones");
    assert_eq!(store.blobs().open(&file.hash)?.context("it is not here")?.have().bytes(file.size), file.size);
    Ok(())
}

/// The last clone of a store may live a moment longer, in a task that was cancelled while it wrote.
async fn reopened(dir: &std::path::Path, id: NodeId, clock: Arc<ManualClock>) -> Result<Store> {
    for _ in 0..100 {
        match Store::open(dir, id, clock.clone()) {
            Ok(store) => return Ok(store),
            Err(_) => tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(20))).await?,
        }
    }
    Ok(Store::open(dir, id, clock)?)
}

#[tokio::test(start_paused = true)]
async fn fifty_askers_share_one_fetch() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let bytes = random_bytes(4 * MIB + 1);
    let file = seed.add(&bytes)?;
    net.set_faults(seed.id, rate(4 * MIB));
    let from = [&seed];
    let askers = (0..50).map(|_| me.fetch_whole(&file, &from));
    for handle in futures::future::join_all(askers).await {
        assert!(handle?.partial().is_complete());
    }
    assert_eq!(groups_asked(&net, me.id).len() as u64, file.size.div_ceil(GROUP_BYTES));
    assert_eq!(me.fetcher.running(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_reader_gets_its_place_first() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let file = seed.add(&random_bytes(32 * MIB))?;
    net.set_faults(seed.id, rate(2 * MIB));
    let handle = me.fetch(&file, &[&seed]).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let places = [30 * MIB, 11 * MIB, 0];
    for offset in places {
        let start = Instant::now();
        handle.wait_for(ByteRange::new(offset, offset + 64 * 1024)).await?;
        assert!(start.elapsed() < Duration::from_millis(1500), "{offset}: {:?}", start.elapsed());
    }
    let past_the_end = handle.wait_for(ByteRange::new(0, 32 * MIB + 1)).await;
    assert!(matches!(past_the_end, Err(FetchError::OutOfRange { .. })));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_reader_from_the_start_is_served_in_order() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let bytes = random_bytes(16 * MIB);
    let file = seed.add(&bytes)?;
    net.set_faults(seed.id, rate(4 * MIB));
    let handle = me.fetch(&file, &[&seed]).await?;
    let (reader, start) = (handle.want_at(0), Instant::now());
    for at in (0..file.size).step_by(MIB as usize) {
        handle.wait_for(ByteRange::new(at, at + MIB)).await?;
        reader.move_to(at + MIB);
        // Never much later than a plain stream would have brought it.
        let due = Duration::from_secs_f64((at + MIB) as f64 / (4 * MIB) as f64) + Duration::from_millis(2500);
        assert!(start.elapsed() < due, "{at}: {:?} against {due:?}", start.elapsed());
        assert_eq!(
            handle.partial().read(ByteRange::new(at, at + MIB))?,
            bytes[at as usize..(at + MIB) as usize]
        );
    }
    Ok(())
}

/// C knows only B, which is still fetching from A.
#[tokio::test(start_paused = true)]
async fn a_downloader_serves_on_what_it_has() -> Result<()> {
    let net = MemoryNet::new();
    let (a, b, c) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let bytes = random_bytes(16 * MIB);
    let file = a.add(&bytes)?;
    net.set_faults(a.id, rate(2 * MIB));
    let start = Instant::now();
    let (first, second) = tokio::join!(
        async { b.fetch_whole(&file, &[&a]).await.map(|handle| (handle, start.elapsed())) },
        async { c.fetch_whole(&file, &[&b]).await.map(|handle| (handle, start.elapsed())) },
    );
    let (first, second) = (first?.1, second?.1);
    assert!(second < first + Duration::from_secs(2), "B after {first:?}, C after {second:?}");
    assert_eq!((c.read(&file)?, net.sent(a.id, c.id)), (bytes, 0));
    Ok(())
}

/// Two that begin together take different parts from the one who has all, and the rest from each other.
#[tokio::test(start_paused = true)]
async fn two_that_begin_together_exchange() -> Result<()> {
    let net = MemoryNet::new();
    let (a, b, c) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let file = a.add(&random_bytes(32 * MIB))?;
    net.set_faults(a.id, rate(4 * MIB));
    let (others_of_b, others_of_c) = ([&a, &c], [&a, &b]);
    let (first, second) =
        tokio::join!(b.fetch_whole(&file, &others_of_b), c.fetch_whole(&file, &others_of_c));
    drop((first?, second?));
    let copies = net.sent_by(a.id) as f64 / file.size as f64;
    println!("the seed sent {copies:.2} copies");
    assert!(copies < 1.4, "the seed sent {copies} copies");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nobody_having_it_is_an_error_after_the_patience() -> Result<()> {
    let net = MemoryNet::new();
    let (other, empty, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let file = other.add(&random_bytes(MIB))?;
    let start = Instant::now();
    let silent: BoxStream<'static, Provider> =
        stream::iter([empty.provider()]).chain(stream::pending()).boxed();
    let handle = me.fetcher.fetch(want(&file), silent).await?;
    let error = handle.wait_done().await.unwrap_err();
    assert!(matches!(error, FetchError::NoSource { .. }), "{error}");
    assert!((7..9).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(error.hint().is_some());

    // With nobody named at all there is nothing to wait for.
    let start = Instant::now();
    let error = me.fetch_whole(&file, &[]).await.err().context("it cannot be done")?;
    assert!(start.elapsed() < Duration::from_secs(1), "{error}");
    // And it may be tried again at once.
    drop(me.fetch_whole(&file, &[&other]).await?);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_dropped_stops_the_fetch() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let file = seed.add(&random_bytes(32 * MIB))?;
    net.set_faults(seed.id, rate(MIB));
    let handle = me.fetch(&file, &[&seed]).await?;
    let second = handle.clone();
    drop(handle);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(me.fetcher.running(), 1);
    drop(second);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(me.fetcher.running(), 0);
    let sent = net.sent_by(seed.id);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(net.sent_by(seed.id), sent, "something still runs");
    let held = me.store.blobs().partial(file.hash, file.size)?.have().bytes(file.size);
    assert!(held > 4 * MIB, "{held}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn many_files_are_fetched_together() -> Result<()> {
    let net = MemoryNet::new();
    let (a, b, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let mut files = Vec::new();
    for i in 0..300 {
        let bytes = random_bytes(70_000 + i);
        b.add(&bytes)?;
        files.push((a.add(&bytes)?, bytes));
    }
    let from = [&a, &b];
    let all = files.iter().map(|(file, _)| me.fetch_whole(file, &from));
    for handle in futures::future::join_all(all).await {
        drop(handle?);
    }
    for (file, bytes) in &files {
        assert_eq!(&me.read(file)?, bytes);
    }
    assert!(net.sent_by(a.id) > 0 && net.sent_by(b.id) > 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_room_on_the_disk_is_told_at_once() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let file = seed.add(&random_bytes(MIB))?;
    // No disk has this much room.
    let huge = Want { hash: file.hash, size: 1 << 60 };
    let refused = me.fetcher.fetch(huge, stream::pending().boxed()).await;
    assert!(matches!(refused, Err(FetchError::Disk { .. })));
    assert_eq!(me.fetcher.running(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_nothing_begins_and_nobody_waits() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let file = seed.add(&random_bytes(8 * MIB))?;
    net.set_faults(seed.id, rate(MIB));
    let handle = me.fetch(&file, &[&seed]).await?;
    let (waited, ()) = tokio::join!(handle.wait_done(), me.fetcher.shutdown());
    assert!(matches!(waited, Err(FetchError::Stopped { .. })));
    assert!(matches!(me.fetch(&file, &[&seed]).await, Err(FetchError::Stopped { .. })));
    Ok(())
}

/// What is whole already is no fetch: nothing of it stays in the table, and it can be collected.
#[tokio::test(start_paused = true)]
async fn what_is_here_leaves_nothing_behind() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let file = seed.add(&random_bytes(MIB))?;
    me.add(&random_bytes(MIB))?;

    let handle = me.fetch_whole(&file, &[&seed]).await?;

    assert_eq!(me.fetcher.running(), 0);
    assert!(me.fetcher.joined(&file.hash).is_none());
    drop(handle);
    assert!(me.store.blobs().evict(&file.hash).is_ok(), "nobody holds it");
    Ok(())
}

/// A caller that is dropped while it waits for room in the inbox leaves no fetch behind.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_was_given_up_before_it_began_is_forgotten() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let files = [seed.add(&random_bytes(MIB))?, seed.add(&random_bytes(2 * MIB))?];
    let (commands, inbox) = tokio::sync::mpsc::channel(1);
    let shared = super::Shared {
        store: me.store.clone(),
        jobs: super::Jobs::default(),
        commands,
        wake: Arc::default(),
        next_reader: Arc::default(),
        stop: super::CancellationToken::new(),
        tasks: super::TaskTracker::new(),
    };
    let driver = super::Driver::new(
        me.client.clone(),
        config(1),
        shared.jobs.clone(),
        inbox,
        shared.wake.clone(),
        shared.stop.clone(),
        shared.tasks.clone(),
    );
    let fetcher = Fetcher { shared: Arc::new(shared) };
    let handle = fetcher.fetch(want(&files[0]), stream::pending().boxed()).await?;
    let waits = fetcher.fetch(want(&files[1]), stream::pending().boxed());
    assert!(timeout(Duration::from_secs(1), waits).await.is_err(), "the inbox is full");
    assert_eq!(fetcher.running(), 2);
    fetcher.shared.tasks.spawn(driver.run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fetcher.running(), 1);
    drop(handle);
    fetcher.shared.tasks.close();
    fetcher.shutdown().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn two_who_know_the_seed_alone_find_each_other_by_it() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, one, two) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let file = seed.add(&random_bytes(24 * MIB))?;
    for node in [&seed, &one, &two] {
        net.set_faults(node.id, rate(2 * MIB));
    }
    let (first, second) = (one.fetch(&file, &[&seed]).await?, two.fetch(&file, &[&seed]).await?);
    timeout(LIMIT, async { tokio::try_join!(first.wait_done(), second.wait_done()) }).await??;
    let sent = |from: &Node, to: &Node| net.sent(from.id, to.id);
    let halves = (sent(&one, &two), sent(&two, &one));
    assert!(halves.0.min(halves.1) > 6 * MIB, "they hardly sent each other anything: {halves:?}");
    let copies = (sent(&seed, &one) + sent(&seed, &two)) as f64 / (24 * MIB) as f64;
    assert!(copies < 1.25, "the seed sent {copies} copies");
    Ok(())
}
