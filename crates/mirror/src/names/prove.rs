//! Puts together what proves a name, so that anyone can check it without this node.

use std::sync::Arc;

use hubless_proof::{Bundle, LinkTable, MAX_PROOF_STATEMENTS, ProofFile};
use hubless_types::{CommitId, LinkTrust, Manifest, RepoId, Revision, Statement};

use crate::mirror::Inner;
use crate::resolve::Ask;
use crate::util::blocking;
use crate::{Caller, Mirror, MirrorError};

impl Mirror {
    /// The encoded [`ProofFile`] of what `revision` of `repo` is: its statements, its objects, and the links of its
    /// files that are proven or vouched for here.
    ///
    /// # Errors
    /// Those of [`Mirror::resolve`] and [`Mirror::manifest`]; [`MirrorError::CommitNotFound`] for a snapshot that
    /// was adopted from a cache, whose own objects nobody reached has.
    pub async fn prove(
        &self,
        repo: &RepoId,
        revision: &Revision,
        caller: &Caller,
    ) -> Result<Vec<u8>, MirrorError> {
        let inner = &self.inner;
        inner.check_existence(caller, repo).await?;
        let resolved = inner.resolve(repo, revision, caller, Ask::Recently).await?;
        let (repo, commit) = (resolved.repo, resolved.commit);
        let manifest = inner.real_manifest(caller, &repo, commit).await?;
        let (inner, revision) = (Arc::clone(inner), revision.clone());
        blocking(move || {
            let catalogue = inner.store.catalogue();
            let bytes = catalogue.bundle(commit)?.ok_or(MirrorError::CommitNotFound { commit })?;
            let bundle = Bundle::decode(&bytes)
                .map_err(|source| MirrorError::Proof { what: format!("the manifest of {commit}"), source })?;
            let statements = inner.statements_for(&repo, commit)?;
            let links = inner.links_for(commit, &manifest, &statements)?;
            Ok(ProofFile { repo, revision, statements, bundle, links }.encode())
        })
        .await
    }
}

impl Inner {
    /// What is said of the commit; the words of those who count here first, then the newest.
    fn statements_for(&self, repo: &RepoId, commit: CommitId) -> Result<Vec<Statement>, MirrorError> {
        let mut statements = self.store.catalogue().statements(repo, None)?;
        statements.retain(|s| s.body.commit == commit);
        statements.sort_by_key(|s| (!self.counts(&s.signer), std::cmp::Reverse(s.body.seen), s.signer));
        statements.truncate(MAX_PROOF_STATEMENTS);
        Ok(statements)
    }

    /// The link table that somebody signed; else the links that are known here, which is this node's word.
    fn links_for(
        &self,
        commit: CommitId,
        manifest: &Manifest,
        statements: &[Statement],
    ) -> Result<Option<LinkTable>, MirrorError> {
        let catalogue = self.store.catalogue();
        let stored = catalogue.link_table(commit)?.and_then(|bytes| LinkTable::decode(&bytes).ok());
        if let Some(table) = stored {
            let id = table.id();
            if statements.iter().any(|s| s.body.links == Some(id)) {
                return Ok(Some(table));
            }
        }
        let mut rows = Vec::new();
        self.each_link(manifest, |entry, link| {
            let good = link.filter(|l| l.trust >= LinkTrust::Vouched && l.size == entry.size);
            rows.extend(good.map(|link| (link.digest, link.hash, link.size)));
            Ok(())
        })?;
        Ok(LinkTable::new(rows).ok().filter(|table| !table.is_empty()))
    }
}
