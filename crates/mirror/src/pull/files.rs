//! The files of a pull: what is here already, small ones by the batch, large ones some at a time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, FuturesUnordered};
use hubless_store::Hold;
use hubless_transfer::SMALL_FILE_MAX;
use hubless_types::{CommitId, FileDigest, FileEntry, Link, Provider, RepoId};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::output::Output;
use crate::links::Known;
use crate::meter::{Meter, TELL_EVERY};
use crate::mirror::Inner;
use crate::obtain::{Gauge, SMALL_AT_ONCE};
use crate::sources::Net;
use crate::upstream::HEAD_START;
use crate::util::{blocking, locked};
use crate::{Caller, MirrorError, Progress};

/// Files above a small one's size that are planned together.
const FILES_PLANNED: usize = 64;
/// Peers that small files are asked of.
const SMALL_SOURCES: usize = 8;
/// How much longer further peers are waited for once one is known.
const SOURCE_GRACE: Duration = Duration::from_millis(300);
/// Files that are looked up at once before anything is fetched.
const LOOK_PAGE: usize = 1024;

/// All paths that have one content.
type Group = Vec<FileEntry>;

enum Job {
    Here(Vec<(Group, Link)>),
    Small(Vec<Group>, usize),
    Large(Group),
}

/// One pull's files on their way.
struct Run<'a> {
    inner: &'a Arc<Inner>,
    caller: &'a Caller,
    repo: &'a RepoId,
    commit: CommitId,
    output: &'a Output,
    meter: &'a Meter,
    sources: Vec<Provider>,
    /// For large files whose hash tree is waited for. What peers have the trees of is planned together: nodes that
    /// pull the same at the same moment begin anywhere, and only one file of all is at an end. What an origin alone
    /// has is got some files at a time, each with many requests, so that some are whole when it goes.
    places: Semaphore,
    /// What the pull has is not collected before the pull ends.
    holds: Mutex<Vec<Hold>>,
}

impl Inner {
    /// Gets `entries` here, proven, and hands each to `output`.
    pub(super) async fn get_files(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entries: Vec<FileEntry>,
        output: &Output,
        meter: &Meter,
    ) -> Result<(), MirrorError> {
        let jobs = self.plan_jobs(repo, commit, entries).await?;
        let wants_small = jobs.iter().any(|j| matches!(j, Job::Small(..)));
        let open = self.access(repo)?.is_open();
        let sources = match (&self.net, wants_small && open) {
            (Some(net), true) => {
                // Peers that take long to be found join in file by file.
                let patience = if self.has_origins() { HEAD_START } else { net.lookup_timeout };
                some_sources(net, commit, patience).await
            }
            _ => Vec::new(),
        };
        let few = self.config.parallel_files.max(1);
        let many = few.max(FILES_PLANNED);
        let places = Semaphore::new(if self.has_origins() { few } else { many });
        let run = Run {
            inner: self,
            caller,
            repo,
            commit,
            output,
            meter,
            sources,
            places,
            holds: Mutex::default(),
        };
        let (large, quick): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| matches!(job, Job::Large(_)));
        let in_turn = |jobs: Vec<Job>, n| stream::iter(jobs).map(|job| run.job(job)).buffer_unordered(n);
        let mut running = stream::select(in_turn(quick, few), in_turn(large, many));
        let mut ticks = tokio::time::interval(TELL_EVERY);
        loop {
            tokio::select! {
                done = running.next() => match done {
                    None => break,
                    Some(done) => done?,
                },
                _ = ticks.tick() => if let Some(quiet) = meter.tell_bytes() {
                    meter.tell(Progress::Note { text: self.waited_for(quiet) });
                },
                () = self.cancel.cancelled() => return Err(MirrorError::Stopped),
            }
        }
        let _ = meter.tell_bytes();
        Ok(())
    }

    /// Sorts files by what is to be done for them: first what is here, then what is small, then the rest.
    async fn plan_jobs(
        self: &Arc<Self>,
        repo: &RepoId,
        commit: CommitId,
        entries: Vec<FileEntry>,
    ) -> Result<Vec<Job>, MirrorError> {
        let mut groups: BTreeMap<FileDigest, Group> = BTreeMap::new();
        for entry in entries {
            groups.entry(entry.digest()).or_default().push(entry);
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by(|a, b| a[0].path.cmp(&b[0].path));
        let (inner, repo) = (Arc::clone(self), repo.clone());
        blocking(move || {
            inner.import_bundled(&repo, commit, &groups.iter().map(|g| &g[0]).collect::<Vec<_>>())?;
            let (mut here, mut small, mut large) = (Vec::new(), Vec::new(), Vec::new());
            for group in groups {
                match inner.known(&repo, commit, &group[0])? {
                    Known::Held(link) => here.push((group, link)),
                    _ if group[0].size <= SMALL_FILE_MAX => small.push(group),
                    _ => large.push(group),
                }
            }
            Ok(jobs_of(here, small, large))
        })
        .await
    }
}

fn jobs_of(here: Vec<(Group, Link)>, small: Vec<Group>, large: Vec<Group>) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut here = here.into_iter().peekable();
    while here.peek().is_some() {
        jobs.push(Job::Here(here.by_ref().take(LOOK_PAGE).collect()));
    }
    let mut small = small.into_iter().peekable();
    while small.peek().is_some() {
        let turn = jobs.len();
        jobs.push(Job::Small(small.by_ref().take(SMALL_AT_ONCE).collect(), turn));
    }
    jobs.extend(large.into_iter().map(Job::Large));
    jobs
}

/// Some peers that may have the small files of `commit`, soon.
async fn some_sources(net: &Net, commit: CommitId, patience: Duration) -> Vec<Provider> {
    let mut found = net.sources(&[hubless_discovery::DhtKey::Commit(commit)]);
    let mut sources = Vec::new();
    let mut deadline = Instant::now() + patience;
    while let Ok(Some(provider)) = tokio::time::timeout_at(deadline, found.next()).await {
        sources.push(provider);
        deadline = deadline.min(Instant::now() + SOURCE_GRACE);
        if sources.len() == SMALL_SOURCES {
            break;
        }
    }
    sources
}

/// Does `work` on a file, and gives its place back once the file's tree is here.
async fn until_treed<T>(
    place: Option<SemaphorePermit<'_>>,
    gauge: &Gauge,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        _ = gauge.treed_view(), if place.is_some() => drop(place),
    }
    work.await
}

impl Run<'_> {
    async fn job(&self, job: Job) -> Result<(), MirrorError> {
        match job {
            Job::Here(groups) => {
                for (group, link) in groups {
                    self.here(group, link).await?;
                }
                Ok(())
            }
            Job::Small(groups, turn) => self.small(groups, turn).await,
            Job::Large(group) => self.large(group, false).await,
        }
    }

    async fn here(&self, group: Group, link: Link) -> Result<(), MirrorError> {
        if !self.inner.prove(&link, &[]).await? {
            return self.large(group, false).await;
        }
        self.deliver(group, link, true).await
    }

    /// Asks peers for a batch of small files, each batch beginning with another peer; what none of those has is
    /// got one by one.
    async fn small(&self, groups: Vec<Group>, turn: usize) -> Result<(), MirrorError> {
        let mut got = std::collections::HashMap::new();
        if let (Some(net), false) = (&self.inner.net, self.sources.is_empty()) {
            let mut sources = self.sources.clone();
            sources.rotate_left(turn % self.sources.len());
            let entries: Vec<&FileEntry> = groups.iter().map(|g| &g[0]).collect();
            let gauge = Gauge::default();
            got = self.inner.small_files(net, stream::iter(sources), &entries, &gauge).await?;
            self.meter.came(&gauge);
        }
        let mut rest = FuturesUnordered::new();
        for group in groups {
            match got.remove(&group[0].digest()) {
                Some(link) if link.size == group[0].size => self.deliver(group, link, false).await?,
                _ => rest.push(self.large(group, false)),
            }
        }
        while let Some(done) = rest.next().await {
            done?;
        }
        Ok(())
    }

    async fn large(&self, group: Group, here: bool) -> Result<(), MirrorError> {
        let entry = &group[0];
        if let Some(link) = self.vouched(entry).await? {
            return self.deliver(group, link, here).await;
        }
        let place = self.place(entry).await;
        let (job, gauge) = self.inner.obtain(self.caller, self.repo, self.commit, entry)?;
        let digest = entry.digest();
        self.meter.begins(digest, gauge.clone());
        let obtained = self.inner.obtained(self.caller, self.repo, self.commit, entry, job);
        let done = until_treed(place, &gauge, obtained).await;
        self.meter.ended(&digest, done.is_ok().then_some(entry.size));
        self.deliver(group, done.map_err(MirrorError::Shared)?, here).await
    }

    /// Gets a file here on the word of whoever is trusted for the name: every byte is checked against the root that
    /// they signed, and git's or LFS' digest follows in the background. Only for files that stay in the store:
    /// what is written elsewhere is proven first. `None` if nobody vouches for it, or it could not be had.
    async fn vouched(&self, entry: &FileEntry) -> Result<Option<Link>, MirrorError> {
        if !self.output.is_store() || entry.size <= SMALL_FILE_MAX {
            return Ok(None);
        }
        let known = self.inner.known_soon(self.repo, self.commit, entry).await?;
        let Known::Stream(link) = known else { return Ok(None) };
        let remotes = self.inner.remotes(self.caller, self.repo, self.commit, entry)?;
        if remotes.first().is_some_and(|remote| remote.errand().closed) {
            return Ok(None);
        }
        let place = self.place(entry).await;
        let (digest, gauge) = (entry.digest(), Gauge::default());
        self.meter.begins(digest, gauge.clone());
        let fetched = async {
            tokio::select! {
                fetched = self.inner.fetch_whole(&link, self.commit, entry, &remotes, &gauge) => fetched.is_ok(),
                // Peers bring nothing: the file is got here by whoever has it.
                () = self.inner.until_stalled(&gauge), if !remotes.is_empty() => false,
            }
        };
        let fetched = until_treed(place, &gauge, fetched).await;
        self.meter.ended(&digest, fetched.then_some(entry.size));
        if !fetched {
            return Ok(None);
        }
        self.inner.keep_private(&remotes, &link).await?;
        if !self.inner.may_show(self.repo, &link.hash)? {
            return Ok(None);
        }
        self.inner.prove_later(link);
        Ok(Some(link))
    }

    /// A place for a large file.
    async fn place(&self, entry: &FileEntry) -> Option<SemaphorePermit<'_>> {
        if entry.size <= SMALL_FILE_MAX {
            return None;
        }
        // They are never closed.
        self.places.acquire().await.ok()
    }

    async fn deliver(&self, group: Group, link: Link, here: bool) -> Result<(), MirrorError> {
        locked(&self.holds).push(self.inner.store.blobs().hold(link.hash));
        for entry in group {
            self.output.put(&self.inner.store, &entry, &link).await?;
            self.meter.done(&entry, here);
        }
        Ok(())
    }
}
