//! Caps, as an operator meets them: a rate that holds, is changed while bytes flow, and a month that runs out.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hubless_tests::{Home, MIB, Node, RunOptions, StoryResult, Tree, exit, random_bytes, same_files};
use serde_json::Value;
use tokio::process::Child;
use tokio::task::JoinSet;

const REPO: &str = "acme/large";
/// How far off a rate may be over ten seconds.
const OFF: f64 = 0.03;
/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(10);
/// One measurement has to fit. It is taken again only where this process itself was kept waiting meanwhile, and then only if
/// too little came: no pause of the machine lets a cap bring more.
const MEASUREMENTS: usize = 3;
/// How often the clock is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// A look that is later than that was kept from running: nodes make up for pauses of 150 ms, and for none that is longer.
const PAUSE: Duration = Duration::from_millis(100);
/// The part of what a rate holds that is the file's: 64 bytes of its hash tree go with each 16 KiB.
const CONTENT: f64 = 16384.0 / (16384.0 + 64.0);
/// How long a rate is given to settle after it changed: bytes that were on their way already still come.
const SETTLES: Duration = Duration::from_secs(2);
/// The same at the receiving side, where what a peer was let send before comes first.
const DRAINS: Duration = Duration::from_secs(12);
/// A connection is one from then on: whoever is turned away is so only once it has said who it is.
const STAYS: Duration = Duration::from_secs(2);
/// How long a file may take to appear.
const APPEARS: Duration = Duration::from_secs(30);

/// Bytes that went through one direction this month, by the node's own count.
async fn used(home: &Home, direction: &str) -> Result<u64> {
    let report = home.done_object(&["limits"]).await?;
    report[direction]["month_used"].as_u64().context("a report counts")
}

/// The file of `size` bytes that is being fetched into a data folder.
async fn arriving(home: &Home, size: u64) -> Result<PathBuf> {
    let begun = Instant::now();
    while begun.elapsed() < APPEARS {
        if let Some(path) = file_of(&home.data(), size) {
            return Ok(path);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("nothing of {size} bytes appeared in `{}`", home.data().display())
}

/// Folders may go while they are looked through: the node is at work in them.
fn file_of(dir: &Path, size: u64) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => file_of(&entry.path(), size),
        Ok(meta) if meta.is_file() && meta.len() == size => Some(entry.path()),
        _ => None,
    })
}

/// Fails unless what reaches the receiver's disk does so at `rate`, the whole of [`MEASURED`]. The disk is asked and not the nodes,
/// whose own counters would miss what passes them by: a file that is being fetched is sparse, and has blocks for what has come.
async fn holds(file: &Path, rate: f64) -> Result<()> {
    let arrived = || -> Result<f64> { Ok(std::fs::metadata(file)?.blocks() as f64 * 512.0) };
    let mut seen = Vec::new();
    for _ in 0..MEASUREMENTS {
        let (before, begun, mut paused) = (arrived()?, Instant::now(), false);
        while begun.elapsed() < MEASURED {
            let looked = Instant::now();
            tokio::time::sleep(LOOK).await;
            paused |= looked.elapsed() > LOOK + PAUSE;
        }
        let now = (arrived()? - before) / begun.elapsed().as_secs_f64() / CONTENT;
        let off = now / rate - 1.0;
        if off.abs() <= OFF {
            return Ok(());
        }
        seen.push(now.round());
        ensure!(paused && off < 0.0, "{seen:?} B/s within {MEASURED:?} where {rate} were to be");
    }
    bail!("{seen:?} B/s where {rate} were to be, on a machine that kept everybody waiting")
}

fn pulling(node: &Node, publisher: &Node) -> Result<Child> {
    node.spawn(&["pull", REPO, "--accept-from", &publisher.id])
}

fn large(mib: usize) -> Result<Tree> {
    let tree = Tree::model(1)?;
    std::fs::write(tree.path().join("large.bin"), random_bytes(mib * MIB))?;
    Ok(tree)
}

/// A cap on what goes out holds within 3 % over ten seconds; so does another that is set meanwhile, one that the config
/// brings at SIGHUP, and a cap on what comes in at the other side. A config that is wrong changes nothing. Every byte is counted.
#[tokio::test]
async fn a_rate_holds_and_is_changed_while_bytes_flow() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let (tree, size) = (large(300)?, 300 * MIB as u64);
    let config = home_a.beside("caps.toml");
    let options = RunOptions::default().config(&config, "[limits]\nup = \"1500 kB/s\"\n")?;
    let a = home_a.start_with(options).await?;
    home_a.add(tree.path(), REPO).await?;
    let b = home_b.join(&[&a]).await?;
    let pull = pulling(&b, &a)?;
    let file = arriving(&home_b, size).await?;
    tokio::time::sleep(SETTLES).await;
    holds(&file, 1.5e6).await?;

    let set = home_a.done_object(&["limits", "--up", "4 MB/s"]).await?;
    ensure!(set["up"]["rate"] == 4_000_000 && set["up"]["overridden"] == true, "{set}");
    tokio::time::sleep(SETTLES).await;
    holds(&file, 4e6).await?;

    // The config is read again: what was set stands above it until it is taken back.
    std::fs::write(&config, "[limits]\nup = \"2 MB/s\"\n[discovery]\nlookup_timeout = \"4s\"\n")?;
    a.hang_up()?;
    until(&home_a, |report| report["up"]["usual"] == "2 MB/s").await?;
    let report = home_a.done_object(&["limits", "--reset"]).await?;
    ensure!(report["up"]["rate"] == 2_000_000 && report["up"]["overridden"] == false, "{report}");
    ensure!(a.log().contains("discovery.lookup_timeout"), "what waits for a restart is named: {}", a.log());
    std::fs::write(&config, "[limits]\nup = \"9 MB/s\"\ndown = \"fast\"\n")?;
    home_a.run(&["reload"]).await?.refused(exit::USAGE, &["limits.down", "fast", "nothing changed"])?;
    ensure!(home_a.done_object(&["limits"]).await?["up"]["rate"] == 2_000_000);

    // At the other side, a cap on what comes in, far below what would be sent; and a low one.
    home_b.done_object(&["limits", "--down", "5 MB/s", "--for", "1h"]).await?;
    home_a.done_object(&["limits", "--up", "12 MB/s"]).await?;
    tokio::time::sleep(DRAINS).await;
    holds(&file, 5e6).await?;
    home_b.done_object(&["limits", "--down", "800 kB/s", "--for", "1h"]).await?;
    tokio::time::sleep(DRAINS).await;
    holds(&file, 8e5).await?;

    home_a.done_object(&["limits", "--up", "unlimited"]).await?;
    home_b.done_object(&["limits", "--reset"]).await?;
    ensure!(pull.wait_with_output().await?.status.success(), "{}", b.log());
    for (home, direction) in [(&home_a, "up"), (&home_b, "down")] {
        let used = used(home, direction).await?;
        ensure!((size..size + size / 5).contains(&used), "{used} bytes {direction} for a file of {size}");
    }
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// Waits until the limits of a node are as `fit` wants them.
async fn until(home: &Home, fit: impl Fn(&Value) -> bool) -> Result<Value> {
    for _ in 0..100 {
        let report = home.done_object(&["limits"]).await?;
        if fit(&report) {
            return Ok(report);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("it never came: {}", home.done_object(&["limits"]).await?)
}

/// A month's bytes run out in the middle of a fetch: the pull says which cap, and what to do; what is held is served, what
/// is not is refused in the Hub's form; the count outlives a kill; and with a higher cap the same pull goes on.
#[tokio::test]
async fn a_month_runs_out_in_the_middle_of_a_fetch() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let (tree, small) = (large(64)?, Tree::model(2)?);
    let a = home_a.start().await?;
    home_a.add(tree.path(), REPO).await?;
    home_a.add(small.path(), "acme/small").await?;
    let config = home_b.beside("caps.toml");
    let text = format!("[names]\ntrusted = [\"{}\"]\n[limits]\ndown_month = \"40 MB\"\n", a.id);
    let begin = || RunOptions::knowing(&[&a]).config(&config, &text);
    let b = home_b.start_with(begin()?).await?;
    home_b.done(&["pull", "acme/small"]).await?;

    home_b
        .run(&["pull", REPO])
        .await?
        .refused(exit::UNAVAILABLE, &["down_month", "40 MB", "--down-month"])?;
    let status = home_b.done_object(&["status"]).await?;
    let down = &status["limits"]["down"];
    ensure!(down["spent"].as_str().is_some_and(|text| text.contains("until")), "{status}");
    let counted = down["month_used"].as_u64().context("it counts")?;
    ensure!(counted < 41_000_000, "{counted} of 40 MB");
    // The month is looked at now and then.
    let said = Instant::now();
    while !b.log().contains("down_month") {
        ensure!(said.elapsed() < Duration::from_secs(15), "the log says so: {}", b.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // What is held is served; what is not is refused at once, with a code, a message and a time.
    let held = b.file("acme/small", "main", "config.json").await?;
    ensure!(held.status == 200, "{held:?}");
    let asked = Instant::now();
    let refused = b.file(REPO, "main", "large.bin").await?;
    ensure!(refused.status == 503 && refused.header("x-error-code") == "MonthSpent", "{refused:?}");
    ensure!(!refused.header("retry-after").is_empty() && asked.elapsed() < Duration::from_secs(5));
    ensure!(refused.header("x-error-message").contains("--down-month"), "{refused:?}");

    // At most five seconds of the count are lost when it is killed; nothing was counted for longer than that.
    tokio::time::sleep(Duration::from_secs(6)).await;
    b.kill().await?;
    let b = home_b.start_with(begin()?).await?;
    let again = used(&home_b, "down").await?;
    ensure!(again >= counted, "{again} after the kill, {counted} before");
    home_b.run(&["pull", REPO]).await?.refused(exit::UNAVAILABLE, &["down_month"])?;

    home_b.done_object(&["limits", "--down-month", "500 GB"]).await?;
    let arrived = home_b.beside("arrived");
    home_b.done(&["pull", REPO, "--to", &arrived.display().to_string()]).await?;
    same_files(tree.path(), &arrived)?;
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// A publisher whose month is used up sends nobody content any more, and others pass over it: the fetch goes on from
/// another node that has it.
#[tokio::test]
async fn whoever_has_sent_enough_is_passed_over() -> StoryResult {
    let [home_a, home_b, home_c] = [Home::new()?, Home::new()?, Home::new()?];
    let tree = large(16)?;
    let a = home_a.start().await?;
    home_a.add(tree.path(), REPO).await?;
    let b = home_b.join(&[&a]).await?;
    home_b.done(&["pull", REPO, "--accept-from", &a.id]).await?;

    home_a.done_object(&["limits", "--up-month", "5 MB"]).await?;
    let before = used(&home_a, "up").await?;
    let c = home_c.join(&[&a, &b]).await?;
    let arrived = home_c.beside("arrived");
    let pull = ["pull", REPO, "--accept-from", &a.id, "--to", &arrived.display().to_string()];
    let report = home_c.done(&pull).await?;
    same_files(tree.path(), &arrived)?;
    let sent = used(&home_a, "up").await? - before;
    ensure!(sent < MIB as u64, "{sent} bytes after the month was used up: {report}");
    for node in [a, b, c] {
        node.stop().await?;
    }
    Ok(())
}

/// The far ends of the TCP connections that end at a port of this machine, as the kernel has them: those of a node's search
/// for providers. Each is in the table twice, and only one of the two ends has the port as its own.
fn connections_at(port: u16) -> Result<HashSet<String>> {
    let (own, table) = (format!(":{port:04X}"), std::fs::read_to_string("/proc/net/tcp")?);
    let far = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let established = words.len() > 3 && words[1].ends_with(&own) && words[3] == "01";
        established.then(|| words[2].to_owned())
    };
    Ok(table.lines().filter_map(far).collect())
}

/// More nodes come to one than it may have connections with: it never has more than the part of the search for providers
/// (8 of 24), and the kernel says so; whoever comes last, when all of those are taken, still gets what it holds, and so do its
/// own clients.
#[tokio::test]
async fn more_nodes_come_than_may_be_connected_and_the_last_are_served() -> StoryResult {
    const COME: usize = 10;
    const MAY: usize = 8;
    const KEEPS: usize = 4;
    // Each of them has two connections for bytes, of the eight that others may open.
    const PULL: usize = 3;
    let (home_a, tree) = (Home::new()?, Tree::model(1)?);
    let options =
        RunOptions::default().config(&home_a.beside("few.toml"), "[limits]\nmax_connections = 24\n")?;
    let a = home_a.start_with(options).await?;
    home_a.add(tree.path(), REPO).await?;
    let port: u16 = a.bootstrap.split('/').nth(4).context("/ip4/…/tcp/PORT/…")?.parse()?;
    let (saw, mut most) = tokio::sync::watch::channel(0);
    let mut watched = JoinSet::new();
    watched.spawn(async move {
        let mut since = HashMap::new();
        while let Ok(now) = connections_at(port) {
            since.retain(|far, _| now.contains(far));
            for far in now {
                since.entry(far).or_insert_with(Instant::now);
            }
            let stay = since.values().filter(|since| since.elapsed() > STAYS).count();
            saw.send_modify(|most| *most = stay.max(*most));
            tokio::time::sleep(LOOK).await;
        }
    });

    let mut nodes = Vec::new();
    for _ in 0..COME {
        let home = Home::new()?;
        let node = home.join(&[&a]).await?;
        nodes.push((home, node));
    }
    for (home, _) in nodes.iter().rev().take(PULL) {
        let arrived = home.beside("arrived").display().to_string();
        home.done(&["pull", REPO, "--accept-from", &a.id, "--to", &arrived]).await?;
        same_files(tree.path(), &home.beside("arrived"))?;
    }
    ensure!(a.file(REPO, "main", "config.json").await?.status == 200);
    // Half of them are kept for as long as nobody else comes. That they are seen shows that the rest would have been, also
    // those that came last.
    let kept = tokio::time::timeout(APPEARS, most.wait_for(|most| *most >= KEEPS))
        .await
        .map(|seen| seen.map(|_| ()));
    tokio::time::sleep(STAYS).await;
    let most = *most.borrow();
    kept.with_context(|| format!("{most} connections stay where {KEEPS} are kept, and {COME} came"))??;
    ensure!(most <= MAY, "{most} connections where {MAY} may be, and {COME} came");
    for (_, node) in nodes {
        node.stop().await?;
    }
    a.stop().await?;
    Ok(())
}
