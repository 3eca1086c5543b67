//! Publishes a folder: writes a git commit of it, by reference, signs what its name is, and pins it.

mod take;
mod teller;
mod walk;

use std::sync::Arc;

use hubless_proof::{Bundle, CommitMeta, LinkTable, sign_statement};
use hubless_store::{RefRecord, RefSource};
use hubless_types::{CommitId, Manifest, Pin, RepoId, Revision, StatementBody, Timestamp};

pub(crate) use take::{Taken, kind_by_size};
pub(crate) use teller::Teller;
pub(crate) use walk::Found;

use crate::mirror::Inner;
use crate::util::{blocking, locked};
use crate::{AddReport, AddRequest, Mirror, MirrorError, Progress, ProgressSink};

impl Mirror {
    /// Makes a folder the newest commit of a repository that this node publishes.
    ///
    /// Files stay where they are and are read once each. Files of [`LFS_MIN_BYTES`](hubless_types::LFS_MIN_BYTES)
    /// and more become LFS files. The commit follows the one that the name meant before; a folder that did not
    /// change makes no commit. It is pinned, and announced as soon as others are reached. Dropping the future
    /// publishes nothing, unless that had begun.
    ///
    /// # Errors
    /// [`MirrorError::BadFile`] names the first thing in the folder that cannot be added;
    /// [`StoreError::ChangedWhileRead`](hubless_store::StoreError::ChangedWhileRead) a file that somebody writes
    /// to. Nothing is published then.
    pub async fn add(&self, request: AddRequest, progress: ProgressSink) -> Result<AddReport, MirrorError> {
        let inner = Arc::clone(&self.inner);
        inner.alone(progress, move |inner, teller| inner.add(&request, teller)).await
    }
}

impl Inner {
    /// Does `work`, which publishes, while nobody else does. Dropping the future has it publish nothing more;
    /// the next one waits until it has ended.
    pub(crate) async fn alone<T: Send + 'static>(
        self: &Arc<Self>,
        progress: ProgressSink,
        work: impl FnOnce(&Self, &Teller) -> Result<T, MirrorError> + Send + 'static,
    ) -> Result<T, MirrorError> {
        let alone = Arc::clone(&self.publishing).lock_owned().await;
        let given_up = self.cancel.child_token();
        let _while_awaited = given_up.clone().drop_guard();
        let inner = Arc::clone(self);
        blocking(move || {
            let _alone = alone;
            work(&inner, &Teller::new(progress, given_up))
        })
        .await
    }

    fn add(&self, request: &AddRequest, teller: &Teller) -> Result<AddReport, MirrorError> {
        if request.revision.as_commit().is_some() {
            return Err(MirrorError::NoBranch { revision: request.revision.clone() });
        }
        let found = walk::walk(&request.dir)?;
        let (files, bytes) = (found.len() as u64, found.iter().map(|f| f.size).sum());
        teller.tell(Progress::Total { files, bytes });
        let taken = self.take(&found, &kind_by_size, teller)?;
        teller.end();
        teller.go_on()?;
        let before = self.store.catalogue().get_ref(&request.repo, &request.revision)?;
        let parent = before.map(|b| b.commit);
        let (commit, unchanged) = self.commit(request, parent, &taken)?;
        // The name comes last: killed before it, the node has told nobody of what it may not give yet.
        self.share_all(commit, &taken)?;
        self.pin_commit(&request.repo, &request.revision, commit)?;
        self.publish(&request.repo, &request.revision, commit)?;
        if let Some(manifest) = self.store.catalogue().manifest(commit)? {
            self.learn_facts(&request.repo, &manifest)?;
        }
        self.announce_all(&request.repo, commit, &taken)?;
        let (repo, revision) = (request.repo.clone(), request.revision.clone());
        let parent = parent.filter(|_| !unchanged);
        Ok(AddReport { repo, revision, commit, parent, files, bytes, unchanged })
    }

    /// Writes the commit, unless its parent has the very same files already.
    fn commit(
        &self,
        request: &AddRequest,
        parent: Option<CommitId>,
        taken: &[Taken],
    ) -> Result<(CommitId, bool), MirrorError> {
        let before = parent.map(|p| self.store.catalogue().manifest(p)).transpose()?.flatten();
        let message =
            request.message.clone().unwrap_or_else(|| default_message(before.is_some(), taken.len()));
        let meta = self.meta(parent.into_iter().collect(), request.author.as_deref(), message);
        let unchanged = |manifest: &Manifest| {
            before.as_ref().filter(|b| b.info().tree == manifest.info().tree).map(|b| b.commit())
        };
        self.write_commit(&request.repo, meta, taken, &unchanged)
    }

    /// Writes a commit of `taken` with its link table; `known` may say that a commit of these files is here, which
    /// then gets this node's link table instead. Returns the commit, and whether it was known.
    pub(crate) fn write_commit(
        &self,
        repo: &RepoId,
        meta: CommitMeta,
        taken: &[Taken],
        known: &dyn Fn(&Manifest) -> Option<CommitId>,
    ) -> Result<(CommitId, bool), MirrorError> {
        let fail = |source| MirrorError::Proof { what: format!("the new commit of {repo}"), source };
        let files = taken.iter().map(|t| t.file.clone()).collect();
        let (commit, bundle, manifest) = Bundle::build(files, meta).map_err(fail)?;
        let table = LinkTable::new(taken.iter().map(|t| t.link).collect()).map_err(fail)?.encode();
        let catalogue = self.store.catalogue();
        if let Some(commit) = known(&manifest) {
            catalogue.add_commit_to_repo(repo, commit)?;
            catalogue.put_link_table(commit, &table)?;
            locked(&self.tables).forget(commit);
            return Ok((commit, true));
        }
        catalogue.put_manifest(Some(repo), &manifest, &bundle.encode(), Some(&table))?;
        locked(&self.tables).forget(commit);
        Ok((commit, false))
    }

    /// Author and time of a commit that this node writes.
    pub(crate) fn meta(&self, parents: Vec<CommitId>, author: Option<&str>, message: String) -> CommitMeta {
        let own = (format!("hubless {}", self.node.short()), String::new());
        let (author_name, author_mail) = author.map_or(own, split_author);
        CommitMeta { parents, author_name, author_mail, time: self.clock.now(), message }
    }

    /// Says, signed, that `revision` is `commit` and which links its files have.
    pub(crate) fn publish(
        &self,
        repo: &RepoId,
        revision: &Revision,
        commit: CommitId,
    ) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let links = catalogue.link_table(commit)?;
        let links = links.and_then(|bytes| LinkTable::decode(&bytes).ok()).map(|table| table.id());
        // Two in one second must be told apart, and a clock set back must not make this word the older one.
        let before = catalogue.get_ref(repo, revision)?.map_or(Timestamp(0), |r| r.seen.plus(1));
        let seen = self.clock.now().max(before);
        let body = StatementBody {
            repo: repo.clone(),
            revision: revision.clone(),
            commit,
            origin: None,
            seen,
            links,
        };
        let record = RefRecord { commit, seen, by: RefSource::Published };
        let mut batch = catalogue.batch();
        batch.set_ref(repo, revision, record).put_statement(&sign_statement(body, &self.key));
        batch.commit()?;
        locked(&self.memory).forget(repo);
        Ok(())
    }

    pub(crate) fn pin_commit(
        &self,
        repo: &RepoId,
        revision: &Revision,
        commit: CommitId,
    ) -> Result<Pin, MirrorError> {
        let since = self.clock.now();
        let pin = Pin { repo: repo.clone(), revision: revision.clone(), commit, since };
        self.store.catalogue().put_pin(&pin)?;
        Ok(pin)
    }

    /// Others, who may have all of it, are told so.
    pub(crate) fn announce_all(
        &self,
        repo: &RepoId,
        commit: CommitId,
        taken: &[Taken],
    ) -> Result<(), MirrorError> {
        self.announce_commit(commit)?;
        self.announce_repo(repo)?;
        taken.iter().try_for_each(|t| self.announce_file(&t.link.0, t.link.2))
    }
}

fn default_message(again: bool, files: usize) -> String {
    let plural = if files == 1 { "file" } else { "files" };
    format!("{} {files} {plural}\n", if again { "Update to" } else { "Add" })
}

/// `Name <mail>`, or a name alone.
fn split_author(author: &str) -> (String, String) {
    match author.split_once('<') {
        Some((name, mail)) => (name.trim().to_owned(), mail.trim_end_matches('>').trim().to_owned()),
        None => (author.trim().to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_has_a_name_and_perhaps_a_mail_address() {
        assert_eq!(split_author("A B <a@example.org>"), ("A B".into(), "a@example.org".into()));
        assert_eq!(split_author(" A B "), ("A B".into(), String::new()));
        assert_eq!(default_message(false, 1), "Add 1 file\n");
    }
}
