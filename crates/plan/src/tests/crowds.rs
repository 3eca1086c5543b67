//! Many nodes that fetch the same at the same moment.

use std::time::Duration;

use super::super::sim::{Links, Sim, Spec, World};
use super::{MBIT, MIB, secs};

struct Crowd {
    /// The last finisher's time over the fluid bound.
    time: f64,
    /// Copies of everything that the seed sent.
    copies: f64,
    /// Part of it that the seed gave a second time before it had given all once.
    twice: f64,
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
    let of_seed = sim.outcome(0);
    let crowd = Crowd {
        time: last.as_secs_f64() / bound,
        copies: of_seed.sent as f64 / total,
        twice: of_seed.given_twice as f64 / of_seed.given_once as f64,
    };
    println!(
        "crowd of 8, seed {seed}: {:.3} of the fluid bound, {:.3} copies sent by the seed, {:.3} given twice too soon",
        crowd.time, crowd.copies, crowd.twice
    );
    crowd
}

#[test]
fn a_crowd_from_one_seed_ends_near_the_fluid_bound() {
    for seed in 0..3 {
        let Crowd { time, copies, twice } = crowd(&[256 * MIB], seed, Links::All, |_, spec| spec);
        assert!(time < 1.15 && copies < 1.1, "{time} {copies}");
        assert!(twice < 0.06, "{twice} of it was given twice before all was given once");
    }
}

/// What nodes know of each other from one fetch is no hindrance to the next: others begin it at the same moment again.
#[test]
fn a_crowd_fetches_a_second_repository_as_it_did_the_first() {
    let sizes = [16 * MIB; 8];
    let mut specs = vec![Spec::new(50 * MBIT, 200 * MBIT).seed(&sizes)];
    specs.extend((1..9).map(|_| Spec::new(50 * MBIT, 200 * MBIT).leech()));
    let world = World::new(0, &sizes, specs);
    let (bound, total) = (world.fluid_bound().as_secs_f64(), world.total() as f64);
    let mut sim = Sim::new(world);
    for round in ["first", "second"] {
        let (began, sent) = (sim.now, sim.outcome(0).sent);
        if round == "second" {
            sim.fetch_more(&sizes);
        }
        sim.run(began + secs(200));
        let last = (1..9).map(|i| sim.outcome(i).finished.expect("it ends")).max().unwrap_or_default();
        let (time, copies) =
            ((last - began).as_secs_f64() / bound, (sim.outcome(0).sent - sent) as f64 / total);
        println!("the {round} of two: {time:.3} of the fluid bound, {copies:.3} copies sent by the seed");
        assert!(time < 1.12 && copies < 1.1, "the {round}: {time} {copies}");
    }
}

/// Some lose packets, some go for good, some go and come back.
#[test]
fn a_crowd_that_comes_and_goes_on_lossy_lines_ends() {
    let sizes = [16 * MIB; 4];
    let peer = || Spec { delay: Duration::from_millis(40), ..Spec::new(50 * MBIT, 200 * MBIT) };
    let mut specs = vec![peer().seed(&sizes)];
    specs.extend((1..25).map(|i| {
        let mut spec = peer().leech();
        spec.loss = if i % 2 == 0 { 0.01 } else { 0.0 };
        match i % 6 {
            1 => spec.dead = Some(secs(i)..secs(10_000)),
            3 => spec.dead = Some(secs(i / 2)..secs(i)),
            5 => spec.stopped = Some(secs(i / 2)..secs(i)),
            _ => {}
        }
        spec
    }));
    let stay: Vec<usize> = (1..25).filter(|i| i % 6 != 1).collect();
    let run = || {
        let world =
            World { links: Links::Some { told: 6, most: 20 }, ..World::new(3, &sizes, specs.clone()) };
        let mut sim = Sim::new(world);
        sim.run(secs(300));
        sim
    };
    let sim = run();
    let last = stay.iter().map(|i| sim.outcome(*i).finished.expect("it ends")).max().unwrap_or_default();
    let copies = sim.outcome(0).sent as f64 / (64 * MIB) as f64;
    println!("comings, goings and losses: {last:?}, {copies:.3} copies sent by the seed");
    assert!(last < secs(60) && copies < 2.0, "{last:?} {copies}");
    assert_eq!(sim.trace(), run().trace(), "the same seed, the same trace");
}

/// A thousand leechers, each told of eight others.
#[test]
fn a_thousand_share_out_a_small_repository() {
    let sizes = [2 * MIB; 4];
    let peer = || Spec { delay: Duration::from_millis(20), ..Spec::new(20 * MBIT, 80 * MBIT) };
    let specs = std::iter::once(peer().seed(&sizes)).chain((0..1000).map(|_| peer().leech()));
    let links = Links::Some { told: 8, most: 20 };
    let (step, push) = (Duration::from_millis(100), Duration::from_millis(500));
    let world = World { links, step, push, tick: push, ..World::new(0, &sizes, specs.collect()) };
    let (bound, total) = (world.fluid_bound(), world.total() as f64);
    let mut sim = Sim::new(world);
    sim.run(bound * 10);
    let last = (1..=1000).map(|i| sim.outcome(i).finished.expect("it ends")).max().unwrap_or_default();
    let (time, copies) = (last.as_secs_f64() / bound.as_secs_f64(), sim.outcome(0).sent as f64 / total);
    println!("a thousand: {last:?}, {time:.3} of the fluid bound, {copies:.3} copies sent by the seed");
    assert!(time < 3.0 && copies < 3.0, "{time} {copies}");
}

#[test]
fn many_files_are_spread_over_a_crowd_as_one_is() {
    for seed in 0..2 {
        let Crowd { time, copies, .. } = crowd(&[16 * MIB; 16], seed, Links::All, |_, spec| spec);
        assert!(time < 1.15 && copies < 1.1, "{time} {copies}");
    }
}

#[test]
fn a_crowd_that_knows_the_seed_alone_finds_itself_by_it() {
    let Crowd { time, copies, .. } = crowd(&[256 * MIB], 0, Links::Seed, |_, spec| spec);
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
