//! A model added on one node reaches others, with no hub anywhere.

mod common;

use common::*;
use hubless_discovery::DhtKey;
use hubless_mirror::{Accept, ErrorKind, Progress, PullRequest};
use hubless_store::BlobStatus;
use hubless_transfer::Faults;
use hubless_types::{FileDigest, Revision};

/// All large files of a repository are planned together, so that nodes which begin at the same moment do not all ask for
/// the same few first.
#[tokio::test(flavor = "multi_thread")]
async fn all_files_are_begun_before_one_is_done() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let weights: Vec<(String, Vec<u8>)> =
        (0..10).map(|n| (format!("model-{n}.safetensors"), noise(n, 4 * MIB))).collect();
    let files: Vec<(&str, &[u8])> = weights.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    a.add(&swarm.folder("repo", &files)?).await?;
    swarm.set_faults(&a, Faults { bytes_per_second: Some(2_000_000), ..Faults::default() });

    let begun = async || {
        let rows = b.store.catalogue().blobs(None, 100).unwrap_or_default();
        let partial = |hash| matches!(b.store.blobs().status(hash), Ok(BlobStatus::Partial { .. }));
        rows.iter().filter(|(hash, _)| partial(hash)).count() == weights.len()
    };
    let from_a = [a.id];
    tokio::select! {
        pulled = b.pull_from(&from_a) => anyhow::bail!("it was done first: {pulled:?}"),
        all = eventually("all files are begun", begun) => all,
    }
}

/// A adds; B and C pull by name; A is cut off; D pulls from B and C alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_outlives_the_node_that_added_it() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b, c, d) = (swarm.node()?, swarm.node()?, swarm.node()?, swarm.node()?);
    let weights = noise(1, 12 * MIB + 77);
    let medium = noise(2, 300_000);
    let files: [(&str, &[u8]); 6] = [
        ("config.json", b"{}"),
        ("empty", b""),
        ("model.safetensors", &weights),
        ("tokenizer.json", &medium),
        ("sub/copy.json", &medium),
        ("vocab.txt", &noise(3, 20_000)),
    ];
    let dir = swarm.folder("repo", &files)?;
    let added = a.add(&dir).await?;

    let from_a = [a.id];
    let (to_b, to_c) = tokio::join!(b.pull_from(&from_a), c.pull_from(&from_a));
    assert_eq!((to_b?.commit, to_c?.commit), (added.commit, added.commit));
    let digest = added_digest(&a, &added, "model.safetensors").await?;
    let FileDigest::Sha256(sha256) = digest else { anyhow::bail!("{digest} is no LFS file") };
    for key in [DhtKey::Commit(added.commit), DhtKey::Repo(tiny()), DhtKey::Shard(sha256)] {
        b.announced(&swarm, &d, key).await?;
    }

    swarm.cut(&a);
    let report = d.pull_from(&from_a).await?;
    assert_eq!((report.commit, report.files), (added.commit, 6));
    let names: Vec<&str> = report.from.iter().map(|(name, _)| name.as_str()).collect();
    assert!(!names.contains(&a.id.short().as_str()), "{names:?}");
    assert!(swarm.net.sent(b.id, d.id) + swarm.net.sent(c.id, d.id) > 12 * MIB as u64);
    for (path, bytes) in files {
        assert_eq!(d.read(added.commit, path, 0).await?, bytes, "{path}");
    }
    assert_eq!(d.read(added.commit, "model.safetensors", 5_000_001).await?, weights[5_000_001..]);
    for node in [a, b, c, d] {
        node.mirror.shutdown().await;
    }
    Ok(())
}

async fn added_digest(
    node: &Node,
    added: &hubless_mirror::AddReport,
    path: &str,
) -> anyhow::Result<FileDigest> {
    let manifest = node.mirror.manifest(&Caller::anyone(), None, added.commit).await?;
    manifest.entry(&path.parse()?).map(|e| e.digest()).ok_or_else(|| anyhow::anyhow!("no {path}"))
}

/// A commit id needs nobody's word, and a second pull fetches nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_needs_nobodys_word() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let weights = noise(1, 9 * MIB);
    let added = a.add(&swarm.folder("repo", &[("w.bin", &weights), ("s.txt", b"small")])?).await?;
    let report = b.pull_commit(added.commit).await?;
    assert_eq!(report.bytes, added.bytes);
    assert_eq!(b.read(added.commit, "w.bin", 0).await?, weights);

    let sent = swarm.net.sent(a.id, b.id);
    let again = b.pull_commit(added.commit).await?;
    assert_eq!(again.from, [("here".to_owned(), added.bytes)]);
    assert_eq!(swarm.net.sent(a.id, b.id), sent);
    Ok(())
}

/// A pull tells how much there is, how far it is, and each file that is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_tells_how_far_it_is() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let added = a.add(&swarm.folder("repo", &[("w.bin", &noise(1, MIB)), ("s.txt", b"small")])?).await?;
    let (sink, mut told) = tokio::sync::mpsc::channel(hubless_mirror::PROGRESS_QUEUE);
    let mut request = PullRequest::all(tiny(), Revision::main());
    request.accept = Accept { from: vec![a.id] };
    b.mirror.pull(request, sink).await?;
    let (mut total, mut done, mut files) = (0, 0, 0);
    while let Some(progress) = told.recv().await {
        match progress {
            Progress::Total { bytes, .. } => total = bytes,
            Progress::Bytes { done: bytes, .. } => done = bytes,
            Progress::File { .. } => files += 1,
            Progress::Note { .. } => {}
        }
    }
    assert_eq!((total, done, files), (added.bytes, added.bytes, 2));
    Ok(())
}

/// Globs choose; a choice of nothing is an error that says so.
#[tokio::test(flavor = "multi_thread")]
async fn globs_choose_files() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let added =
        a.add(&swarm.folder("repo", &[("a.json", b"1"), ("b.bin", b"2"), ("x/c.json", b"3")])?).await?;
    let mut request = PullRequest::all(tiny(), added.commit.into());
    request.include = vec!["*.json".into()];
    request.exclude = vec!["x/*".into()];
    assert_eq!(b.mirror.pull(request.clone(), ignore()).await?.files, 1);
    request.include = vec!["*.onnx".into()];
    let error = b.mirror.pull(request, ignore()).await.expect_err("nothing passes");
    assert_eq!(error.kind(), ErrorKind::BadInput);
    Ok(())
}

/// With nobody there, what is asked for is not found, and says what.
#[tokio::test(flavor = "multi_thread")]
async fn alone_a_node_says_what_it_lacks() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let added = a.add(&swarm.folder("repo", &[("a.txt", b"hello")])?).await?;
    swarm.cut(&a);
    let error = b.pull_commit(added.commit).await.expect_err("nobody has it");
    assert!(error.to_string().contains(&added.commit.to_string()), "{error}");
    assert!(error.hint().is_some());
    Ok(())
}
