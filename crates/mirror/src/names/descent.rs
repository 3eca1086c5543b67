//! Whether a commit descends from another, as far as the commits tell that are held. Pure but for who is asked.

use std::collections::{HashSet, VecDeque};

use hubless_types::CommitId;

use super::ForkKind;

/// Most commits that are looked at for one answer.
const MAX_LOOKED_AT: usize = 4096;

/// What is known of the way from one commit to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descent {
    /// The later one descends from the former.
    Descends,
    /// It surely does not.
    Fork(ForkKind),
    /// A commit on the way is not held, or the way is too long.
    Unknown,
}

/// Whether `to` descends from `from`. `parents` gives a held commit's parents, and `None` for one that is not held.
///
/// A commit's id covers its parents', so none can be among its own ancestors: a way that reaches an ancestor of
/// `from` cannot lead to `from` any more, and needs not be held to its end.
pub(crate) fn descent<E>(
    from: CommitId,
    to: CommitId,
    mut parents: impl FnMut(CommitId) -> Result<Option<Vec<CommitId>>, E>,
) -> Result<Descent, E> {
    if from == to {
        return Ok(Descent::Descends);
    }
    let before = walk(from, &HashSet::new(), &mut parents)?;
    if before.met.contains(&to) {
        return Ok(Descent::Fork(ForkKind::RolledBack));
    }
    let mut stops = before.met;
    stops.insert(from);
    let after = walk(to, &stops, &mut parents)?;
    Ok(match (after.met.contains(&from), after.all_held) {
        (true, _) => Descent::Descends,
        (false, true) => Descent::Fork(ForkKind::Diverged),
        (false, false) => Descent::Unknown,
    })
}

struct Walked {
    /// The ancestors that were met, those that are not held among them.
    met: HashSet<CommitId>,
    /// Whether every way was followed to its end.
    all_held: bool,
}

/// Follows the parents of `start`, but not beyond `stops`.
fn walk<E>(
    start: CommitId,
    stops: &HashSet<CommitId>,
    parents: &mut impl FnMut(CommitId) -> Result<Option<Vec<CommitId>>, E>,
) -> Result<Walked, E> {
    let mut walked = Walked { met: HashSet::new(), all_held: true };
    let mut open = VecDeque::from([start]);
    let mut looked_at = 0;
    while let Some(commit) = open.pop_front() {
        looked_at += 1;
        let found = if looked_at <= MAX_LOOKED_AT { parents(commit)? } else { None };
        let Some(found) = found else {
            walked.all_held = false;
            continue;
        };
        for parent in found {
            if walked.met.insert(parent) && !stops.contains(&parent) && walked.met.len() <= MAX_LOOKED_AT {
                open.push_back(parent);
            } else if walked.met.len() > MAX_LOOKED_AT {
                walked.all_held = false;
            }
        }
    }
    Ok(walked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::convert::Infallible;

    fn id(n: u16) -> CommitId {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        CommitId::from_bytes(bytes)
    }

    /// `held`: commits and their parents.
    fn tell(held: &[(u16, &[u16])], from: u16, to: u16) -> Descent {
        let held: HashMap<_, Vec<_>> =
            held.iter().map(|(c, ps)| (id(*c), ps.iter().copied().map(id).collect())).collect();
        let told: Result<_, Infallible> = descent(id(from), id(to), |c| Ok(held.get(&c).cloned()));
        told.unwrap()
    }

    #[test]
    fn a_child_descends_and_a_rewritten_history_does_not() {
        let line: &[(u16, &[u16])] = &[(1, &[]), (2, &[1]), (3, &[2])];
        assert_eq!(tell(line, 1, 3), Descent::Descends);
        assert_eq!(tell(line, 2, 2), Descent::Descends);
        assert_eq!(tell(line, 3, 1), Descent::Fork(ForkKind::RolledBack));
        assert_eq!(tell(&[(1, &[]), (9, &[])], 1, 9), Descent::Fork(ForkKind::Diverged));
        assert_eq!(tell(&[(1, &[]), (2, &[1]), (3, &[1])], 2, 3), Descent::Fork(ForkKind::Diverged));
    }

    #[test]
    fn what_is_not_held_is_not_guessed() {
        assert_eq!(tell(&[(5, &[4]), (2, &[1])], 2, 5), Descent::Unknown, "4 may descend from 2");
        assert_eq!(tell(&[(2, &[1])], 2, 5), Descent::Unknown, "5 itself is not held");
        assert_eq!(tell(&[(5, &[2])], 2, 5), Descent::Descends, "2 itself need not be held");
    }

    #[test]
    fn a_common_parent_that_is_not_held_is_enough() {
        assert_eq!(tell(&[(2, &[1]), (3, &[1])], 2, 3), Descent::Fork(ForkKind::Diverged));
        assert_eq!(tell(&[(3, &[2]), (2, &[1])], 3, 1), Descent::Fork(ForkKind::RolledBack));
    }

    #[test]
    fn a_merge_descends_from_both_sides() {
        let held: &[(u16, &[u16])] = &[(1, &[]), (2, &[1]), (3, &[1]), (4, &[2, 3])];
        assert_eq!(tell(held, 3, 4), Descent::Descends);
        assert_eq!(tell(held, 2, 4), Descent::Descends);
    }

    #[test]
    fn a_long_way_ends() {
        let told: Result<_, Infallible> = descent(id(0), id(1), |c| {
            let n = u16::from_be_bytes([c.as_bytes()[0], c.as_bytes()[1]]);
            Ok(Some(vec![id(n.wrapping_add(2)), id(n.wrapping_add(4))]))
        });
        assert_eq!(told.unwrap(), Descent::Unknown);
    }
}
