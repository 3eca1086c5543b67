//! What the other crates rely on, told in order.

use hubless_types::{CommitId, GroupSet, Link, LinkTrust, Pin, Statement, Timestamp};

use super::super::manifest_rows::tests::manifest;
use super::super::{
    BlobRecord, FileStamp, Place, RefRecord, RefSource, STATEMENT_MAX_PER_REPO, STATEMENT_MAX_SIGNERS,
};
use super::*;
use crate::error::StoreError;

fn statement(signer: u8, name: &str, seen: u64) -> Statement {
    signed_by(node(signer), name, seen)
}

fn signed_by(signer: NodeId, name: &str, seen: u64) -> Statement {
    super::statement(signer, &repo("acme/tiny"), name, seen)
}

fn stranger(n: u32) -> NodeId {
    let mut key = [0xee; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    NodeId::from_bytes(key)
}

fn record(by: RefSource) -> RefRecord {
    RefRecord { commit: commit(1), seen: Timestamp(5), by }
}

/// A commit is published, found under its repository after a restart, and gone when it is removed.
#[test]
fn a_manifest_comes_and_goes() {
    let f = fixture();
    let (tiny, m) = (repo("acme/tiny"), manifest(1, 1000));
    f.catalogue.put_manifest(Some(&tiny), &m, b"bundle", Some(b"links")).unwrap();

    let f = f.reopened();
    let c = &f.catalogue;
    assert_eq!(*c.manifest(m.commit()).unwrap().unwrap(), m);
    assert_eq!(c.bundle(m.commit()).unwrap().unwrap(), b"bundle");
    assert_eq!(c.link_table(m.commit()).unwrap().unwrap(), b"links");
    assert_eq!(c.commits_of(&tiny).unwrap(), [m.commit()]);
    assert_eq!(c.repos_of(m.commit()).unwrap(), std::slice::from_ref(&tiny));
    let head = c.manifest_head(m.commit()).unwrap().unwrap();
    assert_eq!((head.files, head.folders, head.bytes, &head.info), (1000, 101, m.total_bytes(), m.info()));

    c.put_manifest(None, &m, b"bundle", None).unwrap();
    assert!(c.link_table(m.commit()).unwrap().is_some(), "a link table that is not given stays");

    c.remove_manifest(m.commit()).unwrap();
    assert!(c.manifest(m.commit()).unwrap().is_none() && !c.has_manifest(m.commit()).unwrap());
    assert!(c.bundle(m.commit()).unwrap().is_none() && c.link_table(m.commit()).unwrap().is_none());
    assert!(c.repos(None, 10).unwrap().is_empty() && c.commits_of(&tiny).unwrap().is_empty());
}

#[test]
fn one_file_of_many_is_found_without_the_others() {
    let f = fixture();
    let (one, two) = (manifest(1, 5000), manifest(2, 3));
    for m in [&one, &two] {
        f.catalogue.put_manifest(None, m, b"", None).unwrap();
    }
    for entry in one.entries().iter().step_by(97).chain(one.entries().last()).chain(two.entries()) {
        let m = if two.entries().contains(entry) && entry.size < 3 { &two } else { &one };
        assert_eq!(f.catalogue.entry(m.commit(), &entry.path).unwrap().as_ref(), Some(entry));
    }
    for absent in ["a", "data", "data/part-00/shard 0000000.bin0", "zzz"] {
        assert_eq!(f.catalogue.entry(one.commit(), &absent.parse().unwrap()).unwrap(), None, "{absent}");
    }
    let unknown = CommitId::from_bytes([9; 20]);
    assert_eq!(f.catalogue.entry(unknown, &one.entries()[0].path).unwrap(), None);
}

#[test]
fn manifests_are_listed_in_pages_whatever_their_size() {
    let f = fixture();
    let all: Vec<_> = (0..7).map(|n| manifest(n, n as usize * 400)).collect();
    all.iter().for_each(|m| f.catalogue.put_manifest(None, m, b"", None).unwrap());
    let last = CommitId::from_bytes([0xff; 20]);
    f.catalogue.add_commit_to_repo(&repo("acme/tiny"), last).unwrap();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = f.catalogue.manifests(after, 3).unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        listed.extend(page);
    }
    assert_eq!(listed, all.iter().map(|m| m.commit()).collect::<Vec<_>>());
    assert!(f.catalogue.manifests(Some(last), 3).unwrap().is_empty());
}

/// A manifest written in several goes appears with its head, and not before.
#[test]
fn a_large_manifest_is_whole_or_absent() {
    let f = fixture();
    let m = manifest(1, 60_000);
    let mut batch = f.catalogue.batch();
    batch.put_manifest(Some(&repo("acme/big")), &m, b"b", None).unwrap();
    drop(batch); // as if the process were killed here
    assert!(f.catalogue.manifest(m.commit()).unwrap().is_none());
    assert!(f.catalogue.entry(m.commit(), &m.entries()[0].path).unwrap().is_none());
    assert!(
        f.catalogue.manifests(None, 10).unwrap().is_empty()
            && f.catalogue.repos(None, 10).unwrap().is_empty()
    );

    let mut batch = f.catalogue.batch();
    batch.put_manifest(Some(&repo("acme/big")), &m, b"b", None).unwrap();
    batch.commit().unwrap();
    assert_eq!(*f.catalogue.manifest(m.commit()).unwrap().unwrap(), m);
}

#[test]
fn repositories_are_listed_by_kind_and_name() {
    let f = fixture();
    let mut all: Vec<RepoId> = (0..50).map(|n| repo(&format!("acme/model-{n}"))).collect();
    all.extend(["gpt2", "acme", "datasets/acme/rows", "spaces/acme/app", "acme/model"].map(repo));
    for (n, repo) in all.iter().enumerate() {
        f.catalogue.add_commit_to_repo(repo, commit(n as u8)).unwrap();
    }
    all.sort();
    let (mut listed, mut after) = (Vec::<RepoId>::new(), None);
    while let page @ [_, ..] = &f.catalogue.repos(after.as_ref(), 7).unwrap()[..] {
        listed.extend_from_slice(page);
        after = page.last().cloned();
    }
    assert_eq!(listed, all);
}

/// A repository is known for as long as one of its refs or commits is.
#[test]
fn a_name_is_set_moved_and_forgotten() {
    let f = fixture();
    let (c, tiny) = (&f.catalogue, repo("acme/tiny"));
    c.set_ref(&tiny, &revision("main"), record(RefSource::Published)).unwrap();
    c.set_ref(&tiny, &revision("refs/pr/1"), record(RefSource::Origin("https://hub.example".into())))
        .unwrap();
    c.set_ref(&repo("acme/tiny2"), &revision("main"), record(RefSource::Commit)).unwrap();
    c.set_ref(&tiny, &revision("main"), record(RefSource::Statement(node(7)))).unwrap();
    assert_eq!(c.get_ref(&tiny, &revision("main")).unwrap().unwrap().by, RefSource::Statement(node(7)));
    let names: Vec<_> = c.refs(&tiny).unwrap().into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["main", "refs/pr/1"]);
    assert!(c.remove_ref(&tiny, &revision("main")).unwrap());
    assert!(!c.remove_ref(&tiny, &revision("main")).unwrap());
    assert_eq!(c.repos(None, 10).unwrap().len(), 2);
    assert!(c.remove_ref(&tiny, &revision("refs/pr/1")).unwrap());
    assert_eq!(c.repos(None, 10).unwrap(), [repo("acme/tiny2")]);
}

#[test]
fn a_reference_keeps_its_path_whatever_its_bytes() {
    use std::os::unix::ffi::OsStringExt as _;
    let f = fixture();
    let path = std::ffi::OsString::from_vec(vec![b'/', 0xff, b'x']).into();
    let stamp = FileStamp { size: 3, mtime_ns: -1, ctime_ns: i64::MAX, inode: 4, device: 5 };
    let record = BlobRecord {
        size: 1 << 40,
        place: Place::Reference { path, stamp },
        have: Some([0..3, 9..12].into_iter().collect::<GroupSet>()),
        synced: true,
        boot: [3; 16],
        shared: true,
        parents: 7,
    };
    let link = Link { digest: digest(2), hash: hash(1), size: 1 << 40, trust: LinkTrust::Proven };
    f.catalogue.put_blob_and_link(&hash(1), &record, &link).unwrap();
    let f = f.reopened();
    assert_eq!(f.catalogue.blob(&hash(1)).unwrap(), Some(record.clone()));
    assert_eq!(f.catalogue.blobs(None, 10).unwrap(), [(hash(1), record)]);
    f.catalogue.remove_blob(&hash(1)).unwrap();
    assert_eq!(f.catalogue.blob(&hash(1)).unwrap(), None);
    assert_eq!(f.catalogue.link(&digest(2)).unwrap(), Some(link), "a link is as true without the bytes");
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let f = fixture();
    let tiny = repo("acme/tiny");
    let pin = Pin { repo: tiny.clone(), revision: revision("main"), commit: commit(1), since: Timestamp(1) };
    let mut batch = f.catalogue.batch();
    batch.set_ref(&tiny, &revision("main"), record(RefSource::Published)).put_pin(&pin);
    batch.schedule(b"one", Timestamp(4)).schedule(b"one", Timestamp(6));
    batch.schedule(&[0; 65], Timestamp(4));
    assert!(matches!(batch.commit(), Err(StoreError::TooLarge { .. })));
    assert!(f.catalogue.refs(&tiny).unwrap().is_empty() && f.catalogue.pins().unwrap().is_empty());
    assert_eq!(f.catalogue.scheduled_count().unwrap(), 0);

    let mut batch = f.catalogue.batch();
    batch.put_pin(&pin).schedule(b"one", Timestamp(4)).schedule(b"one", Timestamp(6)).unschedule(b"two");
    batch.commit().unwrap();
    assert_eq!(f.catalogue.pin(&tiny, &revision("main")).unwrap(), Some(pin));
    assert_eq!(f.catalogue.due(Timestamp(9), 9).unwrap(), [(Timestamp(6), b"one".to_vec())]);
    assert_eq!(f.catalogue.scheduled_count().unwrap(), 1);
}

/// A hundred made-up signers cannot keep out one who counts, nor push it out.
#[test]
fn statements_of_trusted_signers_pass_a_flood() {
    let f = fixture();
    let c = &f.catalogue;
    assert!(c.put_trusted_statement(&statement(1, "main", 10)).unwrap());
    for n in 0..100 {
        c.put_statement(&signed_by(stranger(n), "main", 1_000 + u64::from(n))).unwrap();
    }
    assert!(c.put_trusted_statement(&statement(2, "main", 3)).unwrap());
    assert!(c.put_statement(&statement(0, "main", 3)).unwrap(), "our own count");
    let kept = c.statements(&repo("acme/tiny"), Some(&revision("main"))).unwrap();
    assert_eq!(kept.len(), STATEMENT_MAX_SIGNERS);
    for signer in [0, 1, 2] {
        assert!(kept.iter().any(|s| s.signer == node(signer)), "{signer}");
    }
    assert!(!c.put_statement(&signed_by(stranger(200), "main", 5)).unwrap(), "older than all strangers'");
    assert!(!c.put_statement(&statement(1, "main", 9)).unwrap(), "older than its signer's own");
}

#[test]
fn nobody_fills_the_disk_with_names() {
    let f = fixture();
    let mut batch = f.catalogue.batch();
    for n in 0..STATEMENT_MAX_PER_REPO + 20 {
        batch.put_statement(&statement(9, &format!("b{n}"), n as u64));
    }
    batch.commit().unwrap();
    assert!(!f.catalogue.put_statement(&statement(9, "one-more", 1_000_000)).unwrap());
    assert!(f.catalogue.put_statement(&statement(9, "b0", 1_000_000)).unwrap(), "a known name moves on");
    assert!(f.catalogue.put_trusted_statement(&statement(8, "one-more", 1)).unwrap());
    let kept = f.catalogue.statements(&repo("acme/tiny"), None).unwrap();
    assert_eq!(kept.len(), STATEMENT_MAX_PER_REPO + 1);
}

fn strangers_kept(f: &super::Fixture) -> u64 {
    let rows =
        f.catalogue.db().page(super::super::db::Cf::StatementAges, &[], None, usize::MAX, |_, _| Ok(()));
    rows.unwrap().len() as u64
}

/// However many repositories strangers make up, their statements are bounded in all: the oldest of theirs go, and
/// nobody's who counts.
#[test]
fn nobody_fills_the_disk_with_repositories() {
    const LIMIT: u64 = 20;
    let f = fixture().with_statement_limit(LIMIT);
    let c = &f.catalogue;
    let about = |n: u64| repo(&format!("acme/r{n}"));
    let of = |n: u64, signer, seen| {
        let mut statement = signed_by(signer, "main", seen);
        statement.body.repo = about(n);
        statement
    };
    let says = |n: u64| c.statements(&about(n), None).unwrap().len();
    assert!(c.put_trusted_statement(&of(0, node(1), 1)).unwrap());
    assert!(c.put_statement(&of(1, node(0), 1)).unwrap(), "our own count");
    for n in 2..LIMIT + 2 {
        assert!(c.put_statement(&of(n, stranger(n as u32), 100 + n)).unwrap());
    }
    assert_eq!((strangers_kept(&f), says(2)), (LIMIT, 1), "there is room for all of these");
    for n in LIMIT + 2..5 * LIMIT {
        assert!(c.put_statement(&of(n, stranger(n as u32), 100 + n)).unwrap());
        assert_eq!(strangers_kept(&f), LIMIT);
    }
    assert_eq!((says(2), says(4 * LIMIT - 1), says(4 * LIMIT)), (0, 0, 1), "the oldest went");
    assert_eq!((says(0), says(1)), (1, 1), "those who count stay");
    assert!(!c.put_statement(&of(3, stranger(3), 5)).unwrap(), "older than all that are kept");
    // Renewing takes no second place, and one who counts from now on leaves the strangers' places.
    let last = 5 * LIMIT - 1;
    assert!(c.put_statement(&of(last, stranger(last as u32), 10_000)).unwrap());
    assert_eq!(strangers_kept(&f), LIMIT);
    assert!(c.put_trusted_statement(&of(last, stranger(last as u32), 10_000)).unwrap());
    assert_eq!((strangers_kept(&f), says(last)), (LIMIT - 1, 1));
    // What went left its repository's count as well.
    let mut batch = c.batch();
    for n in 0..STATEMENT_MAX_PER_REPO {
        let mut statement = signed_by(stranger(1), &format!("b{n}"), 20_000 + n as u64);
        statement.body.repo = about(2);
        batch.put_statement(&statement);
    }
    batch.commit().unwrap();
    assert!(c.put_statement(&of(2, stranger(9), 90_000)).unwrap(), "only {LIMIT} are kept of it");
    assert_eq!((strangers_kept(&f), says(2)), (LIMIT, LIMIT as usize));
}

/// What an older version kept is bounded from now on as well.
#[test]
fn statements_of_format_2_are_counted() {
    use super::super::db::Cf;
    let f = fixture();
    for n in 0..5 {
        f.catalogue.put_statement(&signed_by(stranger(n), "main", 10)).unwrap();
    }
    f.catalogue.put_trusted_statement(&statement(1, "main", 10)).unwrap();
    let c = &f.catalogue;
    c.change(|txn| {
        txn.delete_all(Cf::StatementAges, &[0]);
        txn.delete(Cf::Counters, b"statements-of-strangers".to_vec());
        Ok(())
    })
    .unwrap();
    assert_eq!(strangers_kept(&f), 0);
    for _ in 0..2 {
        c.migrate(2).unwrap();
        assert_eq!(strangers_kept(&f), 5);
        let counted: Option<u64> = c.db().get(Cf::Counters, b"statements-of-strangers").unwrap();
        assert_eq!(counted, Some(5));
    }
}

#[test]
fn a_damaged_record_is_named() {
    let f = fixture();
    let raw = |value: &[u8]| {
        f.catalogue.change(|txn| {
            txn.put_bytes(super::super::db::Cf::Blobs, hash(1).as_bytes().to_vec(), value.to_vec());
            Ok(())
        })
    };
    for value in [&[][..], &[1], &[1, 200], &[77, 1, 2, 3], &[0]] {
        raw(value).unwrap();
        let error = f.catalogue.blob(&hash(1)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { record: "blob", .. }), "{error}");
        assert!(error.hint().is_some());
    }
}
