//! Makes a catalogue of millions of repositories, and measures what questions of it cost.
//!
//! ```text
//! catalogue generate DIR COUNT    fills the data folder DIR (of a node that is not running, or a new one)
//! catalogue measure DIR [ROUNDS [slow]]  opens it, asks, and prints one JSON object; `slow` names what took long
//! catalogue settle DIR             writes the index anew
//! ```
//!
//! The folder of a node keeps its owner; a new folder belongs to nobody who could run.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a measuring tool")]

mod ask;
mod names;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, bail};
use hubless_store::{RefRecord, RefSource, Store};
use hubless_types::{CommitId, NodeId, Revision, SystemClock, Timestamp};

/// Repositories that are written together.
const BATCH: usize = 2000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["generate", dir, count] => generate(Path::new(dir), count.parse()?),
        ["measure", dir] => ask::measure(Path::new(dir), 20),
        ["measure", dir, rounds] | ["measure", dir, rounds, "slow"] => {
            ask::measure(Path::new(dir), rounds.parse()?)
        }
        ["settle", dir] => {
            open(Path::new(dir))?.catalogue().settle_shelf(&AtomicBool::new(false))?;
            Ok(())
        }
        _ => bail!("see the head of examples/catalogue/main.rs"),
    }
}

/// Opens the folder as the node that it belongs to.
fn open(dir: &Path) -> Result<Store> {
    let note = std::fs::read(dir.join("format.json")).unwrap_or_default();
    let node = serde_json::from_slice::<serde_json::Value>(&note).ok();
    let node = node.and_then(|note| serde_json::from_value(note["node"].clone()).ok());
    Ok(Store::open(dir, node.unwrap_or(NodeId::from_bytes([1; 32])), Arc::new(SystemClock))?)
}

fn generate(dir: &Path, count: u64) -> Result<()> {
    let store = open(dir)?;
    let catalogue = store.catalogue();
    let begun = Instant::now();
    let mut made = names::Maker::new();
    let mut left = count;
    while left > 0 {
        let mut batch = catalogue.batch();
        for _ in 0..left.min(BATCH as u64) {
            let (repo, facts) = made.next_repo();
            let mut commit = [0; 20];
            commit.copy_from_slice(&blake3::hash(repo.to_string().as_bytes()).as_bytes()[..20]);
            let by = RefSource::Origin("https://huggingface.co".into());
            let record =
                RefRecord { commit: CommitId::from_bytes(commit), seen: Timestamp(1_760_000_000), by };
            batch.put_facts(&repo, &facts);
            batch.set_ref(&repo, &Revision::main(), record);
        }
        batch.commit()?;
        left -= left.min(BATCH as u64);
        if left.is_multiple_of(200_000) {
            eprintln!("{} left, {:.0?}", left, begun.elapsed());
        }
    }
    let settling = Instant::now();
    catalogue.settle_shelf(&AtomicBool::new(false))?;
    catalogue.sync()?;
    eprintln!(
        "{} repositories in {:.0?}, of which the index {:.1?}",
        catalogue.repo_count(),
        begun.elapsed(),
        settling.elapsed()
    );
    Ok(())
}
