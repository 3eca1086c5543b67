//! A bundle out of what an origin sends: the pack of a commit, a listing, and the blobs that were still missing.
//!
//! **Invariant:** pure, and linear in what came: each tree is read once, however often it is named. What comes out
//! has every blob or its size; whether it proves the commit is for `Bundle::check` to say.

use std::collections::{HashMap, HashSet};

use hubless_proof::{Bundle, ObjectKind, PackObject, Pointer, ProofError, blob_id, parse_commit, parse_tree};
use hubless_types::{BlobId, CommitId, POINTER_MAX_BYTES, RepoPath, Sha256, TreeId};

/// Bits of a mode that tell the kind of an entry.
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const SUBMODULE: u32 = 0o160_000;

/// What a listing says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) blob: BlobId,
    /// Length of the file: of the content that LFS keeps, if `lfs` is set.
    pub(crate) size: u64,
    pub(crate) lfs: Option<Sha256>,
    /// Where it lies; `None` if that is no path that this program takes.
    pub(crate) path: Option<RepoPath>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Assembly {
    bundle: Bundle,
    /// Blobs of which nothing is known yet, or of which the content is to be fetched, and where one lies.
    missing: HashMap<BlobId, Option<RepoPath>>,
}

impl Assembly {
    /// Takes the commit, its trees and what blobs there are out of `objects`.
    ///
    /// # Errors
    /// [`ProofError`] if the commit or one of its trees is not there or is none.
    pub(crate) fn new(commit: CommitId, objects: Vec<PackObject>) -> Result<Self, ProofError> {
        let mut by_id: HashMap<[u8; 20], PackObject> = objects.into_iter().map(|o| (o.id, o)).collect();
        let mut take = |id: &[u8; 20], kind| by_id.remove(id).filter(|o| o.kind == kind);
        let absent = ProofError::Malformed { what: "git pack", why: "the commit is not in it" };
        let content = take(commit.as_bytes(), ObjectKind::Commit).and_then(|o| o.content).ok_or(absent)?;
        let root = parse_commit(&content)?.tree;
        let mut bundle = Bundle { commit: content, ..Bundle::default() };
        let mut missing = HashMap::new();
        let (mut seen, mut open) = (HashSet::from([*root.as_bytes()]), vec![*root.as_bytes()]);
        while let Some(id) = open.pop() {
            let tree = take(&id, ObjectKind::Tree).and_then(|o| o.content);
            let tree = tree.ok_or(ProofError::MissingTree { id: TreeId::from_bytes(id) })?;
            for entry in parse_tree(&tree)? {
                match entry.mode & KIND {
                    SUBMODULE => {}
                    _ if !seen.insert(entry.id) => {}
                    FOLDER => open.push(entry.id),
                    _ => match take(&entry.id, ObjectKind::Blob) {
                        Some(PackObject { content: Some(content), .. }) if is_small(content.len() as u64) => {
                            bundle.blobs.push(content);
                        }
                        Some(blob) => bundle.sizes.push((BlobId::from_bytes(entry.id), blob.size)),
                        None => drop(missing.insert(BlobId::from_bytes(entry.id), None)),
                    },
                }
            }
            bundle.trees.push(tree);
        }
        Ok(Self { bundle, missing })
    }

    /// Whether nothing is missing.
    pub(crate) fn is_done(&self) -> bool {
        self.missing.is_empty()
    }

    /// Notes what a listing says: a size above that of a pointer is taken at its word, a pointer is rebuilt, and
    /// what is neither stays missing.
    pub(crate) fn list(&mut self, listed: Listed) {
        let Listed { blob, size, lfs, path } = listed;
        let Some(place) = self.missing.get_mut(&blob) else { return };
        if let Some(sha256) = lfs {
            let pointer = Pointer { sha256, size }.canonical();
            if blob_id(&pointer) == Ok(blob) {
                self.missing.remove(&blob);
                self.bundle.blobs.push(pointer);
                return;
            }
        } else if !is_small(size) {
            self.missing.remove(&blob);
            self.bundle.sizes.push((blob, size));
            return;
        }
        *place = path.or(place.take());
    }

    /// Notes the content of a blob, if it is one that is missing.
    ///
    /// # Errors
    /// [`ProofError::Collision`].
    pub(crate) fn content(&mut self, content: Vec<u8>) -> Result<(), ProofError> {
        let (id, size) = (blob_id(&content)?, content.len() as u64);
        self.object(PackObject { kind: ObjectKind::Blob, id: *id.as_bytes(), size, content: Some(content) });
        Ok(())
    }

    /// Notes an object of a pack, if it is a blob that is missing.
    pub(crate) fn object(&mut self, object: PackObject) {
        let id = BlobId::from_bytes(object.id);
        if object.kind != ObjectKind::Blob || self.missing.remove(&id).is_none() {
            return;
        }
        match object.content {
            Some(content) if is_small(object.size) => self.bundle.blobs.push(content),
            _ => self.bundle.sizes.push((id, object.size)),
        }
    }

    /// Notes how long a blob is that is not small, if it is missing.
    pub(crate) fn size(&mut self, id: BlobId, size: u64) {
        self.list(Listed { blob: id, size, lfs: None, path: None });
    }

    /// What is missing, and where it lies as far as a listing told.
    pub(crate) fn missing(&self) -> Vec<(BlobId, Option<RepoPath>)> {
        self.missing.iter().map(|(id, path)| (*id, path.clone())).collect()
    }

    /// The bundle.
    ///
    /// # Errors
    /// [`ProofError::MissingBlob`] if something is missing.
    pub(crate) fn finish(self) -> Result<Bundle, ProofError> {
        match self.missing.into_keys().next() {
            Some(id) => Err(ProofError::MissingBlob { id }),
            None => Ok(self.bundle),
        }
    }
}

const fn is_small(size: u64) -> bool {
    size <= POINTER_MAX_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_proof::{NewCommit, TreeEntry, commit_id, tree_id, write_commit, write_tree};
    use hubless_types::Timestamp;

    fn object(kind: ObjectKind, id: &[u8; 20], content: Vec<u8>) -> PackObject {
        PackObject { kind, id: *id, size: content.len() as u64, content: Some(content) }
    }

    fn pointer() -> Pointer {
        Pointer { sha256: Sha256::from_bytes([7; 32]), size: 5_000_000 }
    }

    /// A commit of a small file (in two places), a large one, and an LFS file; the pack without blobs.
    fn commit() -> (CommitId, Vec<PackObject>) {
        let entry = |mode, name: &str, id: &[u8; 20]| TreeEntry { mode, name: name.into(), id: *id };
        let (small, large) = (blob_id(b"small").unwrap(), blob_id(&[1; 2000]).unwrap());
        let lfs = blob_id(&pointer().canonical()).unwrap();
        let inner = write_tree(vec![entry(0o100_644, "again", small.as_bytes())]).unwrap();
        let inner_id = tree_id(&inner).unwrap();
        let root = write_tree(vec![
            entry(0o100_644, "small", small.as_bytes()),
            entry(0o100_644, "large", large.as_bytes()),
            entry(0o100_644, "lfs", lfs.as_bytes()),
            entry(0o160_000, "module", &[9; 20]),
            entry(0o040_000, "inner", inner_id.as_bytes()),
        ])
        .unwrap();
        let new = NewCommit {
            tree: tree_id(&root).unwrap(),
            parents: vec![],
            author_name: "a".into(),
            author_mail: String::new(),
            time: Timestamp(1),
            message: "m".into(),
        };
        let commit = write_commit(&new).unwrap();
        let id = commit_id(&commit).unwrap();
        let trees =
            [(new.tree, root), (inner_id, inner)].map(|(id, t)| object(ObjectKind::Tree, id.as_bytes(), t));
        (id, [object(ObjectKind::Commit, id.as_bytes(), commit)].into_iter().chain(trees).collect())
    }

    fn listed(content: &[u8]) -> Listed {
        let blob = blob_id(content).unwrap();
        Listed { blob, size: content.len() as u64, lfs: None, path: "a/b".parse().ok() }
    }

    #[test]
    fn a_listing_and_one_blob_complete_a_bundle() {
        let (id, pack) = commit();
        let mut assembly = Assembly::new(id, pack).unwrap();
        assert_eq!(assembly.missing().len(), 3);
        assembly.list(listed(&[1; 2000]));
        assembly.list(Listed {
            size: 5_000_000,
            lfs: Some(pointer().sha256),
            ..listed(&pointer().canonical())
        });
        assembly.list(listed(b"small"));
        assembly.list(listed(b"something else"));
        assert_eq!(assembly.missing(), [(blob_id(b"small").unwrap(), "a/b".parse().ok())]);
        assembly.content(b"other".to_vec()).unwrap();
        assembly.content(b"small".to_vec()).unwrap();
        let manifest = assembly.finish().unwrap().check(id).unwrap();
        assert_eq!(manifest.entries().iter().map(|e| e.size).collect::<Vec<_>>(), [5, 2000, 5_000_000, 5]);
    }

    #[test]
    fn a_pack_with_blobs_needs_no_listing() {
        let (id, mut pack) = commit();
        for content in [&b"small"[..], &[1; 2000], &pointer().canonical()] {
            pack.push(object(ObjectKind::Blob, blob_id(content).unwrap().as_bytes(), content.to_vec()));
        }
        let assembly = Assembly::new(id, pack).unwrap();
        assert!(assembly.is_done() && assembly.finish().unwrap().check(id).is_ok());
    }

    #[test]
    fn a_pointer_that_is_not_what_it_was_said_to_be_stays_missing() {
        let (id, pack) = commit();
        let mut assembly = Assembly::new(id, pack).unwrap();
        let lie = Listed { size: 5_000_001, lfs: Some(pointer().sha256), ..listed(&pointer().canonical()) };
        assembly.list(lie);
        assembly.list(listed(&[1; 2000]));
        assert_eq!(assembly.missing().len(), 2);
        assert!(matches!(assembly.finish(), Err(ProofError::MissingBlob { .. })));
    }

    #[test]
    fn packs_that_lack_something_are_refused() {
        let (id, pack) = commit();
        assert!(Assembly::new(CommitId::from_bytes([1; 20]), pack.clone()).is_err());
        for i in 0..pack.len() {
            let mut pack = pack.clone();
            pack.remove(i);
            assert!(Assembly::new(id, pack).is_err(), "{i}");
        }
    }
}
