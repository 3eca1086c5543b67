//! What a swarm is made of, and what became of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use hubless_types::GroupSet;

/// A swarm as it begins.
#[derive(Debug, Clone)]
pub struct World {
    /// Everything that is left to chance comes of it.
    pub seed: u64,
    /// The files' sizes in bytes.
    pub sizes: Vec<u64>,
    /// The nodes.
    pub specs: Vec<Spec>,
    /// Who knows whom.
    pub links: Links,
    /// Time between two moments at which anything happens.
    pub step: Duration,
    /// Time between two pushes of what a node has.
    pub push: Duration,
    /// Time between two ticks of a plan.
    pub tick: Duration,
    /// The node of which it is kept when each group came.
    pub watched: Option<usize>,
}

/// Who knows whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Everybody knows everybody from the start.
    All,
    /// Everybody is told of the first node and of `told` others, learns of more from those, and has at most `most`.
    Some {
        /// Nodes that a newcomer is told of.
        told: usize,
        /// Most neighbours of a node.
        most: usize,
    },
    /// Everybody is told of the first node only, which has room for all, and learns of the others from it.
    Seed,
}

/// A node.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Bytes a second that it can send.
    pub up: u64,
    /// Bytes a second that it can take.
    pub down: u64,
    /// One way to anybody.
    pub delay: Duration,
    /// Part of the packets that are lost on the way to it.
    pub loss: f64,
    /// Whether it is on the same local network as others of whom that is true.
    pub lan: bool,
    /// Whether it is an upstream; its number is its place.
    pub origin: bool,
    /// Requests that it answers at once.
    pub slots: usize,
    /// What it has at the start, by file.
    pub has: Vec<GroupSet>,
    /// Whether it fetches what it lacks.
    pub fetches: bool,
    /// While it sends nothing, and takes all the same.
    pub silent: Option<Range<Duration>>,
    /// While its process stands still: it neither sends nor takes nor answers.
    pub stopped: Option<Range<Duration>>,
    /// While it is gone.
    pub dead: Option<Range<Duration>>,
    /// Sends a wrong byte after so many right ones.
    pub lies_after: Option<u64>,
}

/// What became of one node.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// When it had all.
    pub finished: Option<Duration>,
    /// Whether it found nobody with what it lacked.
    pub starved: bool,
    /// Bytes that it sent.
    pub sent: u64,
    /// Bytes that it got.
    pub taken: u64,
    /// When each group of each file came first, if it was watched.
    pub came: BTreeMap<(usize, u64), Duration>,
    /// Groups that came when they were here already.
    pub twice: u64,
    /// Requests that it made.
    pub requests: u64,
    /// Requests that it did not answer for want of a slot.
    pub refused: u64,
    /// Groups that it gave, each counted once; of a node that began with everything.
    pub given_once: u64,
    /// Groups that it gave again before it had given each once.
    pub given_twice: u64,
    /// When it had begun to give the last of them.
    pub given_all: Option<Duration>,
    /// Nodes that it will have nothing to do with.
    pub dropped: Vec<usize>,
}

impl World {
    /// Everybody knows everybody, and the network's own intervals.
    pub fn new(seed: u64, sizes: &[u64], specs: Vec<Spec>) -> Self {
        Self {
            seed,
            sizes: sizes.to_vec(),
            specs,
            links: Links::All,
            step: Duration::from_millis(20),
            push: Duration::from_millis(100),
            tick: Duration::from_millis(100),
            watched: None,
        }
    }

    /// Bytes of all files.
    pub fn total(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// The least time in which all who fetch, and began with nothing, can have everything from those that did not:
    /// no source can be passed by, nobody takes faster than its line, and all of it goes through somebody's uplink.
    pub fn fluid_bound(&self) -> Duration {
        let total = self.total() as f64;
        let up = |fetches: bool| {
            self.specs.iter().filter(|s| s.fetches == fetches).map(|s| s.up as f64).sum::<f64>()
        };
        let leechers = self.specs.iter().filter(|spec| spec.fetches);
        let down = leechers.clone().map(|spec| spec.down).min().unwrap_or(u64::MAX) as f64;
        let all = leechers.count() as f64 * total / (up(false) + up(true));
        Duration::from_secs_f64((total / up(false)).max(all).max(total / down))
    }
}

impl Spec {
    /// A node on a good line with that uplink and downlink, in bytes a second.
    pub fn new(up: u64, down: u64) -> Self {
        Self {
            up,
            down,
            delay: Duration::from_millis(1),
            loss: 0.0,
            lan: false,
            origin: false,
            slots: 16,
            has: Vec::new(),
            fetches: false,
            silent: None,
            stopped: None,
            dead: None,
            lies_after: None,
        }
    }

    /// It has all of these files.
    #[must_use]
    pub fn seed(mut self, sizes: &[u64]) -> Self {
        self.has = sizes.iter().map(|size| GroupSet::whole(*size)).collect();
        self
    }

    /// It is an upstream.
    #[must_use]
    pub const fn origin(mut self) -> Self {
        self.origin = true;
        self
    }

    /// It fetches what it lacks.
    #[must_use]
    pub const fn leech(mut self) -> Self {
        self.fetches = true;
        self
    }

    /// Whether it is gone.
    pub(super) fn is_dead(&self, now: Duration) -> bool {
        self.dead.as_ref().is_some_and(|time| time.contains(&now))
    }

    /// Whether it does nothing at all.
    pub(super) fn is_away(&self, now: Duration) -> bool {
        self.is_dead(now) || self.stopped.as_ref().is_some_and(|time| time.contains(&now))
    }

    /// Whether it sends what it is asked for.
    pub(super) fn sends(&self, now: Duration) -> bool {
        !self.is_away(now) && !self.silent.as_ref().is_some_and(|time| time.contains(&now))
    }
}
