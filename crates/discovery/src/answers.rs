//! What this node answers when others ask for records or hand them over.
//!
//! **Invariant:** a record is kept for whoever sent it and for nobody else: the message names no provider, the
//! connection does. It lives no longer than [`RECORD_TTL_SECS`], whatever its sender wishes.

use std::net::SocketAddr;
use std::time::Instant;

use hubless_types::NodeId;
use libp2p::PeerId;
use libp2p::request_response::Message;
use rand::seq::SliceRandom as _;

use crate::addrs::{self, node_of};
use crate::driver::Driver;
use crate::place::Place;
use crate::wire::{Answer, Ask, MAX_PROVIDERS, Named};
use crate::{ProviderRow, RECORD_TTL_SECS};

impl Driver {
    /// Somebody asks.
    pub(crate) fn on_ask(&mut self, peer: PeerId, message: Message<Ask, Answer>) {
        let Message::Request { request, channel, .. } = message else { return };
        let Some(node) = node_of(&peer) else { return };
        self.book.asked(&peer, Instant::now());
        let answer = match request {
            Ask::Find { key, bits } => {
                let closer = self.near(&Place::of_key(&key), bits, &peer);
                Answer::Found { providers: self.providers(&key, &peer, &node), closer }
            }
            Ask::Near { place, bits } => {
                Answer::Found { providers: Vec::new(), closer: self.near(&place, bits, &peer) }
            }
            Ask::Announce { ttl, addrs, keys } => self.keep(&peer, node, ttl, addrs, &keys),
            Ask::Withdraw { keys } => match self.table.remove_many(&keys, &node) {
                Ok(gone) => kept(gone, keys.len()),
                Err(error) => {
                    tracing::error!(%error, "cannot remove withdrawn provider records");
                    kept(0, keys.len())
                }
            },
        };
        // Fails if the asker is gone.
        let _ = self.swarm.behaviour_mut().records.send_response(channel, answer);
    }

    /// Ourselves first, the others in no order, so that no twenty nodes can hide the rest. Loopback addresses are for
    /// askers on this machine alone: elsewhere they lead to another one.
    fn providers(&self, key: &[u8], peer: &PeerId, asker: &NodeId) -> Vec<Named> {
        let local = self.book.is_local(peer);
        let mut rows = match self.table.providers(key, self.clock.now()) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "cannot read provider records");
                return Vec::new();
            }
        };
        rows.retain(|row| row.provider != *asker);
        rows.shuffle(&mut rand::rng());
        rows.sort_by_key(|row| !row.own);
        rows.truncate(MAX_PROVIDERS);
        let named = |row: ProviderRow| {
            // Our own addresses are those of the day.
            let mut addrs = if row.own { addrs::dedup(self.published.clone()) } else { row.addrs };
            addrs.retain(|addr| addrs::acceptable(addr, local));
            Named { node: row.provider, addrs }
        };
        rows.into_iter().map(named).collect()
    }

    fn keep(
        &mut self,
        peer: &PeerId,
        provider: NodeId,
        ttl: u32,
        told: Vec<SocketAddr>,
        keys: &[Vec<u8>],
    ) -> Answer {
        let local = self.book.is_local(peer);
        let told = told.into_iter().filter(|addr| addrs::acceptable(addr, local));
        // Where it really is, before what it says.
        let addrs = addrs::dedup(self.book.dialable(peer).into_iter().chain(told).collect());
        let expires = self.clock.now().plus(u64::from(ttl).min(RECORD_TTL_SECS));
        let row = ProviderRow { provider, addrs, expires, own: false };
        match self.table.add_many(keys, &row) {
            Ok(verdicts) => {
                let stored = verdicts.iter().filter(|verdict| verdict.is_stored()).count();
                if let Some(verdict) = verdicts.iter().find(|verdict| !verdict.is_stored()) {
                    tracing::debug!(%peer, ?verdict, refused = keys.len() - stored, "provider records not kept");
                }
                kept(stored, keys.len())
            }
            Err(error) => {
                tracing::error!(%error, "cannot keep provider records");
                kept(0, keys.len())
            }
        }
    }
}

fn kept(kept: usize, of: usize) -> Answer {
    let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    Answer::Kept { kept: number(kept), refused: number(of.saturating_sub(kept)) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hubless_types::SystemClock;
    use libp2p::swarm::ConnectionId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::addrs::peer_of;
    use crate::book::Speaks;
    use crate::{DhtConfig, MemoryTable, node_id_of_secret, pick_port};

    const KEY: &[u8] = &[0x11, 20, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

    /// A node of its own, that nobody is connected with.
    async fn driver(n: u8) -> Driver {
        let ip = [127, 0, 0, 1].into();
        let config = DhtConfig::new([n; 32], vec![SocketAddr::new(ip, pick_port(ip).unwrap())]);
        let (_tell, tells) = mpsc::channel(1);
        let (_find, finds) = mpsc::channel(1);
        let (table, clock) = (Arc::new(MemoryTable::new()), Arc::new(SystemClock));
        Driver::start(config, table, clock, tells, finds).await.unwrap().0
    }

    /// Has a driver take a peer for one that came from `from`.
    fn meet(driver: &mut Driver, n: u8, from: &str) -> (PeerId, NodeId) {
        let node = node_id_of_secret(&[n; 32]);
        let (peer, now) = (peer_of(&node).unwrap(), Instant::now());
        driver.book.connected(peer, ConnectionId::new_unchecked(n.into()), from.parse().ok(), false, now);
        driver.book.identified(&peer, Speaks::OursServer, Vec::new(), now);
        (peer, node)
    }

    fn addrs(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|a| a.parse().unwrap()).collect()
    }

    /// Who is told of a record, and by whom, decides where its provider is dialled: nobody far away is sent to an address
    /// of their own machine or their own network.
    #[tokio::test]
    async fn addresses_that_lead_elsewhere_are_never_dialled_by_a_seeker_far_away() {
        let (mut keeper, mut seeker) = (driver(1).await, driver(2).await);
        let told = "127.0.0.1:80 127.9.9.9:22 10.1.1.1:80 192.168.7.1:80 9.9.9.9:4001";
        for (n, from) in [(3, "9.9.9.9:50000"), (4, "127.0.0.1:50000")] {
            let (peer, provider) = meet(&mut keeper, n, from);
            let kept = keeper.keep(&peer, provider, 60, addrs(told), &[KEY.to_vec()]);
            assert_eq!(kept, Answer::Kept { kept: 1, refused: 0 });
        }

        let (far, far_node) = meet(&mut keeper, 2, "1.1.1.1:50000");
        let answer = keeper.providers(KEY, &far, &far_node);
        assert_eq!(answer.len(), 2);
        let (by, _) = meet(&mut seeker, 1, "9.9.9.1:4001");
        for Named { node, addrs: heard } in answer {
            assert!(heard.iter().all(|addr| !addr.ip().is_loopback()), "{heard:?}");
            // It would not take their word either, were they to say so.
            let heard = heard.into_iter().chain(addrs(told)).collect();
            assert_eq!(seeker.addrs_of(&peer_of(&node).unwrap(), heard, Some(&by)), addrs("9.9.9.9:4001"));
        }

        let (here, here_node) = meet(&mut keeper, 5, "127.0.0.1:50001");
        let answer = keeper.providers(KEY, &here, &here_node);
        let loopback = |named: &Named| named.addrs.iter().filter(|addr| addr.ip().is_loopback()).count();
        let on_this_machine = |named: &Named| named.node == node_id_of_secret(&[4; 32]);
        assert!(answer.iter().all(|named| loopback(named) == if on_this_machine(named) { 2 } else { 0 }));
    }
}
