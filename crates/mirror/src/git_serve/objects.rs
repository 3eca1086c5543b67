//! Which objects a pack has: those of its commits that the client lacks and does not want left out.
//!
//! **Invariant:** an object goes out once; what is counted here is what is sent.

use std::collections::{HashMap, HashSet};

use hubless_proof::{Bundle, PackFilter, ProofError, TreeEntry, blob_id, parse_tree, tree_id};
use hubless_types::{CommitId, Manifest, RepoPath};

/// A git object's name, whatever its kind.
pub(super) type ObjectId = [u8; 20];

/// What of one commit goes out. Numbers are places in its bundle.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) commit: CommitId,
    /// Whether the commit object itself goes out.
    pub(super) itself: bool,
    pub(super) trees: Vec<u32>,
    pub(super) blobs: Vec<u32>,
    /// Plain files that are too large for a bundle.
    pub(super) files: Vec<File>,
}

/// A plain file that is opened when its turn comes.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: RepoPath,
    /// In bytes.
    pub(super) size: u64,
}

impl Part {
    fn new(commit: CommitId, itself: bool) -> Self {
        Self { commit, itself, trees: Vec::new(), blobs: Vec::new(), files: Vec::new() }
    }

    fn len(&self) -> usize {
        usize::from(self.itself) + self.trees.len() + self.blobs.len() + self.files.len()
    }
}

/// Gathers the objects of a pack, commit by commit.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    filter: PackFilter,
    seen: HashSet<ObjectId>,
    parts: Vec<Part>,
}

impl Gathering {
    pub(super) fn new(filter: PackFilter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// What was gathered, and how many objects that is; `None` if no pack can count them.
    pub(super) fn into_parts(self) -> Option<(Vec<Part>, u32)> {
        let objects = u32::try_from(self.parts.iter().map(Part::len).sum::<usize>()).ok()?;
        Some((self.parts, objects))
    }

    /// Takes the objects of `wanted` that are in this commit, whatever the filter says of them, and all beneath
    /// them that it lets through; those found are removed from `wanted`.
    pub(super) fn take_wanted(
        &mut self,
        manifest: &Manifest,
        bundle: &Bundle,
        wanted: &mut HashSet<ObjectId>,
    ) -> Result<(), ProofError> {
        let index = Index::of(bundle)?;
        let mut part = Part::new(manifest.commit(), false);
        let root = (String::new(), *manifest.info().tree.as_bytes());
        let folders = manifest.folders().iter().map(|(path, id)| (format!("{path}/"), *id.as_bytes()));
        for (prefix, id) in std::iter::once(root).chain(folders) {
            if wanted.remove(&id) {
                let from = Walk { manifest, bundle, index: &index };
                self.take_tree(&from, prefix, id, true, &mut part)?;
            }
        }
        for entry in manifest.entries() {
            let id = *entry.blob.as_bytes();
            if wanted.remove(&id) && self.seen.insert(id) {
                match index.blobs.get(&id) {
                    Some(place) => part.blobs.push(*place),
                    None => part.files.push(File { path: entry.path.clone(), size: entry.size }),
                }
            }
        }
        self.parts.push(part);
        Ok(())
    }

    /// Leaves out what this commit holds.
    pub(super) fn spare(&mut self, manifest: &Manifest) {
        self.seen.insert(*manifest.info().tree.as_bytes());
        self.seen.extend(manifest.folders().iter().map(|(_, id)| *id.as_bytes()));
        self.seen.extend(manifest.entries().iter().map(|entry| *entry.blob.as_bytes()));
    }

    /// Takes a commit with all that it holds.
    pub(super) fn take_commit(&mut self, manifest: &Manifest, bundle: &Bundle) -> Result<(), ProofError> {
        let mut part = Part::new(manifest.commit(), true);
        let root = *manifest.info().tree.as_bytes();
        if self.filter.trees() && !self.seen.contains(&root) {
            let index = Index::of(bundle)?;
            let from = Walk { manifest, bundle, index: &index };
            self.take_tree(&from, String::new(), root, false, &mut part)?;
        }
        self.parts.push(part);
        Ok(())
    }

    /// Takes a tree and what is beneath it. `asked` says that it was asked for by its name.
    fn take_tree(
        &mut self,
        from: &Walk<'_>,
        prefix: String,
        id: ObjectId,
        asked: bool,
        part: &mut Part,
    ) -> Result<(), ProofError> {
        let mut open = vec![(prefix, id, asked)];
        while let Some((prefix, id, asked)) = open.pop() {
            if !(asked || self.filter.trees()) || !self.seen.insert(id) {
                continue;
            }
            let Some(place) = from.index.trees.get(&id) else { continue };
            part.trees.push(*place);
            for entry in from.bundle.trees.get(*place as usize).map_or(Ok(vec![]), |tree| parse_tree(tree))? {
                match entry.mode & 0o170_000 {
                    0o040_000 => {
                        let name = String::from_utf8_lossy(&entry.name);
                        open.push((format!("{prefix}{name}/"), entry.id, false));
                    }
                    // Another repository's commit.
                    0o160_000 => {}
                    _ => self.take_blob(from, &prefix, &entry, part),
                }
            }
        }
        Ok(())
    }

    fn take_blob(&mut self, from: &Walk<'_>, prefix: &str, entry: &TreeEntry, part: &mut Part) {
        if self.seen.contains(&entry.id) {
            return;
        }
        if let Some(place) = from.index.blobs.get(&entry.id) {
            let size = from.bundle.blobs.get(*place as usize).map_or(0, Vec::len) as u64;
            if self.filter.blob(size) {
                self.seen.insert(entry.id);
                part.blobs.push(*place);
            }
            return;
        }
        let path = format!("{prefix}{}", String::from_utf8_lossy(&entry.name)).parse::<RepoPath>();
        let file = path.ok().and_then(|path| from.manifest.entry(&path));
        if let Some(file) = file.filter(|file| self.filter.blob(file.size)) {
            self.seen.insert(entry.id);
            part.files.push(File { path: file.path.clone(), size: file.size });
        }
    }
}

/// Where a walk reads.
struct Walk<'a> {
    manifest: &'a Manifest,
    bundle: &'a Bundle,
    index: &'a Index,
}

/// Where each object stands in a bundle.
struct Index {
    trees: HashMap<ObjectId, u32>,
    blobs: HashMap<ObjectId, u32>,
}

impl Index {
    fn of(bundle: &Bundle) -> Result<Self, ProofError> {
        // A bundle's counts are bounded far below u32.
        let number = |objects: &[Vec<u8>], id: fn(&[u8]) -> Result<ObjectId, ProofError>| {
            let numbered = objects.iter().enumerate();
            numbered.map(|(place, object)| Ok((id(object)?, place as u32))).collect::<Result<_, ProofError>>()
        };
        let trees = number(&bundle.trees, |tree| Ok(*tree_id(tree)?.as_bytes()))?;
        let blobs = number(&bundle.blobs, |blob| Ok(*blob_id(blob)?.as_bytes()))?;
        Ok(Self { trees, blobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_proof::{CommitMeta, NewContent, NewFile};
    use hubless_types::{BlobId, FileMode, Timestamp};

    fn commit(files: &[(&str, NewContent)]) -> (Bundle, Manifest) {
        let file = |(path, content): &(&str, NewContent)| NewFile {
            path: path.parse().unwrap(),
            mode: FileMode::Regular,
            content: content.clone(),
        };
        let meta = CommitMeta {
            parents: vec![],
            author_name: "A".into(),
            author_mail: "a@example.org".into(),
            time: Timestamp(1),
            message: "add".into(),
        };
        let (_, bundle, manifest) = Bundle::build(files.iter().map(file).collect(), meta).unwrap();
        (bundle, manifest)
    }

    fn small(text: &str) -> NewContent {
        NewContent::Bytes(text.into())
    }

    fn example() -> (Bundle, Manifest) {
        let large = NewContent::Git { blob: BlobId::from_bytes([7; 20]), size: 5_000 };
        commit(&[("a", small("one")), ("x/b", small("one")), ("x/c", small("two")), ("x/y/large", large)])
    }

    fn counts(gathering: Gathering) -> (u32, Vec<(usize, usize, usize)>) {
        let (parts, objects) = gathering.into_parts().unwrap();
        (objects, parts.iter().map(|p| (p.trees.len(), p.blobs.len(), p.files.len())).collect())
    }

    #[test]
    fn an_object_goes_out_once() {
        let (bundle, manifest) = example();
        let mut all = Gathering::new(PackFilter::All);
        all.take_commit(&manifest, &bundle).unwrap();
        all.take_commit(&manifest, &bundle).unwrap();
        assert_eq!(counts(all), (8, vec![(3, 2, 1), (0, 0, 0)]));
    }

    #[test]
    fn filters_leave_out_what_they_say() {
        let (bundle, manifest) = example();
        for (filter, expected) in [
            (PackFilter::NoBlobs, (3, 0, 0)),
            (PackFilter::BlobsBelow(5_000), (3, 2, 0)),
            (PackFilter::BlobsBelow(5_001), (3, 2, 1)),
            (PackFilter::NoTrees, (0, 0, 0)),
        ] {
            let mut some = Gathering::new(filter);
            some.take_commit(&manifest, &bundle).unwrap();
            assert_eq!(counts(some).1, [expected], "{filter:?}");
        }
    }

    #[test]
    fn what_is_asked_for_by_name_goes_out_whatever_the_filter() {
        let (bundle, manifest) = example();
        let blob = *manifest.entries()[0].blob.as_bytes();
        let large = [7; 20];
        let folder = *manifest.folders()[0].1.as_bytes();
        let mut wanted: HashSet<ObjectId> = [blob, large, folder, [9; 20]].into();
        let mut some = Gathering::new(PackFilter::NoBlobs);
        some.take_wanted(&manifest, &bundle, &mut wanted).unwrap();
        assert_eq!(wanted, [[9; 20]].into());
        assert_eq!(counts(some), (4, vec![(2, 1, 1)]));
    }

    #[test]
    fn what_the_client_has_stays() {
        let (_, old) = commit(&[("a", small("one")), ("x/c", small("two"))]);
        let (bundle, manifest) = commit(&[("a", small("one")), ("x/c", small("two")), ("n", small("new"))]);
        let mut some = Gathering::new(PackFilter::All);
        some.spare(&old);
        some.take_commit(&manifest, &bundle).unwrap();
        assert_eq!(counts(some), (3, vec![(1, 1, 0)]));
    }
}
