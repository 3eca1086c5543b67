//! Measures one verified fetch from node to node, without the rest of the program.
//!
//! ```text
//! fetch2g [--threads N] serve DIR LISTEN FILE                     prints the node, the hash and the size, then serves
//! fetch2g [--threads N] fetch DIR LISTEN PEER-ADDR NODE HASH SIZE [SEGMENT-MIB [PARALLEL]]
//! ```
#![allow(clippy::print_stdout, reason = "a measuring tool")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hubless_store::{DigestKind, ImportMode, Store};
use hubless_transfer::{Transfer, TransferConfig};
use hubless_types::{NodeId, Provider, ProviderSource, SystemClock};

const SERVER_SECRET: [u8; 32] = [1; 32];
const CLIENT_SECRET: [u8; 32] = [2; 32];
const MIB: u64 = 1024 * 1024;
const GROUPS_PER_MIB: u64 = MIB / hubless_types::GROUP_BYTES;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (threads, args) = match args.as_slice() {
        ["--threads", threads, rest @ ..] => (threads.parse()?, rest),
        rest => (2, rest),
    };
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(threads).enable_all().build()?.block_on(run(args))
}

async fn run(args: &[&str]) -> Result<()> {
    match args {
        ["serve", dir, listen, file] => serve(dir, listen, file).await,
        ["fetch", dir, listen, rest @ ..] if rest.len() >= 4 => fetch(dir, listen, rest).await,
        _ => bail!("see the head of examples/fetch2g.rs"),
    }
}

async fn start(secret: [u8; 32], dir: &str, listen: &str) -> Result<(Transfer, Store)> {
    let key = *iroh::SecretKey::from_bytes(&secret).public().as_bytes();
    let store = Store::open(Path::new(dir), NodeId::from_bytes(key), Arc::new(SystemClock))?;
    let config = TransferConfig::new(secret, vec![listen.parse()?]);
    Ok((Transfer::start(config, store.clone()).await?, store))
}

async fn serve(dir: &str, listen: &str, file: &str) -> Result<()> {
    let (transfer, store) = start(SERVER_SECRET, dir, listen).await?;
    let imported =
        store.blobs().import(Path::new(file), ImportMode::Reference, DigestKind::Sha256, &|_| {})?;
    store.blobs().share(&imported.hash)?;
    let node = NodeId::from_bytes(*iroh::SecretKey::from_bytes(&SERVER_SECRET).public().as_bytes());
    println!("{node} {} {}", imported.hash, imported.size);
    tokio::signal::ctrl_c().await?;
    transfer.shutdown().await;
    println!("served: {:?}, {}", transfer.stats().total, cpu_seconds());
    Ok(())
}

async fn fetch(dir: &str, listen: &str, rest: &[&str]) -> Result<()> {
    let number = |index: usize, default: u64| rest.get(index).map_or(Ok(default), |n| n.parse());
    let peer =
        Provider { node: rest[1].parse()?, addrs: vec![rest[0].parse()?], source: ProviderSource::Lan };
    let (hash, size) = (rest[2].parse()?, rest[3].parse::<u64>()?);
    let (segment, parallel) = (number(4, 16)? * GROUPS_PER_MIB, number(5, 4)? as usize);
    let (transfer, store) = start(CLIENT_SECRET, dir, listen).await?;
    let blob = store.blobs().partial(hash, size)?;
    let client = transfer.client();
    let groups = size.div_ceil(hubless_types::GROUP_BYTES);
    let begun = Instant::now();
    stream::iter((0..groups).step_by(segment as usize))
        .map(|start| {
            let (client, peer, blob) = (&client, &peer, &blob);
            async move { client.segment(peer, start..(start + segment).min(groups), blob, Arc::new(|_| ())).await }
        })
        .buffer_unordered(parallel)
        .try_collect::<()>()
        .await
        .context("a segment failed")?;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{took:.3} s, {:.0} MB/s, complete: {}, {}",
        size as f64 / took / 1e6,
        blob.is_complete(),
        cpu_seconds()
    );
    transfer.shutdown().await;
    Ok(())
}

/// User and system time of this process so far (Linux: clock ticks of 10 ms).
fn cpu_seconds() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0) / 100.0;
    format!("CPU {:.2} s user, {:.2} s system", ticks(11), ticks(12))
}
