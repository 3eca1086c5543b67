//! Files that an origin gives by Xet alone: what comes is hashed like everything else, and a fetch that broke goes on.

mod common;

use std::sync::Arc;

use common::*;
use hubless_mirror::*;
use hubless_testkit::{Hub, HubFaults, Scope, Tamper, XetMode, XetPacking, origin_with_xet};
use hubless_types::*;

/// A node below a hub that keeps its one file in Xet, and refuses to give it otherwise.
async fn scene(swarm: &Swarm, mode: XetMode, size: usize) -> anyhow::Result<(Hub, Node, CommitId, Vec<u8>)> {
    let (hub, large) = (Hub::start().await?, noise(1, size));
    let commit = hub.push(&tiny(), "main", &[("w.safetensors", &large)]).await?;
    hub.keep_in_xet(Some(mode));
    let node = swarm.node_below(vec![origin_with_xet(&hub.url(), MIB as u64)?], |_| {})?;
    Ok((hub, node, commit, large))
}

/// A file that only Xet gives arrives, and is proven: with the hub gone it is still served.
#[tokio::test]
async fn a_file_that_only_xet_gives_arrives() -> TestResult {
    let swarm = Swarm::new()?;
    let (hub, node, commit, large) = scene(&swarm, XetMode::default(), 20 * MIB + 7).await?;
    assert_eq!(node.read(commit, "w.safetensors", 0).await?, large);
    hub.stop().await;
    assert_eq!(node.read(commit, "w.safetensors", 9_000_000).await?, large[9_000_000..]);
    Ok(())
}

/// A store that sends other bytes in chunks that are well formed is found out by the whole file's digest.
#[tokio::test]
async fn a_store_that_lies_gets_nothing_kept() -> TestResult {
    let swarm = Swarm::new()?;
    let packing = XetPacking::Plain;
    let tamper_xorb = Some(Arc::new(|xorb: &mut Vec<u8>| xorb[5000] ^= 1) as Tamper<_>);
    let mode = XetMode { packing, tamper_xorb, ..XetMode::default() };
    let (hub, node, commit, large) = scene(&swarm, mode, 3 * MIB).await?;
    let error = node.read(commit, "w.safetensors", 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    let status = node.mirror.status()?;
    assert_eq!((status.partial_bytes, status.origins[0].wrong), (0, 1));

    hub.keep_in_xet(Some(XetMode { packing, ..XetMode::default() }));
    assert_eq!(node.read(commit, "w.safetensors", 0).await?, large);
    Ok(())
}

/// Connections that break are gone on with; what came is not fetched again.
#[tokio::test]
async fn a_broken_fetch_by_xet_goes_on() -> TestResult {
    let swarm = Swarm::new()?;
    let (hub, node, commit, large) = scene(&swarm, XetMode::default(), 12 * MIB).await?;
    let cut_after = Some(1_000_000);
    hub.set_faults(HubFaults { on: Scope::Network, cut_after, ..HubFaults::default() });
    assert_eq!(node.read(commit, "w.safetensors", 0).await?, large);
    let sent: u64 = hub.requests().iter().filter(|r| r.target.starts_with("/xorbs/")).map(|r| r.sent).sum();
    assert!(sent < 18 * MIB as u64, "{sent} bytes were sent for 12 MiB");
    Ok(())
}
