//! What a node keeps: a catalogue of everything it knows, and the bytes of files with their hash trees.
//!
//! **Invariants:** one process a data folder. Bytes first, then the row that speaks of them: killed at any instant,
//! the store opens again with nothing wrong in it. This is the only crate that uses RocksDB.
//! **Not here:** what is true of a commit or a statement (`proof`), what is worth keeping (`mirror`), the network.

mod blobs;
mod catalogue;
mod error;
mod lock;
mod shelf;
mod store;

pub use blobs::*;
pub use catalogue::{
    ANNOUNCE_QUEUE_MAX, Batch, BlobRecord, CARD_MAX_BYTES, Catalogue, DHT_MAX_ADDRS, DHT_MAX_PER_KEY,
    DHT_MAX_PER_PEER, DHT_MAX_PER_SUBNET, DHT_MAX_TOTAL, DHT_SEATS, DhtRow, DhtVerdict, ELSEWHERE_MAX,
    FileStamp, HEARD_MAX, MAX_KEY_BYTES, MOVES_MAX, ManifestHead, Move, Place, RefRecord, RefSource,
    STATEMENT_MAX_PER_REPO, STATEMENT_MAX_SIGNERS, STATEMENT_MAX_STRANGERS, TAG_MAX_BYTES, TAGS_MAX,
    TrafficRecord,
};
pub use error::StoreError;
pub use shelf::{SHELF_PAGE_MAX, ShelfCursor, ShelfPage, ShelfQuery, ShelfSort, ShelfTerm};
pub use store::Store;
