//! Opens a file of a commit: streams what is here or may be shown as it comes, waits a little for what may not.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use hubless_origin::OriginError;
use hubless_transfer::SMALL_FILE_MAX;
use hubless_types::{Access, ByteRange, CommitId, FileEntry, Link, LinkTrust, RepoId, RepoPath};
use tokio::time::Instant;

use crate::body::{self, Begun, Rescue};
use crate::links::Known;
use crate::mirror::Inner;
use crate::obtain::Gauge;
use crate::util::{blocking, locked};
use crate::{Caller, FileReader, Mirror, MirrorError};

/// Shortest and longest time after which a client is told to ask again.
const SOONEST_RETRY: Duration = Duration::from_secs(1);
const LATEST_RETRY: Duration = Duration::from_secs(3600);
/// Peers that bring no first byte in this time are no longer waited for alone, where there is an origin.
const LATE: Duration = Duration::from_millis(500);
/// When a client is told to ask again while nothing is known of the rate.
const BLIND_RETRY: Duration = Duration::from_secs(5);

impl Mirror {
    /// Opens a file of `commit` for reading `range` (bytes, half-open, cut at the file's end).
    ///
    /// Returns when the first bytes are here and verified, not when the file is whole, if its link is proven or
    /// vouched for by a trusted signer. Else the whole file is fetched and hashed first, for at most
    /// `claimed_wait`. Dropping the reader never stops a fetch that others share.
    ///
    /// # Errors
    /// [`MirrorError::EntryNotFound`] if the commit lacks `path`; [`MirrorError::NotYet`] if the file or its first
    /// byte took too long (the fetch of a claimed file goes on); [`MirrorError::NoSource`] if nobody has it.
    pub async fn open_file(
        &self,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        path: &RepoPath,
        range: ByteRange,
    ) -> Result<FileReader, MirrorError> {
        // Of a private repository the manifest is asked for in the same way.
        if self.inner.access(repo)? != Access::Private {
            self.inner.check_content(caller, repo).await?;
        }
        let manifest = self.inner.manifest(caller, Some(repo), commit).await?;
        let entry = manifest.entry(path).cloned().ok_or_else(|| MirrorError::EntryNotFound {
            repo: repo.clone(),
            commit,
            path: path.clone(),
        })?;
        drop(manifest);
        let range = ByteRange::new(range.start.min(entry.size), range.end.min(entry.size));
        self.inner.open(caller, repo, commit, entry, range).await
    }
}

impl Inner {
    async fn open(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entry: FileEntry,
        range: ByteRange,
    ) -> Result<FileReader, MirrorError> {
        if range.is_empty() {
            return Ok(FileReader { entry, range, body: Box::pin(futures::stream::empty()) });
        }
        match self.begin_soon(repo, commit, &entry, range).await? {
            (Known::Held(link), Some(begun)) => {
                self.prove_if_unproven(link);
                Ok(FileReader { entry, range, body: begun.stream() })
            }
            (known, _) => self.open_absent(caller, repo, commit, entry, known, range).await,
        }
    }

    /// Opens what is not here, unless nobody had it a moment ago.
    async fn open_absent(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entry: FileEntry,
        known: Known,
        range: ByteRange,
    ) -> Result<FileReader, MirrorError> {
        let digest = entry.digest();
        // Whoever shows a token may be told of more than others were.
        if caller.token.is_none() && locked(&self.absent).is_known(&digest, Instant::now()) {
            return Err(MirrorError::NoSource { what: format!("`{}` ({digest})", entry.path) });
        }
        let opened = match known {
            Known::Stream(link) if link.size > SMALL_FILE_MAX => {
                self.open_coming(caller, repo, commit, entry, link, range).await
            }
            _ => self.open_unproven(caller, repo, commit, entry, range).await,
        };
        if caller.token.is_none() && opened.as_ref().is_err_and(MirrorError::is_nowhere) {
            locked(&self.absent).note(digest, Instant::now());
        }
        opened
    }

    /// What is known of the file; and where it is held, its beginning: all of it in one go on one thread, since most
    /// files are small and held.
    async fn begin_soon(
        self: &Arc<Self>,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
        range: ByteRange,
    ) -> Result<(Known, Option<Begun>), MirrorError> {
        let (inner, repo, entry) = (Arc::clone(self), repo.clone(), entry.clone());
        blocking(move || {
            let known = match inner.known(&repo, commit, &entry)? {
                Known::Held(link) => Known::Held(link),
                _ => {
                    inner.import_bundled(&repo, commit, &[&entry])?;
                    inner.known(&repo, commit, &entry)?
                }
            };
            let begun = match known {
                Known::Held(link) => Some(body::begin_held(&inner.store, link.hash, range)?),
                Known::Elsewhere(_) | Known::Stream(_) | Known::Unknown => None,
            };
            Ok((known, begun))
        })
        .await
    }

    async fn open_held(
        self: &Arc<Self>,
        entry: FileEntry,
        link: Link,
        range: ByteRange,
    ) -> Result<FileReader, MirrorError> {
        self.prove_if_unproven(link);
        let body = body::of_held(&self.store, link.hash, range).await?;
        Ok(FileReader { entry, range, body })
    }

    async fn open_coming(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entry: FileEntry,
        link: Link,
        range: ByteRange,
    ) -> Result<FileReader, MirrorError> {
        let remotes = self.remotes(caller, repo, commit, &entry)?;
        if remotes.first().is_some_and(|remote| remote.errand().closed) {
            return self.open_unproven(caller, repo, commit, entry, range).await;
        }
        let handle = self.begin_fetch(&link, commit, &entry, &remotes).await?;
        let first = body::first_piece(range);
        if !remotes.is_empty() {
            // What an origin sends can be shown as it comes only once a peer has sent the tree.
            let whole = async {
                tokio::time::sleep(LATE).await;
                self.open_unproven(caller, repo, commit, entry.clone(), range).await
            };
            tokio::pin!(whole);
            let arrived = tokio::select! {
                biased;
                arrived = handle.wait_for(first) => arrived,
                opened = &mut whole => return opened,
            };
            if arrived.is_err() {
                return whole.await;
            }
            let rescue = Rescue { caller: caller.clone(), repo: repo.clone(), commit, entry: entry.clone() };
            let body = body::of_coming(handle, link, range, Arc::clone(self), Some(rescue));
            return Ok(FileReader { entry: entry.clone(), range, body });
        }
        let waited = tokio::time::timeout(self.config.first_byte_timeout, handle.wait_for(first)).await;
        match waited {
            Ok(arrived) => arrived?,
            Err(_) => {
                let progress = handle.progress().borrow().clone();
                let left = progress.total.saturating_sub(progress.done);
                return Err(not_yet(&entry, left, progress.rate, None));
            }
        }
        let body = body::of_coming(handle, link, range, Arc::clone(self), None);
        Ok(FileReader { entry, range, body })
    }

    async fn open_unproven(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entry: FileEntry,
        range: ByteRange,
    ) -> Result<FileReader, MirrorError> {
        let (job, gauge) = self.obtain(caller, repo, commit, &entry)?;
        let (inner, asking, of, wanted) = (Arc::clone(self), caller.clone(), repo.clone(), entry.clone());
        let job = async move { inner.obtained(&asking, &of, commit, &wanted, job).await }.boxed().shared();
        match tokio::time::timeout(self.config.claimed_wait, job.clone()).await {
            Ok(done) => {
                let link = done.map_err(MirrorError::Shared)?;
                self.open_held(entry, link, range).await
            }
            Err(_) => {
                // The client comes back for it, so it is fetched on.
                let cancel = self.cancel.clone();
                self.tasks.spawn(async move { cancel.run_until_cancelled(job).await.is_some() });
                Err(not_yet_of(&entry, &gauge))
            }
        }
    }

    fn prove_if_unproven(self: &Arc<Self>, link: Link) {
        if link.trust < LinkTrust::Proven {
            self.prove_later(link);
        }
    }

    /// Hashes a whole file that was shown on a trusted signer's word.
    pub(crate) fn prove_later(self: &Arc<Self>, link: Link) {
        // A popular file is opened often before the first proof of it ends; one is enough.
        if !locked(&self.proving).insert((link.digest, link.hash)) {
            return;
        }
        let (inner, cancel) = (Arc::clone(self), self.cancel.clone());
        let proving = Proving { inner: Arc::clone(self), link };
        self.tasks.spawn(async move {
            let _proving = proving;
            if let Some(Err(error)) = cancel.run_until_cancelled(inner.prove(&link, &[])).await {
                tracing::warn!(digest = %link.digest, %error, "a file could not be proven yet");
            }
        });
    }
}

/// A proof in the background; dropped, another may begin.
struct Proving {
    inner: Arc<Inner>,
    link: Link,
}

impl Drop for Proving {
    fn drop(&mut self) {
        locked(&self.inner.proving).remove(&(self.link.digest, self.link.hash));
    }
}

fn not_yet_of(entry: &FileEntry, gauge: &Gauge) -> MirrorError {
    let progress = gauge.read();
    let left = entry.size.saturating_sub(progress.done);
    not_yet(entry, left, progress.rate, gauge.trouble())
}

/// When it makes sense to ask again: from the bytes that are left and the rate in bytes a second, and not before whatever
/// keeps the origin from sending any is over.
fn not_yet(entry: &FileEntry, left: u64, rate: u64, trouble: Option<OriginError>) -> MirrorError {
    let by_rate = left.checked_div(rate).map(|s| Duration::from_secs(s.saturating_add(1)));
    let by_origin = trouble.as_ref().and_then(OriginError::retry_after);
    let retry_after = by_rate.max(by_origin).unwrap_or(BLIND_RETRY).clamp(SOONEST_RETRY, LATEST_RETRY);
    MirrorError::NotYet { path: entry.path.clone(), trouble: trouble.map(Box::new), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::{BlobId, FileMode};

    #[tokio::test]
    async fn a_file_is_proven_once_at_a_time() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let key = hubless_proof::NodeKey::from_bytes([1; 32]);
        let clock: Arc<dyn hubless_types::Clock> =
            Arc::new(hubless_types::ManualClock::at(hubless_types::Timestamp(1_700_000_000)));
        let store = hubless_store::Store::open(dir.path(), key.id(), clock.clone())?;
        let file = store.blobs().import_bytes(b"x", hubless_store::DigestKind::GitBlob)?;
        let mirror = Mirror::offline(store, key, clock, crate::MirrorConfig::default());
        let link = Link { digest: file.digest, hash: file.hash, size: 1, trust: LinkTrust::Vouched };
        (0..3).for_each(|_| mirror.inner.prove_later(link));
        assert_eq!(mirror.inner.tasks.len(), 1);
        mirror.inner.tasks.close();
        mirror.inner.tasks.wait().await;
        assert!(locked(&mirror.inner.proving).is_empty());
        Ok(())
    }

    #[test]
    fn a_client_is_told_to_come_back_when_it_makes_sense() {
        let entry = FileEntry {
            path: "w.bin".parse().unwrap(),
            mode: FileMode::Regular,
            blob: BlobId::from_bytes([1; 20]),
            size: 1,
            lfs: None,
        };
        let secs = |left, rate| not_yet(&entry, left, rate, None).retry_after().unwrap().as_secs();
        assert_eq!((secs(100, 0), secs(100, 10), secs(0, 10), secs(u64::MAX, 1)), (5, 11, 1, 3600));
        let limited = OriginError::Limited { origin: "o".into(), status: 429, wait: Duration::from_secs(40) };
        let waiting = not_yet(&entry, 100, 0, Some(limited));
        assert_eq!(waiting.retry_after(), Some(Duration::from_secs(40)));
        assert!(waiting.to_string().ends_with("(o answered 429: it takes no more requests for 40 s)"));
    }
}
