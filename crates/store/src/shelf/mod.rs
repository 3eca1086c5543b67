//! The shelf: finds and sorts repositories, three million of them as quickly as ten.
//!
//! What lies in the catalogue's tables is the truth; the shelf is an index of it. Most repositories are in a
//! [`segment`], a folder of files written in one go and never changed; what changed since is kept in memory
//! ([`recent`]) and noted in the catalogue, so that it is found again after a restart. When much has changed, the
//! segment is written anew, in the background, from a snapshot. A small catalogue has no segment.
//!
//! **Invariants:** memory and what is read at the start are bounded, whatever the catalogue holds. A segment that cannot be
//! read is thrown away and written anew. A change is found at once, unless more than [`RECENT_MAX`] came since the
//! segment: then it is found after the next one. Private repositories are
//! found by those alone who ask for them expressly.
//! What only others hold is listed as long as it is told ([`Shelf::list_elsewhere`]), and kept nowhere.

mod bits;
mod build;
mod grams;
mod query;
mod recent;
mod search;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hubless_types::{RepoFacts, RepoId};

use self::build::Builder;
pub use self::query::{SHELF_PAGE_MAX, ShelfCursor, ShelfPage, ShelfQuery, ShelfSort, ShelfTerm};
pub(crate) use self::recent::RECENT_MAX as SHELF_LATER_MAX;
use self::recent::{RECENT_MAX, Recent};
use self::segment::{META, Segment};
use crate::error::{Result, StoreError};

/// The shelf's folder inside the data folder.
const SHELF_FOLDER: &str = "shelf";
/// Changes after which a new segment is worth its work.
const DUE_AFTER: usize = RECENT_MAX / 2;

/// The index of all repositories.
pub(crate) struct Shelf {
    dir: PathBuf,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    segment: Option<Arc<Segment>>,
    recent: Recent,
    /// What is being written into the next segment.
    settling: Option<Recent>,
    /// Documents of the segment that changed since.
    stale: HashSet<u32>,
    /// Which changes are noted now; the segment has those of all generations before.
    generation: u32,
    /// Whether changes came for which there was no room.
    overflowed: bool,
    /// What others say that they hold and this node knows nothing of; none of it is in the tables.
    elsewhere: Recent,
}

/// A repository that was found.
#[derive(Debug)]
struct Hit {
    /// What it is sorted by.
    value: u32,
    name: String,
    /// Its document, if the segment has it as it is now.
    doc: Option<u32>,
}

impl Shelf {
    /// Opens the shelf beneath the data folder.
    pub(crate) fn open(data: &Path) -> Self {
        let dir = data.join(SHELF_FOLDER);
        let segment = newest_segment(&dir).map(Arc::new);
        let generation = segment.as_ref().map_or(0, |s| s.meta.covers);
        let state = State { segment, generation, ..State::default() };
        Self { dir, state: RwLock::new(state) }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The first generation of changes that the segment does not have; `None` if there is no segment.
    pub(crate) fn covers(&self) -> Option<u32> {
        self.read().segment.as_ref().map(|s| s.meta.covers)
    }

    /// Under which generation a change is to be noted; `None` if it need not be: without a segment, everything is
    /// read at the next start.
    pub(crate) fn noting(&self) -> Option<u32> {
        let state = self.read();
        (state.segment.is_some() || state.settling.is_some()).then_some(state.generation)
    }

    /// Later changes are noted under at least this generation.
    pub(crate) fn at_least(&self, generation: u32) {
        let mut state = self.write();
        state.generation = state.generation.max(generation);
    }

    /// Takes in what is known of a repository now. Whoever calls it holds the catalogue's write lock.
    pub(crate) fn tell(&self, repo: &RepoId, facts: Option<&RepoFacts>) -> Result<()> {
        let mut state = self.write();
        let doc = state.segment.as_ref().map(|s| s.find(repo)).transpose()?.flatten();
        if facts.is_some() {
            state.elsewhere.remove(repo);
        }
        if !state.recent.set(repo, facts) {
            state.overflowed = true;
            return Ok(());
        }
        state.stale.extend(doc);
        Ok(())
    }

    /// Lists these beside what is known here, in place of those that were listed so before.
    pub(crate) fn list_elsewhere(&self, repos: &[RepoId]) {
        let mut elsewhere = Recent::default();
        for repo in repos {
            elsewhere.set(repo, Some(&RepoFacts::default()));
        }
        let mut state = self.write();
        for repo in repos {
            // It came while it was looked whether it is known.
            let came = |changed: &Recent| changed.lists(repo);
            if came(&state.recent) || state.settling.as_ref().is_some_and(came) {
                elsewhere.remove(repo);
            }
        }
        let former = std::mem::replace(&mut state.elsewhere, elsewhere);
        drop(state);
        drop(former);
    }

    /// Not everything is on the shelf: it was too much to read at the start.
    pub(crate) fn overflow(&self) {
        self.write().overflowed = true;
    }

    /// Whether a new segment is worth its work.
    pub(crate) fn is_due(&self) -> bool {
        let state = self.read();
        state.settling.is_none() && (state.overflowed || state.recent.len() > DUE_AFTER)
    }

    /// How many repositories are on it, without those that only others hold.
    pub(crate) fn count(&self) -> u64 {
        let state = self.read();
        let docs = state.segment.as_ref().map_or(0, |s| u64::from(s.docs()));
        let settling = state.settling.as_ref().map_or(0, |s| s.listed(Some(&state.recent)));
        docs.saturating_sub(state.stale.len() as u64) + state.recent.listed(None) + settling
    }

    /// Answers a question.
    pub(crate) fn find(&self, query: &ShelfQuery) -> Result<ShelfPage> {
        let limit = query.limit.clamp(1, SHELF_PAGE_MAX);
        let state = self.read();
        let mut found: Vec<Hit> = state.recent.search(query, None);
        found.extend(state.elsewhere.search(query, None));
        if let Some(settling) = &state.settling {
            found.extend(settling.search(query, Some(&state.recent)));
        }
        if let Some(segment) = &state.segment {
            for (value, doc) in search::search(segment, query, &state.stale, limit + 1)? {
                found.push(Hit { value, name: segment.name(doc)?, doc: Some(doc) });
            }
        }
        let segment = state.segment.clone();
        drop(state);
        found.sort_unstable_by(|a, b| query.order((a.value, &a.name), (b.value, &b.name)));
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more);
        let next = last.map(|hit| ShelfCursor { value: hit.value, name: hit.name.clone() });
        let mut repos = Vec::with_capacity(found.len());
        for hit in found {
            let facts = hit.doc.zip(segment.as_ref()).map(|(doc, segment)| segment.facts(doc)).transpose()?;
            repos.extend(RepoId::new(query.kind, &hit.name).ok().map(|repo| (repo, facts)));
        }
        Ok(ShelfPage { repos, next })
    }

    /// Begins a new segment: from now on changes are noted under a new generation, which is returned; `None` if
    /// one is being written already. Whoever calls it holds the catalogue's write lock and takes its snapshot
    /// before letting go.
    pub(crate) fn begin(&self) -> Option<u32> {
        let mut state = self.write();
        if state.settling.is_some() {
            return None;
        }
        state.settling = Some(std::mem::take(&mut state.recent));
        state.overflowed = false;
        state.generation += 1;
        Some(state.generation)
    }

    /// Writes a segment of the repositories that `walk` visits in order. Blocks for seconds a million of them.
    pub(crate) fn write_segment(
        &self,
        covers: u32,
        cancel: &AtomicBool,
        walk: impl FnOnce(&mut dyn FnMut(&RepoId, &RepoFacts) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let written = self.write_new(covers, cancel, walk);
        match written {
            Ok(segment) => self.take_over(Arc::new(segment)),
            Err(error) => {
                let mut state = self.write();
                if let Some(settling) = state.settling.take() {
                    state.recent.add_older(settling);
                }
                state.overflowed = true;
                Err(error)
            }
        }
    }

    fn write_new(
        &self,
        covers: u32,
        cancel: &AtomicBool,
        walk: impl FnOnce(&mut dyn FnMut(&RepoId, &RepoFacts) -> Result<()>) -> Result<()>,
    ) -> Result<Segment> {
        let dir = self.dir.join(covers.to_string());
        let fail = |e| StoreError::io(&dir, e);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(fail)?;
        }
        std::fs::create_dir_all(&dir).map_err(fail)?;
        let mut builder = Builder::new(&dir, cancel)?;
        walk(&mut |repo, facts| builder.add(repo, facts))?;
        builder.finish(covers)?;
        Segment::open(&dir)
    }

    fn take_over(&self, segment: Arc<Segment>) -> Result<()> {
        let mut state = self.write();
        let mut stale = HashSet::new();
        for repo in state.recent.repos() {
            stale.extend(segment.find(&repo)?);
        }
        state.stale = stale;
        state.settling = None;
        let former = state.segment.replace(segment);
        drop(state);
        if let Some(former) = former {
            let _ = std::fs::remove_dir_all(former.dir());
        }
        Ok(())
    }
}

/// The newest segment that can be read. Folders that hold none are removed: a killed process left them.
fn newest_segment(dir: &Path) -> Option<Segment> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort_unstable();
    let mut newest = None;
    for (_, path) in found.into_iter().rev() {
        if newest.is_none() && path.join(META).exists() {
            match Segment::open(&path) {
                Ok(segment) => {
                    newest = Some(segment);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "the index of repositories cannot be read; it is written anew")
                }
            }
        }
        let _ = std::fs::remove_dir_all(path);
    }
    newest
}
