//! What one repository has is not had by asking for it under another's name, and a token is for one origin alone.
#![allow(clippy::expect_used, reason = "a name in a test is one")]

mod common;

use anyhow::{Context as _, Result};
use common::*;
use futures::TryStreamExt as _;
use hubless_mirror::*;
use hubless_origin::OriginErrorKind;
use hubless_testkit::{MemoryOrigin, OriginFaults, Question};
use hubless_types::*;

const TOKEN: &str = "hf_letmein";

fn secret() -> RepoId {
    "acme/secret".parse().expect("a repo id")
}

fn insider() -> Caller {
    Caller { token: Token::new(TOKEN).ok(), ..Caller::anyone() }
}

async fn read(
    node: &Node,
    caller: &Caller,
    repo: &RepoId,
    commit: CommitId,
    path: &str,
) -> Result<Vec<u8>, MirrorError> {
    let range = ByteRange::new(0, u64::MAX);
    let reader = node.mirror.open_file(caller, repo, commit, &path.parse()?, range).await?;
    reader.body.map_ok(|b| b.to_vec()).try_concat().await
}

/// A commit of a private or gated repository is not here for whoever asks for it under an open one's name; the same
/// commit is, once the open one has it.
#[tokio::test]
async fn a_commit_is_had_under_its_own_repository_alone() -> TestResult {
    for access in [Access::Private, Access::GatedManual] {
        let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
        let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("w.bin", &noise(1, 3 * MIB))];
        origin.publish(&tiny(), "main", &[("README.md", b"# open\n")])?;
        let parent = origin.publish(&secret(), "main", &[("README.md", b"# secret\n")])?;
        let commit = origin.publish(&secret(), "main", &files)?;
        origin.restrict(&secret(), access, &[TOKEN])?;
        let node = swarm.node_below(vec![origin.origin()], |_| {})?;
        for commit in [parent, commit] {
            node.mirror.resolve(&secret(), &Revision::main(), &insider()).await?;
            node.mirror.manifest(&insider(), Some(&secret()), commit).await?;
        }
        assert_eq!(read(&node, &insider(), &secret(), commit, "w.bin").await?, files[1].1);

        for caller in [Caller::anyone(), insider()] {
            for path in ["config.json", "w.bin"] {
                assert!(read(&node, &caller, &tiny(), commit, path).await.is_err(), "{access:?} {path}");
            }
            assert!(node.mirror.manifest(&caller, Some(&tiny()), commit).await.is_err());
        }
        assert!(node.mirror.held_manifest(&tiny(), parent).await?.is_none());
        assert!(node.mirror.manifest_here(&tiny(), commit)?.is_none());
        // An open repository's name may point there: then its origin has to give it.
        let row = hubless_store::RefRecord {
            commit,
            seen: START,
            by: hubless_store::RefSource::Origin("https://hub.test".into()),
        };
        node.store.catalogue().set_ref(&tiny(), &Revision::main(), row)?;
        let sha256 = node.store.catalogue().manifest(commit)?.context("it is here")?;
        let wanted = sha256.entries().iter().filter_map(|e| e.lfs.map(|lfs| lfs.sha256)).collect();
        assert!(node.mirror.lfs_places(&tiny(), wanted).await?.is_empty(), "{access:?}");

        assert!(node.mirror.held_manifest(&secret(), parent).await?.is_some());
    }
    Ok(())
}

/// An open manifest that names the digest of gated content shows nothing of it, until an origin gives that content as
/// its own to whoever asks.
#[tokio::test]
async fn naming_a_digest_is_not_having_it() -> TestResult {
    let swarm = Swarm::new()?;
    let (hub, other) = (MemoryOrigin::new("https://hub.test"), MemoryOrigin::new("https://other.test"));
    let files: [(&str, &[u8]); 3] =
        [("s.txt", &noise(2, 3000)), ("t.bin", &noise(3, 60_000)), ("w.bin", &noise(1, 3 * MIB))];
    let parts: [(&str, &[u8]); 3] = [("a", files[0].1), ("b", files[1].1), ("c", files[2].1)];
    let gated = hub.publish(&secret(), "main", &files)?;
    hub.restrict(&secret(), Access::GatedManual, &[TOKEN])?;
    let open = other.publish(&tiny(), "main", &parts)?;
    let node = swarm.node_below(vec![hub.origin(), other.origin()], |_| {})?;
    node.mirror.resolve(&secret(), &Revision::main(), &insider()).await?;
    for (path, bytes) in files {
        assert_eq!(read(&node, &insider(), &secret(), gated, path).await?, bytes);
    }

    let nothing = Some(OriginErrorKind::EntryNotFound);
    other.set_faults(OriginFaults { refuses_content: nothing, ..OriginFaults::default() });
    for (path, _) in parts {
        let read = read(&node, &Caller::anyone(), &tiny(), open, path).await;
        assert!(read.is_err(), "{path} was shown without anybody's leave");
    }
    let pulled = node.mirror.pull(PullRequest::all(tiny(), open.into()), ignore()).await;
    assert!(pulled.is_err());
    let (link, before) = (link_of(&node, gated, "w.bin")?, other.bytes_sent());
    assert!(!node.store.blobs().is_shared(&link.hash)?);

    other.set_faults(OriginFaults::default());
    for (path, bytes) in parts {
        assert_eq!(read(&node, &Caller::anyone(), &tiny(), open, path).await?, bytes);
    }
    assert!(other.bytes_sent() - before < 200_000, "what is here is not fetched anew");
    assert!(node.store.blobs().is_shared(&link.hash)?, "everybody may have it");
    assert_eq!(read(&node, &insider(), &secret(), gated, "w.bin").await?, files[2].1);
    Ok(())
}

/// What a fetch by a token left of a file is gone on with for that repository, and for no other that names the digest.
#[tokio::test]
async fn what_a_token_left_is_no_others() -> TestResult {
    for (asked, caller, left) in [(secret(), insider(), 8), (tiny(), Caller::anyone(), 0)] {
        let swarm = Swarm::new()?;
        let (hub, other) = (MemoryOrigin::new("https://hub.test"), MemoryOrigin::new("https://other.test"));
        let weights = noise(1, 24 * MIB);
        let gated = hub.publish(&secret(), "main", &[("w.bin", &weights)])?;
        hub.restrict(&secret(), Access::GatedManual, &[TOKEN])?;
        let open = other.publish(&tiny(), "main", &[("mine.bin", &weights)])?;
        let node = swarm.node_below(vec![hub.origin(), other.origin()], |config| {
            config.claimed_wait = std::time::Duration::from_secs(60);
        })?;
        node.mirror.resolve(&secret(), &Revision::main(), &insider()).await?;
        let stall = OriginFaults { stall_after: Some(8 * MIB as u64), ..OriginFaults::default() };
        hub.set_faults(stall);
        let (secret, insider) = (secret(), insider());
        tokio::select! {
            done = read(&node, &insider, &secret, gated, "w.bin") => anyhow::bail!("it came: {:?}", done.err()),
            some = eventually("some came", async || hub.bytes_sent() == 8 * MIB as u64) => some?,
        }
        // What came is written by another thread.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        hub.set_faults(OriginFaults::default());
        let (commit, path) = if asked == tiny() { (open, "mine.bin") } else { (gated, "w.bin") };
        let before = hub.bytes_sent() + other.bytes_sent();
        assert_eq!(read(&node, &caller, &asked, commit, path).await?, weights);
        let came = hub.bytes_sent() + other.bytes_sent() - before;
        assert!(came.abs_diff((24 - left) * MIB as u64) < MIB as u64, "{asked}: {came} bytes came");
    }
    Ok(())
}

/// Nor does whoever may read one closed repository get what another has, by naming its digest.
#[tokio::test]
async fn closed_repositories_do_not_open_each_other() -> TestResult {
    let swarm = Swarm::new()?;
    let hub = MemoryOrigin::new("https://hub.test");
    let weights = noise(1, 3 * MIB);
    let gated = hub.publish(&secret(), "main", &[("w.bin", &weights)])?;
    let theirs = hub.publish(&tiny(), "main", &[("mine.bin", &weights)])?;
    hub.restrict(&secret(), Access::GatedManual, &[TOKEN])?;
    hub.restrict(&tiny(), Access::Private, &["hf_eve"])?;
    let node = swarm.node_below(vec![hub.origin()], |_| {})?;
    node.mirror.resolve(&secret(), &Revision::main(), &insider()).await?;
    assert_eq!(read(&node, &insider(), &secret(), gated, "w.bin").await?, weights);
    let eve = Caller { token: Token::new("hf_eve").ok(), ..Caller::anyone() };
    let resolved = node.mirror.resolve(&tiny(), &Revision::main(), &eve).await?;
    node.mirror.manifest(&eve, Some(&tiny()), resolved.commit).await?;
    let nothing = Some(OriginErrorKind::EntryNotFound);
    hub.set_faults(OriginFaults { refuses_content: nothing, ..OriginFaults::default() });
    assert!(read(&node, &eve, &tiny(), theirs, "mine.bin").await.is_err());
    hub.set_faults(OriginFaults::default());
    assert_eq!(read(&node, &eve, &tiny(), theirs, "mine.bin").await?, weights);
    let link = link_of(&node, gated, "w.bin")?;
    assert!(!node.store.blobs().is_shared(&link.hash)?);
    Ok(())
}

fn link_of(node: &Node, commit: CommitId, path: &str) -> Result<Link> {
    let catalogue = node.store.catalogue();
    let manifest = catalogue.manifest(commit)?.context("it is here")?;
    let entry = manifest.entry(&path.parse()?).context("it has the file")?;
    catalogue.link(&entry.digest())?.context("it was hashed")
}

/// The tokens that an origin was shown.
fn shown(origin: &MemoryOrigin) -> Vec<Question> {
    origin.asked().into_iter().filter(|asked| asked.token.is_some()).map(|asked| asked.what).collect()
}

/// Of two origins one is shown a token: the first, whatever the second says, for names, manifests, content and leave
/// to read.
#[tokio::test]
async fn a_token_is_for_the_first_origin() -> TestResult {
    let swarm = Swarm::new()?;
    let (first, second) = (MemoryOrigin::new("https://first.test"), MemoryOrigin::new("https://second.test"));
    let files: [(&str, &[u8]); 2] = [("s.bin", &noise(1, 3000)), ("w.bin", &noise(2, 2 * MIB))];
    let commit = second.publish(&secret(), "main", &files)?;
    for access in [Access::Private, Access::GatedManual] {
        second.restrict(&secret(), access, &[TOKEN])?;
        first.user(TOKEN);
        let node = swarm.node_below(vec![first.origin(), second.origin()], |_| {})?;
        let _ = node.mirror.resolve(&secret(), &Revision::from(commit), &insider()).await;
        assert!(
            node.mirror.manifest(&insider(), Some(&secret()), commit).await.is_err()
                || access != Access::Private
        );
        for (path, _) in files {
            assert!(read(&node, &insider(), &secret(), commit, path).await.is_err());
        }
        let private = RepoFacts { access: Access::Private, ..RepoFacts::default() };
        node.store.catalogue().put_facts(&secret(), &private)?;
        assert!(node.mirror.may_read(&insider(), &secret()).await.is_err());
        let _ = node.mirror.resolve(&secret(), &Revision::main(), &insider()).await;
        assert_eq!(shown(&second), []);
        assert!(!shown(&first).is_empty());
    }
    Ok(())
}

/// A repository whose names are known from the second origin is that one's, and the first is shown nothing.
#[tokio::test]
async fn a_token_is_for_the_origin_that_has_the_repository() -> TestResult {
    let swarm = Swarm::new()?;
    let (first, second) = (MemoryOrigin::new("https://first.test"), MemoryOrigin::new("https://second.test"));
    let weights = noise(2, 2 * MIB);
    let commit = second.publish(&secret(), "main", &[("w.bin", &weights)])?;
    second.restrict(&secret(), Access::GatedManual, &[TOKEN])?;
    let node = swarm.node_below(vec![first.origin(), second.origin()], |_| {})?;
    node.mirror.resolve(&secret(), &Revision::main(), &insider()).await?;
    first.forget_asked();
    assert_eq!(read(&node, &insider(), &secret(), commit, "w.bin").await?, weights);
    assert_eq!(shown(&first), []);
    assert!(!shown(&second).is_empty());
    Ok(())
}

/// An open repository of the same name elsewhere opens nothing of a private one.
#[tokio::test]
async fn a_namesake_opens_nothing() -> TestResult {
    let swarm = Swarm::new()?;
    let (first, second) = (MemoryOrigin::new("https://first.test"), MemoryOrigin::new("https://second.test"));
    let weights = noise(2, 2 * MIB);
    let commit = first.publish(&secret(), "main", &[("w.bin", &weights)])?;
    first.restrict(&secret(), Access::Private, &[TOKEN])?;
    let node = swarm.node_below(vec![first.origin(), second.origin()], |_| {})?;
    node.mirror.resolve(&secret(), &Revision::main(), &insider()).await?;
    assert_eq!(read(&node, &insider(), &secret(), commit, "w.bin").await?, weights);
    second.publish(&secret(), "main", &[("README.md", b"# not the same\n")])?;
    let anyone = Caller::anyone();
    assert!(node.mirror.resolve(&secret(), &Revision::main(), &anyone).await.is_err());
    assert!(node.mirror.may_read(&anyone, &secret()).await.is_err());
    assert!(read(&node, &anyone, &secret(), commit, "w.bin").await.is_err());
    Ok(())
}

fn evil() -> RepoId {
    "evil/x".parse().expect("a repo id")
}

/// The second of two origins that says that some name of its own is a closed repository of the first's opens nothing of
/// that one, nor moves or renames it; whoever asked is told what the first said.
#[tokio::test]
async fn another_origins_rename_opens_nothing() -> TestResult {
    for access in [Access::GatedManual, Access::Private] {
        let (swarm, main) = (Swarm::new()?, Revision::main());
        let (first, second) =
            (MemoryOrigin::new("https://first.test"), MemoryOrigin::new("https://second.test"));
        let commit = first.publish(&secret(), "main", &[("w.bin", &noise(2, 2 * MIB))])?;
        first.restrict(&secret(), access, &[TOKEN])?;
        let node = swarm.node_below(vec![first.origin(), second.origin()], |_| {})?;
        node.mirror.resolve(&secret(), &main, &insider()).await?;
        read(&node, &insider(), &secret(), commit, "w.bin").await?;
        let catalogue = node.store.catalogue();
        let known = || Ok::<_, anyhow::Error>((catalogue.refs(&secret())?, catalogue.facts(&secret())?));
        let before = known()?;

        second.publish(&evil(), "main", &[("README.md", b"# not the same\n")])?;
        second.rename(&evil(), &secret())?;
        let refused = node.mirror.resolve(&evil(), &main, &Caller::anyone()).await.expect_err("it has none");
        assert_eq!(refused.kind(), ErrorKind::NotFound(NotFound::Repo), "{access:?}: {refused}");
        assert!(second.asked().iter().any(|asked| asked.repo == Some(evil())), "it was asked");
        assert_eq!(known()?, before, "{access:?}");
        assert_eq!((catalogue.canonical(&evil())?, catalogue.access(&secret())?), (None, access));
        assert!(
            catalogue
                .statements(&secret(), None)?
                .iter()
                .all(|s| { s.body.origin.as_deref() == Some("https://first.test") })
        );
        assert!(read(&node, &Caller::anyone(), &secret(), commit, "w.bin").await.is_err());
        node.mirror.resolve(&secret(), &main, &insider()).await?;
        assert_eq!(shown(&second), []);
    }
    Ok(())
}

/// While the first of two origins is gone, the second is told of an open repository of the same name, and not kept; what
/// it calls by another name is not the first's.
#[tokio::test]
async fn another_origin_moves_and_renames_nothing() -> TestResult {
    let (swarm, main, anyone) = (Swarm::new()?, Revision::main(), Caller::anyone());
    let (first, second) = (MemoryOrigin::new("https://first.test"), MemoryOrigin::new("https://second.test"));
    let ours = first.publish(&tiny(), "main", &[("a.txt", b"ours")])?;
    let theirs = second.publish(&tiny(), "main", &[("a.txt", b"theirs")])?;
    let node = swarm.node_below(vec![first.origin(), second.origin()], |_| {})?;
    let now = async || {
        // What was asked a moment ago is not asked again; a minute later it is.
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        tokio::time::resume();
        node.mirror.resolve(&tiny(), &main, &anyone).await
    };
    assert_eq!(now().await?.commit, ours);
    let catalogue = node.store.catalogue();
    let before = catalogue.refs(&tiny())?;
    let offline = OriginFaults { offline: true, ..OriginFaults::default() };
    first.set_faults(offline.clone());
    let told = now().await?;
    assert_eq!((told.commit, told.by_text().as_str()), (theirs, "origin https://second.test"));
    assert_eq!(catalogue.refs(&tiny())?, before);

    second.rename(&tiny(), &evil())?;
    let last = now().await?;
    assert_eq!((last.commit, last.by_text().as_str()), (ours, "last seen 0 s ago"));
    assert_eq!((catalogue.canonical(&tiny())?, catalogue.refs(&tiny())?), (None, before));
    assert!(!node.mirror.knows(&evil())?);
    first.set_faults(OriginFaults::default());
    second.set_faults(offline);
    assert_eq!(now().await?.by_text(), "origin https://first.test");
    Ok(())
}
