//! Packs: how git's objects travel.

mod write;

pub use write::{PackKind, PackWriter};
