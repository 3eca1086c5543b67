//! One walk over the key space: whom to ask next, given who answered what. Pure: events and the time in, questions out.
//!
//! It begins with the nodes of the routing table nearest to its target and goes on to those that they name, a few at a
//! time. Whoever is slow no longer counts among those few, so that dead nodes cost patience once and not each time.
//!
//! **Invariant:** at most [`MAX_ASKED`] nodes are asked and [`MAX_CANDIDATES`] remembered, whatever strangers name; it
//! ends when everybody who counts was asked.
//!
//! **Defended:** anybody can make up nodes that are all nearer to a target than honest ones. The walk therefore asks for
//! all nodes of the part of the key space in which, by the size of the network, [`K`] honest ones live, and not just for
//! the [`K`] nearest; where the innermost quarter of it is crowded, every other question goes to somebody outside. **Not
//! defended:** somebody who also fills this node's routing table, or fills the whole part.
//! **Not here:** messages (`wire`), connections (`orders`).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::place::{Distance, K, Place, Region};

/// Questions under way at once, not counting slow ones.
const ALPHA: usize = 5;
/// Of the first ones so many go to nodes that are connected already, which saves the time of connecting.
const FIRST_CONNECTED: usize = 3;
/// An answer that takes longer than this is no longer waited for before somebody else is asked.
const SLOW_AFTER: Duration = Duration::from_millis(500);
/// An answer that takes longer than this does not come.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(3);
/// Most nodes that one walk asks.
pub(crate) const MAX_ASKED: usize = 200;
/// Most nodes that one walk remembers.
const MAX_CANDIDATES: usize = 512;
/// So many bits further in begins the quarter of the part that is looked at for a crowd.
pub(crate) const CROWD_BITS: u32 = 2;
/// Most nodes that are to be expected there: a quarter of twice [`K`].
pub(crate) const CROWD: usize = K / 2;

/// A node that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) peer: PeerId,
    pub(crate) place: Place,
    pub(crate) addrs: Vec<SocketAddr>,
}

impl Contact {
    pub(crate) fn new(peer: PeerId, addrs: Vec<SocketAddr>) -> Self {
        Self { peer, place: Place::of_peer(&peer), addrs }
    }
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    New,
    Asked { at: Instant },
    Answered { took: Duration, closer: usize, providers: usize },
    Failed { took: Duration, why: &'static str },
}

/// A node that the walk knows of.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) contact: Contact,
    pub(crate) connected: bool,
    pub(crate) fate: Fate,
    /// How many nodes led to it, one after the other: 1 for those of the routing table.
    pub(crate) hop: u32,
}

/// A walk.
#[derive(Debug)]
pub(crate) struct Seek {
    target: Place,
    /// The prefix of the part of the key space in which [`K`] nodes or more are expected, in bits.
    bits: u32,
    candidates: BTreeMap<Distance, Candidate>,
    by_peer: HashMap<PeerId, Distance>,
    asked: usize,
}

impl Seek {
    /// A walk to `target` that begins with these nodes, of which it is told whether they are connected.
    pub(crate) fn new(target: Place, bits: u32, start: impl IntoIterator<Item = (Contact, bool)>) -> Self {
        let (candidates, by_peer) = (BTreeMap::new(), HashMap::new());
        let mut seek = Self { target, bits, candidates, by_peer, asked: 0 };
        for (contact, connected) in start {
            seek.add(contact, connected, 1);
        }
        seek
    }

    pub(crate) fn target(&self) -> Place {
        self.target
    }

    pub(crate) fn bits(&self) -> u32 {
        self.bits
    }

    fn add(&mut self, contact: Contact, connected: bool, hop: u32) {
        let distance = self.target.distance(&contact.place);
        if self.candidates.contains_key(&distance) {
            return;
        }
        if self.candidates.len() >= MAX_CANDIDATES {
            // The farthest makes room, unless the newcomer is farther or it was asked already.
            let far = self.candidates.last_key_value().filter(|(d, c)| **d > distance && c.fate == Fate::New);
            let Some((far, peer)) = far.map(|(d, c)| (*d, c.contact.peer)) else { return };
            self.candidates.remove(&far);
            self.by_peer.remove(&peer);
        }
        self.by_peer.insert(contact.peer, distance);
        self.candidates.insert(distance, Candidate { contact, connected, fate: Fate::New, hop });
    }

    /// Who is to be asked now; it counts as asked. `None` if nobody is, for now or for good.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Contact> {
        if self.asked >= MAX_ASKED || self.waiting(now) >= ALPHA {
            return None;
        }
        let distance = self.pick()?;
        let candidate = self.candidates.get_mut(&distance)?;
        candidate.fate = Fate::Asked { at: now };
        self.asked += 1;
        Some(candidate.contact.clone())
    }

    /// Questions that are under way and not yet slow.
    fn waiting(&self, now: Instant) -> usize {
        let fresh =
            |c: &&Candidate| matches!(c.fate, Fate::Asked { at } if now.duration_since(at) < SLOW_AFTER);
        self.candidates.values().filter(fresh).count()
    }

    fn pick(&self) -> Option<Distance> {
        let bits = self.part();
        let counts =
            |(distance, c): &(&Distance, &Candidate)| distance.leading_zeros() >= bits && c.fate == Fate::New;
        let mut fresh = self.candidates.iter().filter(counts);
        if self.asked < FIRST_CONNECTED
            && let Some((distance, _)) = self.candidates.iter().filter(counts).find(|(_, c)| c.connected)
        {
            return Some(*distance);
        }
        let outside = self.asked % 2 == 1 && self.is_crowded();
        let far = |(distance, _): &(&Distance, &Candidate)| distance.leading_zeros() < self.bits + CROWD_BITS;
        let beyond = self.candidates.iter().filter(counts).find(|one| outside && far(one));
        beyond.or_else(|| fresh.next()).map(|(distance, _)| *distance)
    }

    /// Whether there are more nodes near the target than chance would put there.
    fn is_crowded(&self) -> bool {
        let inner = self.bits + CROWD_BITS;
        self.alive().take_while(|(distance, _)| distance.leading_zeros() >= inner).count() > CROWD
    }

    /// Those that did not fail, the nearest first.
    fn alive(&self) -> impl Iterator<Item = (&Distance, &Candidate)> {
        self.candidates.iter().filter(|(_, c)| !matches!(c.fate, Fate::Failed { .. }))
    }

    /// How many bits the part of the key space is named by whose nodes are all to be asked: the one that is expected
    /// to have enough of them, or as much more as it takes to have [`K`].
    fn part(&self) -> u32 {
        let kth = self.alive().nth(K - 1).map_or(0, |(distance, _)| distance.leading_zeros());
        kth.min(self.bits)
    }

    /// Somebody answered, and named others.
    pub(crate) fn answered(
        &mut self,
        peer: &PeerId,
        closer: Vec<(Contact, bool)>,
        providers: usize,
        now: Instant,
    ) {
        let Some(candidate) = self.asked_one(peer) else { return };
        let Fate::Asked { at } = candidate.fate else { return };
        candidate.fate = Fate::Answered { took: now.duration_since(at), closer: closer.len(), providers };
        let hop = candidate.hop + 1;
        for (contact, connected) in closer {
            self.add(contact, connected, hop);
        }
    }

    /// Somebody cannot be asked, or does not answer.
    pub(crate) fn failed(&mut self, peer: &PeerId, why: &'static str, now: Instant) {
        if let Some(candidate) = self.asked_one(peer)
            && let Fate::Asked { at } = candidate.fate
        {
            candidate.fate = Fate::Failed { took: now.duration_since(at), why };
        }
    }

    fn asked_one(&mut self, peer: &PeerId) -> Option<&mut Candidate> {
        let distance = self.by_peer.get(peer)?;
        self.candidates.get_mut(distance)
    }

    /// Gives up those that were asked too long ago; who they are.
    pub(crate) fn give_up(&mut self, now: Instant) -> Vec<PeerId> {
        let late =
            |c: &&Candidate| matches!(c.fate, Fate::Asked { at } if now.duration_since(at) >= GIVE_UP_AFTER);
        let late: Vec<PeerId> = self.candidates.values().filter(late).map(|c| c.contact.peer).collect();
        late.iter().for_each(|peer| self.failed(peer, "it did not answer in time", now));
        late
    }

    /// When [`Seek::next`] or [`Seek::give_up`] may have something to say again without an answer.
    pub(crate) fn wake(&self, now: Instant) -> Option<Instant> {
        let due = |c: &Candidate| match c.fate {
            Fate::Asked { at } if now < at + SLOW_AFTER => Some(at + SLOW_AFTER),
            Fate::Asked { at } => Some(at + GIVE_UP_AFTER),
            _ => None,
        };
        self.candidates.values().filter_map(due).min()
    }

    /// Whether everybody who counts was asked and has answered or failed.
    pub(crate) fn is_over(&self) -> bool {
        let open = self.candidates.values().any(|c| matches!(c.fate, Fate::Asked { .. }));
        !open && (self.asked >= MAX_ASKED || self.pick().is_none())
    }

    /// What the walk has learned: a part of the key space, and nodes that answered, those in it and the next beyond where
    /// it has fewer than [`K`]. What lies beyond is known near the target only, so it is no part of what was learned,
    /// unless the whole network has fewer.
    pub(crate) fn learned(&self) -> (Region, Vec<Contact>) {
        let bits = if self.alive().nth(K - 1).is_some() { self.bits } else { 0 };
        let asked = Region::around(self.target, self.part());
        let answered = self.candidates.values().filter(|c| matches!(c.fate, Fate::Answered { .. }));
        let near = answered.filter(|c| asked.has(&c.contact.place));
        (Region::around(self.target, bits), near.map(|c| c.contact.clone()).collect())
    }

    /// Everybody the walk knows of, the nearest first.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.values()
    }
}
