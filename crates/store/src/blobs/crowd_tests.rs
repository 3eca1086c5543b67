//! Stories of drafts that many fill together.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use hubless_types::{FileDigest, GROUP_BYTES, GroupSet, ManualClock, NodeId, Timestamp};

use super::{DigestKind, Finished, digest_bytes};
use crate::{Store, StoreError};

type TestResult = anyhow::Result<()>;

/// 2.5 MiB and a little: two whole pieces and a short one.
const SIZE: usize = 5 * 512 * 1024 + 7;

fn open(dir: &std::path::Path) -> anyhow::Result<Store> {
    Ok(Store::open(dir, NodeId::from_bytes([1; 32]), Arc::new(ManualClock::at(Timestamp(1_800_000_000))))?)
}

fn content() -> (Vec<u8>, FileDigest) {
    let bytes: Vec<u8> = (0..SIZE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest = digest_bytes(&bytes, DigestKind::Sha256).unwrap();
    (bytes, digest)
}

fn sent(store: &Store, digest: &FileDigest, groups: std::ops::Range<u64>) -> Option<Vec<u8>> {
    let pieces = store.blobs().offered(digest, groups)?;
    Some(pieces.collect::<Result<Vec<_>, _>>().ok()?.concat())
}

#[test]
fn only_what_was_offered_leaves_and_only_as_it_came() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (store, (bytes, digest)) = (open(dir.path())?, content());
    let blobs = store.blobs();
    assert_eq!(blobs.crowd_news(&digest), None);
    let seat = blobs.join_crowd(digest, SIZE as u64).unwrap();
    assert!(blobs.join_crowd(digest, SIZE as u64).is_none(), "one seat a file");
    let draft = blobs.draft(digest, SIZE as u64)?;
    seat.fills(&draft);
    draft.writer(0).push(&bytes[..2 * 1024 * 1024])?;
    seat.awaits((128..161).into());
    assert_eq!(sent(&store, &digest, 0..64), None);
    // A piece that is not whole is not offered.
    seat.offer(&draft, 0..100)?;
    let news = blobs.crowd_news(&digest).unwrap();
    assert_eq!((news.offers, news.awaits), ((0..64).into(), (128..161).into()));
    assert_eq!(news.have, GroupSet::from(0..128));
    assert_eq!(sent(&store, &digest, 3..50), Some(bytes[3 * 16384..50 * 16384].to_vec()));
    assert_eq!(sent(&store, &digest, 0..65), None);
    // The end of the file is a piece, too.
    draft.writer(2 * 1024 * 1024).push(&bytes[2 * 1024 * 1024..])?;
    seat.offer(&draft, 64..161)?;
    assert_eq!(sent(&store, &digest, 0..161), Some(bytes.clone()));
    // What the disk gives otherwise than it came stays here.
    draft.0.core.data.write_all_at(b"rot", 70 * GROUP_BYTES)?;
    assert_eq!(sent(&store, &digest, 64..128), None);
    assert!(sent(&store, &digest, 0..64).is_some());
    seat.retract();
    assert_eq!((blobs.crowd_news(&digest), sent(&store, &digest, 0..64)), (None, None));
    Ok(())
}

#[test]
fn a_draft_that_became_a_blob_is_offered_for_as_long_as_the_seat_lives() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (store, (bytes, digest)) = (open(dir.path())?, content());
    let seat = store.blobs().join_crowd(digest, SIZE as u64).unwrap();
    let draft = store.blobs().draft(digest, SIZE as u64)?;
    seat.fills(&draft);
    draft.writer(0).push(&bytes)?;
    seat.offer(&draft, 0..161)?;
    assert!(draft.is_right()?);
    let part = draft.piece_hash(64..128)?;
    let Finished::Is(blob) = draft.finish()? else { panic!("it is the file") };
    drop(draft);
    assert_eq!(sent(&store, &digest, 0..161), Some(bytes));
    assert_eq!(store.blobs().piece_hash(&blob.hash, 64..128)?, part);
    drop(seat);
    assert_eq!(sent(&store, &digest, 0..161), None);
    assert!(store.blobs().join_crowd(digest, SIZE as u64).is_some());
    Ok(())
}

#[test]
fn a_wrong_draft_is_told_from_a_right_one_before_it_is_dropped() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (store, (mut bytes, digest)) = (open(dir.path())?, content());
    let right = digest_bytes(&bytes, DigestKind::Sha256);
    assert_eq!(right, Some(digest));
    bytes[65 * 16384] ^= 1;
    let draft = store.blobs().draft(digest, SIZE as u64)?;
    draft.writer(0).push(&bytes[..16384])?;
    assert!(matches!(draft.is_right(), Err(StoreError::DraftNotWhole { .. })));
    draft.writer(0).push(&bytes)?;
    assert!(!draft.is_right()?);
    assert!(draft.have() == GroupSet::whole(SIZE as u64), "nothing was dropped");
    draft.piece_hash(64..128)?;
    assert!(matches!(draft.finish()?, Finished::IsNot { .. }));
    Ok(())
}

#[test]
fn whoever_asks_is_remembered_once_and_not_without_end() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (store, (_, digest)) = (open(dir.path())?, content());
    let ask = |n: u8| store.blobs().crowd_asked(&[digest], NodeId::from_bytes([n; 32]));
    ask(1);
    let seat = store.blobs().join_crowd(digest, SIZE as u64).unwrap();
    assert!(!seat.was_asked());
    (0..=255).for_each(ask);
    ask(0);
    assert_eq!(seat.askers().len(), super::crowd::MAX_ASKERS);
    assert!(seat.was_asked() && seat.askers().is_empty());
    Ok(())
}
