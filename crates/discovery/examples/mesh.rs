//! Measures announcing and finding in a mesh of real nodes in one process, over loopback with the delays of the open
//! internet: `mesh announce|find|idle [NODES] [KEYS]`. Prints one line of JSON a case.
#![allow(
    clippy::print_stdout,
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
    Dht, DhtConfig, DhtKey, Discovery, HopOutcome, Lifetime, Line, MemoryTable, pick_port,
};
use hubless_types::{Sha256, SystemClock};
use sha2::Digest as _;

/// Shortest and longest round trip between two nodes.
const TRIPS_MS: std::ops::RangeInclusive<u64> = 20..=200;
/// Of a hundred nodes so many die before the lookups.
const DEAD_PERCENT: usize = 30;
/// Lookups that are measured.
const LOOKUPS: usize = 200;
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
        config.bootstrap = nodes.first().map(Dht::addresses).unwrap_or_default();
        config.line = Some(wires.line(n));
        nodes.push(Dht::start(config, Arc::new(MemoryTable::new()), Arc::new(SystemClock)).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Lookups of nothing make them meet, as use would.
    for round in 0..4u64 {
        let lookups = nodes.iter().enumerate().map(|(n, node)| async move {
            node.find(&key(u64::MAX - round * 1_000 - n as u64)).count().await
        });
        futures::future::join_all(lookups).await;
    }
    Mesh { nodes, wires }
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
    let (mut walks, mut messages, mut kept, mut missed, mut refused) = (0, 0, 0, 0, 0);
    for page in keys.chunks(PAGE) {
        let told = mesh.nodes[0].announce(page, Lifetime::Whole).await.unwrap();
        walks += told.walks;
        messages += told.messages;
        kept += told.kept;
        refused += told.refused;
        missed += told.missed.len();
    }
    println!(
        "{{\"case\":\"announce\",\"figures\":{{\"nodes\":{},\"keys\":{count},\"seconds\":{:.1},\"cpu_seconds\":{:.1},\"walks\":{walks},\"messages\":{messages},\"records_kept\":{kept},\"records_refused\":{refused},\"keys_missed\":{missed},\"network_estimate\":{}}}}}",
        mesh.nodes.len(),
        begun.elapsed().as_secs_f64(),
        cpu_seconds() - cpu,
        mesh.nodes[0].status().network
    );
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
    let (mut millis, mut trips, mut hops, mut asked, mut none) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
    for n in 0..LOOKUPS {
        let seeker = (1..nodes).filter(|n| !dies(*n)).cycle().nth(n * 7).unwrap();
        let wanted = key((n as u64 * 7919) % count);
        let trace = mesh.nodes[seeker].trace(&wanted).await.unwrap();
        let Some(first) = trace.first_millis else {
            none += 1;
            continue;
        };
        // What the lookup's own questions took on this seeker's lines, on the average.
        let all = (0..nodes).filter(|other| *other != seeker);
        let mean =
            all.map(|other| Wires::trip(seeker, other).as_millis() as f64).sum::<f64>() / (nodes - 1) as f64;
        millis.push(first as f64);
        trips.push(first as f64 / mean);
        asked += trace.hops.len();
        let named = |hop: &&hubless_discovery::Hop| {
            matches!(hop.outcome, HopOutcome::Answered { providers: 1.., .. })
        };
        hops.push(trace.hops.iter().filter(named).map(|hop| hop.hop).min().unwrap_or(0) as f64);
    }
    [&mut millis, &mut trips, &mut hops].into_iter().for_each(|list| list.sort_by(f64::total_cmp));
    println!(
        "{{\"case\":\"find\",\"figures\":{{\"nodes\":{nodes},\"dead_percent\":{dead_percent},\"lookups\":{LOOKUPS},\"not_found\":{none},\"p50_ms\":{},\"p95_ms\":{},\"p50_round_trips\":{:.2},\"p95_round_trips\":{:.2},\"p50_hops\":{},\"p95_hops\":{},\"asked_each\":{:.1}}}}}",
        percentile(&millis, 50),
        percentile(&millis, 95),
        percentile(&trips, 50),
        percentile(&trips, 95),
        percentile(&hops, 50),
        percentile(&hops, 95),
        asked as f64 / (LOOKUPS - none).max(1) as f64,
    );
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
        "{{\"case\":\"idle\",\"figures\":{{\"nodes\":{},\"keys\":{keys},\"bytes_a_second\":{own:.0},\"median_bytes_a_second\":{:.0},\"most_bytes_a_second\":{:.0},\"cpu_ms_a_second_a_node\":{:.2},\"resident_mib_all_nodes\":{}}}}}",
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
    let case = args.first().map_or("find", String::as_str);
    let number = |at: usize, default: u64| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let (nodes, keys) =
        (number(1, 128) as usize, number(2, if case == "announce" { 100_000 } else { 10_000 }));
    let mesh = mesh(nodes).await;
    announce(&mesh, keys).await;
    match case {
        "find" => {
            find(&mesh, keys, 0).await;
            find(&mesh, keys, DEAD_PERCENT).await;
        }
        "idle" => idle(&mesh, keys).await,
        _ => {}
    }
}
