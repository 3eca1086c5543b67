//! Where a pull writes: a plain folder, and a Hugging Face cache.

mod common;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use common::*;
use hubless_mirror::{ErrorKind, PullTo};

/// The folder that comes out is the folder that went in.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_arrives_as_it_was() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let dir = swarm.folder(
        "repo",
        &[
            ("w.bin", &noise(1, 9 * MIB)),
            ("run.sh", b"#!/bin/sh\n"),
            (".gitattributes", b"*"),
            ("日本/x y", b""),
        ],
    )?;
    std::fs::set_permissions(dir.join("run.sh"), std::fs::Permissions::from_mode(0o755))?;
    a.add(&dir).await?;
    let out = swarm.dir.path().join("out");
    let report = b.pull_to(PullTo::Dir(out.clone()), a.id).await?;
    assert_eq!(report.to.as_deref(), Some(out.canonicalize()?.as_path()));
    assert_eq!(files_of(&out)?, files_of(&dir)?);
    assert_ne!(out.join("run.sh").metadata()?.mode() & 0o100, 0);
    assert_eq!(out.join("w.bin").metadata()?.mode() & 0o111, 0);

    // A file that is right is left alone; one that is not is somebody's own, or replaced whole where that is asked for.
    let inode = out.join("w.bin").metadata()?.ino();
    for other in [&b"#!/bin/XX\n"[..], b"longer than what is to be there"] {
        std::fs::write(out.join("run.sh"), other)?;
        let error = b.pull_to(PullTo::Dir(out.clone()), a.id).await.expect_err("a file is in the way");
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.hint().is_some_and(|hint| hint.contains("--overwrite")), "{error}");
        assert_eq!(std::fs::read(out.join("run.sh"))?, other);
    }
    b.pull_over(&out, a.id).await?;
    assert_eq!(out.join("w.bin").metadata()?.ino(), inode);
    assert_eq!(files_of(&out)?, files_of(&dir)?);
    Ok(())
}

/// A symbolic link that somebody left in the folder does not lead a file out of it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_through_a_link() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    a.add(&swarm.folder("repo", &[("sub/a.txt", b"hello"), ("b.txt", b"b")])?).await?;
    let (out, outside) = (swarm.folder("out", &[("x", b"")])?, swarm.folder("outside", &[("b", b"mine")])?);
    std::os::unix::fs::symlink(&outside, out.join("sub"))?;
    let error = b.pull_to(PullTo::Dir(out.clone()), a.id).await.expect_err("a link is in the way");
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(error.to_string().contains("is a symbolic link"), "{error}");
    std::fs::remove_file(out.join("sub"))?;
    // The last part of a path too: it is somebody's own until it may be replaced, and then the link is, not its target.
    let _ = std::fs::remove_file(out.join("b.txt"));
    std::os::unix::fs::symlink(outside.join("b"), out.join("b.txt"))?;
    let error = b.pull_to(PullTo::Dir(out.clone()), a.id).await.expect_err("a link is in the way");
    assert!(error.to_string().contains("is another file"), "{error}");
    b.pull_over(&out, a.id).await?;
    assert_eq!(files_of(&outside)?, [("b".to_owned(), b"mine".to_vec())]);
    assert!(!out.join("b.txt").is_symlink());
    Ok(())
}

/// The cache has the layout that `huggingface_hub` reads, and a second pull changes nothing in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hugging_face_cache_has_its_layout() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let dir = swarm.folder("repo", &[("w.bin", &noise(1, 9 * MIB)), ("onnx/config.json", b"{}")])?;
    let added = a.add(&dir).await?;
    let hub = swarm.dir.path().join("hf/hub");
    std::fs::create_dir_all(&hub)?;
    for _ in 0..2 {
        b.pull_to(PullTo::HfCache(swarm.dir.path().join("hf")), a.id).await?;
        let repo = hub.join("models--acme--tiny");
        let snapshot = repo.join("snapshots").join(added.commit.to_string());
        assert_eq!(std::fs::read_to_string(repo.join("refs/main"))?, added.commit.to_string());
        assert_eq!(files_of(&snapshot)?, files_of(&dir)?);
        let manifest = b.mirror.manifest(&Caller::anyone(), None, added.commit).await?;
        for entry in manifest.entries() {
            let etag = entry.digest().hex();
            let up = "../".repeat(entry.path.parts().count() + 1);
            let link = std::fs::read_link(entry.path.under(&snapshot))?;
            assert_eq!(link.to_str(), Some(format!("{up}blobs/{etag}").as_str()));
        }
        assert_eq!(std::fs::read_dir(repo.join("blobs"))?.count(), 2);
    }
    Ok(())
}
