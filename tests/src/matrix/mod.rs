//! The client matrix: real clients, each doing what it can do, through a node.
//!
//! A *cell* is one client doing one operation: a small program under `tests/clients` that ends with `ok`. It is handed
//! the folder that the repositories were made of, and compares what it got with what is there.

mod cells;
mod fixture;
mod run;
mod table;

pub use cells::{Cell, Operation, all};
pub use fixture::Fixture;
pub use run::{Failure, run_all, run_killed};
pub use table::{readme_table, render, replace};
