//! What its origin no longer leaves open to everyone is neither shown nor given away, and is again when that changes.
#![allow(clippy::expect_used, reason = "a name in a test is one")]

mod common;

use std::time::Duration;

use common::*;
use hubless_discovery::DhtKey;
use hubless_mirror::*;
use hubless_origin::{OriginConfig, OriginErrorKind, OriginKind};
use hubless_testkit::{Hub, HubFaults, MemoryOrigin, OriginFaults, Refusal};
use hubless_types::*;

const TOKEN: &str = "hf_letmein";

fn other() -> RepoId {
    "acme/other".parse().expect("a repo id")
}

fn hub() -> MemoryOrigin {
    MemoryOrigin::new("https://hub.test")
}

async fn later() {
    // What was asked a moment ago is not asked again; a minute later it is.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
}

async fn now(node: &Node) -> Result<Resolved, MirrorError> {
    later().await;
    node.resolve(&[]).await
}

fn refuses(hub: &MemoryOrigin, kind: Option<OriginErrorKind>) {
    hub.set_faults(OriginFaults { refuses: kind, ..OriginFaults::default() });
}

/// A repository that was open when it was fetched is gated at its origin: peers get nothing more of it, by whatever name,
/// and are told nothing. When it is open again they have all of it again.
#[tokio::test]
async fn peers_lose_what_is_closed_and_get_back_what_is_opened() -> TestResult {
    for access in [Access::GatedAuto, Access::Private] {
        let (swarm, hub) = (Swarm::new()?, hub());
        let files: [(&str, &[u8]); 3] =
            [("a.json", b"{}"), ("s.txt", &noise(2, 9000)), ("w.bin", &noise(1, 9 * MIB))];
        let commit = hub.publish(&tiny(), "main", &files)?;
        let both = hub.publish(&other(), "main", &files[1..2])?;
        let holder = swarm.node_below(vec![hub.origin()], |_| {})?;
        holder.pull_from(&[]).await?;
        holder.mirror.pull(PullRequest::all(other(), Revision::main()), ignore()).await?;
        let first = swarm.node()?;
        assert_eq!(first.pull_commit(commit).await?.files, 3, "it was open");
        holder.announced(&swarm, &first, DhtKey::Commit(commit)).await?;
        let queued = holder.store.catalogue().scheduled_count()?;
        swarm.cut(&first);

        hub.restrict(&tiny(), access, &[TOKEN])?;
        let _ = now(&holder).await;
        let catalogue = holder.store.catalogue();
        let left = catalogue.scheduled_count()?;
        assert!(
            left + 2 <= queued,
            "{left} of {queued} keys are told: not the commit, nor the shard, nor the name"
        );
        let second = swarm.node()?;
        let nothing = second.pull_commit(commit).await.expect_err("it is not for everybody");
        assert_eq!(nothing.kind(), ErrorKind::NotFound(NotFound::Revision), "{nothing}");
        for entry in catalogue.manifest(commit)?.expect("it stays").entries() {
            let link = catalogue.link(&entry.digest())?.expect("it was hashed");
            let shared = holder.store.blobs().is_shared(&link.hash)?;
            assert_eq!(shared, entry.path.as_str() == "s.txt", "{}: another open one has it", entry.path);
        }
        let theirs = second.mirror.pull(PullRequest::all(other(), both.into()), ignore()).await?;
        assert_eq!(theirs.files, 1);

        hub.restrict(&tiny(), Access::Open, &[])?;
        now(&holder).await?;
        assert_eq!(second.pull_commit(commit).await?.files, 3, "it is open again");
        assert_eq!(catalogue.scheduled_count()?, queued);
    }
    Ok(())
}

/// What its own origin says it does not have, or has switched off, is no more: not last seen, not for peers, not while the
/// origin is gone, until the origin shows it again. One who may still see it does.
#[tokio::test]
async fn a_removal_is_honoured() -> TestResult {
    for kind in [OriginErrorKind::RepoNotFound, OriginErrorKind::Disabled, OriginErrorKind::Gated] {
        let (swarm, hub) = (Swarm::new()?, hub());
        let commit = hub.publish(&tiny(), "main", &[("w.bin", &noise(1, 2 * MIB))])?;
        let holder = swarm.node_below(vec![hub.origin()], |_| {})?;
        holder.pull_from(&[]).await?;
        hub.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
        let last = now(&holder).await?;
        assert_eq!(last.commit, commit, "who is gone has not said anything");

        refuses(&hub, Some(kind));
        for _ in 0..2 {
            let refused = now(&holder).await.expect_err("the origin said so");
            let wanted = match kind {
                OriginErrorKind::RepoNotFound => ErrorKind::NotFound(NotFound::Repo),
                OriginErrorKind::Disabled => ErrorKind::Disabled,
                _ => ErrorKind::Gated,
            };
            assert_eq!(refused.kind(), wanted, "{refused}");
            assert!(holder.read(commit, "w.bin", 0).await.is_err());
        }
        hub.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
        assert!(now(&holder).await.is_err(), "it is remembered");
        assert!(holder.read(commit, "w.bin", 0).await.is_err());
        let stranger = swarm.node()?;
        assert!(stranger.pull_commit(commit).await.is_err());

        refuses(&hub, None);
        now(&holder).await?;
        assert_eq!(holder.read(commit, "w.bin", 0).await?.len(), 2 * MIB);
        assert_eq!(stranger.pull_commit(commit).await?.files, 1);
    }
    Ok(())
}

/// Whoever asks for a password in a hub's place while that is down says nothing: what was open stays so, for peers too,
/// and what was closed stays closed.
#[tokio::test]
async fn a_hub_in_trouble_closes_nothing_and_opens_nothing() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, Hub::start().await?);
    let noise = noise(1, 2 * MIB);
    let commit = hub.push(&tiny(), "main", &[("w.bin", &noise)]).await?;
    let origin = hubless_origin::build(&OriginConfig::new(&hub.url(), OriginKind::Hub)?)?;
    let holder = swarm.node_below(vec![origin], |_| {})?;
    holder.pull_from(&[]).await?;
    for status in [401, 403] {
        hub.set_faults(HubFaults { refuse: Some(Refusal::page(status)), ..HubFaults::default() });
        assert_eq!(now(&holder).await?.commit, commit, "{status}: what was seen last");
        assert_eq!(holder.read(commit, "w.bin", 0).await?.len(), 2 * MIB, "{status}");
        let peer = swarm.node()?;
        assert_eq!(peer.pull_commit(commit).await?.files, 1, "{status}: peers have it still");
        swarm.cut(&peer);
    }
    hub.set_faults(HubFaults::default());
    hub.private(&tiny(), &[TOKEN])?;
    assert!(now(&holder).await.is_err(), "the hub's own word");
    for status in [401, 403] {
        hub.set_faults(HubFaults { refuse: Some(Refusal::page(status)), ..HubFaults::default() });
        assert!(now(&holder).await.is_err(), "{status}: doubt opens nothing");
        assert!(holder.read(commit, "w.bin", 0).await.is_err(), "{status}");
        assert!(swarm.node()?.pull_commit(commit).await.is_err(), "{status}");
    }
    Ok(())
}

/// Private at its origin now: those whom it lets in see it, nobody else.
#[tokio::test]
async fn who_is_let_in_sees_what_became_private() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let commit = hub.publish(&tiny(), "main", &[("w.bin", &noise(1, 2 * MIB))])?;
    let holder = swarm.node_below(vec![hub.origin()], |_| {})?;
    holder.pull_from(&[]).await?;
    hub.restrict(&tiny(), Access::Private, &[TOKEN])?;
    assert!(now(&holder).await.is_err());
    let insider = Caller { token: Token::new(TOKEN).ok(), ..Caller::anyone() };
    let resolved = holder.mirror.resolve(&tiny(), &Revision::main(), &insider).await?;
    assert_eq!(resolved.commit, commit);
    let range = ByteRange::new(0, 10);
    holder.mirror.open_file(&insider, &tiny(), commit, &"w.bin".parse()?, range).await?;
    let nobody = holder.mirror.open_file(&Caller::anyone(), &tiny(), commit, &"w.bin".parse()?, range).await;
    assert!(nobody.is_err());
    Ok(())
}

/// An operator may go on with what is deleted there; what is gated there is not his to open.
#[tokio::test]
async fn a_removal_is_not_honoured_where_the_operator_says_so() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let commit = hub.publish(&tiny(), "main", &[("w.bin", &noise(1, 2 * MIB))])?;
    let holder = swarm.node_below(vec![hub.origin()], |config| config.honour_removal = false)?;
    holder.pull_from(&[]).await?;
    for kind in [OriginErrorKind::RepoNotFound, OriginErrorKind::Disabled] {
        refuses(&hub, Some(kind));
        assert_eq!(now(&holder).await?.by_text(), "last seen 0 s ago");
        assert_eq!(holder.read(commit, "w.bin", 0).await?.len(), 2 * MIB);
        let taker = swarm.node()?;
        assert_eq!(taker.pull_commit(commit).await?.files, 1);
        swarm.cut(&taker);
    }
    refuses(&hub, Some(OriginErrorKind::Gated));
    assert!(now(&holder).await.is_err());
    assert!(swarm.node()?.pull_commit(commit).await.is_err());
    Ok(())
}

/// An origin that never had a repository says nothing of one that was published here, or came from peers.
#[tokio::test]
async fn an_origin_says_nothing_of_what_it_never_had() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let publisher = swarm.node_below(vec![hub.origin()], |_| {})?;
    let folder = swarm.folder("m", &[("w.bin", &noise(1, 2 * MIB))])?;
    let commit = publisher.publish(&tiny(), folder).await?.commit;
    let _ = publisher.mirror.resolve(&tiny(), &"dev".parse()?, &Caller::anyone()).await;
    let taker = swarm.node_below(vec![hub.origin()], |_| {})?;
    taker.pull_from(&[publisher.id]).await?;
    swarm.cut(&publisher);
    assert_eq!(now(&taker).await?.commit, commit);
    assert_eq!(taker.read(commit, "w.bin", 0).await?.len(), 2 * MIB);
    assert_eq!(swarm.node()?.pull_commit(commit).await?.files, 1);
    Ok(())
}

/// A private repository looks like one that nobody knows, while its origin answers and while it does not.
#[tokio::test]
async fn a_private_repository_looks_like_none() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    hub.restrict(&tiny(), Access::Private, &[TOKEN])?;
    let node = swarm.node_below(vec![hub.origin()], |_| {})?;
    let insider = Caller { token: Token::new(TOKEN).ok(), ..Caller::anyone() };
    node.mirror.resolve(&tiny(), &Revision::main(), &insider).await?;
    for offline in [false, true] {
        hub.set_faults(OriginFaults { offline, ..OriginFaults::default() });
        let ask = async |repo: &RepoId| {
            let refused = node.mirror.resolve(repo, &Revision::main(), &Caller::anyone()).await;
            let refused = refused.expect_err("nobody may know of it");
            (refused.kind(), refused.to_string().replace(&repo.to_string(), "R"))
        };
        assert_eq!(ask(&tiny()).await, ask(&other()).await);
    }
    Ok(())
}
