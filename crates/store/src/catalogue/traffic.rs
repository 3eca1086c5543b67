//! Bytes of the month, for caps that outlive a restart.

use super::Catalogue;
use super::codec::Record;
use super::db::Cf;
use crate::error::Result;

/// The one row's key among the counters.
const KEY: &[u8] = b"traffic";

/// What went through in a calendar month of the machine's local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TrafficRecord {
    /// The year.
    pub year: i16,
    /// The month, 1 to 12.
    pub month: i8,
    /// Bytes to other nodes.
    pub up: u64,
    /// Bytes from other nodes and from origins.
    pub down: u64,
    /// Of these, from origins.
    pub origin: u64,
}

impl Record for TrafficRecord {
    const NAME: &'static str = "traffic";
}

impl Catalogue {
    /// What was counted last.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn traffic(&self) -> Result<Option<TrafficRecord>> {
        self.db().get(Cf::Counters, KEY)
    }

    /// Keeps what is counted now.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_traffic(&self, record: &TrafficRecord) -> Result<()> {
        self.change(|txn| txn.put(Cf::Counters, KEY.to_vec(), record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture;
    use super::*;

    #[test]
    fn the_last_count_is_kept_beside_the_other_counters() {
        let f = fixture();
        assert_eq!(f.catalogue.traffic().unwrap(), None);
        for bytes in [1, u64::MAX] {
            let record = TrafficRecord { year: 2026, month: 11, up: bytes, down: 2, origin: 3 };
            f.catalogue.put_traffic(&record).unwrap();
            assert_eq!(f.catalogue.traffic().unwrap(), Some(record));
        }
        assert_eq!(f.catalogue.scheduled_count().unwrap(), 0);
    }
}
