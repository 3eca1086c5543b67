//! The DHT's provider records: what strangers say they hold, and what this node itself provides.
//!
//! **Invariant:** strangers fill at most [`DHT_MAX_TOTAL`] rows, each of them [`DHT_MAX_PER_PEER`], and each key
//! has at most [`DHT_MAX_PER_KEY`] of their rows. Rows of our own lie apart: they count against none of these, no
//! stranger displaces them, and they stay until they are removed.
//! **Not here:** whether a provider is real: keys of nodes cost nothing. That is why a full table refuses new rows
//! rather than drop old ones, and why the first [`DHT_SEATS`] rows of a key stay while they are renewed: who was there
//! before a flood can renew through it. The places beyond those go round among newcomers; and of one subnet of the open
//! internet a key has at most [`DHT_MAX_PER_SUBNET`] rows.

use std::net::{IpAddr, SocketAddr};

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
/// Of a key's rows so many, those that came first, are not displaced before they expire.
pub const DHT_SEATS: usize = 48;
/// Most of a key's rows whose first address is in the same subnet of the open internet (24 bits; 48 of IPv6).
pub const DHT_MAX_PER_SUBNET: usize = 8;
/// Most strangers' rows in all; about 250 bytes each on disk.
pub const DHT_MAX_TOTAL: u64 = 2_000_000;
/// Most addresses that are kept of a row, the first ones.
pub const DHT_MAX_ADDRS: usize = 16;

/// Counts the strangers' rows.
const TOTAL: &[u8] = b"dht";
/// Counts the rows that strangers ever placed.
const ARRIVALS: &[u8] = b"dht-arrivals";
/// Before a stranger's id: counts its rows.
const PER_PEER: &[u8] = b"dht/";
/// Bytes of an expiry in a key.
const EXPIRY_BYTES: usize = 8;

/// The bounds; tests have lower ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct DhtLimits {
    pub(super) per_peer: u64,
    pub(super) per_key: usize,
    pub(super) seats: usize,
    pub(super) total: u64,
}

impl Default for DhtLimits {
    fn default() -> Self {
        Self { per_peer: DHT_MAX_PER_PEER, per_key: DHT_MAX_PER_KEY, seats: DHT_SEATS, total: DHT_MAX_TOTAL }
    }
}

/// A row without its key and provider, which are its key.
#[derive(Serialize, Deserialize)]
struct RowRecord {
    expires: Timestamp,
    addrs: Vec<SocketAddr>,
    /// The row's number among all that ever came: the lower, the longer it has been here.
    arrival: u64,
}

/// As it was before rows were numbered.
#[derive(Serialize, Deserialize)]
struct RowRecordV1 {
    expires: Timestamp,
    addrs: Vec<SocketAddr>,
}

impl Record for RowRecord {
    const NAME: &'static str = "dht row";
    const VERSION: u8 = 2;

    fn upgrade(version: u8, body: &[u8]) -> Option<Self> {
        let old: RowRecordV1 = (version == 1).then(|| codec::parse(body).ok()).flatten()?;
        Some(Self { expires: old.expires, addrs: old.addrs, arrival: 0 })
    }
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

    /// [`Catalogue::dht_add`] of the same row under many keys, in one go.
    ///
    /// # Errors
    /// As [`Catalogue::dht_add`]; then no key has it.
    pub fn dht_add_many(&self, keys: &[Vec<u8>], row: &DhtRow) -> Result<Vec<DhtVerdict>> {
        let limits = self.inner.dht_limits;
        self.change(|txn| {
            let add = |key: &Vec<u8>| match key.len() {
                1..=MAX_KEY_BYTES if row.own => add_own(txn, key, row),
                1..=MAX_KEY_BYTES => add_stranger(txn, key, row, &limits),
                _ => Ok(DhtVerdict::BadKey),
            };
            keys.iter().map(add).collect()
        })
    }

    /// [`Catalogue::dht_remove`] of a provider's rows of many keys, in one go; how many there were.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn dht_remove_many(&self, keys: &[Vec<u8>], provider: &NodeId) -> Result<u64> {
        self.change(|txn| {
            let mut gone = 0;
            for prefix in keys.iter().filter_map(|key| key_prefix(key)) {
                gone += u64::from(remove(txn, &row_key(&prefix, provider))?);
            }
            Ok(gone)
        })
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
        self.change(|txn| remove(txn, &row_key))
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

fn remove(txn: &mut Txn<'_>, row_key: &[u8]) -> Result<bool> {
    let own = txn.has(Cf::DhtOwn, row_key)?;
    txn.delete(Cf::DhtOwn, row_key.to_vec());
    Ok(remove_stranger(txn, row_key)? || own)
}

fn record(row: &DhtRow, arrival: u64) -> RowRecord {
    let addrs = row.addrs.iter().take(DHT_MAX_ADDRS).copied().collect();
    RowRecord { expires: row.expires, addrs, arrival }
}

fn add_own(txn: &mut Txn<'_>, key: &[u8], row: &DhtRow) -> Result<DhtVerdict> {
    let Some(prefix) = key_prefix(key) else { return Ok(DhtVerdict::BadKey) };
    let row_key = row_key(&prefix, &row.provider);
    let known = txn.has(Cf::DhtOwn, &row_key)?;
    txn.put(Cf::DhtOwn, row_key, &record(row, 0))?;
    Ok(if known { DhtVerdict::Renewed } else { DhtVerdict::Added })
}

fn add_stranger(txn: &mut Txn<'_>, key: &[u8], row: &DhtRow, limits: &DhtLimits) -> Result<DhtVerdict> {
    let Some(prefix) = key_prefix(key) else { return Ok(DhtVerdict::BadKey) };
    let row_key = row_key(&prefix, &row.provider);
    if let Some(old) = txn.get::<RowRecord>(Cf::Dht, &row_key)? {
        txn.delete(Cf::DhtExpiry, expiry_key(old.expires, &row_key));
        put_row(txn, row_key, row, old.arrival)?;
        return Ok(DhtVerdict::Renewed);
    }
    if count_of(txn, &peer_counter(&row.provider))? >= limits.per_peer {
        return Ok(DhtVerdict::PeerFull);
    }
    let survey = survey(txn, &prefix, row, limits)?;
    if survey.neighbours >= DHT_MAX_PER_SUBNET {
        return Ok(DhtVerdict::KeyFull);
    }
    let verdict = if survey.rows < limits.per_key {
        if count_of(txn, TOTAL)? >= limits.total {
            return Ok(DhtVerdict::TableFull);
        }
        DhtVerdict::Added
    } else {
        match survey.first_to_go {
            Some((expires, loser)) if expires < row.expires => remove_stranger(txn, &loser)?,
            _ => return Ok(DhtVerdict::KeyFull),
        };
        DhtVerdict::Replaced
    };
    txn.count(TOTAL, 1)?;
    txn.count(&peer_counter(&row.provider), 1)?;
    let arrival = txn.count(ARRIVALS, 1)?;
    put_row(txn, row_key, row, arrival)?;
    Ok(verdict)
}

fn put_row(txn: &mut Txn<'_>, row_key: Vec<u8>, row: &DhtRow, arrival: u64) -> Result<()> {
    txn.put(Cf::DhtExpiry, expiry_key(row.expires, &row_key), &())?;
    txn.put(Cf::Dht, row_key, &record(row, arrival))
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

/// What a key has already.
struct Survey {
    /// Strangers' rows.
    rows: usize,
    /// Of them, those in the newcomer's subnet of the open internet.
    neighbours: usize,
    /// Of those that came after the seats were taken, the one nearest to its expiry.
    first_to_go: Option<Soonest>,
}

fn survey(txn: &Txn<'_>, prefix: &[u8], newcomer: &DhtRow, limits: &DhtLimits) -> Result<Survey> {
    let subnet = newcomer.addrs.first().and_then(subnet);
    let (mut rows, mut neighbours) = (Vec::new(), 0);
    txn.before().scan(Cf::Dht, prefix, prefix, |key, value| {
        let row = codec::decode::<RowRecord>(value)?;
        neighbours += usize::from(subnet.is_some() && row.addrs.first().and_then(self::subnet) == subnet);
        rows.push((row.arrival, row.expires, key.to_vec()));
        Ok(true)
    })?;
    rows.sort_unstable();
    let standing = rows.iter().skip(limits.seats).map(|(_, expires, key)| (*expires, key.clone()));
    Ok(Survey { rows: rows.len(), neighbours, first_to_go: standing.min() })
}

/// The subnet of a public address, as 48 bits; `None` for addresses that are used again and again in private networks.
fn subnet(addr: &SocketAddr) -> Option<[u8; 6]> {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_private() || ip.is_link_local() => None,
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Some([0, 0, 0, a, b, c])
        }
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() => None,
        IpAddr::V6(ip) => ip.octets()[..6].try_into().ok(),
    }
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
