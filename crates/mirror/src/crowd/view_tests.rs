//! Crowds in virtual time: every node decides by what it heard a while ago, and the origin's line is shared.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use hubless_store::DraftNews;
use hubless_types::{FileDigest, GROUP_BYTES, GroupSet, NodeId, Sha256};
use tokio::time::Instant;

use super::view::{Brought, Turn, View};

const MIB: u64 = 1024 * 1024;
const STEP: Duration = Duration::from_millis(50);
/// Steps between two questions to the same mate.
const HEARS_EVERY: u64 = 5;
const STREAMS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(5);
/// Steps that a part takes from one node to another.
const PART_STEPS: u64 = 4;

struct Node {
    id: NodeId,
    view: View,
    /// The step at which it begins, and at which it goes.
    from: u64,
    until: u64,
    have: GroupSet,
    given: GroupSet,
    offers: GroupSet,
    /// Asked of the origin: the groups, how many of them are still to come, and the step at which it asked.
    origin: Vec<(Range<u64>, f64, u64)>,
    /// Steps that the slowest of its own parts took.
    slowest: u64,
    /// Asked of mates: whom, what, and the step at which it is here.
    mates: Vec<(NodeId, Range<u64>, u64)>,
    /// Says that all is on its way to it, and does nothing.
    talks: bool,
    done_at: Option<u64>,
}

struct Sim {
    size: u64,
    /// Groups that the origin sends in a step, to all together.
    rate: f64,
    sent: u64,
    nodes: Vec<Node>,
}

impl Sim {
    fn new(count: u8, size: u64, bytes_per_second: u64) -> Self {
        let digest = FileDigest::Sha256(Sha256::from_bytes([7; 32]));
        let node = |n: u8| {
            let id = NodeId::from_bytes([n.wrapping_mul(37).wrapping_add(11); 32]);
            Node {
                id,
                view: View::new(id, &digest, size),
                from: u64::from(n) % 3,
                until: u64::MAX,
                have: GroupSet::new(),
                given: GroupSet::new(),
                offers: GroupSet::new(),
                origin: Vec::new(),
                slowest: 0,
                mates: Vec::new(),
                talks: false,
                done_at: None,
            }
        };
        let rate = bytes_per_second as f64 / GROUP_BYTES as f64 * STEP.as_secs_f64();
        Self { size, rate, sent: 0, nodes: (0..count).map(node).collect() }
    }

    fn copies(&self) -> f64 {
        self.sent as f64 / self.size.div_ceil(GROUP_BYTES) as f64
    }

    /// Runs until everybody who stays and does not only talk has all of it; the steps that it took.
    fn run(&mut self) -> u64 {
        let (start, all) = (Instant::now(), GroupSet::whole(self.size));
        for step in 0..20_000 {
            let now = start + STEP * step as u32;
            self.hear(step, now);
            for i in 0..self.nodes.len() {
                self.decide(i, step, now);
            }
            self.send(step, now);
            let stays = |n: &&Node| !n.talks && n.until > step;
            if self.nodes.iter().filter(stays).all(|n| n.have == all && n.done_at.is_some()) {
                return step;
            }
        }
        panic!("it never ends");
    }

    fn hear(&mut self, step: u64, now: Instant) {
        let news: Vec<(NodeId, u64, Option<DraftNews>)> = self
            .nodes
            .iter()
            .map(|n| {
                let awaits = if n.talks {
                    GroupSet::whole(self.size)
                } else {
                    n.origin.iter().map(|(groups, ..)| groups.clone()).collect()
                };
                let (offers, have) = (n.offers.clone(), n.have.clone());
                let there = (n.from..n.until).contains(&step);
                (n.id, n.from, there.then_some(DraftNews { size: self.size, offers, awaits, have }))
            })
            .collect();
        for (i, node) in self.nodes.iter_mut().enumerate() {
            for (k, (id, began, news)) in news.iter().enumerate() {
                // One that begins asks everybody at once, and is asked back.
                let due = (step + (i * 3 + k) as u64).is_multiple_of(HEARS_EVERY)
                    || step == began.max(&node.from) + 1;
                match news {
                    Some(news) if *id != node.id && due => node.view.hear(*id, news.clone(), now),
                    None if due => node.view.lost(id),
                    _ => {}
                }
            }
            let idle: Vec<NodeId> = node.view.idle_talkers().collect();
            idle.iter().for_each(|id| node.view.lost(id));
        }
    }

    fn decide(&mut self, i: usize, step: u64, now: Instant) {
        let size = self.size;
        let node = &mut self.nodes[i];
        // The first four steps are for listening.
        if node.talks || step < node.from + 4 || step >= node.until {
            return;
        }
        let oldest = node.origin.iter().map(|(.., began)| step - began).max().unwrap_or(0);
        let patience = PATIENCE.max(STEP * 3 * node.slowest.max(oldest) as u32);
        while node.origin.len() < STREAMS {
            let groups = match node.view.origin_turn(&node.given, now, patience) {
                Turn::Ask(groups) => groups,
                Turn::Wait => break,
                Turn::Alone => match crate::upstream::next_range(size, &node.given) {
                    Some(groups) => groups,
                    None => break,
                },
            };
            node.given.insert(groups.clone());
            node.origin.push((groups.clone(), (groups.end - groups.start) as f64, step));
        }
        while node.mates.len() < 8
            && let Some((mate, groups)) = node.view.mate_turn(&node.given, now)
        {
            node.given.insert(groups.clone());
            node.view.asked(&mate);
            node.mates.push((mate, groups, step + PART_STEPS));
        }
    }

    fn send(&mut self, step: u64, now: Instant) {
        let there = |n: &Node| step < n.until;
        let active: usize = self.nodes.iter().filter(|n| there(n)).map(|n| n.origin.len()).sum();
        let each = self.rate / active.max(1) as f64;
        let holders: BTreeMap<NodeId, GroupSet> =
            self.nodes.iter().filter(|n| there(n)).map(|n| (n.id, n.offers.clone())).collect();
        for node in self.nodes.iter_mut().filter(|n| there(n)) {
            for (groups, left, began) in &mut node.origin {
                *left -= each;
                if *left <= 0.0 {
                    node.have.insert(groups.clone());
                    node.offers.insert(groups.clone());
                    node.slowest = node.slowest.max(step - *began);
                    self.sent += groups.end - groups.start;
                }
            }
            node.origin.retain(|(_, left, _)| *left > 0.0);
            for (mate, groups, due) in std::mem::take(&mut node.mates) {
                let holds = holders.get(&mate).is_some_and(|offers| offers.contains(groups.clone()));
                if !holds {
                    node.given.remove(groups);
                    node.view.answered(&mate, Brought::Failed, now);
                } else if due <= step {
                    node.have.insert(groups);
                    node.view.answered(&mate, Brought::All, now);
                } else {
                    node.mates.push((mate, groups, due));
                }
            }
            if node.have == GroupSet::whole(self.size) && node.done_at.is_none() {
                node.done_at = Some(step);
            }
        }
    }
}

fn seconds(steps: u64) -> f64 {
    steps as f64 * STEP.as_secs_f64()
}

#[test]
fn eight_that_begin_together_take_one_copy_in_the_time_of_one() {
    for (size, rate) in
        [(64 * MIB, 6 * MIB), (64 * MIB, 60 * MIB), (1024 * MIB, 50 * MIB), (64 * MIB + 5, MIB)]
    {
        let mut sim = Sim::new(8, size, rate);
        let took = seconds(sim.run());
        println!("{} MiB at {} MiB/s: {:.3} copies, {took:.1} s", size / MIB, rate / MIB, sim.copies());
        assert!(sim.copies() <= 1.05, "{:.3} copies", sim.copies());
        let alone = size as f64 / rate as f64;
        assert!(took <= alone * 1.15 + 2.5, "{took} s; one alone needs {alone}");
    }
}

#[test]
fn those_that_come_later_cost_little() {
    let mut sim = Sim::new(8, 512 * MIB, 20 * MIB);
    for (n, node) in sim.nodes.iter_mut().enumerate() {
        node.from = n as u64 * 30;
    }
    sim.run();
    println!("{:.3} copies", sim.copies());
    // Not the one copy of those that begin together: what each asked for before it heard of the others counts twice.
    assert!(sim.copies() <= 1.3, "{:.3} copies", sim.copies());
}

#[test]
fn one_that_goes_costs_no_more_than_its_part() {
    let mut sim = Sim::new(8, 256 * MIB, 10 * MIB);
    sim.nodes[3].until = 250;
    let took = seconds(sim.run());
    println!("{:.3} copies, {took:.1} s", sim.copies());
    assert!(sim.copies() <= 1.2, "{:.3} copies", sim.copies());
    assert!(took <= 25.6 * 1.3 + 8.0, "{took} s");
}

#[test]
fn one_that_only_talks_delays_by_its_patience_once() {
    let mut sim = Sim::new(4, 64 * MIB, 16 * MIB);
    sim.nodes[2].talks = true;
    let took = seconds(sim.run());
    println!("{:.3} copies, {took:.1} s", sim.copies());
    assert!(sim.copies() <= 1.06, "{:.3} copies", sim.copies());
    // Three times as long as an own part took, on a line that all of them share.
    assert!(took <= 4.0 + 12.0 + 2.5, "{took} s");
}

#[test]
fn one_that_is_alone_asks_for_all_of_it_in_long_ranges() {
    let digest = FileDigest::Sha256(Sha256::from_bytes([7; 32]));
    let mut view = View::new(NodeId::from_bytes([1; 32]), &digest, 64 * MIB);
    assert_eq!(view.origin_turn(&GroupSet::new(), Instant::now(), PATIENCE), Turn::Alone);
    assert_eq!(view.mate_turn(&GroupSet::new(), Instant::now()), None);
    // One with another size in mind is at another file.
    let other = DraftNews { size: 5, offers: (0..1).into(), ..DraftNews::default() };
    view.hear(NodeId::from_bytes([2; 32]), other, Instant::now());
    assert!(view.is_alone());
}

#[test]
fn one_that_offers_and_never_gives_is_given_up() {
    let digest = FileDigest::Sha256(Sha256::from_bytes([7; 32]));
    let (mate, mut now) = (NodeId::from_bytes([2; 32]), Instant::now());
    let mut view = View::new(NodeId::from_bytes([1; 32]), &digest, 4 * MIB);
    let news =
        DraftNews { size: 4 * MIB, offers: (0..256).into(), have: (0..256).into(), ..DraftNews::default() };
    let mut asked = 0;
    loop {
        view.hear(mate, news.clone(), now);
        let Some((node, _)) = view.mate_turn(&GroupSet::new(), now) else { break };
        view.asked(&node);
        view.answered(&node, Brought::NotYet { rest: Duration::from_millis(400) }, now);
        assert_eq!(view.mate_turn(&GroupSet::new(), now), None, "it rests");
        now += Duration::from_millis(400);
        asked += 1;
        assert!(asked < 100);
    }
    assert_eq!(view.origin_turn(&GroupSet::new(), now, PATIENCE), Turn::Alone);
}

/// On a full line a part may stall that would come on: who brings one now and then goes on being asked, and what it offers is
/// not asked of the origin; who brings none is given up soon.
#[test]
fn one_that_stalls_now_and_then_is_not_given_up() {
    let digest = FileDigest::Sha256(Sha256::from_bytes([7; 32]));
    let (mate, mut now) = (NodeId::from_bytes([2; 32]), Instant::now());
    let mut view = View::new(NodeId::from_bytes([1; 32]), &digest, 4 * MIB);
    let news =
        DraftNews { size: 4 * MIB, offers: (0..256).into(), have: (0..256).into(), ..DraftNews::default() };
    let rest = Duration::from_secs(2);
    let mut ask = |brought: Brought| {
        view.hear(mate, news.clone(), now);
        let Some((node, _)) = view.mate_turn(&GroupSet::new(), now) else { return false };
        view.asked(&node);
        view.answered(&node, brought, now);
        now += rest;
        true
    };
    for _ in 0..5 {
        assert!((0..3).all(|_| ask(Brought::Stalled { rest })));
        assert!(ask(Brought::All));
    }
    let more = (0..100).take_while(|_| ask(Brought::Stalled { rest })).count();
    assert_eq!(more, 4);
    assert_eq!(view.origin_turn(&GroupSet::new(), now, PATIENCE), Turn::Alone);
}

/// Eight that have not heard of one another begin at different parts, nearly all; a file that is one request is asked for at
/// once by each.
#[test]
fn those_who_have_not_met_begin_apart() {
    let digest = FileDigest::Sha256(Sha256::from_bytes([7; 32]));
    let first =
        |n: u8, size| View::new(NodeId::from_bytes([n; 32]), &digest, size).before_meeting(&GroupSet::new());
    let firsts: std::collections::BTreeSet<u64> =
        (1..=8).filter_map(|n| first(n, 128 * MIB)).map(|run| run.start).collect();
    assert!(firsts.len() >= 7, "{firsts:?}");
    assert!(
        (1..=8).all(|n| first(n, 128 * MIB).is_some_and(|run| run.end - run.start == 2 * MIB / GROUP_BYTES))
    );
    assert_eq!(first(1, 16 * MIB), None);
}
