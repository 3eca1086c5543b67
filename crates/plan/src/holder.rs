//! What a plan knows of one holder: what it has, how fast it sends, whether it can be relied on.

use std::collections::BTreeMap;
use std::time::Duration;

use std::sync::Arc;

use hubless_types::{BlobHash, GROUP_BYTES, GroupSet};

use super::bits::Bits;
use super::file::Mark;
use super::limits::{
    BASE_OUTSTANDING, BEGIN_PER_RTT, CROWD_SPAN, FADE, FAMILIAR_BEGINS, FAR, FAR_BEGINS, FAR_SAMPLE,
    FAST_RATE, FIRST_CONTACT, FIRST_REST, KEPT_STRIKES, KEPT_STRIKES_AWAY, MAX_OUTSTANDING, MAX_REST,
    MAX_SEGMENT, MAX_SHORT_REST, MAY_BEGIN, MIN_SEGMENT, ORIGIN_SEGMENT, PIECE_GROUPS, SAMPLE, SHORT_REST,
    SLOW_RATE, SLOW_SEGMENT, STALL_AFTER, STREAM_PER_RTT, URGENT_EXTRA,
};
use super::words::Failure;

/// Where a holder goes on without looking for rare parts anew.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    pub(super) file: BlobHash,
    /// The next group.
    pub(super) next: u64,
    /// Where the stretch ends at the latest.
    pub(super) end: u64,
    /// How rare the stretch was when it was chosen.
    pub(super) rarity: usize,
}

/// What a holder has of one file, by its own word.
#[derive(Debug, Default)]
pub(super) struct Has {
    pub(super) groups: Arc<GroupSet>,
    /// The pieces of which it has anything.
    pub(super) pieces: Bits,
    /// The pieces of which it has everything.
    pub(super) full: Bits,
    /// The groups that it gave to others.
    pub(super) gave: Arc<GroupSet>,
    /// The pieces that it gave to others wholly.
    pub(super) given: Bits,
    pub(super) whole: bool,
}

#[derive(Debug)]
pub(super) struct Holder {
    pub(super) lan: bool,
    origin: bool,
    pub(super) has: BTreeMap<BlobHash, Has>,
    /// Files that it has in part: it is fetching them, too.
    pub(super) fetching: usize,
    /// Runs of groups that are kept of what it says.
    pub(super) runs: usize,
    /// Whether it said that it gave what this node has not got.
    pub(super) gives_others: bool,
    /// Whether it was lost or went silent, and has not been heard of since.
    pub(super) away: bool,
    pub(super) cursor: Option<Cursor>,
    /// Most requests that it ever has in flight.
    most: usize,
    /// Shortest ordinary segment, in groups.
    least_segment: u64,
    /// Requests in flight.
    pub(super) outstanding: usize,
    /// Bytes of them that have not come yet.
    pub(super) queued: u64,
    /// The plan's count of changes when nothing was found to ask of it.
    pub(super) idle_at: Option<u64>,
    /// Whether there was something then that is too short to be asked for beside others.
    pub(super) has_short: bool,
    /// When it was heard of, for what is fetched now.
    found: Option<Duration>,
    /// Whether it was there when something else was fetched: it has not to be dialled.
    familiar: bool,
    /// Whether it was asked for anything of that.
    pub(super) asked: bool,
    /// When it last sent something, or was first asked after a pause.
    heard: Duration,
    ever_sent: bool,
    meter: Meter,
    round_trip: Option<Duration>,
    /// Failures since it last sent something.
    strikes: u32,
    rest: Option<Rest>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Duration,
    why: Failure,
}

impl Has {
    /// Whether it has some of the file and lacks some.
    pub(super) const fn is_part(&self) -> bool {
        !self.whole && !self.pieces.is_empty()
    }
}

impl Holder {
    pub(super) fn new(now: Duration, lan: bool) -> Self {
        Self {
            lan,
            origin: false,
            has: BTreeMap::new(),
            fetching: 0,
            runs: 0,
            gives_others: false,
            away: false,
            cursor: None,
            most: MAX_OUTSTANDING,
            least_segment: MIN_SEGMENT,
            outstanding: 0,
            queued: 0,
            idle_at: None,
            has_short: false,
            found: Some(now),
            familiar: false,
            asked: false,
            heard: now,
            ever_sent: false,
            meter: Meter::default(),
            round_trip: None,
            strikes: 0,
            rest: None,
        }
    }

    /// An upstream, to which a request costs more than to a peer: it gets few and long ones.
    pub(super) fn origin(now: Duration, streams: usize) -> Self {
        let most = streams.clamp(1, MAX_OUTSTANDING);
        Self { origin: true, most, least_segment: ORIGIN_SEGMENT, ..Self::new(now, false) }
    }

    /// Whether it is a peer whose lines begin slowly.
    fn is_far(&self) -> bool {
        !self.origin && self.round_trip.is_some_and(|round_trip| round_trip >= FAR)
    }

    /// Whether it said of anything that it gave it to others.
    pub(super) fn says_what_it_gave(&self) -> bool {
        self.has.values().any(|has| !has.gave.is_empty())
    }

    /// In which ways it has what it has: what it cannot send now is left to it by nobody.
    pub(super) const fn marks(&self) -> &'static [Mark] {
        match (self.away, self.lan) {
            (true, _) => &[Mark::Away],
            (false, true) => &[Mark::Here, Mark::Lan],
            (false, false) => &[Mark::Here],
        }
    }

    /// Whether it may be asked.
    pub(super) fn usable(&self, now: Duration) -> bool {
        self.rest.is_none_or(|rest| rest.until <= now)
    }

    /// Whether it keeps its place while it rests. One that was busy for a moment, or whose connection broke, would else give
    /// way to whoever is named meanwhile.
    pub(super) fn keeps_place(&self) -> bool {
        let polite = self.rest.is_some_and(|rest| rest.why.is_polite());
        self.ever_sent && self.strikes <= if polite { KEPT_STRIKES } else { KEPT_STRIKES_AWAY }
    }

    /// Measured bytes a second, if it has sent enough to tell.
    pub(super) fn rate(&self) -> Option<u64> {
        self.meter.rate
    }

    /// How long it has been known to want or have something of what is fetched now.
    pub(super) fn known_for(&self, now: Duration) -> Duration {
        self.found.map_or(Duration::MAX, |found| now.saturating_sub(found))
    }

    /// Whether it may be about to fetch the same.
    pub(super) fn may_begin(&self, now: Duration) -> bool {
        let soon = if self.familiar { FAMILIAR_BEGINS } else { MAY_BEGIN };
        self.has.is_empty() && self.known_for(now) < soon
    }

    /// It is heard of, perhaps anew.
    pub(super) fn found(&mut self, now: Duration) {
        self.found.get_or_insert(now);
    }

    /// Nothing is fetched any more that it had: whether others ask it for the next thing is not known yet. How fast it
    /// sends is.
    pub(super) fn parted(&mut self) {
        (self.found, self.familiar, self.asked, self.gives_others) = (None, true, false, false);
    }

    /// Time for what is in flight and `more` bytes, at `guess` bytes a second if it was never measured.
    pub(super) fn time_for(&self, more: u64, guess: u64) -> Duration {
        let rate = self.rate().unwrap_or(guess).max(1);
        let bytes = self.queued.saturating_add(more);
        Duration::from_millis(bytes.saturating_mul(1000) / rate) + self.round_trip.unwrap_or_default()
    }

    /// Time for `bytes` asked for now: what is in flight shares its line with them, instead of coming first.
    pub(super) fn time_among(&self, bytes: u64, guess: u64) -> Duration {
        let rate = self.rate().unwrap_or(guess).max(1);
        let share = bytes.saturating_mul(1000 * (self.outstanding as u64 + 1)) / rate;
        Duration::from_millis(share) + self.round_trip.unwrap_or_default()
    }

    /// How many requests it may have in flight where a reader waits.
    pub(super) fn urgent_limit(&self, extra: usize) -> usize {
        (self.limit() + extra).min(self.most)
    }

    /// How many requests it should have in flight. One that failed has to show itself with a single one.
    pub(super) fn limit(&self) -> usize {
        if self.strikes > 0 {
            return 1;
        }
        // A peer's last places are a reader's.
        let most = self.most.min(MAX_OUTSTANDING - URGENT_EXTRA);
        let round_trips =
            |each: Duration| (self.round_trip.unwrap_or_default().as_millis() / each.as_millis()) as usize;
        let Some(rate) = self.rate() else {
            let far = if self.is_far() { round_trips(BEGIN_PER_RTT) } else { 0 };
            return (BASE_OUTSTANDING + far).min(most);
        };
        if rate < SLOW_RATE / 4 {
            return 1;
        }
        let streams = BASE_OUTSTANDING + usize::from(rate >= FAST_RATE) + round_trips(STREAM_PER_RTT);
        // No more than three seconds' worth of the shortest segments: a slow line gains nothing from many.
        let worth = 3 * rate / (MIN_SEGMENT * GROUP_BYTES);
        streams.min((worth as usize).max(BASE_OUTSTANDING)).min(most)
    }

    /// How many groups one segment should have: about a second's worth over all of its requests but one. Where
    /// others fetch the same it is whole pieces, and far shorter.
    pub(super) fn segment(&self, crowd: bool) -> u64 {
        let Some(rate) = self.rate() else { return self.least_segment };
        let groups = rate * BASE_OUTSTANDING as u64 / self.limit().max(BASE_OUTSTANDING) as u64 / GROUP_BYTES;
        if rate < SLOW_RATE || self.strikes > 0 {
            return groups.clamp(SLOW_SEGMENT, MIN_SEGMENT);
        }
        if crowd {
            let groups = rate * CROWD_SPAN.as_millis() as u64 / 1000 / GROUP_BYTES;
            return (groups - groups % PIECE_GROUPS).clamp(PIECE_GROUPS, MAX_SEGMENT);
        }
        let groups = groups.clamp(self.least_segment, MAX_SEGMENT);
        groups - groups % PIECE_GROUPS
    }

    pub(super) fn sent(&mut self, now: Duration, bytes: u64) {
        if self.outstanding == 0 {
            self.heard = now;
            self.meter.start(now);
        }
        self.asked = true;
        self.outstanding += 1;
        self.queued += bytes;
    }

    /// A request ended with `left` bytes unsent.
    pub(super) fn ended(&mut self, now: Duration, left: u64) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.queued = self.queued.saturating_sub(left);
        if self.outstanding == 0 {
            self.meter.sample(now, Duration::from_millis(1), self.is_far());
            self.queued = 0;
        }
    }

    pub(super) fn received(&mut self, now: Duration, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.heard = now;
        self.ever_sent = true;
        self.strikes = 0;
        self.rest = None;
        self.queued = self.queued.saturating_sub(bytes);
        self.meter.bytes += bytes;
        self.meter.sample(now, SAMPLE, self.is_far());
    }

    /// What it sent waits for this node's own cap: it is not silent, and no faster for that.
    pub(super) fn held_back(&mut self, now: Duration) {
        self.heard = now;
        self.ever_sent = true;
    }

    pub(super) fn answered(&mut self, after: Duration) {
        self.round_trip = Some(self.round_trip.map_or(after, |known| known.min(after)));
    }

    /// Brings the rate up to date; a holder that sends nothing gets slower.
    pub(super) fn measure(&mut self, now: Duration) {
        if self.outstanding > 0 {
            self.meter.sample(now, SAMPLE, self.is_far());
        }
    }

    /// Whether it has had requests for too long without sending anything.
    pub(super) fn is_silent(&self, now: Duration) -> bool {
        let patience = if self.ever_sent { STALL_AFTER } else { FIRST_CONTACT };
        self.outstanding > 0 && now.saturating_sub(self.heard) >= patience
    }

    /// When it last gave a sign of life while asked.
    pub(super) fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard)
    }

    /// It failed: it rests, longer each time. Several requests that fail at once count once.
    pub(super) fn fail(&mut self, now: Duration, why: Failure) {
        let polite = why.is_polite();
        if polite {
            // It answers.
            self.heard = now;
        }
        if self.rest.is_some_and(|rest| rest.until > now) {
            return;
        }
        let (first, longest) = if polite { (SHORT_REST, MAX_SHORT_REST) } else { (FIRST_REST, MAX_REST) };
        let rest = first.saturating_mul(1 << self.strikes.min(8)).min(longest);
        self.strikes = self.strikes.saturating_add(1);
        self.rest = Some(Rest { until: now + rest, why });
    }

    /// It was heard of anew: if it was only out of reach, it may be asked again at once.
    pub(super) fn returned(&mut self) {
        self.rest = self.rest.filter(|rest| !matches!(rest.why, Failure::Lost | Failure::NotHeld));
    }
}

/// Measures a rate over the time in which something was asked for.
#[derive(Debug, Default)]
struct Meter {
    rate: Option<u64>,
    since: Duration,
    bytes: u64,
    /// When there was a first rate.
    first: Duration,
}

impl Meter {
    fn start(&mut self, now: Duration) {
        self.since = now;
        self.bytes = 0;
    }

    /// Takes in what came since the last sample, if that is at least so long ago; of a peer that is `far`, a shorter time does at
    /// first.
    fn sample(&mut self, now: Duration, least: Duration, far: bool) {
        let time = now.saturating_sub(self.since);
        let begins = far && now.saturating_sub(self.first) < FAR_BEGINS;
        let least = if begins { least.min(FAR_SAMPLE) } else { least };
        if time < least || (self.rate.is_none() && self.bytes == 0) {
            return;
        }
        let (ms, fade) = (time.as_millis().max(1) as u64, FADE.as_millis() as u64);
        let seen = self.bytes.saturating_mul(1000) / ms;
        self.rate = Some(match self.rate {
            None => {
                self.first = now;
                seen
            }
            // A line's windows grow by the round trip: what it does at first says less than what it does now.
            Some(rate) if begins && seen > rate && time >= FAR_SAMPLE => seen,
            // Each sample weighs by its time: an average over about the last `FADE`.
            Some(rate) => {
                (u128::from(rate) * u128::from(fade) + u128::from(seen) * u128::from(ms)) as u64 / (fade + ms)
            }
        });
        self.start(now);
    }
}
