//! What is said of a name: its commit, on whose word, and how old that word is.

use std::fmt;

use hubless_store::RefSource;
use hubless_types::{CommitId, NodeId, RepoId, Timestamp};
use serde::Serialize;

/// On whose word a name means its commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolvedBy {
    /// An origin says so now (or said so a moment ago), by its address.
    Origin(String),
    /// Nodes that the operator, or the user for this request, chose as witnesses: so many of them saw it at an origin.
    Witnesses {
        /// How many say this commit.
        agree: usize,
        /// How many were chosen.
        of: usize,
    },
    /// Who publishes the repository; this node itself, where it was added here.
    Publisher(NodeId),
    /// Nobody who counts says anything newer than what was seen or accepted here before.
    LastSeen {
        /// Who said so then.
        by: RefSource,
    },
    /// The commit itself was asked for: that needs nobody's word.
    Commit,
}

/// A ref that moved to a commit which does not descend from the former one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Fork {
    /// Where it pointed before.
    pub from: CommitId,
    /// Where it pointed then.
    pub to: CommitId,
    /// When that was seen.
    pub seen: Timestamp,
    /// What is known of the two.
    pub kind: ForkKind,
}

/// What the commits that are held here tell of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForkKind {
    /// Neither descends from the other: history was written anew.
    Diverged,
    /// The name went back to an ancestor.
    RolledBack,
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The repository by the name that its origin uses now: it may have been renamed.
    pub repo: RepoId,
    /// The commit.
    pub commit: CommitId,
    /// On whose word.
    pub by: ResolvedBy,
    /// When that was seen so.
    pub seen: Timestamp,
    /// How long ago that was, in seconds.
    pub age: u64,
    /// The newest move of this name, of late, to a commit that does not descend from the former.
    pub fork: Option<Fork>,
}

impl Resolved {
    /// A commit id: nobody has to say anything.
    pub(crate) fn commit(repo: RepoId, commit: CommitId, seen: Timestamp) -> Self {
        Self { repo, commit, by: ResolvedBy::Commit, seen, age: 0, fork: None }
    }

    /// On whose word, as `X-Hubless-Resolved-By` and people are told: `origin https://…`, `witnesses 2/3`,
    /// `publisher 12D3…`, `last seen 3 h ago`.
    pub fn by_text(&self) -> String {
        match &self.by {
            ResolvedBy::Origin(name) => format!("origin {name}"),
            ResolvedBy::Witnesses { agree, of } => format!("witnesses {agree}/{of}"),
            ResolvedBy::Publisher(node) => format!("publisher {node}"),
            ResolvedBy::LastSeen { .. } => format!("last seen {} ago", age_text(self.age)),
            ResolvedBy::Commit => "commit".to_owned(),
        }
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.kind {
            ForkKind::Diverged => "does not descend from",
            ForkKind::RolledBack => "is an ancestor of",
        };
        write!(f, "{} {how} {}, where the name pointed before", self.to, self.from)
    }
}

/// Seconds as people say them: `40 s`, `5 min`, `3 h`, `12 d`.
pub fn age_text(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_named_as_the_header_has_it() {
        let name = |by| Resolved {
            repo: "a/b".parse().unwrap(),
            commit: CommitId::from_bytes([1; 20]),
            by,
            seen: Timestamp(0),
            age: 3 * 3600,
            fork: None,
        };
        let node = NodeId::from_bytes([1; 32]);
        assert_eq!(name(ResolvedBy::Origin("https://x".into())).by_text(), "origin https://x");
        assert_eq!(name(ResolvedBy::Witnesses { agree: 2, of: 3 }).by_text(), "witnesses 2/3");
        assert_eq!(name(ResolvedBy::Publisher(node)).by_text(), format!("publisher {node}"));
        assert_eq!(name(ResolvedBy::LastSeen { by: RefSource::Adopted }).by_text(), "last seen 3 h ago");
        assert_eq!([0, 119, 120, 7_200, 172_800].map(age_text), ["0 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
