//! The real git, and repositories drawn at random.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use hubless_proof::{CommitMeta, NewContent, NewFile, Pointer, TreeEntry, blob_id};
use hubless_types::{BlobId, CommitId, FileMode, RepoPath, Timestamp};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Executable,
    Symlink,
    Lfs,
}

/// Files as `git ls-tree -r` tells of them: path to mode, blob, and the blob's own size.
pub(crate) type Listing = BTreeMap<String, (String, BlobId, u64)>;
/// Folders: path to tree id.
pub(crate) type Folders = BTreeMap<String, String>;

/// A file and its git blob.
#[derive(Debug, Clone)]
pub(crate) struct GeneratedFile {
    pub(crate) path: RepoPath,
    pub(crate) kind: Kind,
    pub(crate) content: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    pub(crate) files: Vec<GeneratedFile>,
    /// Where a submodule lies, which only git's side writes.
    pub(crate) submodule: Option<RepoPath>,
}

impl Case {
    pub(crate) fn meta(&self, parents: Vec<CommitId>) -> CommitMeta {
        CommitMeta {
            parents,
            author_name: "Ada Łovelace".into(),
            author_mail: "ada@example.org".into(),
            time: Timestamp(1_700_000_000),
            message: "Add files\n\nAnd say why.\n".into(),
        }
    }

    pub(crate) fn new_files(&self) -> Result<Vec<NewFile>> {
        self.files.iter().map(new_file).collect()
    }
}

fn new_file(file: &GeneratedFile) -> Result<NewFile> {
    let mode = match file.kind {
        Kind::Executable => FileMode::Executable,
        Kind::Symlink => FileMode::Symlink,
        Kind::Plain | Kind::Lfs => FileMode::Regular,
    };
    let content = match Pointer::parse(&file.content) {
        Some(Pointer { sha256, size }) => NewContent::Lfs { sha256, size },
        // Large files in both forms.
        None if file.content.len() > 1024 && file.content[0] < 128 => {
            NewContent::Git { blob: blob_id(&file.content)?, size: file.content.len() as u64 }
        }
        None => NewContent::Bytes(file.content.clone()),
    };
    Ok(NewFile { path: file.path.clone(), mode, content })
}

fn content() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    let bytes = |len| prop::collection::vec(any::<u8>(), len);
    prop_oneof![
        2 => Just((Kind::Plain, vec![])),
        4 => bytes(1..40).prop_map(|b| (Kind::Plain, b)),
        1 => bytes(1023..1027).prop_map(|b| (Kind::Plain, b)),
        1 => bytes(2000..3000).prop_map(|b| (Kind::Plain, b)),
        2 => bytes(0..40).prop_map(|b| (Kind::Executable, b)),
        2 => "[a-z./]{1,12}".prop_map(|target| (Kind::Symlink, target.into_bytes())),
        2 => (any::<[u8; 32]>(), 0..1_u64 << 40).prop_map(|(d, size)| {
            (Kind::Lfs, Pointer { sha256: hubless_types::Sha256::from_bytes(d), size }.canonical())
        }),
    ]
}

/// Names that sort, quote and match in odd ways, and yet are safe.
const PART: &str = "[a-cB .0~'\"\\\\%é日\\-\\[*:]{1,4}";

/// Up to 14 files of which no two clash.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let path = prop::collection::vec(PART, 1..5).prop_map(|parts| parts.join("/"));
    let files = prop::collection::vec((path.clone(), content()), 0..14);
    (files, prop::option::of(path)).prop_map(|(drawn, submodule)| {
        let mut taken = Taken::default();
        let mut files = Vec::new();
        for (path, (kind, content)) in drawn {
            if let Some(path) = taken.claim(&path) {
                files.push(GeneratedFile { path, kind, content });
            }
        }
        Case { files, submodule: submodule.and_then(|path| taken.claim(&path)) }
    })
}

/// Paths given out, in lower case: files, and the folders above them.
#[derive(Default)]
struct Taken {
    files: HashSet<String>,
    folders: HashSet<String>,
}

impl Taken {
    fn claim(&mut self, path: &str) -> Option<RepoPath> {
        let path: RepoPath = path.parse().ok()?;
        let low = path.as_str().to_lowercase();
        let above: Vec<String> = low.match_indices('/').map(|(i, _)| low[..i].to_owned()).collect();
        let free = !self.files.contains(&low) && !self.folders.contains(&low);
        if !free || above.iter().any(|folder| self.files.contains(folder)) {
            return None;
        }
        self.files.insert(low);
        self.folders.extend(above);
        Some(path)
    }
}

/// A bare-bones repository in a folder of its own.
pub(crate) struct Git {
    dir: tempfile::TempDir,
}

impl Git {
    pub(crate) fn init() -> Result<Self> {
        let git = Self { dir: tempfile::tempdir()? };
        git.text(&["init", "--quiet"])?;
        Ok(git)
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let mut child = Command::new("git")
            .args(args)
            .current_dir(self.dir.path())
            // Nothing of the machine's own settings.
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", self.dir.path())
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@x"), ("GIT_COMMITTER_NAME", "A")])
            .env("GIT_COMMITTER_EMAIL", "a@x")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("git must be installed for these tests")?;
        let mut stdin = child.stdin.take().context("stdin")?;
        let output = std::thread::scope(|scope| {
            // Written beside the reading: git answers while it reads.
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output()
        })?;
        if !output.status.success() {
            bail!("git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    pub(crate) fn text(&self, args: &[&str]) -> Result<String> {
        Ok(String::from_utf8(self.run(args, b"")?)?)
    }

    /// A message as git cleans it.
    pub(crate) fn strip_space(&self, message: &str) -> Result<String> {
        Ok(String::from_utf8(self.run(&["stripspace"], message.as_bytes())?)?)
    }

    /// Stores objects; gives git's ids. Git checks the form of trees and commits as it does.
    pub(crate) fn hash_objects(&self, kind: &str, objects: &[Vec<u8>]) -> Result<Vec<String>> {
        let mut paths = String::new();
        for (i, object) in objects.iter().enumerate() {
            let path = self.dir.path().join(format!("object-{i}"));
            std::fs::write(&path, object)?;
            paths.push_str(&format!("{}\n", path.display()));
        }
        let args = ["hash-object", "-t", kind, "-w", "--no-filters", "--stdin-paths"];
        let ids = String::from_utf8(self.run(&args, paths.as_bytes())?)?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Writes trees whose entries need not exist.
    pub(crate) fn mktree(&self, trees: &[Vec<TreeEntry>]) -> Result<Vec<String>> {
        let mut input = Vec::new();
        for tree in trees {
            for entry in tree {
                let kind = match entry.mode {
                    0o040_000 => "tree",
                    0o160_000 => "commit",
                    _ => "blob",
                };
                let id = BlobId::from_bytes(entry.id);
                input.extend(format!("{:06o} {kind} {id}\t", entry.mode).into_bytes());
                input.extend(&entry.name);
                input.push(0);
            }
            input.push(0);
        }
        let ids = String::from_utf8(self.run(&["mktree", "-z", "--missing", "--batch"], &input)?)?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Files (mode, id, size) and folders (id) of a commit, submodules left out.
    pub(crate) fn ls_tree(&self, commit: &str) -> Result<(Listing, Folders)> {
        let out = self.text(&["ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit])?;
        let (mut files, mut folders) = (BTreeMap::new(), BTreeMap::new());
        for row in out.split_terminator('\0') {
            let (facts, path) = row.split_once('\t').context("a tab")?;
            match facts.split_whitespace().collect::<Vec<_>>()[..] {
                [mode, "blob", id, size] => {
                    drop(files.insert(path.to_owned(), (mode.to_owned(), id.parse()?, size.parse()?)));
                }
                [_, "tree", id, _] => drop(folders.insert(path.to_owned(), id.to_owned())),
                _ => {}
            }
        }
        Ok((files, folders))
    }

    /// Has git write a commit; gives its id.
    pub(crate) fn fast_import(&self, case: &Case) -> Result<String> {
        let meta = case.meta(vec![]);
        let mut input = format!(
            "commit refs/heads/main\ncommitter {} <{}> {} +0000\ndata {}\n{}\ndeleteall\n",
            meta.author_name,
            meta.author_mail,
            meta.time.0,
            meta.message.len(),
            meta.message
        )
        .into_bytes();
        for file in &case.files {
            let mode = match file.kind {
                Kind::Plain | Kind::Lfs => "100644",
                Kind::Executable => "100755",
                Kind::Symlink => "120000",
            };
            let header = format!("M {mode} inline {}\ndata {}\n", quote(&file.path), file.content.len());
            input.extend([header.as_bytes(), &file.content, b"\n"].concat());
        }
        if let Some(path) = &case.submodule {
            input.extend(format!("M 160000 {} {}\n", "9".repeat(40), quote(path)).into_bytes());
        }
        self.run(&["fast-import", "--quiet", "--force"], &input)?;
        Ok(self.text(&["rev-parse", "refs/heads/main"])?.trim().to_owned())
    }

    /// Every object of the repository by its id.
    pub(crate) fn all_objects(&self) -> Result<HashMap<String, Vec<u8>>> {
        let out = self.run(&["cat-file", "--batch", "--batch-all-objects", "--buffer"], b"")?;
        let mut objects = HashMap::new();
        let mut rest = &out[..];
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let header = std::str::from_utf8(&rest[..end])?;
            let [id, _, size] = header.split(' ').collect::<Vec<_>>()[..] else { bail!("{header}") };
            let size: usize = size.parse()?;
            objects.insert(id.to_owned(), rest[end + 1..end + 1 + size].to_vec());
            rest = &rest[end + 2 + size..];
        }
        Ok(objects)
    }
}

fn quote(path: &RepoPath) -> String {
    format!("\"{}\"", path.as_str().replace('\\', "\\\\").replace('"', "\\\""))
}
