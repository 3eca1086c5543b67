//! One story, told on the memory twin and on real nodes over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{TestResult, cluster, commit, eventually, eventually_found, found, secret};
use futures::StreamExt;
use hubless_discovery::{DhtKey, Discovery, Lifetime, MemorySwarm, node_id_of_secret};
use hubless_types::{NodeId, Sha256};

/// Five nodes that met by the first: what each holds is found by all, until it is taken back, and also when the
/// first has gone.
async fn what_one_announces_the_others_find(nodes: Vec<Arc<dyn Discovery>>) -> TestResult {
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.status().node).collect();
    let [first, second, third, fourth, fifth] = &nodes[..] else { panic!("five nodes") };
    eventually("everybody knows everybody", async || {
        nodes.iter().all(|node| node.peers().len() == 4 && node.status().routing_table == 4)
    })
    .await;

    let (shard, name) = (DhtKey::Shard(Sha256::from_bytes([7; 32])), DhtKey::Repo("acme/tiny".parse()?));
    for key in [&commit(1), &shard, &name] {
        second.announce(std::slice::from_ref(key), Lifetime::Whole).await?;
        eventually_found(&**third, key, &ids[1..2]).await;
    }
    let provider = third.find(&commit(1)).next().await.expect("a provider");
    assert_eq!(provider.addrs, second.status().external);
    assert!(found(&**second, &commit(1)).await.is_empty(), "nobody is sent to itself");
    assert!(found(&**third, &commit(99)).await.is_empty(), "what nobody announced is not found");

    fourth.announce(&[commit(1)], Lifetime::Whole).await?;
    eventually_found(&**fifth, &commit(1), &[ids[1], ids[3]]).await;

    second.withdraw(&[commit(1)]).await?;
    eventually_found(&**fifth, &commit(1), &ids[3..4]).await;
    eventually_found(&**first, &commit(1), &ids[3..4]).await;
    second.withdraw(&[commit(55)]).await?;

    first.shutdown().await;
    eventually_found(&**third, &commit(1), &ids[3..4]).await;
    fifth.announce(&[commit(2)], Lifetime::Whole).await?;
    eventually_found(&**third, &commit(2), &ids[4..5]).await;
    eventually("the first is missed", async || nodes[1..].iter().all(|node| node.peers().len() == 3)).await;

    for node in &nodes {
        node.shutdown().await;
    }
    Ok(())
}

#[tokio::test]
async fn in_memory() -> TestResult {
    let swarm = MemorySwarm::new();
    let node = |n: u8| {
        let addr = SocketAddr::from(([127, 0, 0, 1], 4_000 + u16::from(n)));
        Arc::new(swarm.node(node_id_of_secret(&secret(n)), addr)) as Arc<dyn Discovery>
    };
    what_one_announces_the_others_find((0..5).map(node).collect()).await
}

#[tokio::test]
async fn over_loopback() -> TestResult {
    let nodes = cluster(5).await?;
    what_one_announces_the_others_find(nodes.into_iter().map(|node| node as Arc<dyn Discovery>).collect())
        .await
}

/// A node that is cut off finds nobody and is missed; mended, all is as before.
#[tokio::test]
async fn the_memory_twin_can_cut_a_node_off() -> TestResult {
    let swarm = MemorySwarm::new();
    let node =
        |n: u8| swarm.node(node_id_of_secret(&secret(n)), ([127, 0, 0, 1], 4_000 + u16::from(n)).into());
    let (a, b) = (node(0), node(1));
    a.announce(&[commit(1)], Lifetime::Whole).await?;
    swarm.cut(b.status().node);
    assert!(found(&b, &commit(1)).await.is_empty() && b.peers().is_empty() && a.peers().is_empty());
    assert!(a.announce(&[commit(2)], Lifetime::Whole).await.is_err());
    swarm.mend(b.status().node);
    assert_eq!(found(&b, &commit(1)).await.len(), 1);
    Ok(())
}
