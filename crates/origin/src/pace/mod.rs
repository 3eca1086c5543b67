//! How often an origin is asked: its own budget, a switch that rests when it fails, and pauses before trying again.
//!
//! **Invariant:** decisions here are pure; they are given the time and the dice.

mod backoff;
mod budget;
mod gauge;
mod hosts;
mod switch;

pub(crate) use backoff::{pause, roll};
pub(crate) use budget::{Budget, Lane, LaneKind, Payers};
pub(crate) use gauge::{Gauge, Permit};
pub(crate) use hosts::Host;
pub(crate) use switch::Switch;
