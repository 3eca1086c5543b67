//! Stories of files that an origin fills: in order, in pieces, by many hands, killed half way, and wrong.

use std::collections::HashSet;

use hubless_types::{BlobHash, ByteRange, FileDigest, GROUP_BYTES, GroupSet, LinkTrust};
use proptest::prelude::*;

use super::tests::{Bench, random, seeded, two_benches};
use super::tree::{Node, PARENT_BYTES};
use super::*;

const GROUP: usize = GROUP_BYTES as usize;

fn sha256(bytes: &[u8]) -> FileDigest {
    digest_bytes(bytes, DigestKind::Sha256).unwrap()
}

/// The bytes of a file and a draft of it.
fn begun(place: &Bench, len: usize) -> (Vec<u8>, Draft) {
    let bytes = random(len);
    let draft = place.blobs().draft(sha256(&bytes), len as u64).unwrap();
    (bytes, draft)
}

fn is(finished: Finished) -> Imported {
    match finished {
        Finished::Is(imported) => imported,
        Finished::IsNot { found } => panic!("it is {found:?}"),
    }
}

fn read_all(blobs: &Blobs, hash: &BlobHash) -> Vec<u8> {
    let file = blobs.open(hash).unwrap().unwrap();
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < file.size() {
        bytes.extend_from_slice(&file.read(ByteRange::new(bytes.len() as u64, file.size())).unwrap());
    }
    bytes
}

fn draft_files(place: &Bench) -> usize {
    std::fs::read_dir(place.dir.path().join("data/blobs/drafts")).map_or(0, |files| files.flatten().count())
}

#[test]
fn a_file_that_came_whole_is_a_blob_of_ours_with_a_proven_link() {
    let place = Bench::new();
    for len in [0, 1, GROUP, GROUP + 1, 5 * GROUP + 3, (17 << 20) + 5] {
        let (bytes, draft) = begun(&place, len);
        let digest = draft.digest();
        draft.writer(0).push(&bytes).unwrap();
        assert!(draft.is_complete());
        let imported = is(draft.finish().unwrap());
        assert_eq!(imported.hash.as_bytes(), blake3::hash(&bytes).as_bytes(), "{len}");
        assert_eq!(read_all(place.blobs(), &imported.hash), bytes);
        let link = place.store.catalogue().link(&digest).unwrap().unwrap();
        assert_eq!((link.hash, link.size, link.trust), (imported.hash, len as u64, LinkTrust::Proven));
        assert!(!place.blobs().is_shared(&imported.hash).unwrap());
        assert!(matches!(draft.finish(), Err(StoreError::DraftGone { .. })), "it is finished once");
        assert_eq!((draft_files(&place), place.blobs().usage().unwrap().drafts), (0, 0), "{len}");
    }
}

#[test]
fn a_git_file_is_known_by_its_blob_id() {
    let place = Bench::new();
    let bytes = random(3 * GROUP + 1);
    let digest = digest_bytes(&bytes, DigestKind::GitBlob).unwrap();
    let draft = place.blobs().draft(digest, bytes.len() as u64).unwrap();
    draft.writer(0).push(&bytes).unwrap();
    assert_eq!(is(draft.finish().unwrap()).digest, digest);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Streams that begin anywhere, break off anywhere and overlap make the file, whatever their pieces.
    #[test]
    fn pieces_in_any_order_make_the_file(
        len in 0..50 * GROUP,
        runs in prop::collection::vec((any::<prop::sample::Index>(), 1..20 * GROUP, 1..40_000_usize), 0..8),
        seed: u64,
    ) {
        let both = two_benches();
        let place = &both.0;
        let bytes = seeded(len, seed);
        let draft = place.blobs().draft(sha256(&bytes), len as u64).unwrap();
        let mut expected = GroupSet::new();
        for (start, count, cut) in runs {
            let start = start.index(len + 1);
            let end = (start + count).min(len);
            let mut writer = draft.writer(start as u64);
            for piece in bytes[start..end].chunks(cut) {
                writer.push(piece).unwrap();
            }
            prop_assert_eq!(writer.at(), end as u64);
            let first = start.div_ceil(GROUP) as u64;
            let last = if end == len { len.div_ceil(GROUP) } else { end / GROUP } as u64;
            expected.insert(first..last.max(first));
            prop_assert_eq!(draft.have(), expected.clone());
        }
        if expected != GroupSet::whole(len as u64) {
            let too_soon = matches!(draft.finish(), Err(StoreError::DraftNotWhole { .. }));
            prop_assert!(too_soon);
        }
        draft.writer(0).push(&bytes).unwrap();
        let imported = is(draft.finish().unwrap());
        prop_assert_eq!(imported.hash, super::tree::hash_bytes(&bytes));
        prop_assert_eq!(&read_all(place.blobs(), &imported.hash), &bytes);
    }
}

#[test]
fn many_hands_at_once_make_the_file() {
    let place = Bench::new();
    let (bytes, draft) = begun(&place, (6 << 20) + 77);
    let cut = bytes.len() / 4;
    std::thread::scope(|scope| {
        // Each goes on into the next quarter, so that some groups come twice at about the same time.
        for start in (0..bytes.len()).step_by(cut) {
            let (draft, bytes) = (&draft, &bytes);
            scope.spawn(move || {
                let mut writer = draft.writer(start as u64);
                for piece in bytes[start..(start + cut + 9 * GROUP).min(bytes.len())].chunks(100_000) {
                    writer.push(piece).unwrap();
                }
            });
        }
    });
    assert_eq!(read_all(place.blobs(), &is(draft.finish().unwrap()).hash), bytes);
}

#[test]
fn another_file_is_dropped_and_said() {
    let place = Bench::new();
    for wrong_at in [0, 5 * GROUP, 9 * GROUP] {
        let (mut bytes, draft) = begun(&place, 9 * GROUP + 1);
        bytes[wrong_at] ^= 1;
        draft.writer(0).push(&bytes).unwrap();
        let found = Some(sha256(&bytes));
        assert_eq!(draft.finish().unwrap(), Finished::IsNot { found });
        assert!(matches!(draft.writer(0).push(&bytes), Err(StoreError::DraftGone { .. })));
        let usage = place.blobs().usage().unwrap();
        assert_eq!((usage.drafts, usage.owned, draft_files(&place)), (0, 0, 0));
        assert_eq!(place.store.catalogue().link(&draft.digest()).unwrap(), None);
        // The next origin begins with nothing of it.
        let again = place.blobs().draft(draft.digest(), draft.size()).unwrap();
        assert!(again.have().is_empty());
        again.discard().unwrap();
    }
}

#[test]
fn more_bytes_than_the_file_has_are_refused() {
    let place = Bench::new();
    let (bytes, draft) = begun(&place, 2 * GROUP);
    let mut writer = draft.writer(GROUP_BYTES);
    writer.push(&bytes[GROUP..]).unwrap();
    assert!(matches!(writer.push(b"x"), Err(StoreError::TooLarge { .. })));
    assert!(matches!(draft.writer(u64::MAX).push(b"x"), Err(StoreError::TooLarge { .. })));
    assert_eq!(draft.have(), GroupSet::from(1..2));
}

#[test]
fn one_draft_a_digest_and_one_size() {
    let place = Bench::new();
    let (bytes, draft) = begun(&place, 3 * GROUP);
    let other = place.blobs().draft(draft.digest(), draft.size()).unwrap();
    other.writer(0).push(&bytes[..GROUP]).unwrap();
    assert!(draft.changed().has_changed().is_ok());
    assert_eq!((draft.have(), *draft.changed().borrow()), (GroupSet::from(0..1), 1));
    let clash = place.blobs().draft(draft.digest(), 7);
    assert!(matches!(clash, Err(StoreError::DraftSizeClash { known, said: 7, .. }) if known == draft.size()));
    drop((draft, other));
    // Whoever is gone binds nobody: that size was somebody's word.
    assert!(place.blobs().draft(sha256(&bytes), 7).unwrap().have().is_empty());
}

/// A process that is killed finds what it had, as far as the records speak of it, and hashes it anew.
#[test]
fn a_draft_goes_on_after_a_restart() {
    let place = Bench::new();
    let (bytes, draft) = begun(&place, (3 << 20) + 9);
    let digest = draft.digest();
    draft.writer(0).push(&bytes[..2 << 20]).unwrap();
    let size = draft.size();
    drop(draft);
    let place = place.reopened();
    assert_eq!(place.blobs().usage().unwrap().draft_bytes, 2 << 20);
    let draft = place.blobs().draft(digest, size).unwrap();
    assert_eq!(draft.have().len(), (2 << 20) / GROUP_BYTES);
    draft.writer(2 << 20).push(&bytes[2 << 20..]).unwrap();
    assert_eq!(read_all(place.blobs(), &is(draft.finish().unwrap()).hash), bytes);
}

/// After a power cut only what the disk itself took counts.
#[test]
fn after_another_boot_only_what_is_safe_counts() {
    let place = Bench::new();
    let (bytes, draft) = begun(&place, 8 * GROUP);
    let digest = draft.digest();
    draft.writer(0).push(&bytes[..3 * GROUP]).unwrap();
    draft.0.secure().unwrap();
    draft.writer(3 * GROUP_BYTES).push(&bytes[3 * GROUP..5 * GROUP]).unwrap();
    drop(draft);
    let catalogue = place.store.catalogue();
    let record = catalogue.draft(&digest).unwrap().unwrap();
    assert_eq!((record.have.len(), record.safe.len()), (5, 3));
    catalogue.put_draft(&digest, &crate::catalogue::DraftRecord { boot: [7; 16], ..record }).unwrap();
    let draft = place.blobs().draft(digest, bytes.len() as u64).unwrap();
    assert_eq!(draft.have(), GroupSet::from(0..3));
    // And where the file is gone, nothing.
    drop(draft);
    std::fs::remove_dir_all(place.dir.path().join("data/blobs/drafts")).unwrap();
    assert!(place.blobs().draft(digest, bytes.len() as u64).unwrap().have().is_empty());
}

#[test]
fn what_nobody_fills_is_collected_and_what_somebody_wants_is_not() {
    let place = Bench::new();
    let (bytes, open) = begun(&place, 4 * GROUP);
    open.writer(0).push(&bytes[..2 * GROUP]).unwrap();
    let (loose, wanted) = (begun(&place, 5 * GROUP).1.digest(), begun(&place, 6 * GROUP).1.digest());
    std::fs::write(place.dir.path().join(format!("data/blobs/drafts/sha256-{}.data", "0".repeat(64))), b"x")
        .unwrap();
    assert_eq!(place.blobs().drafts().unwrap().len(), 3);
    let collect = |dry| place.blobs().collect(&HashSet::new(), &HashSet::from([wanted]), dry).unwrap();
    let dry = collect(true);
    let report = collect(false);
    assert_eq!(dry, report);
    assert_eq!((report.dropped, report.held, report.kept), (1, 1, 1));
    assert_eq!(place.blobs().drafts().unwrap(), HashSet::from([open.digest(), wanted]));
    assert!(!place.blobs().drafts().unwrap().contains(&loose));
    assert_eq!(draft_files(&place), 4);
}

#[test]
fn nothing_of_a_draft_is_ever_served() {
    let place = Bench::new();
    let (bytes, draft) = begun(&place, 4 * GROUP);
    draft.writer(0).push(&bytes).unwrap();
    let hash = super::tree::hash_bytes(&bytes);
    assert!(place.blobs().open(&hash).unwrap().is_none());
    assert_eq!(place.blobs().status(&hash).unwrap(), BlobStatus::Absent);
    drop(draft);
}

/// The tree of a blob as a peer sends it.
fn tree_of(blobs: &Blobs, hash: &BlobHash, from: u64) -> Vec<u8> {
    let file = Arc::new(blobs.open(hash).unwrap().unwrap());
    let pieces = file.encode_tree(from).unwrap().map(|piece| piece.unwrap().to_vec());
    pieces.collect::<Vec<_>>().concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// A tree in any pieces, broken off anywhere and gone on with after a restart, lets plain bytes be checked.
    #[test]
    fn a_tree_comes_before_its_bytes(
        len in 1..60 * GROUP,
        cut in 1..5_000_usize,
        broken in any::<prop::sample::Index>(),
        first in 0..60_u64,
        count in 1..60_u64,
        pieces in 1..70_000_usize,
        seed: u64,
    ) {
        let both = two_benches();
        let (from, to) = &*both;
        let bytes = seeded(len, seed);
        let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
        let tree = tree_of(from.blobs(), &hash, 0);
        let parents = Node::root(len as u64).groups - 1;
        prop_assert_eq!(tree.len() as u64, parents * PARENT_BYTES as u64);

        let broken = broken.index(tree.len() + 1);
        let partial = to.blobs().partial(hash, len as u64).unwrap();
        let mut decoder = partial.tree_decoder().unwrap();
        tree[..broken].chunks(cut).for_each(|piece| decoder.push(piece).unwrap());
        drop((decoder, partial));
        let partial = to.blobs().partial(hash, len as u64).unwrap();
        let mut decoder = partial.tree_decoder().unwrap();
        prop_assert_eq!(decoder.at(), (broken / PARENT_BYTES) as u64);
        let rest = tree_of(from.blobs(), &hash, decoder.at());
        prop_assert_eq!(&rest[..], &tree[decoder.at() as usize * PARENT_BYTES..]);
        prop_assert_eq!(partial.has_tree(), rest.is_empty());
        rest.chunks(cut).for_each(|piece| decoder.push(piece).unwrap());
        decoder.finish().unwrap();
        prop_assert!(partial.has_tree());

        let total = (len as u64).div_ceil(GROUP_BYTES);
        let first = first % total;
        let groups = first..(first + count).min(total);
        let range = ByteRange::of_groups(groups.clone(), len as u64);
        let mut filler = partial.filler(groups.clone()).unwrap();
        for piece in bytes[range.start as usize..range.end as usize].chunks(pieces) {
            filler.push(piece).unwrap();
        }
        filler.finish().unwrap();
        prop_assert_eq!(partial.have(), GroupSet::from(groups));
    }

    #[test]
    fn a_wrong_parent_or_byte_is_found_where_it_is(len in 2 * GROUP..40 * GROUP, at in any::<prop::sample::Index>(), seed: u64) {
        let both = two_benches();
        let (from, to) = &*both;
        let bytes = seeded(len, seed);
        let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
        let tree = tree_of(from.blobs(), &hash, 0);
        let partial = to.blobs().partial(hash, len as u64).unwrap();
        let mut spoilt = tree.clone();
        let place = at.index(tree.len());
        spoilt[place] ^= 1;
        let mut decoder = partial.tree_decoder().unwrap();
        prop_assert!(decoder.push(&spoilt).unwrap_err().blames_sender());
        prop_assert_eq!(decoder.at() as usize, place / PARENT_BYTES, "what came before it is kept");
        prop_assert!(partial.filler(0..1).is_err(), "without its tree nothing is filled");
        let mut decoder = partial.tree_decoder().unwrap();
        decoder.push(&tree[decoder.at() as usize * PARENT_BYTES..]).unwrap();
        decoder.finish().unwrap();

        let place = at.index(len);
        let mut spoilt = bytes.clone();
        spoilt[place] ^= 1;
        let error = partial.filler(0..u64::MAX).unwrap().push(&spoilt).unwrap_err();
        let wrong = (place / GROUP) as u64;
        let DecodeError::WrongBytes { offset, .. } = error else { panic!("{error}") };
        prop_assert_eq!(offset, wrong * GROUP_BYTES);
        prop_assert_eq!(partial.have(), GroupSet::from(0..wrong));
    }
}

#[test]
fn too_much_of_a_tree_or_of_bytes_is_refused() {
    let (from, to) = (Bench::new(), Bench::new());
    let bytes = random(5 * GROUP + 1);
    let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
    let tree = tree_of(from.blobs(), &hash, 0);
    let partial = to.blobs().partial(hash, bytes.len() as u64).unwrap();
    let mut decoder = partial.tree_decoder().unwrap();
    assert!(matches!(decoder.push(&[&tree[..], b"x"].concat()), Err(DecodeError::TooMuch { .. })));
    assert!(partial.has_tree());
    let mut filler = partial.filler(0..2).unwrap();
    assert!(matches!(filler.push(&bytes), Err(DecodeError::TooMuch { .. })));
    assert!(matches!(partial.filler(2..4).unwrap().finish(), Err(DecodeError::Truncated { .. })));
    assert_eq!(partial.have(), GroupSet::from(0..2));
}

/// An origin has begun a file; then peers turn up: what fits their tree need not come again.
#[test]
fn a_draft_is_poured_into_a_blob_that_has_its_tree() {
    let (from, to) = (Bench::new(), Bench::new());
    let bytes = random(40 * GROUP + 5);
    let imported = from.import(&from.file("f", &bytes), ImportMode::Copy);
    let draft = to.blobs().draft(imported.digest, imported.size).unwrap();
    let mut spoilt = bytes.clone();
    spoilt[7 * GROUP + 3] ^= 1;
    draft.writer(0).push(&spoilt[..20 * GROUP]).unwrap();
    draft.writer(30 * GROUP_BYTES).push(&spoilt[30 * GROUP..]).unwrap();
    let partial = to.blobs().partial(imported.hash, imported.size).unwrap();
    assert!(matches!(draft.pour(&partial), Err(StoreError::NoTree { .. })));
    let mut decoder = partial.tree_decoder().unwrap();
    decoder.push(&tree_of(from.blobs(), &imported.hash, 0)).unwrap();
    partial.filler(2..4).unwrap().push(&bytes[2 * GROUP..4 * GROUP]).unwrap();
    let fitted: GroupSet = [0..2, 4..7, 8..20, 30..41].into_iter().collect();
    assert_eq!(draft.pour(&partial).unwrap(), fitted);
    assert_eq!(partial.have(), [0..7, 8..20, 30..41].into_iter().collect());
    draft.discard().unwrap();
    for gap in [7..8_usize, 20..30] {
        partial
            .filler(gap.start as u64..gap.end as u64)
            .unwrap()
            .push(&bytes[gap.start * GROUP..gap.end * GROUP])
            .unwrap();
    }
    assert!(partial.is_complete());
    assert_eq!(read_all(to.blobs(), &imported.hash), bytes);
}

/// Peers have vanished, and only an origin is left that knows no tree.
#[test]
fn what_peers_sent_is_where_a_draft_begins() {
    let (from, to) = (Bench::new(), Bench::new());
    let bytes = random(9 * GROUP + 5);
    let imported = from.import(&from.file("f", &bytes), ImportMode::Copy);
    let partial = to.blobs().partial(imported.hash, imported.size).unwrap();
    let file = Arc::new(from.blobs().open(&imported.hash).unwrap().unwrap());
    let mut decoder = partial.decoder(3..10);
    file.encode(3..10).for_each(|piece| decoder.push(&piece.unwrap()).unwrap());
    decoder.finish().unwrap();
    let draft = to.blobs().draft_from(&partial, imported.digest).unwrap();
    assert_eq!(draft.have(), GroupSet::from(3..10));
    draft.writer(0).push(&bytes[..3 * GROUP]).unwrap();
    assert_eq!(is(draft.finish().unwrap()).hash, imported.hash);
    assert_eq!(read_all(to.blobs(), &imported.hash), bytes);
    assert!(matches!(to.blobs().status(&imported.hash).unwrap(), BlobStatus::Complete { .. }));
}

#[test]
fn nothing_is_shared_before_somebody_says_so_nor_when_it_comes_again() {
    let place = Bench::new();
    let bytes = random(3 * GROUP);
    let hash = super::tree::hash_bytes(&bytes);
    let blobs = place.blobs();
    assert!(!blobs.share(&hash).unwrap(), "what is not here is not shared either");
    let path = place.file("f", &bytes);
    place.import(&path, ImportMode::Copy);
    assert!(!blobs.is_shared(&hash).unwrap());
    assert!(blobs.share(&hash).unwrap());
    place.import(&path, ImportMode::Reference);
    assert!(blobs.is_shared(&hash).unwrap(), "taking it in once more changes nothing");
    blobs.evict(&hash).unwrap();
    place.import(&path, ImportMode::Copy);
    assert!(!blobs.is_shared(&hash).unwrap());
}

/// What somebody's token brought does not become everybody's because a fetch from peers joins it.
#[test]
fn a_fetch_that_begins_with_something_shares_nothing() {
    let (from, to) = (Bench::new(), Bench::new());
    let bytes = random(5 * GROUP);
    let hash = from.import(&from.file("f", &bytes), ImportMode::Copy).hash;
    let partial = to.blobs().partial(hash, bytes.len() as u64).unwrap();
    let mut decoder = partial.tree_decoder().unwrap();
    decoder.push(&tree_of(from.blobs(), &hash, 0)).unwrap();
    partial.filler(0..1).unwrap().push(&bytes[..GROUP]).unwrap();
    assert!(!partial.share_if_empty().unwrap());
    partial.filler(1..5).unwrap().push(&bytes[GROUP..]).unwrap();
    assert!(partial.is_complete());
    assert!(!to.blobs().is_shared(&hash).unwrap());

    let other = random(6 * GROUP);
    let hash = from.import(&from.file("g", &other), ImportMode::Copy).hash;
    let partial = to.blobs().partial(hash, other.len() as u64).unwrap();
    assert!(partial.share_if_empty().unwrap());
    let mut decoder = partial.tree_decoder().unwrap();
    decoder.push(&tree_of(from.blobs(), &hash, 0)).unwrap();
    partial.filler(0..6).unwrap().push(&other).unwrap();
    assert!(partial.is_complete() && to.blobs().is_shared(&hash).unwrap(), "progress does not undo it");
}
