//! The history of a commit, as far back as it is held here.

use std::ops::Range;
use std::sync::Arc;

use hubless_types::{CommitId, CommitInfo, Manifest, RepoId};

use crate::util::blocking;
use crate::{Mirror, MirrorError};

/// Bytes of authors and messages on one page, unless the first of its commits has more.
const PAGE_BYTES: usize = 1024 * 1024;

/// A part of a history: a commit and its first parents, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Those that were asked for; where their messages are long, only the first of them, and one at least.
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
        blocking(move || walk(head, wanted, most, held)).await
    }
}

fn walk<E>(
    head: (CommitId, CommitInfo),
    mut wanted: Range<usize>,
    most: usize,
    held: impl Fn(CommitId) -> Result<Option<CommitInfo>, E>,
) -> Result<History, E> {
    let (mut commits, mut room) = (Vec::new(), PAGE_BYTES);
    let (mut total, mut next) = (0, Some(head));
    while let Some((commit, info)) = next.take().filter(|_| total < most) {
        if let Some(parent) = info.parents.first() {
            next = held(*parent)?.map(|info| (*parent, info));
        }
        if wanted.contains(&total) {
            let bytes = info.author.len() + info.message.len();
            if commits.is_empty() || bytes <= room {
                room = room.saturating_sub(bytes);
                commits.push((commit, info));
            } else {
                wanted.end = total;
            }
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
        let found = walk(commit(199), wanted, most, held).unwrap();
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

    #[test]
    fn long_messages_end_a_page_and_all_are_counted() {
        let long = |n: u8| {
            let (id, info) = commit(n);
            // Of every three messages one is longer than a page, and two fit one.
            let len = if n.is_multiple_of(3) { PAGE_BYTES + 1 } else { PAGE_BYTES / 2 - 100 };
            (id, CommitInfo { message: "m".repeat(len), ..info })
        };
        let held = |id: CommitId| Ok::<_, std::convert::Infallible>(Some(long(id.as_bytes()[0]).1));
        let (mut pages, mut from) = (Vec::new(), 0);
        while from < 9 {
            let found = walk(long(8), from..1000, 1000, held).unwrap();
            assert_eq!(found.total, 9);
            pages.push(found.commits.iter().map(|(id, _)| id.as_bytes()[0]).collect::<Vec<_>>());
            from += found.commits.len();
        }
        assert_eq!(pages, [&[8, 7][..], &[6], &[5, 4], &[3], &[2, 1], &[0]]);
    }
}
