//! Brings an older data folder up to this version.
//!
//! A step may be repeated: a process that is killed in the middle starts it again, since the folder's format is
//! written only after the last step. Records are also read in their older versions one by one
//! ([`Record::upgrade`](super::codec::Record::upgrade)); a step rewrites them so that a later version may forget how.

use std::collections::HashSet;

use hubless_types::CommitId;

use super::codec::{self, Record};
use super::db::Cf;
use super::records::{BlobRecord, RefRecord, RefSource};
use super::{Catalogue, statements};
use crate::error::Result;

/// The format of data folders that this version writes.
pub(crate) const FORMAT: u32 = 3;

/// Commits that are looked at between two looks at the list.
const COMMITS_AT_ONCE: usize = 256;

/// Rows that are rewritten in one go.
const ROWS_AT_ONCE: usize = 4096;

/// The step that leads to format `n + 1` stands at place `n`.
const STEPS: [fn(&Catalogue) -> Result<()>; FORMAT as usize] =
    [rewrite::<BlobRecord, { Cf::Blobs as u8 }>, share_what_was_told, statements::enter_ages];

impl Catalogue {
    pub(super) fn migrate(&self, found: u32) -> Result<()> {
        for (step, from) in STEPS.iter().zip(0..).skip(found as usize) {
            tracing::info!(from, to = from + 1, "bringing the catalogue up to a newer format");
            step(self)?;
        }
        Ok(())
    }
}

/// Writes every record of a table that has an older version in its present one.
fn rewrite<R: Record, const CF: u8>(catalogue: &Catalogue) -> Result<()> {
    let cf = Cf::ALL[usize::from(CF)];
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = catalogue.db().page(cf, &[], after.as_deref(), ROWS_AT_ONCE, |key, value| {
            let old = value.first() != Some(&R::VERSION);
            Ok((key.to_vec(), old.then(|| codec::decode::<R>(value)).transpose()?))
        })?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        catalogue.change(|txn| {
            let old = page.into_iter().filter_map(|(key, record)| Some((key, record?)));
            old.into_iter().try_for_each(|(key, record)| txn.put(cf, key, &record))
        })?;
    }
}

/// Up to format 1 nothing said what peers may have. They may go on having what was added or fetched from others; what
/// was found in a cache is this node's own until it is adopted again to be shared.
fn share_what_was_told(catalogue: &Catalogue) -> Result<()> {
    rewrite::<BlobRecord, { Cf::Blobs as u8 }>(catalogue)?;
    let mut adopted = HashSet::new();
    catalogue.db().scan(Cf::Refs, &[], &[], |_, value| {
        let record: RefRecord = codec::decode(value)?;
        if record.by == RefSource::Adopted {
            adopted.insert(record.commit);
        }
        Ok(true)
    })?;
    let mut after = None;
    loop {
        let page = catalogue.manifests(after, COMMITS_AT_ONCE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(*last);
        for commit in page.into_iter().filter(|commit| !adopted.contains(commit)) {
            share_commit_and_files(catalogue, commit)?;
        }
    }
}

fn share_commit_and_files(catalogue: &Catalogue, commit: CommitId) -> Result<()> {
    let Some(manifest) = catalogue.manifest(commit)? else { return Ok(()) };
    let digests: Vec<_> = manifest.entries().iter().map(|entry| entry.digest()).collect();
    for link in catalogue.links(&digests)?.into_iter().flatten() {
        catalogue.set_blob_shared(&link.hash, true)?;
    }
    catalogue.share_commit(commit)
}

#[cfg(test)]
mod tests {
    use hubless_types::{BlobHash, GroupSet, Link, LinkTrust, RepoId, Revision, Timestamp};

    use super::super::blobs::BlobRecordV0;
    use super::super::manifest_rows::tests::manifest;
    use super::super::records::Place;
    use super::super::tests::{fixture, hash};
    use super::*;

    fn raw(catalogue: &Catalogue, hash: &BlobHash) -> Vec<u8> {
        catalogue.db().get_bytes(Cf::Blobs, hash.as_bytes()).unwrap().unwrap()
    }

    /// A folder of format 0 has blob records that say nothing of disk and boot: they are read as not synced, and
    /// rewritten when the folder is opened; doing it again changes nothing.
    #[test]
    fn records_of_format_0_come_up_to_format_1() {
        let f = fixture();
        let have = Some(GroupSet::from(0..4));
        let old = BlobRecordV0 { size: 100_000, place: Place::Owned, have: have.clone() };
        let mut value = vec![0];
        value.extend(postcard::to_stdvec(&old).unwrap());
        let new = BlobRecord::fresh(100_000, Place::Owned, have, [0; 16]);
        let c = &f.catalogue;
        c.change(|txn| {
            let keys = (0..ROWS_AT_ONCE as u32 + 10).map(|n| [&n.to_be_bytes()[..], &[7; 28]].concat());
            keys.into_iter().for_each(|key| txn.put_bytes(Cf::Blobs, key, value.clone()));
            txn.put_bytes(Cf::Blobs, hash(9).as_bytes().to_vec(), value.clone());
            Ok(())
        })
        .unwrap();
        c.put_blob(&hash(8), &BlobRecord { synced: true, ..new.clone() }).unwrap();
        let kept = raw(c, &hash(8));
        assert_eq!(c.blob(&hash(9)).unwrap(), Some(new.clone()), "read as it is");
        assert_eq!(raw(c, &hash(9))[0], 0);

        for _ in 0..2 {
            c.migrate(0).unwrap();
            assert_eq!(c.blob(&hash(9)).unwrap(), Some(new.clone()));
            assert_eq!(raw(c, &hash(8)), kept);
            let all = c.db().page(Cf::Blobs, &[], None, usize::MAX, |_, value| Ok(value[0])).unwrap();
            assert_eq!((all.len(), all.iter().all(|v| *v == 2)), (ROWS_AT_ONCE + 12, true));
        }
    }

    /// What others had from a folder of format 1 they go on having; what was found in a cache is nobody else's.
    #[test]
    fn what_was_added_or_fetched_stays_shared() {
        let f = fixture();
        let c = &f.catalogue;
        let (added, adopted) = (manifest(1, 2), manifest(2, 4));
        let names: [RepoId; 2] = ["acme/tiny".parse().unwrap(), "acme/cached".parse().unwrap()];
        for ((manifest, repo), by) in
            [&added, &adopted].into_iter().zip(&names).zip([RefSource::Published, RefSource::Adopted])
        {
            c.put_manifest(Some(repo), manifest, b"bundle", None).unwrap();
            let record = RefRecord { commit: manifest.commit(), seen: Timestamp(1), by };
            c.set_ref(repo, &Revision::main(), record).unwrap();
        }
        // Both have the first two files; the others were in the cache alone.
        for (entry, n) in adopted.entries().iter().zip(1..) {
            let link = Link { digest: entry.digest(), hash: hash(n), size: 9, trust: LinkTrust::Proven };
            c.put_blob_and_link(&hash(n), &BlobRecord::fresh(9, Place::Owned, None, [0; 16]), &link).unwrap();
        }
        for _ in 0..2 {
            c.migrate(1).unwrap();
            let commits = [&added, &adopted].map(|m| c.is_commit_shared(m.commit()).unwrap());
            assert_eq!(commits, [true, false]);
            let shared = [1, 2, 3, 4].map(|n| c.blob(&hash(n)).unwrap().unwrap().shared);
            assert_eq!(shared, [true, true, false, false]);
        }
    }
}
