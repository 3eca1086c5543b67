//! Git's packs: many objects in one stream, some of them as differences from others (gitformat-pack).

mod delta;
mod read;
mod write;

pub use read::{MAX_DELTA_DEPTH, ObjectKind, PackLimits, PackObject, peek_object, read_pack};
pub use write::{PackKind, PackWriter};
