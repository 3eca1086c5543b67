//! Nodes and where they are reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::{ParseError, serde_as_text};

/// A node: its ed25519 public key.
///
/// Printed as libp2p prints it (base58 of the identity multihash, `12D3KooW…`), so that one text names a
/// node everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

/// What stands before an ed25519 key in a libp2p peer id: identity multihash (0x00) of 36 bytes, which are a
/// protobuf of key type 1 and 32 bytes of key (libp2p specs, peer-ids).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl NodeId {
    /// Takes the raw public key.
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The raw public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Enough of it to tell nodes apart in a table.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 8..].to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<u8> = PEER_ID_PREFIX.iter().chain(&self.0).copied().collect();
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let fail = || ParseError::new("node id", s, "it must be an ed25519 peer id, like `12D3KooW…`");
        if s.len() > 64 {
            return Err(fail());
        }
        let bytes = bs58::decode(s).into_vec().map_err(|_| fail())?;
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).ok_or_else(fail)?;
        key.try_into().map(Self).map_err(|_| fail())
    }
}

serde_as_text!(NodeId);

/// A host: by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name, looked up when it is dialled.
    Dns(String),
}

/// Where a node is reached: libp2p listens on TCP and iroh on UDP, both at this one port number.
///
/// Printed as a multiaddr: `/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr {
    /// Who is there.
    pub node: NodeId,
    /// On which host.
    pub host: Host,
    /// At which port.
    pub port: u16,
}

impl PeerAddr {
    /// The address of `node` at an IP address and port.
    pub fn new(node: NodeId, socket: SocketAddr) -> Self {
        Self { node, host: Host::Ip(socket.ip()), port: socket.port() }
    }

    /// The socket address, unless the host is a name.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Dns(_) => None,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "/ip4/{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "/ip6/{ip}")?,
            Host::Dns(name) => write!(f, "/dns/{name}")?,
        }
        write!(f, "/tcp/{}/p2p/{}", self.port, self.node)
    }
}

impl FromStr for PeerAddr {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let fail = |why: &str| ParseError::new("node address", s, why);
        let parts: Vec<&str> = s.split('/').collect();
        let ["", kind, host, "tcp", port, "p2p", node] = parts[..] else {
            return Err(fail("it must look like `/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…`"));
        };
        let host = match kind {
            "ip4" => Host::Ip(IpAddr::V4(host.parse().map_err(|_| fail("its IPv4 address is malformed"))?)),
            "ip6" => Host::Ip(IpAddr::V6(host.parse().map_err(|_| fail("its IPv6 address is malformed"))?)),
            "dns" | "dns4" | "dns6" if is_dns_name(host) => Host::Dns(host.to_owned()),
            "dns" | "dns4" | "dns6" => return Err(fail("its host name is malformed")),
            _ => return Err(fail("it must begin with `/ip4/`, `/ip6/` or `/dns/`")),
        };
        let port = port.parse().map_err(|_| fail("its port must be 0 to 65535"))?;
        Ok(Self { node: node.parse()?, host, port })
    }
}

fn is_dns_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

serde_as_text!(PeerAddr);

/// How a provider became known; nearer ones are asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderSource {
    /// It answered on the local network.
    Lan,
    /// This node is connected with it.
    Connected,
    /// A record on the DHT named it.
    Dht,
}

/// A node that is said to hold something, and where it may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Provider {
    /// Who.
    pub node: NodeId,
    /// Where, likeliest first; one port number serves TCP and UDP.
    pub addrs: Vec<SocketAddr>,
    /// How it became known.
    pub source: ProviderSource,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_node_id_prints_as_libp2p_does() {
        assert!(NodeId::from_bytes([7; 32]).to_string().starts_with("12D3KooW"));
    }

    proptest! {
        #[test]
        fn addresses_print_as_they_parse(key: [u8; 32], ip: IpAddr, port: u16) {
            let addr = PeerAddr::new(NodeId::from_bytes(key), SocketAddr::new(ip, port));
            prop_assert_eq!(addr.to_string().parse::<PeerAddr>(), Ok(addr));
        }

        #[test]
        fn no_text_makes_an_address_panic(text in "(/(ip4|ip6|dns|tcp|p2p|x)/?.{0,12}){0,6}") {
            let _ = text.parse::<PeerAddr>();
        }
    }

    #[test]
    fn an_address_may_name_its_host() {
        let text = format!("/dns/seed.example.org/tcp/4001/p2p/{}", NodeId::from_bytes([1; 32]));
        let addr: PeerAddr = text.parse().unwrap();
        assert_eq!((addr.to_string(), addr.socket()), (text, None));
    }
}
