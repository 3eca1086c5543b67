//! What packets cost beside the bytes that they carry: headers, seals, acknowledgements, what is sent again, questions.
//!
//! Who pays for a connection by the byte pays for these too, so they count as bytes of the month; no rate holds them back.
//! QUIC counts its datagrams; what its streams carried is taken off. The system does not tell as much of TCP: the headers
//! of a bulk line are reckoned from what it carried, and what is sent again on it is left out.
//!
//! **Not here:** what the DHT sends (`discovery`): it is not counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::endpoint::Connection;
use tokio::time::interval;

use crate::stats::PeerBytes;
use crate::transfer::Shared;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a datagram's own IP and UDP headers take, over IPv4.
const DATAGRAM_BYTES: u64 = 28;
/// What a TCP segment carries in an Ethernet frame.
const SEGMENT_BYTES: u64 = 1448;
/// Its IP and TCP headers, over IPv4, with timestamps. An acknowledgement is these alone.
const SEGMENT_HEADERS: u64 = 52;
/// Segments that one acknowledgement is sent for.
const SEGMENTS_PER_ACK: u64 = 2;

/// The connections that are looked at: no more than there may be.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<Watched>>);

#[derive(Debug)]
struct Watched {
    connection: Connection,
    seen: Wire,
}

/// Bytes in packets.
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

    /// What went in datagrams since the last look.
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

/// What TCP adds to what bulk lines carried.
const fn headers(carried: PeerBytes) -> Wire {
    let (up, down) = (carried.up.div_ceil(SEGMENT_BYTES), carried.down.div_ceil(SEGMENT_BYTES));
    Wire {
        up: (up + down / SEGMENTS_PER_ACK) * SEGMENT_HEADERS,
        down: (down + up / SEGMENTS_PER_ACK) * SEGMENT_HEADERS,
    }
}

/// Bytes in datagrams less those that streams carried, each counted once. What is handed to a stream and still waits for its
/// packet makes it look smaller than it is: it is made up for later.
#[derive(Debug, Default)]
struct Beside {
    wire: u64,
    counted: u64,
}

impl Beside {
    /// What is to be counted now, after `more` bytes in datagrams and `carried` bytes in streams since the beginning.
    fn due(&mut self, more: u64, carried: u64) -> u64 {
        self.wire += more;
        let due = self.wire.saturating_sub(carried).saturating_sub(self.counted);
        self.counted += due;
        due
    }
}

/// Both directions.
#[derive(Debug, Default)]
struct Books {
    up: Beside,
    down: Beside,
    /// What was counted for bulk lines.
    headers: Wire,
}

impl Books {
    /// What is to be counted now, after `more` bytes in datagrams, and since the beginning `carried` bytes, of which `lines`
    /// went over bulk lines and in no datagram.
    fn due(&mut self, more: Wire, carried: PeerBytes, lines: PeerBytes) -> Wire {
        let (before, headers) = (self.headers, headers(lines));
        self.headers = headers;
        let up = self.up.due(more.up, carried.up.saturating_sub(lines.up));
        let down = self.down.due(more.down, carried.down.saturating_sub(lines.down));
        Wire { up: up + headers.up - before.up, down: down + headers.down - before.down }
    }
}

/// Counts until the node stops.
pub(crate) async fn audit(shared: Arc<Shared>) {
    let mut books = Books::default();
    let mut ticks = interval(LOOK_EVERY);
    while shared.cancel.run_until_cancelled(ticks.tick()).await.is_some() {
        // All that is carried last: what goes meanwhile counts late rather than twice.
        let (more, lines) = (shared.ledger.more(), shared.lines.carried());
        let due = books.due(more, shared.counters.read().0, lines);
        shared.limits.up().count(due.up);
        shared.limits.down().count(due.down);
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

    #[test]
    fn what_lines_carry_costs_headers_and_hides_nothing_of_what_quic_costs() {
        let mut books = Books::default();
        let lines = PeerBytes { up: 1000 * SEGMENT_BYTES, down: 100 * SEGMENT_BYTES };
        let carried = PeerBytes { up: lines.up + 900, down: lines.down + 40 };
        let due = books.due(Wire { up: 1000, down: 50 }, carried, lines);
        assert_eq!(due, Wire { up: 100 + 1050 * SEGMENT_HEADERS, down: 10 + 600 * SEGMENT_HEADERS });
        assert_eq!(books.due(Wire::default(), carried, lines), Wire::default(), "each once");
        let carried = PeerBytes { up: carried.up + 5000, ..carried };
        assert_eq!(books.due(Wire { up: 5300, down: 80 }, carried, lines), Wire { up: 300, down: 80 });
    }
}
