//! The QUIC endpoint: this node's key, the sockets it was given, and nobody else's servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hubless_limits::{Limits, Rate};
use hubless_types::{NodeId, Provider};
use iroh::endpoint::{BindOpts, Connection, MtuDiscoveryConfig, QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey, TransportAddr};

use crate::limits::{KEEP_ALIVE, MAX_DIALLED_ADDRS, MAX_STREAMS, QUIC_IDLE};
use crate::{TransferError, get, wire};

/// How this node speaks with others.
#[derive(Clone)]
pub struct TransferConfig {
    /// The node's ed25519 secret.
    pub secret: [u8; 32],
    /// UDP addresses to bind, exactly these, at least one; port 0 takes any free port. The first of each address family is
    /// used to reach whatever no other one's network contains.
    pub listen: Vec<SocketAddr>,
    /// In a closed swarm, the only nodes that are spoken with; `None` speaks with all.
    pub allow: Option<Vec<NodeId>>,
    /// Most connections that this node opens, and, counted apart, that others open with it.
    pub max_connections: usize,
    /// Caps on what goes out and comes in.
    pub limits: Limits,
    /// Segments that are sent at once.
    pub upload_slots: usize,
    /// TCP port at which others fetch long segments, at the addresses of `listen`; 0 takes any free port, `None` serves and
    /// fetches over QUIC alone.
    pub bulk_port: Option<u16>,
    /// Whether peers are told which repositories are held here; else they have to know what they ask for.
    pub lists_repos: bool,
}

impl TransferConfig {
    /// Speaks with everybody, with the usual bounds: 64 connections each way, 16 uploads, no caps.
    pub fn new(secret: [u8; 32], listen: Vec<SocketAddr>) -> Self {
        Self {
            secret,
            listen,
            allow: None,
            max_connections: 64,
            limits: Limits::default(),
            upload_slots: 16,
            bulk_port: Some(0),
            lists_repos: true,
        }
    }
}

impl std::fmt::Debug for TransferConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransferConfig")
            .field("listen", &self.listen)
            .field("allow", &self.allow)
            .field("max_connections", &self.max_connections)
            .field("upload_slots", &self.upload_slots)
            .field("bulk_port", &self.bulk_port)
            .finish_non_exhaustive()
    }
}

/// Bytes of one stream that a peer may send ahead of what is read. From 4 MiB on transfers break ("too many
/// gaps in stream buffer" in noq).
const STREAM_WINDOW: u32 = 1_250_000;

/// Least bytes of one connection that a peer may send ahead of what is read, whatever the cap: one group.
const LEAST_WINDOW: u64 = 16 * 1024;

/// Bytes that are kept of what a peer has not confirmed.
const SEND_WINDOW: u64 = 2 * 1024 * 1024;

/// Largest UDP payload that is tried: what an Ethernet frame takes over IPv4.
const MAX_DATAGRAM: u16 = 1472;

/// Network length by which a further address of the same family is told from the first.
const fn prefix_len(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 24 } else { 64 }
}

pub(crate) async fn bind(config: &TransferConfig) -> Result<Endpoint, TransferError> {
    let first = config.listen.first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let failed = |addr, why: String| TransferError::Listen { addr, why };
    if config.listen.is_empty() {
        return Err(failed(first, "no address was given".into()));
    }
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&config.secret))
        .alpns(vec![get::ALPN.to_vec(), wire::ALPN.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .net_report_config(iroh::NetReportConfig::minimal())
        .transport_config(transport(None).map_err(|why| failed(first, why.to_owned()))?)
        .clear_ip_transports();
    // iroh takes no further address of a family once it has that family's default, so the defaults come last.
    let (defaults, others) = split_defaults(&config.listen);
    let named = |addr: SocketAddr| {
        BindOpts::default().set_prefix_len(prefix_len(addr.ip())).set_is_default_route(false)
    };
    let others = others.into_iter().map(|addr| (addr, named(addr)));
    for (addr, options) in others.chain(defaults.into_iter().map(|addr| (addr, BindOpts::default()))) {
        builder = builder.bind_addr_with_opts(addr, options).map_err(|e| failed(addr, e.to_string()))?;
    }
    builder.bind().await.map_err(|e| failed(first, cause(&e)))
}

/// The first address of each family, and the others.
fn split_defaults(listen: &[SocketAddr]) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let first_of = |addr: &SocketAddr| listen.iter().find(|a| a.is_ipv4() == addr.is_ipv4());
    listen.iter().partition(|addr| first_of(addr) == Some(*addr))
}

/// The last cause of an error: what the system said.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Bytes of one connection that a peer may send ahead of what is read, under a cap on what comes in: a quarter of a
/// second's worth, so that the cap holds on the line and not only in the reading. Without a cap there is no such bound.
pub(crate) fn window_under(rate: Rate) -> VarInt {
    let Some(rate) = rate.bytes() else { return VarInt::MAX };
    VarInt::from_u64((rate / 4).max(LEAST_WINDOW)).unwrap_or(VarInt::MAX)
}

/// How connections behave; `window` bounds one connection's unread bytes from its very beginning.
pub(crate) fn transport(window: Option<VarInt>) -> Result<QuicTransportConfig, &'static str> {
    let idle = QUIC_IDLE.try_into().map_err(|_| "bad timeout")?;
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_DATAGRAM);
    // No `ack_frequency_config`: noq 1.4 writes its frame without looking whether it has room, and panics where a packet is
    // full of others, as after many resets.
    Ok(QuicTransportConfig::builder()
        .receive_window(window.unwrap_or(VarInt::MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .send_fairness(false)
        .mtu_discovery_config(Some(mtu))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(KEEP_ALIVE)
        .default_path_keep_alive_interval(KEEP_ALIVE)
        .default_path_max_idle_timeout(QUIC_IDLE.max(Duration::from_secs(1)))
        .build())
}

/// Where `peer` is dialled: its key and at most 16 of its addresses; `None` if the key is no point of the curve.
pub(crate) fn dial_addr(peer: &Provider) -> Option<EndpointAddr> {
    let id = EndpointId::from_bytes(peer.node.as_bytes()).ok()?;
    let addrs = peer.addrs.iter().filter(|a| a.port() != 0 && !a.ip().is_unspecified());
    Some(EndpointAddr::from_parts(id, addrs.take(MAX_DIALLED_ADDRS).copied().map(TransportAddr::Ip)))
}

/// The node behind a connection.
pub(crate) fn node_of(id: &EndpointId) -> NodeId {
    NodeId::from_bytes(*id.as_bytes())
}

/// Where the connection leads, and how far that is.
pub(crate) fn way(connection: &Connection) -> Option<(SocketAddr, Duration)> {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
    match path.remote_addr() {
        TransportAddr::Ip(addr) => Some((*addr, path.rtt())),
        _ => None,
    }
}

/// Where the other end of a connection is met.
pub(crate) fn address_of(connection: &Connection) -> Option<SocketAddr> {
    let paths = connection.paths();
    let mut ips = paths.iter().filter_map(|path| match path.remote_addr() {
        TransportAddr::Ip(addr) => Some((path.is_selected(), addr.to_owned())),
        _ => None,
    });
    let first = ips.next()?;
    let (_, addr) = if first.0 { first } else { ips.find(|(selected, _)| *selected).unwrap_or(first) };
    Some(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
}
