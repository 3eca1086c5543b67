//! Fetches a file of which only git's or LFS' digest is known from one origin: into a draft, by several ranges at once.
//!
//! Ranges are given out from the front on, so that hashing, which follows the front, keeps up.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hubless_origin::{OriginError, OriginErrorKind};
use hubless_store::{Draft, Finished};
use hubless_types::{ByteRange, GROUP_BYTES, GroupSet, Link, LinkTrust};

use super::fill::FillError;
use super::remote::{Remote, may_pass};
use crate::MirrorError;
use crate::mirror::Inner;
use crate::obtain::DraftGauge;
use crate::util::{blocking, locked};

/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;
/// A file of at most this many bytes is one request.
const ONE_REQUEST_BYTES: u64 = 16 * MIB;
/// Bytes that are asked for at a time of a larger one.
const RANGE_BYTES: u64 = 32 * MIB;
/// Failures in a row, without a byte between them, after which an origin is given up for a file.
const MAX_FAILURES: u32 = 4;
/// First pause after a failure; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Groups after which an origin that fails now and then is taken to be well again (4 MiB): one that breaks every
/// connection after some kilobytes is not asked thirty times a second.
const WELL_AGAIN: u64 = 4 * MIB / GROUP_BYTES;
/// Longest time that one file waits altogether for an origin that asks for patience: a little more than the
/// five minutes over which the Hub counts requests.
const BUSY_PATIENCE: Duration = Duration::from_secs(330);
/// Pause where an origin asks for patience and does not say how much.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

impl Inner {
    /// The draft of what `remote` has; goes on with what an earlier one left, unless that is what the readers of another
    /// repository alone may have.
    pub(super) async fn draft_of(&self, remote: &Remote) -> Result<Draft, MirrorError> {
        let (store, errand) = (self.store.clone(), remote.errand());
        let (repo, digest, size) = (errand.repo.clone(), errand.entry.digest(), errand.entry.size);
        blocking(move || {
            if store.catalogue().draft_given(&digest)?.is_some_and(|given| given != repo) {
                store.blobs().draft(digest, size)?.discard()?;
            }
            Ok(store.blobs().draft(digest, size)?)
        })
        .await
    }

    /// Ends a draft that is whole: a proven link, or `None` if it was another file, of which nothing is kept.
    pub(super) async fn finish_draft(
        &self,
        draft: &Draft,
        remote: &Remote,
    ) -> Result<Option<Link>, MirrorError> {
        let (finishing, digest) = (draft.clone(), draft.digest());
        match blocking(move || Ok(finishing.finish()?)).await? {
            Finished::Is(file) => {
                Ok(Some(Link { digest, hash: file.hash, size: file.size, trust: LinkTrust::Proven }))
            }
            Finished::IsNot { found } => {
                let found = found.map_or_else(|| "a SHA-1 collision".to_owned(), |d| d.to_string());
                self.lies.tell(remote, &format!("it has the digest {found}"));
                Ok(None)
            }
        }
    }
}

/// The first groups of a file that nobody was asked for.
pub(crate) fn next_range(size: u64, given: &GroupSet) -> Option<Range<u64>> {
    let most = if size <= ONE_REQUEST_BYTES { ONE_REQUEST_BYTES } else { RANGE_BYTES } / GROUP_BYTES;
    let missing = given.missing(0..size.div_ceil(GROUP_BYTES));
    let first = missing.runs().first()?;
    Some(first.start..first.end.min(first.start + most))
}

/// Gets `groups` here, and tries again where that may help.
pub(crate) async fn fill_range(
    draft: &Draft,
    remote: &Remote,
    groups: Range<u64>,
    gauge: &DraftGauge,
    patience: &Mutex<Patience>,
) -> Result<(), FillError> {
    let tick = gauge.tick(remote.source());
    loop {
        let missing = draft.have().missing(groups.clone());
        let Some(first) = missing.runs().first() else { return Ok(()) };
        let range = ByteRange::of_groups(first.clone(), draft.size());
        let Err(error) = remote.draft(draft, range, Arc::clone(&tick)).await else { continue };
        let FillError::Origin(error) = error else { return Err(error) };
        gauge.failed(&error);
        let pause = locked(patience).after(error, draft.have().len())?;
        tokio::time::sleep(pause).await;
    }
}

/// Whether an origin is borne with: not while another has not been asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bearing {
    /// At its first failure, or word of being busy, the next one is asked.
    Hurried,
    /// It is waited for, and tried again.
    Patient,
}

/// How long to bear with an origin.
#[derive(Debug)]
pub(crate) struct Patience {
    bearing: Bearing,
    /// Failures in a row, without a group between them.
    failures: u32,
    /// Failures since it was last well.
    troubles: u32,
    /// Groups that were here when it was last well.
    well_at: u64,
    waited: Duration,
    /// Groups that were here at the last failure.
    had: u64,
}

impl Patience {
    pub(crate) fn new(bearing: Bearing) -> Self {
        Self { bearing, failures: 0, troubles: 0, well_at: 0, waited: Duration::ZERO, had: 0 }
    }

    /// How long to wait after `error` before the next try.
    ///
    /// # Errors
    /// `error` itself where another try makes no sense.
    fn after(&mut self, error: OriginError, have: u64) -> Result<Duration, FillError> {
        if !may_pass(&error) || self.bearing == Bearing::Hurried {
            return Err(error.into());
        }
        if error.kind() == OriginErrorKind::Busy {
            let pause = error.retry_after().unwrap_or(BUSY_PAUSE);
            self.waited += pause;
            return if self.waited > BUSY_PATIENCE { Err(error.into()) } else { Ok(pause) };
        }
        if have > self.had {
            self.failures = 0;
        }
        if have >= self.well_at + WELL_AGAIN {
            (self.troubles, self.well_at) = (0, have);
        }
        self.had = have;
        self.failures += 1;
        self.troubles = self.troubles.saturating_add(1);
        if self.failures > MAX_FAILURES {
            return Err(error.into());
        }
        // Full jitter: several streams that failed together do not come back together.
        Ok(self.longest_pause().mul_f64(rand::random::<f64>()))
    }

    fn longest_pause(&self) -> Duration {
        let doubled = 2_u32.saturating_pow(self.troubles.saturating_sub(1));
        FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stalled() -> OriginError {
        OriginError::Stalled { origin: "o".into(), after: Duration::from_secs(1) }
    }

    #[test]
    fn an_origin_that_gets_on_is_borne_with_and_one_that_does_not_is_given_up() {
        let mut patience = Patience::new(Bearing::Patient);
        for have in 1..20 {
            assert!(patience.after(stalled(), have).is_ok());
        }
        for _ in 1..MAX_FAILURES {
            assert!(patience.after(stalled(), 19).is_ok());
        }
        assert!(patience.after(stalled(), 19).is_err());
    }

    #[test]
    fn an_origin_that_breaks_off_again_and_again_is_asked_ever_less_often() {
        let mut patience = Patience::new(Bearing::Patient);
        for have in 1..=8 {
            patience.after(stalled(), have * 6).unwrap();
        }
        assert_eq!(patience.longest_pause(), LONGEST_PAUSE);
        patience.after(stalled(), 48 + WELL_AGAIN).unwrap();
        assert_eq!(patience.longest_pause(), FIRST_PAUSE);
    }

    #[test]
    fn an_origin_that_asks_for_patience_gets_some() {
        let limited =
            |secs| OriginError::Limited { origin: "o".into(), status: 429, wait: Duration::from_secs(secs) };
        let mut patience = Patience::new(Bearing::Patient);
        assert_eq!(patience.after(limited(172), 0).unwrap(), Duration::from_secs(172));
        assert!(patience.after(limited(172), 0).is_err());
        let gone = OriginError::Refused {
            origin: "o".into(),
            status: 404,
            kind: OriginErrorKind::EntryNotFound,
            said: String::new(),
        };
        assert!(Patience::new(Bearing::Patient).after(gone, 0).is_err());
    }

    #[test]
    fn ranges_are_given_out_from_the_front_on() {
        let size = 100 * MIB + 5;
        let mut given = GroupSet::new();
        given.insert(0..10);
        let mut at = 10;
        while let Some(groups) = next_range(size, &given) {
            assert_eq!(groups.start, at);
            assert!((groups.end - groups.start) * GROUP_BYTES <= RANGE_BYTES);
            at = groups.end;
            given.insert(groups);
        }
        assert_eq!(at, size.div_ceil(GROUP_BYTES));
        assert_eq!(next_range(ONE_REQUEST_BYTES, &GroupSet::new()), Some(0..ONE_REQUEST_BYTES / GROUP_BYTES));
        assert_eq!(next_range(0, &GroupSet::new()), None);
    }
}
