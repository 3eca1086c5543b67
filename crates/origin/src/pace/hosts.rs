//! The hosts that an origin leads to (a content network, a store), each with a pace of its own: what one of them asks
//! for is no word of the origin, nor of another.
//!
//! **Invariant:** at most [`MAX_HOSTS`] are remembered, the ones asked last.

use super::{Budget, Switch};

/// Most hosts that are remembered. The Hub leads to some four.
const MAX_HOSTS: usize = 16;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// The origin itself.
    Own,
    /// A host that it leads to, as scheme, name and port.
    Other(String),
}

/// How often one host is asked.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pub(super) switch: Switch,
    /// How it failed last, in a few words.
    pub(super) trouble: String,
    pub(super) budget: Budget,
}

/// The origin's own pace and those of the hosts that it leads to.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    pub(super) own: Pace,
    /// The one that was asked last is at the end.
    others: Vec<(String, Pace)>,
}

impl Hosts {
    /// The pace of `host`; a new one has all of its budget.
    pub(super) fn of(&mut self, host: &Host) -> &mut Pace {
        let Host::Other(name) = host else { return &mut self.own };
        let known = self.others.iter().position(|(known, _)| known == name);
        let entry = match known {
            Some(place) => self.others.remove(place),
            None => (name.clone(), Pace::default()),
        };
        if self.others.len() >= MAX_HOSTS {
            self.others.remove(0);
        }
        self.others.push(entry);
        let last = self.others.len() - 1;
        &mut self.others[last].1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::pace::{Lane, LaneKind};

    const FILES: Lane = Lane { kind: LaneKind::Files, payer: None };

    fn other(i: usize) -> Host {
        Host::Other(format!("https://cdn-{i}.example"))
    }

    #[test]
    fn what_one_host_asks_for_holds_for_that_one() {
        let (mut hosts, now) = (Hosts::default(), Instant::now());
        let wait = hosts.of(&other(1)).budget.refused(FILES, None, Some("50"), now);
        assert_eq!(wait, Duration::from_secs(50));
        assert_eq!(hosts.of(&other(1)).budget.admit(FILES, now), Err(wait));
        for free in [Host::Own, other(2)] {
            assert_eq!(hosts.of(&free).budget.admit(FILES, now), Ok(()), "{free:?}");
        }
    }

    #[test]
    fn hosts_are_bounded_and_the_ones_in_use_stay() {
        let (mut hosts, now) = (Hosts::default(), Instant::now());
        hosts.of(&other(0)).budget.refused(FILES, None, Some("50"), now);
        for i in 0..10 * MAX_HOSTS {
            hosts.of(&other(i));
            assert!(hosts.of(&other(0)).budget.admit(FILES, now).is_err());
            assert!(hosts.others.len() <= MAX_HOSTS);
        }
    }
}
