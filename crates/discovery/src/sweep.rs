//! Telling others of many keys: which walks it takes, and who is told what. Pure: keys, what walks learned and the time
//! in, walks and batches out.
//!
//! Keys near each other are kept by nearly the same nodes, so one walk serves a whole part of the key space: it learns
//! all nodes there, and each of them gets its keys in batches. What was learned is remembered for a while.
//!
//! **Invariant:** walks are as many as parts of the key space, however many the keys.
//! **Not here:** when a key is due (`mirror`), how a walk goes (`seek`).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::place::{K, Place, Region};
use crate::seek::{CROWD, CROWD_BITS, Contact};
use crate::wire::MAX_KEYS;

/// How long what a walk learned is good for.
const REGION_LIFE: Duration = Duration::from_secs(10 * 60);
/// Most parts of the key space that are remembered; the oldest make room.
const MAX_REGIONS: usize = 64;
/// Batches under way at once, of one sweep.
const BATCHES_AT_ONCE: usize = 8;
/// A part of which so many nodes are left, of those that a walk found, is walked to again.
const MIN_LEFT: usize = 2;

/// The nodes of a part of the key space.
#[derive(Debug, Clone)]
pub(crate) struct Keepers {
    pub(crate) region: Region,
    nodes: Vec<Contact>,
    found: usize,
    learned: Instant,
}

impl Keepers {
    pub(crate) fn new(region: Region, nodes: Vec<Contact>, now: Instant) -> Self {
        Self { region, found: nodes.len(), nodes, learned: now }
    }

    /// Who is to keep a record of a key: the [`K`] nodes nearest to it, and as many more as there are nodes around it
    /// that chance would not have put there, so that nobody can surround a key with nodes of their own and be the
    /// only ones who are told.
    pub(crate) fn of(&self, key: &Place) -> Vec<usize> {
        let mut near: Vec<_> =
            self.nodes.iter().enumerate().map(|(at, node)| (key.distance(&node.place), at)).collect();
        near.sort_unstable();
        let inner = self.region.bits() + CROWD_BITS;
        let crowd = near.iter().take_while(|(distance, _)| distance.leading_zeros() >= inner).count();
        near.truncate(K + crowd.saturating_sub(CROWD));
        near.into_iter().map(|(_, at)| at).collect()
    }

    fn is_good(&self, now: Instant) -> bool {
        let enough = self.nodes.len() == self.found || self.nodes.len() * MIN_LEFT >= self.found;
        now.duration_since(self.learned) < REGION_LIFE && enough && !self.nodes.is_empty()
    }
}

/// Parts of the key space whose nodes are known.
#[derive(Debug, Default)]
pub(crate) struct Regions(VecDeque<Keepers>);

impl Regions {
    pub(crate) fn of(&self, place: &Place, now: Instant) -> Option<&Keepers> {
        self.0.iter().find(|known| known.region.has(place) && known.is_good(now))
    }

    pub(crate) fn learn(&mut self, keepers: Keepers) {
        self.0.retain(|known| known.region != keepers.region);
        if self.0.len() >= MAX_REGIONS {
            self.0.pop_front();
        }
        self.0.push_back(keepers);
    }

    /// A node is not reached.
    pub(crate) fn lost(&mut self, peer: &PeerId) {
        for known in &mut self.0 {
            known.nodes.retain(|node| node.peer != *peer);
        }
    }

    /// The network is another one than before.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Keys for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) to: Contact,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Walk there, and say what came of it.
    Walk(Place),
    /// Send this, and say what came of it.
    Send(Batch),
    /// Nothing, until something under way has ended.
    Wait,
    /// Everything is done.
    Done,
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) walks: u64,
    pub(crate) messages: u64,
    pub(crate) failed: u64,
    /// Records that were kept and refused, over all nodes.
    pub(crate) kept: u64,
    pub(crate) refused: u64,
    /// Where the first key lies.
    pub(crate) region: Option<Region>,
    /// Keys of which nobody was told.
    pub(crate) missed: Vec<Vec<u8>>,
}

/// One sweep over some keys.
#[derive(Debug)]
pub(crate) struct Sweep {
    todo: BTreeMap<Place, Vec<u8>>,
    first: Option<Place>,
    walking: bool,
    batches: VecDeque<Batch>,
    under_way: usize,
    /// Keys of the part that is being told, and whether anybody took them.
    here: Vec<Vec<u8>>,
    taken: bool,
    tally: Tally,
}

impl Sweep {
    /// The first key's part comes first, the others in their order in the key space.
    pub(crate) fn new(keys: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut keys = keys.into_iter().map(|key| (Place::of_key(&key), key)).peekable();
        let first = keys.peek().map(|(place, _)| *place);
        Self {
            todo: keys.collect(),
            first,
            walking: false,
            batches: VecDeque::new(),
            under_way: 0,
            here: Vec::new(),
            taken: false,
            tally: Tally::default(),
        }
    }

    pub(crate) fn next(&mut self, known: &Regions, now: Instant) -> Step {
        loop {
            if self.walking || (self.under_way >= BATCHES_AT_ONCE) {
                return Step::Wait;
            }
            if let Some(batch) = self.batches.pop_front() {
                self.under_way += 1;
                self.tally.messages += 1;
                return Step::Send(batch);
            }
            if self.under_way > 0 {
                return Step::Wait;
            }
            self.close_part();
            let Some(place) = self.first.take().or_else(|| self.todo.keys().next().copied()) else {
                return Step::Done;
            };
            let Some(keepers) = known.of(&place, now) else {
                self.first = Some(place);
                self.walking = true;
                self.tally.walks += 1;
                return Step::Walk(place);
            };
            self.open_part(keepers);
        }
    }

    fn open_part(&mut self, keepers: &Keepers) {
        self.tally.region.get_or_insert(keepers.region);
        let mut for_node: Vec<Vec<Vec<u8>>> = vec![Vec::new(); keepers.nodes.len()];
        let here: Vec<Place> = self.todo.keys().filter(|place| keepers.region.has(place)).copied().collect();
        for place in here {
            let Some(key) = self.todo.remove(&place) else { continue };
            keepers.of(&place).into_iter().for_each(|at| for_node[at].push(key.clone()));
            self.here.push(key);
        }
        for (node, keys) in keepers.nodes.iter().zip(for_node) {
            let batches = keys.chunks(MAX_KEYS).map(|keys| Batch { to: node.clone(), keys: keys.to_vec() });
            self.batches.extend(batches);
        }
    }

    fn close_part(&mut self) {
        let here = std::mem::take(&mut self.here);
        if !std::mem::take(&mut self.taken) {
            self.tally.missed.extend(here);
        }
    }

    /// A walk has ended. One that learned of nobody ends the sweep: there is nobody to be told of anything.
    pub(crate) fn walked(&mut self, anybody: bool) {
        self.walking = false;
        if !anybody {
            self.first = None;
            self.tally.missed.extend(std::mem::take(&mut self.todo).into_values());
        }
    }

    /// A batch was answered.
    pub(crate) fn kept(&mut self, kept: u16, refused: u16) {
        self.under_way = self.under_way.saturating_sub(1);
        self.taken |= kept > 0;
        self.tally.kept += u64::from(kept);
        self.tally.refused += u64::from(refused);
    }

    /// A batch did not arrive: neither will the others for that node.
    pub(crate) fn lost(&mut self, peer: &PeerId) {
        self.under_way = self.under_way.saturating_sub(1);
        self.tally.failed += 1;
        self.batches.retain(|batch| batch.to.peer != *peer);
    }

    pub(crate) fn tally(self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
