//! What goes wrong with a stand-in hub.

use std::time::Duration;

/// Which answers a fault is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    #[default]
    All,
    /// Bytes of files: `resolve`, `raw` and the content network.
    Content,
    /// The content network alone.
    Network,
    /// JSON.
    Api,
    /// Git's smart HTTP.
    Git,
}

impl Scope {
    /// Whether an answer of kind `other` falls under it.
    pub(crate) fn covers(self, other: Self) -> bool {
        self == Self::All || self == other || (self == Self::Content && other == Self::Network)
    }
}

/// What goes wrong with a [`Hub`](super::Hub). The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct HubFaults {
    /// Which answers the faults are about.
    pub on: Scope,
    /// The byte at this offset of every file is wrong (ranges included); of other answers, of the body.
    pub wrong_byte_at: Option<u64>,
    /// The connection breaks after this many bytes of a body.
    pub cut_after: Option<u64>,
    /// A body ends properly after this many bytes, with a length that fits: too short, and nothing shows it.
    pub shorten_to: Option<u64>,
    /// A body goes no further after this many bytes; the connection stays.
    pub stall_after: Option<u64>,
    /// Bytes a second of each body.
    pub bytes_per_second: Option<u64>,
    /// How long every answer waits.
    pub delay: Option<Duration>,
    /// Answers redirect (302) to this address; `{url}` stands for the hub's own and the request's, so that it loops.
    pub redirect_to: Option<String>,
    /// Answers are this refusal.
    pub refuse: Option<Refusal>,
    /// Ranges are ignored: whole files with 200.
    pub no_ranges: bool,
}

/// A refusal with a body.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Headers beside `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Refusal {
    /// A status with some HTML, as a proxy or a firewall sends.
    pub fn page(status: u16) -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/html".to_owned())];
        Self { status, headers, body: format!("<html><h1>{status}</h1></html>").into_bytes() }
    }

    /// A status with a line of JSON and no code, as a gateway on the way sends.
    pub fn json(status: u16) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: format!(r#"{{"message":"sorry, {status}"}}"#).into_bytes() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What a hub says it still answers: `RateLimit: "resolvers";r=…;t=…`. At 0 it answers 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Requests left; each answer takes one.
    pub left: u64,
    /// Seconds until there are more, as it says; a test sets them itself.
    pub window: u64,
}
