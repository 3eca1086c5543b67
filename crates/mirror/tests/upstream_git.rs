//! A plain git host as the origin of a mirror: names, files and LFS objects come over real HTTP, and stay.

mod common;

use std::time::Duration;

use common::*;
use hubless_mirror::*;
use hubless_origin::{OriginConfig, OriginKind};
use hubless_testkit::{Hub, PortOf};

/// A repository with a small text, one that git keeps though it is long, and a file in LFS whose store wants headers of its
/// own: a node gets all of it, a peer gets it from the node, and with the host gone its name is still known.
#[tokio::test]
async fn a_git_host_with_lfs_is_an_origin_like_others() -> TestResult {
    let (swarm, host) = (Swarm::new()?, Hub::start().await?);
    let (text, large) = (noise(1, 300_000), noise(2, 20 * MIB));
    let files: [(&str, &[u8]); 3] = [("README.md", b"# tiny\n"), ("notes.txt", &text), ("w.bin", &large)];
    let commit = host.push(&tiny(), "main", &files).await?;
    let ticket = ("x-lfs-ticket", "ticket-7");
    host.demand_headers(&[ticket]);
    let origin = hubless_origin::build(&OriginConfig::new(&host.url(), OriginKind::Git)?)?;
    let node = swarm.node_below(vec![origin], |_| {})?;
    let seen = node.resolve(&[]).await?;
    assert_eq!((seen.commit, seen.by), (commit, ResolvedBy::Origin(host.url())));
    for (path, bytes) in files {
        assert_eq!(node.read(commit, path, 0).await?, bytes, "{path}");
    }
    let content: Vec<_> = host.requests().into_iter().filter(|r| r.port == PortOf::Content).collect();
    assert!(!content.is_empty());
    assert!(content.iter().all(|r| r.header(ticket.0) == Some(ticket.1)), "{content:?}");
    assert!(content.iter().map(|r| r.sent).sum::<u64>() < large.len() as u64 * 11 / 10, "it is sent once");

    host.stop().await; // from here only `node` has it
    let peer = swarm.node_trusting(vec![node.id])?;
    assert_eq!(peer.resolve(&[]).await?.commit, commit);
    for (path, bytes) in files {
        assert_eq!(peer.read(commit, path, 0).await?, bytes, "{path}");
    }
    swarm.cut(&peer);
    swarm.clock.advance(3 * 3600);
    // What was asked a moment ago is not asked again; a minute later it is.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let last = node.resolve(&[]).await?;
    assert_eq!((last.commit, last.by_text().as_str()), (commit, "last seen 3 h ago"));
    Ok(())
}
