//! `[names]`: whose word for a name counts.

use hubless_types::NodeId;
use serde::Deserialize;

use super::Unfit;

/// Most keys that may be trusted.
const MAX_TRUSTED: usize = 256;

/// `[names]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NamesConfig {
    /// Nodes whose newest signed statement says which commit `org/name@main` is.
    pub(crate) trusted: Vec<NodeId>,
}

impl NamesConfig {
    pub(super) fn validate(&self) -> Result<(), Unfit> {
        if self.trusted.len() > MAX_TRUSTED {
            return Err(Unfit::new("names.trusted", format!("{} nodes", self.trusted.len())));
        }
        Ok(())
    }
}
