//! What is said of a repository beside its files.

use crate::Timestamp;

/// Who may read a repository's content; what lets fewer in is greater.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everyone.
    #[default]
    Open,
    /// Whoever accepted the terms; granted at once.
    GatedAuto,
    /// Whoever the owner let in.
    GatedManual,
    /// Those who may know of it at all.
    Private,
}

impl Access {
    /// Whether content may be served to anyone, announced and given to peers.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open)
    }
}

/// What an origin, or the card in a repository's own `README.md`, says of a repository. A hub's word; nothing here
/// is proven.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RepoFacts {
    /// Who may read its content.
    pub access: Access,
    /// Labels: `license:mit`, `text-generation`, `region:us`, …
    pub tags: Vec<String>,
    /// The task, such as `text-generation`.
    pub pipeline_tag: Option<String>,
    /// The library that loads it, such as `transformers`.
    pub library_name: Option<String>,
    /// The front matter of its `README.md`, as JSON text.
    pub card: Option<String>,
    /// Downloads in the last 30 days, by the hub's count.
    pub downloads: u64,
    /// Likes, by the hub's count.
    pub likes: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub modified: Timestamp,
}
