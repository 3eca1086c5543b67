//! Caps: bytes a second and bytes a month, up, down and from origins, with other rates in some hours of the week.
//!
//! [`Limits`] is one handle for all of it; the crates that move bytes ask its [`Valve`]s before they send and after they
//! received. [`Settings`] say what holds when, pure and by the wall clock; [`Limits::turn`] brings the valves up to a moment.
//!
//! **Invariant:** over any ten seconds a valve that is asked all the time lets through its rate within 3 %; a month's
//! bytes are counted once, and never less than went through.
//! **Not here:** moving bytes (`transfer`, `origin`), keeping counts on disk (`mirror`), reading configs (`node`).

mod bucket;
mod calendar;
mod direction;
mod error;
mod limits;
mod month;
mod quantity;
mod report;
mod schedule;
mod valve;
mod week;

pub use direction::{Direction, Each};
pub use error::LimitError;
pub use limits::{Change, Limits, OriginDebt, Override};
pub use month::{Month, MonthBytes, Spent};
pub use quantity::{Rate, Volume};
pub use report::{DirectionReport, HoursReport, LimitsReport};
pub use schedule::{Hours, MAX_HOURS, Settings};
pub use valve::{Use, Valve};
pub use week::When;
