//! A manifest: the files of one commit.

use std::collections::HashMap;
use std::ops::Range;

use crate::{BlobId, CommitId, FileDigest, ParseError, RepoPath, Sha256, Timestamp, TreeId};

/// Files of this size and more are shards: announced by themselves, and written by `add` as LFS files.
pub const SHARD_MIN_BYTES: u64 = 8 * 1024 * 1024;
/// `add` writes files of this size and more as LFS files, so that every shard it makes has a sha256.
pub const LFS_MIN_BYTES: u64 = SHARD_MIN_BYTES;
/// Longest LFS pointer, in bytes (git-lfs reads no longer one); shorter blobs travel with the manifest.
pub const POINTER_MAX_BYTES: u64 = 1024;
/// Most files in a manifest that this program takes.
pub const MAX_MANIFEST_ENTRIES: usize = 2_000_000;

/// How git marks a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileMode {
    /// 100644 (and the historical 100664).
    Regular,
    /// 100755.
    Executable,
    /// 120000: the content is the target. It is served and written as a plain file, never as a link.
    Symlink,
}

/// What an LFS pointer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Lfs {
    /// Digest of the real content.
    pub sha256: Sha256,
    /// Length of the pointer itself, in bytes.
    pub pointer_size: u64,
}

/// One file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct FileEntry {
    /// Where it lies.
    pub path: RepoPath,
    /// How git marks it.
    pub mode: FileMode,
    /// The git blob: of the file, or of its pointer.
    pub blob: BlobId,
    /// Length of the real content in bytes. For a plain git file it is proven only with the content.
    pub size: u64,
    /// Set if the file is kept by LFS.
    pub lfs: Option<Lfs>,
}

impl FileEntry {
    /// What names its content.
    pub fn digest(&self) -> FileDigest {
        self.lfs.map_or(FileDigest::Git(self.blob), |lfs| FileDigest::Sha256(lfs.sha256))
    }

    /// Whether it is announced by itself.
    pub fn is_shard(&self) -> bool {
        self.lfs.is_some() && self.size >= SHARD_MIN_BYTES
    }
}

/// What a commit object says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct CommitInfo {
    /// Its root folder.
    pub tree: TreeId,
    /// What it follows.
    pub parents: Vec<CommitId>,
    /// Who wrote it: `Name <mail>`.
    pub author: String,
    /// When it was committed.
    pub time: Timestamp,
    /// The message, whole.
    pub message: String,
}

impl CommitInfo {
    /// The first line of the message.
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// The files of one commit, sorted by path.
///
/// Values are made by `proof` from git objects that hash up to [`Manifest::commit`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    commit: CommitId,
    info: CommitInfo,
    entries: Vec<FileEntry>,
    /// Subfolders and their tree ids, sorted by path.
    folders: Vec<(RepoPath, TreeId)>,
}

/// Why a set of files is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A path that could escape or clash.
    #[error(transparent)]
    Path(#[from] ParseError),
    /// Two files that would be one on a disk that does not tell case, or a file that is also a folder.
    #[error("`{first}` and `{second}` would be the same file on a disk that does not tell case")]
    Clash {
        /// The one.
        first: RepoPath,
        /// The other.
        second: RepoPath,
    },
    /// More than [`MAX_MANIFEST_ENTRIES`].
    #[error("it lists {count} files; at most {MAX_MANIFEST_ENTRIES} are taken")]
    TooMany {
        /// How many it lists.
        count: usize,
    },
}

impl Manifest {
    /// Sorts and checks what `proof` read.
    ///
    /// # Errors
    /// [`ManifestError`] if there are too many files, or two of them clash.
    pub fn new(
        commit: CommitId,
        info: CommitInfo,
        mut entries: Vec<FileEntry>,
        mut folders: Vec<(RepoPath, TreeId)>,
    ) -> Result<Self, ManifestError> {
        if entries.len() > MAX_MANIFEST_ENTRIES {
            return Err(ManifestError::TooMany { count: entries.len() });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        folders.sort_by(|a, b| a.0.cmp(&b.0));
        check_clashes(&entries, &folders)?;
        Ok(Self { commit, info, entries, folders })
    }

    /// The commit whose files these are.
    pub const fn commit(&self) -> CommitId {
        self.commit
    }

    /// What the commit object says.
    pub const fn info(&self) -> &CommitInfo {
        &self.info
    }

    /// Every file, by path.
    pub fn entries(&self) -> &[FileEntry] {
        &self.entries
    }

    /// Every folder below the root with its tree id, by path.
    pub fn folders(&self) -> &[(RepoPath, TreeId)] {
        &self.folders
    }

    /// The file at `path`.
    pub fn entry(&self, path: &RepoPath) -> Option<&FileEntry> {
        let i = self.entries.binary_search_by(|e| e.path.cmp(path)).ok()?;
        self.entries.get(i)
    }

    /// The tree id of the folder at `path`.
    pub fn folder(&self, path: &RepoPath) -> Option<TreeId> {
        let i = self.folders.binary_search_by(|f| f.0.cmp(path)).ok()?;
        self.folders.get(i).map(|f| f.1)
    }

    /// The files beneath `folder`, at any depth.
    pub fn entries_under(&self, folder: &RepoPath) -> &[FileEntry] {
        &self.entries[span_under(&self.entries, folder, |e| &e.path)]
    }

    /// The folders beneath `folder`, at any depth.
    pub fn folders_under(&self, folder: &RepoPath) -> &[(RepoPath, TreeId)] {
        &self.folders[span_under(&self.folders, folder, |f| &f.0)]
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|e| e.size).fold(0, u64::saturating_add)
    }
}

/// Where the items beneath `folder` stand in a slice sorted by path: `folder/` to `folder0` (`0` follows `/`).
fn span_under<T>(sorted: &[T], folder: &RepoPath, path: impl Fn(&T) -> &RepoPath) -> Range<usize> {
    let first = format!("{folder}/");
    let past = format!("{folder}0");
    let start = sorted.partition_point(|t| path(t).as_str() < first.as_str());
    let end = sorted.partition_point(|t| path(t).as_str() < past.as_str());
    start..end
}

fn check_clashes(entries: &[FileEntry], folders: &[(RepoPath, TreeId)]) -> Result<(), ManifestError> {
    let mut seen: HashMap<String, &RepoPath> = HashMap::with_capacity(entries.len());
    for path in entries.iter().map(|e| &e.path) {
        if let Some(first) = seen.insert(path.as_str().to_lowercase(), path) {
            return Err(ManifestError::Clash { first: first.clone(), second: path.clone() });
        }
    }
    for folder in folders.iter().map(|f| &f.0) {
        if let Some(&file) = seen.get(&folder.as_str().to_lowercase()) {
            return Err(ManifestError::Clash { first: file.clone(), second: folder.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(paths: &[&str], folders: &[&str]) -> Result<Manifest, ManifestError> {
        let entry = |path: &&str| FileEntry {
            path: path.parse().unwrap(),
            mode: FileMode::Regular,
            blob: BlobId::from_bytes([1; 20]),
            size: 3,
            lfs: None,
        };
        let info = CommitInfo {
            tree: TreeId::from_bytes([2; 20]),
            parents: vec![],
            author: "A <a@example.org>".into(),
            time: Timestamp(1),
            message: "first\n\nmore".into(),
        };
        let folders = folders.iter().map(|f| (f.parse().unwrap(), TreeId::from_bytes([3; 20]))).collect();
        Manifest::new(CommitId::from_bytes([4; 20]), info, paths.iter().map(entry).collect(), folders)
    }

    #[test]
    fn names_equal_but_for_case_are_refused() {
        assert!(matches!(manifest(&["README", "readme"], &[]), Err(ManifestError::Clash { .. })));
        assert!(matches!(manifest(&["a", "A/b"], &["A"]), Err(ManifestError::Clash { .. })));
        assert!(manifest(&["a/x", "b/x"], &["a", "b"]).is_ok());
    }

    #[test]
    fn a_folder_holds_what_lies_beneath_it() {
        let m = manifest(&["a.txt", "a/1", "a/b/2", "a0", "a-b"], &["a", "a/b"]).unwrap();
        let under: Vec<_> = m.entries_under(&"a".parse().unwrap()).iter().map(|e| e.path.as_str()).collect();
        assert_eq!(under, ["a/1", "a/b/2"]);
        assert_eq!(m.folders_under(&"a".parse().unwrap()).len(), 1);
        assert_eq!((m.total_bytes(), m.info().title()), (15, "first"));
        assert!(m.entry(&"a/b/2".parse().unwrap()).is_some() && m.folder(&"a/1".parse().unwrap()).is_none());
    }
}
