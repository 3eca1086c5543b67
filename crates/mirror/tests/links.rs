//! What may be shown before a file is whole, and what becomes of a link that is wrong.

mod common;

use std::time::Duration;

use common::*;
use futures::StreamExt as _;
use hubless_mirror::{AddReport, ErrorKind, MirrorError};
use hubless_store::{DigestKind, ImportMode};
use hubless_transfer::Faults;
use hubless_types::*;

const SLOW: u64 = 512 * 1024;

async fn add_weights(swarm: &Swarm, node: &Node, bytes: &[u8]) -> anyhow::Result<AddReport> {
    Ok(node.add(&swarm.folder("repo", &[("w.bin", bytes)])?).await?)
}

/// Tells a wrong tree for the file of `added`, and holds that tree's bytes.
async fn make_liar(swarm: &Swarm, liar: &Node, added: &AddReport, seed: u64, size: usize) -> TestResult {
    let manifest = liar.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
    let digest = manifest.entries()[0].digest();
    let path = swarm.folder(&format!("lie{seed}"), &[("x", &noise(seed, size))])?.join("x");
    let lie = liar.store.blobs().import(&path, ImportMode::Copy, DigestKind::Sha256, &|_| {})?;
    liar.store.blobs().share(&lie.hash)?;
    let link = Link { digest, hash: lie.hash, size: size as u64, trust: LinkTrust::Proven };
    liar.store.catalogue().put_link(&link)?;
    Ok(())
}

/// By the word of a trusted signer the first bytes are there long before the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_vouched_file_streams_before_it_is_whole() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let b = swarm.node_with(|config| config.trusted = vec![a.id])?;
    let weights = noise(1, 10 * MIB);
    let added = add_weights(&swarm, &a, &weights).await?;
    b.resolve(&[]).await?;
    b.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
    swarm.net.set_faults(a.id, Faults { bytes_per_second: Some(4 * SLOW), ..Faults::default() });

    let whole = ByteRange::whole(10 * MIB as u64);
    let mut reader =
        b.mirror.open_file(&Caller::anyone(), &tiny(), added.commit, &"w.bin".parse()?, whole).await?;
    let first = reader.body.next().await.ok_or_else(|| anyhow::anyhow!("no byte"))??;
    assert_eq!(first, weights[..first.len()]);
    let here = b.mirror.status()?;
    assert_eq!(here.files, 0, "the file is not whole yet");

    swarm.net.set_faults(a.id, Faults::default());
    let mut rest = first.to_vec();
    while let Some(piece) = reader.body.next().await {
        rest.extend_from_slice(&piece?);
    }
    assert!(rest == weights);
    drop(reader);
    let digest = b.mirror.manifest(&Caller::anyone(), None, added.commit).await?.entries()[0].digest();
    eventually("what was shown is proven", async || {
        b.store.catalogue().link(&digest).is_ok_and(|l| l.is_some_and(|l| l.trust == LinkTrust::Proven))
    })
    .await
}

/// Without anybody's word for the link no byte is shown; the client is told to come back, and finds it then.
#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_file_is_whole_before_it_is_shown() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let b = swarm.node_with(|config| config.claimed_wait = Duration::from_millis(300))?;
    let weights = noise(1, 9 * MIB);
    let added = add_weights(&swarm, &a, &weights).await?;
    b.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
    swarm.net.set_faults(a.id, Faults { bytes_per_second: Some(SLOW), ..Faults::default() });
    let error = b.read(added.commit, "w.bin", 0).await.expect_err("it is not whole");
    assert!(matches!(error, MirrorError::NotYet { .. }) && error.kind() == ErrorKind::Busy, "{error}");
    assert!(error.retry_after().is_some_and(|after| after >= Duration::from_secs(1)));

    swarm.net.set_faults(a.id, Faults::default());
    eventually("the fetch goes on by itself", async || b.mirror.status().is_ok_and(|s| s.files == 1)).await?;
    assert!(b.read(added.commit, "w.bin", 0).await? == weights);
    Ok(())
}

/// More liars than honest nodes: their claims are tried, struck, and the right one is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_link_is_struck() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, liar, other) = (swarm.node()?, swarm.node()?, swarm.node()?);
    let b = swarm.node()?;
    let weights = noise(1, 9 * MIB);
    let added = add_weights(&swarm, &a, &weights).await?;
    make_liar(&swarm, &liar, &added, 66, weights.len()).await?;
    make_liar(&swarm, &other, &added, 66, weights.len()).await?;
    assert!(b.pull_commit(added.commit).await.is_ok());
    assert!(b.read(added.commit, "w.bin", 0).await? == weights);
    let digest = b.mirror.manifest(&Caller::anyone(), None, added.commit).await?.entries()[0].digest();
    let truth = a.store.catalogue().link(&digest)?.map(|l| l.hash);
    assert_eq!(
        b.store.catalogue().link(&digest)?.map(|l| (l.hash, l.trust)),
        truth.map(|h| (h, LinkTrust::Proven))
    );
    Ok(())
}

/// Where only liars answer, nothing is shown.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shown_of_a_lie() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, liar, b) = (swarm.node()?, swarm.node()?, swarm.node()?);
    let added = add_weights(&swarm, &a, &noise(1, 9 * MIB)).await?;
    make_liar(&swarm, &liar, &added, 66, 9 * MIB).await?;
    b.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
    // Of the honest node's table nothing is left.
    b.store.catalogue().put_link_table(added.commit, &hubless_proof::LinkTable::default().encode())?;
    swarm.cut(&a);
    let error = b.read(added.commit, "w.bin", 0).await.expect_err("there is only a lie");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    Ok(())
}

/// A manifest whose files clash but for case is refused, and says so; nothing of it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_clashing_manifest_is_refused() -> TestResult {
    use hubless_proof::*;
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let content = b"x".to_vec();
    let id = *blob_id(&content)?.as_bytes();
    let entry = |name: &[u8]| TreeEntry { mode: 0o100_644, name: name.to_vec(), id };
    for (one, two, why) in [(&b"README"[..], &b"readme"[..], "does not tell case"), (b"..", b"x", "`..`")] {
        let tree = write_tree(vec![entry(one), entry(two)])?;
        let commit = write_commit(&NewCommit {
            tree: tree_id(&tree)?,
            parents: vec![],
            author_name: "evil".into(),
            author_mail: String::new(),
            time: START,
            message: "clash".into(),
        })?;
        let evil = commit_id(&commit)?;
        let info = parse_commit(&commit)?;
        let bundle = Bundle { commit, trees: vec![tree], blobs: vec![content.clone()], sizes: vec![] };
        // Only its own catalogue believes that this is a manifest.
        let pretended = Manifest::new(evil, info, vec![], vec![])?;
        a.store.catalogue().put_manifest(Some(&tiny()), &pretended, &bundle.encode(), None)?;
        a.store.catalogue().share_commit(evil)?;
        let error = b.pull_commit(evil).await.expect_err("it cannot be written");
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(source.contains(why), "{source}");
        assert!(!b.store.catalogue().has_manifest(evil)?);
    }
    Ok(())
}

/// A peer that gives a plain file a wrong size is found out by the content, and the manifest is mended.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_size_is_mended() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let text = noise(5, 3000);
    let added = add_weights(&swarm, &a, &text).await?;
    let bytes = a.store.catalogue().bundle(added.commit)?.unwrap_or_default();
    let mut bundle = hubless_proof::Bundle::decode(&bytes)?;
    bundle.sizes[0].1 = 5000;
    let lie = bundle.check(added.commit)?;
    a.store.catalogue().put_manifest(Some(&tiny()), &lie, &bundle.encode(), None)?;
    let error = b.pull_commit(added.commit).await.expect_err("the size is wrong");
    assert!(error.to_string().contains("3000 bytes, not 5000"), "{error}");
    assert_eq!(b.read(added.commit, "w.bin", 0).await?, text);
    Ok(())
}

/// What lies under the root that a liar names is another file, which is kept here: it stays when the lie is struck.
#[tokio::test(flavor = "multi_thread")]
async fn a_struck_link_takes_no_other_file_along() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, liar, b) = (swarm.node()?, swarm.node()?, swarm.node()?);
    let (kept, wanted) = (noise(1, 9 * MIB), noise(2, 9 * MIB));
    let first = add_weights(&swarm, &a, &kept).await?;
    b.mirror.pin(&tiny(), &first.commit.into(), &Caller::anyone()).await?;
    let digest = b.mirror.manifest(&Caller::anyone(), None, first.commit).await?.entries()[0].digest();
    let root = b.store.catalogue().link(&digest)?.ok_or_else(|| anyhow::anyhow!("it is here"))?.hash;

    let second = a.add(&swarm.folder("second", &[("w.bin", &wanted)])?).await?;
    let other =
        liar.mirror.manifest(&Caller::anyone(), Some(&tiny()), second.commit).await?.entries()[0].digest();
    let lie = Link { digest: other, hash: root, size: wanted.len() as u64, trust: LinkTrust::Proven };
    liar.store.catalogue().put_link(&lie)?;
    b.mirror.manifest(&Caller::anyone(), Some(&tiny()), second.commit).await?;
    b.store.catalogue().put_link_table(second.commit, &hubless_proof::LinkTable::default().encode())?;
    swarm.cut(&a);
    assert!(b.read(second.commit, "w.bin", 0).await.is_err(), "there is only a lie");
    assert!(matches!(b.store.blobs().status(&root)?, hubless_store::BlobStatus::Complete { .. }));
    assert!(b.read(first.commit, "w.bin", 0).await? == kept);
    Ok(())
}

/// A small file that a stranger sends in place of another is not stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_small_file_is_not_kept() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, liar, b) = (swarm.node()?, swarm.node()?, swarm.node()?);
    let added = add_weights(&swarm, &a, &noise(1, 5000)).await?;
    let digest =
        liar.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?.entries()[0].digest();
    let junk = noise(66, 5000);
    let lie = liar.store.blobs().import_bytes(&junk, DigestKind::GitBlob)?;
    liar.store.blobs().share(&lie.hash)?;
    let link = Link { digest, hash: lie.hash, size: 5000, trust: LinkTrust::Proven };
    liar.store.catalogue().put_link(&link)?;
    b.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
    b.store.catalogue().put_link_table(added.commit, &hubless_proof::LinkTable::default().encode())?;
    swarm.cut(&a);
    assert!(b.read(added.commit, "w.bin", 0).await.is_err());
    assert_eq!(b.store.catalogue().link(&lie.digest)?, None, "a stranger chose what is served as proven");
    Ok(())
}

/// A size that a stranger makes up for a plain git file is found out, whatever it is, and the file is had.
#[tokio::test(flavor = "multi_thread")]
async fn any_wrong_size_is_mended() -> TestResult {
    for (real, claimed) in [(300_000, 400_000), (300_000, 5000), (3000, 200_000), (500, 100_000)] {
        let swarm = Swarm::new()?;
        let a = swarm.node()?;
        for trusting in [false, true] {
            let b = swarm.node_with(|config| config.trusted.extend(trusting.then_some(a.id)))?;
            let text = noise(5, real);
            let added = add_weights(&swarm, &a, &text).await?;
            if trusting {
                b.resolve(&[]).await?;
            }
            let held = b.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
            let bytes = b.store.catalogue().bundle(added.commit)?.unwrap_or_default();
            let mut bundle = hubless_proof::Bundle::decode(&bytes)?;
            // Contents of at most 1,024 bytes travel in the bundle, unless a liar leaves them out.
            let FileDigest::Git(blob) = held.entries()[0].digest() else { anyhow::bail!("a git file") };
            bundle.blobs.clear();
            bundle.sizes = vec![(blob, claimed)];
            let lie = bundle.check(added.commit)?;
            let table = b.store.catalogue().link_table(added.commit)?;
            b.store.catalogue().put_manifest(Some(&tiny()), &lie, &bundle.encode(), table.as_deref())?;
            let error = b.pull_commit(added.commit).await.expect_err("the size is wrong");
            let said = error.to_string();
            assert!(said.contains(&format!("{real} bytes, not {claimed}")), "{said}");
            assert_eq!(b.read(added.commit, "w.bin", 0).await?, text);
            assert_eq!(b.pull_commit(added.commit).await?.bytes, real as u64);
        }
    }
    Ok(())
}

/// Has `signer` sign that the files of `added` have these links.
fn sign_table(
    swarm: &Swarm,
    signer: &Node,
    seed: u8,
    added: &AddReport,
    table: &hubless_proof::LinkTable,
) -> TestResult {
    let catalogue = signer.store.catalogue();
    catalogue.put_link_table(added.commit, &table.encode())?;
    let body = StatementBody {
        repo: tiny(),
        revision: Revision::main(),
        commit: added.commit,
        origin: None,
        seen: swarm.clock.now().plus(5),
        links: Some(table.id()),
    };
    let key = hubless_proof::NodeKey::from_bytes([seed; 32]);
    catalogue.put_statement(&hubless_proof::sign_statement(body, &key))?;
    Ok(())
}

/// Whom one is trusted for says nothing of files elsewhere, and a lie of theirs that was struck stays struck.
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_signer_speaks_for_one_name() -> TestResult {
    let swarm = Swarm::new()?;
    let (signer, honest) = (swarm.node()?, swarm.node()?);
    let b = swarm.node()?;
    let weights = noise(1, 9 * MIB);
    let added = add_weights(&swarm, &signer, &weights).await?;
    honest.pull_commit(added.commit).await?;
    let digest = signer.mirror.manifest(&Caller::anyone(), None, added.commit).await?.entries()[0].digest();
    let elsewhere = FileDigest::Git(BlobId::from_bytes([7; 20]));
    let path = swarm.folder("lie", &[("x", &noise(66, weights.len()))])?.join("x");
    let lie = signer.store.blobs().import(&path, ImportMode::Copy, DigestKind::Sha256, &|_| {})?;
    signer.store.blobs().share(&lie.hash)?;
    let rows = vec![(digest, lie.hash, lie.size), (elsewhere, lie.hash, lie.size)];
    sign_table(&swarm, &signer, 1, &added, &hubless_proof::LinkTable::new(rows)?)?;

    b.resolve(&[signer.id]).await?;
    swarm.cut(&honest);
    b.mirror.manifest(&Caller::anyone(), Some(&tiny()), added.commit).await?;
    let taken = b
        .mirror
        .open_file(&Caller::anyone(), &tiny(), added.commit, &"w.bin".parse()?, ByteRange::new(0, 10))
        .await;
    assert!(taken.is_ok(), "what the signer says of this commit counts: {:?}", taken.err());
    assert_eq!(b.store.catalogue().link(&elsewhere)?, None);
    drop(taken);

    b.pull_from(&[signer.id]).await?;
    eventually("the lie is struck", async || {
        !b.store.catalogue().link(&digest).is_ok_and(|l| l.is_some_and(|l| l.hash == lie.hash))
    })
    .await?;
    let again = b.read(added.commit, "w.bin", 0).await;
    assert!(again.is_err() || again.is_ok_and(|read| read == weights), "a struck link came back");
    Ok(())
}
