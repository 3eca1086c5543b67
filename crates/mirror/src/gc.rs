//! Frees what nobody wants, and tells others first.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use hubless_discovery::DhtKey;
use hubless_store::{BlobStatus, RefSource};
use hubless_types::{BlobHash, CommitId, FileDigest, Revision, SHARD_MIN_BYTES, Sha256};

use crate::mirror::Inner;
use crate::util::blocking;
use crate::{GcReport, Mirror, MirrorError};

/// Blobs that are looked at between two looks at the catalogue.
const PAGE: usize = 1024;

impl Mirror {
    /// Drops every file that no pin and no name published here needs, and that nobody reads or fetches at this
    /// moment; then the manifests of commits that nothing needs, none of whose files is here and that nobody pulls at
    /// this moment. Files added by reference are only forgotten. With `dry_run` it only counts.
    ///
    /// # Errors
    /// [`MirrorError::Store`] of the catalogue or the disk.
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
        let inner = Arc::clone(&self.inner);
        let commits = blocking(move || inner.collect_commits(dry_run)).await?;
        let (files, bytes, kept) = (report.dropped, report.freed, report.kept + report.held);
        Ok(GcReport { files, bytes, kept, commits, dry_run })
    }
}

impl Inner {
    fn collect(&self, dry_run: bool) -> Result<hubless_store::GcReport, MirrorError> {
        let _shut = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let keep = self.kept_blobs()?;
        Ok(self.store.blobs().collect(&keep, &self.kept_drafts()?, dry_run)?)
    }

    /// Forgets the lists of files of commits that nobody needs; how many. Their names stay: nothing older may displace
    /// what was seen.
    fn collect_commits(&self, dry_run: bool) -> Result<u64, MirrorError> {
        let _shut = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let catalogue = self.store.catalogue();
        let kept = self.with_ancestors(self.kept_commits()?)?;
        let mut going = Vec::new();
        self.each_manifest(|commit| {
            let needed = kept.contains(&commit) || self.pulls.has(commit);
            if !needed && !self.has_any_file_of(commit)? {
                going.push(commit);
            }
            Ok(())
        })?;
        if !dry_run {
            self.stop_telling(going.iter().copied().map(DhtKey::Commit).collect())?;
            for commit in &going {
                for repo in catalogue.repos_of(*commit)? {
                    let asked = Revision::from(*commit);
                    if catalogue.get_ref(&repo, &asked)?.is_some_and(|row| row.by == RefSource::Commit) {
                        catalogue.remove_ref(&repo, &asked)?;
                    }
                }
                catalogue.remove_manifest(*commit)?;
            }
        }
        Ok(going.len() as u64)
    }

    /// These commits and all that they descend from, as far as they are here: the history of what is published.
    fn with_ancestors(&self, mut commits: HashSet<CommitId>) -> Result<HashSet<CommitId>, MirrorError> {
        let mut left: Vec<CommitId> = commits.iter().copied().collect();
        while let Some(commit) = left.pop() {
            let Some(head) = self.store.catalogue().manifest_head(commit)? else { continue };
            left.extend(head.info.parents.into_iter().filter(|parent| commits.insert(*parent)));
        }
        Ok(commits)
    }

    fn has_any_file_of(&self, commit: CommitId) -> Result<bool, MirrorError> {
        for (hash, _) in self.blobs_of(commit)? {
            if self.store.blobs().status(&hash)? != BlobStatus::Absent {
                return Ok(true);
            }
        }
        Ok(false)
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
