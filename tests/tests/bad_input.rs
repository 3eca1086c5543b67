//! Input that cannot be used: a clear error, a hint, the right exit code, and nothing lost.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::ensure;
use hubless_tests::{Home, StoryResult, Tree, exit, same_files};

const REPO: &str = "acme/tiny";

/// Folders that cannot be published are refused with the file that is to blame.
#[tokio::test]
async fn folders_that_cannot_be_published() -> StoryResult {
    let home = Home::new()?;
    let good = Tree::model(1)?;
    let commit = home.add(good.path(), REPO).await?;

    let broken = Tree::model(0)?;
    std::os::unix::fs::symlink("nowhere", broken.path().join("weights.bin"))?;
    add(&home, &broken, &["weights.bin"]).await?;

    let pipe = Tree::model(0)?;
    let made = std::process::Command::new("mkfifo").arg(pipe.path().join("pipe")).status()?;
    ensure!(made.success(), "mkfifo failed");
    add(&home, &pipe, &["pipe"]).await?;

    let odd = Tree::model(0)?;
    std::fs::write(odd.path().join(OsStr::from_bytes(b"caf\xe9.txt")), b"x")?;
    add(&home, &odd, &["UTF-8"]).await?;

    let clash = Tree::model(0)?;
    clash.write("Weights.bin", b"x")?;
    clash.write("weights.bin", b"y")?;
    add(&home, &clash, &["eights.bin"]).await?;

    let empty = Tree::new()?;
    add(&home, &empty, &[]).await?;
    let missing = home.run(&["add", "/nowhere/at/all", REPO]).await?;
    ensure!(missing.code != 0 && missing.err.contains("/nowhere/at/all"), "{missing:?}");

    let listed = home.run(&["list"]).await?.ok()?.lines()?;
    ensure!(listed.len() == 1 && listed[0]["commit"] == commit.as_str(), "nothing is lost: {listed:?}");
    Ok(())
}

async fn add(home: &Home, tree: &Tree, parts: &[&str]) -> StoryResult {
    let args = [OsStr::new("add"), tree.path().as_os_str(), OsStr::new(REPO)];
    home.run(&args).await?.refused(exit::USAGE, parts)
}

/// What is no repository, revision or node is refused before anything is asked.
#[tokio::test]
async fn names_that_are_none() -> StoryResult {
    let home = Home::new()?;
    for (args, part) in [
        (vec!["pull", "a/b/c"], "repo id"),
        (vec!["pull", "../etc"], "repo id"),
        (vec!["pull", "acme/tiny@a..b"], "revision"),
        (vec!["pin", "acme/tiny@"], "revision"),
        (vec!["pull", "acme/tiny", "--accept-from", "me"], "node id"),
        (vec!["run", "--bootstrap", "example.org:4001"], "node address"),
        (vec!["run", "--http", "8090"], "8090"),
        (vec!["frobnicate"], "frobnicate"),
    ] {
        home.run(&args).await?.refused(exit::USAGE, &[part])?;
    }
    ensure!(!home.data().exists(), "a typing error makes no folder");
    Ok(())
}

/// A password does not belong into an origin's address: it would stand in the log.
#[tokio::test]
async fn an_origin_with_a_password_is_refused() -> StoryResult {
    let home = Home::new()?;
    let refused = home.run(&["run", "--origin", "https://me:hunter2@example.org"]).await?;
    refused.refused(exit::USAGE, &["--origin", "user and password"])
}

/// What nobody knows is not found; the hint says where to look.
#[tokio::test]
async fn what_nobody_knows() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let tree = Tree::model(1)?;
    let a = home_a.start().await?;
    home_a.add(tree.path(), REPO).await?;
    let b = home_b.join(&[&a]).await?;
    let accept = ["--accept-from", a.id.as_str()];
    let unknown = home_b.run(&[&["pull", "acme/nothing"], &accept[..]].concat()).await?;
    unknown.refused(exit::NOT_FOUND, &["acme/nothing"])?;
    let revision = home_b.run(&[&["pull", "acme/tiny@v9"], &accept[..]].concat()).await?;
    revision.refused(exit::NOT_FOUND, &["v9"])?;
    let commit = format!("acme/tiny@{}", "0".repeat(40));
    home_b.run(&["pull", &commit]).await?.refused(exit::NOT_FOUND, &[&"0".repeat(40)])?;
    let none = home_b.run(&[&["pull", REPO, "--include", "*.nothing"], &accept[..]].concat()).await?;
    none.refused(exit::USAGE, &[REPO])?;
    home_b.run(&["unpin", REPO]).await?.refused(exit::USAGE, &["pinned"])?;
    home_b.run(&["forget", "acme/nothing"]).await?.refused(exit::USAGE, &["acme/nothing"])?;
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// A file that was touched after it was added is served on; one that changed is not, and is right again when it is added
/// anew.
#[tokio::test]
async fn a_changed_file_is_not_served() -> StoryResult {
    let [home_a, home_b] = [Home::new()?, Home::new()?];
    let tree = Tree::model(2)?;
    let weights = tree.path().join("model.safetensors");
    let before = std::fs::read(&weights)?;
    let a = home_a.start().await?;
    let commit = home_a.add(tree.path(), REPO).await?;

    std::fs::File::options().write(true).open(&weights)?.set_modified(std::time::UNIX_EPOCH)?;
    ensure!(a.file(REPO, "main", "model.safetensors").await?.body == before, "its bytes are what they were");

    let mut after = before.clone();
    after[1_000_000] ^= 1;
    std::fs::write(&weights, &after)?;
    let answer = a.file(REPO, "main", "model.safetensors").await?;
    let served = answer.status == 200 && answer.whole && !answer.body.is_empty();
    ensure!(!served, "changed bytes were served: {:?}", answer.status);
    ensure!(before.starts_with(&answer.body) || answer.status != 200, "a wrong byte was served");
    let b = home_b.join(&[&a]).await?;
    let pulled = home_b.run(&["pull", &format!("{REPO}@{commit}")]).await?;
    pulled.refused(exit::UNAVAILABLE, &["hubless peers"])?;

    let child = home_a.add(tree.path(), REPO).await?;
    ensure!(child != commit, "a changed folder is another commit");
    let arrived = home_b.beside("arrived");
    let report =
        home_b.done(&["pull", REPO, "--accept-from", &a.id, "--to", &arrived.display().to_string()]).await?;
    ensure!(report["commit"] == child.as_str(), "{report}");
    same_files(tree.path(), &arrived)?;
    let again = home_a.done(&[OsStr::new("add"), tree.path().as_os_str(), OsStr::new(REPO)]).await?;
    ensure!(again["unchanged"] == true && again["commit"] == child.as_str(), "{again}");
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// `verify` names every bad file and ends with its own exit code.
#[tokio::test]
async fn verify_names_every_bad_file() -> StoryResult {
    let home = Home::new()?;
    let tree = Tree::model(1)?;
    home.add(tree.path(), REPO).await?;
    for name in ["model.safetensors", "tokenizer.json"] {
        let path = tree.path().join(name);
        let mut bytes = std::fs::read(&path)?;
        bytes[7] ^= 1;
        std::fs::write(&path, bytes)?;
    }
    let outcome = home.run(&["verify"]).await?;
    ensure!(outcome.code == exit::INTEGRITY, "{outcome:?}");
    let lines = outcome.lines()?;
    let bad = lines.last().map(|line| line["result"]["bad"].to_string()).unwrap_or_default();
    ensure!(bad.contains("model.safetensors") && bad.contains("tokenizer.json"), "{bad}");
    // What was bad was dropped; that it is needed and not here is said until it is.
    let again = home.run(&["verify"]).await?;
    ensure!(again.code == exit::INTEGRITY, "{again:?}");
    let bad = again.lines()?.last().map(|line| line["result"]["bad"].to_string()).unwrap_or_default();
    ensure!(bad.contains("model.safetensors") && bad.contains("tokenizer.json"), "{bad}");
    ensure!(bad.contains("no longer whole on this disk") && bad.contains(REPO), "{bad}");
    // What is there now is added, and needs nothing of what was.
    home.add(tree.path(), REPO).await?;
    ensure!(home.done(&["verify"]).await?["bad"] == serde_json::json!([]));
    Ok(())
}

/// What a stranger sends to the Hub-compatible door is answered or refused, never a way out of the folder.
#[tokio::test]
async fn requests_of_any_kind_are_answered() -> StoryResult {
    let home = Home::new()?;
    let node = home.start().await?;
    home.add(Tree::model(1)?.path(), REPO).await?;
    for path in [
        "/acme/tiny/resolve/main/../../../etc/passwd",
        "/acme/tiny/resolve/main/%2e%2e/%2e%2e/etc/passwd",
        "/acme/tiny/resolve/main/.git/config",
        "/acme/tiny/resolve/main/nothing.bin",
        "/acme/tiny/resolve/v9/config.json",
        "/nobody/knows/resolve/main/x",
        "/api/models/acme/tiny/tree/main/no/such/folder",
        "/%00/%ff",
        "/api/models/a/b/c/d/e/f/g",
    ] {
        let answer = hubless_tests::get(&format!("{}{path}", node.http)).await?;
        ensure!(answer.status.is_client_error(), "{path}: {:?}", answer.status);
    }
    ensure!(hubless_tests::get(&format!("{}/healthz", node.http)).await?.status == 200, "it lives");
    node.stop().await?;
    Ok(())
}
