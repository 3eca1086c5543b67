//! Names that were looked up a moment ago, so that a burst of requests asks nobody and reads no disk.
//!
//! An answer is given again for [`FRESH_FOR`]. Until [`STALE_FOR`] it is given at once as well, while the name is
//! looked up anew behind it; after that whoever asks waits. Names of private repositories are never here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hubless_types::{NodeId, RepoId, Revision};
use tokio::time::Instant;

use super::Resolved;
use crate::MirrorError;

/// How long an answer is good for the same question.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(3);
/// How long an answer is given while a newer one is looked for.
pub(crate) const STALE_FOR: Duration = Duration::from_secs(15);
/// Repositories whose names are remembered.
const MAX_REPOS: usize = 4096;
/// Names of one repository that are remembered.
const MAX_NAMES: usize = 16;

/// Names that were looked up a moment ago.
#[derive(Default)]
pub(crate) struct Memory(HashMap<RepoId, Vec<Row>>);

struct Row {
    revision: Revision,
    asked: Vec<NodeId>,
    outcome: Outcome,
    at: Instant,
    renewing: bool,
}

/// When others were last asked in the background.
#[derive(Default)]
pub(crate) struct Exchanged {
    /// Peers, for the statements of a repository.
    pub(crate) statements: Asked,
    /// Its origin, for what a former name stands for.
    pub(crate) renames: Asked,
}

/// When something of each repository was last asked.
#[derive(Default)]
pub(crate) struct Asked(HashMap<RepoId, Instant>);

impl Asked {
    pub(crate) fn is_due(&self, repo: &RepoId, every: Duration) -> bool {
        self.0.get(repo).is_none_or(|at| at.elapsed() >= every)
    }

    pub(crate) fn note(&mut self, repo: &RepoId) {
        if self.0.len() >= MAX_REPOS && !self.0.contains_key(repo) {
            self.0.clear();
        }
        self.0.insert(repo.clone(), Instant::now());
    }
}

/// What came of a look.
#[derive(Clone)]
pub(crate) enum Outcome {
    Is(Resolved),
    /// For those alone who waited for this very look.
    Failed(Arc<MirrorError>),
}

/// What is remembered of a name.
pub(crate) enum Remembered {
    /// It is this.
    Fresh(Resolved),
    /// It was this a moment ago; the one who is told `true` looks it up anew.
    Stale(Resolved, bool),
    Nothing,
}

impl Memory {
    /// The name, if it was looked up lately for somebody who takes the same nodes' word.
    pub(crate) fn recall(&mut self, repo: &RepoId, revision: &Revision, asked: &[NodeId]) -> Remembered {
        let Some(row) = self.row(repo, revision, asked) else { return Remembered::Nothing };
        let (age, Outcome::Is(resolved)) = (row.at.elapsed(), &row.outcome) else {
            return Remembered::Nothing;
        };
        if age < FRESH_FOR {
            Remembered::Fresh(resolved.clone())
        } else if age < STALE_FOR {
            let resolved = resolved.clone();
            Remembered::Stale(resolved, !std::mem::replace(&mut row.renewing, true))
        } else {
            Remembered::Nothing
        }
    }

    /// What came of a look that ended after `since`: whoever began to wait then need not look again.
    pub(crate) fn since(
        &mut self,
        repo: &RepoId,
        revision: &Revision,
        asked: &[NodeId],
        since: Instant,
    ) -> Option<Outcome> {
        self.row(repo, revision, asked).filter(|row| row.at >= since).map(|row| row.outcome.clone())
    }

    pub(crate) fn remember(
        &mut self,
        repo: &RepoId,
        revision: &Revision,
        asked: &[NodeId],
        outcome: Outcome,
    ) {
        if self.0.len() >= MAX_REPOS && !self.0.contains_key(repo) {
            self.0.retain(|_, rows| rows.iter().any(|row| row.at.elapsed() < FRESH_FOR));
            if self.0.len() >= MAX_REPOS {
                self.0.clear();
            }
        }
        let rows = self.0.entry(repo.clone()).or_default();
        rows.retain(|row| !row.is_of(revision, asked));
        if rows.len() >= MAX_NAMES {
            rows.remove(0);
        }
        let (revision, asked, at) = (revision.clone(), asked.to_vec(), Instant::now());
        rows.push(Row { revision, asked, outcome, at, renewing: false });
    }

    /// The names of `repo` are other ones now, or more is known of them.
    pub(crate) fn forget(&mut self, repo: &RepoId) {
        self.0.remove(repo);
        // Those that were asked for by another name of the same repository.
        self.0.retain(|_, rows| {
            !rows.iter().any(|row| matches!(&row.outcome, Outcome::Is(resolved) if resolved.repo == *repo))
        });
    }

    /// A look behind an answer came to nothing: the next one may try.
    pub(crate) fn renewal_failed(&mut self, repo: &RepoId, revision: &Revision, asked: &[NodeId]) {
        if let Some(row) = self.row(repo, revision, asked) {
            row.renewing = false;
        }
    }

    fn row(&mut self, repo: &RepoId, revision: &Revision, asked: &[NodeId]) -> Option<&mut Row> {
        self.0.get_mut(repo)?.iter_mut().find(|row| row.is_of(revision, asked))
    }
}

impl Row {
    fn is_of(&self, revision: &Revision, asked: &[NodeId]) -> bool {
        self.revision == *revision && self.asked == asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResolvedBy;
    use hubless_types::{CommitId, Timestamp};

    fn is(repo: &RepoId) -> Outcome {
        Outcome::Is(Resolved {
            repo: repo.clone(),
            commit: CommitId::from_bytes([1; 20]),
            by: ResolvedBy::Commit,
            seen: Timestamp(0),
            age: 0,
            fork: None,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_fresh_then_stale_then_gone() {
        let (mut memory, repo, main) = (Memory::default(), "a/b".parse().unwrap(), Revision::main());
        memory.remember(&repo, &main, &[], is(&repo));
        assert!(matches!(memory.recall(&repo, &main, &[]), Remembered::Fresh(_)));
        assert!(matches!(memory.recall(&repo, &main, &[NodeId::from_bytes([1; 32])]), Remembered::Nothing));
        tokio::time::advance(FRESH_FOR).await;
        assert!(matches!(memory.recall(&repo, &main, &[]), Remembered::Stale(_, true)));
        assert!(matches!(memory.recall(&repo, &main, &[]), Remembered::Stale(_, false)), "one looks");
        memory.renewal_failed(&repo, &main, &[]);
        assert!(matches!(memory.recall(&repo, &main, &[]), Remembered::Stale(_, true)));
        tokio::time::advance(STALE_FOR).await;
        assert!(matches!(memory.recall(&repo, &main, &[]), Remembered::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_for_those_who_waited() {
        let (mut memory, repo, main) = (Memory::default(), "a/b".parse().unwrap(), Revision::main());
        let before = Instant::now();
        memory.remember(&repo, &main, &[], Outcome::Failed(Arc::new(MirrorError::Stopped)));
        assert!(matches!(memory.recall(&repo, &main, &[]), Remembered::Nothing));
        assert!(memory.since(&repo, &main, &[], before).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(memory.since(&repo, &main, &[], Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_and_forgets_by_every_name() {
        let (mut memory, main) = (Memory::default(), Revision::main());
        for n in 0..=MAX_REPOS {
            let repo = format!("a/r{n}").parse().unwrap();
            memory.remember(&repo, &main, &[], is(&repo));
        }
        assert!(memory.0.len() <= MAX_REPOS);
        let (old, new) = ("a/old".parse().unwrap(), "a/new".parse().unwrap());
        memory.remember(&old, &main, &[], is(&new));
        memory.forget(&new);
        assert!(matches!(memory.recall(&old, &main, &[]), Remembered::Nothing));
    }
}
