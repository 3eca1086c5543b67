//! What real nodes do alone, in twos, among strangers, and at their end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    TestResult, cluster, commit, config, eventually, eventually_found, found, secret, start, start_with_clock,
};
use futures::StreamExt;
use hubless_discovery::{
    Dht, DhtKey, DhtMode, Discovery, DiscoveryError, Lifetime, MemoryTable, ProviderTable, RECORD_TTL_SECS,
    node_id_of_secret,
};
use hubless_types::{CommitId, Host, ManualClock, NodeId, PeerAddr, ProviderSource, SystemClock, Timestamp};

fn id(n: u8) -> NodeId {
    node_id_of_secret(&secret(n))
}

#[tokio::test]
async fn a_node_alone_says_so_at_once() -> TestResult {
    let node = start(config(0, &[])).await?;
    let begun = Instant::now();
    assert!(matches!(node.announce(&[commit(1)], Lifetime::Whole).await, Err(DiscoveryError::NoPeers)));
    assert!(found(&node, &commit(1)).await.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(2), "it has nobody to wait for");
    let status = node.status();
    assert_eq!((status.mode, status.own_records, status.peers_connected), (DhtMode::Server, 1, 0));
    assert_eq!(status.external, status.listen);
    Ok(())
}

/// With a bootstrap node, an announcement made at once waits for the connection and succeeds.
#[tokio::test]
async fn two_are_enough_and_need_no_pause() -> TestResult {
    let first = start(config(0, &[])).await?;
    let second = start(config(1, &first.addresses())).await?;
    second.announce(&[commit(1)], Lifetime::Whole).await?;
    eventually_found(&first, &commit(1), &[id(1)]).await;
    first.announce(&[commit(2)], Lifetime::Whole).await?;
    eventually_found(&second, &commit(2), &[id(0)]).await;
    let peers = second.peers();
    assert_eq!((peers.len(), peers[0].node, peers[0].source), (1, id(0), ProviderSource::Lan));
    assert_eq!(peers[0].addrs, first.status().listen);
    Ok(())
}

/// More nodes join by one node at the same moment than it takes connections from; all get in, since it lets go of those
/// who have others by then.
#[tokio::test]
async fn a_full_bootstrap_node_lets_everybody_in() -> TestResult {
    let mut small = config(0, &[]);
    small.max_connections = 8;
    let first = start(small).await?;
    let mut nodes = Vec::new();
    for n in 1..=8 {
        nodes.push(start(config(n, &first.addresses())).await?);
    }
    eventually("everybody knows somebody", async || nodes.iter().all(|n| n.status().routing_table > 0)).await;
    Ok(())
}

/// Found by the node that came first: what it holds was announced to nobody, but it is asked itself.
#[tokio::test]
async fn what_was_announced_to_nobody_is_found_by_whoever_joins() -> TestResult {
    let first = start(config(0, &[])).await?;
    assert!(first.announce(&[commit(1)], Lifetime::Whole).await.is_err());
    let second = start(config(1, &first.addresses())).await?;
    eventually_found(&second, &commit(1), &[id(0)]).await;
    Ok(())
}

#[tokio::test]
async fn a_bootstrap_node_may_come_later_and_be_named() -> TestResult {
    let late = config(0, &[]);
    let port = late.listen[0].port();
    let by_name = PeerAddr { node: id(0), host: Host::Dns("localhost".into()), port };
    let early = start(config(1, &[by_name])).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(early.peers().is_empty());
    let _late = start(late).await?;
    eventually("the early one has joined", async || early.peers().len() == 1).await;
    Ok(())
}

/// Eight nodes find each other by one, and keep what they announced when half of them end.
#[tokio::test]
async fn records_survive_the_end_of_half_the_nodes() -> TestResult {
    let nodes = cluster(8).await?;
    eventually("all have met", async || nodes.iter().all(|node| node.status().routing_table == 7)).await;
    for n in 0..8 {
        nodes[usize::from(n)].announce(&[commit(n)], Lifetime::Whole).await?;
    }
    futures::future::join_all(nodes[..4].iter().map(|node| node.shutdown())).await;
    for n in 0..8u8 {
        if n != 5 {
            eventually_found(&*nodes[5], &commit(n), &[id(n)]).await;
        }
    }
    eventually("those that ended leave the routing table", async || {
        found(&*nodes[5], &commit(99)).await;
        nodes[5].status().routing_table == 3
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_closed_swarm_refuses_strangers() -> TestResult {
    let members = Some(vec![id(0), id(1)]);
    let mut first = config(0, &[]);
    first.allow = members.clone();
    let first = start(first).await?;
    let mut second = config(1, &first.addresses());
    second.allow = members;
    let second = start(second).await?;
    let stranger = start(config(2, &first.addresses())).await?;
    second.announce(&[commit(1)], Lifetime::Whole).await?;
    eventually_found(&first, &commit(1), &[id(1)]).await;
    let key = commit(1);
    let (told, nobody) =
        tokio::join!(stranger.announce(std::slice::from_ref(&key), Lifetime::Whole), found(&stranger, &key));
    assert!(matches!(told, Err(DiscoveryError::NoPeers)) && nobody.is_empty());
    assert_eq!(found(&first, &commit(1)).await.into_iter().collect::<Vec<_>>(), [id(1)]);
    assert!(first.peers().iter().all(|peer| peer.node == id(1)));
    Ok(())
}

#[tokio::test]
async fn networks_of_two_names_do_not_mix() -> TestResult {
    let first = start(config(0, &[])).await?;
    let mut other = config(1, &first.addresses());
    other.network = "lab".into();
    let other = start(other).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(first.peers().is_empty() && other.peers().is_empty());
    assert_eq!((first.status().routing_table, other.status().routing_table), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_record_is_void_two_days_after_it_was_announced() -> TestResult {
    let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
    let keeper = start_with_clock(config(0, &[]), clock.clone()).await?;
    let holder = start(config(1, &keeper.addresses())).await?;
    let seeker = start_with_clock(config(2, &keeper.addresses()), clock.clone()).await?;
    holder.announce(&[commit(1)], Lifetime::Whole).await?;
    // Kademlia does not acknowledge a provider record: it is on its way when the walk has ended.
    eventually("the record has arrived", async || keeper.status().other_records == 1).await;
    holder.shutdown().await;
    clock.advance(RECORD_TTL_SECS - 1);
    eventually_found(&seeker, &commit(1), &[id(1)]).await;
    clock.advance(1);
    eventually_found(&seeker, &commit(1), &[]).await;
    eventually_found(&keeper, &commit(1), &[]).await;
    Ok(())
}

/// Where others have room for a part of what they are told, the announcer learns which keys nobody keeps.
#[tokio::test]
async fn keys_that_find_no_room_are_named() -> TestResult {
    let table = Arc::new(MemoryTable::with_bounds(1_024, 10_000));
    let keeper = Dht::start(config(0, &[]), table.clone(), Arc::new(SystemClock)).await?;
    let holder = start(config(1, &keeper.addresses())).await?;
    let key = |n: u32| {
        let mut id = [7; 20];
        id[..4].copy_from_slice(&n.to_be_bytes());
        DhtKey::Commit(CommitId::from_bytes(id))
    };
    let keys: Vec<DhtKey> = (0..4_096).map(key).collect();
    let told = holder.announce(&keys, Lifetime::Whole).await?;
    assert_eq!((told.kept, told.refused, told.missed.len(), told.unwanted.len()), (1_024, 3_072, 0, 3_072));
    let unwanted: HashSet<Vec<u8>> = told.unwanted.into_iter().collect();
    for key in keys.iter().map(DhtKey::to_bytes) {
        assert_eq!(table.providers(&key, Timestamp(0)).unwrap().is_empty(), unwanted.contains(&key));
    }
    Ok(())
}

/// Ended, a node leaves nothing behind: its port is free, and whoever still waits is told.
#[tokio::test]
async fn an_end_is_an_end() -> TestResult {
    let mut waiting = config(0, &[PeerAddr::new(id(9), "127.0.0.1:1".parse()?)]);
    waiting.lookup_timeout = Duration::from_secs(60);
    let addr = waiting.listen[0];
    let node = Arc::new(start(waiting).await?);
    let (told, mut lookup) = (node.clone(), node.find(&commit(1)));
    let call = async move { told.announce(&[commit(1)], Lifetime::Whole).await };
    let end = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.shutdown().await;
    };
    let (answer, found, ()) = tokio::join!(call, lookup.next(), end);
    assert!(matches!(answer, Err(DiscoveryError::Stopped)) && found.is_none());
    drop(TcpListener::bind(addr)?);
    assert!(matches!(node.announce(&[commit(1)], Lifetime::Whole).await, Err(DiscoveryError::Stopped)));
    assert!(node.find(&commit(1)).next().await.is_none());

    let again = config(0, &[]);
    let addr = again.listen[0];
    drop(start(again).await?);
    eventually("a dropped node ends", async || TcpListener::bind(addr).is_ok()).await;
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named() -> TestResult {
    let node = start(config(0, &[])).await?;
    let mut second = config(1, &[]);
    second.listen = node.status().listen;
    let error = start(second).await.expect_err("two nodes on one port");
    assert_eq!(error.to_string(), format!("{} (tcp) is already in use", node.status().listen[0]));
    assert!(error.hint().is_some());
    Ok(())
}

/// A node that listens on every interface tells others an address that leads beyond the machine, if it has one.
#[tokio::test]
async fn a_wildcard_listener_publishes_no_loopback_where_it_has_better() -> TestResult {
    let mut wide = config(0, &[]);
    wide.listen[0].set_ip([0, 0, 0, 0].into());
    let node = start(wide).await?;
    let status = node.status();
    let better = status.listen.iter().any(|addr| !addr.ip().is_loopback());
    assert!(!status.external.is_empty());
    assert_eq!(status.external.iter().all(|addr| addr.ip().is_loopback()), !better);
    let second =
        start(config(1, &[PeerAddr::new(id(0), ([127, 0, 0, 1], status.listen[0].port()).into())])).await?;
    second.announce(&[commit(1)], Lifetime::Whole).await?;
    eventually_found(&node, &commit(1), &[id(1)]).await;
    Ok(())
}

/// With mDNS on, a node starts and ends as any other, whether or not this machine lets it look around.
#[tokio::test]
async fn looking_around_is_no_condition() -> TestResult {
    let mut curious = config(0, &[]);
    curious.listen[0].set_ip([0, 0, 0, 0].into());
    curious.mdns = true;
    let addr = curious.listen[0];
    let node = start(curious).await?;
    node.shutdown().await;
    drop(TcpListener::bind(addr)?);
    Ok(())
}
