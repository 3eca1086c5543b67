//! The way from a command to the running node: HTTP over the Unix socket in its data folder.
//!
//! **Not here:** answering (`gateway`).

mod client;
mod socket;

pub(crate) use client::{AdminClient, done_line};
pub(crate) use socket::{ListeningSocket, SocketError, connect};
