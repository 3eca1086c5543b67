//! Reads the layout of a Hugging Face cache: which repositories, refs and snapshots it has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hubless_types::{BlobId, CommitId, FileDigest, FileMode, RepoId, RepoKind, RepoPath, Revision, Sha256};

use crate::add::Found;
use crate::pull::hub_folder;
use crate::{BadFile, MirrorError};

/// Deepest nesting of folders in a snapshot, and of names in `refs`.
const MAX_DEPTH: usize = 128;
/// Longest file in `refs` that is read, in bytes.
const MAX_REF_BYTES: u64 = 128;

/// One repository of a cache.
#[derive(Debug)]
pub(super) struct CachedRepo {
    pub(super) repo: RepoId,
    pub(super) refs: BTreeMap<Revision, CommitId>,
    pub(super) snapshots: Vec<Snapshot>,
}

/// One snapshot: the files that the cache has of a commit, often not all.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) commit: CommitId,
    pub(super) files: Vec<CachedFile>,
}

/// One file of a snapshot.
#[derive(Debug)]
pub(super) struct CachedFile {
    pub(super) found: Found,
    /// What the cache calls the content, by its ETag; `None` where it keeps no links.
    pub(super) etag: Option<FileDigest>,
}

/// Every repository in `cache` (or only one), and what cannot be taken over. Blocks.
pub(super) fn scan(
    cache: &Path,
    only: Option<&RepoId>,
    skipped: &mut Vec<BadFile>,
) -> Result<Vec<CachedRepo>, MirrorError> {
    let hub = hub_folder(cache);
    let mut repos = Vec::new();
    for folder in folder_of(&hub)? {
        let Some(repo) = folder.file_name().and_then(|n| n.to_str()).and_then(repo_of) else { continue };
        if folder.is_dir() && only.is_none_or(|only| *only == repo) {
            repos.push(scan_repo(repo, &folder, skipped)?);
        }
    }
    if repos.is_empty() {
        let what = only.map_or_else(|| "no repository".to_owned(), |repo| format!("no copy of `{repo}`"));
        return Err(MirrorError::BadFile {
            path: cache.to_owned(),
            why: format!("is a cache with {what}"),
            hint: "name the folder that holds `models--…`, most often `~/.cache/huggingface/hub`",
        });
    }
    Ok(repos)
}

/// `models--owner--name` as a repository. A name cannot hold `--` itself.
fn repo_of(folder: &str) -> Option<RepoId> {
    let (kind, name) = folder.split_once("--")?;
    let kind = RepoKind::ALL.into_iter().find(|k| k.plural() == kind)?;
    RepoId::new(kind, &name.replacen("--", "/", 1)).ok()
}

fn scan_repo(repo: RepoId, folder: &Path, skipped: &mut Vec<BadFile>) -> Result<CachedRepo, MirrorError> {
    let mut refs = BTreeMap::new();
    read_refs(&folder.join("refs"), "", 0, &mut refs);
    let mut snapshots = Vec::new();
    let base = folder.join("snapshots");
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    for dir in if base.is_dir() { folder_of(&base)? } else { Vec::new() } {
        let name = dir.file_name().and_then(|n| n.to_str());
        let Some(commit) = name.and_then(|n| n.parse().ok()) else { continue };
        let mut files = Vec::new();
        read_snapshot(&whole, &dir, None, 0, &mut files, skipped)?;
        snapshots.push(Snapshot { commit, files });
    }
    Ok(CachedRepo { repo, refs, snapshots })
}

/// Reads `refs/…`; what is no ref is nothing that a repository needs, and passed over.
fn read_refs(dir: &Path, prefix: &str, depth: usize, refs: &mut BTreeMap<Revision, CommitId>) {
    if depth > MAX_DEPTH {
        return;
    }
    for path in folder_of(dir).unwrap_or_default() {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            read_refs(&path, &format!("{name}/"), depth + 1, refs);
        } else if fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= MAX_REF_BYTES) {
            let commit = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            if let (Ok(revision), Some(commit)) = (name.parse(), commit) {
                refs.insert(revision, commit);
            }
        }
    }
}

/// Links may lead anywhere in `repo_folder`, and nowhere else.
fn read_snapshot(
    repo_folder: &Path,
    dir: &Path,
    at: Option<&RepoPath>,
    depth: usize,
    files: &mut Vec<CachedFile>,
    skipped: &mut Vec<BadFile>,
) -> Result<(), MirrorError> {
    for path in folder_of(dir)? {
        let mut skip = |why: String| {
            skipped.push(BadFile { digest: None, place: Some(path.clone()), used_by: Vec::new(), why });
        };
        let name = path.file_name().and_then(|n| n.to_str());
        let place = match name.map(|name| RepoPath::join(at, name)) {
            Some(Ok(place)) if depth < MAX_DEPTH => place,
            _ => {
                skip("its path cannot be kept".into());
                continue;
            }
        };
        let is_link = fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink());
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() && !is_link => {
                read_snapshot(repo_folder, &path, Some(&place), depth + 1, files, skipped)?;
            }
            Ok(meta) if meta.is_file() => {
                let target = path.canonicalize().unwrap_or_else(|_| path.clone());
                if !target.starts_with(repo_folder) {
                    skip("it is a link that leads out of the repository's folder".into());
                    continue;
                }
                let etag = if is_link { etag_of(&target) } else { None };
                let found = Found { path: place, disk: target, mode: FileMode::Regular, size: meta.size() };
                files.push(CachedFile { found, etag });
            }
            Ok(_) => skip("it is not a regular file".into()),
            Err(e) => skip(format!("it cannot be read: {e}")),
        }
    }
    Ok(())
}

/// The digest that a file in `blobs/` is named by.
fn etag_of(target: &Path) -> Option<FileDigest> {
    let name = target.file_name()?.to_str()?;
    let git = || name.parse::<BlobId>().ok().map(FileDigest::Git);
    name.parse::<Sha256>().ok().map(FileDigest::Sha256).or_else(git)
}

fn folder_of(dir: &Path) -> Result<Vec<PathBuf>, MirrorError> {
    let fail = |source| MirrorError::Disk { action: "read", path: dir.to_owned(), source };
    let entries = fs::read_dir(dir).map_err(fail)?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(fail)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_name_tells_its_repository() {
        let name = |folder| repo_of(folder).map(|r: RepoId| r.to_string());
        assert_eq!(name("models--acme--tiny-v1").as_deref(), Some("acme/tiny-v1"));
        assert_eq!(name("models--gpt2").as_deref(), Some("gpt2"));
        assert_eq!(name("datasets--acme--rows").as_deref(), Some("datasets/acme/rows"));
        for other in [".locks", "version.txt", "models", "models--a--b--c", "things--a--b"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
