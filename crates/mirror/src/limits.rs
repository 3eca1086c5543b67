//! Turns the caps with the clock, keeps the month's counts in the catalogue, and says what stops and what goes on.
//!
//! **Invariant:** a killed node loses at most [`KEEP_EVERY`] of its count, and one that stops loses nothing.
//! **Not here:** holding bytes back (`transfer`, `origin`), what the caps are (`limits`, the node's config).

use std::sync::Arc;
use std::time::Duration;

use hubless_limits::{Change, Each, Limits, LimitsReport, Month, MonthBytes, Override, Rate, Use, Volume};
use hubless_store::{Catalogue, Store, TrafficRecord};
use hubless_types::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::mirror::Inner;
use crate::util::blocking;
use crate::{Mirror, MirrorError};

/// How often hours, months and what was set for a while are looked at.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// How often the month's counts are written, if they changed.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// What is set on top of the config, until it is taken back or the node ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsRequest {
    /// Takes back first what was set before.
    pub reset: bool,
    /// Rates.
    pub rates: Each<Option<Rate>>,
    /// Bytes a month.
    pub months: Each<Option<Volume>>,
    /// For so many seconds, the rates alone; else until they are taken back.
    pub for_seconds: Option<u64>,
}

/// Keeps the caps up to date. Dropping it aborts.
#[must_use = "dropping the steward stops it"]
pub(crate) struct Steward {
    task: AbortOnDropHandle<()>,
}

/// What the steward works with; it needs nothing else of the mirror, and so keeps none of it alive.
struct Books {
    limits: Limits,
    catalogue: Catalogue,
    clock: Arc<dyn Clock>,
    kept: Option<MonthBytes>,
}

impl Steward {
    pub(crate) fn start(inner: &Arc<Inner>) -> Self {
        let books = Books {
            limits: inner.limits.clone(),
            catalogue: inner.store.catalogue().clone(),
            clock: Arc::clone(&inner.clock),
            kept: None,
        };
        resume(&books.limits, &books.catalogue, books.clock.now());
        let cancel: CancellationToken = inner.cancel.child_token();
        #[allow(clippy::disallowed_methods, reason = "owned by the handle beside it")]
        let task = tokio::spawn(books.run(cancel));
        Self { task: AbortOnDropHandle::new(task) }
    }

    /// Returns when it has ended, and the last counts are kept.
    pub(crate) async fn ended(self) {
        let _ = self.task.await;
    }
}

impl Books {
    async fn run(mut self, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(TURN_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            log(&self.limits.turn(self.clock.now()));
            if last.elapsed() >= KEEP_EVERY {
                last = Instant::now();
                self.keep().await;
            }
        }
        self.keep().await;
    }

    async fn keep(&mut self) {
        let now = self.limits.month_bytes();
        if now == self.kept {
            return;
        }
        match keep(&self.limits, &self.catalogue).await {
            Ok(()) => self.kept = now,
            Err(error) => tracing::warn!(%error, "the month's bytes cannot be written down"),
        }
    }
}

/// Goes on counting where the last run ended, unless that was done already.
fn resume(limits: &Limits, catalogue: &Catalogue, now: Timestamp) {
    let changes = match catalogue.traffic() {
        Ok(Some(record)) => limits.resume(month_bytes(&record), now),
        Ok(None) => limits.turn(now),
        Err(error) => {
            tracing::warn!(%error, "the month's bytes cannot be read; they are counted from 0");
            limits.turn(now)
        }
    };
    log(&changes);
}

/// Writes the month's counts down.
async fn keep(limits: &Limits, catalogue: &Catalogue) -> Result<(), MirrorError> {
    let Some(counted) = limits.month_bytes() else { return Ok(()) };
    let catalogue = catalogue.clone();
    blocking(move || Ok(catalogue.put_traffic(&record(counted))?)).await
}

const fn record(counted: MonthBytes) -> TrafficRecord {
    let MonthBytes { month: Month { year, month }, bytes: Each { up, down, origin } } = counted;
    TrafficRecord { year, month, up, down, origin }
}

const fn month_bytes(record: &TrafficRecord) -> MonthBytes {
    let TrafficRecord { year, month, up, down, origin } = *record;
    MonthBytes { month: Month { year, month }, bytes: Each { up, down, origin } }
}

fn log(changes: &[Change]) {
    for change in changes {
        match change {
            Change::Rate(direction, rate) => tracing::info!(%direction, %rate, "another rate holds"),
            Change::Spent(spent) => tracing::warn!(hint = spent.hint(), "{spent}"),
            Change::Anew(direction) => tracing::info!(%direction, "this month has bytes left again"),
            Change::Back(month) => {
                tracing::warn!(%month, "the clock went back; what was counted by it counts for this month");
            }
        }
    }
}

impl Mirror {
    /// Has `limits` hold, and go on counting where the last run ended: for whoever moves bytes before [`Mirror::start`],
    /// which does the same. Blocks a little.
    pub fn resume_limits(limits: &Limits, store: &Store, clock: &dyn Clock) {
        resume(limits, store.catalogue(), clock.now());
    }

    /// The caps, what is used of them, and what was set on top of the config.
    pub fn limits(&self) -> LimitsReport {
        self.inner.limits.report(self.inner.clock.now())
    }

    /// Sets caps on top of the config; they hold at once.
    pub fn set_limits(&self, request: &LimitsRequest) -> LimitsReport {
        let (limits, now) = (&self.inner.limits, self.inner.clock.now());
        if request.reset {
            log(&limits.reset(now));
        }
        let until = request.for_seconds.map(|seconds| now.plus(seconds));
        log(&limits.set(Override { rates: request.rates, months: request.months, until }, now));
        limits.report(now)
    }

    /// Writes the month's counts down now: for whoever goes on moving bytes after [`Mirror::shutdown`].
    ///
    /// # Errors
    /// [`MirrorError::Store`] if the catalogue cannot be written.
    pub async fn keep_counts(&self) -> Result<(), MirrorError> {
        keep(&self.inner.limits, self.inner.store.catalogue()).await
    }
}

impl Inner {
    /// Fails where what is not here cannot be fetched any more this month.
    pub(crate) fn within_month(&self, what: Use) -> Result<(), MirrorError> {
        match self.limits.down().spent(what) {
            Some(spent) => Err(spent.into()),
            None => Ok(()),
        }
    }
}
