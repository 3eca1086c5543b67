//! Several rows that are written together.

use hubless_types::{
    BlobHash, CommitId, FileDigest, Link, Manifest, Pin, RepoFacts, RepoId, Revision, Statement, Timestamp,
};

use super::manifests::EncodedManifest;
use super::records::{BlobRecord, RefRecord};
use super::txn::Txn;
use super::{Catalogue, announce, blobs, facts, links, pins, refs, repos, shared, statements};
use crate::error::Result;

type Step = Box<dyn FnOnce(&mut Txn<'_>) -> Result<()> + Send>;

/// A change of several rows. Nothing happens before [`Batch::commit`]; each step follows the rules of the method of
/// [`Catalogue`] by the same name.
#[must_use = "nothing is written before `commit`"]
pub struct Batch<'a> {
    catalogue: &'a Catalogue,
    steps: Vec<Step>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(catalogue: &'a Catalogue) -> Self {
        Self { catalogue, steps: Vec::new() }
    }

    fn step(&mut self, step: impl FnOnce(&mut Txn<'_>) -> Result<()> + Send + 'static) -> &mut Self {
        self.steps.push(Box::new(step));
        self
    }

    /// Stores a manifest; a very large one writes its rows of files at once, and appears with the batch.
    ///
    /// # Errors
    /// As [`Catalogue::put_manifest`].
    pub fn put_manifest(
        &mut self,
        repo: Option<&RepoId>,
        manifest: &Manifest,
        bundle: &[u8],
        link_table: Option<&[u8]>,
    ) -> Result<&mut Self> {
        let encoded = EncodedManifest::new(self.catalogue, repo, manifest, bundle, link_table)?;
        Ok(self.step(move |txn| encoded.put(txn)))
    }

    /// Lists a commit under a repository.
    pub fn add_commit_to_repo(&mut self, repo: &RepoId, commit: CommitId) -> &mut Self {
        let repo = repo.clone();
        self.step(move |txn| repos::add_commit(txn, &repo, commit))
    }

    /// Sets where a name points.
    pub fn set_ref(&mut self, repo: &RepoId, revision: &Revision, record: RefRecord) -> &mut Self {
        let (repo, revision) = (repo.clone(), revision.clone());
        self.step(move |txn| refs::set(txn, &repo, &revision, &record))
    }

    /// Keeps what is said of a repository.
    pub fn put_facts(&mut self, repo: &RepoId, facts: &RepoFacts) -> &mut Self {
        let (repo, facts) = (repo.clone(), facts.clone());
        self.step(move |txn| facts::put(txn, &repo, &facts))
    }

    /// Stores a link.
    pub fn put_link(&mut self, link: &Link) -> &mut Self {
        let link = *link;
        self.step(move |txn| links::put(txn, &link).map(drop))
    }

    /// Forgets a link that is not proven.
    pub fn strike_link(&mut self, digest: &FileDigest, hash: &BlobHash) -> &mut Self {
        let (digest, hash) = (*digest, *hash);
        self.step(move |txn| links::strike(txn, &digest, &hash).map(drop))
    }

    /// Stores what is known of a blob.
    pub fn put_blob(&mut self, hash: &BlobHash, record: &BlobRecord) -> &mut Self {
        let (hash, record) = (*hash, record.clone());
        self.step(move |txn| blobs::put(txn, &hash, &record))
    }

    /// Forgets a blob.
    pub fn remove_blob(&mut self, hash: &BlobHash) -> &mut Self {
        let hash = *hash;
        self.step(move |txn| blobs::remove(txn, &hash))
    }

    /// Lets peers have a manifest.
    pub fn share_commit(&mut self, commit: CommitId) -> &mut Self {
        self.step(move |txn| shared::share_commit(txn, commit))
    }

    /// Stores a pin.
    pub fn put_pin(&mut self, pin: &Pin) -> &mut Self {
        let pin = pin.clone();
        self.step(move |txn| pins::put(txn, &pin))
    }

    /// Stores a statement.
    pub fn put_statement(&mut self, statement: &Statement) -> &mut Self {
        let (statement, node) = (statement.clone(), self.catalogue.inner.node);
        let limit = self.catalogue.inner.statement_limit;
        self.step(move |txn| statements::put(txn, &statement, statement.signer == node, limit).map(drop))
    }

    /// Puts a key into the announce queue.
    pub fn schedule(&mut self, key: &[u8], due: Timestamp) -> &mut Self {
        let key = key.to_vec();
        self.step(move |txn| announce::schedule(txn, &key, due))
    }

    /// Takes a key out of the announce queue.
    pub fn unschedule(&mut self, key: &[u8]) -> &mut Self {
        let key = key.to_vec();
        self.step(move |txn| announce::unschedule(txn, &key).map(drop))
    }

    /// Writes all of it, or none.
    ///
    /// # Errors
    /// What the first step that failed says; then nothing is written.
    pub fn commit(self) -> Result<()> {
        let steps = self.steps;
        self.catalogue.change(|txn| steps.into_iter().try_for_each(|step| step(txn)))
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}
