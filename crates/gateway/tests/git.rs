//! Stories of git at the door: the real `git` and `git-lfs`.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use common::served::Served;
use common::{TestResult, big_bytes};

/// A plain file that is too large for a bundle.
fn notes() -> Vec<u8> {
    (0..3_000_000_u32).flat_map(|i| (i % 9973).to_le_bytes()).take(3_000_000).collect()
}

/// A node with a history of two commits at a real address.
struct Story {
    served: Served,
    /// The older and the newer commit.
    commits: [String; 2],
}

impl Story {
    async fn begin() -> Result<Self> {
        let served = Served::begin().await?;
        let (big, notes) = (big_bytes(), notes());
        let dir = served.swarm.folder(
            "tiny",
            &[("README.md", b"# tiny\n"), ("notes.txt", &notes), ("a/b/c.txt", b"deep"), ("w.bin", &big)],
        )?;
        let repo = "acme/tiny".parse()?;
        let first = served.node.publish(&repo, dir.clone()).await?.commit;
        served.swarm.folder("tiny", &[("README.md", b"# tiny, again\n")])?;
        let second = served.node.publish(&repo, dir).await?.commit;
        Ok(Self { served, commits: [first.to_string(), second.to_string()] })
    }

    fn url(&self) -> String {
        format!("{}/acme/tiny", self.served.url)
    }

    async fn git(&self, args: &[&str]) -> Result<Output> {
        git(self.served.swarm.dir.path(), args).await
    }

    async fn done(&self, args: &[&str]) -> Result<String> {
        done(self.git(args).await?)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.served.swarm.dir.path().join(name)
    }
}

/// Runs git without this machine's settings, and without asking anybody anything.
async fn git(dir: &Path, args: &[&str]) -> Result<Output> {
    let mut git = Command::new("git");
    git.current_dir(dir)
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", dir)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env_remove("http_proxy");
    Ok(tokio::task::spawn_blocking(move || git.output()).await??)
}

fn done(output: Output) -> Result<String> {
    ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn refused(output: &Output) -> Result<String> {
    ensure!(!output.status.success(), "git did it");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_has_every_commit_and_file() -> TestResult {
    let story = Story::begin().await?;
    story.done(&["clone", "-q", &format!("{}.git", story.url()), "all"]).await?;
    let [first, second] = &story.commits;
    assert_eq!(story.done(&["-C", "all", "rev-list", "main"]).await?, format!("{second}\n{first}"));
    story.done(&["-C", "all", "fsck", "--strict"]).await?;
    assert!(std::fs::read(story.dir("all/notes.txt"))? == notes());
    assert_eq!(std::fs::read_to_string(story.dir("all/a/b/c.txt"))?, "deep");
    assert_eq!(story.done(&["-C", "all", "symbolic-ref", "HEAD"]).await?, "refs/heads/main");
    let pointer = std::fs::read_to_string(story.dir("all/w.bin"))?;
    assert!(pointer.starts_with("version https://git-lfs.github.com/spec/v1\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_clone_is_cut_deepened_and_completed() -> TestResult {
    let story = Story::begin().await?;
    let [first, second] = &story.commits;
    story.done(&["clone", "-q", "--depth", "1", &story.url(), "one"]).await?;
    assert_eq!(&story.done(&["-C", "one", "rev-list", "main"]).await?, second);
    assert_eq!(&story.done(&["-C", "one", "rev-parse", "--is-shallow-repository"]).await?, "true");
    story.done(&["-C", "one", "fetch", "-q", "--unshallow"]).await?;
    assert_eq!(story.done(&["-C", "one", "rev-list", "main"]).await?, format!("{second}\n{first}"));
    assert_eq!(&story.done(&["-C", "one", "rev-parse", "--is-shallow-repository"]).await?, "false");
    story.done(&["-C", "one", "fsck", "--strict"]).await?;
    // One commit by its id.
    story.done(&["init", "-q", "by-id"]).await?;
    story.done(&["-C", "by-id", "fetch", "-q", "--depth", "1", &story.url(), first]).await?;
    story.done(&["-C", "by-id", "checkout", "-q", "FETCH_HEAD"]).await?;
    assert_eq!(std::fs::read_to_string(story.dir("by-id/README.md"))?, "# tiny\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_clone_gets_files_when_it_needs_them() -> TestResult {
    let story = Story::begin().await?;
    for (filter, dir) in [("blob:none", "no-blobs"), ("tree:0", "no-trees"), ("blob:limit=2k", "small")] {
        let filter = format!("--filter={filter}");
        story.done(&["clone", "-q", &filter, "--no-checkout", &story.url(), dir]).await?;
        let missing = story.done(&["-C", dir, "rev-list", "--objects", "--all", "--missing=print"]).await?;
        assert!(missing.lines().any(|line| line.starts_with('?')), "{dir}: something is left out");
        story.done(&["-C", dir, "checkout", "-q", "main"]).await?;
        assert!(std::fs::read(story.dir(dir).join("notes.txt"))? == notes(), "{dir}");
        let old = story.done(&["-C", dir, "show", &format!("{}:README.md", story.commits[0])]).await?;
        assert_eq!(old, "# tiny", "{dir}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_gets_what_is_new() -> TestResult {
    let story = Story::begin().await?;
    story.done(&["clone", "-q", &story.url(), "all"]).await?;
    story.done(&["clone", "-q", "--depth", "1", &story.url(), "one"]).await?;
    let dir = story.served.swarm.folder("tiny", &[("new.txt", b"new")])?;
    let third = story.served.node.publish(&"acme/tiny".parse()?, dir).await?.commit.to_string();
    for clone in ["all", "one"] {
        story.done(&["-C", clone, "pull", "-q"]).await?;
        assert_eq!(story.done(&["-C", clone, "rev-parse", "HEAD"]).await?, third, "{clone}");
        assert_eq!(std::fs::read_to_string(story.dir(clone).join("new.txt"))?, "new");
        story.done(&["-C", clone, "fsck", "--strict"]).await?;
    }
    // Nothing is new.
    story.done(&["-C", "all", "pull", "-q"]).await?;
    Ok(())
}

/// A node that holds only the newest commit says how much that is.
#[tokio::test(flavor = "multi_thread")]
async fn more_history_than_is_held_is_an_honest_error() -> TestResult {
    let story = Story::begin().await?;
    let first = story.commits[0].parse()?;
    story.served.node.store.catalogue().remove_manifest(first)?;
    let whole = refused(&story.git(&["clone", "-q", &story.url(), "all"]).await?)?;
    assert!(
        whole.contains("more history is asked for than is held") && whole.contains("--depth 1"),
        "{whole}"
    );
    let two = refused(&story.git(&["clone", "-q", "--depth", "2", &story.url(), "two"]).await?)?;
    assert!(two.contains("this node has 1 commit from"), "{two}");
    story.done(&["clone", "-q", "--depth", "1", &story.url(), "one"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_said() -> TestResult {
    let story = Story::begin().await?;
    let url = story.url();
    story.done(&["clone", "-q", &url, "all"]).await?;
    story
        .done(&[
            "-C",
            "all",
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
        ])
        .await?;
    let push = refused(&story.git(&["-C", "all", "push", "-q"]).await?)?;
    assert!(push.contains("this node takes no pushes"), "{push}");
    let old = refused(&story.git(&["-c", "protocol.version=0", "clone", "-q", &url, "old"]).await?)?;
    assert!(old.contains("this node speaks version 2"), "{old}");
    let lost = refused(&story.git(&["-C", "all", "fetch", "-q", "origin", &"ab".repeat(20)]).await?)?;
    assert!(lost.contains("not our ref"), "{lost}");
    let nobody = format!("{}/no/body", story.served.url);
    let unknown = refused(&story.git(&["clone", "-q", &nobody, "nobody"]).await?)?;
    assert!(unknown.contains("nobody reached knows the repository"), "{unknown}");
    let branch = refused(&story.git(&["clone", "-q", "-b", "nope", &url, "nope"]).await?)?;
    assert!(branch.contains("nope"), "{branch}");
    Ok(())
}

/// Large files come through LFS, whole and right, by git-lfs's own client.
#[tokio::test(flavor = "multi_thread")]
async fn git_lfs_gets_the_large_files() -> TestResult {
    let story = Story::begin().await?;
    let lfs = story.git(&["lfs", "version"]).await?;
    ensure!(lfs.status.success(), "there is no git-lfs: scripts/test installs it");
    story.done(&["lfs", "install", "--skip-repo"]).await?;
    let dir = story
        .served
        .swarm
        .folder("tiny", &[(".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n")])?;
    story.served.node.publish(&"acme/tiny".parse()?, dir).await?;
    story.done(&["clone", "-q", "--depth", "1", &story.url(), "with-lfs"]).await?;
    assert!(std::fs::read(story.dir("with-lfs/w.bin"))? == big_bytes());
    story.done(&["-C", "with-lfs", "lfs", "fsck"]).await?;
    Ok(())
}

/// A swarm's second node serves to git what it pulls from the first as it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_only_a_peer_holds_is_cloned() -> TestResult {
    let swarm = hubless_testkit::Swarm::new()?;
    let first = swarm.node()?;
    let notes = notes();
    let dir = swarm.folder("tiny", &[("README.md", b"# tiny\n"), ("notes.txt", &notes)])?;
    first.publish(&"acme/tiny".parse()?, dir).await?;
    let second = swarm.node_trusting(vec![first.id])?;
    let served = Served::of(swarm, second).await?;
    let url = format!("{}/acme/tiny", served.url);
    let root = served.swarm.dir.path().to_owned();
    done(git(&root, &["clone", "-q", "--depth", "1", &url, "clone"]).await?).context("clone")?;
    assert!(std::fs::read(root.join("clone/notes.txt"))? == notes);
    Ok(())
}
