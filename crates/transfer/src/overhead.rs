//! What packets cost beside the bytes that streams carry: headers, seals, acknowledgements, what is sent again, questions.
//!
//! Lines that are paid by the byte are paid for these too, so they count as bytes of the month; no rate holds them back.
//! QUIC counts its datagrams; what streams carried is taken off.
//!
//! **Not here:** what the DHT sends (`discovery`): it is not counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::endpoint::Connection;
use tokio::time::interval;

use crate::transfer::Shared;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a datagram's own IP and UDP headers take, over IPv4.
const DATAGRAM_BYTES: u64 = 28;

/// The connections that are looked at: no more than there may be.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<Watched>>);

#[derive(Debug)]
struct Watched {
    connection: Connection,
    seen: Wire,
}

/// Bytes on the line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Wire {
    up: u64,
    down: u64,
}

impl Ledger {
    /// Looks at `connection` until it is closed.
    pub(crate) fn watch(&self, connection: &Connection) {
        let watched = Watched { connection: connection.clone(), seen: Wire::default() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
    }

    /// What went over the line since the last look.
    fn more(&self) -> Wire {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut more = Wire::default();
        for watched in all.iter_mut() {
            let now = wire(&watched.connection);
            more.up += now.up.saturating_sub(watched.seen.up);
            more.down += now.down.saturating_sub(watched.seen.down);
            watched.seen = now;
        }
        all.retain(|watched| watched.connection.close_reason().is_none());
        more
    }
}

fn wire(connection: &Connection) -> Wire {
    let stats = connection.stats();
    Wire {
        up: stats.udp_tx.bytes + stats.udp_tx.datagrams * DATAGRAM_BYTES,
        down: stats.udp_rx.bytes + stats.udp_rx.datagrams * DATAGRAM_BYTES,
    }
}

/// Bytes on the line less those that streams carried, each counted once. What is handed to a stream and still waits for its
/// packet makes it look smaller than it is: it is made up for later.
#[derive(Debug, Default)]
struct Beside {
    wire: u64,
    counted: u64,
}

impl Beside {
    /// What is to be counted now, after `more` bytes on the line and `carried` bytes in streams since the beginning.
    fn due(&mut self, more: u64, carried: u64) -> u64 {
        self.wire += more;
        let due = self.wire.saturating_sub(carried).saturating_sub(self.counted);
        self.counted += due;
        due
    }
}

/// Counts until the node stops.
pub(crate) async fn audit(shared: Arc<Shared>) {
    let (mut up, mut down) = (Beside::default(), Beside::default());
    let mut ticks = interval(LOOK_EVERY);
    while shared.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
        let (more, carried) = (shared.ledger.more(), shared.counters.read().0);
        shared.limits.up().count(up.due(more.up, carried.up));
        shared.limits.down().count(down.due(more.down, carried.down));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_is_counted_once_and_late_rather_than_twice() {
        let mut beside = Beside::default();
        assert_eq!(beside.due(1000, 900), 100);
        assert_eq!(beside.due(0, 900), 0);
        assert_eq!(beside.due(1000, 5000), 0, "much waits for its packets");
        assert_eq!(beside.due(3300, 5000), 200);
        assert_eq!(beside.due(0, 5000), 0);
    }
}
