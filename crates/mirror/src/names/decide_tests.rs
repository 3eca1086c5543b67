//! Who is believed, in which order, and what cannot take a name back.

use super::*;
use hubless_types::{PublicSignature, Revision, StatementBody};

const NOW: Timestamp = Timestamp(1_000_000);
const ME: u8 = 200;

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn nodes(ns: &[u8]) -> Vec<NodeId> {
    ns.iter().copied().map(node).collect()
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

/// What a node saw at an origin.
fn saw(signer: u8, commit: u8, seen: u64) -> Statement {
    let mut statement = says(signer, commit, seen);
    statement.body.origin = Some("https://hub".into());
    statement
}

fn here(commit: u8, seen: u64, by: RefSource) -> RefRecord {
    RefRecord { commit: CommitId::from_bytes([commit; 20]), seen: Timestamp(seen), by }
}

/// One question, in parts.
#[derive(Clone, Copy, Default)]
struct Ask<'a> {
    origin: Option<u8>,
    local: Option<&'a RefRecord>,
    said: &'a [Statement],
    asked: &'a [u8],
    trusted: &'a [u8],
    witnesses: &'a [u8],
    threshold: usize,
}

impl Ask<'_> {
    fn answer(&self) -> Answer {
        let sight = self.origin.map(|commit| Sight {
            origin: "https://hub".into(),
            commit: CommitId::from_bytes([commit; 20]),
            seen: NOW,
        });
        decide(&Question {
            origin: sight.as_ref(),
            local: self.local,
            statements: self.said,
            me: node(ME),
            asked: &nodes(self.asked),
            trusted: &nodes(self.trusted),
            witnesses: &nodes(self.witnesses),
            threshold: self.threshold,
            now: NOW,
        })
    }

    /// The commit and the word that count.
    fn is(&self) -> (u8, ResolvedBy) {
        match self.answer() {
            Answer::Is(record, by) => (record.commit.as_bytes()[0], by),
            other => panic!("{other:?}"),
        }
    }

    fn commit(&self) -> u8 {
        self.is().0
    }
}

fn witnesses(agree: usize, of: usize) -> ResolvedBy {
    ResolvedBy::Witnesses { agree, of }
}

#[test]
fn the_newest_trusted_word_wins() {
    let said = [says(1, 1, 10), says(2, 2, 30), says(3, 3, 99)];
    let ask = Ask { said: &said, trusted: &[1, 2], ..Ask::default() };
    assert_eq!(ask.is(), (2, ResolvedBy::Publisher(node(2))));
    let published = here(9, 50, RefSource::Published);
    let ask = Ask { local: Some(&published), ..ask };
    assert_eq!(ask.is(), (9, ResolvedBy::Publisher(node(ME))));
    assert_eq!(Ask { trusted: &[3], ..ask }.commit(), 3);
}

#[test]
fn what_was_added_here_is_not_an_origins_to_say() {
    let published = here(9, 50, RefSource::Published);
    let ask = Ask { local: Some(&published), origin: Some(7), ..Ask::default() };
    assert_eq!(ask.is(), (9, ResolvedBy::Publisher(node(ME))));
}

#[test]
fn an_origin_comes_before_witnesses_and_publishers() {
    let said = [saw(1, 1, 10), saw(2, 1, 20), says(3, 3, 99)];
    let ask = Ask { said: &said, trusted: &[3], witnesses: &[1, 2], threshold: 2, ..Ask::default() };
    assert_eq!(Ask { origin: Some(7), ..ask }.is(), (7, ResolvedBy::Origin("https://hub".into())));
    assert_eq!(ask.is(), (1, witnesses(2, 2)));
    assert_eq!(Ask { threshold: 3, ..ask }.is(), (3, ResolvedBy::Publisher(node(3))), "too few speak");
    let asked = Ask { origin: Some(7), asked: &[3], ..ask };
    assert_eq!(asked.is(), (3, ResolvedBy::Publisher(node(3))), "named for this very request");
}

/// Two hubs may have repositories of one name: who saw one says nothing of the other.
#[test]
fn witnesses_of_two_origins_do_not_agree_nor_contradict() {
    let mut elsewhere = saw(2, 1, 20);
    elsewhere.body.origin = Some("https://other".into());
    let said = [saw(1, 1, 10), elsewhere];
    let ask = Ask { said: &said, witnesses: &[1, 2, 3], threshold: 2, ..Ask::default() };
    assert!(matches!(ask.answer(), Answer::Untrusted(_)), "one at each is not two of anything");
    let said = [said[0].clone(), said[1].clone(), saw(3, 1, 15)];
    assert_eq!(Ask { said: &said, ..ask }.is(), (1, witnesses(2, 3)));
}

#[test]
fn the_newest_commit_that_enough_witnesses_saw_counts() {
    let said = [saw(1, 1, 10), saw(2, 1, 20), saw(3, 2, 30), saw(4, 2, 15), saw(5, 3, 99)];
    let ask = Ask { said: &said, witnesses: &[1, 2, 3, 4, 5], threshold: 2, ..Ask::default() };
    assert_eq!(ask.is(), (2, witnesses(2, 5)), "seen by two at 15 or later, the other at 10");
    assert_eq!(Ask { threshold: 1, ..ask }.is(), (3, witnesses(1, 5)));
    let Answer::Split(list) = (Ask { threshold: 3, ..ask }).answer() else { panic!("nobody has three") };
    assert_eq!(list.len(), 5);
    assert_eq!(list[0], Said { by: node(5), commit: CommitId::from_bytes([3; 20]), seen: Timestamp(99) });
}

#[test]
fn one_witness_is_one_voice_however_often_it_speaks() {
    let said = [saw(1, 1, 10), saw(1, 2, 20), saw(1, 2, 30), saw(2, 1, 5)];
    let ask = Ask { said: &said, witnesses: &[1, 2], threshold: 2, ..Ask::default() };
    assert!(matches!(ask.answer(), Answer::Split(list) if list.len() == 2));
}

#[test]
fn what_a_witness_publishes_itself_is_no_witness() {
    let said = [says(1, 1, 10), says(2, 1, 20)];
    let ask = Ask { said: &said, witnesses: &[1, 2], threshold: 1, ..Ask::default() };
    assert!(matches!(ask.answer(), Answer::Untrusted(_)));
}

#[test]
fn witnesses_that_saw_it_before_this_node_did_take_nothing_back() {
    let local = here(5, 50, RefSource::Origin("https://hub".into()));
    let old = [saw(1, 4, 40), saw(2, 4, 45), saw(3, 5, 20)];
    let ask = Ask { local: Some(&local), said: &old, witnesses: &[1, 2, 3], threshold: 2, ..Ask::default() };
    let last = ResolvedBy::LastSeen { by: local.by.clone() };
    assert_eq!(ask.is(), (5, last));
    let newer = [saw(1, 6, 60), saw(2, 6, 70), saw(3, 5, 20)];
    assert_eq!(Ask { said: &newer, ..ask }.is(), (6, witnesses(2, 3)));
    let same = [saw(1, 5, 40), saw(2, 5, 45)];
    assert_eq!(Ask { said: &same, ..ask }.is(), (5, witnesses(2, 3)));
    let Answer::Is(kept, _) = (Ask { said: &same, ..ask }).answer() else { panic!("they agree") };
    assert_eq!(kept, local, "what was seen here is the newer sight");
}

#[test]
fn witnesses_that_contradict_each_other_settle_nothing() {
    let local = here(5, 50, RefSource::Origin("https://hub".into()));
    let said = [saw(1, 6, 60), saw(2, 7, 61)];
    let ask = Ask { local: Some(&local), said: &said, witnesses: &[1, 2], threshold: 2, ..Ask::default() };
    assert!(matches!(ask.answer(), Answer::Split(_)));
    assert_eq!(Ask { said: &said[..1], ..ask }.commit(), 5, "one alone is too few");
}

#[test]
fn an_old_word_does_not_take_a_name_back() {
    let accepted = here(5, 50, RefSource::Statement(node(1)));
    let (older, same_time) = ([says(1, 4, 40)], [says(1, 4, 50)]);
    let ask = Ask { local: Some(&accepted), said: &older, trusted: &[1], ..Ask::default() };
    assert_eq!(ask.commit(), 5);
    assert_eq!(Ask { said: &same_time, ..ask }.commit(), 5);
    assert_eq!(Ask { said: &older, trusted: &[], asked: &[1], ..ask }.commit(), 5);
    assert_eq!(Ask { said: &[], ..ask }.is(), (5, ResolvedBy::LastSeen { by: accepted.by.clone() }));
}

#[test]
fn nobody_speaks_from_the_future() {
    let ahead = [says(1, 7, NOW.0 + MAX_AHEAD_SECS + 1)];
    let ask = Ask { said: &ahead, trusted: &[1], ..Ask::default() };
    assert_eq!(ask.answer(), Answer::Unknown);
    let both = [ahead[0].clone(), says(1, 7, NOW.0 + MAX_AHEAD_SECS)];
    assert_eq!(Ask { said: &both, ..ask }.commit(), 7);
}

#[test]
fn strangers_are_listed_once_each_newest_first() {
    let said = [says(1, 1, 10), says(2, 2, 30), says(1, 3, 20)];
    let answer = Ask { said: &said, trusted: &[9], ..Ask::default() }.answer();
    let Answer::Untrusted(said) = answer else { panic!("{answer:?}") };
    assert_eq!(said.iter().map(|s| s.commit.as_bytes()[0]).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(Ask::default().answer(), Answer::Unknown);
}

#[test]
fn one_trusted_nodes_sight_of_an_origin_is_one_witness() {
    let said = [saw(1, 3, 10)];
    assert_eq!(Ask { said: &said, asked: &[1], ..Ask::default() }.is(), (3, witnesses(1, 1)));
}
