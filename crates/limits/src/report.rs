//! What a person is shown of the limits.

use hubless_types::Timestamp;

use crate::month::Month;
use crate::{Direction, Each, Limits, Rate, Use, Volume};

/// The limits of a node, at a moment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LimitsReport {
    /// Bytes to other nodes.
    pub up: DirectionReport,
    /// Bytes from other nodes and origins.
    pub down: DirectionReport,
    /// Bytes from origins.
    pub origin: DirectionReport,
    /// The calendar month that is counted, `2026-11`.
    pub month: String,
    /// When it ends.
    pub month_ends: Timestamp,
    /// Hours in which other rates hold.
    pub hours: Vec<HoursReport>,
    /// When the rates change next by these hours or by the end of what was set for a while.
    pub next_change: Option<Timestamp>,
}

/// One direction.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DirectionReport {
    /// Bytes a second that may go through now; none without a limit.
    pub rate: Option<u64>,
    /// The same as people write it.
    pub rate_text: String,
    /// What the config says without its hours, as people write it.
    pub usual: String,
    /// Whether the rate was set with `hubless limits`.
    pub overridden: bool,
    /// Until when, if for a while.
    pub overridden_until: Option<Timestamp>,
    /// Bytes that the rate let through since the node began.
    pub passed: u64,
    /// Bytes that went through this month, with what packets cost beside what they carry.
    pub month_used: u64,
    /// Bytes that may go through in a month; none without a limit.
    pub month_cap: Option<u64>,
    /// The same as people write it.
    pub month_cap_text: String,
    /// Whether the month's cap was set with `hubless limits`.
    pub month_overridden: bool,
    /// Why no more files go through, if none do.
    pub spent: Option<String>,
    /// What can be done about that.
    pub hint: Option<String>,
}

/// Hours in which other rates hold, as they were written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HoursReport {
    /// Which.
    pub when: String,
    /// The rates.
    #[serde(flatten)]
    pub rates: Each<Option<Rate>>,
}

impl LimitsReport {
    /// One direction.
    pub const fn of(&self, direction: Direction) -> &DirectionReport {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
            Direction::Origin => &self.origin,
        }
    }
}

/// What a report needs beside the valves.
pub(crate) struct Parts {
    pub(crate) month: Month,
    pub(crate) month_ends: Timestamp,
    pub(crate) usual: Each<Rate>,
    pub(crate) rates: Each<Option<Rate>>,
    pub(crate) caps: Each<Option<Volume>>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) hours: Vec<HoursReport>,
    pub(crate) next_change: Option<Timestamp>,
}

pub(crate) fn report(limits: &Limits, parts: Parts) -> LimitsReport {
    let one = |d: Direction| {
        let (valve, rate) = (limits.valve(d), parts.rates.of(d));
        let spent = valve.spent(Use::Content);
        DirectionReport {
            rate: valve.rate().bytes(),
            rate_text: valve.rate().to_string(),
            usual: parts.usual.of(d).to_string(),
            overridden: rate.is_some(),
            overridden_until: parts.until.filter(|_| rate.is_some()),
            passed: valve.passed(),
            month_used: valve.used(),
            month_cap: valve.cap().bytes(),
            month_cap_text: valve.cap().to_string(),
            month_overridden: parts.caps.of(d).is_some(),
            hint: spent.map(|spent| spent.hint().to_owned()),
            spent: spent.map(|spent| spent.to_string()),
        }
    };
    LimitsReport {
        up: one(Direction::Up),
        down: one(Direction::Down),
        origin: one(Direction::Origin),
        month: parts.month.to_string(),
        month_ends: parts.month_ends,
        hours: parts.hours,
        next_change: parts.next_change,
    }
}
