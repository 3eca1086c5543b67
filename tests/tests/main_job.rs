//! The main job in small: what one node publishes reaches others by its name or its commit, every byte the same,
//! also from each other, and also when the publisher is gone.

use std::time::Duration;

use anyhow::{bail, ensure};
use hubless_tests::{
    Home, Node, Python, RunOptions, StoryResult, Tree, exit, get, get_range, head, same_files,
};

const REPO: &str = "acme/tiny";

/// Bytes that a pull's report says came from this source.
fn from(report: &serde_json::Value, source: &str) -> u64 {
    let pairs = report["from"].as_array().cloned().unwrap_or_default();
    pairs.iter().filter(|pair| pair[0] == source).filter_map(|pair| pair[1].as_u64()).sum()
}

/// Waits until `node` lists `repo`, which only its peers hold.
async fn lists(node: &Node, repo: &str) -> StoryResult {
    let search = format!("{}/api/models?search={repo}", node.http);
    for _ in 0..100 {
        let listed: serde_json::Value = serde_json::from_slice(&get(&search).await?.body)?;
        if listed[0]["id"] == repo {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("what its peers hold is not listed: {:?}", get(&search).await?)
}

/// A publishes; B and C, which know only A, pull at once, also from each other; A is gone; D pulls from B and C; hf reads
/// from D.
#[tokio::test]
async fn a_model_outlives_its_publisher() -> StoryResult {
    let tree = Tree::model(6)?;
    let [home_a, home_b, home_c, home_d] = [Home::new()?, Home::new()?, Home::new()?, Home::new()?];
    let a = home_a.start().await?;
    let commit = home_a.add(tree.path(), REPO).await?;
    // A line that is thin enough for B and C to be each other's better source.
    ensure!(home_a.run(&["limits", "--up", "3MB/s"]).await?.code == 0);
    let known = [&a];
    let (b, c) = tokio::try_join!(home_b.join(&known), home_c.join(&known))?;
    let pull = ["pull", REPO, "--accept-from", &a.id];
    let (at_b, at_c) = tokio::try_join!(home_b.done(&pull), home_c.done(&pull))?;
    ensure!(from(&at_b, c.short()) + from(&at_c, b.short()) > 0, "nothing from each other: {at_b} {at_c}");
    for report in [at_b, at_c] {
        ensure!(report["commit"] == commit.as_str() && report["bytes"] == tree.bytes()?, "{report}");
    }

    let publisher = a.id.clone();
    a.stop().await?; // from here only B and C have the bytes
    let d = home_d.join(&[&b, &c]).await?;
    lists(&d, REPO).await?;
    let report = home_d.done(&["pull", REPO, "--accept-from", &publisher]).await?;
    let fetched = from(&report, b.short()) + from(&report, c.short());
    ensure!(fetched + from(&report, "here") == tree.bytes()?, "{report}");
    ensure!(fetched > 6 << 20, "{report}");

    let python = Python::of(&d)?;
    let arrived = home_d.beside("arrived");
    python.hf(&["download", REPO, "--local-dir", &arrived.display().to_string()]).await?.ok()?;
    same_files(tree.path(), &arrived)?;
    for node in [b, c, d] {
        node.stop().await?;
    }
    Ok(())
}

/// A name needs somebody's word whom the reader chose; a commit needs nobody's.
#[tokio::test]
async fn a_name_needs_a_trusted_word_and_a_commit_needs_none() -> StoryResult {
    let tree = Tree::model(1)?;
    let [publisher, stranger, friend] = [Home::new()?, Home::new()?, Home::new()?];
    let a = publisher.start().await?;
    let commit = publisher.add(tree.path(), REPO).await?;

    let b = stranger.join(&[&a]).await?;
    let refused = stranger.run(&["pull", REPO]).await?;
    refused.refused(exit::UNTRUSTED, &["--accept-from", &a.id])?;
    ensure!(refused.lines()?.last().is_some_and(|line| line["kind"] == "untrusted"), "{}", refused.out);
    let report = stranger.done(&["pull", &format!("{REPO}@{commit}")]).await?;
    ensure!(report["commit"] == commit.as_str(), "{report}");

    let trusting = format!("[names]\ntrusted = [\"{}\"]\n", a.id);
    let options = RunOptions::knowing(&[&a]).config(&friend.beside("config.toml"), &trusting)?;
    let c = friend.start_with(options).await?;
    let arrived = friend.beside("arrived");
    let report = friend.done(&["pull", REPO, "--to", &arrived.display().to_string()]).await?;
    ensure!(report["commit"] == commit.as_str(), "{report}");
    same_files(tree.path(), &arrived)?;
    for node in [a, b, c] {
        node.stop().await?;
    }
    Ok(())
}

/// Nothing is pulled beforehand: the first client that asks starts the fetch, and ranges come as asked.
#[tokio::test]
async fn a_file_is_fetched_when_a_tool_asks_for_it() -> StoryResult {
    let tree = Tree::model(3)?;
    let weights = std::fs::read(tree.path().join("model.safetensors"))?;
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let a = home_a.start().await?;
    let commit = home_a.add(tree.path(), REPO).await?;
    let options = RunOptions::knowing(&[&a])
        .config(&home_b.beside("config.toml"), &format!("[names]\ntrusted = [\"{}\"]\n", a.id))?;
    let b = home_b.start_with(options).await?;

    let url = format!("{}/{REPO}/resolve/main/model.safetensors", b.http);
    let headers = head(&url).await?;
    ensure!(headers.header("x-repo-commit") == commit, "{headers:?}");
    ensure!(headers.header("content-length") == weights.len().to_string(), "{headers:?}");
    let middle = get_range(&url, "1000000-1999999").await?;
    ensure!(middle.status == 206 && middle.body == weights[1_000_000..2_000_000], "{:?}", middle.status);
    let all = b.file(REPO, &commit, "model.safetensors").await?;
    ensure!(all.status == 200 && all.whole && all.body == weights, "{:?}", all.status);
    for node in [a, b] {
        node.stop().await?;
    }
    Ok(())
}

/// Only what the globs name is fetched, and what is pinned outlives a collection.
#[tokio::test]
async fn globs_choose_and_pins_keep() -> StoryResult {
    let tree = Tree::model(2)?;
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let a = home_a.start().await?;
    home_a.add(tree.path(), REPO).await?;
    let b = home_b.join(&[&a]).await?;
    let pull = ["pull", REPO, "--accept-from", &a.id, "--include", "*.json", "--exclude", "tokenizer*"];
    let report = home_b.done(&pull).await?;
    ensure!(report["files"] == 1, "{report}");

    home_b.done(&["pull", REPO, "--accept-from", &a.id, "--pin"]).await?;
    a.stop().await?;
    home_b.done(&["gc"]).await?;
    let weights = b.file(REPO, "main", "model.safetensors").await?;
    ensure!(weights.status == 200 && weights.whole, "{:?}", weights.status);

    home_b.done(&["unpin", REPO]).await?;
    let would = home_b.done(&["gc", "--dry-run"]).await?;
    ensure!(would["dry_run"] == true && would["bytes"].as_u64() > Some(2 << 20), "{would}");
    let freed = home_b.done(&["gc"]).await?;
    ensure!(freed["bytes"] == would["bytes"], "{freed} {would}");
    b.stop().await?;
    Ok(())
}
