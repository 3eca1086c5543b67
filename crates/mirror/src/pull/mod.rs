//! Pulls a revision: resolves it, fetches and proves its files, and puts them where they are wanted.

mod files;
mod filter;
mod folder;
mod hf_cache;
mod output;
mod under_way;

use std::sync::Arc;

use hubless_store::{RefRecord, RefSource};
use hubless_types::{FileEntry, Manifest, Pin, Revision};
use tokio::time::Instant;

pub(crate) use hf_cache::hub_folder;
pub(crate) use under_way::UnderWay;

use crate::meter::Meter;
use crate::mirror::Inner;
use crate::resolve::Ask;
use crate::util::blocking;
use crate::{Mirror, MirrorError, Progress, ProgressSink, PullReport, PullRequest, Resolved};

use filter::Filter;
use output::Output;

impl Mirror {
    /// Fetches a revision's files, proves every one, and writes them where `request` says.
    ///
    /// Dropping the future stops the waiting; a fetch that others share goes on. What is verified stays, so that
    /// the same pull goes on where it was.
    ///
    /// # Errors
    /// Those of [`Mirror::resolve`] and [`Mirror::manifest`]; [`MirrorError::NothingMatches`];
    /// [`MirrorError::NoSource`] for the first file that nobody reached has; [`MirrorError::Disk`].
    pub async fn pull(
        &self,
        request: PullRequest,
        progress: ProgressSink,
    ) -> Result<PullReport, MirrorError> {
        let pin = request.pin;
        let pulled = self.inner.pull(request, &Meter::new(progress)).await;
        if pin && pulled.is_err() {
            // The pin may stand already: what is missing of it is tried again in the background.
            self.inner.wake_keeper();
        }
        pulled
    }
}

impl Inner {
    async fn pull(
        self: &Arc<Self>,
        mut request: PullRequest,
        meter: &Meter,
    ) -> Result<PullReport, MirrorError> {
        let started = Instant::now();
        let filter = Filter::new(&request.include, &request.exclude)?;
        let caller = request.caller();
        let resolved = self.resolve(&request.repo, &request.revision, &caller, Ask::Now).await?;
        meter.tell(Progress::Note {
            text: format!(
                "{} at {} is commit {} ({})",
                request.repo,
                request.revision,
                resolved.commit,
                resolved.by_text()
            ),
        });
        // It may have been renamed.
        request.repo = resolved.repo.clone();
        let _pulling = self.pulls.enter(resolved.commit);
        let manifest = self.real_manifest(&caller, &request.repo, resolved.commit).await?;
        self.check_content(&caller, &request.repo).await?;
        let entries: Vec<FileEntry> =
            manifest.entries().iter().filter(|e| filter.passes(&e.path)).cloned().collect();
        if entries.is_empty() && !manifest.entries().is_empty() {
            return Err(MirrorError::NothingMatches { repo: request.repo });
        }
        self.note_pulled(&request, &resolved, &manifest)?;
        // The commit may tell more of where it comes from now that it is here.
        let (commit, now) = (resolved.commit, self.clock.now());
        let fork = self.fork_of(&request.repo, &request.revision, commit, now)?;
        if let Some(fork) = &fork {
            meter.tell(Progress::Note {
                text: format!("warning: {} at {}: {fork}", request.repo, request.revision),
            });
        }
        let output = Output::new(&request, resolved.commit).await?;
        output.check(&entries).await?;
        let (files, bytes) = (entries.len() as u64, entries.iter().map(|e| e.size).sum());
        meter.tell(Progress::Total { files, bytes });
        self.get_files(&caller, &request.repo, resolved.commit, entries, &output, meter).await?;
        let revision = request.revision.clone();
        let folder = blocking(move || output.finish(&revision)).await?;
        Ok(PullReport {
            repo: request.repo,
            revision: request.revision,
            commit: resolved.commit,
            by: resolved.by,
            age: resolved.age,
            fork,
            files,
            bytes,
            from: meter.from(),
            millis: started.elapsed().as_millis() as u64,
            to: folder,
            pinned: request.pin,
        })
    }

    /// Lists the commit under its repository, and pins it before its files come where that is asked for.
    fn note_pulled(
        &self,
        request: &PullRequest,
        resolved: &Resolved,
        manifest: &Manifest,
    ) -> Result<(), MirrorError> {
        let (repo, revision, commit) = (&request.repo, &request.revision, resolved.commit);
        let catalogue = self.store.catalogue();
        catalogue.add_commit_to_repo(repo, commit)?;
        if revision.as_commit().is_some() && catalogue.get_ref(repo, revision)?.is_none() {
            let record = RefRecord { commit, seen: resolved.seen, by: RefSource::Commit };
            catalogue.set_ref(repo, revision, record)?;
        }
        if request.pin {
            // A snapshot that was adopted is kept by the commit that stands for it here.
            let since = self.clock.now();
            let pin = Pin {
                repo: repo.clone(),
                revision: revision.clone(),
                commit: self.own_commit(repo, manifest.commit())?,
                since,
            };
            catalogue.put_pin(&pin)?;
        }
        // What was adopted is nobody's business but this node's, unless it was shared: then it is told of already.
        let names = |(name, row): &(Revision, RefRecord)| {
            row.by == RefSource::Adopted && (row.commit == commit || name.as_commit() == Some(commit))
        };
        if catalogue.refs(repo)?.iter().any(names) {
            return Ok(());
        }
        if catalogue.has_manifest(commit)? {
            self.announce_commit(commit)?;
        }
        self.announce_repo(repo)
    }
}
