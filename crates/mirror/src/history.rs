//! The history of a commit, as far back as it is held here.

use std::ops::Range;
use std::sync::Arc;

use hubless_types::{CommitId, CommitInfo, Manifest, RepoId};

use crate::util::blocking;
use crate::{Mirror, MirrorError};

/// A part of a history: a commit and its first parents, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Those that were asked for.
    pub commits: Vec<(CommitId, CommitInfo)>,
    /// How many there are in all, as far as it was looked.
    pub total: usize,
}

impl Mirror {
    /// The commits `wanted`, counted from `head` (0) back along first parents, and how many there are in all: as far as
    /// they are here and may be shown under `repo`, and no more than `most`. No list of files is read: a step costs a few
    /// short rows.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub async fn history(
        &self,
        repo: &RepoId,
        head: &Manifest,
        wanted: Range<usize>,
        most: usize,
    ) -> Result<History, MirrorError> {
        let (inner, repo, head) =
            (Arc::clone(&self.inner), repo.clone(), (head.commit(), head.info().clone()));
        let held = move |commit| {
            if !inner.shows(&repo, commit)? {
                return Ok(None);
            }
            Ok(inner.store.catalogue().manifest_head(commit)?.map(|head| head.info))
        };
        blocking(move || walk(head, &wanted, most, held)).await
    }
}

fn walk<E>(
    head: (CommitId, CommitInfo),
    wanted: &Range<usize>,
    most: usize,
    held: impl Fn(CommitId) -> Result<Option<CommitInfo>, E>,
) -> Result<History, E> {
    let (mut commits, mut total, mut next) = (Vec::new(), 0, Some(head));
    while let Some((commit, info)) = next.take().filter(|_| total < most) {
        if let Some(parent) = info.parents.first() {
            next = held(*parent)?.map(|info| (*parent, info));
        }
        if wanted.contains(&total) {
            commits.push((commit, info));
        }
        total += 1;
    }
    Ok(History { commits, total })
}

#[cfg(test)]
mod tests {
    use hubless_types::{Timestamp, TreeId};

    use super::*;

    fn commit(n: u8) -> (CommitId, CommitInfo) {
        let info = CommitInfo {
            tree: TreeId::from_bytes([9; 20]),
            parents: n.checked_sub(1).map(|parent| CommitId::from_bytes([parent; 20])).into_iter().collect(),
            author: "Ann Lee <ann@example.org>".into(),
            time: Timestamp(0),
            message: n.to_string(),
        };
        (CommitId::from_bytes([n; 20]), info)
    }

    /// 200 commits of which those before number `first` are not here.
    fn page(first: u8, wanted: Range<usize>, most: usize) -> (Vec<String>, usize) {
        let held = |id: CommitId| {
            let n = id.as_bytes()[0];
            Ok::<_, std::convert::Infallible>((n >= first).then(|| commit(n).1))
        };
        let found = walk(commit(199), &wanted, most, held).unwrap();
        (found.commits.into_iter().map(|(_, info)| info.message).collect(), found.total)
    }

    #[test]
    fn a_page_is_what_was_asked_for_and_all_are_counted() {
        assert_eq!(page(0, 0..1, 1000), (vec!["199".to_owned()], 200));
        assert_eq!(page(0, 198..300, 1000), (vec!["1".to_owned(), "0".to_owned()], 200));
        assert_eq!(page(0, 200..300, 1000), (vec![], 200));
    }

    #[test]
    fn it_ends_where_nothing_more_is_held_or_nobody_looks_any_further() {
        assert_eq!(page(198, 0..5, 1000), (vec!["199".to_owned(), "198".to_owned()], 2));
        assert_eq!(page(0, 0..5, 1), (vec!["199".to_owned()], 1));
    }
}
