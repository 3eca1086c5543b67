//! A hub as a source, over real HTTP: how a large file is asked for.

mod common;

use std::time::Duration;

use anyhow::Context as _;
use common::*;
use hubless_testkit::{Hub, HubFaults, PortOf, Recorded, Scope, hub_origin};

/// More than two ranges of it are asked for at once.
const LARGE: usize = 70 * MIB;
/// Slow enough that all of them are seen on their way.
const RATE: u64 = 12 * MIB as u64;

/// The bytes that a request to the content network asks for.
fn range(request: &Recorded) -> Option<std::ops::Range<u64>> {
    let (first, last) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1)
}

fn on_the_network(hub: &Hub) -> Vec<Recorded> {
    hub.requests().into_iter().filter(|request| request.port == PortOf::Content).collect()
}

/// Requests that have sent something, and not all that they were asked for.
fn under_way(hub: &Hub) -> usize {
    let half =
        |request: &&Recorded| range(request).is_some_and(|r| (1..r.end - r.start).contains(&request.sent));
    on_the_network(hub).iter().filter(half).count()
}

/// A large file comes by several ranges at the same time, which together are the file: no byte is asked for twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_comes_by_ranges_side_by_side() -> TestResult {
    let (swarm, hub, large) = (Swarm::new()?, Hub::start().await?, noise(1, LARGE));
    let commit = hub.push(&tiny(), "main", &[("w.safetensors", &large)]).await?;
    let node = swarm.node_below(vec![hub_origin(&hub.url(), |_| {})?], |config| {
        config.claimed_wait = Duration::from_secs(120);
    })?;
    hub.set_faults(HubFaults { on: Scope::Network, bytes_per_second: Some(RATE), ..HubFaults::default() });
    let (reading, mut most) = (node.read(commit, "w.safetensors", 0), 0);
    tokio::pin!(reading);
    let read = loop {
        tokio::select! {
            read = &mut reading => break read?,
            () = tokio::time::sleep(Duration::from_millis(5)) => most = most.max(under_way(&hub)),
        }
    };
    assert!(read == large);
    assert!(most >= 3, "{most} at once");

    let mut ranges: Vec<_> = on_the_network(&hub)
        .iter()
        .map(|request| range(request).context("it is a range"))
        .collect::<Result<_, _>>()?;
    ranges.sort_by_key(|range| range.start);
    let mut at = 0;
    for range in &ranges {
        assert_eq!(range.start, at, "a gap, or bytes that were asked for twice: {ranges:?}");
        at = range.end;
    }
    assert_eq!(at, LARGE as u64, "{ranges:?}");
    let sent: u64 = on_the_network(&hub).iter().map(|request| request.sent).sum();
    assert_eq!(sent, LARGE as u64);
    Ok(())
}
