//! One origin's switches, budgets and counters, shared by all who ask it; those of each host that it leads to apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hubless_limits::{Limits, OriginDebt, Use};
use tokio::time::Instant;

use super::hosts::Hosts;
use super::{Host, Lane, roll};
use crate::{Breaker, OriginError, OriginStatus};

/// Whoever gives up a request after this long was let down: without that, an origin that never answers would never
/// be left alone by callers who wait a little less than it may take.
const LET_DOWN_AFTER: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    name: String,
    limits: Limits,
    inner: Mutex<Inner>,
    requests: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    hosts: Hosts,
    last_error: Option<String>,
}

impl Gauge {
    /// Of the origin that is called `name`.
    pub(crate) fn new(name: String, limits: Limits) -> Self {
        Self { name, limits, ..Self::default() }
    }

    /// The origin's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that is done under the lock leaves it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may go out to `host`.
    ///
    /// # Errors
    /// [`OriginError::Resting`] or [`OriginError::Limited`].
    pub(crate) fn admit(&self, host: Host, lane: Lane) -> Result<Permit<'_>, OriginError> {
        let now = Instant::now();
        let mut inner = self.lock();
        let origin = || self.shown(&host);
        let pace = inner.hosts.of(&host);
        pace.budget.admit(lane, now).map_err(|wait| OriginError::Limited {
            origin: origin(),
            status: 429,
            wait,
        })?;
        let resting = |wait| OriginError::Resting { origin: origin(), why: pace.trouble.clone(), wait };
        let probe = pace.switch.admit(now).map_err(resting)?;
        Ok(Permit { gauge: self, host, probe, open: true, since: now })
    }

    /// One request goes out; redirects are requests too.
    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of a body came; the caps have them from `debt`.
    pub(crate) fn count_bytes(&self, bytes: usize, debt: &mut OriginDebt) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.limits.owe_origin(bytes, debt);
    }

    /// Waits until the caps allow the next bytes. Cancel safe.
    pub(crate) async fn settle(&self, debt: &mut OriginDebt) {
        self.limits.settle(debt).await;
    }

    /// Fails where the month's bytes are used up.
    ///
    /// # Errors
    /// [`OriginError::Spent`].
    pub(crate) fn within_month(&self, what: Use) -> Result<(), OriginError> {
        match self.limits.origin_spent(what) {
            Some(spent) => Err(OriginError::Spent { origin: self.name.clone(), spent }),
            None => Ok(()),
        }
    }

    /// What an answer of the origin itself says of the budget.
    pub(crate) fn learn(&self, lane: Lane, header: &str) {
        self.lock().hosts.own.budget.learn(lane, header, Instant::now());
    }

    /// A refusal of `host` that asks for patience: the error that says for how long.
    pub(crate) fn refused(
        &self,
        host: &Host,
        lane: Lane,
        status: u16,
        rate_limit: Option<&str>,
        retry_after: Option<&str>,
    ) -> OriginError {
        let mut inner = self.lock();
        let wait = inner.hosts.of(host).budget.refused(lane, rate_limit, retry_after, Instant::now());
        OriginError::Limited { origin: self.shown(host), status, wait }
    }

    /// How people are told of `host`.
    fn shown(&self, host: &Host) -> String {
        match host {
            Host::Own => self.name.clone(),
            Host::Other(name) => format!("{name} (for {})", self.name),
        }
    }

    /// Notes an error: where it is the fault of `host`, its switch hears of it.
    pub(crate) fn note(&self, host: &Host, error: &OriginError) {
        if matches!(error, OriginError::Resting { .. }) {
            return;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.last_error = Some(error.to_string());
        if let Some(trouble) = outage(error) {
            let pace = inner.hosts.of(host);
            pace.trouble = trouble;
            pace.switch.failed(Instant::now(), roll());
        }
    }

    /// How the origin itself is doing; of the hosts that it leads to, the last error tells.
    pub(crate) fn status(&self) -> OriginStatus {
        let now = Instant::now();
        let inner = self.lock();
        let own = &inner.hosts.own;
        let (breaker, rest) = own.switch.seen(now);
        let (budget, wait) = own.budget.seen(now);
        OriginStatus {
            name: self.name.clone(),
            breaker,
            trouble: (breaker != Breaker::Closed).then(|| own.trouble.clone()),
            wait: rest.max(wait),
            budget,
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            last_error: inner.last_error.clone(),
        }
    }
}

/// In a few words, how an error tells that the origin is down; `None` if it does not want to, or cannot. What it said
/// itself may be about one repository, and these words are told to whoever asks for another.
fn outage(error: &OriginError) -> Option<String> {
    match error {
        OriginError::Unreachable { .. } => Some("it could not be reached".to_owned()),
        OriginError::Stalled { .. } => Some("it sent nothing".to_owned()),
        OriginError::Refused { status: status @ 500.., .. } => Some(format!("it answered {status}")),
        _ => None,
    }
}

/// Leave for one request. Dropped without a word and soon, it leaves things as they were.
#[must_use]
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    gauge: &'a Gauge,
    host: Host,
    probe: bool,
    open: bool,
    since: Instant,
}

impl Permit<'_> {
    /// Who is asked.
    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// The host answered, if only to refuse.
    pub(crate) fn answered(mut self) -> Host {
        self.open = false;
        self.gauge.lock().hosts.of(&self.host).switch.answered();
        std::mem::replace(&mut self.host, Host::Own)
    }

    /// The request failed. A refusal is an answer all the same, and ends a row of failures; that the host asks for
    /// patience does not.
    pub(crate) fn failed(mut self, error: &OriginError) {
        self.open = false;
        self.gauge.note(&self.host, error);
        let answered = self.probe || matches!(error, OriginError::Refused { .. });
        if answered && outage(error).is_none() {
            self.gauge.lock().hosts.of(&self.host).switch.answered();
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let after = self.since.elapsed();
        if after >= LET_DOWN_AFTER {
            let origin = self.gauge.name.clone();
            self.gauge.note(&self.host, &OriginError::Stalled { origin, after });
        } else if self.probe {
            self.gauge.lock().hosts.of(&self.host).switch.given_up(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OriginErrorKind;
    use crate::pace::LaneKind;

    const LANE: Lane = Lane { kind: LaneKind::Api, payer: None };

    fn broken() -> OriginError {
        OriginError::Unreachable { origin: "o".into(), why: "refused".into() }
    }

    #[test]
    fn an_origin_that_fails_is_left_alone() {
        let gauge = Gauge::new("o".into(), Limits::default());
        while let Ok(permit) = gauge.admit(Host::Own, LANE) {
            permit.failed(&broken());
        }
        let status = gauge.status();
        assert_eq!((status.breaker, status.failures), (Breaker::Open, 5));
        assert_eq!(status.last_error.as_deref(), Some("o cannot be reached: refused"));
        let resting = gauge.admit(Host::Own, LANE).unwrap_err();
        assert!(matches!(resting, OriginError::Resting { .. }));
        assert!(resting.to_string().starts_with("o failed too often (it could not be reached)"), "{resting}");
        assert_eq!(status.trouble.as_deref(), Some("it could not be reached"));
    }

    #[test]
    fn a_request_that_is_given_up_lets_the_next_one_try() {
        let gauge = Gauge::new("o".into(), Limits::default());
        drop(Permit { gauge: &gauge, host: Host::Own, probe: true, open: true, since: Instant::now() });
        assert_eq!(gauge.admit(Host::Own, LANE).map(|permit| permit.probe).ok(), Some(false));
    }

    #[test]
    fn an_origin_that_nobody_can_wait_for_is_left_alone() {
        let gauge = Gauge::new("o".into(), Limits::default());
        let Some(since) = Instant::now().checked_sub(LET_DOWN_AFTER) else { return };
        for _ in 0..5 {
            drop(Permit { gauge: &gauge, host: Host::Own, probe: false, open: true, since });
        }
        assert!(matches!(gauge.admit(Host::Own, LANE), Err(OriginError::Resting { .. })));
        assert_eq!(gauge.status().last_error.as_deref(), Some("o sent nothing for 2 s"));
    }

    #[test]
    fn a_refusal_is_no_reason_to_leave_it_alone() {
        let gauge = Gauge::new("o".into(), Limits::default());
        for _ in 0..20 {
            let error = OriginError::Length { origin: "o".into(), got: 1, expected: 2 };
            gauge.admit(Host::Own, LANE).unwrap().failed(&error);
        }
        assert_eq!(gauge.status().breaker, Breaker::Closed);
    }

    /// Failures with answers between them are no row, whatever the answers say.
    #[test]
    fn a_refusal_ends_a_row_of_failures() {
        let gauge = Gauge::new("o".into(), Limits::default());
        let ends = |status, kind| {
            let said = String::new();
            let error = OriginError::Refused { origin: "o".into(), status, kind, said };
            gauge.admit(Host::Own, LANE).unwrap().failed(&error);
        };
        for _ in 0..4 {
            (0..4).for_each(|_| ends(503, OriginErrorKind::Unavailable));
            ends(404, OriginErrorKind::EntryNotFound);
        }
        assert_eq!(gauge.status().breaker, Breaker::Closed);
        (0..5).for_each(|_| ends(503, OriginErrorKind::Unavailable));
        assert_eq!(gauge.status().breaker, Breaker::Open);
    }

    /// A content network that is down leaves the origin's own answers, and other hosts, as they were.
    #[test]
    fn a_host_that_fails_is_left_alone_by_itself() {
        let gauge = Gauge::new("o".into(), Limits::default());
        let (cdn, other) = (Host::Other("https://cdn".into()), Host::Other("https://other".into()));
        while let Ok(permit) = gauge.admit(cdn.clone(), LANE) {
            permit.failed(&broken());
        }
        let resting = gauge.admit(cdn.clone(), LANE).unwrap_err();
        assert!(resting.to_string().starts_with("https://cdn (for o) failed too often"), "{resting}");
        for free in [Host::Own, other] {
            gauge.admit(free, LANE).unwrap().answered();
        }
        assert!(gauge.admit(cdn, LANE).is_err(), "others say nothing for it");
        assert_eq!(gauge.status().breaker, Breaker::Closed);
    }
}
