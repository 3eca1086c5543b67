//! Origins as sources of manifests and of bytes.
//!
//! What an origin sends is believed as little as what a peer sends: a manifest has to hash up to its commit, bytes
//! under a known root go through the root's tree, and bytes under none into a draft, of which nothing is seen before
//! its end. Peers come first where they are as good: an origin is asked a moment after they were.
//!
//! **Invariant:** a caller's token goes to an origin for what that caller asked for, and only where the origin wants
//! one; what came by a token, or is not open to everyone, is never shared.
//! **Not here:** what a name means (`names`), HTTP and git (`origin`), which range to ask of whom (`plan`).

mod access;
mod ask;
mod confirm;
mod draft;
mod fill;
mod manifest;
mod race;
mod remote;
mod report;
mod small;

use std::sync::Arc;
use std::time::Duration;

use hubless_types::{CommitId, FileEntry, RepoId};
use tokio::sync::Semaphore;

use crate::mirror::Inner;
use crate::{Caller, MirrorError};

pub(crate) use ask::{Got, ask};
pub(crate) use draft::{Bearing, Patience, fill_range, next_range};
pub(crate) use fill::FillError;
pub(crate) use manifest::Upstream;
pub(crate) use race::either;
pub(crate) use remote::{Errand, Remote};
pub(crate) use report::Lies;

/// Bodies that are taken from all origins at the same time.
const MAX_BODIES: usize = 24;

/// How much earlier peers are asked than an origin, where any are connected.
pub(crate) const HEAD_START: Duration = Duration::from_millis(250);

/// Room for bodies from origins.
pub(crate) fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_BODIES))
}

impl Inner {
    /// Whether there is any origin.
    pub(crate) fn has_origins(&self) -> bool {
        !self.origins.is_empty()
    }

    /// The places of one file upstream, in the configured order.
    pub(crate) fn remotes(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
    ) -> Result<Vec<Arc<Remote>>, MirrorError> {
        if !self.has_origins() {
            return Ok(Vec::new());
        }
        let errand = Arc::new(Errand {
            token: caller.token.clone(),
            home: self.home(repo)?,
            closed: !self.access(repo)?.is_open(),
            closing: access::Closing::of(self),
            ..Errand::new(repo, commit, entry, self.origin_slots.clone())
        });
        let place = |(i, origin): (usize, &Arc<_>)| {
            Some(Arc::new(Remote::new(u8::try_from(i).ok()?, Arc::clone(origin), errand.clone())))
        };
        Ok(self.origins.iter().enumerate().filter_map(place).collect())
    }

    /// How long an origin is not asked yet, so that peers can answer first.
    pub(crate) fn head_start(&self) -> Duration {
        let peers = self.net.as_ref().is_some_and(|net| !net.discovery.peers().is_empty());
        if peers { HEAD_START } else { Duration::ZERO }
    }
}
