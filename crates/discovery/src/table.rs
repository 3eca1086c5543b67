//! The table of provider records that this node keeps for the network, and its own.
//!
//! libp2p's memory store holds 1,024 keys, strangers' included, and keeps the first twenty who claim one; this
//! one is bounded a peer, a key and in all, expires by the wall clock, and keeps this node's own keys apart.

use std::net::SocketAddr;

use hubless_types::{NodeId, Timestamp};

/// Longest key, in bytes; a multihash of SHA2-256 takes 34.
pub const MAX_KEY_BYTES: usize = 64;
/// Most addresses kept with a record.
pub const MAX_RECORD_ADDRS: usize = 6;
/// Most records that one other node may place here: in a small network one node is told of every shard another has.
pub const MAX_RECORDS_PER_PEER: usize = 250_000;
/// Most other nodes kept for one key.
pub const MAX_RECORDS_PER_KEY: usize = 64;
/// Most records of other nodes in all.
pub const MAX_RECORDS: usize = 2_000_000;
/// How long a record lives after it was announced, in seconds (48 h); nobody's lives longer.
pub const RECORD_TTL_SECS: u64 = 48 * 60 * 60;
/// How long one lives that is announced by a node that does not have all of it yet, in seconds (1 h).
pub const PARTIAL_TTL_SECS: u64 = 60 * 60;

/// One provider record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRow {
    /// Who provides.
    pub provider: NodeId,
    /// Where it says it is reached; empty for this node itself, whose addresses change.
    pub addrs: Vec<SocketAddr>,
    /// When the record is void; this node's own live until they are removed.
    pub expires: Timestamp,
    /// Whether it is this node's own: counted apart, never displaced.
    pub own: bool,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableVerdict {
    /// It was stored, anew or in place of the provider's older one.
    Stored,
    /// It was stored in place of another provider's row that would have expired sooner.
    Displaced(NodeId),
    /// Its provider has [`MAX_RECORDS_PER_PEER`] already.
    PeerFull,
    /// The table has [`MAX_RECORDS`] already, or the key so many as none makes room for.
    TableFull,
    /// Its key is longer than [`MAX_KEY_BYTES`].
    BadKey,
}

impl TableVerdict {
    /// Whether the row is in the table now.
    pub fn is_stored(self) -> bool {
        matches!(self, Self::Stored | Self::Displaced(_))
    }
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableCounts {
    /// This node's own.
    pub own: u64,
    /// Other nodes'.
    pub others: u64,
}

/// Whatever the table's keeper says went wrong.
pub type TableError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps provider records. Calls are made on discovery's own thread and may touch the disk, but must be quick.
pub trait ProviderTable: Send + Sync + 'static {
    /// Stores `row` under `key`, within the bounds; a provider has one row a key.
    ///
    /// # Errors
    /// Whatever the keeper meets; a full table is a verdict, no error.
    fn add(&self, key: &[u8], row: ProviderRow) -> Result<TableVerdict, TableError>;

    /// Stores `row` under each of `keys`, as [`ProviderTable::add`] does; keepers that write to disk do it in one go.
    ///
    /// # Errors
    /// Whatever the keeper meets.
    fn add_many(&self, keys: &[Vec<u8>], row: &ProviderRow) -> Result<Vec<TableVerdict>, TableError> {
        keys.iter().map(|key| self.add(key, row.clone())).collect()
    }

    /// Removes `provider`'s rows of `keys`; how many keys it was asked for, whether or not they had one.
    ///
    /// # Errors
    /// Whatever the keeper meets.
    fn remove_many(&self, keys: &[Vec<u8>], provider: &NodeId) -> Result<usize, TableError> {
        keys.iter().try_for_each(|key| self.remove(key, provider))?;
        Ok(keys.len())
    }

    /// Other nodes' rows of `key` that have not expired at `now`, and this node's own.
    ///
    /// # Errors
    /// Whatever the keeper meets.
    fn providers(&self, key: &[u8], now: Timestamp) -> Result<Vec<ProviderRow>, TableError>;

    /// Removes `provider`'s row of `key`, if there is one.
    ///
    /// # Errors
    /// Whatever the keeper meets.
    fn remove(&self, key: &[u8], provider: &NodeId) -> Result<(), TableError>;

    /// Removes other nodes' rows that have expired at `now`, at most `limit`; how many were removed.
    ///
    /// # Errors
    /// Whatever the keeper meets.
    fn expire(&self, now: Timestamp, limit: usize) -> Result<usize, TableError>;

    /// How many rows there are.
    fn counts(&self) -> TableCounts;
}
