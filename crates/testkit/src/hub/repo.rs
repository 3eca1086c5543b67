//! Bare git repositories and the LFS folder beside them, by the real git.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use hubless_proof::{Pointer, blob_id};
use hubless_types::{CommitId, RepoId, Sha256, Timestamp};
use sha2::{Digest as _, Sha256 as Hasher};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::entries::{Entry, listing};

/// Files of this size and more are kept by LFS, unless the test says otherwise.
const LFS_FROM: usize = 1024 * 1024;
/// Most small blobs that are remembered.
const MAX_REMEMBERED: usize = 20_000;
/// Files that the Hub's own `.gitattributes` gives to LFS whatever their size.
const LFS_ENDINGS: [&str; 8] =
    [".safetensors", ".bin", ".gguf", ".parquet", ".onnx", ".arrow", ".tar.gz", ".zip"];

/// A file to be pushed.
#[derive(Debug, Clone)]
pub struct HubFile {
    /// Where it lies.
    pub path: String,
    /// What it holds; for a symbolic link, its target.
    pub bytes: Bytes,
    /// Whether LFS keeps it.
    pub lfs: bool,
    /// Git's mode: 0o100644, 0o100755 or 0o120000.
    pub mode: u32,
}

impl HubFile {
    /// A file where the Hub would keep it: by its size and ending in LFS or in git.
    pub fn new(path: &str, bytes: &[u8]) -> Self {
        let lfs = bytes.len() >= LFS_FROM || LFS_ENDINGS.iter().any(|ending| path.ends_with(ending));
        Self { path: path.to_owned(), bytes: Bytes::copy_from_slice(bytes), lfs, mode: 0o100_644 }
    }

    /// The same file in git itself, whatever its size.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.lfs = false;
        self
    }

    /// The same file in LFS, whatever its size.
    #[must_use]
    pub fn in_lfs(mut self) -> Self {
        self.lfs = true;
        self
    }
}

/// Full names and commits.
type Refs = Arc<Vec<(String, CommitId)>>;

/// All repositories of a hub.
pub(crate) struct Git {
    root: PathBuf,
    lfs: PathBuf,
    listings: Mutex<HashMap<CommitId, Arc<Vec<Entry>>>>,
    refs: Mutex<HashMap<RepoId, Refs>>,
    blobs: Mutex<HashMap<String, Bytes>>,
}

impl Git {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let (root, lfs) = (dir.join("git"), dir.join("lfs"));
        std::fs::create_dir_all(&root)?;
        std::fs::create_dir_all(&lfs)?;
        Ok(Self { root, lfs, listings: Mutex::default(), refs: Mutex::default(), blobs: Mutex::default() })
    }

    /// The folder over all of them, as `git http-backend` wants it.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What stands behind [`Self::root`] in a repository's folder. In lower case: the names' case is the hub's affair.
    pub(crate) fn name(repo: &RepoId) -> String {
        format!("{}/{}.git", repo.kind().plural(), repo.name().to_ascii_lowercase())
    }

    pub(crate) fn dir(&self, repo: &RepoId) -> PathBuf {
        self.root.join(Self::name(repo))
    }

    pub(crate) fn lfs_path(&self, sha256: &str) -> PathBuf {
        self.lfs.join(sha256)
    }

    pub(crate) async fn create(&self, repo: &RepoId) -> Result<()> {
        let dir = self.dir(repo);
        ensure!(!dir.exists(), "{repo} is there already");
        let path = dir.to_string_lossy().into_owned();
        run(&self.root, &["init", "--quiet", "--bare", "--initial-branch=main", &path], b"").await?;
        for (key, value) in [
            ("uploadpack.allowFilter", "true"),
            ("uploadpack.allowAnySHA1InWant", "true"),
            ("http.receivepack", "false"),
            ("gc.auto", "0"),
        ] {
            run(&dir, &["config", key, value], b"").await?;
        }
        Ok(())
    }

    pub(crate) async fn rename(&self, from: &RepoId, to: &RepoId) -> Result<()> {
        locked(&self.refs).clear();
        let (from, to) = (self.dir(from), self.dir(to));
        ensure!(from == to || !to.exists(), "the name is taken");
        std::fs::create_dir_all(to.parent().context("a repository's folder has one above it")?)?;
        Ok(std::fs::rename(from, to)?)
    }

    /// Writes a commit; see [`Hub::push`](super::Hub::push).
    pub(crate) async fn commit(
        &self,
        repo: &RepoId,
        rev: &str,
        files: Vec<HubFile>,
        follows: bool,
        time: Timestamp,
    ) -> Result<CommitId> {
        let (dir, name) = (self.dir(repo), full_name(rev));
        let parent = self.resolve(repo, &name).await?.filter(|_| follows);
        let mut script = Vec::new();
        if !follows {
            script.extend(format!("reset {name}\n").bytes());
        }
        script.extend(format!("commit {name}\ncommitter Ada <ada@example.org> {} +0000\n", time.0).bytes());
        script.extend(b"data 7\nUpload\n\n");
        if let Some(parent) = parent {
            script.extend(format!("from {parent}\n").bytes());
        }
        for file in files {
            let content = if file.lfs { self.keep(&file.bytes).await?.into() } else { file.bytes };
            script.extend(format!("M {:o} inline {}\n", file.mode, quoted(&file.path)).bytes());
            script.extend(format!("data {}\n", content.len()).bytes());
            script.extend(&content);
            script.push(b'\n');
        }
        run(&dir, &["fast-import", "--quiet", "--force"], &script).await?;
        locked(&self.refs).remove(repo);
        self.resolve(repo, &name).await?.context("the commit was just made")
    }

    /// Puts content into LFS; its pointer.
    async fn keep(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let sha256 = Sha256::from_bytes(Hasher::digest(bytes).into());
        tokio::fs::write(self.lfs_path(&sha256.to_string()), bytes).await?;
        Ok(Pointer { sha256, size: bytes.len() as u64 }.canonical())
    }

    pub(crate) async fn point(&self, repo: &RepoId, rev: &str, commit: CommitId) -> Result<()> {
        let (dir, name, commit) = (self.dir(repo), full_name(rev), commit.to_string());
        match name.strip_prefix("refs/tags/") {
            Some(tag) => {
                let args = ["tag", "--annotate", "--force", "--message=A tag", tag, &commit];
                run(&dir, &args, b"").await?;
            }
            None => {
                run(&dir, &["update-ref", &name, &commit], b"").await?;
            }
        }
        locked(&self.refs).remove(repo);
        Ok(())
    }

    /// The commit that a revision names, tags peeled; short ids that are unique count.
    pub(crate) async fn resolve(&self, repo: &RepoId, rev: &str) -> Result<Option<CommitId>> {
        let head = if rev == "HEAD" { "refs/heads/main" } else { rev };
        let refs = self.refs(repo).await?;
        let names = [head.to_owned(), format!("refs/heads/{head}"), format!("refs/tags/{head}")];
        let named = |name: &String| refs.iter().find(|(known, _)| known == name).map(|(_, commit)| *commit);
        if let Some(commit) = names.iter().find_map(named) {
            return Ok(Some(commit));
        }
        if !(7..=40).contains(&head.len()) || !head.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let wanted = format!("{head}^{{commit}}");
        let found = run(&self.dir(repo), &["rev-parse", "--verify", "--quiet", &wanted], b"").await;
        found.ok().map(|out| Ok(text(&out).trim().parse()?)).transpose()
    }

    /// Every ref: its full name and its commit. Remembered until a ref is written here.
    pub(crate) async fn refs(&self, repo: &RepoId) -> Result<Refs> {
        if let Some(refs) = locked(&self.refs).get(repo) {
            return Ok(refs.clone());
        }
        let format = "--format=%(refname) %(objectname) %(*objectname)";
        let out = run(&self.dir(repo), &["for-each-ref", format], b"").await?;
        let mut refs = Vec::new();
        for line in text(&out).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, .., commit] = words[..] else { bail!("git says `{line}`") };
            refs.push((name.to_owned(), commit.parse()?));
        }
        let refs = Arc::new(refs);
        locked(&self.refs).insert(repo.clone(), refs.clone());
        Ok(refs)
    }

    /// All files and folders of a commit, by path.
    pub(crate) async fn entries(&self, repo: &RepoId, commit: CommitId) -> Result<Arc<Vec<Entry>>> {
        if let Some(entries) = locked(&self.listings).get(&commit) {
            return Ok(entries.clone());
        }
        let entries = Arc::new(listing(&self.dir(repo), commit).await?);
        locked(&self.listings).insert(commit, entries.clone());
        Ok(entries)
    }

    /// A git blob, whole.
    pub(crate) async fn blob(&self, repo: &RepoId, id: &str) -> Result<Bytes> {
        if let Some(bytes) = locked(&self.blobs).get(id) {
            return Ok(bytes.clone());
        }
        let bytes = Bytes::from(run(&self.dir(repo), &["cat-file", "blob", id], b"").await?);
        ensure!(blob_id(&bytes)?.to_string() == id, "git gave another blob");
        let mut blobs = locked(&self.blobs);
        if blobs.len() < MAX_REMEMBERED && bytes.len() < LFS_FROM {
            blobs.insert(id.to_owned(), bytes.clone());
        }
        Ok(bytes)
    }

    /// `git log`, with its fields behind NUL and its commits behind a record separator; with a path, only the last
    /// commit that touched it.
    pub(crate) async fn log(&self, repo: &RepoId, commit: CommitId, path: Option<&str>) -> Result<String> {
        let commit = commit.to_string();
        let mut args = vec!["log", "--format=%H%x00%an%x00%cI%x00%B%x1e"];
        match path {
            Some(path) => args.extend(["-1", &commit, "--", path]),
            None => args.push(&commit),
        }
        Ok(text(&run(&self.dir(repo), &args, b"").await?))
    }
}

/// `main` is a branch; a name that begins with `refs/` is whole.
fn full_name(rev: &str) -> String {
    if rev.starts_with("refs/") { rev.to_owned() } else { format!("refs/heads/{rev}") }
}

/// A path as `git fast-import` reads it.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs git with nothing of this user's or this machine's settings.
pub(crate) fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).kill_on_drop(true);
    for (key, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_AUTHOR_NAME", "Ada"),
        ("GIT_AUTHOR_EMAIL", "ada@example.org"),
        ("GIT_COMMITTER_NAME", "Ada"),
        ("GIT_COMMITTER_EMAIL", "ada@example.org"),
        ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ("GIT_COMMITTER_DATE", "1700000000 +0000"),
        ("LC_ALL", "C"),
    ] {
        command.env(key, value);
    }
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command
}

/// Its standard output.
pub(crate) async fn run(dir: &Path, args: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut command = git(dir);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("run git")?;
    let mut stdin = child.stdin.take().context("its input is piped")?;
    let feed = async move {
        // A git that ends early says so by its status.
        let _ = stdin.write_all(input).await;
    };
    let (out, ()) = tokio::join!(child.wait_with_output(), feed);
    let out = out?;
    ensure!(out.status.success(), "git {args:?}: {}", text(&out.stderr));
    Ok(out.stdout)
}
