//! What a long request tells while it runs.

use hubless_types::RepoPath;

/// Room in the queue that a caller should give; progress is dropped, never waited for, when it is full.
pub const PROGRESS_QUEUE: usize = 64;

/// Where progress goes: send never waits, so a slow reader only misses some.
pub type ProgressSink = tokio::sync::mpsc::Sender<Progress>;

/// One thing that happened, or how far it is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Progress {
    /// Something a person may want to know.
    Note {
        /// What.
        text: String,
    },
    /// How much there is to do.
    Total {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// How much is done.
    Bytes {
        /// Bytes done, of [`Progress::Total`].
        done: u64,
        /// Bytes by source: a node's short id, `origin`, `here` for what was held already, or
        /// `disk` for what is added.
        from: Vec<(String, u64)>,
        /// Bytes a second, over the last few seconds.
        rate: u64,
    },
    /// A file is whole and proven.
    File {
        /// Which.
        path: RepoPath,
        /// Its length in bytes.
        bytes: u64,
    },
}
