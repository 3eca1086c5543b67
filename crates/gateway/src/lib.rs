//! What users' tools talk to: the Hub-compatible endpoint over TCP and the admin API over a Unix socket.
//!
//! Requests are parsed once at the edge (`address`, `range`, `query`), answered by one file a route
//! family (`routes`, `admin`) and leave with the headers that Hub clients look for.
//!
//! **Invariant:** nothing a client sends makes a panic or a 500; whatever is refused says why in
//! `X-Error-Code`, `X-Error-Message` and JSON (what hyper cannot read, because it is no HTTP or its head is beyond
//! all bounds, is refused by its status alone). A body that cannot be completed is cut, never padded.
//! **Not here:** any decision about what is known, trusted or fetched (`mirror`); disk; peers.

mod address;
mod admin;
mod answer;
mod app;
mod auth;
mod body;
mod chat_template;
mod config;
mod cors;
mod gguf;
mod head;
mod host;
mod incoming;
mod lingering;
mod paging;
mod query;
mod range;
mod revision;
mod routes;
mod seats;
mod server;
mod stall;
mod xorb;

pub use admin::{Reload, ReloadRefused, Reloaded, admin_router};
pub use app::router;
pub use config::GatewayConfig;
pub use server::{serve_admin, serve_http};
