//! What names mean: on whose word, how old it is, and whether a name moved somewhere else.
//!
//! **Invariants:** deciding ([`decide`]) is pure; what an origin or a signer says is kept with the time at which it
//! was so, and nothing older displaces it; a name of a private repository is neither kept nor told to peers.
//! **Not here:** speaking HTTP to an origin (`origin`), checking signatures (`proof`).

pub(crate) mod decide;
mod descent;
mod elsewhere;
mod fork;
mod listed;
mod memory;
mod peers;
mod prove;
mod renamed;
mod report;
mod sight;
mod words;

pub(crate) use listed::Lists;
pub(crate) use memory::{Exchanged, Memory, Outcome, Remembered};
pub(crate) use peers::{EXCHANGES_AT_ONCE, Heard};
pub(crate) use sight::{Told, is_absent};

pub use report::{MoveReport, NameReport, NamesReport, Role, Word};
pub use words::{Fork, ForkKind, Resolved, ResolvedBy, age_text};
