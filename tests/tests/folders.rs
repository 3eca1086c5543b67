//! Data folders, ports and configs that cannot be used: refused with what is wrong and what to do, nothing lost.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use anyhow::ensure;
use hubless_tests::{Home, Outcome, StoryResult, Tree, exit, hubless_binary};

/// `hubless --data DIR run …`, which is expected to end by itself.
async fn failing_run(home: &Home, args: &[&str]) -> anyhow::Result<Outcome> {
    let mut all = vec!["run", "--no-mdns"];
    all.extend_from_slice(args);
    home.run(&all).await
}

const FREE: [&str; 4] = ["--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"];

/// A second node on the same folder is told who has it.
#[tokio::test]
async fn a_folder_in_use_names_its_user() -> StoryResult {
    let home = Home::new()?;
    let node = home.start().await?;
    let refused = failing_run(&home, &FREE).await?;
    refused.refused(exit::BUSY, &["is in use by process", "--data"])?;
    ensure!(refused.out.is_empty(), "a line means that it serves: {}", refused.out);
    let config = home.done_object(&["status"]).await?;
    ensure!(config["node"] == node.id.as_str(), "{config}");
    node.stop().await?;
    Ok(())
}

/// A folder belongs to its key: with another it is not touched.
#[tokio::test]
async fn another_nodes_folder_is_refused() -> StoryResult {
    let (home, other) = (Home::new()?, Home::new()?);
    let tree = Tree::model(1)?;
    home.add(tree.path(), "acme/tiny").await?;
    other.add(tree.path(), "acme/tiny").await?;
    std::fs::copy(other.data().join("node.key"), home.data().join("node.key"))?;
    failing_run(&home, &FREE).await?.refused(exit::USAGE, &["belongs to node", "key"])?;
    home.run(&["verify"]).await?.refused(exit::USAGE, &["belongs to node"])?;
    Ok(())
}

/// A folder of a later version is left alone.
#[tokio::test]
async fn a_newer_folder_is_refused() -> StoryResult {
    let home = Home::new()?;
    home.add(Tree::model(1)?.path(), "acme/tiny").await?;
    let note = home.data().join("format.json");
    let mut format: serde_json::Value = serde_json::from_slice(&std::fs::read(&note)?)?;
    format["format"] = 999.into();
    let changed = format.to_string();
    std::fs::write(&note, &changed)?;
    failing_run(&home, &FREE).await?.refused(exit::USAGE, &["format 999"])?;
    ensure!(std::fs::read_to_string(&note)? == changed, "it was touched");
    Ok(())
}

/// A key that others may read is refused, with the command that helps.
#[tokio::test]
async fn a_key_that_others_may_read_is_refused() -> StoryResult {
    let home = Home::new()?;
    home.start().await?.stop().await?;
    let key = home.data().join("node.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    failing_run(&home, &FREE).await?.refused(exit::USAGE, &["0644", "chmod 600"])?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    home.start().await?.stop().await?;
    Ok(())
}

/// The port that is in use is named, and who wanted it.
#[tokio::test]
async fn a_port_in_use_is_named() -> StoryResult {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let addr = taken.local_addr()?;
    let (text, port) = (addr.to_string(), addr.port().to_string());
    let home = Home::new()?;
    let clients = failing_run(&home, &["--http", &text, "--listen", "127.0.0.1:0"]).await?;
    clients.refused(exit::BUSY, &[&format!("port {port} is in use"), "Hub clients", "--http"])?;
    let nodes = failing_run(&home, &["--http", "127.0.0.1:0", "--listen", &text]).await?;
    nodes.refused(exit::BUSY, &[&format!("port {port} is in use"), "TCP", "--listen"])?;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let nodes =
        failing_run(&home, &["--http", "127.0.0.1:0", "--listen", &udp.local_addr()?.to_string()]).await?;
    nodes.refused(exit::BUSY, &["UDP", "--listen"])?;
    ensure!(!home.data().join("admin.sock").exists(), "a failed start leaves no socket");
    Ok(())
}

/// A config that is wrong names file, line, key, value and what it must be.
#[tokio::test]
async fn a_malformed_config_says_what_it_must_be() -> StoryResult {
    let home = Home::new()?;
    let path = home.beside("bad.toml");
    let config = path.display().to_string();
    for (text, parts) in [
        (
            "[discovery]\nlookup_timeout = 5\n",
            vec!["line 2", "discovery.lookup_timeout", "`5`", "like `10s`"],
        ),
        ("[gatway]\n", vec!["line 1", "gatway", "[gateway]"]),
        ("[names]\ntrusted = [\"x\"]\n", vec!["line 2", "names.trusted", "\"x\"", "node ids"]),
        ("nonsense", vec!["line 1", "no TOML"]),
    ] {
        std::fs::write(&path, text)?;
        home.run(&["check-config", &config]).await?.refused(exit::USAGE, &parts)?;
        failing_run(&home, &["--config", &config]).await?.refused(exit::USAGE, &parts)?;
    }
    ensure!(!home.data().exists(), "a config that is refused makes no folder");
    Ok(())
}

/// The configs in the repository pass their own test.
#[tokio::test]
async fn the_shipped_configs_are_right() -> StoryResult {
    let home = Home::new()?;
    for name in ["home", "lab", "mirror"] {
        let config = hubless_tests::crate_folder().join(format!("../configs/{name}.toml"));
        let answer = home.done_object(&["check-config", &config.display().to_string()]).await?;
        ensure!(answer["ok"] == true, "{answer}");
    }
    Ok(())
}

/// What a killed node left behind does not stop the next one.
#[tokio::test]
async fn a_stale_socket_is_replaced() -> StoryResult {
    let home = Home::new()?;
    let node = home.start().await?;
    let socket = node.socket.clone();
    node.kill().await?;
    ensure!(socket.exists(), "a killed node cannot clean up");
    home.run(&["status"]).await?.refused(exit::UNAVAILABLE, &["no node runs", "run"])?;
    let node = home.start().await?;
    home.done_object(&["status"]).await?;
    node.stop().await?;
    Ok(())
}

/// Without a running node, what needs none still works, and what needs one says so.
#[tokio::test]
async fn some_commands_need_no_node() -> StoryResult {
    let home = Home::new()?;
    let tree = Tree::model(1)?;
    home.run(&["verify"]).await?.refused(exit::USAGE, &["no data of a node"])?;
    home.add(tree.path(), "acme/tiny").await?;
    let verified = home.done(&["verify"]).await?;
    ensure!(verified["files"].as_u64() >= Some(4) && verified["bad"] == serde_json::json!([]), "{verified}");
    home.done(&["gc"]).await?;
    let listed = home.run(&["list"]).await?.ok()?.lines()?;
    ensure!(listed.len() == 1 && listed[0]["repo"] == "acme/tiny", "{listed:?}");
    home.run(&["pull", "acme/other"]).await?.refused(exit::UNAVAILABLE, &["no node runs"])?;
    home.run(&["peers"]).await?.refused(exit::UNAVAILABLE, &["no node runs"])?;
    Ok(())
}

/// A folder may lie deeper than a socket's path may be long.
#[tokio::test]
async fn a_deep_folder_works() -> StoryResult {
    let home = Home::new()?;
    let deep = home.beside(&"d".repeat(150));
    std::fs::create_dir_all(&deep)?;
    let mut node = tokio::process::Command::new(hubless_binary()?);
    node.arg("--data").arg(deep.join("data"));
    node.args(["run", "--no-mdns", "--json"]).args(FREE).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut node = node.kill_on_drop(true).spawn()?;
    let mut said = tokio::io::BufReader::new(node.stdout.take().into_iter().next().ok_or_else(no_output)?);
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut said, &mut line).await?;
    ensure!(line.contains("\"socket\""), "{line}");
    let status = tokio::process::Command::new(hubless_binary()?)
        .arg("--data")
        .arg(deep.join("data"))
        .arg("status")
        .output()
        .await?;
    ensure!(status.status.success(), "{status:?}");
    node.kill().await?;
    Ok(())
}

fn no_output() -> anyhow::Error {
    anyhow::anyhow!("no output")
}
