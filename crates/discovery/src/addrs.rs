//! Addresses: between libp2p's form and ours, which are worth dialling, and which are told to whom.
//!
//! Pure. One port number serves libp2p on TCP and iroh on UDP, so a socket address is all that is kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hubless_types::NodeId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::{PeerId, identity};

use crate::MAX_RECORD_ADDRS;

/// From how far away an address can be dialled; nearer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// This machine.
    Loopback,
    /// This network: private, shared (RFC 6598), unique local, and those set aside for documents and benchmarks,
    /// which lead nowhere beyond it.
    Private,
    /// Everywhere.
    Global,
}

/// How far an address reaches; `None` if it names no single host that can be dialled.
pub(crate) fn scope(ip: IpAddr) -> Option<Scope> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Option<Scope> {
    let [a, b, ..] = ip.octets();
    let set_aside = ip.is_documentation() || (a == 198 && b & 0xfe == 18) || (a == 100 && b & 0xc0 == 64);
    match ip {
        _ if a == 0 || a >= 224 => None,
        _ if ip.is_loopback() => Some(Scope::Loopback),
        _ if ip.is_private() || ip.is_link_local() || set_aside => Some(Scope::Private),
        _ => Some(Scope::Global),
    }
}

fn scope_v6(ip: Ipv6Addr) -> Option<Scope> {
    match ip {
        // A link-local address cannot be dialled without knowing its interface.
        _ if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() => None,
        _ if ip.is_loopback() => Some(Scope::Loopback),
        _ if ip.is_unique_local() => Some(Scope::Private),
        _ => Some(Scope::Global),
    }
}

/// Whether a peer that is met at this address is on this machine, or on a link of ours: in a subnet of one of `own`.
///
/// That the address is private does not say it: virtual private networks and carriers' NATs (100.64/10) use the same
/// ranges for what is far away. How long our subnets' prefixes are, libp2p does not tell: /24 and /64 are taken, as homes
/// and labs have them. In a larger subnet the neighbours are still found by mDNS, which does not leave a link.
pub(crate) fn is_on_link(addr: &SocketAddr, own: &[SocketAddr]) -> bool {
    match scope(addr.ip()) {
        Some(Scope::Loopback) => true,
        Some(Scope::Private) => own.iter().any(|own| same_subnet(own.ip(), addr.ip())),
        Some(Scope::Global) | None => false,
    }
}

/// Whether the address leads to this machine, or to a network that is nobody's alone.
pub(crate) fn is_near(addr: &SocketAddr) -> bool {
    matches!(scope(addr.ip()), Some(Scope::Loopback | Scope::Private))
}

/// Whether the address could be dialled from anywhere.
pub(crate) fn is_global(addr: &SocketAddr) -> bool {
    scope(addr.ip()) == Some(Scope::Global)
}

fn is_loopback(addr: &SocketAddr) -> bool {
    scope(addr.ip()) == Some(Scope::Loopback)
}

/// `/ip4|ip6/…/tcp/…[/p2p/…]` as a socket address; `None` for any other form, and if it names another peer
/// than `of`.
pub(crate) fn to_socket(addr: &Multiaddr, of: Option<&PeerId>) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip).to_canonical(),
        _ => return None,
    };
    let Some(Protocol::Tcp(port)) = parts.next() else { return None };
    match parts.next() {
        None => {}
        Some(Protocol::P2p(peer)) if of.is_none_or(|of| *of == peer) && parts.next().is_none() => {}
        Some(_) => return None,
    }
    (port != 0).then(|| SocketAddr::new(ip, port))
}

/// The socket address in libp2p's form.
pub(crate) fn to_multiaddr(addr: &SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Tcp(addr.port()))
}

/// What stands before the key in a peer id: an identity multihash of a protobuf of an ed25519 key.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The node behind a peer id; `None` if its key is not ed25519.
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let bytes = peer.to_bytes();
    bytes.strip_prefix(&PEER_ID_PREFIX)?.try_into().ok().map(NodeId::from_bytes)
}

/// The peer id of a node; `None` if its bytes are no ed25519 key.
pub(crate) fn peer_of(node: &NodeId) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// Which of our own addresses others are told: the configured ones, then those we listen on, the far-reaching
/// first. Loopback only where there is nothing else: there, everybody is on this machine.
pub(crate) fn published(listen: &[SocketAddr], external: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut own: Vec<SocketAddr> =
        listen.iter().copied().filter(|addr| addr.port() != 0 && scope(addr.ip()).is_some()).collect();
    own.sort_by_key(|addr| (std::cmp::Reverse(scope(addr.ip())), *addr));
    let mut all = external.to_vec();
    all.extend(own);
    if all.iter().any(|addr| !is_loopback(addr)) {
        all.retain(|addr| !is_loopback(addr));
    }
    dedup(all)
}

/// What is known of how a peer is reached.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sightings {
    /// Addresses at which we have reached it.
    pub(crate) dialed: Vec<SocketAddr>,
    /// Addresses from which it has reached us; their ports are no listening ports.
    pub(crate) came_from: Vec<IpAddr>,
    /// Where it says it listens.
    pub(crate) listens: Vec<SocketAddr>,
}

impl Sightings {
    /// Where to dial it: what worked, then where it came from with the ports it says it listens on, then what it
    /// says. A loopback address is believed only of a peer that is on this machine.
    pub(crate) fn dialable(&self) -> Vec<SocketAddr> {
        let local = self.is_local();
        let listens: Vec<SocketAddr> =
            self.listens.iter().copied().filter(|a| acceptable(a, local)).collect();
        let mut ports: Vec<u16> = listens.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        let came = self.came_from.iter().filter(|ip| scope(**ip).is_some());
        let observed = came.flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port)));
        dedup(self.dialed.iter().copied().chain(observed).chain(listens).collect())
    }

    /// Whether it was met on this machine or at a private address: what it says of private addresses may hold here.
    pub(crate) fn is_near(&self) -> bool {
        let ips = self.dialed.iter().map(SocketAddr::ip).chain(self.came_from.iter().copied());
        ips.into_iter().any(|ip| matches!(scope(ip), Some(Scope::Loopback | Scope::Private)))
    }

    /// Whether it was met over loopback: it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let ips = self.dialed.iter().map(SocketAddr::ip).chain(self.came_from.iter().copied());
        ips.into_iter().any(|ip| scope(ip) == Some(Scope::Loopback))
    }
}

/// Whether an address that somebody told us is worth keeping.
pub(crate) fn acceptable(addr: &SocketAddr, loopback_too: bool) -> bool {
    addr.port() != 0 && scope(addr.ip()).is_some() && (loopback_too || !is_loopback(addr))
}

/// Whether what somebody says of a third node's address may be dialled: a loopback address if the one who says so is on
/// this machine, a private one if it is near, or if the address is in the same subnet as one of our own. Else a
/// stranger far away could have us dial whatever lies on our own network.
pub(crate) fn believable(addr: &SocketAddr, by_local: bool, by_near: bool, own: &[SocketAddr]) -> bool {
    match scope(addr.ip()) {
        Some(Scope::Global) => true,
        Some(Scope::Private) => by_near || own.iter().any(|own| same_subnet(own.ip(), addr.ip())),
        Some(Scope::Loopback) => by_local,
        None => false,
    }
}

fn same_subnet(a: IpAddr, b: IpAddr) -> bool {
    match (a.to_canonical(), b.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        _ => false,
    }
}

/// Of what others say of a provider's addresses, those worth dialling: none of our own, loopback last.
pub(crate) fn told(addrs: impl IntoIterator<Item = SocketAddr>, own: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addrs: Vec<SocketAddr> =
        addrs.into_iter().filter(|addr| acceptable(addr, true) && !own.contains(addr)).collect();
    addrs.sort_by_key(is_loopback);
    dedup(addrs)
}

/// Each address once, in order, at most [`MAX_RECORD_ADDRS`].
pub(crate) fn dedup(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut kept: Vec<SocketAddr> = Vec::new();
    for addr in addrs {
        if kept.len() < MAX_RECORD_ADDRS && !kept.contains(&addr) {
            kept.push(addr);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_id_of_secret;
    use proptest::prelude::*;

    fn addrs(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn a_multiaddr_is_read_only_in_the_form_we_dial() {
        let peer = peer_of(&node_id_of_secret(&[1; 32])).unwrap();
        let read = |text: &str| to_socket(&text.parse().unwrap(), Some(&peer));
        assert_eq!(read("/ip4/10.0.0.1/tcp/4001"), Some("10.0.0.1:4001".parse().unwrap()));
        assert_eq!(read(&format!("/ip6/::1/tcp/1/p2p/{peer}")), Some("[::1]:1".parse().unwrap()));
        assert_eq!(read("/ip6/::ffff:10.0.0.1/tcp/1"), Some("10.0.0.1:1".parse().unwrap()));
        for other in ["/dns/a.example/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/0"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(read(&format!("/ip4/10.0.0.1/tcp/1/p2p/{}", PeerId::random())), None);
        assert_eq!(read(&format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}/p2p-circuit")), None);
    }

    #[test]
    fn a_node_and_its_peer_id_are_one() {
        let node = node_id_of_secret(&[7; 32]);
        assert_eq!(node_of(&peer_of(&node).unwrap()), Some(node));
    }

    #[test]
    fn loopback_is_told_only_where_there_is_nothing_else() {
        let wildcard = addrs("127.0.0.1:1 192.168.1.5:1 9.9.9.9:1 [fe80::1]:1");
        assert_eq!(published(&wildcard, &[]), addrs("9.9.9.9:1 192.168.1.5:1"));
        assert_eq!(published(&addrs("127.0.0.1:1"), &[]), addrs("127.0.0.1:1"));
        assert_eq!(published(&addrs("10.0.0.2:1"), &addrs("1.1.1.1:9")), addrs("1.1.1.1:9 10.0.0.2:1"));
    }

    #[test]
    fn where_a_peer_came_from_outranks_what_it_says() {
        let seen = Sightings {
            came_from: vec!["1.1.1.7".parse().unwrap()],
            listens: addrs("192.168.1.5:4001 127.0.0.1:4001"),
            ..Sightings::default()
        };
        assert_eq!(seen.dialable(), addrs("1.1.1.7:4001 192.168.1.5:4001"));
        let reached = Sightings { dialed: addrs("9.9.9.1:4001"), ..seen };
        assert_eq!(reached.dialable()[0], addrs("9.9.9.1:4001")[0]);
    }

    #[test]
    fn a_peer_on_this_machine_may_name_loopback() {
        let seen = Sightings {
            came_from: vec!["127.0.0.1".parse().unwrap()],
            listens: addrs("127.0.0.1:4001"),
            ..Sightings::default()
        };
        assert_eq!(seen.dialable(), addrs("127.0.0.1:4001"));
    }

    #[test]
    fn a_stranger_far_away_cannot_have_us_dial_our_own_network() {
        let own = addrs("192.168.7.2:1");
        let (loopback, here, elsewhere, far) =
            ("127.0.0.1:80", "192.168.7.9:80", "10.1.1.1:80", "9.9.9.9:80");
        let ok = |addr: &str, local, near| believable(&addr.parse().unwrap(), local, near, &own);
        assert_eq!([loopback, elsewhere, here, far].map(|a| ok(a, false, false)), [false, false, true, true]);
        assert_eq!([loopback, elsewhere].map(|a| ok(a, false, true)), [false, true]);
        assert!(ok(loopback, true, true) && !ok("224.0.0.1:5", true, true));
    }

    #[test]
    fn a_private_address_is_on_a_link_of_ours_only_in_a_subnet_of_ours() {
        let own = addrs("10.1.2.3:1 [fd00:1::2]:1 127.0.0.1:1 100.64.7.7:1");
        let on_link = |addr: &str| is_on_link(&addr.parse().unwrap(), &own);
        let here = ["10.1.2.200:9", "100.64.7.9:9", "[fd00:1::9]:9", "127.0.0.1:9", "[::1]:9"];
        assert_eq!(here.map(on_link), [true; 5]);
        let away = ["100.64.0.9:9", "10.1.3.3:9", "172.16.0.9:9", "[fd00:2::9]:9", "9.9.9.9:9"];
        assert_eq!(away.map(on_link), [false; 5]);
        assert!(!is_on_link(&own[0], &[]));
    }

    #[test]
    fn nobody_is_sent_to_ourselves_or_to_a_crowd() {
        let own = addrs("127.0.0.1:1");
        let heard = addrs("127.0.0.1:1 127.0.0.1:2 224.0.0.1:5 0.0.0.0:5 10.0.0.1:5 255.255.255.255:5");
        assert_eq!(told(heard, &own), addrs("10.0.0.1:5 127.0.0.1:2"));
    }

    proptest! {
        #[test]
        fn addresses_survive_both_forms(ip: IpAddr, port in 1u16..) {
            let addr = SocketAddr::new(ip.to_canonical(), port);
            prop_assert_eq!(to_socket(&to_multiaddr(&addr), None), Some(addr));
        }

        #[test]
        fn no_list_outgrows_its_bound(list: Vec<(IpAddr, u16)>) {
            let list: Vec<SocketAddr> = list.into_iter().map(SocketAddr::from).collect();
            prop_assert!(told(list.clone(), &[]).len() <= MAX_RECORD_ADDRS);
            prop_assert!(published(&list, &list).len() <= 2 * MAX_RECORD_ADDRS);
        }
    }
}
