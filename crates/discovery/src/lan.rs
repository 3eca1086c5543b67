//! What mDNS brings in, filtered: its service name is libp2p's own, so any libp2p program on the network answers.
//!
//! A discovered peer is dialled once and counts only when it has identified itself as one of ours. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;

use libp2p::PeerId;

use crate::addrs;

/// Most peers remembered from mDNS, ours and foreign.
const MAX_LAN_PEERS: usize = 256;
/// Most addresses kept of one.
const MAX_LAN_ADDRS: usize = 4;

/// What is known of a peer that mDNS named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It was dialled, or is about to be.
    Unknown,
    /// It speaks our protocol.
    Ours,
    /// It is some other libp2p program.
    Foreign,
}

#[derive(Debug)]
struct LanPeer {
    addrs: Vec<SocketAddr>,
    verdict: Verdict,
}

/// The peers of the local network.
#[derive(Debug, Default)]
pub(crate) struct LanTable {
    peers: HashMap<PeerId, LanPeer>,
}

impl LanTable {
    /// mDNS named a peer: whether it should be dialled to learn what it is.
    pub(crate) fn discovered(&mut self, peer: PeerId, addr: SocketAddr) -> bool {
        if !addrs::is_near(&addr) || addrs::node_of(&peer).is_none() {
            return false;
        }
        let full = self.peers.len() >= MAX_LAN_PEERS;
        if full && !self.peers.contains_key(&peer) {
            return false;
        }
        let fresh = LanPeer { addrs: Vec::new(), verdict: Verdict::Unknown };
        let known = self.peers.entry(peer).or_insert(fresh);
        if known.addrs.contains(&addr) || known.addrs.len() >= MAX_LAN_ADDRS {
            return false;
        }
        known.addrs.push(addr);
        known.verdict != Verdict::Foreign
    }

    /// A peer has said what it speaks.
    pub(crate) fn identified(&mut self, peer: &PeerId, ours: bool) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.verdict = if ours { Verdict::Ours } else { Verdict::Foreign };
        }
    }

    /// mDNS has not heard of an address for its time to live.
    pub(crate) fn expired(&mut self, peer: &PeerId, addr: &SocketAddr) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.addrs.retain(|a| a != addr);
            if known.addrs.is_empty() {
                self.peers.remove(peer);
            }
        }
    }

    /// Our peers on the local network, with their addresses there.
    pub(crate) fn ours(&self) -> impl Iterator<Item = (&PeerId, &[SocketAddr])> {
        let ours = self.peers.iter().filter(|(_, known)| known.verdict == Verdict::Ours);
        ours.map(|(peer, known)| (peer, known.addrs.as_slice()))
    }

    /// Where a peer of ours is on the local network.
    pub(crate) fn addrs(&self, peer: &PeerId) -> &[SocketAddr] {
        self.peers.get(peer).filter(|known| known.verdict == Verdict::Ours).map_or(&[], |known| &known.addrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn peer(n: u16) -> PeerId {
        let mut secret = [0; 32];
        secret[..2].copy_from_slice(&n.to_be_bytes());
        addrs::peer_of(&crate::node_id_of_secret(&secret)).unwrap()
    }

    #[test]
    fn a_peer_counts_only_once_it_speaks_our_protocol() {
        let mut lan = LanTable::default();
        assert!(lan.discovered(peer(1), addr("192.168.1.7:4001")));
        assert_eq!(lan.ours().count(), 0);
        lan.identified(&peer(1), true);
        assert_eq!(lan.addrs(&peer(1)), [addr("192.168.1.7:4001")]);
    }

    #[test]
    fn a_foreign_program_is_dialled_once_and_never_again() {
        let mut lan = LanTable::default();
        assert!(lan.discovered(peer(2), addr("192.168.1.8:4001")));
        lan.identified(&peer(2), false);
        assert!(!lan.discovered(peer(2), addr("192.168.1.8:4001")));
        assert!(!lan.discovered(peer(2), addr("192.168.1.8:4002")));
        assert_eq!(lan.ours().count(), 0);
    }

    #[test]
    fn an_answer_cannot_send_us_across_the_internet() {
        let mut lan = LanTable::default();
        assert!(!lan.discovered(peer(3), addr("9.9.9.5:25")));
        assert!(!lan.discovered(peer(3), addr("224.0.0.251:5353")));
    }

    #[test]
    fn an_expired_peer_is_forgotten() {
        let mut lan = LanTable::default();
        lan.discovered(peer(4), addr("10.0.0.4:1"));
        lan.identified(&peer(4), true);
        lan.expired(&peer(4), &addr("10.0.0.4:1"));
        assert_eq!(lan.ours().count(), 0);
        assert!(lan.discovered(peer(4), addr("10.0.0.4:1")));
    }

    #[test]
    fn a_storm_of_answers_is_bounded() {
        let mut lan = LanTable::default();
        let dials = (0..1_000).filter(|n| lan.discovered(peer(*n), addr("10.0.0.5:1"))).count();
        assert_eq!((dials, lan.peers.len()), (MAX_LAN_PEERS, MAX_LAN_PEERS));
        let more =
            (2..1_000u16).filter(|port| lan.discovered(peer(0), ([10, 0, 0, 5], *port).into())).count();
        assert_eq!(more, MAX_LAN_ADDRS - 1);
    }
}
