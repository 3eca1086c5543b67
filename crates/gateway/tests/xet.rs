//! Stories of the Xet door: told for files above the limit alone, and what its addresses give makes up the file.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use common::served::Served;
use common::{Answer, BIG, TestResult, ask, big_bytes, model_folder};
use futures::TryStreamExt as _;
use http_body_util::BodyExt as _;
use hubless_gateway::{GatewayConfig, router};
use hubless_mirror::Caller;
use hubless_testkit::{MemoryOrigin, Swarm, origin_with_xet};
use hubless_types::{Access, Sha256};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// Files above this go by Xet here; the real limit is 50 GB.
const LIMIT: u64 = 1_000_000;
const HOST: &str = "http://hub.test:8090";

struct Story {
    app: axum::Router,
    _swarm: Swarm,
}

impl Story {
    async fn begin() -> Result<Self> {
        let swarm = Swarm::new()?;
        let node = swarm.lone_node()?;
        node.publish(&"acme/tiny".parse()?, model_folder(&swarm)?).await?;
        let config = GatewayConfig { xet_above: LIMIT, ..GatewayConfig::default() };
        Ok(Self { app: router(node.mirror.clone(), &config, None), _swarm: swarm })
    }

    async fn get(&self, path: &str, range: Option<&str>) -> Result<Answer> {
        let headers: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
        ask(&self.app, "GET", path.strip_prefix(HOST).unwrap_or(path), &headers, "").await
    }

    /// What a client makes of a reconstruction: bytes of the file from `offset_into_first_range` on.
    async fn rebuild(&self, plan: &Value) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        for term in plan["terms"].as_array().context("terms")? {
            let source = &plan["xorbs"][term["hash"].as_str().context("a hash")?][0];
            let bytes = &source["ranges"][0]["bytes"];
            let range = format!("bytes={}-{}", bytes["start"], bytes["end"]);
            let xorb = self.get(source["url"].as_str().context("a url")?, Some(&range)).await?;
            ensure!(xorb.status == 206, "{}", xorb.text());
            let (mut rest, before) = (&xorb.body[..], file.len());
            while let Some((head, data)) = rest.split_first_chunk::<8>() {
                let len = u32::from_le_bytes([head[5], head[6], head[7], 0]) as usize;
                file.extend_from_slice(data.get(..len).context("a whole chunk")?);
                rest = &data[len..];
            }
            ensure!((file.len() - before) as u64 == term["unpacked_length"], "{term}");
        }
        let offset = plan["offset_into_first_range"].as_u64().context("an offset")?;
        Ok(file.split_off(offset as usize))
    }
}

#[tokio::test]
async fn only_what_is_too_large_for_plain_http_goes_by_xet() -> TestResult {
    let story = Story::begin().await?;
    let large = story.get("/acme/tiny/resolve/main/w.safetensors", None).await?;
    let sha256 = large.header("etag").replace('"', "");
    assert_eq!(large.header("x-xet-hash"), sha256);
    assert!(large.header("link").contains("rel=\"xet-auth\""), "{}", large.header("link"));
    assert_eq!(large.body.len(), BIG, "plain HTTP serves it as well");
    let small = story.get("/acme/tiny/resolve/main/config.json", None).await?;
    assert!(small.header("x-xet-hash").is_empty() && small.header("link").is_empty());
    let tree = story.get("/api/models/acme/tiny/tree/main?recursive=true", None).await?.json()?;
    let told: Vec<_> =
        tree.as_array().context("a tree")?.iter().filter_map(|e| e["xetHash"].as_str()).collect();
    assert_eq!(told, [sha256]);
    Ok(())
}

#[tokio::test]
async fn a_reconstruction_makes_up_the_file() -> TestResult {
    let story = Story::begin().await?;
    let file = "/acme/tiny/resolve/main/w.safetensors";
    let hash = story.get(file, None).await?.header("x-xet-hash").to_owned();
    let token = story.get("/api/models/acme/tiny/xet-read-token/main", None).await?;
    let cas = token.json()?["casUrl"].as_str().context("a casUrl")?.to_owned();
    assert_eq!(token.header("x-xet-cas-url"), cas);
    assert!(
        !token.header("x-xet-access-token").is_empty() && !token.header("x-xet-token-expiration").is_empty()
    );
    let plan = story.get(&format!("{cas}/v2/reconstructions/{hash}"), None).await?.json()?;
    assert_eq!(plan["terms"].as_array().map(Vec::len), Some(2));
    assert!(story.rebuild(&plan).await? == big_bytes());
    for (start, end) in [(0, 1), (70_000, 200_000), (8_388_607, 8_388_610), (BIG - 1, BIG)] {
        let range = format!("bytes={start}-{}", end - 1);
        let plan = story.get(&format!("{cas}/v2/reconstructions/{hash}"), Some(&range)).await?.json()?;
        let rebuilt = story.rebuild(&plan).await?;
        assert!(rebuilt[..end - start] == big_bytes()[start..end], "{range}");
    }
    let first = story.get(&format!("{cas}/v1/reconstructions/{hash}"), None).await?.json()?;
    assert_eq!(first["fetch_info"].as_object().map(serde_json::Map::len), Some(2));
    let beyond =
        story.get(&format!("{cas}/v2/reconstructions/{hash}"), Some(&format!("bytes={BIG}-"))).await?;
    assert_eq!(beyond.status, 416);
    let gone = story.get(&format!("{cas}/xorbs/{hash}/2"), None).await?;
    assert_eq!(gone.refusal(), (404, "EntryNotFound", true));
    let none = story.get(&format!("{cas}/v2/reconstructions/{}", "ab".repeat(32)), None).await?;
    assert_eq!(none.refusal(), (404, "EntryNotFound", true));
    Ok(())
}

/// A node that is another one's origin, and whose file plain HTTP refuses: it goes over by Xet.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_gets_the_file_where_plain_http_refuses_it() -> TestResult {
    let swarm = Swarm::new()?;
    let upper = swarm.lone_node()?;
    let commit = upper.publish(&"acme/tiny".parse()?, model_folder(&swarm)?).await?.commit;
    let config = GatewayConfig { xet_above: LIMIT, ..GatewayConfig::default() };
    let xorbs = Arc::new(AtomicUsize::new(0));
    let app = router(upper.mirror.clone(), &config, None).layer(from_fn_with_state(xorbs.clone(), bridge));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut servers = JoinSet::new();
    servers.spawn(async move { axum::serve(listener, app).await });

    let lower = swarm.node_below(vec![origin_with_xet(&url, LIMIT)?], |_| {})?;
    let (caller, repo, path) = (Caller::anyone(), "acme/tiny".parse()?, "w.safetensors".parse()?);
    let whole = hubless_types::ByteRange::whole(BIG as u64);
    let reader = lower.mirror.open_file(&caller, &repo, commit, &path, whole).await?;
    let bytes = reader.body.try_collect::<Vec<_>>().await?.concat();
    assert!(bytes == big_bytes());
    assert!(xorbs.load(Ordering::SeqCst) >= 2, "it came in xorbs");
    Ok(())
}

/// Refuses large files as the Hub's plain bridge does, with what is told of them, and counts xorbs.
async fn bridge(State(xorbs): State<Arc<AtomicUsize>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if path.contains("/xorbs/") {
        xorbs.fetch_add(1, Ordering::SeqCst);
    }
    if path.contains("/resolve/") && response.headers().contains_key("x-xet-hash") {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

/// The limit of a node as it comes: files above 50 GB are told to be in Xet, in answers and listings, and one of just 50 GB
/// is not; of a gated repository none is, whoever asks, and nothing of it is served that way. (None of these files has
/// bytes anywhere: a pointer says how long they are.)
#[tokio::test]
async fn what_is_above_50_gb_goes_by_xet_and_nothing_else() -> TestResult {
    const TOKEN: &str = "hf_letmein";
    const LARGEST_PLAIN: u64 = 50_000_000_000;
    let sha256 = |n| Sha256::from_bytes([n; 32]);
    let large = [("a.bin", 1, LARGEST_PLAIN), ("b.bin", 2, LARGEST_PLAIN + 1), ("c.bin", 3, 60_000_000_000)];
    let pointers = large.map(|(_, n, size)| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n", sha256(n))
    });
    let [a, b, c] = pointers.each_ref().map(|pointer| pointer.as_bytes());
    let files = [("a.bin", a), ("b.bin", b), ("c.bin", c), ("config.json", b"{}")];
    for access in [Access::Open, Access::GatedAuto] {
        let (swarm, hub, repo) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"), "acme/tiny".parse()?);
        let commit = hub.publish(&repo, "main", &files)?;
        hub.restrict(&repo, access, &[TOKEN])?;
        let node = swarm.node_below(vec![hub.origin()], |_| {})?;
        let app = router(node.mirror.clone(), &GatewayConfig::default(), None);
        let bearer = format!("Bearer {TOKEN}");
        let token: Vec<_> = (!access.is_open()).then_some(("authorization", &*bearer)).into_iter().collect();
        for (path, n, size) in large {
            let head = ask(&app, "HEAD", &format!("/acme/tiny/resolve/main/{path}"), &token, "").await?;
            assert_eq!((head.status.as_u16(), head.header("x-linked-size")), (200, &*size.to_string()));
            let told = access.is_open() && size > LARGEST_PLAIN;
            let hash = if told { sha256(n).to_string() } else { String::new() };
            assert_eq!(head.header("x-xet-hash"), hash, "{access:?} {path}");
            assert_eq!(head.header("link").contains("xet-auth"), told, "{access:?} {path}");
        }
        let tree = ask(&app, "GET", "/api/models/acme/tiny/tree/main", &token, "").await?.json()?;
        let told: Vec<_> =
            tree.as_array().context("a tree")?.iter().map(|e| e["xetHash"].is_string()).collect();
        assert_eq!(told, [false, access.is_open(), access.is_open(), false], "{access:?}");

        let cas = format!("/xet/models/acme/tiny/{commit}");
        for (n, served) in [(1, false), (2, access.is_open()), (3, access.is_open())] {
            // A part of it, as clients ask: all of 60 GB is a long list.
            let path = format!("{cas}/v2/reconstructions/{}", sha256(n));
            let range = [("range", "bytes=59999990000-"), ("range", "bytes=0-99")][usize::from(n < 3)];
            let mut headers = token.clone();
            headers.push(range);
            let plan = ask(&app, "GET", &path, &headers, "").await?;
            assert_eq!(plan.status == 200, served, "{access:?} {n}: {}", plan.text());
            assert!(served || plan.refusal() == (404, "EntryNotFound", true), "{access:?} {n}");
        }
        if !access.is_open() {
            let stranger = ask(&app, "HEAD", "/acme/tiny/resolve/main/c.bin", &[], "").await?;
            assert_eq!((stranger.status.as_u16(), stranger.header("x-error-code")), (401, "GatedRepo"));
            let xorb = ask(&app, "GET", &format!("{cas}/xorbs/{}/0", sha256(3)), &token, "").await?;
            assert_eq!(xorb.refusal(), (404, "EntryNotFound", true));
        }
    }
    Ok(())
}

/// However long a file its pointer claims to be, the list of its parts is written as it is taken; and is whole.
#[tokio::test]
async fn a_reconstruction_is_written_as_it_is_taken() -> TestResult {
    const SIZE: u64 = 60_000_000_000;
    let sha256 = |n| Sha256::from_bytes([n; 32]);
    let pointer = |n, size: u64| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n", sha256(n))
    };
    let (large, endless) = (pointer(1, SIZE), pointer(2, i64::MAX as u64));
    let (swarm, hub, repo) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"), "acme/tiny".parse()?);
    let files = [("large.bin", large.as_bytes()), ("endless.bin", endless.as_bytes())];
    let commit = hub.publish(&repo, "main", &files)?;
    let node = swarm.node_below(vec![hub.origin()], |_| {})?;
    let app = router(node.mirror.clone(), &GatewayConfig::default(), None);
    for (version, sources) in [("v1", "fetch_info"), ("v2", "xorbs")] {
        let path = |n| format!("/xet/models/acme/tiny/{commit}/{version}/reconstructions/{}", sha256(n));
        let plan = ask(&app, "GET", &path(1), &[], "").await?.json()?;
        let terms = plan["terms"].as_array().context("terms")?;
        let lengths: Option<u64> = terms.iter().map(|term| term["unpacked_length"].as_u64()).sum();
        assert_eq!(lengths, Some(SIZE), "{version}");
        let sources = plan[sources].as_object().context("sources")?;
        let has_source = |term: &Value| term["hash"].as_str().is_some_and(|hash| sources.contains_key(hash));
        assert!(sources.len() == terms.len() && terms.iter().all(has_source), "{version}");

        let request = Request::builder().uri(path(2)).header("host", "hub.test:8090").body(Body::empty())?;
        let mut body = app.clone().oneshot(request).await?.into_body();
        for _ in 0..4 {
            let piece = body.frame().await.context("more")??.into_data().ok().context("bytes")?;
            assert!(piece.len() < 200_000, "{version}: {} at once", piece.len());
        }
    }
    Ok(())
}

/// The real client, as scripts/test installs it.
#[tokio::test(flavor = "multi_thread")]
async fn the_xet_client_gets_the_file() -> TestResult {
    let python = environment()?.join("bin/python");
    ensure!(has_xet(&python), "`{}` has no hf_xet: scripts/test makes that environment", python.display());
    let swarm = Swarm::new()?;
    let node = swarm.lone_node()?;
    let mut content = big_bytes().repeat(5);
    content.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= (i >> 16) as u8);
    let dir = swarm.folder("tiny", &[("w.safetensors", &content), ("config.json", b"{}")])?;
    node.publish(&"acme/tiny".parse()?, dir).await?;
    let served = Served::with(swarm, node, |config| config.xet_above = LIMIT).await?;
    let home = served.swarm.dir.path().join("hf");
    let script = "import sys, huggingface_hub as h, huggingface_hub.file_download as d\n\
                  used = []\n\
                  plain = d.http_get\n\
                  def seen(*a, **k):\n    used.append(a[0]); return plain(*a, **k)\n\
                  d.http_get = seen\n\
                  path = h.hf_hub_download('acme/tiny', 'w.safetensors')\n\
                  print(path, len(used))";
    let mut client = Command::new(&python);
    client
        .args(["-c", script])
        .env("HF_ENDPOINT", &served.url)
        .env("HF_HOME", &home)
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1");
    let output = tokio::task::spawn_blocking(move || client.output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let (path, plain) = text.trim().rsplit_once(' ').context("a path")?;
    assert_eq!(plain, "0", "it went by Xet alone");
    assert!(std::fs::read(path)? == content);
    Ok(())
}

/// The Python environment that scripts/test makes.
fn environment() -> Result<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
    folder("HUBLESS_TEST_VENV").or_else(|| Some(cache?.join("hubless/venv"))).context("a home")
}

fn has_xet(python: &Path) -> bool {
    Command::new(python).args(["-c", "import hf_xet"]).output().is_ok_and(|output| output.status.success())
}
