//! What may be given to peers: manifests by their commit, bytes by their root.
//!
//! **Invariant:** nothing is shared unless somebody who knows where it came from said so; what is forgotten and comes
//! again is unshared. So forgetting to say it keeps a thing here, and never gives it away.
//! **Not here:** whether it should be (`mirror`), refusing whoever asks for it (`transfer`).

use hubless_types::{BlobHash, CommitId};

use super::db::Cf;
use super::records::BlobRecord;
use super::txn::Txn;
use super::{Catalogue, blobs};
use crate::error::Result;

impl Catalogue {
    /// Lets peers have the manifest of `commit`, its bundle and its link table. The bytes of its files are shared
    /// one by one ([`Blobs::share`](crate::Blobs::share)).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`](crate::StoreError::Corrupt) or [`StoreError::Rocks`](crate::StoreError::Rocks).
    pub fn share_commit(&self, commit: CommitId) -> Result<()> {
        if self.is_commit_shared(commit)? {
            return Ok(());
        }
        self.change(|txn| share_commit(txn, commit))
    }

    /// Peers are no longer given the manifest of `commit`.
    ///
    /// # Errors
    /// As [`Catalogue::share_commit`].
    pub fn unshare_commit(&self, commit: CommitId) -> Result<()> {
        self.change(|txn| {
            txn.delete(Cf::SharedCommits, commit.as_bytes().to_vec());
            Ok(())
        })
    }

    /// Whether peers may have the manifest of `commit`.
    ///
    /// # Errors
    /// As [`Catalogue::share_commit`].
    pub fn is_commit_shared(&self, commit: CommitId) -> Result<bool> {
        self.db().has(Cf::SharedCommits, commit.as_bytes())
    }

    /// Notes whether peers may have a blob that is here, wholly or in part; `false` if nothing of it is.
    pub(crate) fn set_blob_shared(&self, hash: &BlobHash, shared: bool) -> Result<bool> {
        if self.blob(hash)?.is_none_or(|record| record.shared == shared) {
            return self.db().has(Cf::Blobs, hash.as_bytes());
        }
        self.change(|txn| match txn.get::<BlobRecord>(Cf::Blobs, hash.as_bytes())? {
            Some(record) => {
                blobs::put_as_it_is(txn, hash, &BlobRecord { shared, ..record })?;
                Ok(true)
            }
            None => Ok(false),
        })
    }
}

pub(super) fn share_commit(txn: &mut Txn<'_>, commit: CommitId) -> Result<()> {
    txn.put(Cf::SharedCommits, commit.as_bytes().to_vec(), &())
}
