//! Stories of a node's caps, told without clock and network.

use super::*;
use crate::Hours;
use proptest::prelude::*;

const MB: u64 = 1_000_000;

/// Noon of the 26th of November 2026, a Thursday.
const NOON: Timestamp = Timestamp(1_795_694_400);
const HOUR: u64 = 3600;
const DECEMBER: Timestamp = Timestamp(1_796_083_200);

fn settings(up: &str, down_month: &str) -> Settings {
    Settings {
        rates: Each { up: up.parse().unwrap(), ..Each::default() },
        months: Each { down: down_month.parse().unwrap(), ..Each::default() },
        hours: vec![Hours {
            when: "thu 13:00-14:00".parse().unwrap(),
            rates: Each { up: Some(Rate::per_second(50_000)), ..Each::default() },
        }],
    }
}

fn limits(up: &str, down_month: &str) -> Limits {
    let limits = Limits::new(settings(up, down_month), TimeZone::UTC);
    limits.turn(NOON);
    limits
}

#[test]
fn hours_come_and_go_and_what_is_set_stands_above_them() {
    let limits = limits("2 MB/s", "unlimited");
    let up = |limits: &Limits| limits.up().rate().bytes();
    assert_eq!(up(&limits), Some(2 * MB));
    let report = limits.report(NOON);
    assert_eq!(report.next_change, Some(NOON.plus(HOUR)));
    assert_eq!((report.up.rate_text.as_str(), report.up.overridden), ("2 MB/s", false));
    assert_eq!(limits.turn(NOON.plus(HOUR)), [Change::Rate(Direction::Up, Rate::per_second(50_000))]);

    let for_a_while = Override {
        rates: Each { up: Some(Rate::UNLIMITED), ..Each::default() },
        until: Some(NOON.plus(HOUR + 600)),
        ..Override::default()
    };
    limits.set(for_a_while, NOON.plus(HOUR));
    let report = limits.report(NOON.plus(HOUR));
    assert_eq!((up(&limits), report.up.overridden), (None, true));
    assert_eq!((report.up.overridden_until, report.next_change), (for_a_while.until, for_a_while.until));
    limits.turn(NOON.plus(HOUR + 600));
    assert_eq!(up(&limits), Some(50_000), "it was for a while, and it is still that hour");
    limits.turn(NOON.plus(2 * HOUR));
    assert_eq!(up(&limits), Some(2 * MB));
}

/// Takers that want more than any rate brings, at the valve by which bytes leave, and the clock by which it is turned each
/// second. Both go by the test's own time, which runs only while everybody waits.
struct Flow {
    limits: Limits,
    /// Seconds after noon at which it began.
    from: u64,
    begun: tokio::time::Instant,
    _takers: tokio::task::JoinSet<()>,
}

impl Flow {
    fn begin(limits: &Limits, takers: usize, from: u64) -> Self {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..takers {
            let limits = limits.clone();
            tasks.spawn(async move {
                loop {
                    limits.up().take(65_536).await;
                }
            });
        }
        Self { limits: limits.clone(), from, begun: tokio::time::Instant::now(), _takers: tasks }
    }

    /// Seconds since noon.
    fn now(&self) -> u64 {
        self.from + self.begun.elapsed().as_secs()
    }

    /// Bytes that leave until so many seconds after noon.
    async fn until(&self, seconds: u64) -> f64 {
        let before = self.limits.up().used();
        while self.now() < seconds {
            self.limits.turn(NOON.plus(self.now()));
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        (self.limits.up().used() - before) as f64
    }
}

/// An hour of the schedule begins while bytes flow: the last ten seconds before it have the usual rate's worth, the first ten
/// within it the other's, as has every minute of it, and with its end the usual rate is there again. Nobody who waits has to
/// begin anew, and what is not named for that hour stays as it is.
#[tokio::test(start_paused = true)]
async fn an_hour_begins_while_bytes_flow_and_its_rate_holds_until_it_ends() {
    let limits = limits("2 MB/s", "unlimited");
    let flow = Flow::begin(&limits, 5, HOUR - 20);
    let holds = async |until: u64, rate: f64| {
        let (from, got) = (flow.now(), flow.until(until).await);
        let due = rate * (until - from) as f64;
        assert!(
            (got - due).abs() <= 0.03 * due,
            "{got} bytes from {from} s to {until} s, where {due} are due"
        );
    };
    flow.until(HOUR - 10).await;
    holds(HOUR, 2e6).await;
    holds(HOUR + 10, 5e4).await;
    for minute in 1..60 {
        holds(HOUR + minute * 60, 5e4).await;
    }
    assert_eq!(limits.down().rate(), Rate::UNLIMITED, "the hour speaks of what goes up alone");
    flow.until(2 * HOUR - 10).await;
    holds(2 * HOUR, 5e4).await;
    holds(2 * HOUR + 10, 2e6).await;
    holds(2 * HOUR + 20, 2e6).await;
}

#[test]
fn what_is_set_stays_when_the_config_is_read_again_and_goes_when_it_is_taken_back() {
    let limits = limits("2 MB/s", "unlimited");
    let up =
        Override { rates: Each { up: Some(Rate::per_second(MB)), ..Each::default() }, ..Override::default() };
    limits.set(up, NOON);
    let down = Override {
        rates: Each { down: Some(Rate::per_second(7 * MB)), ..Each::default() },
        ..Override::default()
    };
    limits.set(down, NOON);
    limits.reconfigure(settings("3 MB/s", "unlimited"), NOON);
    assert_eq!((limits.up().rate().bytes(), limits.down().rate().bytes()), (Some(MB), Some(7 * MB)));
    assert_eq!(limits.report(NOON).up.usual, "3 MB/s");
    limits.reset(NOON);
    assert_eq!((limits.up().rate().bytes(), limits.down().rate().bytes()), (Some(3 * MB), None));
}

#[test]
fn a_month_that_is_used_up_is_told_once_and_is_there_again_with_the_next() {
    let limits = limits("unlimited", "100 MB");
    limits.down().count(98 * MB);
    assert_eq!((limits.turn(NOON), limits.down().spent(Use::Content)), (Vec::new(), None));
    limits.down().count(MB);
    let spent = Spent { direction: Direction::Down, cap: Volume::of(100 * MB), until: DECEMBER };
    assert_eq!(limits.turn(NOON), [Change::Spent(spent)]);
    assert_eq!(limits.turn(NOON), []);
    assert_eq!(limits.down().spent(Use::Words), None, "names still come");
    assert_eq!(limits.origin_spent(Use::Content), Some(spent), "what an origin sends comes down too");
    assert!(limits.report(NOON).down.spent.is_some_and(|text| text.contains("down_month")));
    limits.down().count(MB);
    assert!(limits.down().spent(Use::Words).is_some());
    assert_eq!(limits.turn(DECEMBER), [Change::Anew(Direction::Down)]);
    assert_eq!((limits.down().used(), limits.down().spent(Use::Words)), (0, None));
}

#[test]
fn a_cap_that_is_raised_lets_go_on_at_once() {
    let limits = limits("unlimited", "100 MB");
    limits.down().count(100 * MB);
    limits.turn(NOON);
    let raise = Override {
        months: Each { down: Some(Volume::of(200 * MB)), ..Each::default() },
        ..Override::default()
    };
    assert_eq!(limits.set(raise, NOON), [Change::Anew(Direction::Down)]);
    assert_eq!((limits.down().spent(Use::Content), limits.report(NOON).down.month_overridden), (None, true));
}

#[test]
fn counts_go_on_after_a_restart_and_not_into_another_month() {
    let first = limits("unlimited", "100 MB");
    first.up().count(5);
    first.down().count(60 * MB);
    let kept = first.month_bytes().unwrap();

    let again = Limits::new(settings("unlimited", "100 MB"), TimeZone::UTC);
    // Bytes may come before the counts were read.
    again.down().count(MB);
    again.resume(kept, NOON.plus(HOUR));
    assert_eq!((again.up().used(), again.down().used()), (5, 61 * MB));

    let later = Limits::new(settings("unlimited", "100 MB"), TimeZone::UTC);
    later.resume(kept, DECEMBER);
    assert_eq!(later.down().used(), 0);
}

/// A machine without a battery wakes up in 1970: the month's bytes are not forgotten for that.
#[test]
fn a_clock_that_is_wrong_forgets_nothing() {
    let first = limits("unlimited", "100 MB");
    first.down().count(60 * MB);
    let again = Limits::new(settings("unlimited", "100 MB"), TimeZone::UTC);
    again.resume(first.month_bytes().unwrap(), Timestamp(5));
    assert_eq!(again.down().used(), 60 * MB);
    (5..1000).for_each(|s| drop(again.turn(Timestamp(s))));
    again.turn(NOON);
    assert_eq!(again.down().used(), 60 * MB);
}

/// One look at a clock that is eleven years ahead, and the month is used up until then; right again, it is this month's count
/// that holds, also where the node was started anew meanwhile, and the next month begins as ever.
#[test]
fn a_clock_that_was_once_ahead_freezes_no_month() {
    let ahead = NOON.plus(11 * 365 * 86_400);
    for restarted in [false, true] {
        let mut limits = limits("unlimited", "100 MB");
        limits.down().count(60 * MB);
        limits.turn(ahead);
        limits.down().count(100 * MB);
        assert!(matches!(limits.turn(ahead)[..], [Change::Spent(_)]));
        if restarted {
            let kept = limits.month_bytes().unwrap();
            limits = Limits::new(settings("unlimited", "100 MB"), TimeZone::UTC);
            limits.resume(kept, NOON);
        }
        let back: Vec<Change> = (0..400).flat_map(|s| limits.turn(NOON.plus(s))).collect();
        assert!(back.contains(&Change::Back(Month { year: 2026, month: 11 })), "{back:?}");
        let report = limits.report(NOON);
        assert_eq!((report.month.as_str(), report.month_ends), ("2026-11", DECEMBER));
        let before = if restarted { 0 } else { 60 * MB };
        assert_eq!(limits.down().used(), 100 * MB + before, "what was counted before it went ahead, too");
        assert!(limits.turn(DECEMBER).contains(&Change::Anew(Direction::Down)));
        assert_eq!(limits.down().used(), 0);
    }
}

/// Setting the clock back by some weeks gets rid of nothing, however long it stays there.
#[test]
fn a_clock_that_is_set_back_a_little_begins_no_month() {
    let limits = limits("unlimited", "100 MB");
    limits.down().count(100 * MB);
    (0..7200).for_each(|s| drop(limits.turn(Timestamp(NOON.0 - 27 * 86_400 + s))));
    assert_eq!((limits.down().used(), limits.report(NOON).month.as_str()), (100 * MB, "2026-11"));
    assert!(limits.down().spent(Use::Words).is_some_and(|spent| spent.until == DECEMBER));
}

/// Whoever serves before the counts are looked after asks for them first; asked for again they are not counted twice.
#[test]
fn what_was_counted_is_taken_over_once() {
    let first = limits("unlimited", "100 MB");
    first.down().count(60 * MB);
    let again = Limits::new(settings("unlimited", "100 MB"), TimeZone::UTC);
    for _ in 0..2 {
        again.resume(first.month_bytes().unwrap(), NOON);
    }
    assert_eq!(again.down().used(), 60 * MB);
}

#[tokio::test(start_paused = true)]
async fn an_origins_bytes_are_held_by_both_rates_and_counted_twice() {
    let settings = Settings {
        rates: Each { down: Rate::per_second(MB), origin: Rate::per_second(200_000), up: Rate::UNLIMITED },
        ..Settings::default()
    };
    let limits = Limits::new(settings, TimeZone::UTC);
    limits.turn(NOON);
    let begun = tokio::time::Instant::now();
    let mut debt = OriginDebt::default();
    for _ in 0..125 {
        limits.owe_origin(16_000, &mut debt);
        // Whoever looks at something else now and then loses nothing.
        while tokio::time::timeout(std::time::Duration::from_millis(30), limits.settle(&mut debt))
            .await
            .is_err()
        {}
    }
    let took = begun.elapsed().as_secs_f64();
    assert!((took - 10.0).abs() < 0.3, "{took}");
    assert_eq!((limits.down().used(), limits.valve(Direction::Origin).used()), (2 * MB, 2 * MB));
}

proptest! {
    /// However often a node is started anew, every byte is counted once, and no month's bytes in another.
    #[test]
    fn every_byte_is_counted_once(steps in prop::collection::vec((0_u64..20 * 86_400, 0_u64..1000, any::<bool>()), 1..40)) {
        let mut limits = Limits::default();
        let (mut now, mut expected, mut month) = (NOON, 0, None);
        limits.turn(now);
        for (later, bytes, restarted) in steps {
            now = now.plus(later);
            if restarted {
                let kept = limits.month_bytes().unwrap();
                limits = Limits::default();
                limits.resume(kept, now);
            }
            limits.turn(now);
            let here = Month::of(now, &TimeZone::UTC);
            if month != Some(here) {
                (month, expected) = (Some(here), 0);
            }
            limits.up().count(bytes);
            expected += bytes;
            prop_assert_eq!(limits.up().used(), expected);
        }
    }
}
