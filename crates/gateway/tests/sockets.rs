//! Stories over real sockets: the admin API, and how servers stop.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::{TestResult, model_folder};
use hubless_gateway::{GatewayConfig, serve_admin, serve_http};
use hubless_testkit::{Swarm, SwarmNode};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A node whose admin API is served.
struct Served {
    swarm: Swarm,
    node: SwarmNode,
    socket: PathBuf,
    stop: CancellationToken,
    servers: JoinSet<()>,
}

impl Served {
    fn begin() -> Result<Self> {
        let swarm = Swarm::new()?;
        let node = swarm.lone_node()?;
        let socket = swarm.folder("run", &[("x", b"")])?.join("admin.sock");
        let (stop, mut servers) = (CancellationToken::new(), JoinSet::new());
        servers.spawn(serve_admin(UnixListener::bind(&socket)?, node.mirror.clone(), None, stop.clone()));
        Ok(Self { swarm, node, socket, stop, servers })
    }

    async fn post(&self, path: &str, body: Value) -> Result<(u16, Vec<Value>)> {
        call(&self.socket, "POST", path, &body.to_string()).await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let (status, mut lines) = call(&self.socket, "GET", path, "").await?;
        assert_eq!(status, 200);
        lines.pop().context("an answer")
    }
}

/// Sends a request and reads the answer's JSON lines.
async fn call(socket: &Path, method: &str, path: &str, body: &str) -> Result<(u16, Vec<Value>)> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let text = converse(UnixStream::connect(socket).await?, &format!("{head}{body}")).await?;
    let status = text.split(' ').nth(1).context("a status")?.parse()?;
    // Chunk lengths are hexadecimal lines between the objects.
    let lines = text.lines().filter(|line| line.starts_with(['{', '[']));
    Ok((status, lines.map(serde_json::from_str).collect::<Result<_, _>>()?))
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut text)).await??;
    Ok(text)
}

#[tokio::test]
async fn a_folder_is_added_listed_pinned_and_verified() -> TestResult {
    let served = Served::begin()?;
    let dir = model_folder(&served.swarm)?;
    let (status, lines) = served.post("/v1/add", json!({"dir": dir, "repo": "acme/tiny"})).await?;
    let done = lines.last().context("a last line")?;
    assert_eq!((status, &done["event"], &done["result"]["files"]), (200, &json!("done"), &json!(7)));
    assert!(lines.iter().all(|line| line["event"].is_string()), "{lines:?}");

    let (_, mut lists) = served.post("/v1/list", json!({ "search": "TINY" })).await?;
    let list = lists.pop().context("an answer")?;
    let (_, none) = served.post("/v1/list", json!({ "author": "nobody" })).await?;
    assert_eq!(none, [json!([])]);
    assert_eq!((&list[0]["repo"], &list[0]["revision"]), (&json!("acme/tiny"), &json!("main")));
    assert_eq!(served.get("/v1/status").await?["node"], json!(served.node.id));
    assert_eq!(served.get("/v1/peers").await?, json!([]));

    let (status, pin) = served.post("/v1/pin", json!({"repo": "acme/tiny"})).await?;
    assert_eq!((status, &pin[0]["commit"]), (200, &done["result"]["commit"]));
    let (_, verified) = served.post("/v1/verify", json!({})).await?;
    assert_eq!(verified.last().context("a last line")?["result"]["bad"], json!([]));
    let (_, unpinned) = served.post("/v1/unpin", json!({"repo": "acme/tiny", "revision": "main"})).await?;
    assert_eq!(unpinned, [json!({})]);
    let (_, collected) = served.post("/v1/gc", json!({"dry_run": true})).await?;
    assert_eq!(collected[0]["dry_run"], json!(true));
    let (_, forgotten) = served.post("/v1/forget", json!({"repo": "acme/tiny"})).await?;
    assert_eq!(forgotten, [json!({"repo": "acme/tiny", "commits": 1})]);
    let (status, refused) = served.post("/v1/forget", json!({"repo": "acme/tiny"})).await?;
    assert_eq!((status, &refused[0]["kind"]), (400, &json!("bad-input")));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_done_says_why() -> TestResult {
    let served = Served::begin()?;
    let (status, refused) = served.post("/v1/unpin", json!({"repo": "acme/tiny"})).await?;
    assert_eq!((status, &refused[0]["kind"]), (400, &json!("bad-input")));
    assert!(refused[0]["error"].is_string() && refused[0]["hint"].is_string());
    let (status, refused) = served.post("/v1/pull", json!({"repo": "a/b", "revison": "x"})).await?;
    assert!(
        status == 400 && refused[0]["error"].as_str().is_some_and(|e| e.contains("revison")),
        "{refused:?}"
    );
    let (status, refused) = served.post("/v1/pull", json!({"repo": "no/such"})).await?;
    let last = refused.last().context("a last line")?;
    assert_eq!((status, &last["event"]), (200, &json!("error")));
    assert!(last["error"].is_string() && last["kind"].is_string());
    assert_eq!(served.post("/v1/nothing", json!({})).await?.0, 404);
    Ok(())
}

/// A head that is too large is refused with words; one beyond all bounds, or no HTTP, at least with its status.
#[tokio::test]
async fn a_head_that_is_too_large_is_told_why() -> TestResult {
    let mut served = Served::begin()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (mirror, config) = (served.node.mirror.clone(), GatewayConfig::default());
    served.servers.spawn(serve_http(listener, mirror, config, served.stop.clone()));
    let ask = async |more: String| {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
        converse(TcpStream::connect(addr).await?, &request).await
    };
    let long = |bytes: usize| format!("x-long: {}\r\n", "v".repeat(bytes));
    let many = |lines: usize| (0..lines).map(|n| format!("x-{n}: v\r\n")).collect::<String>();
    ensure!(ask(long(60_000)).await?.starts_with("HTTP/1.1 200 "));
    for told in [ask(long(70_000)).await?, ask(many(150)).await?] {
        let head = told.to_lowercase();
        ensure!(
            head.starts_with("http/1.1 431 ") && head.contains("\r\nx-error-code: toolarge\r\n"),
            "{told}"
        );
        ensure!(head.contains("\r\nx-error-message: the request") && head.contains("{\"error\":"), "{told}");
    }
    ensure!(ask(many(500)).await?.starts_with("HTTP/1.1 431 "));
    let no_http = converse(TcpStream::connect(addr).await?, "\0\0\0\0 what?\r\n\r\n").await?;
    ensure!(no_http.starts_with("HTTP/1.1 400 "), "{no_http}");
    Ok(())
}

#[tokio::test]
async fn both_servers_stop() -> TestResult {
    let mut served = Served::begin()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    served.servers.spawn(serve_http(
        listener,
        served.node.mirror.clone(),
        GatewayConfig::default(),
        served.stop.clone(),
    ));
    let text = converse(
        TcpStream::connect(addr).await?,
        "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await?;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    let _idle = TcpStream::connect(addr).await?;

    served.stop.cancel();
    let all = async {
        while served.servers.join_next().await.transpose()?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(3), all).await?
}

/// DNS rebinding: a page whose own name leads to this machine is to its browser one with the door. It reads what is
/// everybody's, and nothing else, unless the operator named the host.
#[tokio::test]
async fn a_page_that_leads_its_name_here_reads_what_is_everybodys() -> TestResult {
    let mut served = Served::begin()?;
    let dir = model_folder(&served.swarm)?;
    served.post("/v1/add", json!({"dir": dir, "repo": "acme/tiny"})).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let config = GatewayConfig { hosts: vec!["mirror.example".into()], ..GatewayConfig::default() };
    served.servers.spawn({
        let (mirror, stop) = (served.node.mirror.clone(), served.stop.clone());
        async move { serve_http(listener, mirror, config, stop).await }
    });
    let ask = async |host: &str, path: &str| -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        converse(TcpStream::connect(addr).await?, &request).await
    };
    let (list, file, health) = ("/api/models", "/acme/tiny/resolve/main/config.json", "/healthz");
    for (host, path, status) in [
        ("evil.example", list, 403),
        ("evil.example", file, 200),
        ("evil.example", health, 200),
        ("mirror.example:443", list, 200),
        ("localhost:8090", list, 200),
        (&addr.to_string(), list, 200),
    ] {
        let answer = ask(host, path).await?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host} {path}: {answer}");
    }
    let refused = ask("evil.example", list).await?.to_lowercase();
    ensure!(
        refused.contains("x-error-code: foreignhost") && refused.contains("[gateway] hosts"),
        "{refused}"
    );
    served
        .node
        .store
        .catalogue()
        .unshare_commit(served.node.mirror.refs(&"acme/tiny".parse()?)?[0].1.commit)?;
    ensure!(ask("evil.example", file).await?.starts_with("HTTP/1.1 403 "), "it is not everybody's");
    ensure!(ask("localhost", file).await?.starts_with("HTTP/1.1 200 "));
    Ok(())
}
