//! A node below an origin: what no node has comes from there, and stays here when the origin is gone.

use anyhow::ensure;
use hubless_testkit::{Hub, PortOf};
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

/// A plain git host whose LFS store wants headers of its own: a node takes names, files and LFS objects from there, and
/// shows those headers to that store alone; another node gets them from the first; and with the host gone for good, the
/// first one, started again, still knows what the name means, and since when.
#[tokio::test]
async fn a_node_lives_below_a_git_host() -> StoryResult {
    let host = Hub::start().await?;
    let (secret, ticket) = ("Basic bGZzOnNlY3JldA==", "ticket-7");
    host.demand_headers(&[("Authorization", secret), ("X-Lfs-Ticket", ticket)]);
    let (large, notes) = (random_bytes(24 * MIB), random_bytes(300_000));
    let files: [(&str, &[u8]); 3] =
        [("config.json", b"{\"a\":1}"), ("notes.txt", &notes), ("w.safetensors", &large)];
    let commit = host.push(&REPO.parse()?, "main", &files).await?.to_string();
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let options = || RunOptions {
        args: vec!["--origin".into(), format!("git+{}", host.url())],
        ..RunOptions::default()
    };
    let a = home_a.start_with(options()).await?;
    let config = a.file(REPO, "main", "config.json").await?;
    ensure!(config.body == b"{\"a\":1}" && config.header("x-repo-commit") == commit, "{config:?}");
    ensure!(config.header("x-hubless-resolved-by") == format!("origin {}", host.url()), "{config:?}");
    let report = home_a.done(&["pull", REPO]).await?;
    ensure!(report["commit"] == commit.as_str(), "{report}");

    let (content, own): (Vec<_>, Vec<_>) =
        host.requests().into_iter().partition(|request| request.port == PortOf::Content);
    ensure!(!content.is_empty() && !own.is_empty());
    for request in &content {
        let brought = (request.header("authorization"), request.header("x-lfs-ticket"));
        ensure!(brought == (Some(secret), Some(ticket)), "{request:?}");
    }
    for request in &own {
        ensure!(request.header("authorization").is_none() && request.header("x-lfs-ticket").is_none());
        ensure!(!request.target.starts_with("/api/"), "it is asked as a git host: {}", request.target);
    }

    host.stop().await; // from here only A has it
    let trusting = format!("[names]\ntrusted = [\"{}\"]\n", a.id);
    let b =
        home_b.start_with(RunOptions::knowing(&[&a]).config(&home_b.beside("c.toml"), &trusting)?).await?;
    for (path, bytes) in files {
        let got = b.file(REPO, "main", path).await?;
        ensure!(got.body == bytes && got.header("x-repo-commit") == commit, "{path}: {:?}", got.headers);
    }
    b.stop().await?;
    a.stop().await?;

    let a = home_a.start_with(options()).await?;
    let last = a.file(REPO, "main", "w.safetensors").await?;
    ensure!(last.body == large && last.header("x-repo-commit") == commit, "{:?}", last.headers);
    let by = last.header("x-hubless-resolved-by");
    ensure!(by.starts_with("last seen ") && by.ends_with(" s ago"), "{by}");
    a.stop().await?;
    Ok(())
}
