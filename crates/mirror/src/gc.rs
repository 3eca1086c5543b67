//! Frees what nobody wants, and tells others first.

use std::sync::{Arc, PoisonError};

use hubless_types::{BlobHash, FileDigest, SHARD_MIN_BYTES, Sha256};

use crate::mirror::Inner;
use crate::util::blocking;
use crate::{GcReport, Mirror, MirrorError};

/// Blobs that are looked at between two looks at the catalogue.
const PAGE: usize = 1024;

impl Mirror {
    /// Drops every file that no pin and no name published here needs, and that nobody reads or fetches at this
    /// moment. Files added by reference are only forgotten. With `dry_run` it only counts.
    pub async fn gc(&self, dry_run: bool) -> Result<GcReport, MirrorError> {
        let mut withdrawn = Vec::new();
        if !dry_run {
            let inner = Arc::clone(&self.inner);
            let going = blocking(move || inner.shards_going()).await?;
            withdrawn = self.inner.withdraw(going).await?;
        }
        let inner = Arc::clone(&self.inner);
        let report = blocking(move || {
            let report = inner.collect(dry_run);
            inner.tell_again(&withdrawn)?;
            report
        })
        .await?;
        Ok(GcReport { files: report.dropped, bytes: report.freed, kept: report.kept + report.held, dry_run })
    }
}

impl Inner {
    fn collect(&self, dry_run: bool) -> Result<hubless_store::GcReport, MirrorError> {
        let _shut = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let keep = self.kept_blobs()?;
        Ok(self.store.blobs().collect(&keep, &self.kept_drafts()?, dry_run)?)
    }

    /// The shards that a collection will take.
    fn shards_going(&self) -> Result<Vec<Sha256>, MirrorError> {
        let keep = self.kept_blobs()?;
        let (mut going, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.catalogue().blobs(after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(going) };
            after = Some(*last);
            for (hash, record) in page {
                if !keep.contains(&hash) && record.size >= SHARD_MIN_BYTES {
                    going.extend(self.shards_of(&hash)?);
                }
            }
        }
    }

    /// Has others told again of withdrawn shards that stayed: they are read, fetched or wanted by now.
    pub(crate) fn tell_again(&self, withdrawn: &[Sha256]) -> Result<(), MirrorError> {
        for shard in withdrawn {
            if let Some(link) = self.held(&FileDigest::Sha256(*shard))? {
                self.announce_file(&link.digest, link.size)?;
            }
        }
        Ok(())
    }

    /// The shards whose bytes a blob has.
    pub(crate) fn shards_of(&self, hash: &BlobHash) -> Result<Vec<Sha256>, MirrorError> {
        let digests = self.store.catalogue().digests_of(hash)?;
        let shard = |digest| match digest {
            FileDigest::Sha256(sha256) => Some(sha256),
            FileDigest::Git(_) => None,
        };
        Ok(digests.into_iter().filter_map(shard).collect())
    }
}
