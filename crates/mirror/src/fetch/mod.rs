//! Fetches files from peers: runs one [`Plan`](hubless_plan::Plan) against a [`PeerClient`] and a [`Store`].
//!
//! One task, the driver, owns the plan and everything that runs for it: a subscription to each provider's
//! holdings, and the segments in flight. Callers hold [`FetchHandle`]s; the last one dropped ends a fetch after a
//! short linger. All files fetched at once share the one plan, so that a provider's rate and its requests in
//! flight are counted once.
//!
//! **Invariant:** however many ask for a hash, one fetch of it runs; what is verified is never asked for again.
//! **Not here:** who holds what (callers hand in a feed of providers), and what to ask of whom ([`crate::plan`]).

mod driver;
mod error;
mod handle;
mod run;
mod segments;
mod sources;
#[cfg(test)]
mod tests;
mod trees;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use hubless_limits::Limits;
use hubless_store::Store;
use hubless_transfer::PeerClient;
use hubless_types::{BlobHash, Provider};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use error::FetchError;
pub(crate) use handle::FetchView;
pub use handle::{FetchHandle, FetchProgress, ReaderGuard};

use crate::upstream::Remote;
use driver::{Command, Driver};
use handle::Job;

/// Fetches that may run at once.
pub const MAX_JOBS: usize = 4096;

/// Commands that may wait for the driver; senders wait for room.
const MAX_COMMANDS: usize = 256;

/// What to fetch: a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The root of its tree.
    pub hash: BlobHash,
    /// Its length in bytes, as the link claims it.
    pub size: u64,
}

/// Says of an address whether it is on this machine or on a link of its own. Discovery has the rule.
#[derive(Clone)]
pub struct OnLink(Arc<dyn Fn(&SocketAddr) -> bool + Send + Sync>);

impl OnLink {
    /// By a rule that is asked anew each time, as a node's own addresses change. It must answer at once.
    pub fn by(rule: impl Fn(&SocketAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    fn is(&self, addr: &SocketAddr) -> bool {
        (self.0)(addr)
    }
}

impl Default for OnLink {
    /// Nothing is.
    fn default() -> Self {
        Self::by(|_| false)
    }
}

impl fmt::Debug for OnLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnLink")
    }
}

/// How a [`Fetcher`] behaves.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// Where this node begins among parts that are equally rare: take it from the node's id, so that nodes differ.
    pub seed: u64,
    /// How long a fetch may be without any usable provider before it fails with [`FetchError::NoSource`]; shorter
    /// than clients of the door wait, so that they hear it.
    pub patience: Duration,
    /// Most requests that one origin has in flight.
    pub origin_streams: usize,
    /// How long a fetch goes on after the last handle to it was dropped.
    pub linger: Duration,
    /// Caps on what comes in; the peers and origins that are asked keep to them.
    pub limits: Limits,
    /// Which addresses are on a link of this node's own: whoever is told of there is a near provider.
    pub on_link: OnLink,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            patience: Duration::from_secs(7),
            origin_streams: 4,
            linger: Duration::from_secs(2),
            limits: Limits::default(),
            on_link: OnLink::default(),
        }
    }
}

/// Fetches files from peers. Clones share one driver; [`Fetcher::shutdown`] ends it, and so does dropping the last.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

/// The fetches that run, by hash.
type Jobs = Arc<Mutex<HashMap<BlobHash, Arc<Job>>>>;

struct Shared {
    store: Store,
    jobs: Jobs,
    commands: mpsc::Sender<Command>,
    wake: Arc<Notify>,
    next_reader: Arc<std::sync::atomic::AtomicU64>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fetcher {
    /// Starts the driver; must be called within a tokio runtime.
    pub fn new(store: Store, peers: Arc<dyn PeerClient>, config: FetchConfig) -> Self {
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        let (wake, stop, tasks, jobs) =
            (Arc::new(Notify::new()), CancellationToken::new(), TaskTracker::new(), Jobs::default());
        let driver =
            Driver::new(peers, config, jobs.clone(), inbox, wake.clone(), stop.clone(), tasks.clone());
        tasks.spawn(driver.run());
        tasks.close();
        Self {
            shared: Arc::new(Shared {
                store,
                jobs,
                commands,
                wake,
                next_reader: Arc::default(),
                stop,
                tasks,
            }),
        }
    }

    /// Fetches `want` from the providers that `feed` names, or joins the fetch of it that runs already.
    ///
    /// `feed` stays open while more providers may become known. It is read until it ends or the fetch does.
    /// Returns as soon as the file's place in the store is there; wait on the handle for bytes.
    ///
    /// # Errors
    /// [`FetchError::Disk`] if the store can make no place for it, [`FetchError::TooMany`] if [`MAX_JOBS`] run,
    /// [`FetchError::Stopped`] after [`Fetcher::shutdown`]. Where the month's bytes are used up, the handle soon says so.
    pub async fn fetch(
        &self,
        want: Want,
        feed: BoxStream<'static, Provider>,
    ) -> Result<FetchHandle, FetchError> {
        self.fetch_with(want, feed, Vec::new()).await
    }

    /// As [`Fetcher::fetch`]; the origins where the file is as well are asked for ranges of it as soon as its tree
    /// is here, by which what they send is checked.
    pub(crate) async fn fetch_with(
        &self,
        want: Want,
        feed: BoxStream<'static, Provider>,
        remotes: Vec<Arc<Remote>>,
    ) -> Result<FetchHandle, FetchError> {
        let handle = match self.joined(&want.hash) {
            Some(handle) => handle,
            None => self.begun(want).await?,
        };
        if !handle.job().is_running() {
            return Ok(handle);
        }
        let command = Command { job: handle.job(), feed, remotes };
        let sent = self.shared.commands.send(command).await;
        sent.map_err(|_| FetchError::Stopped { hash: want.hash })?;
        Ok(handle)
    }

    /// A handle to the fetch of `hash`, if one runs; its providers stay what they are.
    pub fn joined(&self, hash: &BlobHash) -> Option<FetchHandle> {
        let jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(hash).filter(|job| job.is_running()).map(|job| FetchHandle::new(job.clone()))
    }

    /// How many fetches run or linger.
    pub fn running(&self) -> usize {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Stops every fetch and waits until nothing of them runs. What is verified stays.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.wait().await;
    }

    async fn begun(&self, want: Want) -> Result<FetchHandle, FetchError> {
        let Want { hash, size } = want;
        let store = self.shared.store.clone();
        let made = tokio::task::spawn_blocking(move || {
            (store.blobs().hold(hash), store.blobs().partial(hash, size))
        });
        let (hold, partial) = made.await.map_err(|_| FetchError::Stopped { hash })?;
        let partial = partial.map_err(|e| FetchError::Disk { hash, source: Arc::new(e) })?;
        let (reader, wake) = (self.shared.next_reader.clone(), self.shared.wake.clone());
        let mut jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.stop.is_cancelled() {
            return Err(FetchError::Stopped { hash });
        }
        if let Some(job) = jobs.get(&hash).filter(|job| job.is_running()) {
            return Ok(FetchHandle::new(job.clone()));
        }
        let job = Arc::new(Job::new(want, partial, hold, reader, wake));
        // What is whole already never runs: in the table it would stay for good, and pin the blob.
        if job.is_running() {
            if jobs.len() >= MAX_JOBS {
                return Err(FetchError::TooMany { limit: MAX_JOBS });
            }
            jobs.insert(hash, job.clone());
        }
        Ok(FetchHandle::new(job))
    }
}
