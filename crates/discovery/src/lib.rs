//! Finds who holds what: announce, find and withdraw on the project's own Kademlia.
//!
//! [`Dht`] is a libp2p node (TCP, noise, yamux; identify, Kademlia, mDNS) that lives on a thread and a runtime
//! of its own: libp2p spawns tasks that nobody can await, and they end when that runtime does. The handle
//! talks to it over bounded queues. [`MemorySwarm`] is its twin for tests: the same [`Discovery`] trait over a
//! shared map.
//!
//! **Invariant:** what a stranger sends is bounded (a record, a peer, a key, in all) before it is kept, and is
//! never believed further than "this peer says so of itself".
//! **Not here:** when to announce what (`mirror`), what a provider really holds (`transfer`), disk (`store`).

mod addrs;
mod answers;
mod api;
mod book;
mod bootstrap;
mod codec;
mod config;
mod dht;
mod driver;
mod error;
mod events;
mod key;
mod lan;
mod line;
mod memory;
mod memory_table;
mod net;
mod orders;
mod place;
mod port;
mod reach;
mod records;
mod seek;
mod sweep;
mod table;
mod trace;
mod walks;
mod wire;

pub use api::{DhtMode, Discovery, DiscoveryStatus, Lifetime, Told};
pub use config::{DEFAULT_MAX_CONNECTIONS, DEFAULT_NETWORK, DhtConfig};
pub use dht::Dht;
pub use error::DiscoveryError;
pub use key::{DhtKey, node_id_of_secret};
pub use line::Line;
pub use memory::{MemoryDiscovery, MemorySwarm};
pub use memory_table::MemoryTable;
pub use place::{Place, Region};
pub use port::pick_port;
pub use table::{
    MAX_KEY_BYTES, MAX_RECORD_ADDRS, MAX_RECORDS, MAX_RECORDS_PER_KEY, MAX_RECORDS_PER_PEER,
    PARTIAL_TTL_SECS, ProviderRow, ProviderTable, RECORD_TTL_SECS, TableCounts, TableError, TableVerdict,
};
pub use trace::{Hop, HopOutcome, Trace};
#[doc(hidden)]
pub use wire::survives_a_round_trip;
