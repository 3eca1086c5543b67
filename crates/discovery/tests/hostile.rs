//! A libp2p program of somebody else's making among our nodes, and what it cannot do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{TestResult, commit, config, eventually, found, start};
use futures::StreamExt;
use hubless_discovery::{Dht, DhtKey, Discovery, MAX_RECORD_ADDRS};
use hubless_types::CommitId;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identify, kad, noise, tcp, yamux};

#[derive(NetworkBehaviour)]
struct Stranger {
    kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
}

fn stranger() -> Result<Swarm<Stranger>, Box<dyn std::error::Error>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keys| {
            let id = PeerId::from(keys.public());
            let protocol = libp2p::StreamProtocol::new("/hubless/kad/1");
            Stranger {
                kad: kad::Behaviour::with_config(id, MemoryStore::new(id), kad::Config::new(protocol)),
                identify: identify::Behaviour::new(identify::Config::new(
                    "/hubless/id/1".into(),
                    keys.public(),
                )),
            }
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}

/// Connects with `victim` and does what it likes until the victim has been told everything.
async fn attack(mut swarm: Swarm<Stranger>, victim: &Dht, act: impl FnOnce(&mut Swarm<Stranger>)) {
    let addr = victim.addresses()[0].clone();
    let peer: PeerId = addr.node.to_string().parse().unwrap();
    let multiaddr: Multiaddr = addr.to_string().parse().unwrap();
    swarm.behaviour_mut().kad.add_address(&peer, multiaddr.clone());
    swarm.behaviour_mut().kad.set_mode(Some(kad::Mode::Server));
    swarm.dial(multiaddr).unwrap();
    let mut act = Some(act);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    while let Ok(event) = tokio::time::timeout_at(deadline, swarm.select_next_some()).await {
        if let SwarmEvent::Behaviour(StrangerEvent::Identify(identify::Event::Received { .. })) = event
            && let Some(act) = act.take()
        {
            act(&mut swarm);
        }
    }
    assert!(act.is_none(), "it has not met its victim");
}

/// Odd keys and value records are not kept; what it says of itself is kept within bounds, and its addresses are
/// those that can be dialled.
#[tokio::test]
async fn a_stranger_fills_nothing() -> TestResult {
    let victim = start(config(0, &[])).await?;
    attack(stranger()?, &victim, |swarm| {
        for n in 0..40u16 {
            swarm.add_external_address(([10, 0, 0, 9], 1_000 + n).into_multiaddr());
        }
        swarm.add_external_address("/ip4/224.0.0.1/tcp/5".parse().unwrap());
        let kad = &mut swarm.behaviour_mut().kad;
        for n in 0..50u8 {
            kad.start_providing(kad::RecordKey::from(vec![n; 40])).unwrap();
            let record = kad::Record::new(kad::RecordKey::from(commit(n).to_bytes()), vec![0; 500]);
            kad.put_record(record, kad::Quorum::One).unwrap();
        }
        for n in 100..110u8 {
            kad.start_providing(kad::RecordKey::from(commit(n).to_bytes())).unwrap();
        }
    })
    .await;
    assert_eq!(victim.status().other_records, 10);
    let provider = victim.find(&commit(100)).next().await.expect("what it said of itself");
    assert!((1..=MAX_RECORD_ADDRS).contains(&provider.addrs.len()), "{:?}", provider.addrs);
    assert!(provider.addrs.iter().all(|addr| !addr.ip().is_multicast()));
    Ok(())
}

/// A withdrawal takes back the sender's own record and nobody else's.
#[tokio::test]
async fn a_stranger_cannot_withdraw_for_others() -> TestResult {
    let victim = start(config(0, &[])).await?;
    let holder = start(config(1, &victim.addresses())).await?;
    let key = DhtKey::Commit(CommitId::from_bytes([5; 20]));
    holder.announce(&key).await?;
    eventually("the record has arrived", async || found(&victim, &key).await.len() == 1).await;
    attack(stranger()?, &victim, |swarm| {
        let record = kad::Record::new(kad::RecordKey::from(key.to_bytes()), b"hubless withdraw 1".to_vec());
        swarm.behaviour_mut().kad.put_record(record, kad::Quorum::One).unwrap();
    })
    .await;
    assert_eq!(found(&victim, &key).await.len(), 1);
    Ok(())
}

trait IntoMultiaddr {
    fn into_multiaddr(self) -> Multiaddr;
}

impl IntoMultiaddr for ([u8; 4], u16) {
    fn into_multiaddr(self) -> Multiaddr {
        let ip = std::net::Ipv4Addr::from(self.0);
        format!("/ip4/{ip}/tcp/{}", self.1).parse().unwrap()
    }
}
