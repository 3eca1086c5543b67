//! Counts how far a pull is, and from whom its bytes came.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use hubless_types::{FileDigest, FileEntry};
use tokio::time::Instant;

use crate::fetch::FetchProgress;
use crate::obtain::Gauge;
use crate::util::locked;
use crate::{Progress, ProgressSink};
use hubless_plan::Source;

/// How often progress is told.
pub(crate) const TELL_EVERY: Duration = Duration::from_millis(250);
/// Over how long the rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// After so long without a byte a person is told what is waited for; then after twice as long, and so on.
const QUIET: Duration = Duration::from_secs(5);
/// What was held already goes by this name among the sources.
pub(crate) const HERE: &str = "here";
/// What came from any origin goes by this name.
const ORIGIN: &str = "origin";

/// How far a pull is.
pub(crate) struct Meter {
    sink: ProgressSink,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: u64,
    here: u64,
    sources: BTreeMap<Source, u64>,
    live: HashMap<FileDigest, Gauge>,
    /// Bytes of files that came in attempts which failed: the next attempt finds them here, and they are counted already.
    carried: HashMap<FileDigest, u64>,
    samples: VecDeque<(Instant, u64)>,
    /// Whether it was told that others fetch the same.
    told_of_mates: bool,
    quiet: Quiet,
}

/// How long nothing has come.
#[derive(Debug, Default)]
struct Quiet {
    done: u64,
    since: Option<Instant>,
    told: Duration,
}

impl Quiet {
    /// Notes how far it is; how long it has been quiet, where that is to be told.
    fn look(&mut self, done: u64, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if done != self.done {
            *self = Self { done, since: Some(now), told: Duration::ZERO };
            return None;
        }
        let quiet = now.duration_since(since);
        if quiet < QUIET.max(self.told * 2) {
            return None;
        }
        self.told = quiet;
        Some(quiet)
    }
}

impl Meter {
    pub(crate) fn new(sink: ProgressSink) -> Self {
        Self { sink, state: Mutex::default() }
    }

    pub(crate) fn tell(&self, progress: Progress) {
        // A reader that is slow, or gone, misses some.
        let _ = self.sink.try_send(progress);
    }

    /// A file is being fetched.
    pub(crate) fn begins(&self, digest: FileDigest, gauge: Gauge) {
        locked(&self.state).live.insert(digest, gauge);
    }

    /// Bytes came, in whole files.
    pub(crate) fn came(&self, gauge: &Gauge) {
        let mut state = locked(&self.state);
        for (source, bytes) in gauge.read().from {
            *state.sources.entry(source).or_default() += bytes;
        }
    }

    /// The fetch of a file ended: all `whole` bytes of it are here, or it failed.
    pub(crate) fn ended(&self, digest: &FileDigest, whole: Option<u64>) {
        let gauge = locked(&self.state).live.remove(digest);
        if let Some(gauge) = gauge {
            self.came(&gauge);
            let (mut state, sent) = (locked(&self.state), sent(&gauge.read()));
            match whole {
                // What nobody sent in this pull was kept when an earlier one was broken off.
                Some(whole) => {
                    let carried = state.carried.remove(digest).unwrap_or_default();
                    state.here += whole.saturating_sub(sent + carried);
                }
                None => *state.carried.entry(*digest).or_default() += sent,
            }
        }
    }

    /// A file is done; it was held before if `here`.
    pub(crate) fn done(&self, entry: &FileEntry, here: bool) {
        let mut state = locked(&self.state);
        state.done += entry.size;
        if here {
            state.here += entry.size;
        }
        drop(state);
        self.tell(Progress::File { path: entry.path.clone(), bytes: entry.size });
    }

    /// Bytes by source so far: what was here first, then what came from origins, then nodes by
    /// their short ids.
    pub(crate) fn from(&self) -> Vec<(String, u64)> {
        let state = locked(&self.state);
        let (mut sources, mut kept) = (state.sources.clone(), state.here);
        for (digest, gauge) in &state.live {
            let progress = gauge.read();
            let carried = state.carried.get(digest).copied().unwrap_or_default();
            kept += progress.done.saturating_sub(sent(&progress) + carried);
            for (source, bytes) in progress.from {
                *sources.entry(source).or_default() += bytes;
            }
        }
        let origin: u64 = sources.iter().filter(|(s, _)| s.is_origin()).map(|(_, bytes)| bytes).sum();
        let origin = (origin > 0).then(|| (ORIGIN.to_owned(), origin));
        let nodes = sources.into_iter().filter_map(|(s, bytes)| Some((s.node()?.short(), bytes)));
        let here = (kept > 0).then(|| (HERE.to_owned(), kept));
        here.into_iter().chain(origin).chain(nodes).collect()
    }

    /// Tells how far it is now; for how long nothing has come, where a person should know.
    pub(crate) fn tell_bytes(&self) -> Option<Duration> {
        let from = self.from();
        let mut state = locked(&self.state);
        let live: u64 = state.live.values().map(|g| g.read().done).sum();
        let came = from.iter().filter(|(name, _)| name != HERE).map(|(_, bytes)| bytes).sum();
        let rate = state.rate(Instant::now(), came);
        let done = state.done + live;
        let mates = state.live.values().map(Gauge::mates).max().unwrap_or(0);
        let tell_of_mates = mates > 0 && !state.told_of_mates;
        state.told_of_mates |= tell_of_mates;
        let quiet = state.quiet.look(done, Instant::now());
        drop(state);
        if tell_of_mates {
            let text = format!(
                "{mates} other nodes fetch the same now: each waits for parts that others get from the origin"
            );
            self.tell(Progress::Note { text });
        }
        self.tell(Progress::Bytes { done, from, rate });
        quiet
    }
}

/// Bytes that came of a file, from everyone together.
fn sent(progress: &FetchProgress) -> u64 {
    progress.from.iter().map(|(_, bytes)| bytes).sum()
}

impl State {
    fn rate(&mut self, now: Instant, came: u64) -> u64 {
        self.samples.push_back((now, came));
        while self.samples.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_WINDOW) {
            self.samples.pop_front();
        }
        let Some((since, before)) = self.samples.front() else { return 0 };
        let millis = now.duration_since(*since).as_millis() as u64;
        (came.saturating_sub(*before) * 1000).checked_div(millis).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_told_now_and_then() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        let told: Vec<u64> =
            (0..60).filter(|second| quiet.look(7, start + Duration::from_secs(*second)).is_some()).collect();
        assert_eq!(told, [5, 10, 20, 40]);
        let later = start + Duration::from_secs(60);
        assert_eq!(quiet.look(8, later), None, "a byte came");
        assert_eq!(quiet.look(8, later + QUIET), Some(QUIET));
    }
}
