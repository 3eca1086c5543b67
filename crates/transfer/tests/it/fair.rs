//! Who is given how much where several ask for all they can get.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::try_join_all;
use hubless_limits::Rate;
use hubless_store::{Imported, PartialBlob};
use hubless_transfer::TransferError;
use hubless_types::Provider;
use tokio::time::sleep;

use crate::bulk::{MIB_GROUPS, with_line};
use crate::caps::capped;
use crate::support::{MIB, Node, groups_of, no_tick, random_bytes};

type Flat = Result<()>;

/// How a node asks: so many requests at once, each for so many groups.
type Way = (usize, u64);

/// Bytes that are given before it is looked at who got them.
const GIVEN: u64 = 16 * MIB as u64;

struct Asker {
    node: Node,
    blob: PartialBlob,
    way: Way,
}

impl Asker {
    async fn start(seed: u8, file: &Imported, way: Way) -> Result<Self> {
        let node = Node::start(seed).await?;
        Ok(Self { blob: node.disk.partial(file)?, node, way })
    }

    /// Asks on and on, for each part once.
    async fn ask(&self, peer: &Provider) -> Result<(), TransferError> {
        let (requests, groups) = self.way;
        let (next, end) = (AtomicU64::new(MIB_GROUPS), groups_of(self.blob.size()).end);
        let one = || async {
            loop {
                let start = next.fetch_add(groups, Ordering::Relaxed);
                if start >= end {
                    return Ok(());
                }
                let part = start..(start + groups).min(end);
                match self.node.client.segment(peer, part, &self.blob, no_tick()).await {
                    Ok(()) | Err(TransferError::Busy { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        try_join_all((0..requests).map(|_| one())).await.map(drop)
    }
}

/// What each of those that ask so gets of a node with two slots.
async fn shared_out(seed: u8, lines: bool, ways: &[Way], content: &[u8]) -> Result<Vec<u64>> {
    let limits = capped(|s| s.rates.up = Rate::per_second(6_000_000));
    let from = Node::start_with(seed, |c| {
        (c.limits, c.upload_slots) = (limits, 2);
        c.bulk_port = c.bulk_port.filter(|_| lines);
    })
    .await?;
    let file = from.disk.add(content)?;
    let mut askers = Vec::new();
    for (way, seed) in ways.iter().zip(seed + 1..) {
        let asker = Asker::start(seed, &file, *way).await?;
        // None has an advantage by being connected first.
        match lines {
            true => with_line(&from, &asker.node, &file).await?,
            false => drop(asker.node.fetch(&from.provider(), &file, 0..MIB_GROUPS).await?),
        }
        askers.push(asker);
    }
    let given = || -> Vec<u64> {
        let peers = from.transfer.stats().peers;
        let to = |asker: &Asker| peers.iter().find(|(node, _)| *node == asker.node.id());
        askers.iter().map(|asker| to(asker).map_or(0, |(_, bytes)| bytes.up)).collect()
    };
    let (before, peer) = (given(), from.provider());
    let enough = async {
        while given().iter().sum::<u64>() < before.iter().sum::<u64>() + GIVEN {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = try_join_all(askers.iter().map(|asker| asker.ask(&peer))) => bail!("one came to an end: {ended:?}"),
        () = enough => {}
    }
    Ok(given().into_iter().zip(before).map(|(now, before)| now - before).collect())
}

/// A node shares what it gives among those who ask, however much each asks for at once and in whatever pieces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_ask_get_about_the_same() -> Flat {
    let content = random_bytes(18 * MIB);
    for (seed, lines) in [(160, false), (164, true)] {
        let got = shared_out(seed, lines, &[(8, 16), (8, 16), (1, 64)], &content).await?;
        let even = got.iter().sum::<u64>() as f64 / got.len() as f64;
        let fair = got.iter().all(|bytes| (0.75..1.25).contains(&(*bytes as f64 / even)));
        assert!(fair, "lines {lines}: {got:?}");
    }
    Ok(())
}
