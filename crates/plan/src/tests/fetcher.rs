//! One node that fetches: from whom, in which order, and what it does about those who are slow, silent or lie.

use std::time::Duration;

use hubless_types::GROUP_BYTES;

use super::super::sim::{Sim, Spec, World};
use super::{MBIT, MIB, secs};

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

/// One who fetches from somebody far at 50 MiB/s and from a neighbour at that rate, to its end.
fn beside_a_neighbour(size: u64, rate: u64) -> Sim {
    let far = Spec::new(50 * MIB, u64::MAX / 4).seed(&[size]);
    let near = Spec { lan: true, ..Spec::new(rate, u64::MAX / 4).seed(&[size]) };
    let me = Spec { lan: true, ..Spec::new(0, 1000 * MBIT).leech() };
    let mut sim = Sim::new(World::new(5, &[size], vec![far, near, me]));
    sim.run(secs(100));
    sim
}

#[test]
fn nobody_else_is_asked_for_what_a_quick_local_network_has() {
    let sim = beside_a_neighbour(128 * MIB, 50 * MIB);
    assert!(sim.outcome(0).sent < 4 * MIB, "{}", sim.outcome(0).sent);
}

#[test]
fn others_help_a_local_network_that_is_slow() {
    let sim = beside_a_neighbour(64 * MIB, MIB / 4);
    assert!(sim.outcome(2).finished.unwrap() < secs(6), "{:?}", sim.outcome(2).finished);
}
