//! `hubless`: a node that keeps, fetches and serves models and datasets without depending on any one host.
//!
//! **Invariant:** only this crate reads arguments, environment and signals, and only this crate prints.
//! **Not here:** decisions (`mirror`), protocols (`discovery`, `transfer`, `gateway`).

mod admin;
mod cli;
mod commands;
mod config;
mod env;
mod error;
mod exit;
mod key;
mod logging;
mod output;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main().into()
}
