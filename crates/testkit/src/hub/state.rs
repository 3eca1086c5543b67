//! What a stand-in hub knows beside git: who may read what, names that moved, and what goes wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hubless_types::{RepoFacts, RepoId, Timestamp};

use super::faults::{Budget, HubFaults};
use crate::START;

/// What is said of one repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    pub(crate) facts: RepoFacts,
    /// Tokens that may read it, where it is not open.
    pub(crate) readers: HashSet<String>,
    pub(crate) disabled: bool,
}

#[derive(Default)]
struct Inner {
    repos: BTreeMap<RepoId, Shown>,
    renamed: HashMap<RepoId, RepoId>,
    users: HashSet<String>,
    faults: HubFaults,
    budget: Option<Budget>,
    xet: bool,
    /// What the content network demands, names in lower case.
    headers: Vec<(String, String)>,
    commits: u64,
    epoch: u64,
}

/// Shared by everything; held for moments only.
#[derive(Default)]
pub(crate) struct State(Mutex<Inner>);

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each commit is a minute after the last, so that ids are the same in every run.
    pub(crate) fn next_time(&self) -> Timestamp {
        let mut inner = self.inner();
        inner.commits += 1;
        Timestamp(START.0 + 60 * inner.commits)
    }

    pub(crate) fn add_repo(&self, repo: &RepoId) {
        self.inner().repos.insert(repo.clone(), Shown::default());
    }

    pub(crate) fn has(&self, repo: &RepoId) -> bool {
        self.inner().repos.contains_key(repo)
    }

    pub(crate) fn change(&self, repo: &RepoId, change: impl FnOnce(&mut Shown)) -> Option<()> {
        self.inner().repos.get_mut(repo).map(change)
    }

    pub(crate) fn shown(&self, repo: &RepoId) -> Option<Shown> {
        self.inner().repos.get(repo).cloned()
    }

    /// Every repository, by name.
    pub(crate) fn repos(&self) -> Vec<(RepoId, Shown)> {
        self.inner().repos.iter().map(|(repo, shown)| (repo.clone(), shown.clone())).collect()
    }

    pub(crate) fn rename(&self, from: &RepoId, to: &RepoId) -> Option<()> {
        let mut inner = self.inner();
        let shown = inner.repos.remove(from)?;
        inner.repos.insert(to.clone(), shown);
        inner.renamed.insert(from.clone(), to.clone());
        Some(())
    }

    /// The name that a repository has now: it may have been renamed, or be spelled otherwise.
    pub(crate) fn canonical(&self, repo: &RepoId) -> Option<RepoId> {
        let inner = self.inner();
        let same = |known: &RepoId, name: &RepoId| {
            known.kind() == name.kind() && known.name().eq_ignore_ascii_case(name.name())
        };
        let mut name = repo;
        // As many renames as there are; a ring of them ends here.
        for _ in 0..=inner.renamed.len() {
            if let Some(known) = inner.repos.keys().find(|known| same(known, name)) {
                return Some(known.clone());
            }
            name = inner.renamed.iter().find(|(from, _)| same(from, name))?.1;
        }
        None
    }

    pub(crate) fn add_user(&self, token: &str) {
        self.inner().users.insert(token.to_owned());
    }

    pub(crate) fn is_user(&self, token: &str) -> bool {
        self.inner().users.contains(token)
    }

    pub(crate) fn set_faults(&self, faults: HubFaults) {
        self.inner().faults = faults;
    }

    pub(crate) fn faults(&self) -> HubFaults {
        self.inner().faults.clone()
    }

    pub(crate) fn set_budget(&self, budget: Option<Budget>) {
        self.inner().budget = budget;
    }

    /// The budget before this request, which takes one from it.
    pub(crate) fn spend(&self) -> Option<Budget> {
        let mut inner = self.inner();
        let before = inner.budget;
        if let Some(budget) = &mut inner.budget {
            budget.left = budget.left.saturating_sub(1);
        }
        before
    }

    pub(crate) fn claim_xet(&self, claims: bool) {
        self.inner().xet = claims;
    }

    pub(crate) fn demand_headers(&self, headers: &[(&str, &str)]) {
        self.inner().headers =
            headers.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
    }

    /// The headers without which the content network gives nothing.
    pub(crate) fn demanded_headers(&self) -> Vec<(String, String)> {
        self.inner().headers.clone()
    }

    pub(crate) fn expire_links(&self) {
        self.inner().epoch += 1;
    }

    /// Signed addresses are good for one of these.
    pub(crate) fn epoch(&self) -> u64 {
        self.inner().epoch
    }

    pub(crate) fn claims_xet(&self) -> bool {
        self.inner().xet
    }
}
