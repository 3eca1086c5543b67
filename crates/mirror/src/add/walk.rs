//! Lists a folder's files, and refuses what git, or another machine's disk, could not hold.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use hubless_types::{FileMode, MAX_MANIFEST_ENTRIES, RepoPath};
use rustix::io::Errno;

use crate::MirrorError;

/// Deepest nesting of folders.
const MAX_DEPTH: usize = 128;
/// What tells a node's data folder from any other.
const NODE_FILES: [&str; 2] = ["node.key", "format.json"];
/// The executable bit that git looks at: the owner's.
const OWNER_RUNS: u32 = 0o100;

/// A file to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it will lie in the repository.
    pub(crate) path: RepoPath,
    /// Where it is.
    pub(crate) disk: PathBuf,
    /// How git will mark it.
    pub(crate) mode: FileMode,
    /// Its length in bytes.
    pub(crate) size: u64,
}

/// Every file beneath `root`, sorted by path. Hidden ones are listed; `.git`, `.cache/huggingface` and
/// what a killed pull left half written are not.
/// Symbolic links to files are followed. Blocks.
///
/// # Errors
/// [`MirrorError::BadFile`] for the first thing that cannot be added, or if nothing is there;
/// [`MirrorError::Disk`] if something cannot be read.
pub(crate) fn walk(root: &Path) -> Result<Vec<Found>, MirrorError> {
    let meta = match fs::metadata(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(bad(root, "does not exist", "name the folder that holds the repository's files"));
        }
        meta => meta.map_err(|e| disk(root, e))?,
    };
    if !meta.is_dir() {
        return Err(bad(root, "is not a folder", "name the folder that holds the repository's files"));
    }
    let bounds = bounds_of(&root.canonicalize().map_err(|e| disk(root, e))?);
    let mut walk = Walk { bounds, found: Vec::new(), names: HashMap::new() };
    walk.folder(root, None, 0)?;
    if walk.found.is_empty() {
        return Err(bad(root, "holds no file", "put the repository's files in it, and add it again"));
    }
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.found)
}

struct Walk {
    /// Where links may lead.
    bounds: PathBuf,
    found: Vec<Found>,
    /// Every path in lower case, and as it is.
    names: HashMap<String, PathBuf>,
}

impl Walk {
    fn folder(&mut self, dir: &Path, at: Option<&RepoPath>, depth: usize) -> Result<(), MirrorError> {
        if depth > MAX_DEPTH {
            return Err(bad(dir, "lies too deep: at most 128 folders may be nested", "move it further up"));
        }
        let entries = fs::read_dir(dir).map_err(|e| disk(dir, e))?;
        let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(|e| disk(dir, e))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        if NODE_FILES.iter().all(|name| entries.iter().any(|entry| entry.file_name() == *name)) {
            return Err(bad(
                dir,
                "is the data folder of a node, with its secret key",
                "keep the node's data somewhere else, and add the folder without it",
            ));
        }
        for entry in entries {
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(bad(
                    &path,
                    "has a name that is not UTF-8",
                    "rename it, for example with `convmv`",
                ));
            };
            if name != ".git" && !is_hub_cache(at, name) && !is_leftover(name) {
                self.entry(&path, at, name, depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        at: Option<&RepoPath>,
        name: &str,
        depth: usize,
    ) -> Result<(), MirrorError> {
        let place = RepoPath::join(at, name).map_err(|e| {
            bad(path, &format!("has a path that cannot be kept: {}", e.why), "rename it, or move it away")
        })?;
        if let Some(other) = self.names.insert(place.as_str().to_lowercase(), path.to_owned()) {
            let why =
                format!("would be the same file as `{}` on a disk that does not tell case", other.display());
            return Err(bad(path, &why, "rename one of them"));
        }
        let own = fs::symlink_metadata(path).map_err(|e| disk(path, e))?;
        if own.is_dir() {
            return self.folder(path, Some(&place), depth + 1);
        }
        let meta = if own.is_symlink() { target(path, &self.bounds)? } else { own };
        check_kind(path, &meta)?;
        if self.found.len() == MAX_MANIFEST_ENTRIES {
            let why = format!("is one file too many: a repository holds at most {MAX_MANIFEST_ENTRIES}");
            return Err(bad(path, &why, "pack small files together, or split the repository"));
        }
        let mode = if meta.mode() & OWNER_RUNS == 0 { FileMode::Regular } else { FileMode::Executable };
        self.found.push(Found { path: place, disk: path.to_owned(), mode, size: meta.len() });
        Ok(())
    }
}

/// Where `hf download --local-dir` keeps its own notes.
fn is_hub_cache(at: Option<&RepoPath>, name: &str) -> bool {
    name == "huggingface" && at.is_some_and(|at| at.as_str() == ".cache")
}

/// A file that a pull to this folder had begun when it was killed.
fn is_leftover(name: &str) -> bool {
    name.starts_with(".hubless-") && name.ends_with(".tmp")
}

/// Links may lead anywhere in the folder that is added. A snapshot of a Hugging Face cache is made of links to its
/// repository's `blobs`, so there it is the repository's folder.
fn bounds_of(root: &Path) -> PathBuf {
    let cached =
        root.parent().filter(|p| p.file_name().is_some_and(|n| n == "snapshots")).and_then(Path::parent);
    cached.filter(|repo| repo.join("blobs").is_dir()).unwrap_or(root).to_owned()
}

fn target(link: &Path, bounds: &Path) -> Result<Metadata, MirrorError> {
    let meta = match fs::metadata(link) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound || Errno::from_io_error(&e) == Some(Errno::LOOP) => {
            return Err(bad(
                link,
                "is a broken symbolic link",
                "repair it or delete it, and add the folder again",
            ));
        }
        Err(e) => return Err(disk(link, e)),
    };
    if meta.is_dir() {
        return Err(bad(
            link,
            "is a symbolic link to a folder",
            "put the folder itself there, or delete the link",
        ));
    }
    // Whoever made the folder must not be able to have any file of this machine published.
    if meta.is_file() && !link.canonicalize().map_err(|e| disk(link, e))?.starts_with(bounds) {
        return Err(bad(
            link,
            "is a symbolic link that leads out of the folder",
            "put a copy of the file there, or delete the link",
        ));
    }
    Ok(meta)
}

fn check_kind(path: &Path, meta: &Metadata) -> Result<(), MirrorError> {
    let kind = meta.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_fifo() {
        "is a named pipe"
    } else if kind.is_socket() {
        "is a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "is a device"
    } else {
        "is not a regular file"
    };
    Err(bad(path, what, "only regular files can be kept; move it out of the folder"))
}

pub(crate) fn bad(path: &Path, why: &str, hint: &'static str) -> MirrorError {
    MirrorError::BadFile { path: path.to_owned(), why: why.to_owned(), hint }
}

fn disk(path: &Path, source: io::Error) -> MirrorError {
    MirrorError::Disk { action: "read", path: path.to_owned(), source }
}
