//! What goes wrong in discovery, and what a person can do about it.

use std::io;
use std::net::SocketAddr;

use crate::TableError;

/// Why discovery could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Nobody is there to be told or asked.
    #[error("no other node of this network could be reached")]
    NoPeers,
    /// The walk over the DHT did not end in time.
    #[error("the walk over the DHT did not end within {secs} s")]
    Timeout {
        /// How long it was given, in seconds.
        secs: u64,
    },
    /// Discovery has ended.
    #[error("discovery has been stopped")]
    Stopped,
    /// Somebody else listens there.
    #[error("{addr} (tcp) is already in use")]
    PortInUse {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {addr} (tcp): {why}")]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// No port is free on TCP and UDP alike.
    #[error("no port of {ip} is free for both tcp and udp after {tries} tries")]
    NoFreePort {
        /// Where one was sought.
        ip: std::net::IpAddr,
        /// How many were tried.
        tries: u32,
        /// What the system said last.
        source: io::Error,
    },
    /// A setting that cannot be.
    #[error("`{key}` is {value}: {why}")]
    Config {
        /// The setting.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What it must be.
        why: &'static str,
    },
    /// The table of provider records failed.
    #[error("the table of provider records failed: {0}")]
    Table(#[source] TableError),
    /// The network stack could not be set up.
    #[error("cannot start the network stack: {0}")]
    Start(String),
}

impl DiscoveryError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoPeers => {
                Some("give a node that runs with `--bootstrap`, or let mDNS find one on this network")
            }
            Self::Timeout { .. } => {
                Some("it is tried again later; see `hubless status` for who is connected")
            }
            Self::PortInUse { .. } => {
                Some("stop the program that listens there, or choose another port with `--listen ADDR:PORT`")
            }
            Self::Listen { .. } => Some("choose an address of this machine with `--listen ADDR:PORT`"),
            Self::NoFreePort { .. } => Some("name a port with `--listen ADDR:PORT`"),
            Self::Config { .. } => Some("run `hubless check-config`"),
            Self::Table(_) => Some("run `hubless verify`; is the disk full?"),
            Self::Stopped | Self::Start(_) => None,
        }
    }
}
