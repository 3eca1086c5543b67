//! A node below an origin: what no node has comes from there, and stays here when the origin is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hubless_testkit::{Hub, HubFaults, PortOf, Recorded, Scope};
use hubless_tests::{Answer, Home, MIB, RunOptions, StoryResult, exit, get, get_as, random_bytes};
use serde_json::Value;

const REPO: &str = "acme/tiny";
/// What only the origin's own host may see. Nothing else that runs has these bytes.
const TOKEN: &str = "hf_VbRuZkTheSecretOfThisStory";

fn below(hub: &Hub) -> RunOptions {
    RunOptions::default().below(&[hub.url()])
}

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
    let a = home_a.start_with(below(&hub)).await?;
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

/// How the first origin is, by the node's own word.
async fn origin_of(home: &Home) -> Result<Value> {
    Ok(home.done_object(&["status"]).await?["origins"][0].take())
}

/// Waits until the first origin is as `fit` wants it; `ask` is asked again and again meanwhile.
async fn until(home: &Home, ask: &str, fit: impl Fn(&Value) -> bool) -> Result<Value> {
    let begun = Instant::now();
    loop {
        get(ask).await?;
        let origin = origin_of(home).await?;
        if fit(&origin) {
            return Ok(origin);
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "it never came: {origin}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Every request to an origin is counted, those that it answers with "no such thing" as well. An origin that is gone is
/// left alone: the status says so, why, and for how long; clients are told the same at once; and when it is back, it is
/// found again.
#[tokio::test]
async fn the_status_tells_how_an_origin_is() -> StoryResult {
    let hub = Hub::start().await?;
    let large = random_bytes(3 * MIB);
    hub.push(&REPO.parse()?, "main", &[("w.safetensors", &large)]).await?;
    let home = Home::new()?;
    let node = home.start_with(below(&hub)).await?;
    ensure!(node.file(REPO, "main", "w.safetensors").await?.body == large);
    let before = origin_of(&home).await?;
    ensure!(before["breaker"] == "closed" && before["wait"].is_null(), "{before}");

    let nowhere = node.file("acme/nothing", "main", "x").await?;
    ensure!(nowhere.header("x-error-code") == "RepoNotFound", "{nowhere:?}");
    let absent = home.run(&["pull", "acme/nothing"]).await?;
    ensure!(absent.code == exit::NOT_FOUND, "{absent:?}");
    let asked = hub.requests();
    ensure!(asked.iter().any(|request| request.status >= 400), "{asked:?}");
    let after = origin_of(&home).await?;
    ensure!(after["requests"] == asked.len() as u64, "{} were made: {after}", asked.len());
    ensure!(after["failures"].as_u64() > before["failures"].as_u64(), "{after}");
    ensure!(after["breaker"] == "closed", "who says no is no less well: {after}");

    hub.stop().await;
    let url = format!("{}/api/models/acme/other", node.http);
    let open = until(&home, &url, |origin| origin["breaker"] == "open").await?;
    ensure!(open["wait"]["secs"].as_u64().is_some_and(|secs| secs <= 300), "{open}");
    ensure!(open["trouble"] == "it could not be reached", "{open}");
    ensure!(open["last_error"].as_str().is_some_and(|error| error.contains(&hub.url())), "{open}");
    let asked = Instant::now();
    let told = get(&url).await?;
    let said = told.header("x-error-message").to_owned();
    ensure!(told.status == 503 && !told.header("retry-after").is_empty(), "{told:?}");
    ensure!(said.contains(&hub.url()) && said.contains("it could not be reached"), "{said}");
    ensure!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    ensure!(node.file(REPO, "main", "w.safetensors").await?.body == large, "what is here is served");

    hub.resume().await?;
    let back = until(&home, &url, |origin| origin["breaker"] == "closed").await?;
    ensure!(back["wait"].is_null() && back["trouble"].is_null(), "{back}");
    node.stop().await?;
    Ok(())
}

fn on_the_network(hub: &Hub) -> impl Iterator<Item = Recorded> {
    hub.requests().into_iter().filter(|request| request.port == PortOf::Content)
}

/// Bytes of large files that a hub sent.
fn sent(hub: &Hub) -> u64 {
    on_the_network(hub).map(|request| request.sent).sum()
}

/// Killed half way through a file that it fetches from its origin and that nobody else has, a node that is started again
/// fetches the rest alone.
#[tokio::test]
async fn a_killed_node_asks_its_origin_for_the_rest_alone() -> StoryResult {
    let (hub, home) = (Hub::start().await?, Home::new()?);
    let large = random_bytes(64 * MIB);
    let size = large.len() as u64;
    hub.push(&REPO.parse()?, "main", &[("w.safetensors", &large)]).await?;
    let slow = Some(8 * MIB as u64);
    hub.set_faults(HubFaults { on: Scope::Network, bytes_per_second: slow, ..HubFaults::default() });
    let node = home.start_with(below(&hub)).await?;
    let pull = node.spawn(&["pull", REPO])?;
    let begun = Instant::now();
    while sent(&hub) < size / 2 {
        ensure!(begun.elapsed() < Duration::from_secs(120), "{} of {size} bytes came", sent(&hub));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.kill().await?;
    let half = sent(&hub);
    ensure!(half < size * 4 / 5, "{half} of {size}: it was to be killed half way");
    drop(pull);

    hub.set_faults(HubFaults::default());
    let node = home.start_with(below(&hub)).await?;
    let report = home.done(&["pull", REPO]).await?;
    ensure!(sent(&hub) <= size * 11 / 10, "{} bytes were sent for {size}: {report}", sent(&hub));
    ensure!(node.file(REPO, "main", "w.safetensors").await?.body == large);
    node.stop().await?;
    Ok(())
}

fn holds(bytes: &[u8], token: &str) -> bool {
    bytes.windows(token.len()).any(|window| window == token.as_bytes())
}

/// Every file below `dir` that holds the token.
fn betrayers(dir: &Path) -> Result<Vec<String>> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = folders.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && holds(&std::fs::read(&path)?, TOKEN) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(found)
}

/// Fails if an answer that is no file shows the token.
fn discreet(answer: &Answer) -> Result<()> {
    let headers = answer.headers.values().any(|value| holds(value.as_bytes(), TOKEN));
    ensure!(!headers && !holds(&answer.body, TOKEN), "it is in {answer:?}");
    Ok(())
}

/// A user's token goes with a request for a gated repository from the node to the hub's own host, and nowhere else: not
/// to the hub's content network, to no second origin, to no peer, into no answer of door or commands, into no log at the
/// finest level, and into no file that either node leaves, while it runs, after a kill, and after a stop.
#[tokio::test]
async fn a_token_is_seen_by_its_origin_alone() -> StoryResult {
    let [hub, other] = [Hub::start().await?, Hub::start().await?];
    let (repo, small, large) = (REPO.parse()?, random_bytes(5_000), random_bytes(3 * MIB));
    let files: [(&str, &[u8]); 3] = [("config.json", b"{}"), ("s.bin", &small), ("w.safetensors", &large)];
    let commit = hub.push(&repo, "main", &files).await?;
    hub.gate(&repo, &[TOKEN])?;
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let loud = |options: RunOptions| RunOptions { log: "trace".into(), ..options };
    let origins = || loud(RunOptions::default().below(&[hub.url(), other.url()]));
    let a = home_a.start_with(origins()).await?;
    let b = home_b.start_with(loud(RunOptions::knowing(&[&a]))).await?;

    let ask = async |http: &str, path: &str| get_as(TOKEN, &format!("{http}{path}")).await;
    for (path, bytes) in [("s.bin", &small), ("w.safetensors", &large)] {
        let answer = ask(&a.http, &format!("/{REPO}/resolve/main/{path}")).await?;
        ensure!(answer.body == *bytes, "{path}: {:?} {}", answer.status, answer.header("x-error-message"));
    }
    for path in [
        "/api/models/acme/tiny",
        "/api/models/acme/tiny/tree/main",
        "/api/models/acme/tiny/auth-check",
        "/api/whoami-v2",
        "/api/models/acme/nothing",
        "/acme/tiny/resolve/main/nothing",
        "/acme/tiny/resolve/v9/s.bin",
        "/acme/tiny.git/info/refs?service=git-upload-pack",
        "/v2/acme/tiny/manifests/latest",
        "/no/such/address/at/all",
    ] {
        discreet(&ask(&a.http, path).await?)?;
        discreet(&ask(&b.http, path).await?)?;
    }
    // The peer is given nothing, whatever it shows; and what goes wrong names no token either.
    let path = format!("/{REPO}/resolve/{commit}/w.safetensors");
    let peer = ask(&b.http, &path).await?;
    ensure!(peer.status.is_client_error() || peer.status.is_server_error(), "{:?}", peer.status);
    let nobody = a.file(REPO, "main", "w.safetensors").await?;
    ensure!(nobody.status == 401 && nobody.header("x-error-code") == "GatedRepo", "{nobody:?}");
    hub.stop().await;
    let down = ask(&a.http, &path).await?;
    ensure!(down.status.is_client_error() || down.status.is_server_error(), "{:?}", down.status);
    discreet(&down)?;
    hub.resume().await?;

    for home in [&home_a, &home_b] {
        for command in [
            &["status"][..],
            &["list"],
            &["peers"],
            &["limits"],
            &["names", REPO],
            &["trace", REPO],
            &["verify"],
        ] {
            let told = home.run(command).await?;
            ensure!(!told.out.contains(TOKEN) && !told.err.contains(TOKEN), "`{command:?}` tells it");
        }
    }
    let with_token = |request: &Recorded| request.headers.iter().any(|(_, value)| value.contains(TOKEN));
    let requests = hub.requests();
    ensure!(requests.iter().any(|r| r.port == PortOf::Hub && with_token(r)), "its own host is shown it");
    ensure!(on_the_network(&hub).count() > 0, "the large file is on the other host");
    ensure!(!on_the_network(&hub).any(|r| with_token(&r)), "the content network is shown it");
    ensure!(requests.iter().all(|request| !request.target.contains(TOKEN)), "it is in an address");
    ensure!(!other.requests().is_empty(), "the second origin is asked");
    ensure!(
        !other.requests().iter().any(|r| with_token(r) || r.target.contains(TOKEN)),
        "the second is shown it"
    );

    let (log, host) = (a.log(), hub.url().replace("http://", ""));
    ensure!(log.contains("TRACE") && log.contains(&host), "the log is watched at the finest level");
    let both = || -> Result<()> {
        for home in [&home_a, &home_b] {
            // The log lies beside the data folder.
            let found = [betrayers(&home.data())?, betrayers(&home.beside(""))?].concat();
            ensure!(found.is_empty(), "it is in {found:?}");
        }
        Ok(())
    };
    both()?;
    a.kill().await?;
    both()?;
    let a = home_a.start_with(origins()).await?;
    ensure!(ask(&a.http, &path).await?.body == large);
    for node in [a, b] {
        node.stop().await?;
    }
    both()
}
