//! A rate held over time: takers come one after the other, each for a twentieth of a second's worth at most.
//!
//! Credit is counted in seconds, not in bytes, so that a change of the rate leaves no debt that would take minutes at the new
//! one. What is due is taken at once and owed; the next taker waits until nothing is owed. Whoever waits looks again at
//! least every [`SLICE`], which is how soon a change of the rate is felt.
//!
//! **Invariant:** over any time, takers get the rate's worth and at most [`BURST`] and one [`TURN`] more; while somebody
//! waits, no less than the rate's worth, if the machine lets them run within [`BURST`]. Small messages wait behind no bulk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::Rate;

/// Unused credit that is kept, in seconds: what a machine that was busy elsewhere for so long makes up for.
const BURST: f64 = 0.15;
/// Most that one taker gets before the next one's turn, in seconds of the rate.
const TURN: f64 = 0.05;
/// What one taker gets at least, in bytes: less is not worth a packet.
const LEAST_TURN: usize = 512;
/// What is read before it is paid for, in seconds of the rate.
const PIECE: f64 = 0.01;
/// What is read at least before it is paid for, in bytes.
const LEAST_PIECE: usize = 4096;
/// Part of the rate that small messages have to themselves; beyond it they wait among the others.
const SMALL_SHARE: f64 = 0.5;
/// Longest sleep before the rate is looked at again.
const SLICE: Duration = Duration::from_millis(50);
/// Shortest sleep: timers are no finer.
const TICK: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Bytes a second; `u64::MAX` without a limit. Read without the lock where there is none.
    rate: AtomicU64,
    state: Mutex<State>,
    /// Whose turn it is: one taker at a time, in the order in which they came.
    turn: Semaphore,
}

#[derive(Debug)]
struct State {
    /// Seconds' worth that may be taken; below 0 is owed.
    credit: f64,
    /// Of small messages.
    small: f64,
    seen: Instant,
}

/// What a taker is told.
enum Told {
    Take(usize),
    Wait(Duration),
}

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate: AtomicU64::new(raw(rate)),
            state: Mutex::new(State { credit: 0.0, small: BURST, seen: Instant::now() }),
            turn: Semaphore::new(1),
        }
    }

    pub(crate) fn rate(&self) -> Rate {
        match self.rate.load(Ordering::Relaxed) {
            u64::MAX => Rate::UNLIMITED,
            bytes => Rate::per_second(bytes),
        }
    }

    pub(crate) fn set_rate(&self, rate: Rate) {
        let mut state = self.state();
        let old = self.rate();
        if old == rate {
            return;
        }
        match old.bytes() {
            Some(_) => state.refill(Instant::now()),
            // Nothing was counted while there was no limit.
            None => *state = State { credit: 0.0, small: BURST, seen: Instant::now() },
        }
        self.rate.store(raw(rate), Ordering::Relaxed);
    }

    /// Most of `wanted` bytes that should be read before they are paid for: little, because as many as there are readers
    /// come before any of it is.
    pub(crate) fn piece(&self, wanted: usize) -> usize {
        let piece = |rate: u64| ((rate as f64 * PIECE) as usize).max(LEAST_PIECE);
        self.rate().bytes().map_or(wanted, |rate| wanted.min(piece(rate)))
    }

    /// Waits for leave to move some of `wanted` bytes; how many. Cancel safe: what was not told was not taken.
    pub(crate) async fn take(&self, wanted: usize) -> usize {
        if self.rate().bytes().is_none() {
            return wanted;
        }
        // Never closed.
        let _turn = self.turn.acquire().await;
        loop {
            match self.ask(wanted) {
                Told::Take(bytes) => return bytes,
                Told::Wait(time) => tokio::time::sleep(time).await,
            }
        }
    }

    /// As [`Bucket::take`], for a thread that may block.
    pub(crate) fn take_blocking(&self, wanted: usize) -> usize {
        if self.rate().bytes().is_none() {
            return wanted;
        }
        let _turn = futures::executor::block_on(self.turn.acquire());
        loop {
            match self.ask(wanted) {
                Told::Take(bytes) => return bytes,
                Told::Wait(time) => std::thread::sleep(time),
            }
        }
    }

    /// Whether a small message of `bytes` may pass by all who wait; it is owed then.
    pub(crate) fn pass_small(&self, bytes: usize) -> bool {
        let Some(rate) = self.rate().bytes() else { return true };
        let mut state = self.state();
        state.refill(Instant::now());
        if state.small <= 0.0 {
            return false;
        }
        let worth = bytes as f64 / rate as f64;
        state.small -= worth / SMALL_SHARE;
        state.credit -= worth;
        true
    }

    fn ask(&self, wanted: usize) -> Told {
        let mut state = self.state();
        let Some(rate) = self.rate().bytes() else { return Told::Take(wanted) };
        state.refill(Instant::now());
        if state.credit > 0.0 {
            let bytes = wanted.min(turn_of(rate));
            state.credit -= bytes as f64 / rate as f64;
            return Told::Take(bytes);
        }
        Told::Wait(Duration::from_secs_f64(-state.credit).clamp(TICK, SLICE))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.seen).as_secs_f64();
        self.seen = now;
        self.credit = (self.credit + passed).min(BURST);
        self.small = (self.small + passed).min(BURST);
    }
}

const fn raw(rate: Rate) -> u64 {
    match rate.bytes() {
        Some(bytes) => bytes,
        None => u64::MAX,
    }
}

fn turn_of(rate: u64) -> usize {
    ((rate as f64 * TURN) as usize).max(LEAST_TURN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;
    use tokio::task::JoinSet;

    /// `takers` that ask for `wanted` bytes again and again, and what each got.
    struct Crowd {
        got: Vec<Arc<AtomicUsize>>,
        tasks: JoinSet<()>,
    }

    impl Crowd {
        fn of(takers: usize, wanted: usize, bucket: &Arc<Bucket>) -> Self {
            let got: Vec<Arc<AtomicUsize>> = (0..takers).map(|_| Arc::default()).collect();
            let mut tasks = JoinSet::new();
            for mine in &got {
                let (bucket, mine) = (bucket.clone(), mine.clone());
                tasks.spawn(async move {
                    loop {
                        mine.fetch_add(bucket.take(wanted).await, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                });
            }
            Self { got, tasks }
        }

        fn total(&self) -> usize {
            self.got.iter().map(|got| got.load(Ordering::Relaxed)).sum()
        }
    }

    fn within(got: usize, expected: f64, percent: f64) -> bool {
        (got as f64 - expected).abs() <= expected * percent / 100.0
    }

    async fn over(seconds: u64, crowd: &Crowd) -> usize {
        let before = crowd.total();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        crowd.total() - before
    }

    #[tokio::test(start_paused = true)]
    async fn many_takers_together_get_the_rate_and_each_its_share() {
        for (rate, takers, wanted) in
            [(50_000, 1, 262_144), (50_000, 40, 16_384), (2_000_000, 16, 262_144), (900_000_000, 8, 262_144)]
        {
            let bucket = Arc::new(Bucket::new(Rate::per_second(rate)));
            let crowd = Crowd::of(takers, wanted, &bucket);
            for _ in 0..3 {
                let got = over(10, &crowd).await;
                assert!(within(got, rate as f64 * 10.0, 3.0), "{rate} B/s, {takers} takers: {got} in 10 s");
            }
            let share = rate as f64 * 30.0 / takers as f64;
            for got in &crowd.got {
                assert!(
                    within(got.load(Ordering::Relaxed), share, 20.0),
                    "{rate} B/s, {takers} takers: {got:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_changes_holds_at_once() {
        let bucket = Arc::new(Bucket::new(Rate::per_second(100_000_000)));
        let crowd = Crowd::of(12, 262_144, &bucket);
        tokio::time::sleep(Duration::from_secs(3)).await;
        for rate in [50_000, 20_000_000, 1_000_000] {
            bucket.set_rate(Rate::per_second(rate));
            let got = over(10, &crowd).await;
            assert!(within(got, rate as f64 * 10.0, 3.0), "{rate} B/s: {got} in 10 s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_let_go_when_there_is_no_limit_any_more() {
        let bucket = Arc::new(Bucket::new(Rate::per_second(Rate::MIN)));
        for _ in 0..20 {
            bucket.take(4096).await;
        }
        let begun = Instant::now();
        let waiting = async {
            for _ in 0..1000 {
                bucket.take(1 << 20).await;
            }
        };
        let change = async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            bucket.set_rate(Rate::UNLIMITED);
        };
        tokio::join!(waiting, change);
        assert!(begun.elapsed() < Duration::from_millis(250), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_made_up_for_by_a_moment_and_no_more() {
        let bucket = Arc::new(Bucket::new(Rate::per_second(1_000_000)));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let crowd = Crowd::of(4, 65_536, &bucket);
        let got = over(10, &crowd).await;
        assert!(within(got, 10_000_000.0, 3.0), "{got}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_message_waits_behind_no_bulk_and_leaves_bulk_its_part() {
        let bucket = Arc::new(Bucket::new(Rate::per_second(100_000)));
        let crowd = Crowd::of(64, 65_536, &bucket);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(bucket.pass_small(300), "64 wait, and it passes");
        // A flood of small ones: half is theirs, the rest is still bulk's, and together they keep the rate.
        let (before, begun, mut small) = (crowd.total(), Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(20) {
            if bucket.pass_small(300) {
                small += 300;
            }
            tokio::time::sleep(TICK).await;
        }
        let bulk = crowd.total() - before;
        assert!(within(bulk + small, 2_000_000.0, 3.0), "{bulk} and {small}");
        assert!(bulk > 900_000, "bulk got {bulk} of 2,000,000");
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_that_gives_up_takes_nothing() {
        let bucket = Arc::new(Bucket::new(Rate::per_second(100_000)));
        let crowd = Crowd::of(2, 65_536, &bucket);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            // Gives up in the middle of its wait, again and again.
            let given_up = tokio::time::timeout(Duration::from_millis(7), bucket.take(65_536)).await;
            assert!(given_up.is_err() || given_up.is_ok_and(|bytes| bytes <= 5000));
            tokio::task::yield_now().await;
        }
        assert!(crowd.total() > 0 && !crowd.tasks.is_empty());
        assert!(bucket.turn.available_permits() <= 1);
    }

    #[test]
    fn threads_share_the_rate_with_tasks() {
        let bucket = Arc::new(Bucket::new(Rate::per_second(4_000_000)));
        let begun = std::time::Instant::now();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let bucket = bucket.clone();
                std::thread::spawn(move || {
                    let mut left = 1_000_000_usize;
                    while left > 0 {
                        left -= bucket.take_blocking(left.min(262_144));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let took = begun.elapsed().as_secs_f64();
        // 3 MB at 4 MB/s: never sooner than the burst allows, however busy the machine.
        assert!(took > 0.75 - BURST - 2.0 * TURN, "{took}");
        assert!(took < 5.0, "{took}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Whatever the rate and however they ask, ten seconds hold ten seconds' worth.
        #[test]
        fn ten_seconds_are_ten_seconds_worth(rate in 20_000_u64..2_000_000_000, takers in 1_usize..30, wanted in 600_usize..1_000_000) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let got = runtime.block_on(async {
                let bucket = Arc::new(Bucket::new(Rate::per_second(rate)));
                // Enough takers that their turns, a millisecond apart at worst, can carry the rate.
                let wanted = wanted.max((rate / 500) as usize);
                let crowd = Crowd::of(takers, wanted, &bucket);
                over(10, &crowd).await
            });
            prop_assert!(within(got, rate as f64 * 10.0, 3.0), "{} in 10 s at {}", got, rate);
        }
    }
}
