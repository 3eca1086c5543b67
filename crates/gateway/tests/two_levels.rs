//! Stories of a node whose origin is another node, whose origin is a hub: real HTTP and git between all three.

mod common;

use anyhow::Result;
use common::served::Served;
use common::upstream::{Upstream, content, noise, tiny};
use common::{Answer, TestResult, ask, endpoint};
use hubless_mirror::Caller;
use hubless_testkit::{Hub, Swarm, SwarmNode, hub_origin};
use hubless_types::LinkTrust;

const TOKEN: &str = "hf_letmein";

/// The hub, the upper node, served, and the lower one.
struct Levels {
    upstream: Upstream,
    upper: Served,
    lower: SwarmNode,
    app: axum::Router,
    /// The lower node's own: the two are no peers.
    _swarm: Swarm,
}

impl Levels {
    async fn begin() -> Result<Self> {
        let (upstream, above, below) = (Upstream::begin().await?, Swarm::new()?, Swarm::new()?);
        let node = above.node_below(vec![hub_origin(&upstream.hub.url(), |_| {})?], |_| {})?;
        let upper = Served::of(above, node).await?;
        let lower = below.node_below(vec![hub_origin(&upper.url, |_| {})?], |_| {})?;
        let app = endpoint(&lower);
        Ok(Self { upstream, upper, lower, app, _swarm: below })
    }

    async fn get(&self, token: Option<&str>, path: &str) -> Result<Answer> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        ask(&self.app, "GET", path, &headers, "").await
    }
}

/// Whether any request to the hub, or to its content network, showed the token.
fn shown(hub: &Hub, port: hubless_testkit::PortOf) -> bool {
    let of_port = hub.requests().into_iter().filter(|request| request.port == port);
    of_port.flat_map(|request| request.headers).any(|(_, value)| value.contains(TOKEN))
}

/// What the hub has reaches the lower node through the upper one, each file proven at either; what is not there is said not
/// to be; and with the hub gone, both go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_down_two_levels_and_are_proven() -> TestResult {
    let levels = Levels::begin().await?;
    let commit = levels.upstream.commit;
    let info = levels.get(None, "/api/models/acme/tiny").await?.json()?;
    assert_eq!(info["sha"], commit.to_string());
    for path in ["s.txt", "w.safetensors"] {
        let answer = levels.get(None, &format!("/acme/tiny/resolve/main/{path}")).await?;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &content(path)[..]), "{path}");
    }
    for node in [&levels.lower, &levels.upper.node] {
        let manifest = node.mirror.manifest(&Caller::anyone(), Some(&tiny()?), commit).await?;
        for entry in manifest.entries().iter().filter(|entry| entry.path.as_str() != "config.json") {
            let link = node.store.catalogue().link(&entry.digest())?;
            assert_eq!(link.map(|link| link.trust), Some(LinkTrust::Proven), "{}", entry.path);
        }
    }
    let absent = levels.get(None, "/acme/tiny/resolve/main/nothing").await?;
    assert_eq!(absent.refusal(), (404, "EntryNotFound", true));
    let revision = levels.get(None, "/acme/tiny/resolve/v9/s.txt").await?;
    assert_eq!(revision.refusal(), (404, "RevisionNotFound", true));
    let nowhere = levels.get(None, "/api/models/acme/nothing").await?;
    assert_eq!(nowhere.refusal(), (401, "RepoNotFound", true));

    levels.upstream.hub.stop().await;
    let path = format!("/acme/tiny/resolve/{commit}/w.safetensors");
    assert_eq!(levels.get(None, &path).await?.body, content("w.safetensors"));
    Ok(())
}

/// A gated repository stays so two levels down: refused without the token, and with another; served with it, each time anew,
/// which goes up to the hub and not to where its large files are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gated_repository_is_gated_two_levels_down() -> TestResult {
    let levels = Levels::begin().await?;
    let hub = &levels.upstream.hub;
    hub.user("hf_other");
    hub.gate(&tiny()?, &[TOKEN])?;
    for round in ["nobody has it", "both have it"] {
        for path in ["s.txt", "w.safetensors"] {
            let path = format!("/acme/tiny/resolve/main/{path}");
            let nobody = levels.get(None, &path).await?;
            assert_eq!(nobody.refusal(), (401, "GatedRepo", true), "{round}: {path} {}", nobody.text());
            let other = levels.get(Some("hf_other"), &path).await?;
            assert_eq!(other.refusal(), (403, "GatedRepo", true), "{round}: {path} {}", other.text());
            let forged = levels.get(Some("hf_forged"), &path).await?;
            assert_eq!(forged.refusal(), (401, "Unauthorized", true), "{round}: {path} {}", forged.text());
            let reader = levels.get(Some(TOKEN), &path).await?;
            assert_eq!(
                (reader.status.as_u16(), &reader.body[..]),
                (200, &content(&path)[..]),
                "{round}: {path}"
            );
        }
    }
    assert!(shown(hub, hubless_testkit::PortOf::Hub) && !shown(hub, hubless_testkit::PortOf::Content));
    for node in [&levels.lower, &levels.upper.node] {
        assert!(!node.store.catalogue().is_commit_shared(levels.upstream.commit)?, "peers get nothing of it");
    }
    hub.gate(&tiny()?, &[])?;
    let late = levels.get(Some(TOKEN), "/acme/tiny/resolve/main/w.safetensors").await?;
    assert_eq!(late.refusal(), (403, "GatedRepo", true), "who is let out is refused though it is here");
    Ok(())
}

/// What the upper node published itself is no less there for the lower one, and a commit that moves is followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_at_the_top_moves_below() -> TestResult {
    let levels = Levels::begin().await?;
    let weights = noise(7, 300_000);
    let dir = levels.upper.swarm.folder("own", &[("own.bin", &weights)])?;
    levels.upper.node.publish(&"acme/own".parse()?, dir).await?;
    assert_eq!(levels.get(None, "/acme/own/resolve/main/own.bin").await?.body, weights);
    for _ in 0..2 {
        assert_eq!(levels.get(None, "/acme/tiny/resolve/main/config.json").await?.text(), "{}");
    }
    let second = levels.upstream.hub.push(&tiny()?, "main", &[("config.json", b"{\"a\":1}")]).await?;
    // A name is told again for three seconds at each level, and once more while it is renewed.
    for _ in 0..100 {
        let info = levels.get(None, "/api/models/acme/tiny").await?.json()?;
        if info["sha"] == second.to_string() {
            assert_eq!(levels.get(None, "/acme/tiny/resolve/main/config.json").await?.text(), "{\"a\":1}");
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    anyhow::bail!("the second commit never came down")
}
