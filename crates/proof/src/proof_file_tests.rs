//! A proof file reads as it was written, and proves nothing once anything in it was changed.

use super::*;
use crate::{CommitMeta, NewContent, NewFile, NodeKey, sign_statement};
use hubless_types::{FileMode, Sha256};
use proptest::prelude::*;

type Change = fn(&mut ProofFile);

fn digest() -> FileDigest {
    FileDigest::Sha256(Sha256::from_bytes([7; 32]))
}

fn table(root: u8, size: u64) -> LinkTable {
    LinkTable::new(vec![(digest(), BlobHash::from_bytes([root; 32]), size)]).unwrap()
}

fn signed(commit: CommitId, seen: u64, origin: Option<&str>, links: Option<BlobHash>) -> Statement {
    let body = StatementBody {
        repo: "acme/tiny".parse().unwrap(),
        revision: Revision::main(),
        commit,
        origin: origin.map(str::to_owned),
        seen: Timestamp(seen),
        links,
    };
    sign_statement(body, &NodeKey::from_bytes([3; 32]))
}

fn honest() -> ProofFile {
    let sha256 = Sha256::from_bytes([7; 32]);
    let files = vec![
        ("README.md", NewContent::Bytes(b"# hello\n".to_vec())),
        ("data/model.bin", NewContent::Lfs { sha256, size: 9_000_000 }),
    ];
    let file = |(path, content): (&str, _)| NewFile {
        path: path.parse().unwrap(),
        mode: FileMode::Regular,
        content,
    };
    let meta = CommitMeta {
        parents: vec![],
        author_name: "A".into(),
        author_mail: "a@example.org".into(),
        time: Timestamp(1),
        message: "m".into(),
    };
    let (commit, bundle, _) = Bundle::build(files.into_iter().map(file).collect(), meta).unwrap();
    let links = table(9, 9_000_000);
    let statements =
        vec![signed(commit, 5, Some("https://hub.example"), None), signed(commit, 6, None, Some(links.id()))];
    let repo = "acme/tiny".parse().unwrap();
    ProofFile { repo, revision: Revision::main(), statements, bundle, links: Some(links) }
}

#[test]
fn an_honest_proof_is_checked_with_nothing_else() {
    let file = honest();
    let read = ProofFile::decode(&file.encode()).unwrap();
    assert_eq!(read, file);
    let proven = read.check().unwrap();
    assert_eq!(proven.manifest.entries().len(), 2);
    assert_eq!(proven.manifest.commit(), proven.commit);
    assert_eq!(proven.vouchers, [NodeKey::from_bytes([3; 32]).id()]);
    let by_id = ProofFile { revision: proven.commit.into(), statements: vec![], links: None, ..file };
    assert!(by_id.check().unwrap().vouchers.is_empty());
}

#[test]
fn whatever_is_changed_is_found() {
    let changes: [Change; 9] = [
        |f| f.bundle.commit[5] ^= 1,
        |f| *f.bundle.trees[0].last_mut().unwrap() ^= 1,
        // A pointer that names another sha256.
        |f| f.bundle.blobs.iter_mut().filter(|b| b.starts_with(b"version")).for_each(|b| b[60] ^= 1),
        |f| f.bundle.blobs.push(b"more".to_vec()),
        |f| f.repo = "acme/other".parse().unwrap(),
        |f| f.statements[0].body.seen = Timestamp(99),
        |f| f.statements[1].body.links = None,
        |f| f.links = Some(table(9, 1)),
        |f| f.revision = CommitId::from_bytes([1; 20]).into(),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut changed = honest();
        change(&mut changed);
        assert!(changed.check().is_err(), "change {i}");
    }
}

#[test]
fn another_link_table_has_no_voucher() {
    let changed = ProofFile { links: Some(table(8, 9_000_000)), ..honest() };
    assert!(changed.check().unwrap().vouchers.is_empty());
}

#[test]
fn what_is_cut_or_longer_is_refused() {
    let bytes = honest().encode();
    for len in 0..bytes.len() {
        assert!(ProofFile::decode(&bytes[..len]).is_err());
    }
    assert!(ProofFile::decode(&[&bytes[..], &[0]].concat()).is_err());
    let mut newer = bytes;
    newer[MAGIC.len()] = 2;
    assert!(matches!(ProofFile::decode(&newer), Err(ProofError::Version { found: 2, .. })));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        origins in prop::collection::vec(prop::option::of("[a-z:/.]{0,40}"), 0..4),
        seen: u64,
        links: Option<[u8; 32]>,
        rows in prop::collection::vec((any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>()), 0..5),
        blobs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..4),
    ) {
        let mut file = honest();
        let links = links.map(BlobHash::from_bytes);
        let commit = CommitId::from_bytes([1; 20]);
        file.statements = origins.iter().map(|o| signed(commit, seen, o.as_deref(), links)).collect();
        file.bundle.blobs = blobs;
        let row = |(d, h, n)| (FileDigest::Sha256(Sha256::from_bytes(d)), BlobHash::from_bytes(h), n);
        file.links = LinkTable::new(rows.into_iter().map(row).collect()).ok();
        let bytes = file.encode();
        prop_assert_eq!(ProofFile::decode(&bytes), Ok(file));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, with: u8) {
        let _ = ProofFile::decode(&[MAGIC, &[VERSION], &bytes].concat());
        let mut changed = honest().encode();
        let at = at.index(changed.len());
        changed[at] = with;
        if let Ok(read) = ProofFile::decode(&changed) {
            prop_assert_eq!(read.encode(), changed);
            let _ = read.check();
        }
    }
}
