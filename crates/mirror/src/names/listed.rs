//! All refs of a repository, by their full names: those that its origin lists, and those that are known here.
//!
//! **Invariant:** listing is for looking: what an origin lists is neither kept nor signed. A name is, once it is asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hubless_origin::{Breaker, SeenRef};
use hubless_store::{RefRecord, RefSource};
use hubless_types::{Access, CommitId, RepoId, Revision, Token};
use tokio::time::Instant;

use crate::mirror::Inner;
use crate::upstream::ask;
use crate::util::{blocking, locked};
use crate::{Caller, Mirror, MirrorError};

/// How long an origin's list is given again.
const FRESH: Duration = Duration::from_secs(15);
/// Lists that are remembered; then it begins anew.
const MAX_LISTS: usize = 256;
/// Most refs of one list that are looked at.
const MAX_REFS: usize = 10_000;

/// An origin's list, and by which name it calls itself.
type List = Arc<(String, Vec<SeenRef>)>;

/// What origins listed a moment ago, to whoever has no token.
#[derive(Default)]
pub(crate) struct Lists(HashMap<RepoId, (Instant, List)>);

impl Mirror {
    /// Every ref of `repo` that its origin lists or that is known here, by its full name (`refs/tags/v1`), without those
    /// that are commit ids. Where the origin does not answer in time it is what is known here, and what was asked for
    /// without a prefix counts as a branch.
    ///
    /// # Errors
    /// That of a repository nobody knows, to whoever may not know of it; those of the catalogue.
    pub async fn all_refs(
        &self,
        caller: &Caller,
        repo: &RepoId,
    ) -> Result<BTreeMap<String, CommitId>, MirrorError> {
        let (inner, name) = (Arc::clone(&self.inner), repo.clone());
        let (repo, known) = blocking(move || {
            let repo = inner.store.catalogue().canonical(&name)?.unwrap_or(name);
            let known = inner.store.catalogue().refs(&repo)?;
            Ok((repo, known))
        })
        .await?;
        self.inner.check_existence(caller, &repo).await?;
        let is_ours = known.iter().any(|(_, row)| row.by == RefSource::Published);
        let listed = if is_ours { None } else { self.inner.listed(caller, &repo).await? };
        Ok(merged(known, listed.as_deref()))
    }
}

impl Inner {
    /// What the repository's own origin lists, if it answers in time.
    async fn listed(&self, caller: &Caller, repo: &RepoId) -> Result<Option<List>, MirrorError> {
        let Some(origin) = self.origins.get(self.home(repo)?) else { return Ok(None) };
        if self.access(repo)?.is_open()
            && let Some((since, list)) = locked(&self.lists).0.get(repo)
            && since.elapsed() < FRESH
        {
            return Ok(Some(Arc::clone(list)));
        }
        if origin.status().breaker == Breaker::Open {
            return Ok(None);
        }
        let closed = self.access(repo)? == Access::Private;
        let question = |token: Option<Token>| async move { origin.refs(repo, token.as_ref()).await };
        let asked = ask(caller.token.as_ref(), closed, question);
        let Ok(Ok(got)) = tokio::time::timeout(self.config.answer_within, asked).await else {
            tracing::debug!(%repo, origin = origin.name(), "an origin does not list the refs of a repository");
            return Ok(None);
        };
        let mut refs = got.value;
        refs.truncate(MAX_REFS);
        let list = Arc::new((origin.name().to_owned(), refs));
        if !got.by_token {
            let mut lists = locked(&self.lists);
            if lists.0.len() >= MAX_LISTS {
                lists.0.clear();
            }
            lists.0.insert(repo.clone(), (Instant::now(), Arc::clone(&list)));
        }
        Ok(Some(list))
    }
}

/// What an origin lists, and what is known here beside it. What that origin had and no longer lists is gone; what is
/// published here is not for it to say.
fn merged(
    known: Vec<(Revision, RefRecord)>,
    listed: Option<&(String, Vec<SeenRef>)>,
) -> BTreeMap<String, CommitId> {
    let mut refs = BTreeMap::new();
    let mut plain: HashMap<&str, &str> = HashMap::new();
    for one in listed.iter().flat_map(|(_, list)| list) {
        plain.insert(Revision::plain_name(&one.name), &one.name);
        refs.insert(one.name.clone(), one.commit);
    }
    for (revision, row) in known.into_iter().filter(|(revision, _)| revision.as_commit().is_none()) {
        let is_gone = |(name, _): &(String, _)| row.by == RefSource::Origin(name.clone());
        match plain.get(revision.as_str()) {
            Some(full) if row.by == RefSource::Published => _ = refs.insert((*full).to_owned(), row.commit),
            Some(_) => {}
            None if listed.is_some_and(is_gone) => {}
            None => _ = refs.insert(full_name(&revision), row.commit),
        }
    }
    refs
}

/// A name as git knows it: what is kept without a prefix is a branch.
fn full_name(name: &Revision) -> String {
    match name.as_str() {
        full if full.starts_with("refs/") => full.to_owned(),
        name => format!("refs/heads/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use hubless_types::Timestamp;

    use super::*;

    #[test]
    fn an_origin_lists_and_what_is_known_here_stands_beside_it() {
        let commit = |n| CommitId::from_bytes([n; 20]);
        let hub = || RefSource::Origin("hub".into());
        let known = |name: &str, n, by| {
            (name.parse::<Revision>().unwrap(), RefRecord { commit: commit(n), seen: Timestamp(1), by })
        };
        let rows = || {
            vec![
                known("main", 1, hub()),
                known("v1", 2, hub()),
                known("deleted", 3, hub()),
                known("elsewhere", 4, RefSource::Origin("other".into())),
                known("refs/pr/1", 5, RefSource::Witnesses { agree: 1, of: 1 }),
                known(&commit(6).to_string(), 6, RefSource::Commit),
            ]
        };
        let list = |refs: BTreeMap<String, CommitId>| {
            refs.into_iter().map(|(name, c)| format!("{name} {}", c.as_bytes()[0])).collect::<Vec<_>>()
        };
        let seen = |name: &str, n| SeenRef { name: name.into(), commit: commit(n) };
        let listed =
            ("hub".into(), vec![seen("refs/heads/main", 7), seen("refs/tags/v1", 2), seen("refs/pr/2", 8)]);
        assert_eq!(
            list(merged(rows(), Some(&listed))),
            ["refs/heads/elsewhere 4", "refs/heads/main 7", "refs/pr/1 5", "refs/pr/2 8", "refs/tags/v1 2"]
        );
        assert_eq!(
            list(merged(rows(), None)),
            [
                "refs/heads/deleted 3",
                "refs/heads/elsewhere 4",
                "refs/heads/main 1",
                "refs/heads/v1 2",
                "refs/pr/1 5"
            ]
        );
        let ours = vec![known("main", 9, RefSource::Published)];
        assert_eq!(list(merged(ours, Some(&listed)))[0], "refs/heads/main 9");
    }
}
