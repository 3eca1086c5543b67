//! Taking over a Hugging Face cache.

mod common;

use std::path::PathBuf;

use common::*;
use hubless_mirror::{AdoptRequest, PullTo, RefSource, ResolvedBy};
use hubless_types::{CommitId, Revision};

/// A cache as the Hub's client leaves it: written by a pull, with the commit's id.
async fn cache(swarm: &Swarm, publisher: &Node) -> anyhow::Result<(PathBuf, CommitId, PathBuf)> {
    let dir = swarm.folder(
        "repo",
        &[("w.bin", &noise(1, 9 * MIB)), ("sub/c.json", b"{}"), ("m.txt", &noise(2, 5000))],
    )?;
    let added = publisher.add(&dir).await?;
    let cache = swarm.dir.path().join("hf");
    let helper = swarm.node()?;
    helper.pull_to(PullTo::HfCache(cache.clone()), publisher.id).await?;
    swarm.cut(&helper);
    Ok((cache, added.commit, dir))
}

fn request(cache: &std::path::Path) -> AdoptRequest {
    AdoptRequest { cache: cache.to_owned(), only: None, share: false }
}

/// The original's name and id are served from the cache's own files, offline; peers get no unproven manifest.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_served_under_its_own_commit() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node()?;
    let (cache, original, dir) = cache(&swarm, &publisher).await?;
    swarm.cut(&publisher);
    let (a, b) = (swarm.node()?, swarm.node()?);
    let shared = || AdoptRequest { share: true, ..request(&cache) };
    let report = a.mirror.adopt(shared(), ignore()).await?;
    assert!(report.skipped.is_empty(), "{report:?}");
    let [adopted] = &report.repos[..] else { anyhow::bail!("{report:?}") };
    assert_eq!((adopted.files, adopted.refs.clone()), (3, vec![(Revision::main(), original)]));
    let (named, own) = adopted.snapshots[0];
    assert!(named == original && own != original);

    let resolved = a.resolve(&[]).await?;
    assert_eq!((resolved.commit, resolved.by), (original, ResolvedBy::LastSeen { by: RefSource::Adopted }));
    assert_eq!(a.mirror.manifest(&Caller::anyone(), Some(&tiny()), original).await?.commit(), original);
    for (path, bytes) in files_of(&dir)? {
        assert_eq!(a.read(original, &path, 0).await?, bytes, "{path}");
    }
    assert!(a.mirror.status()?.owned_bytes < 2048, "files stay where they are");
    assert_eq!(a.mirror.gc(false).await?.files, 0, "what was adopted is pinned");

    assert!(b.pull_commit(original).await.is_err(), "nobody can prove it");
    assert_eq!(b.pull_commit(own).await?.files, 3, "the commit that stands for it proves itself");

    let again = a.mirror.adopt(shared(), ignore()).await?;
    assert_eq!(again.repos[0].snapshots, adopted.snapshots, "no new commit is made");
    Ok(())
}

/// When the real git objects come, they are taken, and no file is fetched.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_commit_finds_its_files_here() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node()?;
    let (cache, original, _) = cache(&swarm, &publisher).await?;
    let a = swarm.node()?;
    a.mirror.adopt(request(&cache), ignore()).await?;
    let report = a.pull_commit(original).await?;
    assert_eq!(report.from, [("here".to_owned(), report.bytes)]);
    assert!(a.store.catalogue().has_manifest(original)?);
    let resolved = a.mirror.resolve(&tiny(), &Revision::main(), &Caller::taking([publisher.id])).await?;
    assert_eq!(resolved.commit, original);
    Ok(())
}

/// A file whose content is not what its name says is left out and named; so is a broken link.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_left_out() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node()?;
    let (cache, original, _) = cache(&swarm, &publisher).await?;
    let snapshot = cache.join("models--acme--tiny/snapshots").join(original.to_string());
    std::fs::write(snapshot.join("m.txt"), b"changed")?;
    std::os::unix::fs::symlink("../../blobs/none", snapshot.join("gone"))?;
    let a = swarm.node()?;
    let report = a.mirror.adopt(request(&cache), ignore()).await?;
    assert_eq!(report.repos[0].files, 2);
    let why: Vec<&str> = report.skipped.iter().map(|s| s.why.as_str()).collect();
    assert!(
        why.iter().any(|w| w.contains("not what its name"))
            && why.iter().any(|w| w.contains("cannot be read")),
        "{why:?}"
    );
    let none = AdoptRequest { only: Some("acme/other".parse()?), ..request(&cache) };
    let error = a.mirror.adopt(none, ignore()).await.expect_err("there is none");
    assert!(error.to_string().contains("no copy of `acme/other`"), "{error}");
    Ok(())
}

/// What was adopted for this node alone is not told of when it is pinned or pulled here.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_shared_is_told_to_nobody() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node()?;
    let (cache, original, _) = cache(&swarm, &publisher).await?;
    swarm.cut(&publisher);
    let a = swarm.node()?;
    let report = a.mirror.adopt(request(&cache), ignore()).await?;
    let (_, own) = report.repos[0].snapshots[0];
    a.mirror.pin(&tiny(), &Revision::main(), &Caller::anyone()).await?;
    for commit in [original, own] {
        a.pull_commit(commit).await?;
    }
    assert_eq!(a.store.catalogue().scheduled_count()?, 0);
    let shared = AdoptRequest { share: true, ..request(&cache) };
    a.mirror.adopt(shared, ignore()).await?;
    assert_eq!(a.store.catalogue().scheduled_count()?, 3, "commit, name and shard");
    Ok(())
}

/// Who knows the commit, the digests and the roots of what was adopted for this node alone is given none of it. Shared,
/// it is given to everybody.
#[tokio::test(flavor = "multi_thread")]
async fn who_knows_what_is_not_shared_gets_nothing_of_it() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node()?;
    let (cache, _, dir) = cache(&swarm, &publisher).await?;
    swarm.cut(&publisher);
    let (a, b) = (swarm.node()?, swarm.node()?);
    let report = a.mirror.adopt(request(&cache), ignore()).await?;
    let (_, own) = report.repos[0].snapshots[0];
    assert!(b.pull_commit(own).await.is_err(), "nobody gives the manifest");
    // The bundle itself reached it some other way.
    let (from, to) = (a.store.catalogue(), b.store.catalogue());
    let (manifest, bundle) =
        (from.manifest(own)?.expect("it is here"), from.bundle(own)?.expect("it is here"));
    to.put_manifest(Some(&tiny()), &manifest, &bundle, from.link_table(own)?.as_deref())?;
    let fetched = swarm.net.sent_by(a.id);
    assert!(b.pull_commit(own).await.is_err(), "and nobody the files");
    assert!(swarm.net.sent_by(a.id) - fetched < 1000, "not a byte of them");
    a.mirror.adopt(AdoptRequest { share: true, ..request(&cache) }, ignore()).await?;
    let c = swarm.node()?;
    c.pull_commit(own).await?;
    for (path, bytes) in files_of(&dir)? {
        assert_eq!(c.read(own, &path, 0).await?, bytes, "{path}");
    }
    Ok(())
}
