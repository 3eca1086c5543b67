//! The handle: three valves, what the operator set, and what was set on top of it for a while.
//!
//! It reads no clock: whoever owns it calls [`Limits::turn`] every second or so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hubless_types::Timestamp;
use jiff::tz::TimeZone;

use crate::calendar::{Calendar, Turned};
use crate::month::{Month, MonthBytes, Spent};
use crate::report::{HoursReport, LimitsReport, Parts, report};
use crate::{Direction, Each, Rate, Settings, Use, Valve, Volume};

/// What is set on top of the config, until it is taken back or the node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Override {
    /// Rates; `None` leaves what holds.
    pub rates: Each<Option<Rate>>,
    /// Bytes a month; `None` leaves what holds.
    pub months: Each<Option<Volume>>,
    /// When the rates end; `None` for no end. Bytes a month have none.
    pub until: Option<Timestamp>,
}

/// Bytes of one body of an origin that came and that the rates have not had yet.
#[derive(Debug, Default)]
pub struct OriginDebt {
    origin: usize,
    down: usize,
}

/// Something that a turn of the clock brought, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another rate holds.
    Rate(Direction, Rate),
    /// A month's bytes are used up, but for what is kept for names and manifests.
    Spent(Spent),
    /// They are there again: a new month began, or the cap was raised.
    Anew(Direction),
    /// The clock went back by more than a month, to this one, and stays: what was counted counts for it.
    Back(Month),
}

/// All caps of a node. Clones share them.
#[derive(Debug, Clone)]
pub struct Limits {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    valves: Each<Valve>,
    zone: TimeZone,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    set: Override,
    calendar: Calendar,
    /// Whether what was counted before the node began is in the counts.
    resumed: bool,
    told_spent: Each<bool>,
}

impl Default for Limits {
    /// No limits at all.
    fn default() -> Self {
        Self::new(Settings::default(), TimeZone::UTC)
    }
}

impl Limits {
    /// Limits by `settings`, with hours and months by the clocks of `zone`. Nothing is limited before the first turn.
    pub fn new(settings: Settings, zone: TimeZone) -> Self {
        let state = State {
            settings,
            set: Override::default(),
            calendar: Calendar::default(),
            resumed: false,
            told_spent: Each::default(),
        };
        Self { inner: Arc::new(Inner { valves: Each::new(Valve::new), zone, state: Mutex::new(state) }) }
    }

    /// Bytes to other nodes.
    pub fn up(&self) -> &Valve {
        &self.inner.valves.up
    }

    /// Bytes from other nodes and from origins.
    pub fn down(&self) -> &Valve {
        &self.inner.valves.down
    }

    /// One direction's valve. What comes from an origin goes through [`Limits::owe_origin`] instead.
    pub fn valve(&self, direction: Direction) -> &Valve {
        self.inner.valves.of(direction)
    }

    /// Counts bytes that came from an origin, also as bytes that came down; both rates have them from `debt` later.
    pub fn owe_origin(&self, bytes: usize, debt: &mut OriginDebt) {
        let Each { down, origin, .. } = &self.inner.valves;
        origin.pass(bytes);
        down.pass(bytes);
        debt.origin += bytes;
        debt.down += bytes;
    }

    /// Waits until both rates allow what comes next. Cancel safe: what is settled stays so.
    pub async fn settle(&self, debt: &mut OriginDebt) {
        let Each { down, origin, .. } = &self.inner.valves;
        tokio::join!(origin.settle(&mut debt.origin), down.settle(&mut debt.down));
    }

    /// The cap of the month because of which bytes for `what` may not be asked of an origin any more.
    pub fn origin_spent(&self, what: Use) -> Option<Spent> {
        self.inner.valves.origin.spent(what).or_else(|| self.down().spent(what))
    }

    /// Brings rates and months up to `now`, and says what changed.
    pub fn turn(&self, now: Timestamp) -> Vec<Change> {
        let mut state = self.state();
        let mut changes = Vec::new();
        match state.calendar.look(now, Month::of(now, &self.inner.zone), self.used()) {
            Turned::Same => {}
            Turned::Anew => Direction::ALL.into_iter().for_each(|d| self.valve(d).begin()),
            Turned::Back(month, before) => {
                self.add(before);
                changes.push(Change::Back(month));
            }
        }
        if state.set.until.is_some_and(|until| until <= now) {
            (state.set.rates, state.set.until) = (Each::default(), None);
        }
        changes.extend(self.apply(&mut state, now));
        changes
    }

    /// Takes another config; what was set on top of it stays.
    pub fn reconfigure(&self, settings: Settings, now: Timestamp) -> Vec<Change> {
        self.state().settings = settings;
        self.turn(now)
    }

    /// Sets what `more` names on top of the config and of what was set before.
    pub fn set(&self, more: Override, now: Timestamp) -> Vec<Change> {
        {
            let mut state = self.state();
            let named = Direction::ALL.into_iter().any(|d| more.rates.of(d).is_some());
            for d in Direction::ALL {
                let (rate, cap) = (
                    more.rates.of(d).or(*state.set.rates.of(d)),
                    more.months.of(d).or(*state.set.months.of(d)),
                );
                (*state.set.rates.of_mut(d), *state.set.months.of_mut(d)) = (rate, cap);
            }
            if named {
                state.set.until = more.until;
            }
        }
        self.turn(now)
    }

    /// Takes back all that was set on top of the config.
    pub fn reset(&self, now: Timestamp) -> Vec<Change> {
        self.state().set = Override::default();
        self.turn(now)
    }

    /// Adds what was counted before the node began, if that was in this month or, by a clock that is or was wrong, later.
    /// Once: it may be asked for again.
    pub fn resume(&self, before: MonthBytes, now: Timestamp) -> Vec<Change> {
        {
            let mut state = self.state();
            let again = std::mem::replace(&mut state.resumed, true);
            if !again && before.month >= Month::of(now, &self.inner.zone) {
                state.calendar.resume(before.month);
                self.add(before.bytes);
            }
        }
        self.turn(now)
    }

    /// What went through this month, to be kept for [`Limits::resume`]; `None` before the first turn.
    pub fn month_bytes(&self) -> Option<MonthBytes> {
        let state = self.state();
        Some(MonthBytes { month: state.calendar.month()?, bytes: self.used() })
    }

    /// What a person is shown.
    pub fn report(&self, now: Timestamp) -> LimitsReport {
        let parts = {
            let state = self.state();
            let month = state.calendar.month().unwrap_or_else(|| Month::of(now, &self.inner.zone));
            let by_hours = state.settings.next_change(now, &self.inner.zone);
            let hours = state.settings.hours.iter();
            let hours = hours.map(|h| HoursReport { when: h.when.to_string(), rates: h.rates });
            Parts {
                month,
                month_ends: month.end(&self.inner.zone),
                usual: state.settings.rates,
                rates: state.set.rates,
                caps: state.set.months,
                until: state.set.until,
                hours: hours.collect(),
                next_change: by_hours.into_iter().chain(state.set.until).min(),
            }
        };
        report(self, parts)
    }

    fn apply(&self, state: &mut State, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        let scheduled = state.settings.rates_at(now, &self.inner.zone);
        let until = state.calendar.month();
        let until = until.map_or(Timestamp(u64::MAX), |month| month.end(&self.inner.zone));
        for d in Direction::ALL {
            let rate = state.set.rates.of(d).unwrap_or(*scheduled.of(d));
            let cap = state.set.months.of(d).unwrap_or(*state.settings.months.of(d));
            let valve = self.valve(d);
            if valve.rate() != rate {
                changes.push(Change::Rate(d, rate));
            }
            valve.set(rate, cap, until);
            let (spent, told) = (valve.spent(Use::Content), state.told_spent.of_mut(d));
            match spent {
                Some(spent) if !*told => changes.push(Change::Spent(spent)),
                None if *told => changes.push(Change::Anew(d)),
                _ => {}
            }
            *told = spent.is_some();
        }
        changes
    }

    fn used(&self) -> Each<u64> {
        Each::new(|d| self.valve(d).used())
    }

    fn add(&self, bytes: Each<u64>) {
        Direction::ALL.into_iter().for_each(|d| self.valve(d).count(*bytes.of(d)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
