//! A swarm in virtual time: many plans, shared uplinks and downlinks, bounded neighbours, faults.
//!
//! Bytes flow in steps; each step shares every uplink and downlink among its flows (`lines`). Nodes tell their
//! neighbours what they have at intervals, and of each other (`links`), as peers do on the network.
//!
//! **Invariant:** the same world gives the same trace.
//! **Not here:** packets, congestion control, what a request costs in processor time.

mod lines;
mod links;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread::{available_parallelism, scope};
use std::time::Duration;

use hubless_types::{BlobHash, GroupSet, NodeId};

use super::rng::Rng;
use super::{Action, Event, Failure, Plan, PlanConfig, ReaderId, RequestId, Source};
use lines::{Flow, FlowId};
pub use world::{Links, Outcome, Spec, World};

/// After this a request to a dead node fails.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// From so many nodes on threads are worth their beginning.
const MANY: usize = 100;

struct Node {
    spec: Spec,
    plan: Option<Plan>,
    held: Vec<GroupSet>,
    /// Files of which it has more than it told.
    changed: BTreeSet<usize>,
    /// What it gave, by file and taker. Only of files that it has wholly: of others somebody else is the source.
    gave: BTreeMap<usize, BTreeMap<usize, GroupSet>>,
    gave_more: BTreeSet<usize>,
    /// All that it ever gave.
    given: BTreeMap<usize, GroupSet>,
    neighbours: BTreeSet<usize>,
    /// What it asked for and has not got.
    asked: BTreeMap<RequestId, FlowId>,
    /// Bytes sent to each.
    served: BTreeMap<usize, u64>,
    sending: Vec<FlowId>,
    waiting: VecDeque<FlowId>,
    inbox: Vec<Event>,
    lacking: u64,
    out: Outcome,
}

/// A swarm.
pub struct Sim {
    /// Virtual time since the beginning.
    pub now: Duration,
    world: World,
    nodes: Vec<Node>,
    flows: Vec<Option<Flow>>,
    free: Vec<FlowId>,
    /// What arrives later.
    mail: BTreeMap<Duration, Vec<(usize, Event)>>,
    rng: Rng,
    trace: DefaultHasher,
}

/// The name of node `i`.
pub fn node_id(i: usize) -> Source {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(i as u64).to_be_bytes());
    Source::Peer(NodeId::from_bytes(key))
}

fn index_of(id: &Source) -> usize {
    match id {
        Source::Origin(i) => usize::from(*i),
        Source::Peer(node) => {
            node.as_bytes()[..8].iter().fold(0, |index, byte| index << 8 | usize::from(*byte))
        }
    }
}

/// The root of file `i`.
pub fn file_id(i: usize) -> BlobHash {
    let mut key = [0; 32];
    key[0] = i as u8;
    key[1] = (i >> 8) as u8;
    BlobHash::from_bytes(key)
}

fn file_index(hash: &BlobHash) -> usize {
    usize::from(hash.as_bytes()[0]) | usize::from(hash.as_bytes()[1]) << 8
}

impl Sim {
    /// The swarm as it begins.
    pub fn new(world: World) -> Self {
        let mut nodes = Vec::new();
        for (i, spec) in world.specs.iter().enumerate() {
            let mut held = spec.has.clone();
            held.resize(world.sizes.len(), GroupSet::new());
            let config = PlanConfig {
                seed: world.seed.wrapping_mul(1_000_003) ^ (i as u64 + 1),
                patience: Duration::from_secs(10),
                origin_streams: 4,
            };
            let lacking = held.iter().zip(&world.sizes).map(|(held, size)| size - held.bytes(*size)).sum();
            nodes.push(Node {
                spec: spec.clone(),
                plan: spec.fetches.then(|| Plan::new(config)),
                changed: (0..held.len()).collect(),
                held,
                gave: BTreeMap::new(),
                gave_more: BTreeSet::new(),
                given: BTreeMap::new(),
                neighbours: BTreeSet::new(),
                asked: BTreeMap::new(),
                served: BTreeMap::new(),
                sending: Vec::new(),
                waiting: VecDeque::new(),
                inbox: Vec::new(),
                lacking,
                out: Outcome::default(),
            });
        }
        let mut sim = Self {
            now: Duration::ZERO,
            rng: Rng::new(world.seed),
            world,
            nodes,
            flows: Vec::new(),
            free: Vec::new(),
            mail: BTreeMap::new(),
            trace: DefaultHasher::new(),
        };
        for i in 0..sim.nodes.len() {
            for (file, size) in sim.world.sizes.iter().copied().enumerate() {
                let held = sim.nodes[i].held[file].clone();
                let wanted = GroupSet::whole(size);
                sim.nodes[i].inbox.push(Event::FileAdded { file: file_id(file), size, held, wanted });
            }
        }
        sim.meet();
        sim.hear();
        sim
    }

    /// Has `node` read `file` from `offset` on.
    pub fn reader(&mut self, node: usize, file: usize, offset: u64) {
        let (file, end) = (file_id(file), self.world.sizes[file]);
        self.nodes[node].inbox.push(Event::ReaderAt { reader: ReaderId(1), file, offset, end });
        self.hear();
    }

    /// Once all are done: everybody who fetches goes on with further files of these sizes, which those who do not fetch have.
    pub fn fetch_more(&mut self, sizes: &[u64]) {
        let begun = self.world.sizes.len();
        self.world.sizes.extend(sizes);
        for i in 0..self.nodes.len() {
            let node = &mut self.nodes[i];
            let own = |size: &u64| if node.spec.fetches { GroupSet::new() } else { GroupSet::whole(*size) };
            node.held.extend(sizes.iter().map(own));
            node.changed = (begun..begun + sizes.len()).collect();
            node.out.finished = None;
            if node.spec.fetches {
                node.lacking = sizes.iter().sum();
            }
            let over = (0..begun).map(|file| Event::FileRemoved { file: file_id(file) });
            node.inbox.extend(over);
            for (file, size) in sizes.iter().copied().enumerate() {
                let (held, wanted) = (self.nodes[i].held[begun + file].clone(), GroupSet::whole(size));
                let file = file_id(begun + file);
                self.nodes[i].inbox.push(Event::FileAdded { file, size, held, wanted });
            }
            for other in self.nodes[i].neighbours.clone() {
                let holder = self.source(other);
                self.nodes[i].inbox.push(Event::HolderFound { holder, lan: false });
            }
        }
        self.hear();
    }

    /// Runs until every node that fetches has all, is starved, or `limit` is over.
    pub fn run(&mut self, limit: Duration) {
        while self.now < limit && !self.is_over() {
            self.step();
        }
    }

    /// Runs until `node` has all or is starved, or `limit` is over.
    pub fn run_until_done(&mut self, node: usize, limit: Duration) {
        while self.now < limit && self.nodes[node].out.finished.is_none() && !self.nodes[node].out.starved {
            self.step();
        }
    }

    fn is_over(&self) -> bool {
        let over = |n: &Node| {
            n.plan.is_none() || n.out.finished.is_some() || n.out.starved || n.spec.is_away(self.now)
        };
        self.nodes.iter().all(over)
    }

    /// What became of `node` so far.
    pub fn outcome(&self, node: usize) -> &Outcome {
        &self.nodes[node].out
    }

    /// What `node` has of `file`.
    pub fn has(&self, node: usize, file: usize) -> &GroupSet {
        &self.nodes[node].held[file]
    }

    /// A digest of everything that was decided, and when.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Whether a moment that comes every `period` lies in this step.
    fn every(&self, period: Duration) -> bool {
        self.now.as_micros() % period.as_micros() < self.world.step.as_micros()
    }

    fn step(&mut self) {
        if self.every(self.world.push) {
            self.push_holdings();
        }
        if self.every(links::EXCHANGE) {
            self.exchange_peers();
        }
        let later = self.mail.split_off(&(self.now + Duration::from_nanos(1)));
        for (to, event) in std::mem::replace(&mut self.mail, later).into_values().flatten() {
            self.nodes[to].inbox.push(event);
        }
        if self.every(self.world.tick) {
            self.report_progress();
            self.nodes.iter_mut().for_each(|node| node.inbox.push(Event::Tick));
        }
        self.hear();
        self.serve();
        self.now += self.world.step;
        self.flow();
        self.hear();
    }

    /// Tells every plan its news, and does what they say. Plans know nothing of each other: several are told at once, and what
    /// they said is done in the nodes' order.
    fn hear(&mut self) {
        let now = self.now;
        let hear = |node: &mut Node| {
            if node.inbox.is_empty() || node.spec.is_away(now) {
                return Vec::new();
            }
            let events = std::mem::take(&mut node.inbox);
            // Who has finished learns nothing more.
            let plan = node.plan.as_mut().filter(|_| node.out.finished.is_none());
            plan.map(|plan| plan.handle_all(now, events)).unwrap_or_default()
        };
        let parts = if self.nodes.len() < MANY { 1 } else { available_parallelism().map_or(1, NonZero::get) };
        let part = self.nodes.len().div_ceil(parts).max(1);
        let said: Vec<Vec<Action>> = if parts == 1 {
            self.nodes.iter_mut().map(hear).collect()
        } else {
            scope(|scope| {
                let hear = |nodes: &mut [Node]| nodes.iter_mut().map(hear).collect::<Vec<_>>();
                let heard: Vec<_> =
                    self.nodes.chunks_mut(part).map(|nodes| scope.spawn(move || hear(nodes))).collect();
                heard
                    .into_iter()
                    .flat_map(|heard| heard.join().unwrap_or_else(|panic| resume_unwind(panic)))
                    .collect()
            })
        };
        for (i, actions) in said.into_iter().enumerate() {
            for action in actions {
                (i, now, &action).hash(&mut self.trace);
                self.act(i, action);
            }
        }
    }

    fn act(&mut self, i: usize, action: Action) {
        match action {
            Action::Request { request, holder, file, groups, .. } => {
                self.ask(i, index_of(&holder), request, file_index(&file), groups);
            }
            Action::Cancel { request } => {
                if let Some(flow) = self.nodes[i].asked.remove(&request) {
                    self.end(flow);
                }
            }
            Action::DropHolder { holder, .. } => {
                let other = index_of(&holder);
                self.nodes[i].out.dropped.push(other);
                self.part(i, other);
            }
            Action::Starved { .. } => self.nodes[i].out.starved = true,
            Action::FileDone { .. } => {
                if self.nodes[i].lacking == 0 {
                    self.nodes[i].out.finished.get_or_insert(self.now);
                }
            }
        }
    }

    fn source(&self, i: usize) -> Source {
        if self.nodes[i].spec.origin { Source::Origin(i as u8) } else { node_id(i) }
    }

    fn send(&mut self, at: Duration, to: usize, event: Event) {
        self.mail.entry(at).or_default().push((to, event));
    }

    fn fail(&mut self, to: usize, request: RequestId, kind: Failure) {
        self.nodes[to].inbox.push(Event::SegmentFailed { request, kind });
    }
}
