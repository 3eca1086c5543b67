//! Stories of plans in the simulator, and what must hold whatever the swarm is like.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hubless_types::{GROUP_BYTES, GroupSet};
use proptest::prelude::*;

use super::sim::{Links, Sim, Spec, World, file_id, node_id};
use super::{Action, Dropped, Event, MAX_HOLDERS, MAX_OUTSTANDING, Plan, PlanConfig, RequestId, Source};

const MIB: u64 = 1024 * 1024;
const MBIT: u64 = 1_000_000 / 8;

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

struct Crowd {
    /// The last finisher's time over the fluid bound.
    time: f64,
    /// Copies of everything that the seed sent.
    copies: f64,
}

/// Eight leechers start together from one seed: 50 Mbit/s up, 200 Mbit/s down each.
fn crowd(sizes: &[u64], seed: u64, links: Links, change: impl Fn(usize, Spec) -> Spec) -> Crowd {
    let mut specs = vec![Spec::new(50 * MBIT, 200 * MBIT).seed(sizes)];
    specs.extend((1..9).map(|i| change(i, Spec::new(50 * MBIT, 200 * MBIT).leech())));
    let lives: Vec<usize> =
        (1..9).filter(|i| specs[*i].dead.is_none() && specs[*i].stopped.is_none()).collect();
    let world = World { links, ..World::new(seed, sizes, specs) };
    let (bound, total) = (world.fluid_bound().as_secs_f64(), world.total() as f64);
    let mut sim = Sim::new(world);
    sim.run(secs(400));
    let last = lives.iter().map(|i| sim.outcome(*i).finished.expect("it ends")).max().unwrap_or_default();
    let crowd = Crowd { time: last.as_secs_f64() / bound, copies: sim.outcome(0).sent as f64 / total };
    println!(
        "crowd of 8, seed {seed}: {:.3} of the fluid bound, {:.3} copies sent by the seed",
        crowd.time, crowd.copies
    );
    crowd
}

#[test]
fn a_crowd_from_one_seed_ends_near_the_fluid_bound() {
    for seed in 0..3 {
        let Crowd { time, copies } = crowd(&[256 * MIB], seed, Links::All, |_, spec| spec);
        assert!(time < 1.15 && copies < 1.1, "{time} {copies}");
    }
}

#[test]
fn many_files_are_spread_over_a_crowd_as_one_is() {
    for seed in 0..2 {
        let Crowd { time, copies } = crowd(&[16 * MIB; 16], seed, Links::All, |_, spec| spec);
        assert!(time < 1.15 && copies < 1.1, "{time} {copies}");
    }
}

#[test]
fn a_crowd_that_knows_the_seed_alone_finds_itself_by_it() {
    let Crowd { time, copies } = crowd(&[256 * MIB], 0, Links::Seed, |_, spec| spec);
    assert!(time < 1.15 && copies < 1.1, "{time} {copies}");
}

/// Fifty leechers, each told of eight others.
#[test]
fn a_crowd_of_fifty_ends_near_the_fluid_bound() {
    let sizes = [24 * MIB; 8];
    let peer = || Spec { delay: Duration::from_millis(20), ..Spec::new(100 * MBIT, 400 * MBIT) };
    let specs = std::iter::once(peer().seed(&sizes)).chain((0..50).map(|_| peer().leech()));
    let links = Links::Some { told: 8, most: 50 };
    let (step, push) = (Duration::from_millis(50), Duration::from_millis(200));
    let world = World { links, step, push, ..World::new(0, &sizes, specs.collect()) };
    let (bound, total) = (world.fluid_bound(), world.total() as f64);
    let mut sim = Sim::new(world);
    sim.run(bound * 2);
    let last = (1..51).map(|i| sim.outcome(i).finished.expect("it ends")).max().unwrap_or_default();
    let (time, copies) = (last.as_secs_f64() / bound.as_secs_f64(), sim.outcome(0).sent as f64 / total);
    println!("crowd of 50: {time:.3} of the fluid bound, {copies:.3} copies sent by the seed");
    assert!(time < 1.2 && copies < 1.2, "{time} {copies}");
}

/// One is killed and one stopped half way.
fn two_leave(i: usize, mut spec: Spec) -> Spec {
    if i == 1 {
        spec.dead = Some(secs(20)..secs(1000));
    }
    if i == 2 {
        spec.stopped = Some(secs(20)..secs(1000));
    }
    spec
}

#[test]
fn a_crowd_hardly_notices_two_who_leave() {
    let all = crowd(&[256 * MIB], 1, Links::All, |_, spec| spec);
    let some = crowd(&[256 * MIB], 1, Links::All, two_leave);
    assert!(some.time < all.time * 1.1, "{} {}", some.time, all.time);
}

/// Two nodes that begin together take different halves from the seed, and each the rest from the other.
#[test]
fn two_nodes_that_begin_together_exchange_halves() {
    for seed in 0..8 {
        let sizes = [64 * MIB];
        let peer = Spec::new(100 * MBIT, 1000 * MBIT);
        let mut sim = Sim::new(World::new(
            seed,
            &sizes,
            vec![peer.clone().seed(&sizes), peer.clone().leech(), peer.leech()],
        ));
        sim.run(secs(60));
        let copies = sim.outcome(0).sent as f64 / sizes[0] as f64;
        println!("two nodes, seed {seed}: {copies:.3} copies, {:?}", sim.outcome(1).finished);
        assert!(sim.outcome(1).finished.is_some() && sim.outcome(2).finished.is_some());
        assert!(copies < 1.25, "the seed sent {copies} copies");
        let (first, second) = (sim.outcome(1).sent, sim.outcome(2).sent);
        assert!(first.min(second) > sizes[0] / 4, "{first} {second}");
    }
}

fn time_with(rates: &[u64], size: u64) -> f64 {
    let mut specs: Vec<Spec> =
        rates.iter().map(|rate| Spec::new(*rate, u64::MAX / 4).seed(&[size])).collect();
    specs.push(Spec::new(0, 1000 * MBIT).leech());
    let mut sim = Sim::new(World::new(1, &[size], specs));
    sim.run(secs(1000));
    sim.outcome(rates.len()).finished.expect("it ends").as_secs_f64()
}

#[test]
fn one_of_four_providers_at_a_kilobyte_a_second_costs_a_tenth_at_most() {
    for size in [256 * MIB, 64 * MIB, 8 * MIB] {
        let (good, mixed) =
            (time_with(&[100 * MBIT; 3], size), time_with(&[100 * MBIT, 100 * MBIT, 1000, 100 * MBIT], size));
        println!(
            "{} MiB: three good {good:.2} s, and one at 1 kB/s {mixed:.2} s: {:.3}",
            size / MIB,
            mixed / good
        );
        assert!(mixed <= good * 1.1 + 0.3, "{mixed} against {good}");
    }
}

#[test]
fn providers_of_unequal_rates_are_used_in_full() {
    let rates = [5 * MBIT, 20 * MBIT, 80 * MBIT, 320 * MBIT];
    let size = 256 * MIB;
    let best = size as f64 / rates.iter().sum::<u64>() as f64;
    let took = time_with(&rates, size);
    println!("unequal rates: {took:.2} s, {:.3} of the best", took / best);
    assert!(took < best * 1.15 + 0.5, "{took} against {best}");
}

#[test]
fn the_place_before_a_reader_comes_first_and_in_order() {
    let size = 128 * MIB;
    let slow = Spec::new(MIB, u64::MAX / 4).seed(&[size]);
    let fast = Spec::new(20 * MIB, u64::MAX / 4).seed(&[size]);
    let world = World::new(3, &[size], vec![slow, fast, Spec::new(0, 1000 * MBIT).leech()]);
    let mut sim = Sim::new(World { watched: Some(2), ..world });
    sim.run(secs(2)); // measured by now
    // In the middle of the longest stretch that is not here, so that nothing of it came by chance.
    let missing = sim.has(2, 0).missing(0..size / GROUP_BYTES);
    let longest = missing.runs().iter().max_by_key(|run| run.end - run.start).cloned().unwrap();
    let place = longest.start + (longest.end - longest.start) / 4;
    let window = place..place + 8 * MIB / GROUP_BYTES;
    assert!(window.end <= longest.end, "{longest:?}");
    sim.reader(2, 0, place * GROUP_BYTES);
    sim.run(secs(60));
    let out = sim.outcome(2);
    let at = |group: u64| out.came[&(0, group)].saturating_sub(secs(2));
    let whole = window.clone().map(at).max().unwrap();
    println!("reader: first byte after {:?}, 8 MiB after {whole:?}", at(place));
    // What was in flight when it came shares the line with it.
    assert!(at(place) > Duration::ZERO && at(place) < Duration::from_millis(400), "{:?}", at(place));
    assert!(whole < Duration::from_millis(2500), "{whole:?}");
    let quarter = (window.end - window.start) / 4;
    let first = (window.start..window.start + quarter).map(at).max().unwrap();
    let last = (window.end - quarter..window.end).map(at).max().unwrap();
    assert!(first < last, "{first:?} {last:?}");
}

#[test]
fn a_first_reader_waits_for_no_long_segment() {
    let size = 512 * MIB;
    let seed = Spec::new(2 * MIB, u64::MAX / 4).seed(&[size]);
    let world = World::new(3, &[size], vec![seed, Spec::new(0, 1000 * MBIT).leech()]);
    let mut sim = Sim::new(World { watched: Some(1), ..world });
    sim.reader(1, 0, 0);
    sim.run(secs(3));
    let first = sim.outcome(1).came[&(0, 0)];
    assert!(first < Duration::from_millis(300), "{first:?}");
}

#[test]
fn a_silent_holder_is_passed_over_within_seconds_and_used_again_when_it_returns() {
    let size = 256 * MIB;
    let mut moody = Spec::new(10 * MIB, u64::MAX / 4).seed(&[size]);
    moody.silent = Some(secs(2)..secs(9));
    let steady = Spec::new(10 * MIB, u64::MAX / 4).seed(&[size]);
    let mut sim = Sim::new(World::new(5, &[size], vec![moody, steady, Spec::new(0, 1000 * MBIT).leech()]));
    sim.run(secs(2));
    let before = sim.outcome(0).sent;
    sim.run(secs(9));
    // What the other could bring in the meantime, it did: less a pause of no holder at all.
    assert!(sim.outcome(2).taken > before + 60 * MIB, "{}", sim.outcome(2).taken);
    sim.run(secs(100));
    assert!(
        sim.outcome(0).sent > before + 30 * MIB,
        "it was not used again: {before} {}",
        sim.outcome(0).sent
    );
    assert!(sim.outcome(2).finished.unwrap() < secs(18), "{:?}", sim.outcome(2).finished);
}

#[test]
fn a_liar_is_dropped_for_good_at_its_first_wrong_byte() {
    let size = 32 * MIB;
    let mut liar = Spec::new(10 * MIB, u64::MAX / 4).seed(&[size]);
    liar.lies_after = Some(3 * MIB);
    let honest = Spec::new(5 * MIB, u64::MAX / 4).seed(&[size]);
    let mut sim = Sim::new(World::new(5, &[size], vec![liar, honest, Spec::new(0, 1000 * MBIT).leech()]));
    sim.run(secs(100));
    assert_eq!(sim.outcome(2).dropped, [0]);
    assert!(sim.outcome(2).finished.is_some());
    assert!(sim.outcome(0).sent < 4 * MIB);
}

#[test]
fn nobody_else_is_asked_for_what_a_quick_local_network_has() {
    let size = 128 * MIB;
    let mut near = Spec::new(50 * MIB, u64::MAX / 4).seed(&[size]);
    near.lan = true;
    let far = Spec::new(50 * MIB, u64::MAX / 4).seed(&[size]);
    let mut me = Spec::new(0, 1000 * MBIT).leech();
    me.lan = true;
    let mut sim = Sim::new(World::new(5, &[size], vec![far, near, me]));
    sim.run(secs(100));
    assert!(sim.outcome(0).sent < 4 * MIB, "{}", sim.outcome(0).sent);
}

#[test]
fn others_help_a_local_network_that_is_slow() {
    let size = 64 * MIB;
    let mut near = Spec::new(MIB / 4, u64::MAX / 4).seed(&[size]);
    near.lan = true;
    let far = Spec::new(50 * MIB, u64::MAX / 4).seed(&[size]);
    let mut me = Spec::new(0, 1000 * MBIT).leech();
    me.lan = true;
    let mut sim = Sim::new(World::new(5, &[size], vec![far, near, me]));
    sim.run(secs(100));
    assert!(sim.outcome(2).finished.unwrap() < secs(6), "{:?}", sim.outcome(2).finished);
}

fn plan() -> Plan {
    Plan::new(PlanConfig { seed: 7, patience: secs(10), origin_streams: 4 })
}

fn added(plan: &mut Plan, size: u64) {
    let wanted = GroupSet::whole(size);
    plan.handle(secs(0), Event::FileAdded { file: file_id(0), size, held: GroupSet::new(), wanted });
}

#[test]
fn a_file_that_nobody_has_is_called_starved_once_after_the_patience() {
    let mut plan = plan();
    added(&mut plan, MIB);
    let starved = |actions: Vec<Action>| actions.contains(&Action::Starved { file: file_id(0) });
    assert!(!starved(plan.handle(secs(1), Event::Tick)));
    assert!(!starved(plan.handle(secs(10), Event::Tick)));
    assert!(starved(plan.handle(secs(11), Event::Tick)));
    assert!(!starved(plan.handle(secs(30), Event::Tick)));
}

/// What `actions` ask for, and what they take back.
fn asked(actions: &[Action]) -> (Vec<(RequestId, Range<u64>)>, Vec<RequestId>) {
    let asked = actions.iter().filter_map(|action| match action {
        Action::Request { request, groups, .. } => Some((*request, groups.clone())),
        _ => None,
    });
    let cancelled = actions.iter().filter_map(|action| match action {
        Action::Cancel { request } => Some(*request),
        _ => None,
    });
    (asked.collect(), cancelled.collect())
}

#[test]
fn what_waits_at_a_source_is_taken_back_once_the_source_gave_it_to_others() {
    let (mut plan, holder, file) = (plan(), node_id(1), file_id(0));
    added(&mut plan, 64 * MIB);
    plan.handle(secs(0), Event::HolderFound { holder, lan: false });
    let groups = GroupSet::whole(64 * MIB).into();
    let (first, _) = asked(&plan.handle(secs(0), Event::HolderHas { holder, file, groups }));
    let [(begun, ref a), (waits, ref b)] = first[..] else { panic!("{first:?}") };
    plan.handle(secs(0), Event::SegmentStarted { request: begun, after: secs(0) });
    let gave: GroupSet = [a.clone(), b.clone()].into_iter().collect();
    let gives = |gave: &GroupSet| Event::HolderGave { holder, file, groups: Arc::new(gave.clone()) };
    let (anew, cancelled) = asked(&plan.handle(secs(0), gives(&gave)));
    // What has begun to come is on its way; the other is asked of whoever it went to.
    assert_eq!(cancelled, [waits]);
    let [(_, ref other)] = anew[..] else { panic!("{anew:?}") };
    assert!(!gave.overlaps(other.clone()), "{other:?} {gave:?}");
    // A source that has nothing left that it gave to nobody is asked for what it gave.
    let (anew, cancelled) = asked(&plan.handle(secs(0), gives(&GroupSet::whole(64 * MIB))));
    assert_eq!((anew, cancelled), (vec![], vec![]));
}

#[test]
fn a_crowd_asks_for_a_piece_of_who_is_slow_and_for_several_of_who_is_fast() {
    let (holder, file, size) = (node_id(1), file_id(0), 4096 * MIB);
    // How long 512 KiB take; the least mean of what is asked for once that is known, and the longest.
    for (millis, mean, longest) in [(500, 32, 32), (2, 256, 1024)] {
        let mut plan = plan();
        added(&mut plan, size);
        // Another of whom nothing is known yet may want the same.
        plan.handle(secs(0), Event::HolderFound { holder: node_id(2), lan: false });
        plan.handle(secs(0), Event::HolderFound { holder, lan: false });
        let groups = GroupSet::whole(size).into();
        let (mut todo, _) = asked(&plan.handle(secs(0), Event::HolderHas { holder, file, groups }));
        let (mut now, mut later) = (secs(0), Vec::new());
        while now < secs(5) {
            let (request, groups) = todo.remove(0);
            if now > secs(3) {
                later.push(groups.end - groups.start);
            }
            plan.handle(now, Event::SegmentStarted { request, after: secs(0) });
            now += Duration::from_millis(millis) * (groups.end - groups.start) as u32 / 32;
            todo.extend(asked(&plan.handle(now, Event::SegmentDone { request })).0);
        }
        let sum: u64 = later.iter().sum();
        assert!(sum >= mean * later.len() as u64, "{millis}: {later:?}");
        assert!(later.iter().all(|groups| *groups <= longest), "{millis}: {later:?}");
    }
}

#[test]
fn in_a_crowd_what_a_holder_has_wholly_comes_first() {
    for seed in 0..8 {
        let mut plan = Plan::new(PlanConfig { seed, patience: secs(10), origin_streams: 4 });
        added(&mut plan, MIB);
        let (holder, file) = (node_id(1), file_id(0));
        plan.handle(secs(0), Event::HolderFound { holder, lan: false });
        // It is being sent the first of two pieces.
        let groups: GroupSet = [0..16, 32..64].into_iter().collect();
        let has = Event::HolderHas { holder, file, groups: groups.into() };
        let (asked, _) = asked(&plan.handle(secs(0), has));
        assert!(asked[0].1.start >= 32, "{asked:?}");
    }
}

#[test]
fn what_one_failed_to_send_is_asked_of_one_who_had_nothing_to_do() {
    let mut plan = plan();
    added(&mut plan, MIB / 2);
    let file = file_id(0);
    let groups: Arc<GroupSet> = GroupSet::whole(MIB / 2).into();
    let mut actions = Vec::new();
    for holder in [node_id(1), node_id(2)] {
        plan.handle(secs(0), Event::HolderFound { holder, lan: false });
        actions.extend(plan.handle(secs(0), Event::HolderHas { holder, file, groups: groups.clone() }));
    }
    let [Action::Request { request, holder, .. }, ..] = actions[..] else { panic!("{actions:?}") };
    let failed = Event::SegmentFailed { request, kind: super::Failure::Refused };
    let again = plan.handle(secs(0), failed);
    let other = |action: &Action| matches!(action, Action::Request { holder: other, .. } if *other != holder);
    assert!(again.iter().any(other), "{again:?}");
}

/// Whoever fetches from somebody who is being sent the file itself has all that there is, most of the time.
#[test]
fn who_follows_a_slow_one_does_not_starve() {
    let mut plan = plan();
    added(&mut plan, 64 * MIB);
    let holder = node_id(1);
    plan.handle(secs(0), Event::HolderFound { holder, lan: false });
    for second in 1..30_u64 {
        let now = secs(second);
        let groups = GroupSet::from(0..second * 8);
        let mut todo = plan.handle(now, Event::Tick);
        todo.extend(plan.handle(now, Event::HolderHas { holder, file: file_id(0), groups: groups.into() }));
        while let Some(action) = todo.pop() {
            let Action::Request { request, .. } = action else { panic!("at {second} s: {action:?}") };
            todo.extend(plan.handle(now, Event::SegmentDone { request }));
        }
    }
}

#[test]
fn a_plan_keeps_no_more_holders_than_it_may_and_makes_room_for_useful_ones() {
    let mut plan = plan();
    added(&mut plan, MIB);
    for i in 0..MAX_HOLDERS {
        assert_eq!(plan.handle(secs(0), Event::HolderFound { holder: node_id(i), lan: false }), []);
    }
    let late = Event::HolderFound { holder: node_id(1000), lan: false };
    let refused = Action::DropHolder { holder: node_id(1000), why: Dropped::NoRoom };
    assert_eq!(plan.handle(secs(1), late.clone()), [refused]);
    // Those who have said nothing in a while make room.
    let dropped = plan.handle(secs(20), late);
    assert_eq!(dropped, [Action::DropHolder { holder: node_id(0), why: Dropped::NoRoom }]);
}

#[test]
fn a_long_round_trip_gets_many_requests_at_once() {
    let mut plan = plan();
    let size = 1024 * MIB;
    added(&mut plan, size);
    plan.handle(secs(0), Event::HolderFound { holder: node_id(1), lan: false });
    let groups = GroupSet::whole(size).into();
    let mut asked = plan.handle(secs(0), Event::HolderHas { holder: node_id(1), file: file_id(0), groups });
    assert_eq!(asked.len(), 2);
    for second in 1..8_u32 {
        for action in std::mem::take(&mut asked) {
            let Action::Request { request, .. } = action else { continue };
            let (now, after) = (secs(second.into()), Duration::from_millis(100));
            asked.extend(plan.handle(now, Event::SegmentStarted { request, after }));
            asked.extend(plan.handle(now, Event::SegmentDone { request }));
        }
    }
    // As many as a peer serves at once, less those that are kept for a reader.
    assert_eq!(plan.in_flight(), MAX_OUTSTANDING - 2);
}

/// A swarm around one fetcher: whoever has what, at whatever rate, with whatever faults.
#[derive(Debug, Clone)]
struct Case {
    seed: u64,
    sizes: Vec<u64>,
    specs: Vec<Spec>,
    reader: Option<u64>,
}

fn holder(sizes: Vec<u64>) -> impl Strategy<Value = Spec> {
    let runs = prop::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 0..4);
    let faults = (0..8_u8, 0..8_u64, 1..20_u64, 0..4 * MIB);
    (prop::bool::ANY, 13..24_u32, runs, faults, 0..80_u64, prop::bool::ANY).prop_map(
        move |(seed, rate, runs, (fault, start, length, after), delay, fetches)| {
            let mut spec = Spec::new(1 << rate, 100 * MIB);
            spec.delay = Duration::from_millis(delay);
            spec.fetches = fetches && !seed;
            spec.has = sizes
                .iter()
                .map(|size| {
                    let whole = GroupSet::whole(*size);
                    let n = whole.len() as f64;
                    let part = runs.iter().map(|(a, b)| (a.min(*b) * n) as u64..(a.max(*b) * n) as u64);
                    if seed { whole } else { part.collect::<GroupSet>().intersection(&whole) }
                })
                .collect();
            match fault {
                0 => spec.silent = Some(secs(start)..secs(start + length)),
                1 => spec.silent = Some(secs(start)..secs(100_000)),
                2 => spec.dead = Some(secs(start)..secs(start + length)),
                3 => spec.lies_after = Some(after),
                _ => {}
            }
            spec
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    prop::collection::vec(1..12 * MIB, 1..4).prop_flat_map(|sizes| {
        let others = prop::collection::vec(holder(sizes.clone()), 0..6);
        (any::<u64>(), others, prop::option::of(0..12 * MIB), 0.0..1.0_f64, prop::bool::ANY).prop_map(
            move |(seed, others, reader, split, chain)| {
                // Two who are always there have all of it between them; one of them perhaps through a third.
                let halves = |first: bool| {
                    let part = |size: &u64| {
                        let all = GroupSet::whole(*size).len();
                        let cut = (split * all as f64) as u64;
                        GroupSet::from(if first { 0..cut } else { cut..all })
                    };
                    let mut spec = Spec::new(2 * MIB, 100 * MIB);
                    spec.has = sizes.iter().map(part).collect();
                    spec.fetches = chain;
                    spec
                };
                let mut specs = vec![Spec::new(MIB, 100 * MIB).leech(), halves(true), halves(false)];
                specs.extend(others);
                Case { seed, sizes: sizes.clone(), specs, reader }
            },
        )
    })
}

fn run(case: &Case) -> Sim {
    let mut sim = Sim::new(World::new(case.seed, &case.sizes, case.specs.clone()));
    if let Some(offset) = case.reader {
        sim.reader(0, 0, offset.min(case.sizes[0]));
    }
    sim.run_until_done(0, secs(600));
    sim
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_plan_ends_with_every_group_fetched_once(case in case()) {
        let sim = run(&case);
        let out = sim.outcome(0);
        prop_assert!(out.finished.is_some(), "not done at {:?}; starved: {}", sim.now, out.starved);
        for (i, size) in case.sizes.iter().enumerate() {
            prop_assert_eq!(sim.has(0, i), &GroupSet::whole(*size));
        }
        let groups: u64 = case.sizes.iter().map(|size| size.div_ceil(GROUP_BYTES)).sum();
        // At the end, and before a reader, what a slow holder has in flight may come twice.
        let most = groups / 4 + 64 * case.specs.len() as u64;
        prop_assert!(out.twice <= most, "{} of {} groups came twice", out.twice, groups);
    }

    #[test]
    fn the_same_seed_gives_the_same_trace(case in case()) {
        prop_assert_eq!(run(&case).trace(), run(&case).trace());
    }
}

#[test]
fn an_origin_and_a_slow_peer_feed_one_file_together() {
    let size = 64 * MIB;
    let origin = Spec::new(80 * MBIT, 0).seed(&[size]).origin();
    let peer = Spec::new(80 * MBIT, 0).seed(&[size]);
    let mut sim = Sim::new(World::new(1, &[size], vec![origin, peer, Spec::new(0, 1000 * MBIT).leech()]));
    sim.run(secs(100));
    let ended = sim.outcome(2).finished.expect("it ends").as_secs_f64();
    let alone = size as f64 / (80 * MBIT) as f64;
    assert!(ended < 0.7 * alone, "{ended} s of {alone} s");
    assert!(sim.outcome(0).sent > size / 4 && sim.outcome(1).sent > size / 4);
}

#[test]
fn an_origin_is_spared_where_peers_are_quick_enough() {
    let size = 128 * MIB;
    for lan in [true, false] {
        let origin = Spec::new(1000 * MBIT, 0).seed(&[size]).origin();
        let peer = Spec { lan, ..Spec::new(800 * MBIT, 0).seed(&[size]) };
        let mut leech = Spec::new(0, 1000 * MBIT).leech();
        leech.lan = lan;
        let mut sim = Sim::new(World::new(1, &[size], vec![origin, peer, leech]));
        sim.run(secs(100));
        assert!(sim.outcome(2).finished.is_some());
        // Of far peers it is not known at once how quick they are.
        let most = if lan { size / 20 } else { size / 3 };
        assert!(sim.outcome(0).sent <= most, "{} bytes of {size}", sim.outcome(0).sent);
    }
}

#[test]
fn when_the_peers_are_gone_the_origin_goes_on() {
    let size = 128 * MIB;
    let origin = Spec::new(200 * MBIT, 0).seed(&[size]).origin();
    let peer = Spec { dead: Some(secs(2)..secs(1000)), ..Spec::new(200 * MBIT, 0).seed(&[size]) };
    let mut sim = Sim::new(World::new(1, &[size], vec![origin, peer, Spec::new(0, 1000 * MBIT).leech()]));
    sim.run(secs(100));
    let outcome = sim.outcome(2);
    assert!(outcome.finished.is_some() && !outcome.starved);
    assert!(sim.outcome(0).sent > size / 2);
}

#[test]
fn an_origin_that_lies_about_one_file_is_asked_for_others() {
    let mut plan = plan();
    let origin = Source::Origin(0);
    for file in [0, 1] {
        let wanted = GroupSet::whole(MIB);
        let held = GroupSet::new();
        plan.handle(secs(0), Event::FileAdded { file: file_id(file), size: MIB, held, wanted });
    }
    plan.handle(secs(0), Event::HolderFound { holder: origin, lan: false });
    let has =
        |file| Event::HolderHas { holder: origin, file: file_id(file), groups: GroupSet::whole(MIB).into() };
    let asked = plan.handle(secs(0), has(0));
    let [Action::Request { request, .. }] = asked[..] else { panic!("{asked:?}") };
    let failed = Event::SegmentFailed { request, kind: super::Failure::Wrong };
    assert_eq!(plan.handle(secs(1), failed), []);
    let asked = plan.handle(secs(1), has(1));
    assert!(matches!(asked[..], [Action::Request { file, .. }] if file == file_id(1)), "{asked:?}");
}
