//! What stays: pins, and the commits that this node publishes.

use std::collections::HashSet;
use std::sync::Arc;

use hubless_store::RefSource;
use hubless_types::{BlobHash, CommitId, FileDigest, Pin, RepoId, Revision};

use crate::mirror::Inner;
use crate::util::blocking;
use crate::{Caller, Mirror, MirrorError, PullRequest};

/// Repositories that are looked at between two looks at the catalogue.
const REPO_PAGE: usize = 256;

impl Mirror {
    /// Keeps what `revision` is now, with all of its files; fetches those that are not here.
    ///
    /// The pin stands before the first byte comes, and stays if some cannot be fetched: they are tried again in
    /// the background.
    ///
    /// # Errors
    /// Those of [`Mirror::pull`].
    pub async fn pin(&self, repo: &RepoId, revision: &Revision, caller: &Caller) -> Result<Pin, MirrorError> {
        let mut request = PullRequest::all(repo.clone(), revision.clone());
        request.accept = caller.accept.clone();
        request.token = caller.token.clone();
        request.pin = true;
        let (progress, _unread) = tokio::sync::mpsc::channel(1);
        // It may have been renamed.
        let repo = self.pull(request, progress).await?.repo;
        let pin = self.inner.store.catalogue().pin(&repo, revision)?;
        pin.ok_or_else(|| MirrorError::NotPinned { repo, revision: revision.clone() })
    }

    /// Lets a pin go. Its files stay until [`Mirror::gc`].
    ///
    /// # Errors
    /// [`MirrorError::NotPinned`].
    pub fn unpin(&self, repo: &RepoId, revision: &Revision) -> Result<(), MirrorError> {
        let catalogue = self.inner.store.catalogue();
        let renamed = catalogue.canonical(repo)?;
        for repo in std::iter::once(repo).chain(&renamed) {
            if catalogue.remove_pin(repo, revision)? {
                return Ok(());
            }
        }
        Err(MirrorError::NotPinned { repo: repo.clone(), revision: revision.clone() })
    }

    /// Drops the bytes of one blob, unless a pin or a name published here needs it; returns how many bytes that freed.
    /// Others are told first.
    ///
    /// # Errors
    /// [`MirrorError::Store`] if it is read or fetched at this moment, or of the catalogue.
    pub async fn evict(&self, hash: BlobHash) -> Result<u64, MirrorError> {
        let inner = Arc::clone(&self.inner);
        let (is_kept, shards) =
            blocking(move || Ok((inner.kept_blobs()?.contains(&hash), inner.shards_of(&hash)?))).await?;
        if is_kept {
            return Ok(0);
        }
        let withdrawn = self.inner.withdraw(shards).await?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let freed = inner.store.blobs().evict(&hash);
            inner.tell_again(&withdrawn)?;
            Ok(freed?)
        })
        .await
    }
}

impl Inner {
    /// The commit whose manifest is here for `commit`: itself, or the one that stands for an adopted snapshot.
    pub(crate) fn own_commit(&self, repo: &RepoId, commit: CommitId) -> Result<CommitId, MirrorError> {
        let catalogue = self.store.catalogue();
        if catalogue.has_manifest(commit)? && self.shows(repo, commit)? {
            return Ok(commit);
        }
        let row = catalogue.get_ref(repo, &Revision::from(commit))?;
        Ok(row.filter(|r| r.by == RefSource::Adopted).map_or(commit, |r| r.commit))
    }

    /// The commits that are kept: pinned ones, and those that this node says its names are.
    pub(crate) fn kept_commits(&self) -> Result<HashSet<CommitId>, MirrorError> {
        let catalogue = self.store.catalogue();
        let mut kept: HashSet<CommitId> = catalogue.pins()?.into_iter().map(|pin| pin.commit).collect();
        self.each_repo(|repo| {
            let refs = catalogue.refs(repo)?;
            let own = refs.into_iter().filter(|(_, r)| r.by == RefSource::Published);
            kept.extend(own.map(|(_, r)| r.commit));
            Ok(())
        })?;
        Ok(kept)
    }

    /// The blobs of the commits that are kept.
    pub(crate) fn kept_blobs(&self) -> Result<HashSet<BlobHash>, MirrorError> {
        let catalogue = self.store.catalogue();
        let mut kept = HashSet::new();
        for commit in self.kept_commits()? {
            let Some(manifest) = catalogue.manifest(commit)? else { continue };
            self.each_link(&manifest, |_, link| {
                kept.extend(link.map(|link| link.hash));
                Ok(())
            })?;
        }
        Ok(kept)
    }

    /// The drafts that an origin was filling for commits that are kept.
    pub(crate) fn kept_drafts(&self) -> Result<HashSet<FileDigest>, MirrorError> {
        let drafts = self.store.blobs().drafts()?;
        let mut kept = HashSet::new();
        if drafts.is_empty() {
            return Ok(kept);
        }
        for commit in self.kept_commits()? {
            let Some(manifest) = self.store.catalogue().manifest(commit)? else { continue };
            kept.extend(manifest.entries().iter().map(|e| e.digest()).filter(|d| drafts.contains(d)));
        }
        Ok(kept)
    }

    /// Visits every repository of which anything is known.
    pub(crate) fn each_repo(
        &self,
        mut visit: impl FnMut(&RepoId) -> Result<(), MirrorError>,
    ) -> Result<(), MirrorError> {
        let mut after = None;
        loop {
            let page = self.store.catalogue().repos(after.as_ref(), REPO_PAGE)?;
            page.iter().try_for_each(&mut visit)?;
            match page.last() {
                Some(last) if page.len() == REPO_PAGE => after = Some(last.clone()),
                _ => return Ok(()),
            }
        }
    }
}
