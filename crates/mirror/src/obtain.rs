//! Gets one file here, whole and proven, however many ask for it.
//!
//! A link that is proven or vouched for is fetched by; a small file is asked for by its digest; else one claimed
//! link after the other is fetched and hashed until one is right.
//!
//! **Invariant:** what [`Inner::obtain`] returns was hashed here and is what the manifest names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use futures::{Stream, StreamExt as _};
use hubless_limits::Use;
use hubless_origin::OriginError;
use hubless_store::{DigestKind, Draft, digest_bytes};
use hubless_transfer::{PeerClient as _, SMALL_FILE_MAX, Tick};
use hubless_types::{CommitId, FileDigest, FileEntry, Link, LinkTrust, Provider, RepoId};
use tokio::time::Instant;

use crate::fetch::{FetchError, FetchHandle, FetchProgress, FetchView, Want};
use crate::links::{Claim, Known, keys_of};
use crate::mirror::Inner;
use crate::sources::Net;
use crate::upstream::Remote;
use crate::util::{blocking, locked};
use crate::{Caller, ErrorKind, MirrorError, NotFound};
use hubless_plan::Source;

/// Claimed links of one file that are tried, each a fetch of the whole file.
const MAX_CLAIMS_TRIED: usize = 8;
/// Attempts of others that one caller waits for before its own, of one file.
const MAX_JOINED: usize = 4;
/// Files that are obtained at once, by all who ask together.
const MAX_JOBS: usize = 4096;
/// Small files that one peer is asked for at a time.
pub(crate) const SMALL_AT_ONCE: usize = 64;

/// How often a fetch is looked at whose tree is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One attempt that many may wait for; dropped by all, it stops.
pub(crate) type Obtaining = Shared<BoxFuture<'static, Result<Link, Arc<MirrorError>>>>;

/// How far a file is, once its fetch has begun.
#[derive(Clone, Default)]
pub(crate) struct Gauge(Arc<Mutex<GaugeState>>);

#[derive(Default)]
struct GaugeState {
    fetch: Option<FetchView>,
    draft: Option<Drafting>,
    /// Bytes that came otherwise.
    came: BTreeMap<Source, u64>,
}

/// A draft that is being filled.
struct Drafting {
    size: u64,
    /// Bytes that were here when it began.
    had: u64,
    gauge: DraftGauge,
    since: Instant,
}

/// Counts what comes of a draft, and from whom.
#[derive(Clone, Default)]
pub(crate) struct DraftGauge(Arc<Mutex<DraftCount>>);

#[derive(Default)]
struct DraftCount {
    came: BTreeMap<Source, u64>,
    mates: usize,
    /// Why nothing comes from its origin now.
    trouble: Option<OriginError>,
}

impl DraftGauge {
    /// To be told of bytes as they come from `source`.
    pub(crate) fn tick(&self, source: Source) -> Tick {
        let count = self.0.clone();
        Arc::new(move |bytes| {
            let mut count = locked(&count);
            *count.came.entry(source).or_default() += bytes;
            if bytes > 0 {
                count.trouble = None;
            }
        })
    }

    /// Its origin did not send what it was asked for; it is asked again. Its own words are not kept: they may be about one
    /// repository, and whoever asks for the same file of another is told of the trouble as well.
    pub(crate) fn failed(&self, error: &OriginError) {
        let mut trouble = error.clone();
        if let OriginError::Refused { said, .. } = &mut trouble {
            "it does not send the file now".clone_into(said);
        }
        locked(&self.0).trouble = Some(trouble);
    }

    /// So many other nodes fetch parts of it, which come from them.
    pub(crate) fn mates(&self, mates: usize) {
        locked(&self.0).mates = mates;
    }

    fn came(&self) -> BTreeMap<Source, u64> {
        locked(&self.0).came.clone()
    }
}

impl Gauge {
    fn watch(&self, handle: &FetchHandle) {
        let mut state = locked(&self.0);
        // What an earlier fetch of it brought counts too.
        if let Some(earlier) = state.fetch.replace(handle.view()) {
            for (source, bytes) in earlier.progress().from {
                *state.came.entry(source).or_default() += bytes;
            }
        }
    }

    pub(crate) fn came_whole(&self, from: Source, bytes: u64) {
        *locked(&self.0).came.entry(from).or_default() += bytes;
    }

    /// A draft is filled from now on; what is returned is to be told of its bytes.
    pub(crate) fn drafts(&self, draft: &Draft) -> DraftGauge {
        let (size, gauge) = (draft.size(), DraftGauge::default());
        let (had, since) = (draft.have().bytes(size), Instant::now());
        locked(&self.0).draft = Some(Drafting { size, had, gauge: gauge.clone(), since });
        gauge
    }

    /// Other nodes that fetch parts of it from an origin now, which come from them.
    pub(crate) fn mates(&self) -> usize {
        locked(&self.0).draft.as_ref().map_or(0, |draft| locked(&draft.gauge.0).mates)
    }

    /// What keeps an origin from sending it, as long as nothing comes.
    pub(crate) fn trouble(&self) -> Option<OriginError> {
        locked(&self.0).draft.as_ref().and_then(|draft| locked(&draft.gauge.0).trouble.clone())
    }

    /// The draft is over, whatever became of it; whether there was one.
    pub(crate) fn end_draft(&self) -> bool {
        let mut state = locked(&self.0);
        let Some(draft) = state.draft.take() else { return false };
        for (source, bytes) in draft.gauge.came() {
            *state.came.entry(source).or_default() += bytes;
        }
        true
    }

    /// Bytes that are verified of the file, by the fetch of it.
    pub(crate) fn fetched(&self) -> u64 {
        locked(&self.0).fetch.as_ref().map_or(0, |fetch| fetch.progress().done)
    }

    /// Whether a fetch of it runs that asks origins as well.
    pub(crate) fn has_tree(&self) -> bool {
        locked(&self.0).fetch.as_ref().is_some_and(FetchView::has_tree)
    }

    /// A look at the fetch of it, once there is one that has the file's tree.
    pub(crate) async fn treed_view(&self) -> FetchView {
        loop {
            if let Some(view) = locked(&self.0).fetch.clone().filter(FetchView::has_tree) {
                return view;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How far the file is; all zero before it begins.
    pub(crate) fn read(&self) -> FetchProgress {
        let state = locked(&self.0);
        let mut progress = state.fetch.as_ref().map(FetchView::progress).unwrap_or_default();
        let mut from = state.came.clone();
        if let Some(draft) = &state.draft {
            let by_source = draft.gauge.came();
            let came: u64 = by_source.values().sum();
            for (source, bytes) in by_source {
                *from.entry(source).or_default() += bytes;
            }
            let millis = draft.since.elapsed().as_millis().max(1) as u64;
            progress.rate += came.saturating_mul(1000) / millis;
            progress.done = progress.done.max((draft.had + came).min(draft.size));
            progress.total = draft.size;
        }
        for (source, bytes) in std::mem::take(&mut progress.from) {
            *from.entry(source).or_default() += bytes;
        }
        progress.from = from.into_iter().collect();
        progress
    }
}

/// The files that are being obtained.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<HashMap<FileDigest, (WeakFile, Gauge)>>);

impl Jobs {
    /// The files that are being obtained, and how far each is.
    pub(crate) fn running(&self) -> Vec<(FileDigest, FetchProgress)> {
        let jobs = locked(&self.0);
        let running = jobs.iter().filter(|(_, (job, _))| job.upgrade().is_some_and(|j| j.peek().is_none()));
        running.map(|(digest, (_, gauge))| (*digest, gauge.read())).collect()
    }
}

type WeakFile = WeakShared<BoxFuture<'static, Result<Link, Arc<MirrorError>>>>;

impl Inner {
    /// As [`Inner::obtain`], to its end. Where somebody else's attempt was refused for want of a token and this caller
    /// has one, it is tried again with it; and where it was for another repository, which alone may show what came,
    /// it is tried again for this one. If it came out that not everybody may read the repository, it is asked whether
    /// this caller may.
    pub(crate) async fn obtained(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
        job: Obtaining,
    ) -> Result<Link, Arc<MirrorError>> {
        let was_open = self.access(repo)?.is_open();
        let mut done = job.await;
        if done.as_ref().is_err_and(|error| caller.token.is_some() && wants_token(error))
            && let Ok((own, _)) = self.obtain(caller, repo, commit, entry)
        {
            done = own.await;
        }
        let mut link = done?;
        for _ in 0..MAX_JOINED {
            if self.may_show(repo, &link.hash)? {
                break;
            }
            link = self.obtain(caller, repo, commit, entry)?.0.await?;
        }
        if !self.may_show(repo, &link.hash)? {
            let what = format!("`{}` ({})", entry.path, entry.digest());
            return Err(Arc::new(MirrorError::NoSource { what }));
        }
        if was_open {
            self.check_content(caller, repo).await?;
        }
        Ok(link)
    }

    /// Gets a file here, whole and proven; joins whoever is at it already. Nothing happens until it is awaited.
    pub(crate) fn obtain(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
    ) -> Result<(Obtaining, Gauge), MirrorError> {
        let mut jobs = locked(&self.jobs.0);
        let running = jobs.get(&entry.digest()).map(|(job, gauge)| (job.upgrade(), gauge.clone()));
        if let Some((Some(job), gauge)) = running
            && job.peek().is_none()
        {
            return Ok((job, gauge));
        }
        if jobs.len() >= MAX_JOBS {
            jobs.retain(|_, (job, _)| job.upgrade().is_some_and(|j| j.peek().is_none()));
        }
        if jobs.len() >= MAX_JOBS {
            return Err(FetchError::TooMany { limit: MAX_JOBS }.into());
        }
        let (inner, gauge) = (Arc::clone(self), Gauge::default());
        let (caller, repo, entry, told) = (caller.clone(), repo.clone(), entry.clone(), gauge.clone());
        let digest = entry.digest();
        let job =
            async move { inner.get_file(&caller, &repo, commit, &entry, &told).await.map_err(Arc::new) };
        let job = job.boxed().shared();
        if let Some(weak) = job.downgrade() {
            jobs.insert(digest, (weak, gauge.clone()));
        }
        Ok((job, gauge))
    }

    async fn get_file(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
        gauge: &Gauge,
    ) -> Result<Link, MirrorError> {
        let known = self.known_soon(repo, commit, entry).await?;
        if let Known::Held(link) = known
            && self.prove(&link, &[]).await?
        {
            return Ok(proven(link));
        }
        let remotes = self.remotes(caller, repo, commit, entry)?;
        // A small file is as soon had anew, from whoever has it under this name.
        if let Known::Elsewhere(link) = known
            && entry.size > SMALL_FILE_MAX
            && self.prove(&link, &[]).await?
        {
            self.confirm(&remotes, repo, &link).await?;
            return Ok(proven(link));
        }
        self.within_month(Use::Content)?;
        let closed = remotes.first().is_some_and(|remote| remote.errand().closed);
        let peers = async {
            // Peers have nothing of what is not open to everyone, and are not told who looks for it.
            if closed {
                return Err(MirrorError::NoSource { what: format!("`{}` ({})", entry.path, entry.digest()) });
            }
            self.get_by_peers(known, commit, entry, &remotes, gauge).await
        };
        let link = match entry.size {
            _ if remotes.is_empty() => peers.await,
            ..=SMALL_FILE_MAX => self.race_small(&remotes, gauge, peers).await,
            _ => self.race_large(&remotes, gauge, peers).await,
        }?;
        self.lies.blame(&remotes, &link);
        self.keep_private(&remotes, &link).await?;
        // What was here of it before may have been another repository's.
        self.confirm(&remotes, repo, &link).await?;
        Ok(link)
    }

    /// Gets a file here from peers; of one that is fetched by its root, `remotes` send ranges as well.
    async fn get_by_peers(
        self: &Arc<Self>,
        known: Known,
        commit: CommitId,
        entry: &FileEntry,
        remotes: &[Arc<Remote>],
        gauge: &Gauge,
    ) -> Result<Link, MirrorError> {
        let digest = entry.digest();
        match known {
            // A small file is sooner asked for by its digest; a link to it is tried with the claims.
            Known::Stream(link) if entry.size > SMALL_FILE_MAX => {
                let fetched = self.fetch_whole(&link, commit, entry, remotes, gauge).await;
                if fetched.is_ok() && self.prove(&link, &[]).await? {
                    return Ok(proven(link));
                }
                // A proven link is right; what failed is finding or storing the bytes.
                if let (Err(error), true) = (fetched, link.trust == LinkTrust::Proven) {
                    return Err(error);
                }
            }
            Known::Held(_) | Known::Elsewhere(_) | Known::Stream(_) | Known::Unknown => {}
        }
        let net = self.online(&format!("fetching `{}`", entry.path))?;
        if entry.size <= SMALL_FILE_MAX {
            let sources = net.sources(&keys_of(commit, entry));
            if let Some(link) = self.small_files(net, sources, &[entry], gauge).await?.remove(&digest) {
                return self.right_size(commit, entry, link).await;
            }
        }
        let tried = self.try_claims(net, commit, entry, remotes, gauge).await;
        // The manifest's word for the size of a plain git file may be wrong, and the file a small one.
        let may_be_small = matches!(digest, FileDigest::Git(_)) && entry.size > SMALL_FILE_MAX;
        let link = match tried {
            Err(error) if may_be_small && !matches!(error, MirrorError::WrongSize { .. }) => {
                let sources = net.sources(&keys_of(commit, entry));
                let got = self.small_files(net, sources, &[entry], gauge).await?.remove(&digest);
                got.ok_or(error)?
            }
            tried => tried?,
        };
        self.right_size(commit, entry, link).await
    }

    async fn try_claims(
        self: &Arc<Self>,
        net: &Net,
        commit: CommitId,
        entry: &FileEntry,
        remotes: &[Arc<Remote>],
        gauge: &Gauge,
    ) -> Result<Link, MirrorError> {
        let claims = self.claims(net, commit, entry).await?;
        let mut last = None;
        let mut lied = false;
        for Claim { link, by } in claims.into_iter().take(MAX_CLAIMS_TRIED) {
            // Kept while it is fetched, so that the fetch goes on after a restart.
            self.store.catalogue().put_link(&link)?;
            match self.fetch_whole(&link, commit, entry, remotes, gauge).await {
                Err(error) => last = Some(error),
                Ok(()) if self.prove(&link, &by).await? => return Ok(proven(link)),
                Ok(()) => lied = true,
            }
        }
        Err(match last {
            Some(error) => error,
            None if lied => MirrorError::WrongContent { digest: entry.digest() },
            None => MirrorError::NoSource { what: format!("`{}` ({})", entry.path, entry.digest()) },
        })
    }

    /// Joins or begins the fetch of a blob.
    pub(crate) async fn begin_fetch(
        self: &Arc<Self>,
        link: &Link,
        commit: CommitId,
        entry: &FileEntry,
        remotes: &[Arc<Remote>],
    ) -> Result<FetchHandle, MirrorError> {
        let net = self.online(&format!("fetching `{}`", entry.path))?;
        if link.trust == LinkTrust::Vouched {
            self.note_fetched(link)?;
        }
        let (inner, hash, size) = (Arc::clone(self), link.hash, link.size);
        let first = remotes.first().cloned();
        blocking(move || inner.share_what_comes(hash, size, first.as_deref().map(Remote::errand))).await?;
        let want = Want { hash: link.hash, size: link.size };
        let feed = net.feed(keys_of(commit, entry));
        let handle = net.fetcher.fetch_with(want, feed, remotes.to_vec()).await?;
        self.announce_as_it_comes(link.digest, &handle);
        Ok(handle)
    }

    /// Has the catalogue know what is fetched on a signer's word, as a claim: so the collector finds what a pin
    /// needs. It takes the place of another's claim.
    fn note_fetched(&self, link: &Link) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        if let Some(other) = catalogue.link(&link.digest)?.filter(|l| l.hash != link.hash) {
            catalogue.strike_link(&other.digest, &other.hash)?;
        }
        Ok(catalogue.put_link(&Link { trust: LinkTrust::Claimed, ..*link })?)
    }

    /// Gets every byte of a blob here, checked against its root.
    pub(crate) async fn fetch_whole(
        self: &Arc<Self>,
        link: &Link,
        commit: CommitId,
        entry: &FileEntry,
        remotes: &[Arc<Remote>],
        gauge: &Gauge,
    ) -> Result<(), MirrorError> {
        let handle = self.begin_fetch(link, commit, entry, remotes).await?;
        gauge.watch(&handle);
        Ok(handle.wait_done().await?)
    }

    /// Asks `sources` one after the other for files of at most [`SMALL_FILE_MAX`] bytes, by their digests, and
    /// takes in those that hash to them.
    pub(crate) async fn small_files(
        &self,
        net: &Net,
        sources: impl Stream<Item = Provider>,
        entries: &[&FileEntry],
        gauge: &Gauge,
    ) -> Result<HashMap<FileDigest, Link>, MirrorError> {
        let mut missing: HashSet<FileDigest> = entries.iter().map(|e| e.digest()).collect();
        let mut got = HashMap::new();
        futures::pin_mut!(sources);
        while let Some(peer) = sources.next().await {
            let asked: Vec<FileDigest> = missing.iter().copied().take(SMALL_AT_ONCE).collect();
            let Ok(files) = net.peers.small_files(&peer, &asked).await else { continue };
            for (digest, bytes) in files {
                if !missing.contains(&digest) {
                    continue;
                }
                let size = bytes.len() as u64;
                let blobs = self.store.blobs().clone();
                let kind = DigestKind::of(&digest);
                // Nothing is stored before it is known to be the file: a stranger would choose what lies here.
                let taken = blocking(move || {
                    let right = digest_bytes(&bytes, kind) == Some(digest);
                    let taken = right.then(|| blobs.import_bytes(&bytes, kind)).transpose()?;
                    // It came from a peer, so that others may have it as well.
                    taken.map(|taken| blobs.share(&taken.hash)).transpose()?;
                    Ok(taken)
                })
                .await?;
                let Some(taken) = taken else {
                    tracing::warn!(%digest, peer = %peer.node.short(), "a peer sent another file than was asked for");
                    break;
                };
                gauge.came_whole(peer.node.into(), size);
                missing.remove(&digest);
                got.insert(digest, Link { digest, hash: taken.hash, size, trust: LinkTrust::Proven });
            }
            if missing.is_empty() {
                break;
            }
        }
        Ok(got)
    }

    /// Refuses a file whose proven content has another size than the manifest says, and mends the manifest.
    async fn right_size(
        self: &Arc<Self>,
        commit: CommitId,
        entry: &FileEntry,
        link: Link,
    ) -> Result<Link, MirrorError> {
        if link.size == entry.size {
            return Ok(link);
        }
        let (inner, wrong) = (Arc::clone(self), entry.clone());
        blocking(move || inner.mend_size(commit, &wrong, link.size)).await?;
        Err(MirrorError::WrongSize { path: entry.path.clone(), claimed: entry.size, found: link.size })
    }

    /// [`Inner::known`], where it may block; contents that came with the bundle are taken in first.
    pub(crate) async fn known_soon(
        self: &Arc<Self>,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
    ) -> Result<Known, MirrorError> {
        let (inner, repo, entry) = (Arc::clone(self), repo.clone(), entry.clone());
        blocking(move || {
            inner.import_bundled(&repo, commit, &[&entry])?;
            inner.known(&repo, commit, &entry)
        })
        .await
    }

    /// The network, or why there is none.
    pub(crate) fn online(&self, what: &str) -> Result<&Net, MirrorError> {
        self.net.as_ref().ok_or_else(|| MirrorError::Offline { what: what.to_owned() })
    }
}

fn wants_token(error: &MirrorError) -> bool {
    matches!(error.kind(), ErrorKind::Gated | ErrorKind::BadToken | ErrorKind::NotFound(NotFound::Repo))
}

fn proven(link: Link) -> Link {
    Link { trust: LinkTrust::Proven, ..link }
}
