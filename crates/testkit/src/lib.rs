//! What tests of other crates stand on. Used in tests only.

mod hub;
mod memory_origin;
mod swarm;

// So that tests name faults without naming the crate beneath.
pub use hub::{
    Budget, Hub, HubFaults, HubFile, PortOf, Recorded, Refusal, Scope, Tamper, Who, XetMode, XetPacking,
};
pub use hubless_transfer::Faults;
pub use memory_origin::{Asked, MemoryOrigin, OriginFaults, Question};
pub use swarm::{START, Swarm, SwarmNode, git_origin, hub_origin, origin_with_xet};
