//! Caps over real connections: what goes out and comes in keeps to them, in tasks and on the line.

use std::time::{Duration, Instant};

use anyhow::Result;
use hubless_limits::{Limits, Rate, Settings, Valve, Volume};
use hubless_store::Imported;
use hubless_transfer::TransferError;
use hubless_types::{CommitId, Timestamp};
use jiff::tz::TimeZone;

use crate::bulk::{MIB_GROUPS, with_line};
use crate::support::{MIB, Node, groups_of, no_tick, random_bytes};

type Flat = Result<()>;

/// How soon packets are looked at again, and a little more.
const LOOKED_AT: Duration = Duration::from_millis(1200);

const NOW: Timestamp = Timestamp(1_800_000_000);

pub(crate) fn capped(change: impl FnOnce(&mut Settings)) -> Limits {
    let mut settings = Settings::default();
    change(&mut settings);
    let limits = Limits::new(settings, TimeZone::UTC);
    limits.turn(NOW);
    limits
}

/// Seconds in which `to` has all of `file` from `from`, in so many requests at once.
async fn fetched(from: &Node, to: &Node, file: &Imported, requests: u64) -> Result<f64> {
    let (begun, groups, peer) = (Instant::now(), groups_of(file.size), from.provider());
    let blob = to.disk.partial(file)?;
    let share = groups.end.div_ceil(requests);
    let parts = (0..requests).map(|n| n * share..((n + 1) * share).min(groups.end)).filter(|p| !p.is_empty());
    let asked = parts.map(|part| to.client.segment(&peer, part, &blob, no_tick()));
    futures::future::try_join_all(asked).await?;
    assert!(to.disk.is_whole(file)?);
    Ok(begun.elapsed().as_secs_f64())
}

/// 3 MiB at 1 MB/s take three seconds, whichever of the two nodes has the cap and however many requests share it; and with
/// none they take no time to speak of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_keep_to_the_cap_of_either_node() -> Flat {
    let file = random_bytes(3 * MIB);
    let expected = 3.0 * MIB as f64 / 1e6;
    for (seed, up, down, requests) in
        [(130, true, false, 1), (133, true, false, 7), (136, false, true, 1), (139, false, true, 7)]
    {
        let (slow, free) = (Rate::per_second(1_000_000), Rate::UNLIMITED);
        let out = capped(|s| s.rates.up = if up { slow } else { free });
        let into = capped(|s| s.rates.down = if down { slow } else { free });
        let a = Node::start_with(seed, |c| c.limits = out.clone()).await?;
        let b = Node::start_with(seed + 1, |c| c.limits = into.clone()).await?;
        let added = a.disk.add(&file)?;
        let took = fetched(&a, &b, &added, requests).await?;
        // No sooner than the burst allows, and not much later on a machine that has other work.
        assert!((expected - 0.25..expected * 1.3).contains(&took), "{took} s (up {up}, {requests} requests)");
        // What the receiver has not read yet has come already: up to a quarter of a second's worth.
        for (what, valve, most) in [("up", out.up(), 1.1), ("down", into.down(), 1.2)] {
            let part = valve.passed() as f64 / added.size as f64;
            assert!((1.0..1.02).contains(&part), "{what}: {} bytes of {}", valve.passed(), added.size);
            // Once packets were looked at, they count too, and so does what was sent twice.
            tokio::time::sleep(LOOKED_AT).await;
            let part = valve.used() as f64 / added.size as f64;
            assert!(
                (1.02..most).contains(&part),
                "{what}: {} bytes on the line of {}",
                valve.used(),
                added.size
            );
        }
        a.transfer.shutdown().await;
        b.transfer.shutdown().await;
    }
    Ok(())
}

/// What a line carries costs TCP's headers one way and acknowledgements the other, and hides nothing of what QUIC costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_packets_cost_counts_on_lines_and_beside_them() -> Flat {
    let (out, into) = (capped(|_| ()), capped(|_| ()));
    let a = Node::start_with(148, |c| c.limits = out.clone()).await?;
    let b = Node::start_with(149, |c| c.limits = into.clone()).await?;
    let without = Node::start_with(150, |c| c.bulk_port = None).await?;
    let file = a.disk.add(&random_bytes(24 * MIB))?;
    with_line(&a, &b, &file).await?;
    b.fetch(&a.provider(), &file, MIB_GROUPS..groups_of(file.size).end).await?;
    tokio::time::sleep(LOOKED_AT).await;
    let by_lines = b.transfer.stats().by_lines as f64;
    assert!(by_lines > 16.0 * MIB as f64, "{by_lines}");
    let beside = |valve: &Valve| (valve.used() - valve.passed()) as f64;
    for (what, valve, least) in [
        ("up", out.up(), 0.035),
        ("down", into.down(), 0.035),
        ("acknowledged", out.down(), 0.017),
        ("acknowledging", into.up(), 0.017),
    ] {
        let part = beside(valve) / by_lines;
        assert!((least..least + 0.03).contains(&part), "{what}: {part}");
    }
    let (before, file) = (beside(into.down()), without.disk.add(&random_bytes(6 * MIB))?);
    b.fetch(&without.provider(), &file, groups_of(file.size)).await?;
    tokio::time::sleep(LOOKED_AT).await;
    let part = (beside(into.down()) - before) / file.size as f64;
    assert!((0.02..0.4).contains(&part), "beside lines: {part}");
    Ok(())
}

/// A question is answered at once while eight segments wait for the cap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_does_not_wait_behind_bulk() -> Flat {
    let a = Node::start_with(142, |c| c.limits = capped(|s| s.rates.up = Rate::per_second(300_000))).await?;
    let b = Node::start(143).await?;
    let added = a.disk.add(&random_bytes(8 * MIB))?;
    let blob = b.disk.partial(&added)?;
    let peer = a.provider();
    let bulk = (0..8_u64).map(|n| b.client.segment(&peer, n * 64..(n + 1) * 64, &blob, no_tick()));
    let asked = async {
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let begun = Instant::now();
            assert!(b.client.links(&peer, &[added_digest(&added)]).await?.len() <= 1);
            longest = longest.max(begun.elapsed());
        }
        Ok::<_, TransferError>(longest)
    };
    tokio::select! {
        longest = asked => {
            let longest = longest?;
            assert!(longest < Duration::from_secs(1), "{longest:?}");
        }
        done = futures::future::try_join_all(bulk) => panic!("bulk was done first: {done:?}"),
    }
    Ok(())
}

fn added_digest(of: &Imported) -> hubless_types::FileDigest {
    of.digest
}

/// Who has sent its month's bytes is busy for content and tells names; who has had its own month's bytes asks nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_that_is_used_up_stops_content_and_not_names() -> Flat {
    let out = capped(|s| s.months.up = Volume::of(200_000_000));
    let into = capped(|s| s.months.down = Volume::of(200_000_000));
    let a = Node::start_with(145, |c| c.limits = out.clone()).await?;
    let b = Node::start_with(146, |c| c.limits = into.clone()).await?;
    let added = a.disk.add(&random_bytes(2 * MIB))?;
    out.up().count(198_000_000);
    let refused = b.fetch(&a.provider(), &added, 0..4).await;
    assert!(matches!(refused, Err(TransferError::Busy { .. })), "{refused:?}");
    let unknown = b.client.manifest(&a.provider(), CommitId::from_bytes([7; 20])).await;
    assert!(matches!(unknown, Err(TransferError::NotHeld { .. })), "names are still told: {unknown:?}");

    out.reconfigure(Settings::default(), NOW);
    into.down().count(198_000_000);
    let spent = b.fetch(&a.provider(), &added, 0..4).await;
    assert!(matches!(spent, Err(TransferError::Spent(_))), "{spent:?}");
    let unknown = b.client.manifest(&a.provider(), CommitId::from_bytes([7; 20])).await;
    assert!(matches!(unknown, Err(TransferError::NotHeld { .. })), "{unknown:?}");
    into.down().count(2_000_000);
    let spent = b.client.manifest(&a.provider(), CommitId::from_bytes([7; 20])).await;
    assert!(matches!(spent, Err(TransferError::Spent(_))), "{spent:?}");
    into.reconfigure(Settings::default(), NOW);
    b.fetch(&a.provider(), &added, 0..4).await?;
    Ok(())
}
