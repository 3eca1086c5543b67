//! Killed, stopped, cut off in the middle: what is verified stays, and is not fetched again.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hubless_tests::{Home, Node, RunOptions, StoryResult, Tree, exit, same_files};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

const REPO: &str = "acme/large";
/// Large enough that a fetch over loopback is caught in the middle.
const MODEL_MIB: usize = 160;

/// Starts a pull and returns it as soon as `enough` bytes are here, with how many there are.
async fn pull_until(node: &Node, from: &str, enough: u64) -> anyhow::Result<(Child, u64)> {
    let mut pull = node.spawn(&["pull", REPO, "--accept-from", from])?;
    let mut lines = BufReader::new(pull.stdout.take().context("piped")?).lines();
    while let Some(line) = lines.next_line().await? {
        let event: Value = serde_json::from_str(&line)?;
        let done = event["done"].as_u64().unwrap_or(0);
        ensure!(
            event["event"] != "done" && event["event"] != "error",
            "it ended before it was caught: {line}"
        );
        if done >= enough {
            return Ok((pull, done));
        }
    }
    anyhow::bail!("the pull ended: {}", node.log())
}

fn from_others(report: &Value) -> u64 {
    let pairs = report["from"].as_array().cloned().unwrap_or_default();
    pairs.iter().filter(|pair| pair[0] != "here").filter_map(|pair| pair[1].as_u64()).sum()
}

/// Killed in the middle of a fetch and started again, a node fetches only what it had not verified.
#[tokio::test]
async fn a_killed_node_goes_on_where_it_was() -> StoryResult {
    let tree = Tree::model(MODEL_MIB)?;
    let total = tree.bytes()?;
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let a = home_a.start().await?;
    home_a.add(tree.path(), REPO).await?;
    let b = home_b.join(&[&a]).await?;
    let (_pull, done) = pull_until(&b, &a.id, total / 3).await?;
    b.kill().await?;

    let b = home_b.join(&[&a]).await?;
    let arrived = home_b.beside("arrived");
    let report =
        home_b.done(&["pull", REPO, "--accept-from", &a.id, "--to", &arrived.display().to_string()]).await?;
    let again = from_others(&report);
    // What was verified within the last moments may not have been written down yet.
    ensure!(again < total - done / 2, "{again} of {total} bytes fetched anew, {done} were there: {report}");
    same_files(tree.path(), &arrived)?;
    b.stop().await?;
    a.stop().await?;
    Ok(())
}

/// One of two seeds dies in the middle: the other gives the rest.
#[tokio::test]
async fn a_seed_that_dies_is_passed_over() -> StoryResult {
    let tree = Tree::model(MODEL_MIB)?;
    let [home_a, home_b, home_c] = [Home::new()?, Home::new()?, Home::new()?];
    let a = home_a.start().await?;
    home_a.add(tree.path(), REPO).await?;
    let b = home_b.join(&[&a]).await?;
    home_b.done(&["pull", REPO, "--accept-from", &a.id]).await?;
    let c = home_c.join(&[&a, &b]).await?;
    let (mut pull, _) = pull_until(&c, &a.id, tree.bytes()? / 4).await?;
    let publisher = a.id.clone();
    a.kill().await?;
    let ended = tokio::time::timeout(Duration::from_secs(60), pull.wait()).await??;
    ensure!(ended.success(), "{ended}: {}", c.log());
    let arrived = home_c.beside("arrived");
    home_c.done(&["pull", REPO, "--accept-from", &publisher, "--to", &arrived.display().to_string()]).await?;
    same_files(tree.path(), &arrived)?;
    for node in [b, c] {
        node.stop().await?;
    }
    Ok(())
}

/// SIGTERM in the middle of a fetch is obeyed in time; the pull that waited is told; what is there is right.
#[tokio::test]
async fn a_fetching_node_stops_when_told() -> StoryResult {
    let tree = Tree::model(MODEL_MIB)?;
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let a = home_a.start().await?;
    home_a.add(tree.path(), REPO).await?;
    let b = home_b.join(&[&a]).await?;
    let (pull, _) = pull_until(&b, &a.id, 1).await?;
    b.stop().await?;
    let said = tokio::time::timeout(Duration::from_secs(10), pull.wait_with_output()).await??;
    // What ends while the node waits for its answers to end has succeeded; what does not is told.
    let told = String::from_utf8_lossy(&said.stderr).contains("error: ");
    ensure!(said.status.success() != told, "{said:?}");
    let verified = home_b.done(&["verify"]).await?;
    ensure!(verified["bad"] == serde_json::json!([]), "{verified}");
    a.stop().await?;
    Ok(())
}

/// Nobody there any more: the pull says so soon, with a hint, and keeps what it has.
#[tokio::test]
async fn a_pull_without_a_source_ends() -> StoryResult {
    let tree = Tree::model(MODEL_MIB)?;
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let a = home_a.start().await?;
    home_a.add(tree.path(), REPO).await?;
    let b = home_b.join(&[&a]).await?;
    let (pull, _) = pull_until(&b, &a.id, 1).await?;
    let asked = Instant::now();
    a.kill().await?;
    let said = tokio::time::timeout(Duration::from_secs(90), pull.wait_with_output()).await??;
    ensure!(said.status.code() == Some(exit::UNAVAILABLE), "{said:?}\n{}", b.log());
    ensure!(String::from_utf8_lossy(&said.stderr).contains("hint: "), "{said:?}");
    ensure!(asked.elapsed() < Duration::from_secs(60), "it took {:?}", asked.elapsed());
    b.stop().await?;
    Ok(())
}

/// An idle node and one with clients stop within their time; the folder can be used at once.
#[tokio::test]
async fn a_folder_is_free_when_its_node_has_stopped() -> StoryResult {
    let home = Home::new()?;
    let first = home.start_with(RunOptions::default()).await?;
    let id = first.id.clone();
    first.stop().await?;
    let second = home.start().await?;
    ensure!(second.id == id, "a folder keeps its node");
    second.stop().await?;
    Ok(())
}
