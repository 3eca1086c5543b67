//! Takes over a Hugging Face cache, by reference.
//!
//! A cache has files, named by their digests, and says which commit they are of; it has no git objects. So the
//! files can be proven and the commit cannot. What is made of it:
//!
//! - Every file is hashed, must be what its name in `blobs/` says, and is a proven file like any other: whoever
//!   later brings the commit's git objects finds its files here already.
//! - For each snapshot this node writes a commit of its own with those files, which proves itself and which
//!   others can fetch by its id. Its message names the original.
//! - The catalogue notes under the original's id, for this node alone, which commit stands for it: its own clients
//!   see the original id, and are served offline. No peer ever gets that note, for it is nobody's proof.
//! - A pull of the original looks for its real git objects first.
//!
//! A snapshot has no more files than were downloaded, and a cache keeps no executable bits. It does not say what
//! is gated or private either, so others are told of nothing unless [`AdoptRequest::share`] asks for it.

mod scan;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use hubless_store::{DigestKind, RefRecord, RefSource};
use hubless_types::{CommitId, FileDigest, Manifest, RepoId, Revision};

use crate::add::{Found, Taken, Teller, kind_by_size};
use crate::mirror::Inner;
use crate::util::locked;
use crate::{AdoptReport, AdoptRequest, AdoptedRepo, BadFile, Mirror, MirrorError, Progress, ProgressSink};

use scan::{CachedFile, CachedRepo, Snapshot, scan};

impl Mirror {
    /// Takes over a Hugging Face cache (its `hub` folder, or that folder's parent), by reference: its files, refs
    /// and snapshots. See the module's own words for what that proves.
    ///
    /// Running it again takes over what is new. Dropping the future takes over no further snapshot. What cannot be taken over is named in the report.
    ///
    /// # Errors
    /// [`MirrorError::BadFile`] if there is no such repository in the cache; [`MirrorError::Disk`].
    pub async fn adopt(
        &self,
        request: AdoptRequest,
        progress: ProgressSink,
    ) -> Result<AdoptReport, MirrorError> {
        let inner = Arc::clone(&self.inner);
        inner.alone(progress, move |inner, teller| inner.adopt(&request, teller)).await
    }
}

impl Inner {
    fn adopt(&self, request: &AdoptRequest, teller: &Teller) -> Result<AdoptReport, MirrorError> {
        let mut report = AdoptReport::default();
        let repos = scan(&request.cache, request.only.as_ref(), &mut report.skipped)?;
        let sizes = distinct(repos.iter().flat_map(|r| &r.snapshots).flat_map(|s| &s.files));
        teller.tell(Progress::Total { files: sizes.len() as u64, bytes: sizes.values().sum() });
        for repo in repos {
            let adopted = self.adopt_repo(repo, request.share, teller, &mut report.skipped)?;
            report.repos.push(adopted);
        }
        teller.end();
        Ok(report)
    }

    fn adopt_repo(
        &self,
        cached: CachedRepo,
        share: bool,
        teller: &Teller,
        skipped: &mut Vec<BadFile>,
    ) -> Result<AdoptedRepo, MirrorError> {
        let CachedRepo { repo, refs, snapshots } = cached;
        let mut adopted =
            AdoptedRepo { repo: repo.clone(), snapshots: vec![], refs: vec![], files: 0, bytes: 0 };
        for snapshot in snapshots {
            let original = snapshot.commit;
            let taken = self.take_snapshot(&repo, snapshot, teller, skipped)?;
            if taken.is_empty() {
                continue;
            }
            teller.go_on()?;
            let own = self.stand_in(&repo, original, &taken)?;
            adopted.snapshots.push((original, own));
            adopted.files += taken.len() as u64;
            adopted.bytes += taken.iter().map(|t| t.link.2).sum::<u64>();
            let names = refs.iter().filter(|(_, commit)| **commit == original).map(|(name, _)| name.clone());
            self.name_snapshot(&repo, original, own, names.collect(), &mut adopted)?;
            if share {
                self.share_all(own, &taken)?;
                self.announce_all(&repo, own, &taken)?;
            }
        }
        Ok(adopted)
    }

    /// Hashes a snapshot's files; those that are not what the cache calls them are left out.
    fn take_snapshot(
        &self,
        repo: &RepoId,
        snapshot: Snapshot,
        teller: &Teller,
        skipped: &mut Vec<BadFile>,
    ) -> Result<Vec<Taken>, MirrorError> {
        let etags: HashMap<PathBuf, FileDigest> =
            snapshot.files.iter().filter_map(|f| Some((f.found.disk.clone(), f.etag?))).collect();
        let files: Vec<Found> = snapshot.files.into_iter().map(|f| f.found).collect();
        let kind = |found: &Found| etags.get(&found.disk).map_or_else(|| kind_by_size(found), DigestKind::of);
        let results = self.take_each(&files, &kind, teller, false)?;
        let mut taken = Vec::with_capacity(files.len());
        for (found, result) in files.into_iter().zip(results) {
            let etag = etags.get(&found.disk).copied();
            let why = match result {
                Ok(one) if etag.is_none_or(|etag| etag == one.link.0) => {
                    taken.push(one);
                    continue;
                }
                Ok(_) => "its content is not what its name in the cache says".to_owned(),
                Err(error) => error.to_string(),
            };
            let used_by = vec![(repo.clone(), found.path)];
            skipped.push(BadFile { digest: etag, place: Some(found.disk), used_by, why });
        }
        Ok(taken)
    }

    /// The commit that stands for a snapshot here: the original itself if its git objects are here, else one of
    /// our own, which is written anew only where the snapshot's files changed.
    fn stand_in(&self, repo: &RepoId, original: CommitId, taken: &[Taken]) -> Result<CommitId, MirrorError> {
        let catalogue = self.store.catalogue();
        if catalogue.has_manifest(original)? {
            catalogue.add_commit_to_repo(repo, original)?;
            return Ok(original);
        }
        let before =
            catalogue.get_ref(repo, &Revision::from(original))?.filter(|r| r.by == RefSource::Adopted);
        let before = before.map(|r| catalogue.manifest(r.commit)).transpose()?.flatten();
        let same =
            |new: &Manifest| before.as_ref().filter(|b| b.info().tree == new.info().tree).map(|b| b.commit());
        let message = format!(
            "Adopt a snapshot from a Hugging Face cache\n\nThe cache says that these are files of commit\n{original}\n"
        );
        let meta = self.meta(Vec::new(), None, message);
        Ok(self.write_commit(repo, meta, taken, &same)?.0)
    }

    /// Notes which commit stands for `original`, what `names` point to it, and pins it under them.
    fn name_snapshot(
        &self,
        repo: &RepoId,
        original: CommitId,
        own: CommitId,
        names: Vec<Revision>,
        adopted: &mut AdoptedRepo,
    ) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let seen = self.clock.now();
        let row = |commit| RefRecord { commit, seen, by: RefSource::Adopted };
        if own != original {
            catalogue.set_ref(repo, &Revision::from(original), row(own))?;
        }
        let pinned_as = if names.is_empty() { vec![Revision::from(original)] } else { names.clone() };
        for revision in pinned_as {
            self.pin_commit(repo, &revision, own)?;
        }
        for revision in names {
            // What somebody signed, or this node published, is better than what a cache says.
            let before = catalogue.get_ref(repo, &revision)?;
            if before.is_none_or(|b| b.by == RefSource::Adopted) {
                catalogue.set_ref(repo, &revision, row(original))?;
                adopted.refs.push((revision, original));
            }
        }
        locked(&self.memory).forget(repo);
        Ok(())
    }
}

/// Files on disk and their sizes, each once.
fn distinct<'a>(files: impl Iterator<Item = &'a CachedFile>) -> HashMap<&'a PathBuf, u64> {
    files.map(|f| (&f.found.disk, f.found.size)).collect()
}
