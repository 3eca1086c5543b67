//! Bundles that lie, one way each.

use super::*;
use crate::{CommitMeta, NewCommit, NewContent, NewFile, TreeEntry, write_commit, write_tree};
use hubless_types::{FileDigest, ManifestError, Sha256, Timestamp};
use proptest::prelude::*;

const FILE: u32 = 0o100_644;
const FOLDER: u32 = 0o040_000;
const ROOMY: Limits = LIMITS;

fn meta() -> CommitMeta {
    CommitMeta {
        parents: vec![],
        author_name: "A".into(),
        author_mail: "a@example.org".into(),
        time: Timestamp(1),
        message: "m".into(),
    }
}

fn file(path: &str, content: NewContent) -> NewFile {
    NewFile { path: path.parse().unwrap(), mode: FileMode::Regular, content }
}

/// A repository with a folder, an LFS file, a small file and a large one.
fn honest() -> (CommitId, Bundle) {
    let files = vec![
        file("README.md", NewContent::Bytes(b"# hello\n".to_vec())),
        file("data/model.bin", NewContent::Lfs { sha256: Sha256::from_bytes([7; 32]), size: 9_000_000 }),
        file("data/words.txt", NewContent::Git { blob: BlobId::from_bytes([8; 20]), size: 70_000 }),
    ];
    let (id, bundle, _) = Bundle::build(files, meta()).unwrap();
    (id, bundle)
}

/// Writes trees without any check of their names.
#[derive(Default)]
struct Forge(Bundle);

impl Forge {
    fn blob(&mut self, content: &[u8]) -> [u8; 20] {
        self.0.blobs.push(content.to_vec());
        *blob_id(content).unwrap().as_bytes()
    }

    fn raw_tree(&mut self, tree: Vec<u8>) -> [u8; 20] {
        let id = tree_id(&tree).unwrap();
        self.0.trees.push(tree);
        *id.as_bytes()
    }

    fn tree(&mut self, entries: &[(u32, &[u8], [u8; 20])]) -> [u8; 20] {
        let entry = |&(mode, name, id): &(u32, &[u8], [u8; 20])| TreeEntry { mode, name: name.to_vec(), id };
        self.raw_tree(write_tree(entries.iter().map(entry).collect()).unwrap())
    }

    fn commit(mut self, root: [u8; 20]) -> (CommitId, Bundle) {
        let CommitMeta { parents, author_name, author_mail, time, message } = meta();
        let tree = TreeId::from_bytes(root);
        let new = NewCommit { tree, parents, author_name, author_mail, time, message };
        self.0.commit = write_commit(&new).unwrap();
        (commit_id(&self.0.commit).unwrap(), self.0)
    }
}

/// A commit whose root holds one empty file of each name.
fn named(names: &[&[u8]]) -> (CommitId, Bundle) {
    let mut forge = Forge::default();
    let blob = forge.blob(b"");
    let entries: Vec<_> = names.iter().map(|name| (FILE, *name, blob)).collect();
    let root = forge.tree(&entries);
    forge.commit(root)
}

#[test]
fn an_honest_bundle_is_proven() {
    let (id, bundle) = honest();
    let manifest = Bundle::decode(&bundle.encode()).unwrap().check(id).unwrap();
    let digests: Vec<_> = manifest.entries().iter().map(|e| (e.path.as_str(), e.digest(), e.size)).collect();
    let expected = [
        ("README.md", FileDigest::Git(blob_id(b"# hello\n").unwrap()), 8),
        ("data/model.bin", FileDigest::Sha256(Sha256::from_bytes([7; 32])), 9_000_000),
        ("data/words.txt", FileDigest::Git(BlobId::from_bytes([8; 20])), 70_000),
    ];
    assert_eq!(digests, expected);
    assert_eq!((manifest.commit(), manifest.folders().len()), (id, 1));
}

#[test]
fn another_commit_is_not_the_one_asked_for() {
    let (id, mut bundle) = honest();
    let other = CommitId::from_bytes([1; 20]);
    assert_eq!(bundle.check(other), Err(ProofError::WrongCommit { expected: other, found: id }));
    bundle.commit.pop();
    assert!(matches!(bundle.check(id), Err(ProofError::WrongCommit { expected, .. }) if expected == id));
}

#[test]
fn a_commit_that_says_nothing_is_refused() {
    let (_, mut bundle) = honest();
    bundle.commit.truncate(60);
    let id = commit_id(&bundle.commit).unwrap();
    assert!(matches!(bundle.check(id), Err(ProofError::Malformed { what: "git commit", .. })));
}

#[test]
fn a_changed_tree_is_missed() {
    for tree in 0..2 {
        let (id, mut bundle) = honest();
        bundle.trees[tree][0] ^= 1;
        assert!(matches!(bundle.check(id), Err(ProofError::MissingTree { .. })));
        bundle.trees.remove(tree);
        assert!(matches!(bundle.check(id), Err(ProofError::MissingTree { .. })));
    }
}

#[test]
fn a_pointer_cannot_name_another_file() {
    let (id, mut bundle) = honest();
    let pointer = bundle.blobs.iter_mut().find(|blob| Pointer::parse(blob).is_some()).unwrap();
    let real = blob_id(pointer).unwrap();
    *pointer = Pointer { sha256: Sha256::from_bytes([6; 32]), size: 9_000_000 }.canonical();
    assert_eq!(bundle.check(id), Err(ProofError::MissingBlob { id: real }));
}

#[test]
fn a_pointer_cannot_pass_for_a_plain_file() {
    let (id, mut bundle) = honest();
    let i = bundle.blobs.iter().position(|blob| Pointer::parse(blob).is_some()).unwrap();
    let pointer = bundle.blobs.remove(i);
    let blob = blob_id(&pointer).unwrap();
    assert_eq!(bundle.check(id), Err(ProofError::MissingBlob { id: blob }));
    // Its true size, or any that a pointer could have, is refused.
    for size in [0, pointer.len() as u64, 1024] {
        bundle.sizes.push((blob, size));
        assert_eq!(bundle.check(id), Err(ProofError::WrongPlace { id: blob, size }));
        bundle.sizes.pop();
    }
    // A larger one makes a file that no content fits: the id covers the length, 130 bytes.
    bundle.sizes.push((blob, 1025));
    let manifest = bundle.check(id).unwrap();
    let entry = manifest.entry(&"data/model.bin".parse().unwrap()).unwrap();
    assert_eq!((entry.size, entry.lfs), (1025, None));
}

#[test]
fn a_small_file_must_be_there_and_a_large_one_must_not() {
    let (id, mut bundle) = honest();
    bundle.sizes[0].1 = 1024;
    assert!(matches!(bundle.check(id), Err(ProofError::WrongPlace { size: 1024, .. })));
    bundle.sizes.clear();
    assert_eq!(bundle.check(id), Err(ProofError::MissingBlob { id: BlobId::from_bytes([8; 20]) }));
    bundle.blobs.push(vec![b'x'; 1025]);
    assert!(matches!(bundle.check(id), Err(ProofError::WrongPlace { size: 1025, .. })));
}

#[test]
fn nothing_may_ride_along() {
    let (id, honest) = honest();
    let refused = |change: fn(&mut Bundle)| {
        let mut bundle = honest.clone();
        change(&mut bundle);
        bundle.check(id).unwrap_err()
    };
    let unused = |error| matches!(error, ProofError::Unused { .. });
    assert!(unused(refused(|b| b.trees.push(vec![]))));
    assert!(unused(refused(|b| b.blobs.push(b"stowaway".to_vec()))));
    assert!(unused(refused(|b| b.sizes.push((BlobId::from_bytes([1; 20]), 5000)))));
    let twice = |error| matches!(error, ProofError::Twice { .. });
    assert!(twice(refused(|b| b.trees.push(b.trees[0].clone()))));
    assert!(twice(refused(|b| b.blobs.push(b.blobs[0].clone()))));
    assert!(twice(refused(|b| b.sizes.push((b.sizes[0].0, 5000)))));
    assert!(twice(refused(|b| b.sizes.push((blob_id(&b.blobs[0]).unwrap(), 5000)))));
}

#[test]
fn names_that_could_escape_are_refused() {
    for bad in [&b".."[..], b".", b".git", b".GIT", b"git~1", b"a\nb", b".g\xe2\x80\x8cit", &[b'n'; 256]] {
        let (id, bundle) = named(&[b"fine", bad]);
        assert!(matches!(bundle.check(id), Err(ProofError::Path(_))), "{}", String::from_utf8_lossy(bad));
    }
    let (id, bundle) = named(&[b"caf\xe9"]);
    assert_eq!(bundle.check(id), Err(ProofError::NotUtf8 { name: "caf\u{fffd}".into() }));
    let mut forge = Forge::default();
    let blob = forge.blob(b"");
    let root = forge.raw_tree([b"100644 ../../x\0", &blob[..]].concat());
    let (id, bundle) = forge.commit(root);
    assert!(matches!(bundle.check(id), Err(ProofError::Malformed { what: "git tree", .. })));
}

#[test]
fn names_that_clash_are_refused() {
    let (id, bundle) = named(&[b"README", b"readme"]);
    assert!(matches!(bundle.check(id), Err(ProofError::Manifest(ManifestError::Clash { .. }))));

    let mut forge = Forge::default();
    let blob = forge.blob(b"");
    let inner = forge.tree(&[(FILE, b"x", blob)]);
    let part = |mode: &str, name: &str, id: [u8; 20]| [format!("{mode} {name}\0").as_bytes(), &id].concat();
    // In git's order, and yet `a` is a file and a folder.
    let root = [part("100644", "a", blob), part("100644", "a-", blob), part("40000", "a", inner)].concat();
    let root = forge.raw_tree(root);
    let (id, bundle) = forge.commit(root);
    assert!(matches!(bundle.check(id), Err(ProofError::Manifest(ManifestError::Clash { .. }))));
}

#[test]
fn submodules_are_passed_over_and_links_are_plain_files() {
    let mut forge = Forge::default();
    let pointer = forge.blob(&Pointer { sha256: Sha256::from_bytes([7; 32]), size: 5 }.canonical());
    let root = forge.tree(&[(0o160_000, b"sub", [9; 20]), (0o120_000, b"link", pointer)]);
    let (id, bundle) = forge.commit(root);
    let manifest = bundle.check(id).unwrap();
    let [entry] = manifest.entries() else { panic!("one file") };
    assert_eq!((entry.path.as_str(), entry.mode, entry.lfs), ("link", FileMode::Symlink, None));
}

/// Each folder names the one beneath it ten times: ten to the twentieth files in a kilobyte or so.
fn bomb(levels: usize) -> (CommitId, Bundle) {
    let mut forge = Forge::default();
    let blob = forge.blob(b"");
    let mut folder = forge.tree(&[(FILE, b"f", blob)]);
    for _ in 0..levels {
        let names: Vec<_> = (0..10).map(|i| format!("d{i}")).collect();
        let entries: Vec<_> = names.iter().map(|name| (FOLDER, name.as_bytes(), folder)).collect();
        folder = forge.tree(&entries);
    }
    forge.commit(folder)
}

#[test]
fn a_tree_bomb_stops_at_the_limit() {
    let (id, bundle) = bomb(20);
    let limits = Limits { entries: 5000, ..ROOMY };
    let too_many = ProofError::TooLarge { what: "entries of a commit", size: 5001, limit: 5000 };
    assert_eq!(bundle.check_within(id, limits), Err(too_many));
    let (id, bundle) = bomb(2);
    assert_eq!(bundle.check(id).unwrap().entries().len(), 100);
    // 10 + 100 folders and 100 files.
    assert!(bundle.check_within(id, Limits { entries: 210, ..ROOMY }).is_ok());
    assert!(bundle.check_within(id, Limits { entries: 209, ..ROOMY }).is_err());
}

#[test]
fn long_paths_named_cheaply_stop_at_the_limit() {
    let (id, bundle) = bomb(4);
    let limits = Limits { path_text: 10_000, ..ROOMY };
    assert!(matches!(bundle.check_within(id, limits), Err(ProofError::TooLarge { limit: 10_000, .. })));
}

#[test]
fn more_objects_than_entries_are_not_even_hashed() {
    let (id, bundle) = honest();
    for entries in [0, 1, 2] {
        let limits = Limits { entries, ..ROOMY };
        assert!(matches!(bundle.check_within(id, limits), Err(ProofError::TooLarge { .. })));
    }
    assert!(bundle.check_within(id, Limits { entries: 4, ..ROOMY }).is_ok());
    let limits = Limits { bundle_bytes: bundle.encoded_len() - 1, ..ROOMY };
    assert!(matches!(bundle.check_within(id, limits), Err(ProofError::TooLarge { .. })));
}

#[test]
fn folders_end_at_some_depth() {
    let nested = |folders: usize| {
        let mut forge = Forge::default();
        let blob = forge.blob(b"");
        let mut folder = forge.tree(&[(FILE, b"f", blob)]);
        for _ in 0..folders {
            folder = forge.tree(&[(FOLDER, b"d", folder)]);
        }
        let (id, bundle) = forge.commit(folder);
        bundle.check(id)
    };
    assert!(nested(MAX_TREE_DEPTH).is_ok());
    assert!(matches!(nested(MAX_TREE_DEPTH + 1), Err(ProofError::TooLarge { what: "depth of folders", .. })));
}

#[test]
fn an_empty_root_is_a_commit() {
    let mut forge = Forge::default();
    let root = forge.tree(&[]);
    let (id, bundle) = forge.commit(root);
    assert_eq!(bundle.check(id).unwrap().entries(), []);
}

proptest! {
    /// Whatever byte of a bundle changes, it is refused, or proves the very same files; only the sizes of
    /// large blobs are claims.
    #[test]
    fn no_changed_byte_changes_what_is_proven(at: prop::sample::Index, byte: u8) {
        let (id, honest) = honest();
        let mut bytes = honest.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(manifest) = Bundle::decode(&bytes).and_then(|bundle| bundle.check(id)) {
            let digests = |m: &Manifest| m.entries().iter().map(|e| (e.path.clone(), e.digest())).collect::<Vec<_>>();
            prop_assert_eq!(digests(&manifest), digests(&honest.check(id).unwrap()));
        }
    }

    #[test]
    fn no_objects_panic(
        trees in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut forge = Forge::default();
        let blob = forge.blob(b"");
        let ids: Vec<_> = trees.into_iter().map(|tree| forge.raw_tree(tree)).collect();
        let mut root: Vec<u8> = ids.iter().enumerate().flat_map(|(i, id)| [format!("40000 {i}\0").as_bytes(), id].concat()).collect();
        root.extend([b"100644 f\0", &blob[..]].concat());
        root.extend(tail);
        let root = forge.raw_tree(root);
        let (id, bundle) = forge.commit(root);
        let _ = bundle.check(id);
    }
}
