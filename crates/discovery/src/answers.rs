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
                Answer::Found { providers: self.providers(&key, &node), closer }
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

    /// Ourselves first, the others in no order, so that no twenty nodes can hide the rest.
    fn providers(&self, key: &[u8], asker: &NodeId) -> Vec<Named> {
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
        let named = |row: ProviderRow| Named {
            node: row.provider,
            // Our own addresses are those of the day.
            addrs: if row.own { addrs::dedup(self.published.clone()) } else { row.addrs },
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
