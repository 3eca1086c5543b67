//! The DHT's provider records: what strangers say they hold, and what this node itself provides.
//!
//! **Invariant:** strangers fill at most [`DHT_MAX_TOTAL`] rows, each of them [`DHT_MAX_PER_PEER`], and each key
//! has at most [`DHT_MAX_PER_KEY`] of their rows. Rows of our own lie apart: they count against none of these, no
//! stranger displaces them, and they stay until they are removed.
//! **Not here:** whether a provider is real: keys of nodes cost nothing. That is why a full table refuses new rows
//! rather than drop old ones: who was there before a flood can renew through it.

use std::net::SocketAddr;

use hubless_types::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};

use super::codec::Record;
use super::db::Cf;
use super::records::{DhtRow, DhtVerdict};
use super::txn::Txn;
use super::{Catalogue, MAX_KEY_BYTES, codec};
use crate::error::{Result, StoreError};

/// Most rows of one stranger: in a small network one node is told of every shard another has.
pub const DHT_MAX_PER_PEER: u64 = 250_000;
/// Most strangers' rows of one key.
pub const DHT_MAX_PER_KEY: usize = 64;
/// Most strangers' rows in all; about 250 bytes each on disk.
pub const DHT_MAX_TOTAL: u64 = 2_000_000;
/// Most addresses that are kept of a row, the first ones.
pub const DHT_MAX_ADDRS: usize = 16;

/// Counts the strangers' rows.
const TOTAL: &[u8] = b"dht";
/// Before a stranger's id: counts its rows.
const PER_PEER: &[u8] = b"dht/";
/// Bytes of an expiry in a key.
const EXPIRY_BYTES: usize = 8;

/// The bounds; tests have lower ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct DhtLimits {
    pub(super) per_peer: u64,
    pub(super) per_key: usize,
    pub(super) total: u64,
}

impl Default for DhtLimits {
    fn default() -> Self {
        Self { per_peer: DHT_MAX_PER_PEER, per_key: DHT_MAX_PER_KEY, total: DHT_MAX_TOTAL }
    }
}

/// A row without its key and provider, which are its key.
#[derive(Serialize, Deserialize)]
struct RowRecord {
    expires: Timestamp,
    addrs: Vec<SocketAddr>,
}

impl Record for RowRecord {
    const NAME: &'static str = "dht row";
}

impl RowRecord {
    fn of(self, provider: NodeId, own: bool) -> DhtRow {
        DhtRow { provider, addrs: self.addrs, expires: self.expires, own }
    }
}

impl Catalogue {
    /// Offers a row to the table. A provider has one row a key; offering it again renews it.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`]; what the bounds refuse is a verdict, not an error.
    pub fn dht_add(&self, key: &[u8], row: DhtRow) -> Result<DhtVerdict> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Ok(DhtVerdict::BadKey);
        }
        let limits = self.inner.dht_limits;
        self.change(
            |txn| if row.own { add_own(txn, key, &row) } else { add_stranger(txn, key, &row, &limits) },
        )
    }

    /// The providers of a key: our own first, then the strangers whose rows last beyond `now`, the longest first.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn dht_providers(&self, key: &[u8], now: Timestamp) -> Result<Vec<DhtRow>> {
        let Some(prefix) = key_prefix(key) else { return Ok(Vec::new()) };
        let mut rows = rows_of(self, Cf::DhtOwn, &prefix)?;
        let mut strangers = rows_of(self, Cf::Dht, &prefix)?;
        strangers.retain(|row| row.expires > now);
        strangers.sort_by_key(|row| std::cmp::Reverse(row.expires));
        rows.append(&mut strangers);
        Ok(rows)
    }

    /// Takes a provider's row away, ours or a stranger's; `false` if there was none.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn dht_remove(&self, key: &[u8], provider: &NodeId) -> Result<bool> {
        let Some(prefix) = key_prefix(key) else { return Ok(false) };
        let row_key = row_key(&prefix, provider);
        self.change(|txn| {
            let own = txn.has(Cf::DhtOwn, &row_key)?;
            txn.delete(Cf::DhtOwn, row_key.clone());
            Ok(remove_stranger(txn, &row_key)? || own)
        })
    }

    /// Our own rows sorted by the length of their key, then the key: those after the key `after`; at most `limit`.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn dht_own(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, DhtRow)>> {
        // No provider's id sorts after 32 bytes of 0xff, so this passes every row of the key.
        let after = after.and_then(key_prefix).map(|prefix| [&prefix[..], &[0xff; 32]].concat());
        self.db().page(Cf::DhtOwn, &[], after.as_deref(), limit, |key, value| {
            let (key, provider) = read_row_key(key)?;
            Ok((key.to_vec(), codec::decode::<RowRecord>(value)?.of(provider, true)))
        })
    }

    /// Drops strangers' rows that do not last beyond `now`, the longest expired first; at most `limit`. Returns how
    /// many it dropped.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn dht_expire(&self, now: Timestamp, limit: usize) -> Result<usize> {
        self.change(|txn| {
            let expired = expired_rows(txn, now, limit)?;
            for row_key in &expired {
                remove_stranger(txn, row_key)?;
            }
            Ok(expired.len())
        })
    }

    /// How many rows strangers have here.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn dht_count(&self) -> Result<u64> {
        Ok(self.db().get(Cf::Counters, TOTAL)?.unwrap_or(0))
    }
}

fn rows_of(catalogue: &Catalogue, cf: Cf, prefix: &[u8]) -> Result<Vec<DhtRow>> {
    catalogue.db().page(cf, prefix, None, usize::MAX, |key, value| {
        let (_, provider) = read_row_key(key)?;
        Ok(codec::decode::<RowRecord>(value)?.of(provider, cf == Cf::DhtOwn))
    })
}

fn record(row: &DhtRow) -> RowRecord {
    let addrs = row.addrs.iter().take(DHT_MAX_ADDRS).copied().collect();
    RowRecord { expires: row.expires, addrs }
}

fn add_own(txn: &mut Txn<'_>, key: &[u8], row: &DhtRow) -> Result<DhtVerdict> {
    let Some(prefix) = key_prefix(key) else { return Ok(DhtVerdict::BadKey) };
    let row_key = row_key(&prefix, &row.provider);
    let known = txn.has(Cf::DhtOwn, &row_key)?;
    txn.put(Cf::DhtOwn, row_key, &record(row))?;
    Ok(if known { DhtVerdict::Renewed } else { DhtVerdict::Added })
}

fn add_stranger(txn: &mut Txn<'_>, key: &[u8], row: &DhtRow, limits: &DhtLimits) -> Result<DhtVerdict> {
    let Some(prefix) = key_prefix(key) else { return Ok(DhtVerdict::BadKey) };
    let row_key = row_key(&prefix, &row.provider);
    if let Some(old) = txn.get::<RowRecord>(Cf::Dht, &row_key)? {
        txn.delete(Cf::DhtExpiry, expiry_key(old.expires, &row_key));
        put_row(txn, row_key, row)?;
        return Ok(DhtVerdict::Renewed);
    }
    if count_of(txn, &peer_counter(&row.provider))? >= limits.per_peer {
        return Ok(DhtVerdict::PeerFull);
    }
    let (rows, first_to_go) = survey(txn, &prefix)?;
    let verdict = if rows < limits.per_key {
        if count_of(txn, TOTAL)? >= limits.total {
            return Ok(DhtVerdict::TableFull);
        }
        DhtVerdict::Added
    } else {
        match first_to_go {
            Some((expires, loser)) if expires < row.expires => remove_stranger(txn, &loser)?,
            _ => return Ok(DhtVerdict::KeyFull),
        };
        DhtVerdict::Replaced
    };
    txn.count(TOTAL, 1)?;
    txn.count(&peer_counter(&row.provider), 1)?;
    put_row(txn, row_key, row)?;
    Ok(verdict)
}

fn put_row(txn: &mut Txn<'_>, row_key: Vec<u8>, row: &DhtRow) -> Result<()> {
    txn.put(Cf::DhtExpiry, expiry_key(row.expires, &row_key), &())?;
    txn.put(Cf::Dht, row_key, &record(row))
}

fn remove_stranger(txn: &mut Txn<'_>, row_key: &[u8]) -> Result<bool> {
    let Some(old) = txn.get::<RowRecord>(Cf::Dht, row_key)? else { return Ok(false) };
    let (_, provider) = read_row_key(row_key)?;
    txn.delete(Cf::DhtExpiry, expiry_key(old.expires, row_key));
    txn.delete(Cf::Dht, row_key.to_vec());
    txn.count(TOTAL, -1)?;
    txn.count(&peer_counter(&provider), -1)?;
    Ok(true)
}

/// The row that expires first, by its expiry and its key.
type Soonest = (Timestamp, Vec<u8>);

/// How many strangers' rows a key has, and the one that is nearest to its expiry.
fn survey(txn: &Txn<'_>, prefix: &[u8]) -> Result<(usize, Option<Soonest>)> {
    let (mut rows, mut first) = (0, None::<Soonest>);
    txn.before().scan(Cf::Dht, prefix, prefix, |key, value| {
        rows += 1;
        let expires = codec::decode::<RowRecord>(value)?.expires;
        if first.as_ref().is_none_or(|(soonest, _)| expires < *soonest) {
            first = Some((expires, key.to_vec()));
        }
        Ok(true)
    })?;
    Ok((rows, first))
}

fn expired_rows(txn: &Txn<'_>, now: Timestamp, limit: usize) -> Result<Vec<Vec<u8>>> {
    let mut expired = Vec::new();
    txn.before().scan(Cf::DhtExpiry, &[], &[], |key, _| {
        let (expires, row_key) =
            key.split_first_chunk::<EXPIRY_BYTES>().ok_or_else(|| bad_key("an expiry"))?;
        let over = u64::from_be_bytes(*expires) <= now.0 && expired.len() < limit;
        if over {
            expired.push(row_key.to_vec());
        }
        Ok(over)
    })?;
    Ok(expired)
}

fn count_of(txn: &Txn<'_>, counter: &[u8]) -> Result<u64> {
    Ok(txn.get(Cf::Counters, counter)?.unwrap_or(0))
}

fn peer_counter(provider: &NodeId) -> Vec<u8> {
    [PER_PEER, provider.as_bytes()].concat()
}

/// `length key`: what all rows of one key begin with, and no row of another.
fn key_prefix(key: &[u8]) -> Option<Vec<u8>> {
    let fits = (1..=MAX_KEY_BYTES).contains(&key.len());
    fits.then(|| [&[key.len() as u8], key].concat())
}

fn row_key(prefix: &[u8], provider: &NodeId) -> Vec<u8> {
    [prefix, provider.as_bytes()].concat()
}

fn read_row_key(row_key: &[u8]) -> Result<(&[u8], NodeId)> {
    let read = || {
        let (&len, rest) = row_key.split_first()?;
        let (key, provider) = rest.split_at_checked(usize::from(len))?;
        Some((key, NodeId::from_bytes(provider.try_into().ok()?)))
    };
    read().ok_or_else(|| bad_key("a DHT key and a provider"))
}

fn expiry_key(expires: Timestamp, row_key: &[u8]) -> Vec<u8> {
    [&expires.0.to_be_bytes(), row_key].concat()
}

fn bad_key(what: &str) -> StoreError {
    StoreError::corrupt("dht key", format!("it does not hold {what}"))
}
