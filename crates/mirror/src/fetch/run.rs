//! What the driver keeps of one fetch that runs.
//!
//! **Not here:** what it is asked to do next ([`super::driver`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hubless_plan::{Source, TICK};
use hubless_types::NodeId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::FetchProgress;
use super::handle::Job;
use crate::upstream::Remote;

/// How much of the shown rate is what the last tick saw: an average over about two seconds.
const RATE_FADE_TICKS: u64 = 20;

/// A fetch that runs.
pub(super) struct Run {
    pub(super) job: Arc<Job>,
    pub(super) providers: BTreeSet<NodeId>,
    pub(super) feeds: usize,
    /// Ends the feeds.
    pub(super) end: CancellationToken,
    pub(super) began: Instant,
    pub(super) from: BTreeMap<Source, u64>,
    /// The origins that have it, each once.
    pub(super) remotes: BTreeMap<Source, Arc<Remote>>,
    pub(super) readers: BTreeSet<u64>,
    pub(super) unused_since: Option<Instant>,
    /// Whether the plan said that nobody has the rest.
    pub(super) starved: bool,
    pub(super) shown_done: u64,
    pub(super) rate: u64,
}

impl Run {
    pub(super) fn new(job: Arc<Job>) -> Self {
        let shown_done = job.progress.borrow().done;
        Self {
            job,
            providers: BTreeSet::new(),
            feeds: 0,
            end: CancellationToken::new(),
            began: Instant::now(),
            from: BTreeMap::new(),
            remotes: BTreeMap::new(),
            readers: BTreeSet::new(),
            unused_since: None,
            starved: false,
            shown_done,
            rate: 0,
        }
    }

    /// Publishes how far it is.
    pub(super) fn show(&mut self) {
        let total = self.job.want.size;
        let done = self.job.partial.have().bytes(total);
        let seen = done.saturating_sub(self.shown_done) * 1000 / TICK.as_millis() as u64;
        self.shown_done = done;
        self.rate = (self.rate * (RATE_FADE_TICKS - 1) + seen) / RATE_FADE_TICKS;
        let from = self.from.iter().map(|(source, bytes)| (*source, *bytes)).collect();
        let progress = FetchProgress { done, total, from, rate: self.rate };
        self.job.progress.send_if_modified(|shown| {
            let changed = *shown != progress;
            *shown = progress;
            changed
        });
    }
}
