//! Who has a place at a server: so many connections in all, and of one remote address a part of them.
//!
//! A client may pause for minutes in the middle of an answer, as training loops do, or be slow to ask, but not while
//! others stand outside: then whoever has neither asked nor taken anything for longest makes room.
//!
//! **Invariant:** there are never more connections than places, and one remote address never has more than its part.
//! **Not here:** accepting and serving ([`crate::server`]), noticing who takes nothing ([`crate::stall`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// One remote address has one of so many parts of the places. This machine itself may have all: its proxies
/// speak for many.
const ADDRESS_PARTS: usize = 2;
/// Who has neither asked nor taken anything for this long makes room for those who wait outside.
const PRESSED: Duration = Duration::from_secs(10);
/// How often somebody who waits outside looks for one who takes nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bits of an IPv6 address that tell one customer of a provider from another.
const CUSTOMER_BITS: u32 = 64;

/// The places of a server.
#[derive(Clone)]
pub(crate) struct Seats {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    taken: HashMap<u64, Taken>,
}

struct Taken {
    whose: Option<IpAddr>,
    pulse: Pulse,
    end: CancellationToken,
}

/// A place that is taken. Dropping it frees the place.
#[must_use = "dropping it frees the place"]
pub(crate) struct Seat {
    shared: Arc<Shared>,
    id: u64,
    /// Since when it is the client's turn.
    pub(crate) pulse: Pulse,
    /// Cancelled when the place is wanted for another.
    pub(crate) end: CancellationToken,
}

impl Seats {
    /// So many places, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        let shared = Shared { limit: limit.max(1), table: Mutex::default(), freed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// A place for a connection from `remote` (`None`: a local socket); waits until there is one. `None` if that
    /// address has its part already.
    pub(crate) async fn take(&self, remote: Option<IpAddr>) -> Option<Seat> {
        let whose = remote.map(customer).filter(|ip| !ip.is_loopback());
        loop {
            let freed = self.shared.freed.notified();
            {
                let mut table = self.shared.table();
                if whose.is_some() && table.count(whose) >= self.shared.part() {
                    return None;
                }
                if table.taken.len() < self.shared.limit {
                    return Some(self.seat(&mut table, whose));
                }
                table.press();
            }
            let _ = timeout(LOOK_EVERY, freed).await;
        }
    }

    fn seat(&self, table: &mut Table, whose: Option<IpAddr>) -> Seat {
        table.next += 1;
        let (id, pulse, end) = (table.next, Pulse::default(), CancellationToken::new());
        table.taken.insert(id, Taken { whose, pulse: pulse.clone(), end: end.clone() });
        Seat { shared: self.shared.clone(), id, pulse, end }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most places of one remote address.
    fn part(&self) -> usize {
        (self.limit / ADDRESS_PARTS).max(1)
    }
}

impl Table {
    fn count(&self, whose: Option<IpAddr>) -> usize {
        self.taken.values().filter(|taken| taken.whose == whose).count()
    }

    /// Ends the connection whose client has done nothing for longest, if that is long enough.
    fn press(&self) {
        let waiting = self.taken.values().filter(|taken| !taken.end.is_cancelled());
        let longest = waiting.max_by_key(|taken| taken.pulse.still_for());
        if let Some(taken) = longest.filter(|taken| taken.pulse.still_for() >= PRESSED) {
            taken.end.cancel();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.table().taken.remove(&self.id);
        self.shared.freed.notify_one();
    }
}

/// An IPv6 customer has a whole network of addresses: they count as one.
fn customer(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6((v6.to_bits() >> (128 - CUSTOMER_BITS) << (128 - CUSTOMER_BITS)).into())
        }
        other => other,
    }
}

/// How long it has been a client's turn: to ask, or to take what is sent.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    began: Instant,
    /// Milliseconds after `began` at which its turn began, plus one; 0 while it is this node's.
    since: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Self {
        // Whoever connects has to ask first.
        Self { began: Instant::now(), since: Arc::new(AtomicU64::new(1)) }
    }
}

impl Pulse {
    /// The client has asked: it is this node's turn.
    pub(crate) fn asked(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// An answer waits for the client.
    pub(crate) fn waits(&self) {
        let _ = self.since.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The client took something; it is its turn to take more, or to ask again.
    pub(crate) fn took(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    fn still_for(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.began.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: &str) -> Option<IpAddr> {
        Some(ip.parse().unwrap())
    }

    async fn seats(seats: &Seats, ip: &str, count: usize) -> Vec<Seat> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.extend(seats.take(from(ip)).await);
        }
        all
    }

    #[tokio::test]
    async fn one_address_leaves_places_for_others() {
        let all = Seats::new(8);
        let greedy = seats(&all, "203.0.113.7", 20).await;
        assert_eq!(greedy.len(), 4);
        // Its neighbours in the same network of IPv6 are one customer, those of IPv4 are not.
        let v6 = [seats(&all, "2001:db8::1", 3).await, seats(&all, "2001:db8::2", 1).await];
        assert_eq!(v6.iter().map(Vec::len).sum::<usize>(), 4);
        drop(greedy);
        assert_eq!(seats(&all, "::ffff:203.0.113.7", 4).await.len(), 4);
    }

    #[tokio::test]
    async fn this_machine_may_have_all() {
        let all = Seats::new(8);
        assert_eq!(seats(&all, "127.0.0.1", 8).await.len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_makes_room_for_who_waits() {
        let all = Seats::new(2);
        let (busy, still) = (all.take(None).await.unwrap(), all.take(None).await.unwrap());
        busy.pulse.asked();
        let began = Instant::now();
        let leaves = async {
            still.end.cancelled().await;
            drop(still);
        };
        let (third, ()) = tokio::join!(all.take(None), leaves);
        assert!(third.is_some() && !busy.end.is_cancelled());
        assert!(
            began.elapsed() >= PRESSED && began.elapsed() < PRESSED + 2 * LOOK_EVERY,
            "{:?}",
            began.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_away_while_there_is_room() {
        let all = Seats::new(2);
        let still = all.take(None).await.unwrap();
        tokio::time::sleep(Duration::from_secs(300)).await;
        let _second = all.take(None).await.unwrap();
        assert!(!still.end.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_now_and_then_keeps_its_place() {
        let all = Seats::new(1);
        let slow = all.take(None).await.unwrap();
        let reads = async {
            for _ in 0..10 {
                slow.pulse.waits();
                tokio::time::sleep(PRESSED / 2).await;
                slow.pulse.took();
            }
            assert!(!slow.end.is_cancelled());
            drop(slow);
        };
        let (second, ()) = tokio::join!(all.take(None), reads);
        assert!(second.is_some());
    }
}
