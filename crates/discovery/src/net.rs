//! The libp2p stack: transport, protocols and their limits.

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, Swarm, allow_block_list, connection_limits, identify, kad, mdns, noise, ping,
    tcp, yamux,
};

use crate::DiscoveryError;
use crate::codec::RecordCodec;
use crate::line::Line;
use crate::records::NoRecords;

/// Connections without a use are closed after this; the driver closes more when it has too many.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How often a connection is tried, so that a dead one is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long an answer to that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long Kademlia's own walks may take, by which it fills its routing table.
const WALK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long connecting may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer about records may take. Lookups give up earlier; a batch may wait for the other side's disk.
pub(crate) const RECORDS_TIMEOUT: Duration = Duration::from_secs(10);
/// Questions about records at once on one connection, both ways.
const MAX_QUESTIONS: usize = 32;
/// Longest Kademlia message, in bytes: twice twenty peers of six addresses fit.
const MAX_KAD_MESSAGE: usize = 32 * 1024;
/// Connections that may be under negotiation at once, each way.
const MAX_PENDING: u32 = 128;
/// Connections with one peer: both sides may have dialled at the same time.
const MAX_PER_PEER: u32 = 2;

/// Names by which nodes of one network know each other.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// What identify says.
    pub(crate) identify: String,
    /// Kademlia's protocol.
    pub(crate) kad: StreamProtocol,
    /// The protocol of provider records.
    pub(crate) records: StreamProtocol,
}

impl Names {
    pub(crate) fn new(network: &str) -> Result<Self, DiscoveryError> {
        let protocol = |name: &str| {
            StreamProtocol::try_from_owned(format!("/{network}/{name}/1"))
                .map_err(|error| DiscoveryError::Start(error.to_string()))
        };
        Ok(Self {
            identify: format!("/{network}/id/1"),
            kad: protocol("kad")?,
            records: protocol("records")?,
        })
    }
}

/// What the stack is built from.
pub(crate) struct Stack {
    pub(crate) secret: [u8; 32],
    pub(crate) names: Names,
    pub(crate) line: Option<Line>,
    pub(crate) mdns: bool,
    pub(crate) allow: Option<Vec<PeerId>>,
    pub(crate) max_connections: u32,
}

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // The two that refuse connections come first: what they deny, the others never see.
    allow: Toggle<allow_block_list::Behaviour<allow_block_list::AllowedPeers>>,
    limits: connection_limits::Behaviour,
    pub(crate) kad: kad::Behaviour<NoRecords>,
    pub(crate) records: request_response::Behaviour<RecordCodec>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Builds the stack; needs a tokio runtime.
pub(crate) fn build(stack: Stack) -> Result<Swarm<Behaviour>, DiscoveryError> {
    let failed = |error: &dyn std::fmt::Display| DiscoveryError::Start(error.to_string());
    let keys = Keypair::ed25519_from_bytes(stack.secret).map_err(|e| failed(&e))?;
    let me = keys.public().to_peer_id();
    let transport = transport(&keys, stack.line.clone()).map_err(|e| failed(&e))?;
    let behaviour = behaviour(&keys, stack);
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT);
    Ok(Swarm::new(transport, behaviour, me, config))
}

fn transport(keys: &Keypair, line: Option<Line>) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let (noise, yamux) = (noise::Config::new(keys)?, yamux::Config::default());
    Ok(match line {
        None => {
            let up = tcp.upgrade(Version::V1Lazy).authenticate(noise).multiplex(yamux);
            TransportTimeout::new(up.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))), DIAL_TIMEOUT)
                .boxed()
        }
        Some(line) => {
            let slow = tcp.and_then(move |stream, end| {
                let line = line.clone();
                Box::pin(async move { Ok::<_, std::io::Error>(line.lay(stream, end).await) })
            });
            let up = slow.upgrade(Version::V1Lazy).authenticate(noise).multiplex(yamux);
            let up = up.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
            TransportTimeout::new(up, DIAL_TIMEOUT).boxed()
        }
    })
}

fn behaviour(keys: &Keypair, stack: Stack) -> Behaviour {
    let me = keys.public().to_peer_id();
    let identify = identify::Config::new(stack.names.identify, keys.public())
        .with_agent_version(concat!("hubless/", env!("CARGO_PKG_VERSION")).to_owned())
        // Only addresses that we publish: no loopback address leaves the machine.
        .with_hide_listen_addrs(true)
        .with_push_listen_addr_updates(true);
    let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
    Behaviour {
        allow: stack.allow.map(allowed).into(),
        limits: connection_limits::Behaviour::new(limits(stack.max_connections)),
        kad: kad::Behaviour::with_config(me, NoRecords, kad_config(stack.names.kad)),
        records: request_response::Behaviour::new(
            [(stack.names.records, ProtocolSupport::Full)],
            request_response::Config::default()
                .with_request_timeout(RECORDS_TIMEOUT)
                .with_max_concurrent_streams(MAX_QUESTIONS),
        ),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping),
        mdns: if stack.mdns { mdns_behaviour(me) } else { None }.into(),
    }
}

fn kad_config(protocol: StreamProtocol) -> kad::Config {
    let mut config = kad::Config::new(protocol);
    config
        .set_query_timeout(WALK_TIMEOUT)
        .set_max_packet_size(MAX_KAD_MESSAGE)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_caching(kad::Caching::Disabled)
        // It keeps no records.
        .set_provider_publication_interval(None)
        .set_provider_record_ttl(None)
        .set_publication_interval(None)
        .set_replication_interval(None)
        .set_record_ttl(None);
    config
}

fn allowed(peers: Vec<PeerId>) -> allow_block_list::Behaviour<allow_block_list::AllowedPeers> {
    let mut list = allow_block_list::Behaviour::<allow_block_list::AllowedPeers>::default();
    for peer in peers {
        list.allow_peer(peer);
    }
    list
}

/// Connections that are kept while nothing needs them: half. A quarter is always left for nodes that come, else one whose
/// connections were all taken would turn newcomers away for as long as those who took them stay; and a quarter for those
/// that this node opens itself.
pub(crate) fn kept_connections(max: u32) -> usize {
    (max / 2) as usize
}

/// See [`kept_connections`].
fn limits(max: u32) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING))
        .with_max_pending_outgoing(Some(MAX_PENDING))
        .with_max_established_incoming(Some(max - max / 4))
        .with_max_established(Some(max))
        .with_max_established_per_peer(Some(MAX_PER_PEER))
}

/// mDNS, or nothing where the machine does not let us: the rest works without.
fn mdns_behaviour(me: PeerId) -> Option<mdns::tokio::Behaviour> {
    match mdns::tokio::Behaviour::new(mdns::Config::default(), me) {
        Ok(behaviour) => Some(behaviour),
        Err(error) => {
            tracing::warn!(%error, "cannot look for nodes on the local network (mDNS)");
            None
        }
    }
}
