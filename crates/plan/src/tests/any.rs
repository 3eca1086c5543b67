//! What must hold whatever the swarm is like.

use std::time::Duration;

use hubless_types::{GROUP_BYTES, GroupSet};
use proptest::prelude::*;

use super::super::sim::{Sim, Spec, World};
use super::{MIB, secs};

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
                4 => spec.loss = 0.02,
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
        let most = groups / 16 + 32;
        prop_assert!(out.twice <= most, "{} of {} groups came twice", out.twice, groups);
    }

    #[test]
    fn the_same_seed_gives_the_same_trace(case in case()) {
        prop_assert_eq!(run(&case).trace(), run(&case).trace());
    }
}
