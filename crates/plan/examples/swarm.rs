//! Runs the fetch plan in virtual time and prints a line of JSON a case: what `scripts/bench` puts beside the real
//! network's figures.
//!
//! `cargo run --release -p hubless-plan --features sim --example swarm -- [CASE]... [--seeds N]`

use std::io::Write as _;
use std::time::{Duration, Instant};

use hubless_plan::sim::{Links, Outcome, Sim, Spec, World};

const MIB: u64 = 1024 * 1024;
const MBIT: u64 = 1_000_000 / 8;

/// A case: its name, and the world of a seed.
type Case = (&'static str, fn(u64) -> World);

const CASES: &[Case] = &[
    ("crowd of 8, 1 file", |seed| crowd(seed, &[256 * MIB])),
    ("crowd of 8, 16 files", |seed| crowd(seed, &[16 * MIB; 16])),
    ("crowd of 8, only the seed known", |seed| World { links: Links::Seed, ..crowd(seed, &[256 * MIB]) }),
    ("crowd of 8, one killed and one stopped", |seed| leavers(crowd(seed, &[256 * MIB]))),
    ("crowd of 8, one killed and one silent", |seed| silent(crowd(seed, &[256 * MIB]))),
    ("50 leechers, 1 GB in 72 shards", |seed| swarm(seed, 50, 1_000_000_000, 400, 200)),
    ("200 leechers, 2 GB in 72 shards", |seed| swarm(seed, 200, 2_000_000_000, 400, 500)),
    ("1,000 leechers, 10 GB in 72 shards", |seed| swarm(seed, 1000, 10_000_000_000, 1000, 1000)),
];

fn crowd(seed: u64, sizes: &[u64]) -> World {
    let peer = || Spec::new(50 * MBIT, 200 * MBIT);
    let specs = std::iter::once(peer().seed(sizes)).chain((0..8).map(|_| peer().leech()));
    World::new(seed, sizes, specs.collect())
}

fn leavers(mut world: World) -> World {
    let half = Duration::from_secs(21)..Duration::MAX;
    world.specs[1].dead = Some(half.clone());
    world.specs[2].stopped = Some(half);
    world
}

fn silent(mut world: World) -> World {
    let half = Duration::from_secs(21)..Duration::MAX;
    world.specs[1].dead = Some(half.clone());
    world.specs[2].silent = Some(half);
    world
}

/// One seed and equal leechers, each told of a few others and with at most 50 neighbours. What they have they push
/// every `push` milliseconds: on the network it is 100, but pushes are most of what a large swarm costs here.
fn swarm(seed: u64, leechers: usize, total: u64, mbit: u64, push: u64) -> World {
    let sizes = vec![total / 72; 72];
    let peer = || Spec { delay: Duration::from_millis(20), ..Spec::new(mbit * MBIT, 4 * mbit * MBIT) };
    let specs = std::iter::once(peer().seed(&sizes)).chain((0..leechers).map(|_| peer().leech()));
    World {
        links: Links::Some { told: 8, most: 50 },
        step: Duration::from_millis(50),
        push: Duration::from_millis(push),
        tick: Duration::from_millis(push.min(500)),
        ..World::new(seed, &sizes, specs.collect())
    }
}

fn main() -> std::io::Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let seeds =
        args.iter().position(|arg| arg == "--seeds").and_then(|i| args.drain(i..).nth(1)?.parse().ok());
    let seeds: u64 = seeds.unwrap_or(1);
    let named = |name: &str| args.iter().any(|arg| name.starts_with(arg.as_str()));
    let all = !CASES.iter().any(|(name, _)| named(name));
    for (name, world) in CASES.iter().filter(|(name, _)| all || named(name)) {
        for seed in 0..seeds {
            run(name, seed, world(seed))?;
        }
    }
    Ok(())
}

fn run(name: &str, seed: u64, world: World) -> std::io::Result<()> {
    let (bound, total, began) = (world.fluid_bound(), world.total(), Instant::now());
    let counted: Vec<usize> = (0..world.specs.len())
        .filter(|i| {
            let spec = &world.specs[*i];
            spec.fetches && spec.dead.is_none() && spec.stopped.is_none() && spec.silent.is_none()
        })
        .collect();
    let mut sim = Sim::new(world);
    sim.run(bound * 4);
    let outcomes: Vec<&Outcome> = counted.iter().map(|i| sim.outcome(*i)).collect();
    let mut ends: Vec<f64> =
        outcomes.iter().map(|out| out.finished.map_or(f64::INFINITY, |at| at.as_secs_f64())).collect();
    ends.sort_by(f64::total_cmp);
    let (bound, total) = (bound.as_secs_f64(), total as f64);
    let of_bound = |end: Option<&f64>| end.map_or(f64::INFINITY, |end| end / bound);
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(|out| of(out)).sum::<u64>();
    writeln!(
        std::io::stdout(),
        "{{\"case\":\"{name}\",\"seed\":{seed},\"bound_s\":{bound:.1},\"last\":{:.3},\"median\":{:.3},\
         \"first\":{:.3},\"copies\":{:.3},\"given_all\":{:.3},\"given_twice\":{:.4},\"taken\":{:.4},\"requests\":{},\"refused\":{},\"cpu_s\":{:.1},\
         \"trace\":\"{:016x}\"}}",
        of_bound(ends.last()),
        of_bound(ends.get(ends.len() / 2)),
        of_bound(ends.first()),
        sim.outcome(0).sent as f64 / total,
        sim.outcome(0).given_all.map_or(f64::INFINITY, |at| at.as_secs_f64() / bound),
        sim.outcome(0).given_twice as f64 / sim.outcome(0).given_once.max(1) as f64,
        sum(|out| out.taken) as f64 / total / outcomes.len() as f64,
        sum(|out| out.requests),
        sum(|out| out.refused) + sim.outcome(0).refused,
        began.elapsed().as_secs_f64(),
        sim.trace(),
    )
}
