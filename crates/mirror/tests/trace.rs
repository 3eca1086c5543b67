//! What a person who looks for a fault is shown: who was asked for a name, a commit or a file, and what each said.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use common::*;
use hubless_discovery::{
    Dht, DhtConfig, DhtKey, Discovery, HopOutcome, Lifetime, MemoryTable, Trace, pick_port,
};
use hubless_limits::Limits;
use hubless_mirror::*;
use hubless_origin::OriginErrorKind;
use hubless_proof::NodeKey;
use hubless_store::Store;
use hubless_testkit::{MemoryOrigin, OriginFaults};
use hubless_transfer::{Delivered, MemoryNet};
use hubless_types::*;

const HUB: &str = "https://hub.test";
const DEAD: &str = "https://dead.test";

async fn trace(node: &Node, target: &str) -> Result<TraceReport> {
    Ok(node.mirror.trace(target.parse()?, &Caller::anyone()).await?)
}

fn dead_origin() -> MemoryOrigin {
    let dead = MemoryOrigin::new(DEAD);
    dead.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
    dead
}

fn resolved(report: &TraceReport) -> Result<&Resolved> {
    let name = report.name.as_ref().context("a name was asked for")?;
    name.resolved.as_ref().with_context(|| format!("{:?}", name.error))
}

fn of<'a>(lookup: &'a LookupReport, node: &Node) -> Result<&'a HolderReport> {
    let holder = lookup.holders.iter().find(|holder| holder.provider.node == node.id);
    holder.with_context(|| format!("it was not asked: {:?}", lookup.holders))
}

/// A tag that nobody here has heard of is looked up as a pull would; each origin's word is shown, that of a dead one too.
#[tokio::test]
async fn a_tag_that_only_the_origin_knows_is_resolved_as_by_a_pull() -> TestResult {
    let (swarm, hub, dead) = (Swarm::new()?, MemoryOrigin::new(HUB), dead_origin());
    let commit = hub.publish(&tiny(), "refs/tags/v1", &[("a.txt", b"one")])?;
    let a = swarm.node_below(vec![dead.origin(), hub.origin()], |_| {})?;
    let report = trace(&a, "acme/tiny@v1").await?;
    assert_eq!(
        (resolved(&report)?.commit, &resolved(&report)?.by),
        (commit, &ResolvedBy::Origin(HUB.into()))
    );
    let [first, second] = &report.origins[..] else { panic!("{:?}", report.origins) };
    assert!(first.origin == DEAD && first.commit.is_none(), "{first:?}");
    assert!(first.error.as_ref().is_some_and(|why| why.contains("connection refused")), "{first:?}");
    assert_eq!((second.origin.as_str(), second.commit, &second.error), (HUB, Some(commit), &None));
    let keys: Vec<&str> = report.lookups.iter().map(|lookup| lookup.key.as_str()).collect();
    assert_eq!(keys, ["the name acme/tiny", &format!("commit {commit}")]);

    let none = trace(&a, "acme/tiny@v9").await?;
    // A pull tells the most telling refusal alone.
    let said = none.name.and_then(|name| name.error).context("why not is said")?;
    assert!(said.contains(DEAD), "{said}");
    assert!(none.origins[1].error.as_ref().is_some_and(|why| why.contains("Revision not found")));
    Ok(())
}

/// However many names sort before it, the one that is asked for is looked up; so is `main` where all are shown.
#[tokio::test]
async fn a_name_among_many_is_looked_up() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, MemoryOrigin::new(HUB));
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    let a = swarm.node_below(vec![hub.origin()], |_| {})?;
    for n in 10..30 {
        let branch = format!("branch-{n}");
        hub.point(&tiny(), &branch, commit)?;
        a.mirror.resolve(&tiny(), &branch.parse()?, &Caller::anyone()).await?;
    }
    for name in ["main", "branch-29"] {
        assert_eq!(resolved(&trace(&a, &format!("acme/tiny@{name}")).await?)?.commit, commit, "{name}");
    }
    let all = a.mirror.names(&tiny(), &Caller::anyone()).await?.names;
    let main = all.iter().find(|name| name.revision == Revision::main()).context("main is shown")?;
    assert!(main.resolved.is_some(), "{main:?}");
    Ok(())
}

/// Of a name, a commit and a large file: what a publisher says, and that a holder which is named is dead.
#[tokio::test(flavor = "multi_thread")]
async fn holders_are_asked_for_each_target_and_dead_ones_are_told() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let large = noise(1, 12 * MIB);
    let added = a.add(&swarm.folder("one", &[("w.bin", &large)])?).await?;
    b.pull_from(&[a.id]).await?;
    let c = swarm.node_trusting(vec![a.id])?;
    let manifest = a.store.catalogue().manifest(added.commit)?.context("it was added")?;
    let digest = manifest.entry(&"w.bin".parse()?).context("it has it")?.digest();
    let FileDigest::Sha256(shard) = digest else { anyhow::bail!("{digest} is no LFS file") };
    for key in [DhtKey::Repo(tiny()), DhtKey::Commit(added.commit), DhtKey::Shard(shard)] {
        a.announced(&swarm, &c, key.clone()).await?;
        b.announced(&swarm, &c, key).await?;
    }
    swarm.cut(&b); // its records outlive it

    let report = trace(&c, "acme/tiny").await?;
    assert_eq!(
        (resolved(&report)?.commit, &resolved(&report)?.by),
        (added.commit, &ResolvedBy::Publisher(a.id))
    );
    let [name, commit] = &report.lookups[..] else { panic!("{:?}", report.lookups) };
    assert_eq!(of(name, &a)?.holds.as_deref(), Some("1 statement"));
    let [word] = &of(name, &a)?.said[..] else { panic!("{:?}", of(name, &a)?) };
    assert_eq!((word.signer, word.role, word.commit), (a.id, Role::Trusted, added.commit));
    let by_commit = trace(&c, &added.commit.to_string()).await?;
    let by_file = trace(&c, &shard.to_string()).await?;
    assert!(by_commit.name.is_none() && by_file.name.is_none());
    for (lookup, held) in [
        (commit, "the manifest ("),
        (&by_commit.lookups[0], "the manifest ("),
        (&by_file.lookups[0], "12582912 of 12582912 bytes"),
    ] {
        let held_by_a = of(lookup, &a)?.holds.as_deref().unwrap_or_default();
        assert!(held_by_a.starts_with(held), "{held_by_a:?} where {held:?} was to be");
    }
    for lookup in [name, commit, &by_commit.lookups[0], &by_file.lookups[0]] {
        assert_eq!((lookup.trace.providers.len(), lookup.not_asked), (2, 0));
        let gone = of(lookup, &b)?;
        assert!(gone.holds.is_none() && gone.provider.source == ProviderSource::Dht, "{gone:?}");
        assert!(gone.error.as_ref().is_some_and(|why| why.contains("cannot be reached")), "{gone:?}");
    }
    for node in [a, b, c] {
        node.mirror.shutdown().await;
    }
    Ok(())
}

/// What an origin refuses is shown though a publisher decides, and so is what strangers and unfit statements say.
#[tokio::test]
async fn a_refusal_is_shown_though_somebody_else_decides() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, MemoryOrigin::new(HUB));
    hub.set_faults(OriginFaults { refuses: Some(OriginErrorKind::Busy), ..OriginFaults::default() });
    let a = swarm.node()?;
    let commit = a.add(&swarm.folder("repo", &[("a.txt", b"mine")])?).await?.commit;
    let b = swarm.node_below(vec![hub.origin()], |config| config.trusted = vec![a.id])?;
    let report = trace(&b, "acme/tiny").await?;
    assert_eq!((resolved(&report)?.commit, &resolved(&report)?.by), (commit, &ResolvedBy::Publisher(a.id)));
    assert!(report.origins[0].error.as_ref().is_some_and(|why| why.contains("429")), "{:?}", report.origins);

    // Here nobody is trusted: what peers say is shown beside the reason.
    let stranger = swarm.node()?;
    let report = trace(&stranger, "acme/tiny").await?;
    let name = report.name.as_ref().context("a name was asked for")?;
    assert!(name.error.as_ref().is_some_and(|why| why.contains("nobody trusted")), "{:?}", name.error);
    assert_eq!(of(&report.lookups[0], &a)?.said[0].role, Role::Stranger);

    // What this node publishes is no origin's to say, and none is asked.
    let c = swarm.node_below(vec![hub.origin()], |_| {})?;
    c.add(&swarm.folder("own", &[("a.txt", b"own")])?).await?;
    hub.forget_asked();
    let own = trace(&c, "acme/tiny").await?;
    assert!(resolved(&own).is_ok() && own.origins.is_empty() && hub.asked().is_empty(), "{own:?}");
    Ok(())
}

/// What is private is asked of its origin alone: no peer hears of it.
#[tokio::test]
async fn a_private_name_is_told_to_no_peer() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, MemoryOrigin::new(HUB));
    let a = swarm.node_below(vec![hub.origin()], |_| {})?;
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"secret")])?;
    hub.restrict(&tiny(), Access::Private, &["hf_reader"])?;
    let reader = Caller { token: Some(Token::new("hf_reader")?), ..Caller::anyone() };
    // That it is private is known once its origin said so; what was begun before that is over when a peer comes.
    a.mirror.resolve(&tiny(), &Revision::main(), &reader).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let peer = swarm.node()?;
    let told = || {
        let all = swarm.net.deliveries().into_iter().filter(|d| d.to == a.id && d.from == peer.id);
        all.filter(|d| matches!(d.what, Delivered::Statements | Delivered::Manifest)).count()
    };
    let report = a.mirror.trace("acme/tiny".parse()?, &reader).await?;
    assert_eq!((resolved(&report)?.commit, report.origins[0].commit), (commit, Some(commit)));
    assert!(report.lookups.is_empty(), "{:?}", report.lookups);
    let unasked = trace(&a, "acme/tiny").await?;
    assert!(unasked.name.is_none() && unasked.name_error.is_some() && unasked.lookups.is_empty());
    assert_eq!(told(), 0);
    Ok(())
}

/// Where more nodes are known than are asked, it is said how many were left.
#[tokio::test]
async fn who_was_not_asked_is_counted() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    for n in 100..130 {
        swarm.discovery.node(NodeId::from_bytes([n; 32]), SocketAddr::from(([10, 0, 0, n], 1)));
    }
    let report = trace(&a, &"c".repeat(40)).await?;
    let lookup = &report.lookups[0];
    assert_eq!(lookup.holders.len() + lookup.not_asked, 30);
    assert!(lookup.not_asked > 0 && lookup.holders.iter().all(|holder| holder.error.is_some()));
    Ok(())
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn dht(secret: [u8; 32], bootstrap: &[PeerAddr]) -> Result<Arc<Dht>> {
    let mut config = DhtConfig::new(secret, vec![SocketAddr::new(LOCAL, pick_port(LOCAL)?)]);
    config.bootstrap = bootstrap.to_vec();
    Ok(Arc::new(Dht::start(config, Arc::new(MemoryTable::new()), Arc::new(SystemClock)).await?))
}

/// On a real DHT: each node that was asked, what it named, and which one did not answer.
#[tokio::test(flavor = "multi_thread")]
async fn each_hop_of_a_lookup_is_told_with_its_outcome() -> TestResult {
    let (dir, clock, key) = (tempfile::tempdir()?, Arc::new(SystemClock), NodeKey::from_bytes([3; 32]));
    let store = Store::open(dir.path(), key.id(), clock.clone())?;
    let holder = dht([1; 32], &[]).await?;
    let gone = dht([2; 32], &holder.addresses()).await?;
    let mine = dht([3; 32], &holder.addresses()).await?;
    let commit = CommitId::from_bytes([7; 20]);
    let nodes = [holder.status().node, gone.status().node];
    let parts = MirrorParts {
        store: store.clone(),
        key: key.clone(),
        clock,
        config: MirrorConfig { announce: false, ..MirrorConfig::default() },
        discovery: mine.clone(),
        peers: MemoryNet::new().join(key.id(), store),
        origins: Vec::new(),
        limits: Limits::default(),
    };
    let mirror = Mirror::start(parts);
    let traced = async || -> Result<Trace> {
        let report = mirror.trace(TraceTarget::Commit(commit), &Caller::anyone()).await?;
        Ok(report.lookups.into_iter().next().context("it was looked up")?.trace)
    };
    eventually("both others are known", async || mine.status().routing_table >= 2).await?;
    eventually("the holder announces", async || {
        holder.announce(&[DhtKey::Commit(commit)], Lifetime::Whole).await.is_ok()
    })
    .await?;
    let trace = traced().await?;
    assert!(trace.providers.iter().any(|provider| provider.node == nodes[0]), "{trace:?}");
    for node in nodes {
        let hop = trace.hops.iter().find(|hop| hop.node == node).context("it was asked")?;
        assert!(matches!(hop.outcome, HopOutcome::Answered { .. }), "{hop:?}");
    }

    gone.shutdown().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let trace = traced().await?;
    let hop = trace.hops.iter().find(|hop| hop.node == nodes[1]).context("it is tried")?;
    assert!(matches!(&hop.outcome, HopOutcome::Failed { why } if !why.is_empty()), "{hop:?}");
    mirror.shutdown().await;
    mine.shutdown().await;
    holder.shutdown().await;
    Ok(())
}
