//! The chain: commit → root tree → every tree → every entry → content or size.
//!
//! Each object is hashed once, so that what is found under an id is what the id names; then the trees are
//! walked from the root. The same tree may be named many times (twenty small trees can name a million files),
//! so what grows while walking is counted and bounded: entries, text of paths, depth.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use hubless_types::{
    BlobId, CommitId, FileEntry, FileMode, Lfs, MAX_MANIFEST_ENTRIES, Manifest, POINTER_MAX_BYTES, RepoPath,
    TreeId,
};

use crate::tree::{Entries, EntryKind, RawEntry};
use crate::{Bundle, MAX_BUNDLE_BYTES, Pointer, ProofError, blob_id, commit_id, parse_commit, tree_id};

/// Deepest folder that is taken: how many folders a file may lie in.
pub const MAX_TREE_DEPTH: usize = 128;
/// Most bytes that all paths of a manifest may have together: shared trees can name long paths cheaply.
pub const MAX_PATH_TEXT_BYTES: usize = 256 * 1024 * 1024;

/// What a check takes at most; the limits of the crate, but for tests.
#[derive(Debug, Clone, Copy)]
struct Limits {
    bundle_bytes: usize,
    entries: usize,
    path_text: usize,
    depth: usize,
}

const LIMITS: Limits = Limits {
    bundle_bytes: MAX_BUNDLE_BYTES,
    entries: MAX_MANIFEST_ENTRIES,
    path_text: MAX_PATH_TEXT_BYTES,
    depth: MAX_TREE_DEPTH,
};

impl Bundle {
    /// Proves that this is the commit `expect`, whole, and gives its manifest.
    ///
    /// Submodules are left out. An LFS pointer is listed as the file it stands for, unless it is a symbolic
    /// link's target. Time and memory follow the number of entries.
    ///
    /// A size that the bundle only claims is listed as it is claimed: whoever fetches the content must compare
    /// its length with [`FileEntry::size`], or hash it to its blob id, which covers the length.
    ///
    /// # Errors
    /// [`ProofError::WrongCommit`], [`ProofError::MissingTree`] or [`ProofError::MissingBlob`] if the chain is
    /// broken; [`ProofError::Unused`] or [`ProofError::Twice`] if there is more than the chain;
    /// [`ProofError::WrongPlace`] if a blob is given a size that its content should be there for, or the other
    /// way round; [`ProofError::TooLarge`] for more than [`MAX_BUNDLE_BYTES`], [`MAX_MANIFEST_ENTRIES`] (files,
    /// folders and submodules), [`MAX_TREE_DEPTH`] or [`MAX_PATH_TEXT_BYTES`]; [`ProofError::NotUtf8`],
    /// [`ProofError::Path`], [`ProofError::SameName`] and [`ProofError::Manifest`] for names that could escape
    /// or clash; [`ProofError::Malformed`] and [`ProofError::Collision`] for objects that are none.
    pub fn check(&self, expect: CommitId) -> Result<Manifest, ProofError> {
        self.check_within(expect, LIMITS)
    }

    fn check_within(&self, expect: CommitId, limits: Limits) -> Result<Manifest, ProofError> {
        at_most("a bundle, in bytes", self.encoded_len(), limits.bundle_bytes)?;
        let found = commit_id(&self.commit)?;
        if found != expect {
            return Err(ProofError::WrongCommit { expected: expect, found });
        }
        let info = parse_commit(&self.commit)?;
        at_most("trees of a bundle", self.trees.len(), limits.entries.saturating_add(1))?;
        at_most("blobs of a bundle", self.blobs.len().saturating_add(self.sizes.len()), limits.entries)?;
        let walk = Walk::new(self, limits)?;
        walk.count(info.tree)?;
        let (files, folders) = walk.run(info.tree)?;
        Ok(Manifest::new(expect, info, files, folders)?)
    }
}

fn at_most(what: &'static str, size: usize, limit: usize) -> Result<(), ProofError> {
    if size > limit {
        return Err(ProofError::TooLarge { what, size: size as u64, limit: limit as u64 });
    }
    Ok(())
}

/// Where each object stands in the bundle, and whether something named it.
struct Index<Id> {
    kind: &'static str,
    places: HashMap<Id, u32>,
    used: Vec<bool>,
}

impl<Id: Hash + Eq + Copy + fmt::Display> Index<Id> {
    fn with_capacity(kind: &'static str, capacity: usize) -> Self {
        Self { kind, places: HashMap::with_capacity(capacity), used: Vec::with_capacity(capacity) }
    }

    /// Gives the next place to `id`.
    fn add(&mut self, id: Id) -> Result<(), ProofError> {
        // Counts are bounded by `Limits::entries`, far below u32.
        if self.places.insert(id, self.used.len() as u32).is_some() {
            return Err(ProofError::Twice { kind: self.kind, id: id.to_string() });
        }
        self.used.push(false);
        Ok(())
    }

    fn find(&mut self, id: &Id) -> Option<usize> {
        let place = *self.places.get(id)? as usize;
        *self.used.get_mut(place)? = true;
        Some(place)
    }

    fn all_used(&self) -> Result<(), ProofError> {
        if self.used.iter().all(|used| *used) {
            return Ok(());
        }
        let unused = self.places.iter().filter(|(_, place)| !self.used[**place as usize]);
        match unused.min_by_key(|(_, place)| **place) {
            Some((id, _)) => Err(ProofError::Unused { kind: self.kind, id: id.to_string() }),
            None => Ok(()),
        }
    }
}

struct Walk<'a> {
    bundle: &'a Bundle,
    limits: Limits,
    trees: Index<TreeId>,
    /// Those with content first, then those with a size.
    blobs: Index<BlobId>,
    entries_seen: usize,
    path_text: usize,
    files: Vec<FileEntry>,
    folders: Vec<Folder>,
}

/// A subfolder and its tree.
type Folder = (RepoPath, TreeId);
/// A folder that is being read: its path (`None` for the root) and what is left of it.
type Open<'a> = (Option<RepoPath>, Entries<'a>);

impl<'a> Walk<'a> {
    fn new(bundle: &'a Bundle, limits: Limits) -> Result<Self, ProofError> {
        let mut trees = Index::with_capacity("tree", bundle.trees.len());
        for tree in &bundle.trees {
            trees.add(tree_id(tree)?)?;
        }
        let mut blobs = Index::with_capacity("blob", bundle.blobs.len() + bundle.sizes.len());
        for blob in &bundle.blobs {
            let (id, size) = (blob_id(blob)?, blob.len() as u64);
            if size > POINTER_MAX_BYTES {
                return Err(ProofError::WrongPlace { id, size });
            }
            blobs.add(id)?;
        }
        for &(id, size) in &bundle.sizes {
            if size <= POINTER_MAX_BYTES {
                return Err(ProofError::WrongPlace { id, size });
            }
            blobs.add(id)?;
        }
        let (files, folders) = (Vec::new(), Vec::new());
        Ok(Self { bundle, limits, trees, blobs, entries_seen: 0, path_text: 0, files, folders })
    }

    /// That the entries beneath `root` are not too many, found out by reading each tree once, however often it is
    /// named: what cheap trees name a million times is refused before the first path is made.
    fn count(&self, root: TreeId) -> Result<(), ProofError> {
        let limit = self.limits.entries;
        let mut counted: HashMap<TreeId, usize> = HashMap::with_capacity(self.bundle.trees.len());
        let mut open = vec![(root, self.entries(root)?, 0_usize)];
        while let Some((id, entries, count)) = open.last_mut() {
            if let Some(entry) = entries.next().transpose()? {
                *count = count.saturating_add(1);
                if entry.kind == EntryKind::Folder {
                    let inner = TreeId::from_bytes(entry.id);
                    match counted.get(&inner) {
                        Some(n) => *count = count.saturating_add(*n),
                        None => open.push((inner, self.entries(inner)?, 0)),
                    }
                }
            } else {
                let (id, count) = (*id, *count);
                counted.insert(id, count);
                open.pop();
                if let Some((_, _, above)) = open.last_mut() {
                    *above = above.saturating_add(count);
                }
            }
            at_most("depth of folders", open.len().saturating_sub(1), self.limits.depth)?;
        }
        let all = counted.get(&root).copied().unwrap_or_default();
        at_most("entries of a commit", all.min(limit.saturating_add(1)), limit)
    }

    fn entries(&self, id: TreeId) -> Result<Entries<'a>, ProofError> {
        let place = self.trees.places.get(&id).ok_or(ProofError::MissingTree { id })?;
        let tree = self.bundle.trees.get(*place as usize).ok_or(ProofError::MissingTree { id })?;
        Ok(Entries::new(tree))
    }

    /// Files and folders beneath `root`, in git's order. The indexes are gone when it returns: the manifest's own
    /// checks need the memory.
    fn run(mut self, root: TreeId) -> Result<(Vec<FileEntry>, Vec<Folder>), ProofError> {
        let mut open: Vec<Open<'a>> = vec![(None, self.open(root)?)];
        while let Some((folder, entries)) = open.last_mut() {
            let Some(entry) = entries.next().transpose()? else {
                open.pop();
                continue;
            };
            if let Some(inner) = self.take(folder.as_ref(), entry)? {
                open.push(inner);
                at_most("depth of folders", open.len() - 1, self.limits.depth)?;
            }
        }
        self.trees.all_used()?;
        self.blobs.all_used()?;
        Ok((self.files, self.folders))
    }

    fn open(&mut self, id: TreeId) -> Result<Entries<'a>, ProofError> {
        let place = self.trees.find(&id).ok_or(ProofError::MissingTree { id })?;
        self.bundle.trees.get(place).map(|tree| Entries::new(tree)).ok_or(ProofError::MissingTree { id })
    }

    /// Takes one entry; gives the folder to read next, if it is one.
    fn take(
        &mut self,
        folder: Option<&RepoPath>,
        entry: RawEntry<'_>,
    ) -> Result<Option<Open<'a>>, ProofError> {
        self.entries_seen += 1;
        at_most("entries of a commit", self.entries_seen, self.limits.entries)?;
        let mode = match entry.kind {
            EntryKind::Submodule => return Ok(None),
            EntryKind::Folder => {
                let (path, id) = (self.path(folder, entry.name)?, TreeId::from_bytes(entry.id));
                self.folders.push((path.clone(), id));
                return Ok(Some((Some(path), self.open(id)?)));
            }
            EntryKind::Symlink => FileMode::Symlink,
            EntryKind::File { executable: true } => FileMode::Executable,
            EntryKind::File { executable: false } => FileMode::Regular,
        };
        let path = self.path(folder, entry.name)?;
        let file = self.file(path, mode, BlobId::from_bytes(entry.id))?;
        self.files.push(file);
        Ok(None)
    }

    fn path(&mut self, folder: Option<&RepoPath>, name: &[u8]) -> Result<RepoPath, ProofError> {
        let name = std::str::from_utf8(name)
            .map_err(|_| ProofError::NotUtf8 { name: String::from_utf8_lossy(name).into_owned() })?;
        let path = RepoPath::join(folder, name)?;
        self.path_text += path.as_str().len();
        at_most("text of all paths, in bytes", self.path_text, self.limits.path_text)?;
        Ok(path)
    }

    fn file(&mut self, path: RepoPath, mode: FileMode, blob: BlobId) -> Result<FileEntry, ProofError> {
        let place = self.blobs.find(&blob).ok_or(ProofError::MissingBlob { id: blob })?;
        let Some(content) = self.bundle.blobs.get(place) else {
            let size = self.bundle.sizes.get(place - self.bundle.blobs.len()).map(|row| row.1);
            let size = size.ok_or(ProofError::MissingBlob { id: blob })?;
            return Ok(FileEntry { path, mode, blob, size, lfs: None });
        };
        let pointer_size = content.len() as u64;
        // A link's content is where it points to; git runs no LFS filter on it.
        match Pointer::parse(content).filter(|_| mode != FileMode::Symlink) {
            None => Ok(FileEntry { path, mode, blob, size: pointer_size, lfs: None }),
            Some(Pointer { sha256, size }) => {
                Ok(FileEntry { path, mode, blob, size, lfs: Some(Lfs { sha256, pointer_size }) })
            }
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
