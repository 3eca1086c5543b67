//! A new commit from a list of files: pointers, trees, commit object, and the bundle that proves them.

use std::collections::{HashMap, HashSet};

use hubless_types::{
    BlobId, CommitId, FileMode, Manifest, POINTER_MAX_BYTES, RepoPath, Sha256, Timestamp, TreeId,
};

use crate::{Bundle, NewCommit, Pointer, ProofError, TreeEntry, blob_id, commit_id, tree_id};
use crate::{write_commit, write_tree};

/// A file of a new commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Where it lies.
    pub path: RepoPath,
    /// How git marks it.
    pub mode: FileMode,
    /// What it holds.
    pub content: NewContent,
}

/// What a new file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewContent {
    /// A file kept by LFS: git gets its pointer.
    Lfs {
        /// Digest of the file.
        sha256: Sha256,
        /// Its length in bytes.
        size: u64,
    },
    /// A plain file of more than [`POINTER_MAX_BYTES`] bytes, hashed by the caller.
    Git {
        /// Its id.
        blob: BlobId,
        /// Its length in bytes.
        size: u64,
    },
    /// A plain file, whole; the only form for one of at most [`POINTER_MAX_BYTES`] bytes. Content that is an
    /// LFS pointer makes the file that it stands for, as it does in git.
    Bytes(Vec<u8>),
}

/// What a new commit says beside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMeta {
    /// What it follows.
    pub parents: Vec<CommitId>,
    /// Author and committer.
    pub author_name: String,
    /// Their mail address; may be empty.
    pub author_mail: String,
    /// When, in UTC.
    pub time: Timestamp,
    /// The message.
    pub message: String,
}

impl Bundle {
    /// Writes a commit of `files`. What is given back has passed [`Bundle::check`].
    ///
    /// # Errors
    /// Those of [`Bundle::check`] and [`write_commit`]; [`ProofError::SameName`] if two files, or a file and a
    /// folder, have one path; [`ProofError::WrongPlace`] for a [`NewContent::Git`] that is too small;
    /// [`ProofError::TwoSizes`] if one blob is given two; [`ProofError::LfsLink`] for a symbolic link in LFS.
    pub fn build(files: Vec<NewFile>, commit: CommitMeta) -> Result<(CommitId, Self, Manifest), ProofError> {
        let mut content = Content::default();
        let mut leaves = Vec::with_capacity(files.len());
        for file in files {
            let (mode, id) = (git_mode(file.mode), content.add(&file)?);
            leaves.push(Leaf { path: file.path, mode, id });
        }
        let (root, trees) = write_trees(leaves)?;
        let commit = write_commit(&NewCommit {
            tree: root,
            parents: commit.parents,
            author_name: commit.author_name,
            author_mail: commit.author_mail,
            time: commit.time,
            message: commit.message,
        })?;
        let bundle = Self { commit, trees, blobs: content.blobs, sizes: content.sizes };
        let id = commit_id(&bundle.commit)?;
        let manifest = bundle.check(id)?;
        Ok((id, bundle, manifest))
    }
}

const fn git_mode(mode: FileMode) -> u32 {
    match mode {
        FileMode::Regular => 0o100_644,
        FileMode::Executable => 0o100_755,
        FileMode::Symlink => 0o120_000,
    }
}

/// The blobs of a bundle in the making.
#[derive(Default)]
struct Content {
    known: HashMap<BlobId, u64>,
    blobs: Vec<Vec<u8>>,
    sizes: Vec<(BlobId, u64)>,
}

impl Content {
    fn add(&mut self, file: &NewFile) -> Result<BlobId, ProofError> {
        match &file.content {
            NewContent::Lfs { .. } if file.mode == FileMode::Symlink => {
                Err(ProofError::LfsLink { path: file.path.to_string() })
            }
            NewContent::Lfs { sha256, size } => {
                self.add_bytes(&Pointer { sha256: *sha256, size: *size }.canonical())
            }
            NewContent::Git { blob, size } if *size <= POINTER_MAX_BYTES => {
                Err(ProofError::WrongPlace { id: *blob, size: *size })
            }
            NewContent::Git { blob, size } => self.add_blob(*blob, *size, None),
            NewContent::Bytes(bytes) => self.add_bytes(bytes),
        }
    }

    fn add_bytes(&mut self, bytes: &[u8]) -> Result<BlobId, ProofError> {
        let size = bytes.len() as u64;
        self.add_blob(blob_id(bytes)?, size, Some(bytes).filter(|_| size <= POINTER_MAX_BYTES))
    }

    fn add_blob(&mut self, id: BlobId, size: u64, small: Option<&[u8]>) -> Result<BlobId, ProofError> {
        match (self.known.insert(id, size), small) {
            (Some(first), _) if first != size => {
                return Err(ProofError::TwoSizes { id, first, second: size });
            }
            (Some(_), _) => {}
            (None, Some(bytes)) => self.blobs.push(bytes.to_vec()),
            (None, None) => self.sizes.push((id, size)),
        }
        Ok(id)
    }
}

struct Leaf {
    path: RepoPath,
    mode: u32,
    id: BlobId,
}

/// A folder whose entries are being gathered.
struct Open<'a> {
    name: &'a str,
    entries: Vec<TreeEntry>,
}

/// Trees written so far, each once.
#[derive(Default)]
struct Trees {
    known: HashSet<TreeId>,
    written: Vec<Vec<u8>>,
}

impl Trees {
    fn write(&mut self, entries: Vec<TreeEntry>) -> Result<TreeId, ProofError> {
        let tree = write_tree(entries)?;
        let id = tree_id(&tree)?;
        if self.known.insert(id) {
            self.written.push(tree);
        }
        Ok(id)
    }

    /// Writes `folder` and enters it in the one that holds it.
    fn close(&mut self, folder: Open<'_>, parent: &mut Vec<TreeEntry>) -> Result<(), ProofError> {
        let id = self.write(folder.entries)?;
        parent.push(TreeEntry { mode: 0o040_000, name: folder.name.into(), id: *id.as_bytes() });
        Ok(())
    }
}

/// Sorted by path, the files of a folder stand together: one pass with the open folders on a stack.
fn write_trees(mut leaves: Vec<Leaf>) -> Result<(TreeId, Vec<Vec<u8>>), ProofError> {
    leaves.sort_by(|a, b| a.path.cmp(&b.path));
    let mut trees = Trees::default();
    let mut root = Vec::new();
    let mut open: Vec<Open<'_>> = Vec::new();
    for leaf in &leaves {
        let name = leaf.path.file_name();
        let folders: Vec<&str> = leaf.path.parts().take(leaf.path.parts().count() - 1).collect();
        let shared = open.iter().zip(&folders).take_while(|(o, name)| o.name == **name).count();
        close_down_to(shared, &mut open, &mut root, &mut trees)?;
        open.extend(folders[shared..].iter().map(|name| Open { name, entries: Vec::new() }));
        let entries = open.last_mut().map_or(&mut root, |folder| &mut folder.entries);
        entries.push(TreeEntry { mode: leaf.mode, name: name.into(), id: *leaf.id.as_bytes() });
    }
    close_down_to(0, &mut open, &mut root, &mut trees)?;
    Ok((trees.write(root)?, trees.written))
}

fn close_down_to(
    depth: usize,
    open: &mut Vec<Open<'_>>,
    root: &mut Vec<TreeEntry>,
    trees: &mut Trees,
) -> Result<(), ProofError> {
    while open.len() > depth
        && let Some(folder) = open.pop()
    {
        let parent = open.last_mut().map_or(&mut *root, |parent| &mut parent.entries);
        trees.close(folder, parent)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: NewContent) -> NewFile {
        NewFile { path: path.parse().unwrap(), mode: FileMode::Regular, content }
    }

    fn bytes(path: &str, content: &str) -> NewFile {
        file(path, NewContent::Bytes(content.into()))
    }

    fn build(files: Vec<NewFile>) -> Result<(CommitId, Bundle, Manifest), ProofError> {
        let meta = CommitMeta {
            parents: vec![],
            author_name: "A".into(),
            author_mail: "a@example.org".into(),
            time: Timestamp(1),
            message: "add".into(),
        };
        Bundle::build(files, meta)
    }

    #[test]
    fn what_is_there_twice_is_carried_once() {
        let big = NewContent::Git { blob: BlobId::from_bytes([5; 20]), size: 5000 };
        let files = vec![
            bytes("x/a", "same"),
            bytes("y/a", "same"),
            bytes("b", "same"),
            file("c", big.clone()),
            file("d", big),
        ];
        let (_, bundle, manifest) = build(files).unwrap();
        assert_eq!((bundle.trees.len(), bundle.blobs.len(), bundle.sizes.len()), (2, 1, 1));
        assert_eq!((manifest.entries().len(), manifest.total_bytes()), (5, 12 + 10_000));
    }

    #[test]
    fn an_lfs_file_is_known_by_its_own_digest() {
        let sha256 = Sha256::from_bytes([7; 32]);
        let (_, bundle, manifest) =
            build(vec![file("m.bin", NewContent::Lfs { sha256, size: 1 << 33 })]).unwrap();
        let entry = &manifest.entries()[0];
        assert_eq!((entry.size, entry.lfs.unwrap().sha256), (1 << 33, sha256));
        assert_eq!(entry.lfs.unwrap().pointer_size, bundle.blobs[0].len() as u64);
    }

    #[test]
    fn a_folder_with_nothing_in_it_is_a_commit_too() {
        let (_, bundle, manifest) = build(vec![]).unwrap();
        assert_eq!((bundle.trees, manifest.entries().len()), (vec![vec![]], 0));
    }

    #[test]
    fn a_path_is_one_thing() {
        for pair in [["a", "a"], ["a", "a/b"]] {
            let files = pair.map(|path| bytes(path, "x")).to_vec();
            assert!(matches!(build(files), Err(ProofError::SameName { .. })), "{pair:?}");
        }
        // `a-` stands between the file and the folder in git's order.
        assert!(build(vec![bytes("a", "x"), bytes("a-", "x"), bytes("a/b", "x")]).is_err());
        assert!(matches!(build(vec![bytes("A", "x"), bytes("a", "x")]), Err(ProofError::Manifest(_))));
    }

    #[test]
    fn sizes_must_agree_with_their_place() {
        let blob = BlobId::from_bytes([5; 20]);
        let git = |size| NewContent::Git { blob, size };
        assert!(matches!(build(vec![file("a", git(1024))]), Err(ProofError::WrongPlace { size: 1024, .. })));
        assert!(matches!(
            build(vec![file("a", git(1025)), file("b", git(1026))]),
            Err(ProofError::TwoSizes { first: 1025, second: 1026, .. })
        ));
        let empty = NewContent::Git { blob: blob_id(b"").unwrap(), size: 2000 };
        assert!(matches!(build(vec![bytes("a", ""), file("b", empty)]), Err(ProofError::TwoSizes { .. })));
        let link = NewFile {
            mode: FileMode::Symlink,
            ..file("a", NewContent::Lfs { sha256: Sha256::from_bytes([1; 32]), size: 9 })
        };
        assert!(matches!(build(vec![link]), Err(ProofError::LfsLink { .. })));
    }

    #[test]
    fn depth_has_an_end() {
        let deep = |folders: usize| bytes(&("d/".repeat(folders) + "f"), "x");
        assert!(build(vec![deep(128)]).is_ok());
        assert!(matches!(build(vec![deep(129)]), Err(ProofError::TooLarge { size: 129, limit: 128, .. })));
        assert!(matches!(build(vec![deep(1500)]), Err(ProofError::TooLarge { .. })));
    }
}
