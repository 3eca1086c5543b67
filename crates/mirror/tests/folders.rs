//! Folders that cannot be added: each error names the path, and what to do.

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::*;
use hubless_mirror::{ErrorKind, MirrorError};

async fn refused(make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<MirrorError> {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let dir = swarm.folder("repo", &[("ok.txt", b"ok")])?;
    make(&dir)?;
    let Err(error) = a.add(&dir).await else { anyhow::bail!("it was added") };
    assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
    assert!(error.hint().is_some(), "{error}");
    assert!(!a.mirror.knows(&tiny())?, "nothing is published");
    Ok(error)
}

fn says(error: &MirrorError, name: &str, why: &str) {
    let text = error.to_string();
    assert!(text.contains(name) && text.contains(why), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_links_and_linked_folders() -> TestResult {
    let error = refused(|dir| Ok(symlink("nowhere", dir.join("gone"))?)).await?;
    says(&error, "gone", "broken symbolic link");
    let error = refused(|dir| Ok(symlink("loop", dir.join("loop"))?)).await?;
    says(&error, "loop", "broken symbolic link");
    let error = refused(|dir| Ok(symlink("/tmp", dir.join("elsewhere"))?)).await?;
    says(&error, "elsewhere", "link to a folder");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file() -> TestResult {
    let error = refused(|dir| Ok(symlink("/dev/null", dir.join("null"))?)).await?;
    says(&error, "null", "is a device");
    let error = refused(|dir| {
        std::os::unix::net::UnixListener::bind(dir.join("socket"))?;
        Ok(())
    })
    .await?;
    says(&error, "socket", "is a socket");
    let error = refused(|dir| {
        let mode = rustix::fs::Mode::from_bits_retain(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        Ok(rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), fifo, mode, 0)?)
    })
    .await?;
    says(&error, "pipe", "is a named pipe");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_cannot_be_kept() -> TestResult {
    let error = refused(|dir| Ok(std::fs::write(dir.join(OsStr::from_bytes(b"caf\xe9")), b"x")?)).await?;
    says(&error, "caf", "not UTF-8");
    let error = refused(|dir| Ok(std::fs::write(dir.join("a\nb"), b"x")?)).await?;
    says(&error, "a\nb", "control character");
    let error = refused(|dir| Ok(std::fs::create_dir(dir.join(".GIT"))?)).await?;
    says(&error, ".GIT", "belongs to git");
    let error = refused(|dir| Ok(std::fs::write(dir.join("OK.txt"), b"x")?)).await?;
    says(&error, "OK.txt", "does not tell case");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_folders_and_pointers() -> TestResult {
    let error = refused(|dir| Ok(std::fs::remove_file(dir.join("ok.txt"))?)).await?;
    says(&error, "repo", "holds no file");
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", "0".repeat(64));
    let error = refused(|dir| Ok(std::fs::write(dir.join("w.bin"), pointer)?)).await?;
    says(&error, "w.bin", "Git LFS pointer");
    let error = refused(|dir| {
        std::fs::remove_dir_all(dir)?;
        Ok(std::fs::write(dir, b"a file")?)
    })
    .await?;
    says(&error, "repo", "is not a folder");
    Ok(())
}

/// What git and the Hub's client keep for themselves is left out; hidden files and linked files are not.
#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_git_is_left_out() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let dir = swarm.folder(
        "repo",
        &[
            (".git/HEAD", b"x"),
            (".cache/huggingface/x", b"x"),
            (".gitattributes", b"*"),
            ("sub/.git/y", b"y"),
            ("sub/z", b"z"),
        ],
    )?;
    symlink("sub/z", dir.join("link"))?;
    let added = a.add(&dir).await?;
    let manifest = a.mirror.manifest(None, added.commit).await?;
    let paths: Vec<&str> = manifest.entries().iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, [".gitattributes", "link", "sub/z"]);
    assert_eq!(a.read(added.commit, "link", 0).await?, b"z");
    Ok(())
}
