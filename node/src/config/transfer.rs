//! `[transfer]`: how bytes are passed between nodes.

use serde::Deserialize;

use super::Unfit;

/// Most uploads that may be allowed; each reads and sends pieces of 256 KiB.
const MAX_UPLOAD_SLOTS: usize = 1_000;

/// `[transfer]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TransferSection {
    /// Most segments sent to other nodes at once.
    pub(crate) upload_slots: usize,
    /// Whether long pieces go over TCP where that works.
    pub(crate) bulk: bool,
    /// The TCP port for them; 0 takes any free one.
    pub(crate) bulk_port: u16,
}

impl Default for TransferSection {
    fn default() -> Self {
        Self { upload_slots: 16, bulk: true, bulk_port: 0 }
    }
}

impl TransferSection {
    pub(super) fn validate(&self) -> Result<(), Unfit> {
        if !(1..=MAX_UPLOAD_SLOTS).contains(&self.upload_slots) {
            return Err(Unfit::new("transfer.upload_slots", self.upload_slots.to_string()));
        }
        Ok(())
    }
}
