//! `[names]`: whose word for a name counts.

use std::collections::HashSet;

use hubless_types::NodeId;
use serde::Deserialize;

use super::Unfit;

/// Most keys that may be trusted.
const MAX_TRUSTED: usize = 256;
/// Most witnesses.
const MAX_WITNESSES: usize = 64;

/// `[names]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NamesConfig {
    /// Nodes whose newest signed statement says which commit `org/name@main` is.
    pub(crate) trusted: Vec<NodeId>,
    /// Nodes that are believed about what they saw at an origin, if `threshold` of them agree.
    pub(crate) witnesses: Vec<NodeId>,
    /// How many of them must agree; more than half if left out.
    pub(crate) threshold: Option<usize>,
}

impl NamesConfig {
    /// How many witnesses must agree.
    pub(crate) fn threshold(&self) -> usize {
        self.threshold.unwrap_or(self.witnesses.len() / 2 + 1)
    }

    pub(super) fn validate(&self) -> Result<(), Unfit> {
        if self.trusted.len() > MAX_TRUSTED {
            return Err(Unfit::new("names.trusted", format!("{} nodes", self.trusted.len())));
        }
        let witnesses = self.witnesses.len();
        if witnesses > MAX_WITNESSES {
            return Err(Unfit::new("names.witnesses", format!("{witnesses} nodes")));
        }
        // One node must not count twice.
        if self.witnesses.iter().collect::<HashSet<_>>().len() < witnesses {
            return Err(Unfit::new("names.witnesses", "a list that names a node twice"));
        }
        match self.threshold {
            Some(0) => Err(Unfit::new("names.threshold", "0")),
            // With none of them too: whoever writes a threshold relies on it.
            Some(n) if n > witnesses => Err(Unfit::new("names.threshold", format!("{n} of {witnesses}"))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(witnesses: &[u8], threshold: Option<usize>) -> NamesConfig {
        let witnesses = witnesses.iter().map(|n| NodeId::from_bytes([*n; 32])).collect();
        NamesConfig { witnesses, threshold, ..NamesConfig::default() }
    }

    #[test]
    fn more_than_half_must_agree_if_nothing_is_said() {
        let thresholds = [&[1][..], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4]].map(|w| config(w, None).threshold());
        assert_eq!(thresholds, [1, 2, 2, 3]);
    }

    #[test]
    fn a_threshold_can_be_reached() {
        assert!(config(&[1, 2, 3], Some(3)).validate().is_ok());
        assert!(config(&[1, 2, 3], Some(4)).validate().is_err());
        assert!(config(&[], Some(3)).validate().is_err(), "nobody could ever reach it");
        assert!(config(&[], None).validate().is_ok());
        assert!(config(&[1, 2], Some(0)).validate().is_err());
        assert!(config(&[1, 1], None).validate().is_err(), "one node is one voice");
    }
}
