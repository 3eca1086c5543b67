//! Measures how fast a file whose root is not known becomes a blob: pushed in order, or by several streams at once.
//!
//! ```text
//! draft DIR FILE [PIECE-KIB [STREAMS [REACH-MIB]]]
//! ```
//! Each stream pushes pieces of the file that lie within REACH-MIB after the front. FILE should be in memory.
#![allow(clippy::print_stdout, reason = "a measuring tool")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use hubless_store::{DigestKind, Draft, Finished, ImportMode, Store};
use hubless_types::{NodeId, SystemClock};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, path, rest @ ..] = args.as_slice() else { anyhow::bail!("see the head of examples/draft.rs") };
    let number = |n: usize, default: u64| rest.get(n).map_or(Ok(default), |text| text.parse::<u64>());
    let (piece, streams, reach) = (number(0, 1024)? * KIB, number(1, 1)?, number(2, 8)? * MIB);
    let store = Store::open(Path::new(dir), NodeId::from_bytes([1; 32]), Arc::new(SystemClock))?;
    let known = store.blobs().import(Path::new(path), ImportMode::Reference, DigestKind::Sha256, &|_| {})?;
    store.blobs().evict(&known.hash)?;
    let file = File::open(path)?;
    let draft = store.blobs().draft(known.digest, known.size)?;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| -> Result<()> {
        let running: Vec<_> = (0..streams)
            .map(|_| scope.spawn(|| stream(&draft, &file, &next, piece, reach / streams)))
            .collect();
        running.into_iter().try_for_each(|thread| thread.join().ok().context("a stream ended early")?)
    })?;
    let pushed = began.elapsed();
    let behind = known.size - draft.hashed();
    let finished = draft.finish()?;
    let took = began.elapsed();
    anyhow::ensure!(finished == Finished::Is(known), "{finished:?}");
    println!(
        "pushed in {:.2} s, {} MiB behind; finished after {:.2} s: {:.0} MB/s, {:.2} CPU s",
        pushed.as_secs_f64(),
        behind / MIB,
        took.as_secs_f64(),
        known.size as f64 / took.as_secs_f64() / 1e6,
        cpu_seconds() - cpu
    );
    Ok(())
}

/// Pushes one run of the file after the other.
fn stream(draft: &Draft, file: &File, next: &AtomicU64, piece: u64, run: u64) -> Result<()> {
    let mut buffer = vec![0; piece as usize];
    loop {
        let start = next.fetch_add(run, Ordering::Relaxed);
        let end = (start + run).min(draft.size());
        if start >= end {
            return Ok(());
        }
        let mut writer = draft.writer(start);
        while writer.at() < end {
            let bytes = &mut buffer[..(end - writer.at()).min(piece) as usize];
            file.read_exact_at(bytes, writer.at())?;
            writer.push(bytes)?;
        }
    }
}

/// What this process has used of the processor, in user and system mode; 100 ticks a second on Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}
