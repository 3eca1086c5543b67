//! What is known of repositories beside their files, and finding them.
//!
//! **Not here:** how they are indexed (`store`), what a hub's listing looks like (`gateway`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hubless_store::{ShelfCursor, ShelfQuery};
use hubless_types::{CommitId, Manifest, RepoFacts, RepoId, Revision};
use tokio_util::sync::CancellationToken;

use crate::mirror::Inner;
use crate::{Mirror, MirrorError};

/// How often it is looked whether the index of repositories is worth writing anew.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// How soon it is tried again where that failed.
const RETRY: Duration = Duration::from_secs(600);

/// What is looked up beside what the index has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct With {
    /// Their `main` branches.
    pub main: bool,
    /// Their cards.
    pub cards: bool,
}

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub repo: RepoId,
    /// What is said of it.
    pub facts: RepoFacts,
    /// Its `main` branch, if that is known here and was asked for.
    pub main: Option<CommitId>,
}

/// One page of what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPage {
    /// The repositories, in order.
    pub found: Vec<Found>,
    /// Where the next page begins; `None` if there is none.
    pub next: Option<ShelfCursor>,
}

impl Mirror {
    /// Finds repositories among those that are held here, those that origins told of, those that peers made statements
    /// of, and those that peers hold; private ones only where they are asked for. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`MirrorError::Store`] if the catalogue cannot be read.
    pub fn find(&self, query: &ShelfQuery, with: With) -> Result<FoundPage, MirrorError> {
        self.inner.list_wanted.notify_one();
        let catalogue = self.inner.store.catalogue();
        let page = catalogue.find_repos(query)?;
        let (repos, mut facts): (Vec<_>, Vec<_>) = page.repos.into_iter().unzip();
        if with.cards {
            facts = catalogue.facts_of(&repos)?;
        }
        let mains = match with.main {
            true => catalogue.ref_of_each(&repos, &Revision::main())?,
            false => vec![None; repos.len()],
        };
        let found = repos.into_iter().zip(facts).zip(mains).map(|((repo, facts), main)| Found {
            repo,
            facts: facts.unwrap_or_default(),
            main: main.map(|record| record.commit),
        });
        Ok(FoundPage { found: found.collect(), next: page.next })
    }

    /// What is said of `repo`: by an origin or its publisher, else by the card among the files of `manifest`, if that is
    /// here. Blocks a little.
    ///
    /// # Errors
    /// [`MirrorError::Store`] if the catalogue cannot be read.
    pub fn facts(&self, repo: &RepoId, manifest: Option<&Manifest>) -> Result<RepoFacts, MirrorError> {
        let told = self.inner.store.catalogue().facts(repo)?;
        match (told, manifest) {
            (Some(facts), _) => Ok(facts),
            (None, Some(manifest)) => Ok(self.inner.facts_of_files(repo, manifest)),
            (None, None) => Ok(RepoFacts::default()),
        }
    }

    /// The manifest of a commit, if it is here and may be shown under `repo`; asks nobody.
    ///
    /// # Errors
    /// [`MirrorError::Store`] if the catalogue cannot be read.
    pub fn manifest_here(
        &self,
        repo: &RepoId,
        commit: CommitId,
    ) -> Result<Option<Arc<Manifest>>, MirrorError> {
        self.inner.shown_manifest(repo, self.inner.own_commit(repo, commit)?)
    }
}

/// Tells a thread to give up when whoever waits for it goes.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    /// Has the index of repositories written anew whenever that is worth it, until `cancel`.
    pub(crate) fn keep_shelf(self: &Arc<Self>, cancel: CancellationToken) {
        let inner = Arc::downgrade(self);
        let work = async move {
            loop {
                let Some(mirror) = inner.upgrade() else { return };
                let pause = mirror.settle_shelf().await;
                drop(mirror);
                tokio::time::sleep(pause).await;
            }
        };
        self.tasks.spawn(async move { cancel.run_until_cancelled(work).await.is_some() });
    }

    async fn settle_shelf(&self) -> Duration {
        if !self.store.catalogue().is_shelf_due() {
            return LOOK_EVERY;
        }
        let stop = Flag(Arc::default());
        let (catalogue, flag) = (self.store.catalogue().clone(), Arc::clone(&stop.0));
        let settled = self.tasks.spawn_blocking(move || catalogue.settle_shelf(&flag)).await;
        match settled {
            Ok(Ok(_)) => LOOK_EVERY,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the index of repositories could not be written anew");
                RETRY
            }
            Err(error) => {
                tracing::error!(%error, "writing the index of repositories failed");
                RETRY
            }
        }
    }
}
