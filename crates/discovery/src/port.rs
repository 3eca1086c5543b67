//! One port number, free on TCP and UDP alike, for libp2p and iroh.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use crate::DiscoveryError;

/// How many ports are tried before giving up.
const MAX_TRIES: u32 = 32;

/// A port of `ip` that is free on TCP and UDP now. The caller binds both soon; between now and then somebody
/// else may take it, so a failure to bind is worth another try.
///
/// # Errors
/// [`DiscoveryError::NoFreePort`] after 32 tries.
pub fn pick_port(ip: IpAddr) -> Result<u16, DiscoveryError> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..MAX_TRIES {
        match try_port(ip) {
            Ok(port) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(DiscoveryError::NoFreePort { ip, tries: MAX_TRIES, source: last })
}

fn try_port(ip: IpAddr) -> io::Result<u16> {
    let tcp = TcpListener::bind(SocketAddr::new(ip, 0))?;
    let port = tcp.local_addr()?.port();
    UdpSocket::bind(SocketAddr::new(ip, port))?;
    Ok(port)
}

/// Fails if `addr` cannot be listened on. libp2p listens with SO_REUSEPORT, under which two nodes would share a
/// port and each get half of the connections; this finds the other one first.
pub(crate) fn probe(addr: SocketAddr) -> Result<(), DiscoveryError> {
    match TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(DiscoveryError::PortInUse { addr }),
        Err(error) => Err(DiscoveryError::Listen { addr, why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picked_port_can_be_bound_on_both() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let addr = SocketAddr::new(ip, pick_port(ip).unwrap());
        let _tcp = TcpListener::bind(addr).unwrap();
        let _udp = UdpSocket::bind(addr).unwrap();
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let error = probe(addr).unwrap_err();
        assert_eq!(error.to_string(), format!("{addr} (tcp) is already in use"));
        assert!(error.hint().unwrap().contains("--listen"));
    }
}
