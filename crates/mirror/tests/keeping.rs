//! What stays and what goes: pins, collection, verification, changed references.

mod common;

use anyhow::Context as _;
use common::*;
use hubless_discovery::DhtKey;
use hubless_mirror::{AddRequest, ErrorKind, ListRequest, PullRequest};
use hubless_transfer::Faults;
use hubless_types::{FileDigest, Revision};

/// Collection takes what was only fetched, and leaves what is pinned or published.
#[tokio::test(flavor = "multi_thread")]
async fn collection_leaves_what_is_pinned() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let weights = noise(1, 9 * MIB);
    let added = a.add(&swarm.folder("repo", &[("w.bin", &weights), ("s.txt", b"s")])?).await?;
    assert_eq!(a.mirror.gc(false).await?.files, 0, "what is published stays");

    let accept = Caller::taking([a.id]);
    let pin = b.mirror.pin(&tiny(), &Revision::main(), &accept).await?;
    assert_eq!(pin.commit, added.commit);
    assert_eq!(b.mirror.gc(false).await?.files, 0, "what is pinned stays");
    let listed = b.mirror.list(&ListRequest::default())?;
    assert!(
        listed.iter().any(|r| r.pinned && r.bytes == added.bytes && r.bytes_here == r.bytes),
        "{listed:?}"
    );

    let manifest = b.mirror.manifest(&Caller::anyone(), None, added.commit).await?;
    let shard = manifest.entries().iter().find_map(|e| e.lfs).map(|l| l.sha256);
    let shard = DhtKey::Shard(shard.ok_or_else(|| anyhow::anyhow!("an LFS file"))?);
    b.announced(&swarm, &a, shard.clone()).await?;

    b.mirror.unpin(&tiny(), &Revision::main())?;
    assert_eq!(b.mirror.unpin(&tiny(), &Revision::main()).map_err(|e| e.kind()), Err(ErrorKind::BadInput));
    let dry = b.mirror.gc(true).await?;
    assert!(dry.files == 2 && dry.bytes > 9 * MIB as u64 && dry.dry_run, "{dry:?}");
    let gone = b.mirror.gc(false).await?;
    assert_eq!((gone.files, gone.bytes), (dry.files, dry.bytes));
    assert_eq!(b.mirror.status()?.files, 0);

    use futures::StreamExt as _;
    use hubless_discovery::Discovery as _;
    let eyes = swarm.discovery.node(a.id, "127.0.0.1:1".parse()?);
    let found: Vec<_> = eyes.find(&shard).collect().await;
    assert!(found.iter().all(|p| p.node != b.id), "it was withdrawn");
    assert!(b.read(added.commit, "w.bin", 0).await? == weights, "it can be fetched again");
    Ok(())
}

/// A file that was added and changed since is never served; a pinned one comes back from a peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_reference_is_fetched_anew() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let weights = noise(1, 9 * MIB);
    let dir = swarm.folder("repo", &[("w.bin", &weights)])?;
    let added = a.add(&dir).await?;
    b.pull_from(&[a.id]).await?;
    std::fs::write(dir.join("w.bin"), noise(2, 9 * MIB))?;

    let report = a.mirror.verify(ignore()).await?;
    assert_eq!((report.bad.len(), report.refetching), (1, 1));
    assert_eq!(report.bad[0].used_by, [(tiny(), "w.bin".parse()?)]);
    eventually("it is here again", async || {
        a.mirror.verify(ignore()).await.is_ok_and(|r| r.files == 1 && r.bad.is_empty())
    })
    .await?;
    assert!(a.read(added.commit, "w.bin", 0).await? == weights);
    Ok(())
}

/// A kept file that is gone from disk is named with its repository and path, each time until it is here again; what a pin
/// never had is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_file_that_is_gone_is_named() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let weights = noise(1, 9 * MIB);
    let files: [(&str, &[u8]); 3] = [("w.bin", &weights), ("t.txt", &noise(2, 5000)), ("s.json", b"{}")];
    let dir = swarm.folder("repo", &files)?;
    let added = a.add(&dir).await?;
    assert_eq!(a.mirror.verify(ignore()).await?.bad, []);
    b.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
    swarm.cut(&b);
    assert!(b.mirror.pin(&tiny(), &added.commit.into(), &Caller::anyone()).await.is_err());
    assert_eq!(b.mirror.verify(ignore()).await?.bad, [], "it was never here");

    for (path, _) in files {
        std::fs::remove_file(dir.join(path))?;
    }
    // The first time the node forgets the files, and still knows the second time that it needs them.
    for round in ["first", "second"] {
        let report = a.mirror.verify(ignore()).await?;
        let mut named: Vec<_> = report.bad.iter().flat_map(|bad| bad.used_by.clone()).collect();
        named.retain(|(_, path)| path.as_str() != "s.json");
        named.sort();
        assert_eq!(named, [(tiny(), "t.txt".parse()?), (tiny(), "w.bin".parse()?)], "{round}: {report:?}");
        let weights =
            report.bad.iter().find(|bad| bad.used_by.contains(&(tiny(), "w.bin".parse().expect("a path"))));
        assert!(weights.is_some_and(|bad| bad.why.contains("pull it again")), "{round}: {report:?}");
    }
    assert_eq!(a.read(added.commit, "s.json", 0).await?, b"{}", "the commit's own bundle has it");
    Ok(())
}

/// A changed reference that is read at once is fetched, not served wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_the_right_bytes_of_a_changed_file() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let weights = noise(1, 9 * MIB);
    let dir = swarm.folder("repo", &[("w.bin", &weights)])?;
    let added = a.add(&dir).await?;
    b.pull_from(&[a.id]).await?;
    std::fs::remove_file(dir.join("w.bin"))?;
    assert!(a.read(added.commit, "w.bin", 0).await? == weights);
    Ok(())
}

/// A pin of what nobody reached has stands, and is filled when somebody appears.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_filled_later() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let added = a.add(&swarm.folder("repo", &[("w.bin", &noise(1, 2 * MIB))])?).await?;
    b.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
    swarm.net.set_faults(a.id, Faults { unreachable: true, ..Faults::default() });
    let failed = b.mirror.pin(&tiny(), &added.commit.into(), &Caller::anyone()).await;
    assert_eq!(failed.map_err(|e| e.kind()), Err(ErrorKind::Unavailable));
    swarm.net.set_faults(a.id, Faults::default());
    let pin = b.mirror.pin(&tiny(), &added.commit.into(), &Caller::anyone()).await?;
    assert_eq!(pin.commit, added.commit);
    assert_eq!(b.mirror.status()?.files, 1);
    Ok(())
}

/// Without a network a node adds, lists, verifies and collects; what needs a peer says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_network_does_what_it_can() -> TestResult {
    use hubless_mirror::{AddRequest, Mirror, MirrorConfig};
    let swarm = Swarm::new()?;
    let key = hubless_proof::NodeKey::from_bytes([99; 32]);
    let clock: std::sync::Arc<dyn hubless_types::Clock> = swarm.clock.clone();
    let store = hubless_store::Store::open(&swarm.dir.path().join("alone"), key.id(), clock.clone())?;
    let mirror = Mirror::offline(store, key, clock, MirrorConfig::default());
    let dir = swarm.folder("repo", &[("w.bin", &noise(1, MIB))])?;
    let added = mirror.add(AddRequest::new(&dir, tiny()), ignore()).await?;
    assert_eq!(mirror.list(&ListRequest::default())?.len(), 1);
    assert_eq!(mirror.verify(ignore()).await?.files, 1);
    assert_eq!(mirror.gc(false).await?.files, 0);
    let status = mirror.status()?;
    assert!(!status.online && status.announce.due == 2, "{status:?}");
    let unknown: Revision = "0".repeat(40).parse()?;
    let error = mirror.pull(PullRequest::all(tiny(), unknown), ignore()).await.expect_err("no network");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(matches!(
        mirror.manifest(&Caller::anyone(), None, added.commit).await?.entries()[0].digest(),
        FileDigest::Git(_)
    ));
    mirror.shutdown().await;
    Ok(())
}

/// A shard that was withdrawn before a collection and stays, for somebody reads it, is told of again.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_stays_is_told_of_again() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let added = a.add(&swarm.folder("repo", &[("w.bin", &noise(1, 9 * MIB))])?).await?;
    b.pull_commit(added.commit).await?;
    let digest = b.mirror.manifest(&Caller::anyone(), None, added.commit).await?.entries()[0].digest();
    let FileDigest::Sha256(shard) = digest else { anyhow::bail!("{digest} is no LFS file") };
    b.announced(&swarm, &a, DhtKey::Shard(shard)).await?;
    let root = b.store.catalogue().link(&digest)?.ok_or_else(|| anyhow::anyhow!("it is here"))?.hash;
    let hold = b.store.blobs().hold(root);
    assert_eq!(b.mirror.gc(false).await?.files, 0);
    b.announced(&swarm, &a, DhtKey::Shard(shard)).await?;
    assert!(b.mirror.evict(root).await.is_err(), "it is held");
    b.announced(&swarm, &a, DhtKey::Shard(shard)).await?;
    drop(hold);
    assert_eq!(a.mirror.evict(root).await?, 0, "it is published there");
    assert!(b.mirror.evict(root).await? >= 9 * MIB as u64);
    assert_eq!(b.store.blobs().status(&root)?, hubless_store::BlobStatus::Absent);
    Ok(())
}

/// An `add` is taken back: others are not told of it any more and get nothing of it, and collection frees what no other
/// repository needs. A file that another one has too stays where it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_added_is_taken_back() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let (weights, both) = (noise(1, 9 * MIB), noise(2, 9 * MIB));
    let dir = swarm.folder("repo", &[("w.bin", &weights), ("both.bin", &both)])?;
    let added = a.add(&dir).await?;
    let mut other = AddRequest::new(swarm.folder("other", &[("both.bin", &both)])?, "acme/other".parse()?);
    other.message = Some("the same file".into());
    let stays = a.mirror.add(other, ignore()).await?;
    let manifest = a.mirror.manifest(&Caller::anyone(), None, added.commit).await?;
    let shard = |path: &str| -> anyhow::Result<DhtKey> {
        let lfs = manifest.entry(&path.parse()?).and_then(|entry| entry.lfs);
        Ok(DhtKey::Shard(lfs.ok_or_else(|| anyhow::anyhow!("an LFS file"))?.sha256))
    };
    let (gone, kept) = (shard("w.bin")?, shard("both.bin")?);
    for key in [&gone, &kept] {
        a.announced(&swarm, &b, key.clone()).await?;
    }

    let forgotten = a.mirror.forget(&tiny()).await?;
    assert_eq!((forgotten.repo, forgotten.commits), (tiny(), 1));
    assert_eq!(a.mirror.forget(&tiny()).await.map_err(|e| e.kind()), Err(ErrorKind::BadInput), "it is gone");
    let listed = a.mirror.list(&ListRequest::default())?;
    assert_eq!(listed.iter().map(|r| r.repo.to_string()).collect::<Vec<_>>(), ["acme/other"]);

    use hubless_discovery::Discovery as _;
    let eyes = swarm.discovery.node(b.id, "127.0.0.1:1".parse()?);
    let holders = async |key: &DhtKey| {
        use futures::StreamExt as _;
        eyes.find(key).filter(|p| std::future::ready(p.node == a.id)).count().await
    };
    eventually("it is withdrawn", async || holders(&gone).await == 0).await?;
    assert_eq!(holders(&kept).await, 1, "another repository has it");
    let refused = b.pull_from(&[a.id]).await.map(|_| ()).map_err(|e| e.kind());
    assert!(refused.is_err(), "its name is known to nobody");
    assert!(b.read(added.commit, "w.bin", 0).await.is_err(), "and nobody has its commit");

    let freed = a.mirror.gc(false).await?;
    assert_eq!(freed.files, 1, "{freed:?}");
    assert!(b.read(stays.commit, "both.bin", 0).await? == both);
    assert!(dir.join("w.bin").exists(), "a reference is forgotten, not deleted");

    let again = a.add(&dir).await?;
    assert_eq!(again.parent, None, "a history of its own");
    assert!(b.read(again.commit, "w.bin", 0).await? == weights);
    Ok(())
}

/// Lists of files that somebody looked at once do not pile up: they go with the files. What is published keeps its
/// history, of which no file may be here any more.
#[tokio::test(flavor = "multi_thread")]
async fn lists_of_files_that_nobody_needs_go_too() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let dir = swarm.folder("repo", &[("w.bin", &noise(1, 9 * MIB))])?;
    let first = a.add(&dir).await?.commit;
    std::fs::write(dir.join("w.bin"), noise(2, 9 * MIB))?;
    let second = a.add(&dir).await?.commit;
    b.pull_from(&[a.id]).await?;
    b.pull_commit(first).await.err().context("its file is gone")?;

    assert_eq!(a.mirror.gc(false).await?.commits, 0);
    assert!(a.store.catalogue().has_manifest(first)?, "it is what the published one descends from");

    let dry = b.mirror.gc(true).await?;
    assert_eq!((dry.files, dry.commits), (2, 0), "of each something is here yet");
    let gone = b.mirror.gc(false).await?;
    assert_eq!((gone.files, gone.commits), (2, 2), "{gone:?}");
    let held = b.store.catalogue().manifests(None, 9)?;
    assert!(held.is_empty() && b.store.catalogue().commits_of(&tiny())?.is_empty(), "{held:?}");
    let seen = b.store.catalogue().get_ref(&tiny(), &Revision::main())?.context("the name stays")?;
    assert_eq!(seen.commit, second);
    assert!(b.read(second, "w.bin", 0).await? == noise(2, 9 * MIB), "and it can be had again");
    Ok(())
}
