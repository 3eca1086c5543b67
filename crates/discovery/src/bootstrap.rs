//! When the nodes to join by are dialled: at once, then ever less often while there is nobody, and now and then
//! even with company, so that a part of the network that was split off finds back.

use std::time::{Duration, Instant};

use hubless_types::PeerAddr;

/// First wait after a try that brought nobody.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between tries while there is nobody.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Of the nodes that were known before a restart so many are dialled at a time.
const KNOWN_AT_ONCE: usize = 8;
/// Wait between tries while there is company.
const REJOIN_WAIT: Duration = Duration::from_secs(5 * 60);

/// Tells when to dial, given the time and whether there is company. Reads no clock of its own.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    peers: Vec<PeerAddr>,
    /// Nodes that were known before the last restart, dialled only while there is nobody.
    known: Vec<PeerAddr>,
    tries: u32,
    last: Option<Instant>,
}

impl Bootstrap {
    pub(crate) fn new(peers: Vec<PeerAddr>, known: Vec<PeerAddr>) -> Self {
        Self { peers, known, tries: 0, last: None }
    }

    /// Whether there is anybody to join by.
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.known.is_empty()
    }

    /// The nodes to join by, if it is time to dial them. `spread` (0 to 1) lengthens the wait by up to a fifth,
    /// so that many nodes that lost one peer do not come back in step.
    pub(crate) fn due(&mut self, now: Instant, company: bool, spread: f64) -> Option<Vec<PeerAddr>> {
        if company {
            self.tries = 0;
        }
        let wait = self.wait(company).mul_f64(1.0 + spread.clamp(0.0, 1.0) / 5.0);
        if self.is_empty() || self.last.is_some_and(|last| now.duration_since(last) < wait) {
            return None;
        }
        self.last = Some(now);
        self.tries = self.tries.saturating_add(1);
        let known = if company { 0 } else { self.known.len().min(KNOWN_AT_ONCE) };
        let due = self.peers.iter().chain(&self.known[..known]).cloned().collect();
        // Another time it is others' turn.
        self.known.rotate_left(known);
        Some(due)
    }

    fn wait(&self, company: bool) -> Duration {
        if company {
            return REJOIN_WAIT;
        }
        let doublings = self.tries.saturating_sub(1).min(10);
        (FIRST_WAIT * 2u32.pow(doublings)).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::NodeId;

    fn one() -> Bootstrap {
        Bootstrap::new(peers(1), Vec::new())
    }

    fn peers(count: u8) -> Vec<PeerAddr> {
        let peer = |n| PeerAddr::new(NodeId::from_bytes([n; 32]), "10.0.0.1:1".parse().unwrap());
        (0..count).map(peer).collect()
    }

    /// The moments (ms from the start) at which a node alone dials within `span`.
    fn alone(span: Duration) -> Vec<u64> {
        let (mut boot, start) = (one(), Instant::now());
        let steps = 0..span.as_millis() as u64 / 100;
        let moments = steps.map(|n| n * 100);
        moments.filter(|ms| boot.due(start + Duration::from_millis(*ms), false, 0.0).is_some()).collect()
    }

    #[test]
    fn a_node_alone_tries_for_ever_and_ever_less_often() {
        let tries = alone(Duration::from_secs(600));
        assert_eq!(tries[..5], [0, 500, 1_500, 3_500, 7_500]);
        let last: Vec<u64> = tries.windows(2).map(|w| w[1] - w[0]).collect();
        assert_eq!(last.last(), Some(&60_000));
    }

    #[test]
    fn company_makes_it_rare_and_its_loss_quick_again() {
        let (mut boot, start) = (one(), Instant::now());
        assert!(boot.due(start, false, 0.0).is_some());
        assert!(boot.due(start + Duration::from_secs(60), true, 0.0).is_none());
        assert!(boot.due(start + Duration::from_secs(301), true, 0.0).is_some());
        assert!(boot.due(start + Duration::from_secs(303), false, 1.0).is_some());
    }

    #[test]
    fn nobody_to_join_by_is_never_due() {
        assert!(Bootstrap::new(Vec::new(), Vec::new()).due(Instant::now(), false, 0.0).is_none());
    }

    /// Nodes from before a restart are tried a few at a time, all in turn, and left alone once there is company.
    #[test]
    fn old_acquaintances_are_tried_in_turn_while_there_is_nobody() {
        let (mut boot, start) = (Bootstrap::new(Vec::new(), peers(12)), Instant::now());
        let first = boot.due(start, false, 0.0).unwrap();
        let second = boot.due(start + Duration::from_secs(1), false, 0.0).unwrap();
        assert_eq!((first.len(), second.len()), (KNOWN_AT_ONCE, KNOWN_AT_ONCE));
        assert!(peers(12).iter().all(|peer| first.contains(peer) || second.contains(peer)));
        assert_eq!(boot.due(start + Duration::from_secs(400), true, 0.0), Some(Vec::new()));
    }
}
