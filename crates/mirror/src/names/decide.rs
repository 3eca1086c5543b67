//! Decides what a name means from all that is known of it. Pure: no clock, disk or network.
//!
//! In this order, the first that says anything: who publishes the repository, where that is this node or one named
//! for this very request; the origin; as many witnesses as must agree; a publisher who is trusted; what was seen or
//! accepted here last. A statement older than what was seen here says nothing, unless it says the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use hubless_store::{RefRecord, RefSource};
use hubless_types::{CommitId, NodeId, Statement, Timestamp};

use super::ResolvedBy;
use crate::Said;

/// A statement from further ahead than this is refused, in seconds: a clock set wrong, or a signer who wants
/// its word to be the newest for ever.
pub(crate) const MAX_AHEAD_SECS: u64 = 24 * 3600;

/// What an origin said of a name just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sight {
    /// The origin's address.
    pub(crate) origin: String,
    /// Where the name points.
    pub(crate) commit: CommitId,
    /// When it said so.
    pub(crate) seen: Timestamp,
}

/// All that is known of one name.
pub(crate) struct Question<'a> {
    /// What an origin said, if one answered.
    pub(crate) origin: Option<&'a Sight>,
    /// Where the name pointed when this node last looked.
    pub(crate) local: Option<&'a RefRecord>,
    /// What is said of it; every signature was checked.
    pub(crate) statements: &'a [Statement],
    /// This node.
    pub(crate) me: NodeId,
    /// Nodes named for this very request.
    pub(crate) asked: &'a [NodeId],
    /// Nodes whose word alone counts.
    pub(crate) trusted: &'a [NodeId],
    /// Nodes of which `threshold` must agree on what they saw at an origin.
    pub(crate) witnesses: &'a [NodeId],
    /// How many witnesses must agree; at least 1.
    pub(crate) threshold: usize,
    /// The present moment.
    pub(crate) now: Timestamp,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The name means this, on this word; the record is what is known here from now on.
    Is(RefRecord, ResolvedBy),
    /// Enough witnesses speak, and too few of them agree; all that is said, newest first.
    Split(Vec<Said>),
    /// Only strangers, or too few witnesses, say something; newest first.
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
    let words = newest_words(question);
    let is_own = question.local.is_some_and(|l| l.by == RefSource::Published);
    if is_own || !question.asked.is_empty() {
        let counts = |s: &Statement| question.asked.contains(&s.signer) || is_own && question.counts(s);
        let said = words.iter().copied().filter(|s| s.body.origin.is_none() && counts(s));
        if let Some(answer) = question.single(said) {
            return answer;
        }
    }
    if is_own && let Some(local) = question.local {
        return Answer::Is(local.clone(), ResolvedBy::Publisher(question.me));
    }
    if let Some(sight) = question.origin {
        let by = RefSource::Origin(sight.origin.clone());
        let record = RefRecord { commit: sight.commit, seen: sight.seen, by };
        return Answer::Is(record, ResolvedBy::Origin(sight.origin.clone()));
    }
    match question.witnessed(&words) {
        Verdict::Is(answer) => return answer,
        Verdict::Split => return Answer::Split(list(&words)),
        Verdict::TooFew => {}
    }
    if let Some(answer) = question.single(words.iter().copied().filter(|s| question.counts(s))) {
        return answer;
    }
    match question.local {
        Some(local) => question.last_seen(local),
        None if words.is_empty() => Answer::Unknown,
        None => Answer::Untrusted(list(&words)),
    }
}

enum Verdict {
    Is(Answer),
    Split,
    TooFew,
}

impl Question<'_> {
    /// Whether the signer's word alone counts.
    fn counts(&self, statement: &Statement) -> bool {
        let signer = &statement.signer;
        *signer == self.me || self.trusted.contains(signer) || self.asked.contains(signer)
    }

    /// Whether it says more than what was seen here: it is newer, or says the same. A cache that was taken over
    /// tells when that was done, not when its names were seen.
    fn tells(&self, statement: &Statement) -> bool {
        let body = &statement.body;
        self.local.is_none_or(|l| body.seen > l.seen || body.commit == l.commit || l.by == RefSource::Adopted)
    }

    /// The newest word of one of those whose word alone counts.
    fn single<'s>(&self, said: impl Iterator<Item = &'s Statement>) -> Option<Answer> {
        let best = said.filter(|s| self.tells(s)).min_by_key(|s| (Reverse(s.body.seen), s.signer))?;
        let same = self.local.filter(|l| l.commit == best.body.commit && l.seen >= best.body.seen);
        Some(Answer::Is(same.cloned().unwrap_or_else(|| record(best)), self.word_of(best)))
    }

    fn word_of(&self, statement: &Statement) -> ResolvedBy {
        match statement.body.origin {
            None => ResolvedBy::Publisher(statement.signer),
            // What this node itself saw at an origin before is what was last seen here.
            Some(_) if statement.signer == self.me => {
                let by = self.local.map_or(RefSource::Statement(self.me), |l| l.by.clone());
                ResolvedBy::LastSeen { by }
            }
            Some(_) => ResolvedBy::Witnesses { agree: 1, of: 1 },
        }
    }

    /// The newest commit that enough witnesses saw. A commit is as new as the oldest of the newest `threshold`
    /// words for it: none of those who are needed can make it newer alone.
    fn witnessed(&self, words: &[&Statement]) -> Verdict {
        let heard = words
            .iter()
            .copied()
            .filter(|s| s.body.origin.is_some() && self.witnesses.contains(&s.signer) && self.tells(s));
        // Repositories of one name at two origins are two: words for one are none for the other.
        let mut by_commit: BTreeMap<(Option<&str>, CommitId), Vec<&Statement>> = BTreeMap::new();
        let mut speakers: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for statement in heard {
            let origin = statement.body.origin.as_deref();
            *speakers.entry(origin).or_default() += 1;
            by_commit.entry((origin, statement.body.commit)).or_default().push(statement);
        }
        let threshold = self.threshold.max(1);
        let supported = by_commit.into_values().filter_map(|mut said| {
            said.sort_by_key(|s| (Reverse(s.body.seen), s.signer));
            Some((said.get(threshold - 1)?.body.seen, said))
        });
        match supported.min_by_key(|(seen, said)| (Reverse(*seen), said[0].body.commit)) {
            Some((seen, said)) => Verdict::Is(self.agreed(seen, &said)),
            None if speakers.values().any(|n| *n >= threshold) => Verdict::Split,
            None => Verdict::TooFew,
        }
    }

    fn agreed(&self, seen: Timestamp, said: &[&Statement]) -> Answer {
        let (agree, of) = (said.len(), self.witnesses.len());
        let commit = said[0].body.commit;
        let same = self.local.filter(|l| l.commit == commit && l.seen >= seen);
        let by = RefSource::Witnesses { agree: small(agree), of: small(of) };
        let record = same.cloned().unwrap_or(RefRecord { commit, seen, by });
        Answer::Is(record, ResolvedBy::Witnesses { agree, of })
    }

    /// What was accepted on the word of one who still counts is that one's word.
    fn last_seen(&self, local: &RefRecord) -> Answer {
        Answer::Is(local.clone(), ResolvedBy::LastSeen { by: local.by.clone() })
    }
}

/// Witnesses are few: their number was checked where it was set.
fn small(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// The newest timely word of each signer, whoever passed it on.
fn newest_words<'a>(question: &Question<'a>) -> Vec<&'a Statement> {
    let mut words: Vec<&Statement> =
        question.statements.iter().filter(|s| is_timely(s, question.now)).collect();
    words.sort_by_key(|s| (Reverse(s.body.seen), s.signer, s.body.commit));
    let mut heard = HashSet::new();
    words.retain(|s| heard.insert(s.signer));
    words
}

fn record(statement: &Statement) -> RefRecord {
    let body = &statement.body;
    RefRecord { commit: body.commit, seen: body.seen, by: RefSource::Statement(statement.signer) }
}

/// Newest first.
fn list(words: &[&Statement]) -> Vec<Said> {
    words.iter().map(|s| Said { by: s.signer, commit: s.body.commit, seen: s.body.seen }).collect()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
