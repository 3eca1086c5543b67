//! A swarm in virtual time: many plans, shared uplinks and downlinks, faults. The same seed gives the same trace.
//!
//! Bytes flow in steps of [`STEP`]; each step shares every uplink and downlink among its flows (max-min, in a few
//! rounds). Nodes tell each other what they have every [`PUSH`], as peers do.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::time::Duration;

use hubless_types::{BlobHash, ByteRange, GROUP_BYTES, GroupSet};

use super::{Action, Event, Failure, Plan, PlanConfig, ReaderId, RequestId, Source, TICK};

/// Time between two moments at which anything happens.
pub(crate) const STEP: Duration = Duration::from_millis(20);
/// Time between two pushes of what a node has.
pub(crate) const PUSH: Duration = Duration::from_millis(100);
/// After this a request to a dead node fails.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Rounds in which what some flows cannot use goes to others.
const SHARING_ROUNDS: usize = 3;

/// A node as a test describes it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Bytes a second it can send and take.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// One way to anybody.
    pub(crate) delay: Duration,
    pub(crate) lan: bool,
    /// Whether it is an upstream; its number is its place.
    pub(crate) origin: bool,
    /// What it has at the start, by file.
    pub(crate) has: Vec<GroupSet>,
    /// Whether it fetches what it lacks.
    pub(crate) fetches: bool,
    /// While it sends nothing.
    pub(crate) silent: Option<Range<Duration>>,
    /// While it is gone.
    pub(crate) dead: Option<Range<Duration>>,
    /// Sends a wrong byte after so many right ones.
    pub(crate) lies_after: Option<u64>,
}

impl Spec {
    pub(crate) fn new(up: u64, down: u64) -> Self {
        Self {
            up,
            down,
            delay: Duration::from_millis(1),
            lan: false,
            origin: false,
            has: Vec::new(),
            fetches: false,
            silent: None,
            dead: None,
            lies_after: None,
        }
    }

    pub(crate) fn seed(mut self, sizes: &[u64]) -> Self {
        self.has = sizes.iter().map(|size| GroupSet::whole(*size)).collect();
        self
    }

    pub(crate) fn origin(mut self) -> Self {
        self.origin = true;
        self
    }

    pub(crate) fn leech(mut self) -> Self {
        self.fetches = true;
        self
    }
}

/// What became of one node.
#[derive(Debug, Default, Clone)]
pub(crate) struct Outcome {
    pub(crate) finished: Option<Duration>,
    pub(crate) starved: bool,
    pub(crate) sent: u64,
    pub(crate) taken: u64,
    /// When each group of each file came first.
    pub(crate) came: BTreeMap<(usize, u64), Duration>,
    /// Groups that came when they were here already.
    pub(crate) twice: u64,
    pub(crate) dropped: Vec<usize>,
}

struct Node {
    spec: Spec,
    plan: Option<Plan>,
    held: Vec<GroupSet>,
    changed: bool,
    out: Outcome,
}

struct Flow {
    to: usize,
    from: usize,
    request: RequestId,
    file: usize,
    groups: Range<u64>,
    total: u64,
    sent_at: Duration,
    bytes: u64,
    told: u64,
    rate: u64,
}

pub(crate) struct Sim {
    pub(crate) now: Duration,
    sizes: Vec<u64>,
    nodes: Vec<Node>,
    flows: Vec<Flow>,
    /// What arrives later.
    mail: BTreeMap<(Duration, u64), (usize, Event)>,
    letters: u64,
    trace: DefaultHasher,
}

pub(crate) fn node_id(i: usize) -> Source {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(i as u64).to_be_bytes());
    Source::Peer(hubless_types::NodeId::from_bytes(key))
}

fn index_of(id: &Source) -> usize {
    match id {
        Source::Origin(i) => usize::from(*i),
        Source::Peer(node) => {
            let mut key = [0; 8];
            key.copy_from_slice(&node.as_bytes()[..8]);
            u64::from_be_bytes(key) as usize
        }
    }
}

pub(crate) fn file_id(i: usize) -> BlobHash {
    let mut key = [0; 32];
    key[0] = i as u8;
    key[1] = (i >> 8) as u8;
    BlobHash::from_bytes(key)
}

fn file_index(hash: &BlobHash) -> usize {
    usize::from(hash.as_bytes()[0]) | usize::from(hash.as_bytes()[1]) << 8
}

impl Sim {
    /// A swarm in which everybody knows everybody from the start.
    pub(crate) fn new(seed: u64, sizes: &[u64], specs: Vec<Spec>) -> Self {
        let count = specs.len();
        let mut nodes = Vec::new();
        for (i, spec) in specs.into_iter().enumerate() {
            let mut held = spec.has.clone();
            held.resize(sizes.len(), GroupSet::new());
            let config = PlanConfig {
                seed: seed.wrapping_mul(1_000_003) ^ (i as u64 + 1),
                patience: Duration::from_secs(10),
                origin_streams: 4,
            };
            let plan = spec.fetches.then(|| Plan::new(config));
            nodes.push(Node { spec, plan, held, changed: true, out: Outcome::default() });
        }
        let mut sim = Self {
            now: Duration::ZERO,
            sizes: sizes.to_vec(),
            nodes,
            flows: Vec::new(),
            mail: BTreeMap::new(),
            letters: 0,
            trace: DefaultHasher::new(),
        };
        for i in 0..count {
            for file in 0..sizes.len() {
                let (size, held) = (sim.sizes[file], sim.nodes[i].held[file].clone());
                sim.tell(
                    i,
                    Event::FileAdded { file: file_id(file), size, held, wanted: GroupSet::whole(size) },
                );
            }
            for other in (0..count).filter(|other| *other != i) {
                let lan = sim.nodes[other].spec.lan && sim.nodes[i].spec.lan;
                sim.tell(i, Event::HolderFound { holder: sim.source(other), lan });
            }
        }
        sim
    }

    fn source(&self, i: usize) -> Source {
        if self.nodes[i].spec.origin { Source::Origin(i as u8) } else { node_id(i) }
    }

    pub(crate) fn reader(&mut self, node: usize, file: usize, offset: u64) {
        let (file, end) = (file_id(file), self.sizes[file]);
        self.tell(node, Event::ReaderAt { reader: ReaderId(file.as_bytes()[0].into()), file, offset, end });
    }

    /// Runs until every node that fetches has all, is starved, or `limit` is over.
    pub(crate) fn run(&mut self, limit: Duration) {
        while self.now < limit && !self.is_over() {
            self.step();
        }
    }

    /// Runs until `node` has all or is starved, or `limit` is over.
    pub(crate) fn run_until_done(&mut self, node: usize, limit: Duration) {
        while self.now < limit && self.nodes[node].out.finished.is_none() && !self.nodes[node].out.starved {
            self.step();
        }
    }

    fn is_over(&self) -> bool {
        self.nodes
            .iter()
            .all(|n| n.plan.is_none() || n.out.finished.is_some() || n.out.starved || n.is_dead(self.now))
    }

    pub(crate) fn outcome(&self, node: usize) -> &Outcome {
        &self.nodes[node].out
    }

    pub(crate) fn has(&self, node: usize, file: usize) -> &GroupSet {
        &self.nodes[node].held[file]
    }

    /// A digest of everything that was decided, and when.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn every(&self, period: Duration) -> bool {
        self.now.as_millis().is_multiple_of(period.as_millis())
    }

    fn step(&mut self) {
        if self.every(PUSH) {
            self.push_holdings();
        }
        self.deliver();
        if self.every(TICK) {
            self.report_progress();
            (0..self.nodes.len()).for_each(|i| self.tell(i, Event::Tick));
        }
        self.share();
        self.flow();
        self.now += STEP;
    }

    fn push_holdings(&mut self) {
        for i in 0..self.nodes.len() {
            if !self.nodes[i].changed || self.nodes[i].is_dead(self.now) {
                continue;
            }
            self.nodes[i].changed = false;
            let at = self.now + self.nodes[i].spec.delay * 2;
            for other in 0..self.nodes.len() {
                if other == i || self.nodes[other].plan.is_none() || self.nodes[other].out.finished.is_some()
                {
                    continue;
                }
                for file in 0..self.sizes.len() {
                    let groups = std::sync::Arc::new(self.nodes[i].held[file].clone());
                    if !groups.is_empty() {
                        let has = Event::HolderHas { holder: self.source(i), file: file_id(file), groups };
                        self.mail.insert((at, self.letters), (other, has));
                        self.letters += 1;
                    }
                }
            }
        }
    }

    fn deliver(&mut self) {
        let later = self.mail.split_off(&(self.now + Duration::from_nanos(1), 0));
        let mut sorted: BTreeMap<usize, Vec<Event>> = BTreeMap::new();
        for (to, event) in std::mem::replace(&mut self.mail, later).into_values() {
            sorted.entry(to).or_default().push(event);
        }
        sorted.into_iter().for_each(|(to, events)| self.tell_all(to, events));
    }

    fn report_progress(&mut self) {
        let mut news = Vec::new();
        for flow in self.flows.iter_mut().filter(|flow| flow.bytes > flow.told) {
            flow.told = flow.bytes;
            news.push((flow.to, Event::SegmentProgress { request: flow.request, bytes: flow.bytes }));
        }
        news.into_iter().for_each(|(to, event)| self.tell(to, event));
    }

    fn tell(&mut self, i: usize, event: Event) {
        self.tell_all(i, vec![event]);
    }

    /// Tells a plan and does what it says.
    fn tell_all(&mut self, i: usize, events: Vec<Event>) {
        if self.nodes[i].is_dead(self.now) {
            return;
        }
        let Some(plan) = self.nodes[i].plan.as_mut() else { return };
        let actions = plan.handle_all(self.now, events);
        for action in actions {
            format!("{i} {:?} {action:?}", self.now).hash(&mut self.trace);
            self.act(i, action);
        }
    }

    fn act(&mut self, i: usize, action: Action) {
        match action {
            Action::Request { request, holder, file, groups } => {
                let file = file_index(&file);
                let total = ByteRange::of_groups(groups.clone(), self.sizes[file]).len();
                let (from, sent_at) = (index_of(&holder), self.now);
                self.flows.push(Flow {
                    to: i,
                    from,
                    request,
                    file,
                    groups,
                    total,
                    sent_at,
                    bytes: 0,
                    told: 0,
                    rate: 0,
                });
            }
            Action::Cancel { request } => self.flows.retain(|flow| flow.to != i || flow.request != request),
            Action::DropHolder { holder, .. } => self.nodes[i].out.dropped.push(index_of(&holder)),
            Action::Starved { .. } => self.nodes[i].out.starved = true,
            Action::FileDone { .. } => {
                let node = &mut self.nodes[i];
                let whole = node
                    .held
                    .iter()
                    .zip(&self.sizes)
                    .all(|(held, size)| held.contains(0..size.div_ceil(GROUP_BYTES)));
                if whole {
                    node.out.finished.get_or_insert(self.now);
                }
            }
        }
    }

    /// Shares uplinks and downlinks among the flows.
    fn share(&mut self) {
        let now = self.now;
        let mut up: Vec<u64> = self.nodes.iter().map(|n| if n.sends(now) { n.spec.up } else { 0 }).collect();
        let mut down: Vec<u64> =
            self.nodes.iter().map(|n| if n.is_dead(now) { 0 } else { n.spec.down }).collect();
        let nodes = &self.nodes;
        self.flows.iter_mut().for_each(|flow| flow.rate = 0);
        for _ in 0..SHARING_ROUNDS {
            let open = |flow: &Flow, up: &[u64], down: &[u64]| {
                let trip = (nodes[flow.from].spec.delay + nodes[flow.to].spec.delay) * 2;
                flow.sent_at + trip <= now && up[flow.from] > 1000 && down[flow.to] > 1000
                    || flow.sent_at + trip <= now
                        && up[flow.from] > 0
                        && up[flow.from] == nodes[flow.from].spec.up
            };
            let (mut senders, mut takers) = (vec![0_u64; up.len()], vec![0_u64; up.len()]);
            for flow in self.flows.iter().filter(|flow| open(flow, &up, &down)) {
                senders[flow.from] += 1;
                takers[flow.to] += 1;
            }
            let (was_up, was_down) = (up.clone(), down.clone());
            for flow in self.flows.iter_mut().filter(|flow| open(flow, &was_up, &was_down)) {
                let part = (was_up[flow.from] / senders[flow.from]).min(was_down[flow.to] / takers[flow.to]);
                flow.rate += part;
                up[flow.from] -= part;
                down[flow.to] -= part;
            }
        }
    }

    fn flow(&mut self) {
        let step = STEP.as_millis() as u64;
        let mut ended: Vec<(usize, Event)> = Vec::new();
        let mut i = 0;
        while i < self.flows.len() {
            let flow = &mut self.flows[i];
            let begun = flow.bytes == 0;
            let (before, most) = (flow.bytes, flow.total - flow.bytes);
            flow.bytes += (flow.rate * step / 1000).min(most);
            let moved = flow.bytes - before;
            if begun && moved > 0 {
                let after = self.now.saturating_sub(flow.sent_at) + STEP;
                ended.push((flow.to, Event::SegmentStarted { request: flow.request, after }));
            }
            match self.judge(i, before, moved) {
                Some(event) => {
                    ended.push((self.flows[i].to, event));
                    self.flows.remove(i);
                }
                None => i += 1,
            }
        }
        self.now += STEP;
        ended.into_iter().for_each(|(to, event)| self.tell(to, event));
        self.now -= STEP;
    }

    /// Counts what one flow moved, and says whether it ended.
    fn judge(&mut self, i: usize, before: u64, moved: u64) -> Option<Event> {
        let flow = &self.flows[i];
        let (from, request) = (flow.from, flow.request);
        let fail = |kind| Some(Event::SegmentFailed { request, kind });
        if self.nodes[from].is_dead(self.now) {
            return if flow.sent_at + LOST_AFTER < self.now { fail(Failure::Lost) } else { None };
        }
        if !self.nodes[from].held[flow.file].contains(flow.groups.clone()) {
            return fail(Failure::NotHeld);
        }
        self.nodes[from].out.sent += moved;
        let sender = &self.nodes[from];
        if sender.spec.lies_after.is_some_and(|after| sender.out.sent > after) {
            return fail(Failure::Wrong);
        }
        let group = |bytes: u64| {
            if bytes == flow.total { flow.groups.end } else { flow.groups.start + bytes / GROUP_BYTES }
        };
        let (start, end) = (group(before), group(before + moved));
        let (to, file, over) = (flow.to, flow.file, flow.bytes == flow.total);
        let node = &mut self.nodes[to];
        node.out.taken += moved;
        for group in start..end {
            if node.held[file].contains(group..group + 1) {
                node.out.twice += 1;
            }
            node.out.came.entry((file, group)).or_insert(self.now + STEP);
        }
        node.held[file].insert(start..end);
        node.changed |= start < end;
        over.then_some(Event::SegmentDone { request })
    }
}

impl Node {
    fn is_dead(&self, now: Duration) -> bool {
        self.spec.dead.as_ref().is_some_and(|time| time.contains(&now))
    }

    fn sends(&self, now: Duration) -> bool {
        !self.is_dead(now) && !self.spec.silent.as_ref().is_some_and(|time| time.contains(&now))
    }
}
