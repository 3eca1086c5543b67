//! A user's token goes to the origin's own host, and nowhere else: every byte that leaves is looked at.

mod common;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use common::*;
use futures::TryStreamExt as _;
use hubless_mirror::*;
use hubless_origin::{OriginConfig, OriginKind};
use hubless_testkit::{Hub, PortOf};
use hubless_types::*;

const TOKEN: &str = "hf_QdjkXvWzTheSecretOfThisTest";

async fn read_as(node: &Node, caller: &Caller, commit: CommitId, path: &str) -> Result<Vec<u8>, MirrorError> {
    let range = ByteRange::new(0, u64::MAX);
    let reader = node.mirror.open_file(caller, &tiny(), commit, &path.parse()?, range).await?;
    reader.body.map_ok(|b| b.to_vec()).try_concat().await
}

/// All that is logged by every crate of this process, as text, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins to keep what is logged. One test of a process can.
    fn begin() -> Result<Self> {
        let log = Self::default();
        let writer = log.clone();
        let kept = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        let kept = kept.with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL);
        kept.with_writer(move || writer.clone()).try_init().map_err(|error| anyhow::anyhow!(error))?;
        Ok(log)
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// A gated repository is fetched by a token, over real HTTP, with a peer beside it. The token is in requests to the
/// hub's own host, and neither in those to the content network, nor in the data folders, nor in what is logged at the
/// finest level, nor in anything that this node shows of itself, nor in what peers ask each other and are answered;
/// and the peer gets nothing of the content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_stays_between_its_owner_and_the_origin() -> TestResult {
    let (log, swarm, hub) = (Log::begin()?, Swarm::new()?, Hub::start().await?);
    swarm.net.listen();
    let (small, large) = (noise(1, 3000), noise(2, 3 * MIB));
    hub.create(&tiny()).await?;
    let files: [(&str, &[u8]); 3] = [("config.json", b"{}"), ("s.bin", &small), ("w.safetensors", &large)];
    let commit = hub.push(&tiny(), "main", &files).await?;
    hub.gate(&tiny(), &[TOKEN])?;
    let origin = || hubless_origin::build(&OriginConfig::new(&hub.url(), OriginKind::Hub)?);
    let node = swarm.node_below(vec![origin()?], |_| {})?;
    let peer = swarm.node()?;

    let caller = Caller { token: Token::new(TOKEN).ok(), ..Caller::anyone() };
    let resolved = node.mirror.resolve(&tiny(), &Revision::main(), &caller).await?;
    assert_eq!(resolved.commit, commit);
    assert_eq!(read_as(&node, &caller, commit, "s.bin").await?, small);
    assert_eq!(read_as(&node, &caller, commit, "w.safetensors").await?, large);
    let refused = read_as(&node, &Caller::anyone(), commit, "w.safetensors").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Gated, "{refused}");
    assert!(read_as(&peer, &caller, commit, "w.safetensors").await.is_err(), "a peer is given nothing");
    // The two do talk, of what is open.
    let open = node
        .add(&swarm.folder("open", &[("open.bin", &noise(3, 5000)), ("o.bin", &noise(4, 2 * MIB))])?)
        .await?;
    let asking = Caller { accept: Accept { from: vec![node.id] }, ..caller.clone() };
    let _ = peer.mirror.resolve(&tiny(), &Revision::main(), &asking).await;
    assert_eq!(read_as(&peer, &caller, open.commit, "o.bin").await?, noise(4, 2 * MIB));

    let holds = |text: &str| text.contains(TOKEN);
    let requests = hub.requests();
    assert!(requests.iter().any(|r| r.port == PortOf::Hub && r.headers.iter().any(|(_, v)| holds(v))));
    assert!(requests.iter().any(|r| r.port == PortOf::Content), "the large file is on the other host");
    for request in &requests {
        assert!(!holds(&request.target), "{}", request.target);
        let on_content = request.port == PortOf::Content;
        assert!(!on_content || !request.headers.iter().any(|(_, v)| holds(v)), "{}", request.target);
    }
    let shown = format!("{:?} {refused:?} {refused}", node.mirror.status()?);
    assert!(!holds(&shown));
    node.mirror.shutdown().await;
    peer.mirror.shutdown().await;
    let (heard, logged) = (swarm.net.heard(), log.bytes());
    assert!(has(&heard, &noise(4, 2 * MIB)[..100]), "what peers are sent is watched");
    assert!(!has(&heard, TOKEN.as_bytes()) && !has(&heard, &small[..64]) && !has(&heard, &large[..64]));
    assert!(
        has(&logged, b"TRACE") && has(&logged, b"hubless_mirror") && has(&logged, b"hyper"),
        "logs are watched"
    );
    let at = logged.windows(TOKEN.len()).position(|w| w == TOKEN.as_bytes());
    let line = at.map(|at| String::from_utf8_lossy(&logged[at.saturating_sub(300)..at + 60]).into_owned());
    assert_eq!(line, None, "it is in the log");
    for (path, bytes) in files_of(swarm.dir.path())? {
        assert!(!has(&bytes, TOKEN.as_bytes()), "it is in {path}");
    }
    Ok(())
}

/// A repository that is open is fetched without the token that its reader shows all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_is_fetched_without_a_token() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, Hub::start().await?);
    let large = noise(2, 20 * MIB);
    hub.create(&tiny()).await?;
    let commit = hub.push(&tiny(), "main", &[("w.safetensors", &large)]).await?;
    let origin = hubless_origin::build(&OriginConfig::new(&hub.url(), OriginKind::Hub)?)?;
    let node = swarm.node_below(vec![origin], |_| {})?;
    let caller = Caller { token: Token::new(TOKEN).ok(), ..Caller::anyone() };
    assert_eq!(read_as(&node, &caller, commit, "w.safetensors").await?, large);
    for request in hub.requests() {
        assert!(!request.headers.iter().any(|(_, v)| v.contains(TOKEN)), "{}", request.target);
    }
    Ok(())
}
