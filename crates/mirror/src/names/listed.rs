//! All refs of a repository, by their full names: those that its origin lists, and those that are known here.
//!
//! **Invariant:** listing is for looking: what an origin lists is neither kept nor signed. A name is, once it is asked for,
//! and whether it is a tag.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hubless_origin::{Breaker, SeenRef};
use hubless_store::{RefRecord, RefSource};
use hubless_types::{Access, CommitId, RepoId, Revision, Token};
use tokio::time::Instant;

use super::sight::ORIGINS_TOGETHER;
use crate::mirror::Inner;
use crate::upstream::ask;
use crate::util::{blocking, locked};
use crate::{Caller, Mirror, MirrorError};

/// How long an origin's list is given again.
const FRESH: Duration = Duration::from_secs(15);
/// Longest wait for peers to say which names there are: the name itself is asked for after that.
const NAMES_WITHIN: Duration = Duration::from_millis(1500);
/// Lists that are remembered; then it begins anew.
const MAX_LISTS: usize = 256;
/// Most refs of one list that are looked at.
const MAX_REFS: usize = 10_000;

/// An origin's list, and by which name it calls itself.
type List = Arc<(String, Vec<SeenRef>)>;

/// What is known of a repository's refs.
struct Known {
    /// By its own name.
    repo: RepoId,
    refs: Vec<(Revision, RefRecord)>,
    /// Those that are no branches.
    tags: BTreeSet<Revision>,
    /// What its origin lists, if it does.
    listed: Option<List>,
}

/// What origins listed a moment ago, to whoever has no token; and where none did.
#[derive(Default)]
pub(crate) struct Lists(HashMap<RepoId, (Instant, Option<List>)>);

impl Lists {
    /// What was answered a moment ago; `Some(None)` if no origin listed anything.
    fn recall(&self, repo: &RepoId) -> Option<&Option<List>> {
        self.0.get(repo).filter(|(since, _)| since.elapsed() < FRESH).map(|(_, list)| list)
    }
}

impl Mirror {
    /// Every ref of `repo` that its origin lists or that is known here, by its full name (`refs/tags/v1`), without those
    /// that are commit ids. Where the origin does not answer in time it is what is known here; what it never listed
    /// counts as a branch where it has no prefix.
    ///
    /// # Errors
    /// That of a repository nobody knows, to whoever may not know of it; those of the catalogue.
    pub async fn all_refs(
        &self,
        caller: &Caller,
        repo: &RepoId,
    ) -> Result<BTreeMap<String, CommitId>, MirrorError> {
        Ok(merged(&self.inner.known_and_listed(caller, repo).await?))
    }

    /// The names that `repo` has, without prefixes, to tell where in an address a name ends: those of
    /// [`Mirror::all_refs`], and where no origin lists any, those that nodes signed whose word counts.
    ///
    /// # Errors
    /// As [`Mirror::all_refs`].
    pub async fn all_names(&self, caller: &Caller, repo: &RepoId) -> Result<BTreeSet<String>, MirrorError> {
        // Who asks again a moment later is told what is known by then.
        let lately = locked(&self.inner.lists).recall(repo).is_some();
        let known = self.inner.known_and_listed(caller, repo).await?;
        let said = match known.listed.is_none() && self.inner.access(&known.repo)? != Access::Private {
            true => self.inner.names_said(caller, &known.repo, !lately).await?,
            false => Vec::new(),
        };
        let mut names: BTreeSet<String> = said.into_iter().collect();
        names.extend(merged(&known).into_keys().map(|full| Revision::plain_name(&full).to_owned()));
        Ok(names)
    }
}

impl Inner {
    /// What is known here of the refs of `repo`, and what its origin lists. What is published here is no origin's to list.
    async fn known_and_listed(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
    ) -> Result<Known, MirrorError> {
        let (inner, name) = (Arc::clone(self), repo.clone());
        let mut known = blocking(move || {
            let catalogue = inner.store.catalogue();
            let repo = catalogue.canonical(&name)?.unwrap_or(name);
            let (refs, tags) = (catalogue.refs(&repo)?, catalogue.tags(&repo)?);
            Ok(Known { repo, refs, tags, listed: None })
        })
        .await?;
        self.check_existence(caller, &known.repo).await?;
        if !known.refs.iter().any(|(_, row)| row.by == RefSource::Published) {
            known.listed = self.listed(caller, &known.repo).await?;
        }
        let news = known.tags_told();
        if !news.is_empty() {
            let (inner, repo) = (Arc::clone(self), known.repo.clone());
            blocking(move || Ok(inner.store.catalogue().note_tags(&repo, &news)?)).await?;
        }
        Ok(known)
    }

    /// The names of `repo` in what peers said, or with `anew` say now, by those whose word counts here or for this request.
    async fn names_said(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        anew: bool,
    ) -> Result<Vec<String>, MirrorError> {
        let asked = &caller.accept.from;
        if anew && let Some(mut heard) = self.hear_peers(repo, None, asked) {
            let all = async { while heard.recv().await.is_some() {} };
            let _ = tokio::time::timeout(NAMES_WITHIN, all).await;
        }
        let (inner, repo, asked) = (Arc::clone(self), repo.clone(), asked.clone());
        blocking(move || {
            let mut said = inner.store.catalogue().statements(&repo, None)?;
            said.retain(|s| inner.counts(&s.signer) || asked.contains(&s.signer));
            Ok(said.into_iter().map(|s| s.body.revision.to_string()).collect())
        })
        .await
    }

    /// What the repository's own origin lists, if it answers in time; of a repository that nobody here knows, what the
    /// first origin lists that has it.
    async fn listed(&self, caller: &Caller, repo: &RepoId) -> Result<Option<List>, MirrorError> {
        let open = self.access(repo)?.is_open();
        if open && let Some(list) = locked(&self.lists).recall(repo) {
            return Ok(list.clone());
        }
        let home = self.home(repo)?;
        let elsewhere = open && !self.knows(repo)?;
        let deadline = Instant::now() + ORIGINS_TOGETHER;
        for (place, origin) in self.origins.iter().enumerate() {
            if place != home && !elsewhere || origin.status().breaker == Breaker::Open {
                continue;
            }
            // A token is for the repository's own origin alone.
            let token = caller.token.as_ref().filter(|_| place == home);
            let closed = self.access(repo)? == Access::Private;
            let question = |token: Option<Token>| async move { origin.refs(repo, token.as_ref()).await };
            let within = self.config.answer_within.min(deadline.saturating_duration_since(Instant::now()));
            let asked = tokio::time::timeout(within, ask(token, closed, question)).await;
            let Ok(Ok(got)) = asked else {
                tracing::debug!(%repo, origin = origin.name(), "an origin does not list the refs of a repository");
                continue;
            };
            let mut refs = got.value;
            refs.truncate(MAX_REFS);
            let list = Arc::new((origin.name().to_owned(), refs));
            if !got.by_token {
                self.remember_list(repo, Some(&list));
            }
            return Ok(Some(list));
        }
        if open && caller.token.is_none() {
            self.remember_list(repo, None);
        }
        Ok(None)
    }

    /// Whether the list that `origin` gave a moment ago has this name as a tag.
    pub(crate) fn lists_as_tag(&self, origin: &str, repo: &RepoId, name: &Revision) -> bool {
        let (tag, branch) = (format!("refs/tags/{name}"), format!("refs/heads/{name}"));
        let lists = locked(&self.lists);
        let Some(list) = lists.recall(repo).and_then(Option::as_ref).filter(|list| list.0 == origin) else {
            return false;
        };
        let has = |name: &str| list.1.iter().any(|one| one.name == name);
        has(&tag) && !has(&branch)
    }

    fn remember_list(&self, repo: &RepoId, list: Option<&List>) {
        let mut lists = locked(&self.lists);
        if lists.0.len() >= MAX_LISTS {
            lists.0.clear();
        }
        lists.0.insert(repo.clone(), (Instant::now(), list.cloned()));
    }
}

impl Known {
    /// What the list tells newly of the names that are known from the same origin: whether they are tags.
    fn tags_told(&self) -> Vec<(Revision, bool)> {
        let Some((origin, list)) = self.listed.as_deref() else { return Vec::new() };
        let listed: BTreeSet<&str> = list.iter().map(|one| one.name.as_str()).collect();
        let by = RefSource::Origin(origin.clone());
        let of_it = self.refs.iter().filter(|(_, row)| row.by == by).map(|(name, _)| name);
        let told = of_it.filter_map(|name| {
            let is = |prefix: &str| listed.contains(format!("{prefix}{name}").as_str());
            let is_tag = is("refs/tags/") && !is("refs/heads/");
            (is_tag != self.tags.contains(name)).then(|| (name.clone(), is_tag))
        });
        told.collect()
    }

    /// A name as git knows it: what is kept without a prefix is a branch, unless an origin said that it is a tag.
    fn full_name(&self, name: &Revision) -> String {
        match name.as_str() {
            full if full.starts_with("refs/") => full.to_owned(),
            tag if self.tags.contains(name) => format!("refs/tags/{tag}"),
            branch => format!("refs/heads/{branch}"),
        }
    }
}

/// What an origin lists, and what is known here beside it. What that origin had and no longer lists is gone; what is
/// published here is not for it to say.
fn merged(known: &Known) -> BTreeMap<String, CommitId> {
    let listed = known.listed.as_deref();
    let mut refs = BTreeMap::new();
    let mut plain: HashMap<&str, &str> = HashMap::new();
    for one in listed.iter().flat_map(|(_, list)| list) {
        plain.insert(Revision::plain_name(&one.name), &one.name);
        refs.insert(one.name.clone(), one.commit);
    }
    for (revision, row) in known.refs.iter().filter(|(revision, _)| revision.as_commit().is_none()) {
        let is_gone = |(name, _): &(String, _)| row.by == RefSource::Origin(name.clone());
        match plain.get(revision.as_str()) {
            Some(full) if row.by == RefSource::Published => _ = refs.insert((*full).to_owned(), row.commit),
            Some(_) => {}
            None if listed.is_some_and(is_gone) => {}
            None => _ = refs.insert(known.full_name(revision), row.commit),
        }
    }
    refs
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
        let mut all =
            Known { repo: "a/b".parse().unwrap(), refs: rows(), tags: BTreeSet::new(), listed: None };
        assert!(all.tags_told().is_empty());
        let listed =
            ("hub".into(), vec![seen("refs/heads/main", 7), seen("refs/tags/v1", 2), seen("refs/pr/2", 8)]);
        all.listed = Some(Arc::new(listed));
        assert_eq!(
            list(merged(&all)),
            ["refs/heads/elsewhere 4", "refs/heads/main 7", "refs/pr/1 5", "refs/pr/2 8", "refs/tags/v1 2"]
        );
        let told = all.tags_told();
        assert_eq!(
            told,
            [("v1".parse().unwrap(), true)],
            "once it was asked for, it is kept that it is a tag"
        );
        all.tags.extend(told.into_iter().map(|(name, _)| name));
        assert!(all.tags_told().is_empty(), "it is known");
        all.tags.insert(Revision::main());
        assert_eq!(all.tags_told(), [(Revision::main(), false)], "what is a branch now is no tag any more");
        all.tags.remove(&Revision::main());
        let ours = Known { refs: vec![known("main", 9, RefSource::Published)], ..all };
        assert_eq!(list(merged(&ours))[0], "refs/heads/main 9");
        let gone = Known { refs: rows(), listed: None, ..ours };
        assert_eq!(
            list(merged(&gone)),
            [
                "refs/heads/deleted 3",
                "refs/heads/elsewhere 4",
                "refs/heads/main 1",
                "refs/pr/1 5",
                "refs/tags/v1 2"
            ]
        );
    }
}
