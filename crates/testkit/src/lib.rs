//! What tests of other crates stand on. Used in tests only.

mod swarm;

// So that tests name faults without naming the crate beneath.
pub use hubless_transfer::Faults;
pub use swarm::{START, Swarm, SwarmNode};
