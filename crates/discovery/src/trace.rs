//! What a lookup did, step by step, for people who look for a fault.

use std::net::SocketAddr;
use std::time::Instant;

use hubless_types::{NodeId, Provider};
use serde::Serialize;

use crate::addrs::node_of;
use crate::seek::{Fate, Seek};

/// A node that a lookup asked, or would have asked next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// Who.
    pub node: NodeId,
    /// Where it was to be reached.
    pub addrs: Vec<SocketAddr>,
    /// How many nodes led to it: 1 for those of the routing table.
    pub hop: u32,
    /// How many leading bits its place shares with the key's.
    pub near: u32,
    /// Whether it was connected before.
    pub connected: bool,
    /// How long it took, connecting included, in milliseconds.
    pub millis: u64,
    /// What it said, or why it said nothing.
    #[serde(flatten)]
    pub outcome: HopOutcome,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum HopOutcome {
    /// It named so many providers and so many other nodes.
    Answered {
        /// Providers of the key.
        providers: usize,
        /// Nodes to ask.
        closer: usize,
    },
    /// It said nothing.
    Failed {
        /// Why.
        why: String,
    },
}

/// A whole lookup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Where the key lies: the first 16 hex digits of its place.
    pub place: String,
    /// How many leading bits the nodes share that were all to be asked.
    pub bits: u32,
    /// How many nodes the network is taken to have.
    pub network: u64,
    /// Who was asked, in the order of their nearness to the key.
    pub hops: Vec<Hop>,
    /// Who provides the key, by what they said, in the order in which they were named.
    pub providers: Vec<Provider>,
    /// When the first provider was named, in milliseconds from the start; `None` if none was.
    pub first_millis: Option<u64>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// The nodes that a walk asked until `now`, when it ends.
pub(crate) fn hops(seek: &Seek, now: Instant) -> Vec<Hop> {
    let failed = |why: &str| HopOutcome::Failed { why: why.to_owned() };
    let hop = |c: &crate::seek::Candidate| {
        let (millis, outcome) = match &c.fate {
            Fate::New => return None,
            Fate::Asked { at } => {
                (now.duration_since(*at), failed("it had not answered when the time was up"))
            }
            Fate::Answered { took, closer, providers } => {
                (*took, HopOutcome::Answered { providers: *providers, closer: *closer })
            }
            Fate::Failed { took, why } => (*took, failed(why)),
        };
        Some(Hop {
            node: node_of(&c.contact.peer)?,
            addrs: c.contact.addrs.clone(),
            hop: c.hop,
            near: seek.target().shared_bits(&c.contact.place),
            connected: c.connected,
            millis: millis.as_millis() as u64,
            outcome,
        })
    };
    seek.candidates().filter_map(hop).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::PeerId;

    use super::*;
    use crate::place::Place;
    use crate::seek::Contact;

    #[test]
    fn whoever_has_not_answered_when_it_ends_is_told_of() {
        let (peer, now) =
            (libp2p::identity::Keypair::generate_ed25519().public().to_peer_id(), Instant::now());
        let start =
            [(Contact::new(peer, Vec::new()), true), (Contact::new(PeerId::random(), Vec::new()), true)];
        let mut seek = Seek::new(Place::of_key(b"a key"), 0, start);
        let asked = [seek.next(now), seek.next(now)].into_iter().flatten();
        assert_eq!(asked.filter(|contact| contact.peer == peer).count(), 1);
        let hops = hops(&seek, now + Duration::from_secs(2));
        let hop = hops.iter().find(|hop| hop.node == node_of(&peer).unwrap()).unwrap();
        assert_eq!(hop.millis, 2000);
        assert!(matches!(&hop.outcome, HopOutcome::Failed { why } if why.contains("time was up")), "{hop:?}");
    }
}
