//! A libp2p program of somebody else's making among our nodes, and what it cannot do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::io;
use std::time::Duration;

use common::{TestResult, commit, config, eventually, found, start};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use hubless_discovery::{Dht, Discovery, Lifetime, MAX_RECORD_ADDRS};
use libp2p::request_response::{self, Message, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, tcp, yamux};

const ANNOUNCE: u8 = 3;
const WITHDRAW: u8 = 4;

/// Sends whatever bytes it is given.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await.map(|_| bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read_request(protocol, io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        self.write_request(protocol, io, bytes).await
    }
}

#[derive(NetworkBehaviour)]
struct Stranger {
    records: request_response::Behaviour<Raw>,
    identify: identify::Behaviour,
}

fn stranger() -> Result<Swarm<Stranger>, Box<dyn std::error::Error>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keys| {
            let protocol = StreamProtocol::new("/hubless/records/1");
            Stranger {
                records: request_response::Behaviour::new(
                    [(protocol, ProtocolSupport::Full)],
                    request_response::Config::default().with_request_timeout(Duration::from_secs(2)),
                ),
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

/// Connects with `victim`, sends it each message, and returns what it answered; `None` where it did not.
async fn attack(messages: Vec<Vec<u8>>, victim: &Dht) -> Vec<Option<Vec<u8>>> {
    let mut swarm = stranger().unwrap();
    let addr = victim.addresses()[0].clone();
    let peer: PeerId = addr.node.to_string().parse().unwrap();
    swarm.dial(addr.to_string().parse::<Multiaddr>().unwrap()).unwrap();
    loop {
        let event = swarm.select_next_some().await;
        if let SwarmEvent::Behaviour(StrangerEvent::Identify(identify::Event::Received { .. })) = event {
            break;
        }
    }
    let mut answers = Vec::new();
    for message in messages {
        let sent = swarm.behaviour_mut().records.send_request(&peer, message);
        answers.push(loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(StrangerEvent::Records(request_response::Event::Message {
                    message: Message::Response { request_id, response },
                    ..
                })) if request_id == sent => break Some(response),
                SwarmEvent::Behaviour(StrangerEvent::Records(request_response::Event::OutboundFailure {
                    request_id,
                    ..
                })) if request_id == sent => break None,
                _ => {}
            }
        });
    }
    answers
}

/// The commits `from` to `to`, as messages have them.
fn keys(from: u8, to: u8) -> Vec<u8> {
    let count = u16::from(to - from).to_be_bytes();
    let keys = (from..to).flat_map(|n| [&[0x11], &[n; 20][..]].concat());
    count.into_iter().chain(keys).collect()
}

fn announce(addrs: &[([u8; 4], u16)], keys: Vec<u8>) -> Vec<u8> {
    let mut out = vec![ANNOUNCE];
    out.extend(u32::MAX.to_be_bytes());
    out.push(addrs.len() as u8);
    for (ip, port) in addrs {
        out.push(4);
        out.extend(ip);
        out.extend(port.to_be_bytes());
    }
    out.extend(keys);
    out
}

/// Messages that are too long, cut, or no messages leave nothing behind, and the node goes on to answer.
#[tokio::test]
async fn a_malformed_message_fills_nothing() -> TestResult {
    let victim = start(config(0, &[])).await?;
    let whole = announce(&[], keys(1, 9));
    let mut trailing = whole.clone();
    trailing.push(0);
    let messages = vec![
        Vec::new(),
        vec![99],
        vec![0xff; 1 << 20],
        whole[..whole.len() - 1].to_vec(),
        trailing,
        announce(&[([10, 0, 0, 1], 1); 200], keys(1, 2)),
        [&[WITHDRAW], &[0xff, 0xff][..]].concat(),
        whole,
    ];
    let answers = attack(messages, &victim).await;
    let (last, others) = answers.split_last().unwrap();
    // Refused is a stream that is closed without an answer.
    assert!(others.iter().flatten().all(Vec::is_empty), "{others:?}");
    assert_eq!(last.as_deref(), Some(&[6, 0, 8, 0, 0][..]), "eight kept, none refused");
    assert_eq!(victim.status().other_records, 8);
    Ok(())
}

/// What it says of itself is kept with addresses that can be dialled, and no longer than any other record.
#[tokio::test]
async fn addresses_that_lead_nowhere_are_not_handed_on() -> TestResult {
    let victim = start(config(0, &[])).await?;
    let seeker = start(config(1, &victim.addresses())).await?;
    let addrs = [([224, 0, 0, 1], 5), ([0, 0, 0, 0], 5), ([10, 0, 0, 9], 0), ([10, 0, 0, 9], 4001)];
    attack(vec![announce(&addrs, keys(100, 101))], &victim).await;
    eventually("the record is found", async || !found(&seeker, &commit(100)).await.is_empty()).await;
    let provider = seeker.find(&commit(100)).next().await.expect("what it said of itself");
    assert!((1..=MAX_RECORD_ADDRS).contains(&provider.addrs.len()), "{:?}", provider.addrs);
    assert!(
        provider.addrs.iter().all(|a| !a.ip().is_multicast() && !a.ip().is_unspecified() && a.port() != 0)
    );
    Ok(())
}

/// There is no message that speaks of another node: a withdrawal takes back the sender's own records alone.
#[tokio::test]
async fn a_stranger_cannot_withdraw_for_others() -> TestResult {
    let victim = start(config(0, &[])).await?;
    let holder = start(config(1, &victim.addresses())).await?;
    holder.announce(&[commit(5)], Lifetime::Whole).await?;
    assert_eq!(victim.status().other_records, 1);
    let withdraw = || [&[WITHDRAW], &keys(5, 6)[..]].concat();
    let own = vec![withdraw(), announce(&[([10, 0, 0, 9], 1)], keys(5, 6)), withdraw()];
    let answers = attack(own, &victim).await;
    assert!(answers.iter().all(Option::is_some));
    assert_eq!(victim.status().other_records, 1, "of two, its own is gone");
    // The holder would answer for itself, were it there.
    holder.shutdown().await;
    assert_eq!(found(&victim, &commit(5)).await.into_iter().collect::<Vec<_>>(), [holder.node()]);
    Ok(())
}

/// Nodes that name only nodes and providers of their own making: an honest provider is found beside them, the lookup
/// ends in its time, and hands on no more than its bound.
#[tokio::test]
async fn a_liar_cannot_hide_an_honest_provider() -> TestResult {
    let first = start(config(0, &[])).await?;
    let holder = start(config(1, &first.addresses())).await?;
    let seeker = start(config(2, &first.addresses())).await?;
    for n in 0..12 {
        // Each announces the key for itself, from an address where nobody is.
        attack(vec![announce(&[([10, 0, 0, 9], 1_000 + n)], keys(7, 8))], &first).await;
    }
    holder.announce(&[commit(7)], Lifetime::Whole).await?;
    let begun = std::time::Instant::now();
    let all = found(&seeker, &commit(7)).await;
    assert!(all.contains(&holder.node()) && all.len() == 13, "{}", all.len());
    assert!(begun.elapsed() < Duration::from_secs(5));
    Ok(())
}
