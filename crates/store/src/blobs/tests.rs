//! Stories of the bytes: taken in, sent, received in any pieces, changed underneath, killed half way, collected.

use std::collections::HashSet;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;
use std::sync::Arc;

use hubless_types::{BlobHash, ByteRange, FileDigest, GROUP_BYTES, GroupSet, NodeId, SystemClock};
use proptest::prelude::*;

use super::tree::PARENT_BYTES;
use super::*;
use crate::Store;

pub(super) struct Bench {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: Store,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Self::open(dir.path());
        Self { dir, store }
    }

    fn open(dir: &Path) -> Store {
        Self::try_open(dir).unwrap()
    }

    fn try_open(dir: &Path) -> Result<Store> {
        Store::open(&dir.join("data"), NodeId::from_bytes([1; 32]), Arc::new(SystemClock))
    }

    /// Closes the store and opens it again.
    pub(super) fn reopened(self) -> Self {
        let Self { dir, store } = self;
        drop(store);
        for _ in 0..100 {
            if let Ok(store) = Self::try_open(dir.path()) {
                return Self { dir, store };
            }
            // A thread of the blobs may still be ending, with a handle of its own.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let store = Self::open(dir.path());
        Self { dir, store }
    }

    pub(super) fn blobs(&self) -> &Blobs {
        self.store.blobs()
    }

    pub(super) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(super) fn import(&self, path: &Path, mode: ImportMode) -> Imported {
        self.blobs().import(path, mode, DigestKind::Sha256, &|_| {}).unwrap()
    }
}

pub(super) fn random(len: usize) -> Vec<u8> {
    seeded(len, len as u64)
}

/// Two stores that all cases of one property share: opening one costs more than a case does. Each test has a thread, and
/// so has stores of its own, which go with it.
pub(super) fn two_benches() -> Rc<(Bench, Bench)> {
    thread_local! {
        static BOTH: Rc<(Bench, Bench)> = Rc::new((Bench::new(), Bench::new()));
    }
    BOTH.with(Rc::clone)
}

pub(super) fn seeded(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(step).collect()
}

fn encoded(blobs: &Blobs, hash: &BlobHash, groups: GroupSet) -> Result<Vec<u8>> {
    let file = Arc::new(blobs.open(hash)?.unwrap());
    let mut out = Vec::new();
    for piece in file.encode(groups) {
        out.extend_from_slice(&piece?);
    }
    Ok(out)
}

const GROUP: usize = GROUP_BYTES as usize;

#[test]
fn an_added_file_has_the_hashes_that_everyone_computes() {
    let place = Bench::new();
    for len in [0, 1, GROUP, GROUP + 1, 5 * GROUP + 3, 1 << 20, (1 << 20) + 1, 35 << 20] {
        let bytes = random(len);
        let path = place.file("f", &bytes);
        let imported = place.import(&path, ImportMode::Reference);
        assert_eq!(imported.hash.as_bytes(), blake3::hash(&bytes).as_bytes(), "{len}");
        let sha: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
        assert_eq!(imported.digest, FileDigest::Sha256(hubless_types::Sha256::from_bytes(sha)));
        let whole = encoded(place.blobs(), &imported.hash, GroupSet::whole(len as u64)).unwrap();
        let parents = (len.div_ceil(GROUP)).saturating_sub(1);
        assert_eq!(whole.len(), 8 + len + parents * PARENT_BYTES);
        assert_eq!(place.blobs().usage().unwrap().owned, 0, "nothing was copied");
    }
    let git = place.blobs().import_bytes(b"hello\n", DigestKind::GitBlob).unwrap();
    assert_eq!(git.digest.to_string(), "git:ce013625030ba8dba906f756967f9e9ca394464a");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_is_sent_in_any_pieces_arrives(
        len in 1..60 * GROUP,
        cuts in prop::collection::vec(1..70_000_usize, 1..20),
        first in 0..60_u64,
        count in 1..60_u64,
        seed: u64,
    ) {
        let both = two_benches();
        let (from, to) = &*both;
        let bytes = seeded(len, seed);
        let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
        let total = (len as u64).div_ceil(GROUP_BYTES);
        let first = first % total;
        let groups = first..(first + count).min(total);
        let answer = encoded(from.blobs(), &hash, groups.clone().into()).unwrap();

        let partial = to.blobs().partial(hash, len as u64).unwrap();
        let mut decoder = partial.decoder(groups.clone());
        let mut rest = &answer[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            decoder.push(now).unwrap();
            rest = later;
            if rest.is_empty() { break }
        }
        decoder.finish().unwrap();
        prop_assert_eq!(partial.have(), GroupSet::from(groups.clone()));
        let range = ByteRange::of_groups(groups, len as u64);
        let end = range.end.min(range.start + MAX_READ_BYTES);
        prop_assert_eq!(&partial.read(range).unwrap()[..], &bytes[range.start as usize..end as usize]);
    }

    #[test]
    fn a_changed_byte_anywhere_is_found_and_never_kept(len in 1..40 * GROUP, at in any::<prop::sample::Index>(), flip in 1..=255_u8, seed: u64) {
        let both = two_benches();
        let (from, to) = &*both;
        let bytes = seeded(len, seed);
        let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
        let mut answer = encoded(from.blobs(), &hash, GroupSet::whole(len as u64)).unwrap();
        let at = at.index(answer.len());
        answer[at] ^= flip;
        let partial = to.blobs().partial(hash, len as u64).unwrap();
        let mut decoder = partial.decoder(GroupSet::whole(len as u64));
        let error = decoder.push(&answer).unwrap_err();
        prop_assert!(error.blames_sender());
        for run in partial.have().runs() {
            let range = ByteRange::of_groups(run.clone(), len as u64);
            let end = range.end.min(range.start + MAX_READ_BYTES);
            prop_assert_eq!(&partial.read(range).unwrap()[..], &bytes[range.start as usize..end as usize]);
        }
    }
}

#[test]
fn too_little_and_too_much_are_told_apart() {
    let (from, to) = (Bench::new(), Bench::new());
    let bytes = random(3 * GROUP);
    let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
    let mut answer = encoded(from.blobs(), &hash, GroupSet::from(0..2)).unwrap();
    let partial = to.blobs().partial(hash, bytes.len() as u64).unwrap();
    let mut decoder = partial.decoder(0..2);
    decoder.push(&answer[..answer.len() - 1]).unwrap();
    assert!(matches!(decoder.finish(), Err(DecodeError::Truncated { got: 1, wanted: 2, .. })));
    answer.push(0);
    let mut decoder = partial.decoder(0..2);
    assert!(matches!(decoder.push(&answer), Err(DecodeError::TooMuch { .. })));
    answer[0] ^= 1;
    let mut decoder = partial.decoder(0..2);
    assert!(matches!(decoder.push(&answer), Err(DecodeError::WrongSize { .. })));
}

#[test]
fn a_fetch_goes_on_where_it_was_after_a_restart() {
    let from = Bench::new();
    let to = tempfile::tempdir().unwrap();
    let bytes = random(50 * GROUP + 9);
    let size = bytes.len() as u64;
    let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
    {
        let store = Bench::open(to.path());
        let partial = store.blobs().partial(hash, size).unwrap();
        let mut decoder = partial.decoder(10..30);
        decoder.push(&encoded(from.blobs(), &hash, GroupSet::from(10..30)).unwrap()).unwrap();
    }
    let store = Bench::open(to.path());
    assert_eq!(
        store.blobs().status(&hash).unwrap(),
        BlobStatus::Partial { size, have: GroupSet::from(10..30) }
    );
    // What is here in part is sent on.
    let again = encoded(store.blobs(), &hash, GroupSet::from(12..20)).unwrap();
    assert_eq!(again, encoded(from.blobs(), &hash, GroupSet::from(12..20)).unwrap());
    let partial = store.blobs().partial(hash, size).unwrap();
    let sha: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
    let digest = FileDigest::Sha256(hubless_types::Sha256::from_bytes(sha));
    let mut prover = store.blobs().prover(partial.clone(), digest);
    assert_eq!(prover.advance().unwrap(), 0, "the beginning is not here");
    for groups in [0..10, 30..51] {
        let mut decoder = partial.decoder(groups.clone());
        decoder.push(&encoded(from.blobs(), &hash, groups.into()).unwrap()).unwrap();
        decoder.finish().unwrap();
    }
    assert!(partial.is_complete());
    assert_eq!(store.blobs().status(&hash).unwrap(), BlobStatus::Complete { size });
    assert!(prover.finish().unwrap());
    assert_eq!(store.catalogue().link(&digest).unwrap().unwrap().trust, LinkTrust::Proven);
    assert!(store.blobs().prove(&hash, &digest).unwrap());
    assert!(
        !store.blobs().prove(&hash, &FileDigest::Sha256(hubless_types::Sha256::from_bytes([0; 32]))).unwrap()
    );
}

#[test]
fn a_changed_reference_is_dropped_before_a_wrong_byte_leaves() {
    let place = Bench::new();
    let bytes = random(20 * GROUP);
    let path = place.file("f", &bytes);
    let hash = place.import(&path, ImportMode::Reference).hash;
    let open = place.blobs().open(&hash).unwrap().unwrap();
    assert_eq!(&open.read(ByteRange::new(5, 70_000)).unwrap()[..], &bytes[5..70_000]);

    // Changed while it is open, its stamp put back: only its hashes tell.
    let meta = std::fs::metadata(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"wrong", 100_000).unwrap();
    file.set_modified(meta.modified().unwrap()).unwrap();
    assert_eq!(&open.read(ByteRange::new(0, 16)).unwrap()[..], &bytes[..16]);
    assert!(matches!(open.read(ByteRange::new(99_990, 99_999)), Err(StoreError::Mismatch { .. })));
    assert_eq!(place.blobs().status(&hash).unwrap(), BlobStatus::Absent);
    assert!(path.exists(), "somebody else's file is never touched");

    // Added again from a good copy it heals; then the file vanishes.
    let good = place.file("g", &bytes);
    assert_eq!(place.import(&good, ImportMode::Reference).hash, hash);
    std::fs::remove_file(&good).unwrap();
    assert_eq!(place.blobs().status(&hash).unwrap(), BlobStatus::Absent);
    assert!(place.blobs().open(&hash).unwrap().is_none());
}

/// A copy put back, a new time of change, another inode: the bytes are what was hashed, so nothing is lost.
#[test]
fn a_reference_that_was_only_touched_stays() {
    let place = Bench::new();
    let bytes = random(20 * GROUP);
    let path = place.file("f", &bytes);
    let hash = place.import(&path, ImportMode::Reference).hash;
    let whole = BlobStatus::Complete { size: bytes.len() as u64 };
    let touch = |secs| {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs)).unwrap();
    };
    touch(1);
    assert_eq!(place.blobs().status(&hash).unwrap(), whole);
    touch(2);
    assert!(place.blobs().verify(&mut |_| true).unwrap().bad.is_empty());
    assert_eq!(place.blobs().status(&hash).unwrap(), whole);
    std::fs::rename(&path, place.dir.path().join("away")).unwrap();
    place.file("f", &bytes);
    let open = place.blobs().open(&hash).unwrap().unwrap();
    assert_eq!(&open.read(ByteRange::new(5, 70_000)).unwrap()[..], &bytes[5..70_000]);

    // Other bytes of the same length are another file.
    File::options().write(true).open(&path).unwrap().write_all_at(b"wrong", 100_000).unwrap();
    touch(3);
    assert_eq!(place.blobs().status(&hash).unwrap(), BlobStatus::Absent);
}

/// What a tree was made of is here: losing it, or rot in it, loses nothing.
#[test]
fn a_tree_that_is_lost_or_rotten_is_made_anew() {
    let place = Bench::new();
    let bytes = random(20 * GROUP);
    for mode in [ImportMode::Reference, ImportMode::Copy] {
        let hash = place.import(&place.file("f", &bytes), mode).hash;
        let tree = place.blobs().0.layout.tree(&hash);
        let made = std::fs::read(&tree).unwrap();
        let reads = || {
            let open = place.blobs().open(&hash).unwrap().unwrap();
            open.read(ByteRange::new(5, 70_000)).is_ok_and(|read| read[..] == bytes[5..70_000])
        };
        std::fs::remove_file(&tree).unwrap();
        assert!(reads(), "{mode:?}");
        std::fs::write(&tree, &made[..100]).unwrap();
        assert!(!reads() && reads(), "{mode:?}: whoever has it open is told once");
        std::fs::write(&tree, vec![7; made.len()]).unwrap();
        assert!(place.blobs().verify(&mut |_| true).unwrap().bad.is_empty(), "{mode:?}");
        assert!(reads() && std::fs::read(&tree).unwrap() == made, "{mode:?}");
    }
}

#[test]
fn an_answer_stops_at_the_byte_that_changed() {
    let place = Bench::new();
    let bytes = random(64 * GROUP);
    let path = place.file("f", &bytes);
    let hash = place.import(&path, ImportMode::Reference).hash;
    let open = Arc::new(place.blobs().open(&hash).unwrap().unwrap());
    File::options().write(true).open(&path).unwrap().write_all_at(b"x", 40 * GROUP_BYTES).unwrap();
    let pieces: Vec<_> = open.encode(GroupSet::whole(bytes.len() as u64)).collect();
    assert!(pieces.last().unwrap().is_err());
    let sent: usize = pieces.iter().flatten().map(|p| p.len()).sum();
    assert!(sent < 41 * (GROUP + PARENT_BYTES));
}

#[test]
fn verify_names_what_is_wrong_and_keeps_what_is_right() {
    let place = Bench::new();
    let bytes = random(20 * GROUP);
    let owned = place.import(&place.file("f", &bytes), ImportMode::Copy).hash;
    let fine = place.import(&place.file("g", b"fine"), ImportMode::Reference).hash;
    let empty = place.import(&place.file("h", b""), ImportMode::Reference).hash;
    let data = place.blobs().0.layout.data(&owned);
    File::options().write(true).open(&data).unwrap().write_all_at(b"rot", 3 * GROUP_BYTES).unwrap();
    let report = place.blobs().verify(&mut |_| true).unwrap();
    assert_eq!((report.good, report.bad.len()), (2, 1));
    std::fs::write(place.dir.path().join("h"), b"").unwrap();
    assert_eq!(place.blobs().status(&empty).unwrap(), BlobStatus::Complete { size: 0 }, "touched");
    assert_eq!((report.bad[0].path.clone(), report.bad[0].lost), (data, GROUP_BYTES));
    let BlobStatus::Partial { have, .. } = place.blobs().status(&owned).unwrap() else { panic!() };
    assert_eq!(have.missing(0..20), GroupSet::from(3..4));
    assert_eq!(place.blobs().status(&fine).unwrap(), BlobStatus::Complete { size: 4 });
    assert!(place.blobs().verify(&mut |_| true).unwrap().bad.is_empty());
}

#[test]
fn a_blob_that_is_synced_while_it_is_verified_is_still_found_rotten() {
    let place = Bench::new();
    let hash = place.import(&place.file("f", &random(4 * GROUP)), ImportMode::Copy).hash;
    let catalogue = place.store.catalogue();
    let looked_at = BlobRecord { synced: false, ..catalogue.blob(&hash).unwrap().unwrap() };
    let data = place.blobs().0.layout.data(&hash);
    File::options().write(true).open(&data).unwrap().write_all_at(b"rot", GROUP_BYTES).unwrap();
    catalogue.mark_synced(&hash).unwrap();
    let found = place.blobs().0.verify_one(&hash, &looked_at).unwrap().unwrap();
    assert_eq!(found.lost, GROUP_BYTES);
    assert!(matches!(place.blobs().status(&hash).unwrap(), BlobStatus::Partial { .. }));
}

#[test]
fn collection_takes_only_what_nobody_keeps_or_reads() {
    let place = Bench::new();
    let import =
        |name: &str| place.import(&place.file(name, &random(3 * GROUP + name.len())), ImportMode::Copy).hash;
    let (kept, read, loose) = (import("a"), import("bb"), import("ccc"));
    let referenced = place.import(&place.file("dddd", &random(GROUP * 2)), ImportMode::Reference).hash;
    let stray = place.blobs().0.layout.data(&BlobHash::from_bytes([9; 32]));
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::write(&stray, b"left by a killed process").unwrap();
    let reading = place.blobs().open(&read).unwrap().unwrap();

    let keep = HashSet::from([kept]);
    let dry = place.blobs().collect(&keep, &HashSet::new(), true).unwrap();
    assert!(stray.exists());
    let report = place.blobs().collect(&keep, &HashSet::new(), false).unwrap();
    assert_eq!(dry, report);
    assert_eq!((report.kept, report.held, report.dropped), (1, 1, 2));
    assert!(report.freed > 3 * GROUP_BYTES && !stray.exists());
    assert!(matches!(place.blobs().evict(&read), Err(StoreError::Held { .. })));
    assert_eq!(reading.read(ByteRange::new(0, 1)).unwrap().len(), 1);
    for gone in [loose, referenced] {
        assert_eq!(place.blobs().status(&gone).unwrap(), BlobStatus::Absent);
    }
    assert!(place.dir.path().join("dddd").exists());
    drop(reading);
    assert_eq!(place.blobs().collect(&keep, &HashSet::new(), false).unwrap().dropped, 1);
}

#[test]
fn bytes_of_another_boot_that_were_not_synced_are_hashed_again() {
    let place = Bench::new();
    let bytes = random(10 * GROUP);
    let hash = place.import(&place.file("f", &bytes), ImportMode::Copy).hash;
    let data = place.blobs().0.layout.data(&hash);
    File::options().write(true).open(&data).unwrap().write_all_at(&[0; 100], 2 * GROUP_BYTES).unwrap();
    let catalogue = place.store.catalogue();
    let record = catalogue.blob(&hash).unwrap().unwrap();
    catalogue.put_blob(&hash, &BlobRecord { synced: false, boot: [7; 16], ..record }).unwrap();
    let BlobStatus::Partial { have, .. } = place.blobs().status(&hash).unwrap() else { panic!() };
    assert_eq!(have.len(), 9);
}

#[test]
fn a_file_that_somebody_writes_to_is_refused() {
    let place = Bench::new();
    let path = place.file("f", &random(8 << 20));
    let grow = |_| {
        let mut file = File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"more").unwrap();
    };
    let error = place.blobs().import(&path, ImportMode::Reference, DigestKind::Sha256, &grow).unwrap_err();
    assert!(matches!(error, StoreError::ChangedWhileRead { .. }), "{error}");
    assert!(
        place.blobs().import(place.dir.path(), ImportMode::Reference, DigestKind::Sha256, &|_| {}).is_err()
    );
    assert_eq!(place.blobs().usage().unwrap(), Usage::default());
}

#[test]
fn the_empty_blob_is_here_as_soon_as_it_is_asked_for() {
    let place = Bench::new();
    let empty = hash_bytes(&[]);
    assert!(place.blobs().partial(empty, 0).unwrap().is_complete());
    assert_eq!(place.blobs().status(&empty).unwrap(), BlobStatus::Complete { size: 0 });
    assert!(place.blobs().partial(BlobHash::from_bytes([1; 32]), 0).is_err());
}

#[test]
fn a_fetch_that_cannot_fit_is_refused_before_it_begins() {
    let place = Bench::new();
    let error = place.blobs().partial(BlobHash::from_bytes([1; 32]), 1 << 60).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert_eq!(place.blobs().status(&BlobHash::from_bytes([1; 32])).unwrap(), BlobStatus::Absent);
}

#[test]
fn a_blob_added_while_it_is_fetched_is_whole_at_once() {
    let place = Bench::new();
    let bytes = random(5 * GROUP);
    let hash = hash_bytes(&bytes);
    let partial = place.blobs().partial(hash, bytes.len() as u64).unwrap();
    let path = place.file("f", &bytes);
    assert_eq!(place.import(&path, ImportMode::Reference).hash, hash);
    assert_eq!(place.blobs().status(&hash).unwrap(), BlobStatus::Complete { size: bytes.len() as u64 });
    drop(partial);
    assert_eq!(place.blobs().status(&hash).unwrap(), BlobStatus::Complete { size: bytes.len() as u64 });
    assert!(place.blobs().partial(hash, bytes.len() as u64).unwrap().is_complete());
}

fn fetch_some(from: &Bench, to: &Bench, hash: BlobHash, size: u64, groups: std::ops::Range<u64>) {
    let partial = to.blobs().partial(hash, size).unwrap();
    let mut decoder = partial.decoder(groups.clone());
    decoder.push(&encoded(from.blobs(), &hash, groups.into()).unwrap()).unwrap();
    decoder.finish().unwrap();
}

#[test]
fn files_that_vanished_are_not_made_anew_out_of_zeros() {
    let (from, to) = (Bench::new(), Bench::new());
    let bytes = random(20 * GROUP);
    let size = bytes.len() as u64;
    let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
    for lost in [Layout::data, Layout::tree] {
        fetch_some(&from, &to, hash, size, 0..5);
        std::fs::remove_file(lost(&to.blobs().0.layout, &hash)).unwrap();
        let again = to.blobs().partial(hash, size).unwrap();
        assert!(again.have().is_empty());
        assert!(again.read(ByteRange::new(0, 10)).is_err());
    }
    fetch_some(&from, &to, hash, size, 0..20);
    std::fs::remove_file(to.blobs().0.layout.data(&hash)).unwrap();
    assert!(to.blobs().open(&hash).unwrap().is_none());
    assert_eq!(to.blobs().status(&hash).unwrap(), BlobStatus::Absent, "it can be fetched again");
}

#[test]
fn a_late_look_does_not_undo_what_came_since() {
    let (from, to) = (Bench::new(), Bench::new());
    let bytes = random(20 * GROUP);
    let size = bytes.len() as u64;
    let path = to.file("f", &bytes);
    let hash = to.import(&path, ImportMode::Reference).hash;
    from.import(&from.file("f", &bytes), ImportMode::Copy);
    let seen = to.store.catalogue().blob(&hash).unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
    fetch_some(&from, &to, hash, size, 0..7);
    // Somebody looked before the fetch began, and acts only now.
    let inner = &to.blobs().0;
    inner.forget_if(&inner.lives(), &hash, &seen).unwrap();
    inner.recheck(&hash, &seen).unwrap();
    assert_eq!(to.blobs().status(&hash).unwrap(), BlobStatus::Partial { size, have: GroupSet::from(0..7) });
    assert_eq!(to.blobs().partial(hash, size).unwrap().read(ByteRange::new(0, 9)).unwrap(), bytes[..9]);
}

#[test]
fn a_new_mode_changes_nothing_and_a_new_place_counts() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Bench::new();
    let bytes = random(3 * GROUP);
    let (old, new) = (place.file("old", &bytes), place.file("new", &bytes));
    let hash = place.import(&old, ImportMode::Reference).hash;
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.blobs().status(&hash).unwrap(), BlobStatus::Complete { size: bytes.len() as u64 });
    assert_eq!(place.import(&new, ImportMode::Reference).hash, hash);
    std::fs::remove_file(&old).unwrap();
    let open = place.blobs().open(&hash).unwrap().unwrap();
    assert_eq!(open.read(ByteRange::new(0, 100)).unwrap(), bytes[..100]);
}

#[test]
fn a_size_that_led_nowhere_binds_nobody() {
    let (from, to) = (Bench::new(), Bench::new());
    let bytes = random(3 * GROUP);
    let size = bytes.len() as u64;
    let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
    drop(to.blobs().partial(hash, size + 1).unwrap());
    fetch_some(&from, &to, hash, size, 0..1);
    assert!(matches!(to.blobs().partial(hash, size + 1), Err(StoreError::SizeClash { .. })));
}

#[test]
fn a_fetch_joined_after_the_file_was_added_checks_what_it_reads() {
    let place = Bench::new();
    let bytes = random(3 * GROUP);
    let path = place.file("f", &bytes);
    let hash = place.import(&path, ImportMode::Reference).hash;
    let whole = place.blobs().partial(hash, bytes.len() as u64).unwrap();
    assert_eq!(whole.read(ByteRange::new(7, 50)).unwrap(), bytes[7..50]);
    File::options().write(true).open(&path).unwrap().write_all_at(b"changed", 10).unwrap();
    assert!(whole.read(ByteRange::new(7, 50)).is_err());
}
