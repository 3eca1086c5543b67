//! How announcing went since the start, and which keys nobody took when they were announced last: in the queue stands
//! when they are tried again, here since when they have been due. Pure.

use std::collections::BTreeMap;

use hubless_discovery::Told;
use hubless_types::Timestamp;

/// Why keys are missed.
const SILENT: &str = "those who should keep the records do not answer";
/// Why nobody takes keys.
const FULL: &str = "those who should keep the records have no room for more of this node's";
/// Most keys that are remembered; one more is remembered when it fails again and there is room.
const MAX_LATE: usize = 4_096;

/// What was done since the start.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) made: u64,
    pub(super) failed: u64,
    pub(super) walks: u64,
    pub(super) messages: u64,
    pub(super) refused: u64,
    /// Keys that nobody took, until somebody does.
    pub(super) late: Late,
    /// What went wrong last, until all is right.
    pub(super) trouble: Option<String>,
    pub(super) alarmed: Option<Timestamp>,
}

impl Tally {
    /// Takes in an announcement: of `late`, with when it was due, nobody took a record, of `done` somebody did, or it has
    /// left the queue.
    pub(super) fn note(&mut self, told: &Told, late: Vec<(Vec<u8>, Timestamp)>, done: &[Vec<u8>]) {
        self.made += done.len() as u64;
        self.failed += late.len() as u64;
        self.walks += told.walks;
        self.messages += told.messages;
        self.refused += told.refused;
        late.into_iter().for_each(|(queued, due)| self.late.missed(queued, due));
        done.iter().for_each(|queued| self.late.done(queued));
        match (told.missed.is_empty(), told.unwanted.is_empty()) {
            (false, _) => self.trouble = Some(SILENT.to_owned()),
            (true, false) => self.trouble = Some(FULL.to_owned()),
            (true, true) => self.all_is_right(),
        }
    }

    /// Nothing is wrong any more, except with keys that nobody took before and that are yet to be tried again.
    pub(super) fn all_is_right(&mut self) {
        if self.late.is_empty() {
            self.trouble = None;
        }
    }
}

/// Keys that nobody took, as the queue has them, and when each was due first.
#[derive(Debug, Default)]
pub(super) struct Late(BTreeMap<Vec<u8>, Timestamp>);

impl Late {
    /// Nobody took a key that was due at `due`.
    pub(super) fn missed(&mut self, queued: Vec<u8>, due: Timestamp) {
        if self.0.len() < MAX_LATE || self.0.contains_key(&queued) {
            self.0.entry(queued).or_insert(due);
        }
    }

    /// Somebody took a key, or it has left the queue.
    pub(super) fn done(&mut self, queued: &[u8]) {
        self.0.remove(queued);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that has been due longest.
    pub(super) fn oldest(&self) -> Option<(&[u8], Timestamp)> {
        self.0.iter().min_by_key(|(_, due)| **due).map(|(queued, due)| (queued.as_slice(), *due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_discovery::Region;

    fn told(missed: usize, unwanted: usize) -> Told {
        let keys = |count| vec![vec![0]; count];
        let (missed, unwanted) = (keys(missed), keys(unwanted));
        Told { region: Region::whole(), walks: 1, messages: 1, kept: 1, refused: 0, missed, unwanted }
    }

    /// Of a page some keys are kept and some are not: that others go well says nothing about those.
    #[test]
    fn what_is_wrong_is_right_when_every_key_was_taken() {
        let mut tally = Tally::default();
        tally.note(&told(0, 1), vec![(vec![1], Timestamp(5))], &[vec![2]]);
        tally.note(&told(0, 0), Vec::new(), &[vec![3]]);
        assert_eq!((tally.made, tally.failed, tally.trouble.as_deref()), (2, 1, Some(FULL)));
        tally.note(&told(1, 0), vec![(vec![1], Timestamp(9))], &[]);
        assert_eq!(
            (tally.trouble.as_deref(), tally.late.oldest()),
            (Some(SILENT), Some((&[1][..], Timestamp(5))))
        );
        tally.note(&told(0, 0), Vec::new(), &[vec![1]]);
        assert_eq!(tally.trouble, None);
    }

    #[test]
    fn a_key_is_late_since_it_was_due_first_until_somebody_takes_it() {
        let mut late = Late::default();
        late.missed(vec![1], Timestamp(50));
        late.missed(vec![2], Timestamp(40));
        late.missed(vec![1], Timestamp(80));
        assert_eq!(late.oldest(), Some((&[2][..], Timestamp(40))));
        late.done(&[2]);
        assert_eq!(late.oldest(), Some((&[1][..], Timestamp(50))));
        late.done(&[1]);
        assert!(late.is_empty());
    }

    #[test]
    fn only_so_many_are_remembered_and_those_stay() {
        let mut late = Late::default();
        (0..2 * MAX_LATE as u64).for_each(|n| late.missed(n.to_be_bytes().to_vec(), Timestamp(n)));
        assert_eq!((late.0.len(), late.oldest().map(|(_, due)| due)), (MAX_LATE, Some(Timestamp(0))));
    }
}
