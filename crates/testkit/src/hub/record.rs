//! What a stand-in hub was asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Most requests that are remembered; later ones are counted only.
const MAX_RECORDS: usize = 100_000;

/// Which of its two hosts was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortOf {
    /// The hub itself.
    Hub,
    /// The content network.
    Content,
}

/// As whom somebody asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Without a token.
    Nobody,
    /// With this one.
    Token(String),
}

/// A request, and what became of it so far.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Which host was asked.
    pub port: PortOf,
    /// As whom.
    pub who: Who,
    /// `GET`, …
    pub method: String,
    /// The path with its query, as it was sent.
    pub target: String,
    /// All headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The status that was answered; 0 before that.
    pub status: u16,
    /// Bytes of the answer's body that were handed to the connection so far.
    pub sent: u64,
}

impl Recorded {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Records {
    list: Mutex<Vec<Arc<Record>>>,
    bytes: Arc<AtomicU64>,
}

/// One of them, still growing.
pub(crate) struct Record {
    asked: Recorded,
    status: AtomicU64,
    sent: AtomicU64,
    all: Arc<AtomicU64>,
}

impl Record {
    pub(crate) fn answered(&self, status: u16) {
        self.status.store(status.into(), Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Records {
    pub(crate) fn add(&self, asked: Recorded) -> Arc<Record> {
        let all = self.bytes.clone();
        let record = Arc::new(Record { asked, status: AtomicU64::new(0), sent: AtomicU64::new(0), all });
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < MAX_RECORDS {
            list.push(record.clone());
        }
        record
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |record: &Arc<Record>| Recorded {
            status: record.status.load(Ordering::Relaxed) as u16,
            sent: record.sent.load(Ordering::Relaxed),
            ..record.asked.clone()
        };
        list.iter().map(shown).collect()
    }

    pub(crate) fn clear(&self) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
