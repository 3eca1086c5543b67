//! Addresses: which port to take, and under which address others can dial it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use hubless_discovery::pick_port;

use crate::error::NodeError;

/// Where other nodes come in, for errors.
const FOR_NODES: &str = "other nodes";
/// Where Hub clients come in, for errors.
const FOR_CLIENTS: &str = "Hub clients";

/// The address to listen on for other nodes: as it is given if it is free for TCP and UDP, else, for port 0, with
/// a port that is.
///
/// # Errors
/// [`NodeError::PortInUse`] names the address and the protocol.
pub(super) fn for_nodes(asked: SocketAddr) -> Result<SocketAddr, NodeError> {
    if asked.port() == 0 {
        return Ok(SocketAddr::new(asked.ip(), pick_port(asked.ip())?));
    }
    // libp2p would share the port with another of its kind, and each would get half of the connections.
    TcpListener::bind(asked).map_err(|e| refused(asked, "TCP", FOR_NODES, e))?;
    UdpSocket::bind(asked).map_err(|e| refused(asked, "UDP", FOR_NODES, e))?;
    Ok(asked)
}

/// Listens for Hub clients.
///
/// # Errors
/// [`NodeError::PortInUse`] names the address.
pub(super) async fn for_clients(asked: SocketAddr) -> Result<tokio::net::TcpListener, NodeError> {
    tokio::net::TcpListener::bind(asked).await.map_err(|e| refused(asked, "TCP", FOR_CLIENTS, e))
}

fn refused(addr: SocketAddr, proto: &'static str, what: &'static str, source: io::Error) -> NodeError {
    match source.kind() {
        io::ErrorKind::AddrInUse => NodeError::PortInUse { addr, proto, what },
        _ => NodeError::Listen { addr, proto, what, source },
    }
}

/// The address that clients on this machine use: a listener on every address is reached by loopback.
pub(super) fn for_this_machine(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listening.port())
}

/// The address that others dial: of a listener on every address, the one by which this machine reaches the world,
/// else loopback.
pub(super) fn for_others(listening: SocketAddr) -> SocketAddr {
    if !listening.ip().is_unspecified() {
        return listening;
    }
    let outward = outward_ip(listening.is_ipv6()).unwrap_or_else(|| for_this_machine(listening).ip());
    SocketAddr::new(outward, listening.port())
}

/// Connecting a UDP socket sends nothing; it only asks the routing table which address would be used. The
/// destinations are of the blocks kept for documentation (RFC 5737, RFC 3849).
fn outward_ip(v6: bool) -> Option<IpAddr> {
    let (from, to): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    };
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_protocol() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = tcp.local_addr().unwrap();
        let error = for_nodes(addr).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("port {} is in use: cannot listen on {addr} (TCP) for other nodes", addr.port())
        );
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = udp.local_addr().unwrap();
        assert!(for_nodes(addr).unwrap_err().to_string().contains("(UDP)"));
    }

    #[test]
    fn port_0_takes_a_free_one() {
        let addr = for_nodes("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(addr.port(), 0);
        assert_eq!(for_nodes(addr).unwrap(), addr);
    }

    #[test]
    fn nobody_is_told_to_dial_every_address() {
        for listening in ["0.0.0.0:7", "[::]:7"] {
            let listening: SocketAddr = listening.parse().unwrap();
            assert!(!for_others(listening).ip().is_unspecified());
            assert!(for_this_machine(listening).ip().is_loopback());
        }
        let given: SocketAddr = "127.0.0.1:7".parse().unwrap();
        assert_eq!((for_others(given), for_this_machine(given)), (given, given));
    }
}
