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
    let manifest = a.mirror.manifest(&Caller::anyone(), None, added.commit).await?;
    let paths: Vec<&str> = manifest.entries().iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, [".gitattributes", "link", "sub/z"]);
    assert_eq!(a.read(added.commit, "link", 0).await?, b"z");
    Ok(())
}

/// Whoever made the folder must not get another file of this machine published.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leads_out_of_the_folder() -> TestResult {
    let error = refused(|dir| {
        let secret = dir.with_file_name("secret");
        std::fs::write(&secret, b"secret")?;
        Ok(symlink("../secret", dir.join("vocab.txt"))?)
    })
    .await?;
    says(&error, "vocab.txt", "leads out of the folder");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_inside_the_folder_or_its_cache_is_followed() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let dir = swarm.folder("repo", &[("a/x.txt", b"x")])?;
    symlink("a/x.txt", dir.join("y.txt"))?;
    assert_eq!(a.add(&dir).await?.files, 2);
    let cache = swarm.folder("models--acme--tiny", &[("blobs/abc", b"z"), ("snapshots/1/keep", b"k")])?;
    symlink("../../blobs/abc", cache.join("snapshots/1/z.txt"))?;
    assert_eq!(a.add(&cache.join("snapshots/1")).await?.files, 2);
    Ok(())
}

/// A node's data folder holds its secret key.
#[tokio::test(flavor = "multi_thread")]
async fn the_data_folder_of_a_node() -> TestResult {
    let error = refused(|dir| {
        std::fs::create_dir(dir.join("data"))?;
        std::fs::write(dir.join("data/node.key"), b"key")?;
        Ok(std::fs::write(dir.join("data/format.json"), b"{}")?)
    })
    .await?;
    says(&error, "data", "is the data folder of a node");
    Ok(())
}

/// Who stops waiting for an `add` publishes nothing, and the next one waits until it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_is_given_up_publishes_nothing() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let dir = swarm.folder("repo", &[])?;
    std::fs::create_dir_all(&dir)?;
    for i in 0..60 {
        std::fs::write(dir.join(format!("{i}.bin")), noise(i, MIB))?;
    }
    let (sink, mut told) = tokio::sync::mpsc::channel(hubless_mirror::PROGRESS_QUEUE);
    let adding = a.mirror.add(hubless_mirror::AddRequest::new(&dir, tiny()), sink);
    tokio::select! {
        done = adding => anyhow::bail!("it ended before it told of anything: {done:?}"),
        first = told.recv() => anyhow::ensure!(first.is_some()),
    }
    let other = swarm.folder("other", &[("a", b"a")])?;
    a.mirror.add(hubless_mirror::AddRequest::new(&other, "acme/other".parse()?), ignore()).await?;
    // Long enough for all of it, if it went on regardless.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(a.mirror.refs(&tiny())?.is_empty(), "nobody waited for it");
    assert_eq!(a.store.catalogue().pins()?.len(), 1);
    Ok(())
}

/// What a killed pull left half written is no file of the repository.
#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_pull_are_not_added() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let left: [(&str, &[u8]); 2] = [("a", b"a"), ("sub/.hubless-00112233445566ff.tmp", b"half")];
    assert_eq!(a.add(&swarm.folder("repo", &left)?).await?.files, 1);
    Ok(())
}
