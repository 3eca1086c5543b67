//! Stories of plans in the simulator, and what must hold whatever the swarm is like.

mod any;
mod crowds;
mod decisions;
mod fetcher;
mod origins;

use std::time::Duration;

use super::sim::file_id;
use super::{Event, Plan, PlanConfig};
use hubless_types::GroupSet;

const MIB: u64 = 1024 * 1024;
const MBIT: u64 = 1_000_000 / 8;

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn plan() -> Plan {
    Plan::new(PlanConfig { seed: 7, patience: secs(10), origin_streams: 4 })
}

fn added(plan: &mut Plan, size: u64) {
    let wanted = GroupSet::whole(size);
    plan.handle(secs(0), Event::FileAdded { file: file_id(0), size, held: GroupSet::new(), wanted });
}
