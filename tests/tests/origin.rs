//! A node below an origin: what no node has comes from there, and stays here when the origin is gone.

use anyhow::ensure;
use hubless_testkit::Hub;
use hubless_tests::{Home, MIB, RunOptions, StoryResult, exit, random_bytes};

const REPO: &str = "acme/tiny";

/// A hub's repository is read through a node and pulled, with real HTTP and git; when the hub is gone, the node and a
/// second one still serve it.
#[tokio::test]
async fn a_node_takes_what_nobody_has_from_its_origin() -> StoryResult {
    let hub = Hub::start().await?;
    let (repo, large) = (REPO.parse()?, random_bytes(24 * MIB));
    hub.create(&repo).await?;
    let files: [(&str, &[u8]); 2] = [("config.json", b"{\"a\":1}"), ("w.safetensors", &large)];
    let commit = hub.push(&repo, "main", &files).await?.to_string();
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let options = RunOptions { args: vec!["--origin".into(), hub.url()], ..RunOptions::default() };
    let a = home_a.start_with(options).await?;
    ensure!(a.file(REPO, "main", "config.json").await?.body == b"{\"a\":1}");
    let report = home_a.done(&["pull", REPO]).await?;
    ensure!(report["commit"] == commit.as_str(), "{report}");
    ensure!(report["from"].to_string().contains("origin"), "{report}");
    let status = home_a.done_object(&["status"]).await?;
    ensure!(status["origins"][0]["name"] == hub.url().as_str(), "{status}");
    ensure!(status["origins"][0]["bytes"].as_u64().is_some_and(|n| n > large.len() as u64), "{status}");

    hub.stop().await; // from here only A has it
    ensure!(a.file(REPO, "main", "w.safetensors").await?.body == large);
    let b = home_b.join(&[&a]).await?;
    ensure!(b.file(REPO, &commit, "w.safetensors").await?.body == large);
    let missing = home_a.run(&["pull", "acme/other"]).await?;
    missing.refused(exit::UNAVAILABLE, &[&hub.url()])?;
    for node in [a, b] {
        node.stop().await?;
    }
    Ok(())
}
