//! Who knows whom, and what neighbours tell each other.

use std::sync::Arc;
use std::time::Duration;

use hubless_types::GroupSet;

use super::{Event, Links, Sim, file_id};

/// Time between two moments at which nodes tell each other of others.
pub(super) const EXCHANGE: Duration = Duration::from_secs(1);

/// Nodes that one tells of at a time.
const TOLD_AT_ONCE: usize = 16;

/// Part of its neighbours that a node looks for itself, in tenths; the others find it.
const LOOKS_FOR_TENTHS: usize = 6;

impl Sim {
    /// How nodes first know each other.
    pub(super) fn meet(&mut self) {
        let count = self.nodes.len();
        match self.world.links {
            Links::All => {
                for a in 0..count {
                    (a + 1..count).for_each(|b| self.link(a, b));
                }
            }
            Links::Seed => (1..count).for_each(|b| self.link(0, b)),
            Links::Some { told, .. } => {
                for a in 1..count {
                    self.try_link(a, 0);
                    for _ in 0..told {
                        let b = (self.rng.next() % count as u64) as usize;
                        self.try_link(a, b);
                    }
                }
            }
        }
    }

    const fn most(&self) -> usize {
        match self.world.links {
            Links::Some { most, .. } => most,
            Links::All | Links::Seed => usize::MAX,
        }
    }

    fn try_link(&mut self, a: usize, b: usize) {
        let room = |i: usize| self.nodes[i].neighbours.len() < self.most();
        let apart = |a: usize, b: usize| self.nodes[a].out.dropped.contains(&b);
        if apart(a, b) || apart(b, a) {
            return;
        }
        if a != b && !self.nodes[a].neighbours.contains(&b) && room(a) && room(b) {
            self.link(a, b);
        }
    }

    fn link(&mut self, a: usize, b: usize) {
        let lan = self.nodes[a].spec.lan && self.nodes[b].spec.lan;
        for (me, other) in [(a, b), (b, a)] {
            self.nodes[me].neighbours.insert(other);
            let holder = self.source(other);
            self.nodes[me].inbox.push(Event::HolderFound { holder, lan });
            let at = self.now + self.delay(me, other) * 2;
            (0..self.world.sizes.len()).for_each(|file| self.tell_of(other, me, file, at, None));
        }
    }

    /// Two have nothing to do with each other any more.
    pub(super) fn part(&mut self, a: usize, b: usize) {
        self.nodes[a].neighbours.remove(&b);
        self.nodes[b].neighbours.remove(&a);
    }

    /// Nodes with few neighbours ask one of them for more.
    pub(super) fn exchange_peers(&mut self) {
        if self.now.is_zero() || self.world.links == Links::All {
            return;
        }
        let most = self.most().min(self.nodes.len() - 1);
        for i in 0..self.nodes.len() {
            let node = &self.nodes[i];
            let few = node.neighbours.len() * 10 < most * LOOKS_FOR_TENTHS || self.world.links == Links::Seed;
            if node.plan.is_none() || node.out.finished.is_some() || node.spec.is_away(self.now) || !few {
                continue;
            }
            let known: Vec<usize> = node.neighbours.iter().copied().collect();
            if known.is_empty() {
                continue;
            }
            let asked = known[(self.rng.next() % known.len() as u64) as usize];
            let mut told: Vec<usize> = self.nodes[asked].neighbours.iter().copied().collect();
            for _ in 0..TOLD_AT_ONCE.min(told.len()) {
                let other = told.swap_remove((self.rng.next() % told.len() as u64) as usize);
                self.try_link(i, other);
            }
        }
    }

    fn delay(&self, a: usize, b: usize) -> Duration {
        self.nodes[a].spec.delay + self.nodes[b].spec.delay
    }

    /// `from` tells `to` what it has and gave of `file`.
    fn tell_of(&mut self, from: usize, to: usize, file: usize, at: Duration, told: Option<&Told>) {
        if self.nodes[to].plan.is_none() || self.nodes[to].out.finished.is_some() {
            return;
        }
        let new;
        let told = match told {
            Some(told) => told,
            None => {
                new = self.told(from, file, true);
                &new
            }
        };
        let (holder, hash) = (self.source(from), file_id(file));
        if let Some(groups) = &told.has {
            self.send(at, to, Event::HolderHas { holder, file: hash, groups: groups.clone() });
        }
        if let Some(gave) = &told.gave {
            let groups = Arc::new(gave.to_others(self.nodes[from].gave[&file].get(&to)));
            self.send(at, to, Event::HolderGave { holder, file: hash, groups });
        }
    }

    fn told(&self, from: usize, file: usize, has: bool) -> Told {
        let node = &self.nodes[from];
        let has = (has && !node.held[file].is_empty()).then(|| Arc::new(node.held[file].clone()));
        let gave = node.gave.get(&file).map(|to| {
            let there = to.iter().filter(|(to, _)| !self.nodes[**to].spec.is_dead(self.now));
            let mut gave = Gave::default();
            for (_, groups) in there {
                gave.twice.insert_all(&gave.all.intersection(groups));
                gave.all.insert_all(groups);
            }
            gave
        });
        Told { has, gave }
    }

    pub(super) fn push_holdings(&mut self) {
        for i in 0..self.nodes.len() {
            if self.nodes[i].spec.is_away(self.now) {
                continue;
            }
            let changed = std::mem::take(&mut self.nodes[i].changed);
            let gave = std::mem::take(&mut self.nodes[i].gave_more);
            if changed.is_empty() && gave.is_empty() {
                continue;
            }
            let to: Vec<usize> = self.nodes[i].neighbours.iter().copied().collect();
            for file in changed.union(&gave) {
                let mut told = self.told(i, *file, changed.contains(file));
                if !gave.contains(file) {
                    told.gave = None;
                }
                for other in &to {
                    let at = self.now + self.delay(i, *other);
                    self.tell_of(i, *other, *file, at, Some(&told));
                }
            }
        }
    }
}

/// What one tells of one file.
struct Told {
    has: Option<Arc<GroupSet>>,
    gave: Option<Gave>,
}

/// What one gave of a file to those who are still there.
#[derive(Default)]
struct Gave {
    all: GroupSet,
    /// To more than one of them.
    twice: GroupSet,
}

impl Gave {
    /// What others than whoever was given `own` were given.
    fn to_others(&self, own: Option<&GroupSet>) -> GroupSet {
        let Some(own) = own else { return self.all.clone() };
        let mut others = self.all.clone();
        own.runs().iter().for_each(|run| others.remove(run.clone()));
        others.insert_all(&self.twice);
        others
    }
}
