//! How much is here of files whose BLAKE3 root is not known yet.

use hubless_types::{FileDigest, GroupSet, RepoId};
use serde::{Deserialize, Serialize};

use super::codec::{self, Record};
use super::db::Cf;
use super::txn::Txn;
use super::{Catalogue, keys};
use crate::error::Result;

/// What is known of one draft's bytes. None of them is checked: the whole file's digest decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DraftRecord {
    /// Length of the whole file, in bytes.
    pub(crate) size: u64,
    /// The groups that are written.
    pub(crate) have: GroupSet,
    /// Those of them that reached the disk itself.
    pub(crate) safe: GroupSet,
    /// The boot of the machine during which this was written; after another one only what is safe counts.
    pub(crate) boot: [u8; 16],
}

impl Record for DraftRecord {
    const NAME: &'static str = "draft";
}

/// The repository as whose file some of a draft was given.
#[derive(Serialize, Deserialize)]
struct Given(RepoId);

impl Record for Given {
    const NAME: &'static str = "repository of a draft";
}

impl Catalogue {
    /// Notes, until a draft is gone, that some of it was given as a file of `repo`, and not to everybody.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn note_draft_given(&self, digest: &FileDigest, repo: &RepoId) -> Result<()> {
        let key = keys::digest(digest);
        if self.db().has(Cf::DraftsGiven, &key)? {
            return Ok(());
        }
        self.change(|txn| txn.put(Cf::DraftsGiven, key, &Given(repo.clone())))
    }

    /// The repository as whose file some of a draft was given, if not to everybody.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn draft_given(&self, digest: &FileDigest) -> Result<Option<RepoId>> {
        Ok(self.db().get::<Given>(Cf::DraftsGiven, &keys::digest(digest))?.map(|Given(repo)| repo))
    }

    pub(crate) fn draft(&self, digest: &FileDigest) -> Result<Option<DraftRecord>> {
        self.db().get(Cf::Drafts, &keys::digest(digest))
    }

    pub(crate) fn put_draft(&self, digest: &FileDigest, record: &DraftRecord) -> Result<()> {
        self.change(|txn| txn.put(Cf::Drafts, keys::digest(digest), record))
    }

    pub(crate) fn remove_draft(&self, digest: &FileDigest) -> Result<()> {
        self.change(|txn| remove(txn, digest))
    }

    /// Drafts sorted by digest, those after `after`; at most `limit`.
    pub(crate) fn drafts(
        &self,
        after: Option<&FileDigest>,
        limit: usize,
    ) -> Result<Vec<(FileDigest, DraftRecord)>> {
        let after = after.map(keys::digest);
        self.db().page(Cf::Drafts, &[], after.as_deref(), limit, |key, value| {
            Ok((keys::read_digest(key)?, codec::decode(value)?))
        })
    }
}

pub(super) fn remove(txn: &mut Txn<'_>, digest: &FileDigest) -> Result<()> {
    txn.delete(Cf::Drafts, keys::digest(digest));
    txn.delete(Cf::DraftsGiven, keys::digest(digest));
    Ok(())
}
