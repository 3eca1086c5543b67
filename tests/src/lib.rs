//! What the stories share: real `hubless` processes, the real Python clients, and folders of random files.
//!
//! Every process gets ports that are free and folders that go away with the test; only processes that the test
//! itself started are ever signalled.
//!
//! Run them with `scripts/test`, which builds the binary and makes the Python environment first.

mod clients;
mod files;
mod home;
mod http;
mod line;
pub mod matrix;
mod node;
mod wire;

use std::path::PathBuf;

pub use clients::Python;
pub use files::{MIB, Tree, random_bytes, same_files};
pub use home::{Home, Outcome, hubless_binary};
pub use http::{Answer, get, get_as, get_range, head};
pub use line::Line;
pub use node::{Node, RunOptions};
pub use wire::{Wire, WireCount, WireOptions};

/// The folder of this crate in the checkout whose tests run. Cargo says it as it starts a test: what a test was built with
/// may be another checkout that shares its target folder.
pub fn crate_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// What a story returns.
pub type StoryResult = anyhow::Result<()>;

/// Exit codes, as `hubless --help` lists them.
pub mod exit {
    /// Unusable input.
    pub const USAGE: i32 = 2;
    /// Not found.
    pub const NOT_FOUND: i32 = 3;
    /// A name whose sayers are not trusted.
    pub const UNTRUSTED: i32 = 4;
    /// No source, or no running node.
    pub const UNAVAILABLE: i32 = 5;
    /// Bytes are not what they should be.
    pub const INTEGRITY: i32 = 6;
    /// Busy or locked.
    pub const BUSY: i32 = 8;
}
