//! Decides what a name means from all that is known of it. Pure: no clock, disk or network.
//!
//! What this node published, adopted or accepted before counts, and so do statements signed by this node or by
//! those whom its operator chose; the newest wins. A signer's older word never displaces its newer one, since
//! all of them compete by time and what was accepted once stays among them.

use hubless_store::{RefRecord, RefSource};
use hubless_types::{NodeId, Statement, Timestamp};

use crate::Said;

/// A statement from further ahead than this is refused, in seconds: a clock set wrong, or a signer who wants
/// its word to be the newest for ever.
pub(crate) const MAX_AHEAD_SECS: u64 = 24 * 3600;

/// All that is known of one name.
pub(crate) struct Question<'a> {
    /// Where it pointed when this node last looked.
    pub(crate) local: Option<&'a RefRecord>,
    /// What is said of it; every signature was checked.
    pub(crate) statements: &'a [Statement],
    /// Whose statements count.
    pub(crate) allowed: &'a [NodeId],
    /// The present moment.
    pub(crate) now: Timestamp,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The name means this.
    Is(RefRecord),
    /// Only strangers say something; newest first.
    Untrusted(Vec<Said>),
    /// Nobody says anything.
    Unknown,
}

/// Whether a statement's time can be true.
pub(crate) fn is_timely(statement: &Statement, now: Timestamp) -> bool {
    statement.body.seen <= now.plus(MAX_AHEAD_SECS)
}

/// Answers `question`. At equal times what is known here stays, then the lowest signer wins: all nodes agree.
pub(crate) fn decide(question: &Question<'_>) -> Answer {
    let timely = || question.statements.iter().filter(|s| is_timely(s, question.now));
    let best = timely()
        .filter(|s| question.allowed.contains(&s.signer))
        .min_by_key(|s| (std::cmp::Reverse(s.body.seen), s.signer));
    match (question.local, best) {
        (Some(local), Some(best)) if best.body.seen > local.seen => Answer::Is(record(best)),
        (Some(local), _) => Answer::Is(local.clone()),
        (None, Some(best)) => Answer::Is(record(best)),
        (None, None) => said(timely()),
    }
}

fn record(statement: &Statement) -> RefRecord {
    let body = &statement.body;
    RefRecord { commit: body.commit, seen: body.seen, by: RefSource::Statement(statement.signer) }
}

fn said<'a>(statements: impl Iterator<Item = &'a Statement>) -> Answer {
    let mut said: Vec<Said> =
        statements.map(|s| Said { by: s.signer, commit: s.body.commit, seen: s.body.seen }).collect();
    said.sort_by_key(|s| (std::cmp::Reverse(s.seen), s.by));
    // Several peers relay one signer's word; its newest is what it says.
    let mut seen = std::collections::HashSet::new();
    said.retain(|s| seen.insert(s.by));
    if said.is_empty() { Answer::Unknown } else { Answer::Untrusted(said) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::{CommitId, PublicSignature, Revision, StatementBody};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn says(signer: u8, commit: u8, seen: u64) -> Statement {
        let body = StatementBody {
            repo: "acme/tiny".parse().unwrap(),
            revision: Revision::main(),
            commit: CommitId::from_bytes([commit; 20]),
            origin: None,
            seen: Timestamp(seen),
            links: None,
        };
        Statement { body, signer: node(signer), signature: PublicSignature([0; 64]) }
    }

    fn here(commit: u8, seen: u64, by: RefSource) -> RefRecord {
        RefRecord { commit: CommitId::from_bytes([commit; 20]), seen: Timestamp(seen), by }
    }

    fn ask(local: Option<&RefRecord>, statements: &[Statement], allowed: &[NodeId]) -> Answer {
        decide(&Question { local, statements, allowed, now: NOW })
    }

    fn commit_of(answer: Answer) -> u8 {
        match answer {
            Answer::Is(record) => record.commit.as_bytes()[0],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_newest_trusted_word_wins() {
        let said = [says(1, 1, 10), says(2, 2, 30), says(3, 3, 99)];
        assert_eq!(commit_of(ask(None, &said, &[node(1), node(2)])), 2);
        let published = here(9, 50, RefSource::Published);
        assert_eq!(commit_of(ask(Some(&published), &said, &[node(1), node(2)])), 9);
        assert_eq!(commit_of(ask(Some(&published), &said, &[node(3)])), 3);
    }

    #[test]
    fn an_old_word_does_not_take_a_name_back() {
        let accepted = here(5, 50, RefSource::Statement(node(1)));
        assert_eq!(commit_of(ask(Some(&accepted), &[says(1, 4, 40)], &[node(1)])), 5);
        assert_eq!(commit_of(ask(Some(&accepted), &[says(1, 4, 50)], &[node(1)])), 5);
        assert_eq!(commit_of(ask(Some(&accepted), &[], &[])), 5);
    }

    #[test]
    fn nobody_speaks_from_the_future() {
        let ahead = says(1, 7, NOW.0 + MAX_AHEAD_SECS + 1);
        assert_eq!(ask(None, std::slice::from_ref(&ahead), &[node(1)]), Answer::Unknown);
        let soon = says(1, 7, NOW.0 + MAX_AHEAD_SECS);
        assert_eq!(commit_of(ask(None, &[ahead, soon], &[node(1)])), 7);
    }

    #[test]
    fn strangers_are_listed_once_each_newest_first() {
        let answer = ask(None, &[says(1, 1, 10), says(2, 2, 30), says(1, 3, 20)], &[node(9)]);
        let Answer::Untrusted(said) = answer else { panic!("{answer:?}") };
        assert_eq!(said.iter().map(|s| s.commit.as_bytes()[0]).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(ask(None, &[], &[]), Answer::Unknown);
    }
}
