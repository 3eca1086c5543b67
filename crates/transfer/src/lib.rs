//! Serves what this node holds and fetches what others hold, each byte checked against its BLAKE3 tree.
//!
//! Two protocols on one QUIC endpoint (iroh, with the node's own key, no relay, no name service):
//! `/iroh-bytes/4` is iroh-blobs' own and carries segments of blobs with their proofs; `hubless/1` carries the rest:
//! manifests, statements, links, small files, and who holds what. Long segments go over TCP beside them (`bulk`).
//!
//! **Invariants:** nothing is sent that the store has not verified; nothing is written that has not been checked;
//! every queue, message and wait has a bound, named in [`mod@limits`].
//! **Not here:** whom to ask for what (`mirror`), finding peers (`discovery`).

mod answer;
mod bulk;
mod client;
mod crowd;
mod decode;
mod endpoint;
mod error;
mod get;
mod holdings;
pub mod limits;
mod memory;
mod overhead;
mod part;
mod pool;
mod receive;
mod refusal;
mod remote;
mod serve;
mod shape;
mod slots;
mod stats;
mod transfer;
mod wire;

#[cfg(fuzzing)]
pub use bulk::strangers_bytes;
#[cfg(fuzzing)]
pub use wire::strangers_words;

pub use client::{Gathering, HeldRepos, Holding, ManifestReply, PeerClient, Tick};
pub use endpoint::TransferConfig;
pub use error::TransferError;
pub use limits::{SMALL_FILE_MAX, STALL_TIMEOUT};
pub use memory::{Delivered, Delivery, Dial, Faults, MemoryNet};
pub use stats::{PeerBytes, TransferStats};
pub use transfer::Transfer;
