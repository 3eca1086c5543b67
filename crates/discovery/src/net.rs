//! The libp2p stack: transport, protocols and their limits.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, Swarm, SwarmBuilder, allow_block_list, connection_limits, identify, kad, mdns,
    noise, ping, tcp, yamux,
};

use crate::DiscoveryError;
use crate::records::Records;

/// Connections without a use are closed after this; the driver closes more when it has too many.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How often a connection is tried, so that a dead one is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long an answer to that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one walk over the DHT may take, each of its two halves for an announcement.
pub(crate) const WALK_TIMEOUT: Duration = Duration::from_secs(60);
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
}

impl Names {
    pub(crate) fn new(network: &str) -> Result<Self, DiscoveryError> {
        let kad = StreamProtocol::try_from_owned(format!("/{network}/kad/1"));
        let kad = kad.map_err(|error| DiscoveryError::Start(error.to_string()))?;
        Ok(Self { identify: format!("/{network}/id/1"), kad })
    }
}

/// What the stack is built from.
pub(crate) struct Stack {
    pub(crate) secret: [u8; 32],
    pub(crate) names: Names,
    pub(crate) records: Records,
    pub(crate) mdns: bool,
    pub(crate) allow: Option<Vec<PeerId>>,
    pub(crate) max_connections: u32,
}

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // The two that refuse connections come first: what they deny, the others never see.
    allow: Toggle<allow_block_list::Behaviour<allow_block_list::AllowedPeers>>,
    limits: connection_limits::Behaviour,
    pub(crate) kad: kad::Behaviour<Records>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// Builds the stack; needs a tokio runtime.
pub(crate) fn build(stack: Stack) -> Result<Swarm<Behaviour>, DiscoveryError> {
    let failed = |error: &dyn std::fmt::Display| DiscoveryError::Start(error.to_string());
    let keys = Keypair::ed25519_from_bytes(stack.secret).map_err(|e| failed(&e))?;
    let behaviour = behaviour(&keys, stack);
    let swarm = SwarmBuilder::with_existing_identity(keys)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|e| failed(&e))?
        .with_behaviour(|_| behaviour)
        .map_err(|e| failed(&e))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
        .build();
    Ok(swarm)
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
        kad: kad::Behaviour::with_config(me, stack.records, kad_config(stack.names.kad)),
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
        // Announcing again is scheduled elsewhere, and value records are not kept.
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

/// A quarter of the connections is kept for those that this node opens itself.
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
