//! Telling others of many keys: which walks it takes, and who is told what. Pure: keys, what walks learned and the time
//! in, walks and batches out.
//!
//! Keys near each other are kept by nearly the same nodes, so one walk serves a whole part of the key space: it learns
//! all nodes there, and each of them gets its keys in batches. What was learned is remembered for a while.
//!
//! **Invariant:** walks are as many as parts of the key space, however many the keys.
//! **Not here:** when a key is due (`mirror`), how a walk goes (`seek`).

use std::collections::{BTreeMap, HashMap, VecDeque};
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
    /// Its number in the sweep, by which it is said what came of it.
    pub(crate) number: u32,
    pub(crate) to: Contact,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// What came of a key so far, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Whoever was asked has no room for it.
    Refused,
    /// Somebody who should keep it did not answer.
    Lost,
    /// Somebody keeps it.
    Taken,
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
    /// Keys of which nobody took a record, and of whom somebody did not answer.
    pub(crate) missed: Vec<Vec<u8>>,
    /// Keys that everybody who should keep them refused.
    pub(crate) unwanted: Vec<Vec<u8>>,
}

/// One sweep over some keys.
#[derive(Debug)]
pub(crate) struct Sweep {
    todo: BTreeMap<Place, Vec<u8>>,
    first: Option<Place>,
    walking: bool,
    batches: VecDeque<Batch>,
    /// Batches that were sent and not answered yet: the keys of each.
    under_way: HashMap<u32, Vec<Vec<u8>>>,
    numbers: u32,
    /// Keys of the part that is being told, and what came of each: a batch may be kept and the next one not.
    here: BTreeMap<Vec<u8>, Fate>,
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
            under_way: HashMap::new(),
            numbers: 0,
            here: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    pub(crate) fn next(&mut self, known: &Regions, now: Instant) -> Step {
        loop {
            if self.walking || self.under_way.len() >= BATCHES_AT_ONCE {
                return Step::Wait;
            }
            if let Some(batch) = self.batches.pop_front() {
                self.under_way.insert(batch.number, batch.keys.clone());
                self.tally.messages += 1;
                return Step::Send(batch);
            }
            if !self.under_way.is_empty() {
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
            self.here.insert(key, Fate::Refused);
        }
        for (node, keys) in keepers.nodes.iter().zip(for_node) {
            for keys in keys.chunks(MAX_KEYS) {
                let (number, keys) = (self.numbers, keys.to_vec());
                self.numbers = self.numbers.wrapping_add(1);
                self.batches.push_back(Batch { number, to: node.clone(), keys });
            }
        }
    }

    fn close_part(&mut self) {
        for (key, fate) in std::mem::take(&mut self.here) {
            match fate {
                Fate::Taken => {}
                Fate::Lost => self.tally.missed.push(key),
                Fate::Refused => self.tally.unwanted.push(key),
            }
        }
    }

    fn came_of(&mut self, keys: &[Vec<u8>], fate: Fate) {
        for key in keys {
            if let Some(known) = self.here.get_mut(key) {
                *known = fate.max(*known);
            }
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

    /// A batch was answered. How many keys were refused is told, not which: the last ones, since what a node has no room
    /// for is what comes after it was full.
    pub(crate) fn kept(&mut self, number: u32, kept: u16, refused: u16) {
        let Some(keys) = self.under_way.remove(&number) else { return };
        self.came_of(&keys[..keys.len().min(kept.into())], Fate::Taken);
        self.tally.kept += u64::from(kept);
        self.tally.refused += u64::from(refused);
    }

    /// A batch did not arrive: neither will the others for that node.
    pub(crate) fn lost(&mut self, number: u32, peer: &PeerId) {
        let Some(keys) = self.under_way.remove(&number) else { return };
        self.tally.failed += 1;
        self.came_of(&keys, Fate::Lost);
        let (gone, left): (VecDeque<_>, _) =
            std::mem::take(&mut self.batches).into_iter().partition(|batch| batch.to.peer == *peer);
        self.batches = left;
        gone.iter().for_each(|batch| self.came_of(&batch.keys, Fate::Lost));
    }

    pub(crate) fn tally(self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
