//! Measures announcing and finding in a mesh of real nodes in one process, over loopback with the delays of the open
//! internet: `mesh [announce|find|idle [NODES] [KEYS]]`, all but `idle` without arguments. Prints a line of JSON a case, and
//! one for each goal.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program for a terminal"
)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use hubless_discovery::{
    Dht, DhtConfig, DhtKey, Discovery, Hop, HopOutcome, Lifetime, Line, MemoryTable, pick_port,
};
use hubless_types::{Sha256, SystemClock};
use sha2::Digest as _;

/// Shortest and longest round trip between two nodes.
const TRIPS_MS: std::ops::RangeInclusive<u64> = 20..=200;
/// Of a hundred nodes so many die before the lookups.
const DEAD_PERCENT: usize = 30;
/// Lookups that are measured.
const LOOKUPS: usize = 240;
/// Nodes that look something up at the same time.
const AT_ONCE: usize = 16;
/// Lookups of each node before anything is measured.
const WARM_UP: u64 = 3;
/// Nodes that each of them knows at first.
const BOOTSTRAPS: usize = 4;
/// How long the nodes may take to join.
const JOIN: Duration = Duration::from_secs(120);
/// What a lookup in vain counts as.
const IN_VAIN_MS: f64 = 10_000.0;
/// Goals: how long announcing may take in seconds, walks for each part of the key space, and, for a lookup of which a part
/// of the nodes is dead, round trips at the median and milliseconds at the 95th percentile.
const ANNOUNCE_SECONDS: f64 = 15.0 * 60.0;
const WALKS_A_PART: f64 = 2.0;
const FIND_TRIPS: f64 = 3.0;
const FIND_SECONDS: f64 = 2.0;
/// Keys that are announced in one call.
const PAGE: usize = 4_096;
/// How long an idle node is watched.
const IDLE: Duration = Duration::from_secs(120);

/// What all nodes' lines share.
struct Wires {
    ports: RwLock<HashMap<u16, usize>>,
    dead: Vec<AtomicBool>,
    bytes: Vec<AtomicU64>,
}

impl Wires {
    fn trip(a: usize, b: usize) -> Duration {
        let pair = (a.min(b) * 1_000_003 + a.max(b)) as u64;
        let spread = TRIPS_MS.end() - TRIPS_MS.start() + 1;
        Duration::from_millis(
            TRIPS_MS.start() + pair.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) % spread,
        )
    }

    fn line(self: &Arc<Self>, me: usize) -> Line {
        let wires = Arc::clone(self);
        Line::new(move |port, bytes| {
            let other = *wires.ports.read().unwrap().get(&port)?;
            for end in [me, other] {
                wires.bytes[end].fetch_add(bytes as u64, Ordering::Relaxed);
            }
            let dead = [me, other].iter().any(|end| wires.dead[*end].load(Ordering::Relaxed));
            (!dead).then(|| Self::trip(me, other))
        })
    }
}

struct Mesh {
    nodes: Vec<Dht>,
    wires: Arc<Wires>,
}

async fn mesh(count: usize) -> Mesh {
    let wires = Arc::new(Wires {
        ports: RwLock::default(),
        dead: (0..count).map(|_| AtomicBool::new(false)).collect(),
        bytes: (0..count).map(|_| AtomicU64::new(0)).collect(),
    });
    let mut nodes: Vec<Dht> = Vec::new();
    for n in 0..count {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = pick_port(ip).unwrap();
        wires.ports.write().unwrap().insert(port, n);
        let secret = sha2::Sha256::digest((n as u64).to_be_bytes()).into();
        let mut config = DhtConfig::new(secret, vec![SocketAddr::new(ip, port)]);
        // As in a network that has some nodes that everybody knows.
        let stride = (n / BOOTSTRAPS).max(1);
        config.bootstrap = nodes.iter().step_by(stride).take(BOOTSTRAPS).flat_map(Dht::addresses).collect();
        config.line = Some(wires.line(n));
        nodes.push(Dht::start(config, Arc::new(MemoryTable::new()), Arc::new(SystemClock)).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    let alone = || nodes[1..].iter().filter(|node| node.status().routing_table == 0).count();
    while alone() > 0 && begun.elapsed() < JOIN {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("{count} nodes, {} of them alone after {:.1} s", alone(), begun.elapsed().as_secs_f64());
    // Lookups of nothing make them meet, as use would.
    let warm_up = (0..WARM_UP).flat_map(|round| nodes.iter().enumerate().map(move |at| (round, at)));
    let warm_up = warm_up.map(|(round, (n, node))| async move {
        node.find(&key(u64::MAX - round * 1_000 - n as u64)).count().await
    });
    futures::stream::iter(warm_up).buffer_unordered(AT_ONCE).count().await;
    let mut routes: Vec<usize> = nodes.iter().map(|node| node.status().routing_table).collect();
    routes.sort_unstable();
    eprintln!("warm after {:.1} s; routes {routes:?}", begun.elapsed().as_secs_f64());
    Mesh { nodes, wires }
}

fn goal(case: &str, value: f64, limit: f64, unit: &str) {
    println!("{{\"case\":\"{case}\",\"value\":{value:.3},\"limit\":{limit},\"unit\":\"{unit}\"}}");
}

fn key(n: u64) -> DhtKey {
    DhtKey::Shard(Sha256::from_bytes(sha2::Sha256::digest(n.to_le_bytes()).into()))
}

/// Seconds of processor time that this process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

async fn announce(mesh: &Mesh, count: u64) {
    let mut keys: Vec<DhtKey> = (0..count).map(key).collect();
    keys.sort_by_key(DhtKey::place);
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let (mut walks, mut messages, mut kept, mut missed, mut refused, mut bits) = (0, 0, 0, 0, 0, 0);
    for page in keys.chunks(PAGE) {
        let told = mesh.nodes[0].announce(page, Lifetime::Whole).await.unwrap();
        walks += told.walks;
        messages += told.messages;
        kept += told.kept;
        refused += told.refused;
        missed += told.missed.len() + told.unwanted.len();
        bits = bits.max(told.region.bits());
    }
    let (nodes, seconds, parts) = (mesh.nodes.len(), begun.elapsed().as_secs_f64(), 1u64 << bits);
    println!(
        "{{\"case\":\"announce\",\"nodes\":{nodes},\"keys\":{count},\"seconds\":{seconds:.1},\"cpu_seconds\":{:.1},\"walks\":{walks},\"parts\":{parts},\"messages\":{messages},\"records_kept\":{kept},\"records_refused\":{refused},\"keys_missed\":{missed},\"network_estimate\":{}}}",
        cpu_seconds() - cpu,
        mesh.nodes[0].status().network
    );
    let case = format!("announce {count} shards, {nodes} DHT nodes");
    goal(&format!("{case}, time"), seconds, ANNOUNCE_SECONDS, " s");
    goal(
        &format!("{case}: walks for each part of the key space"),
        walks as f64 / parts as f64,
        WALKS_A_PART,
        "",
    );
    goal(&format!("{case}: shards nobody was told of"), missed as f64, 0.0, "");
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

async fn find(mesh: &Mesh, count: u64, dead_percent: usize) {
    let nodes = mesh.nodes.len();
    // Spread over the mesh; the announcer, and a part of those who seek, live on.
    let dies = |n: usize| n != 0 && (n * 37) % 100 < dead_percent;
    for n in (0..nodes).filter(|n| dies(*n)) {
        mesh.wires.dead[n].store(true, Ordering::Relaxed);
    }
    let seekers: Vec<usize> = (1..nodes).filter(|n| !dies(*n)).collect();
    let lookups = (0..LOOKUPS).map(|n| {
        let (seeker, wanted) = (seekers[n * 7 % seekers.len()], key((n as u64 * 7919) % count));
        async move { (seeker, mesh.nodes[seeker].trace(&wanted).await.unwrap()) }
    });
    let traces: Vec<_> = futures::stream::iter(lookups).buffer_unordered(AT_ONCE).collect().await;
    let (mut millis, mut trips, mut hops) = (Vec::new(), Vec::new(), Vec::new());
    let (mut asked, mut none, mut here) = (0, 0, 0);
    for (seeker, trace) in &traces {
        // What a lookup's own questions take on this seeker's lines, on the average.
        let all = (0..nodes).filter(|other| other != seeker);
        let mean =
            all.map(|other| Wires::trip(*seeker, other).as_millis() as f64).sum::<f64>() / (nodes - 1) as f64;
        let named = |hop: &&Hop| matches!(hop.outcome, HopOutcome::Answered { providers: 1.., .. });
        asked += trace.hops.len();
        match trace.first_millis {
            // It keeps the record itself and had nobody to ask.
            Some(0) => {
                here += 1;
                continue;
            }
            Some(first) => {
                millis.push(first as f64);
                hops.push(trace.hops.iter().filter(named).map(|hop| hop.hop).min().unwrap_or(0) as f64);
            }
            None => {
                none += 1;
                millis.push(IN_VAIN_MS);
            }
        }
        trips.push(millis.last().copied().unwrap_or(IN_VAIN_MS) / mean);
    }
    [&mut millis, &mut trips, &mut hops].into_iter().for_each(|list| list.sort_by(f64::total_cmp));
    let mut whole: Vec<f64> = traces.iter().map(|(_, trace)| trace.millis as f64).collect();
    whole.sort_by(f64::total_cmp);
    println!(
        "{{\"case\":\"find, {dead_percent} % dead\",\"nodes\":{nodes},\"lookups\":{},\"known_here\":{here},\"not_found\":{none},\"p50_ms\":{},\"p95_ms\":{},\"p50_round_trips\":{:.2},\"p95_round_trips\":{:.2},\"p50_hops\":{},\"p95_hops\":{},\"asked_each\":{:.1},\"p50_whole_ms\":{},\"p95_whole_ms\":{}}}",
        millis.len(),
        percentile(&millis, 50),
        percentile(&millis, 95),
        percentile(&trips, 50),
        percentile(&trips, 95),
        percentile(&hops, 50),
        percentile(&hops, 95),
        asked as f64 / traces.len() as f64,
        percentile(&whole, 50),
        percentile(&whole, 95),
    );
    let case = format!("find a provider, {nodes} DHT nodes, {dead_percent} % dead");
    goal(&format!("{case}: p50 in round trips"), percentile(&trips, 50), FIND_TRIPS, "");
    goal(&format!("{case}: p95"), percentile(&millis, 95) / 1000.0, FIND_SECONDS, " s");
}

async fn idle(mesh: &Mesh, keys: u64) {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let bytes = |n: usize| mesh.wires.bytes[n].load(Ordering::Relaxed);
    let before: Vec<u64> = (0..mesh.nodes.len()).map(bytes).collect();
    let cpu = cpu_seconds();
    tokio::time::sleep(IDLE).await;
    let mut rates: Vec<f64> =
        before.iter().enumerate().map(|(n, then)| (bytes(n) - then) as f64 / IDLE.as_secs_f64()).collect();
    let own = rates[0];
    rates.sort_by(f64::total_cmp);
    println!(
        "{{\"case\":\"idle\",\"nodes\":{},\"keys\":{keys},\"bytes_a_second\":{own:.0},\"median_bytes_a_second\":{:.0},\"most_bytes_a_second\":{:.0},\"cpu_ms_a_second_a_node\":{:.2},\"resident_mib_all_nodes\":{}}}",
        mesh.nodes.len(),
        percentile(&rates, 50),
        percentile(&rates, 100),
        (cpu_seconds() - cpu) * 1000.0 / IDLE.as_secs_f64() / mesh.nodes.len() as f64,
        resident_bytes() >> 20,
    );
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let case = args.first().map_or("all", String::as_str);
    let number = |at: usize, default: u64| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let most = if matches!(case, "all" | "announce") { 100_000 } else { 10_000 };
    let (nodes, keys) = (number(1, 128) as usize, number(2, most));
    let mesh = mesh(nodes).await;
    announce(&mesh, keys).await;
    match case {
        "all" | "find" => {
            find(&mesh, keys, 0).await;
            find(&mesh, keys, DEAD_PERCENT).await;
        }
        "idle" => idle(&mesh, keys).await,
        _ => {}
    }
}
