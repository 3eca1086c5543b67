//! Which commits a pack has: from those that are wanted back to where the client stands or wants to stop.
//!
//! **Invariant:** a history that is not held whole is never passed off as one that is: where it ends here before it
//! ends in truth, and before the client wants to stop, the walk fails and says how far it came.
//! **Not here:** reading commits; the walk is told what each one follows.

use std::collections::{HashSet, VecDeque};

use hubless_proof::{FetchRequest, INFINITE_DEPTH};
use hubless_types::CommitId;

/// Most commits that a walk looks at.
const MAX_WALKED: usize = 100_000;
/// Most commits that one pack has: each costs a look at all its trees.
const MAX_SENT: usize = 1_000;
/// Most commits that the client has whose files are left out of a pack.
const MAX_SPARED: usize = 8;

/// Which commits go out, and what the client is told of their history's ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Newest first.
    pub(super) send: Vec<CommitId>,
    /// The client has these; what they hold need not go out again.
    pub(super) spare: Vec<CommitId>,
    /// The client is to take these as if they followed nothing.
    pub(super) shallow: Vec<CommitId>,
    /// What these follow goes out, which it did not before.
    pub(super) unshallow: Vec<CommitId>,
}

/// Why a history cannot be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// `commit` is needed and not held; `depth` is how many commits deep the wanted ones are held.
    NotHeld { commit: CommitId, depth: u32 },
    /// Too many commits.
    TooMany,
}

/// What a commit follows; `None` if it is not held.
pub(super) type Parents = Option<Vec<CommitId>>;

/// Walks from `wants`. `parents` tells what a commit follows; its errors end the walk.
pub(super) fn walk<E>(
    wants: &[CommitId],
    asked: &FetchRequest,
    mut parents: impl FnMut(CommitId) -> Result<Parents, E>,
) -> Result<Result<History, Gap>, E> {
    let cut: HashSet<CommitId> = asked.shallow.iter().copied().collect();
    let Some(had) = reached(asked, &cut, &mut parents)? else { return Ok(Err(Gap::TooMany)) };
    let depth = asked.depth.filter(|depth| *depth < INFINITE_DEPTH);
    let (mut found, mut seen, mut queue) = (History::default(), HashSet::new(), VecDeque::new());
    queue.extend(wants.iter().map(|want| (*want, 1_u32)));
    while let Some((commit, level)) = queue.pop_front() {
        if !seen.insert(commit) {
            continue;
        }
        if seen.len() > MAX_WALKED || found.send.len() > MAX_SENT {
            return Ok(Err(Gap::TooMany));
        }
        let is_had = had.contains(&commit);
        if is_had && found.spare.len() < MAX_SPARED {
            found.spare.push(commit);
        }
        // Where no depth is asked for, what the client has is where it ends.
        if is_had && asked.depth.is_none() {
            continue;
        }
        let follows = match parents(commit)? {
            Some(follows) => follows,
            None if is_had => continue,
            None => return Ok(Err(Gap::NotHeld { commit, depth: level - 1 })),
        };
        if !is_had {
            found.send.push(commit);
        }
        let is_last = depth == Some(level);
        match (is_last, cut.contains(&commit)) {
            _ if follows.is_empty() => {}
            (true, false) => found.shallow.push(commit),
            (false, true) if asked.depth.is_some() => found.unshallow.push(commit),
            _ => {}
        }
        if !is_last {
            queue.extend(follows.into_iter().map(|parent| (parent, level.saturating_add(1))));
        }
    }
    let told: Vec<_> = asked.haves.iter().copied().filter(|have| !found.spare.contains(have)).collect();
    found.spare.extend(told);
    found.spare.truncate(MAX_SPARED);
    Ok(Ok(found))
}

/// Every commit that the client has, as far as this node can tell; `None` if there are too many to look at.
fn reached<E>(
    asked: &FetchRequest,
    cut: &HashSet<CommitId>,
    parents: &mut impl FnMut(CommitId) -> Result<Parents, E>,
) -> Result<Option<HashSet<CommitId>>, E> {
    let mut had = HashSet::new();
    let mut queue: VecDeque<CommitId> = asked.haves.iter().chain(&asked.shallow).copied().collect();
    while let Some(commit) = queue.pop_front() {
        if !had.insert(commit) || cut.contains(&commit) {
            continue;
        }
        if had.len() > MAX_WALKED {
            return Ok(None);
        }
        queue.extend(parents(commit)?.unwrap_or_default());
    }
    Ok(Some(had))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> CommitId {
        CommitId::from_bytes([n; 20])
    }

    fn ids(numbers: &[u8]) -> Vec<CommitId> {
        numbers.iter().map(|n| id(*n)).collect()
    }

    /// Commit N follows N - 1, down to 1, which follows nothing; those below `held_from` are not held.
    fn line(held_from: u8) -> impl FnMut(CommitId) -> Result<Parents, ()> {
        move |commit| {
            let n = commit.as_bytes()[0];
            let follows = if n == 1 { vec![] } else { vec![id(n - 1)] };
            Ok((n >= held_from).then_some(follows))
        }
    }

    fn asked(haves: &[u8], shallow: &[u8], depth: Option<u32>) -> FetchRequest {
        FetchRequest { haves: ids(haves), shallow: ids(shallow), depth, ..FetchRequest::default() }
    }

    fn walked(want: u8, held_from: u8, asked: &FetchRequest) -> Result<History, Gap> {
        walk(&[id(want)], asked, line(held_from)).unwrap()
    }

    #[test]
    fn a_clone_gets_all_or_is_told_how_much_is_held() {
        assert_eq!(walked(3, 1, &asked(&[], &[], None)).unwrap().send, ids(&[3, 2, 1]));
        let gap = walked(3, 2, &asked(&[], &[], None)).unwrap_err();
        assert_eq!(gap, Gap::NotHeld { commit: id(1), depth: 2 });
        let all = walked(3, 2, &asked(&[], &[], Some(INFINITE_DEPTH)));
        assert_eq!(all.unwrap_err(), Gap::NotHeld { commit: id(1), depth: 2 });
    }

    #[test]
    fn a_depth_ends_the_history_where_it_says() {
        let found = walked(5, 5, &asked(&[], &[], Some(1))).unwrap();
        assert_eq!((found.send, found.shallow), (ids(&[5]), ids(&[5])));
        let found = walked(5, 4, &asked(&[], &[], Some(2))).unwrap();
        assert_eq!((found.send, found.shallow), (ids(&[5, 4]), ids(&[4])));
        assert!(walked(5, 4, &asked(&[], &[], Some(3))).is_err());
        let found = walked(2, 1, &asked(&[], &[], Some(9))).unwrap();
        assert_eq!((found.send, found.shallow), (ids(&[2, 1]), vec![]), "the first commit is no cut");
    }

    #[test]
    fn a_fetch_gets_what_is_new() {
        let found = walked(5, 1, &asked(&[3], &[], None)).unwrap();
        assert_eq!((found.send, found.spare), (ids(&[5, 4]), ids(&[3])));
        // What the client has need not be held here.
        assert_eq!(walked(5, 4, &asked(&[3], &[], None)).unwrap().send, ids(&[5, 4]));
        // A shallow clone that goes on without a depth needs what lies between.
        assert_eq!(walked(5, 1, &asked(&[3], &[3], None)).unwrap().send, ids(&[5, 4]));
        assert!(walked(5, 5, &asked(&[3], &[3], None)).is_err());
    }

    #[test]
    fn a_shallow_clone_is_deepened() {
        let found = walked(5, 1, &asked(&[5], &[5], Some(3))).unwrap();
        assert_eq!((found.send, found.shallow, found.unshallow), (ids(&[4, 3]), ids(&[3]), ids(&[5])));
        let found = walked(5, 1, &asked(&[5], &[5], Some(INFINITE_DEPTH))).unwrap();
        assert_eq!((found.send, found.shallow), (ids(&[4, 3, 2, 1]), vec![]));
        let found = walked(6, 1, &asked(&[5], &[5], Some(1))).unwrap();
        assert_eq!((found.send, found.shallow, found.unshallow), (ids(&[6]), ids(&[6]), vec![]));
    }

    proptest! {
        /// Whatever a client claims, it ends up with every commit down to where it is cut.
        #[test]
        fn no_commit_is_missing(want in 1..12_u8, have in 1..12_u8, cut in any::<bool>(), depth in proptest::option::of(1..14_u32)) {
            let shallow: &[u8] = if cut { &[have] } else { &[] };
            let found = walked(want, 1, &asked(&[have], shallow, depth)).unwrap();
            let mut has: HashSet<u8> = if cut { [have].into() } else { (1..=have).collect() };
            has.extend(found.send.iter().map(|c| c.as_bytes()[0]));
            let mut cuts: HashSet<u8> = shallow.iter().copied().collect();
            cuts.extend(found.shallow.iter().map(|c| c.as_bytes()[0]));
            found.unshallow.iter().for_each(|c| { cuts.remove(&c.as_bytes()[0]); });
            let mut at = want;
            loop {
                prop_assert!(has.contains(&at), "{at} is missing");
                if at == 1 || cuts.contains(&at) { break; }
                at -= 1;
            }
        }
    }
}
