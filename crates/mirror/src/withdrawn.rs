//! A repository that its origin no longer leaves open to everyone, or leaves open again.
//!
//! **Invariant:** what an origin said of who may read is kept until it says something else; whoever writes it down has
//! peers lose, or get back, what it is about, in the same call. Nothing is lost but the right to it: the bytes stay.
//! **Not here:** who may read (`upstream::access`), what is shared in the first place (`sharing`).

use std::collections::HashSet;

use hubless_discovery::DhtKey;
use hubless_origin::OriginErrorKind;
use hubless_store::RefSource;
use hubless_types::{Access, BlobHash, CommitId, FileDigest, RepoFacts, RepoId, SHARD_MIN_BYTES};

use crate::MirrorError;
use crate::mirror::Inner;
use crate::util::locked;

/// Who may read a repository from now on, by the word of the origin that it is known from; `None` if a refusal of this
/// kind says nothing of it. Without `honour_removal`, what was deleted, hidden or switched off there is served on.
const fn closes(kind: OriginErrorKind, before: Access, honour_removal: bool) -> Option<Access> {
    match kind {
        // Whether it is gated or private it did not say; so nothing of it is shown unasked.
        OriginErrorKind::Gated if before.is_open() => Some(Access::Private),
        OriginErrorKind::Gated => Some(before),
        // A token is looked at only where the origin refused whoever shows none.
        OriginErrorKind::RepoNotFound | OriginErrorKind::Disabled | OriginErrorKind::BadToken
            if honour_removal =>
        {
            Some(Access::Private)
        }
        _ => None,
    }
}

impl Inner {
    /// Takes an origin's refusal for its word about `repo`, if it is one: the names of the repository were seen there
    /// by somebody whose word counts, and it is not published here. Says whether it was. Blocks.
    pub(crate) fn note_refusal(
        &self,
        repo: &RepoId,
        origin: &str,
        kind: OriginErrorKind,
    ) -> Result<bool, MirrorError> {
        let catalogue = self.store.catalogue();
        let repo = &catalogue.canonical(repo)?.unwrap_or_else(|| repo.clone());
        let Some(access) = closes(kind, self.access(repo)?, self.config.honour_removal) else {
            return Ok(false);
        };
        if !self.is_from(repo, origin)? {
            return Ok(false);
        }
        let facts = catalogue.facts(repo)?.unwrap_or_default();
        if facts.access != access {
            tracing::info!(%repo, origin, ?kind, "the origin of a repository no longer shows it to everyone");
        }
        self.put_facts(repo, RepoFacts { access, ..facts })?;
        Ok(true)
    }

    /// Whether the names of `repo` were seen at `origin`, and none of them is published here.
    fn is_from(&self, repo: &RepoId, origin: &str) -> Result<bool, MirrorError> {
        let catalogue = self.store.catalogue();
        let refs = catalogue.refs(repo)?;
        if refs.iter().any(|(_, row)| row.by == RefSource::Published) {
            return Ok(false);
        }
        let seen = |by: &RefSource| matches!(by, RefSource::Origin(name) if name == origin);
        if refs.iter().any(|(_, row)| seen(&row.by)) {
            return Ok(true);
        }
        let said = catalogue.statements(repo, None)?;
        Ok(said.iter().any(|s| s.body.origin.as_deref() == Some(origin) && self.counts(&s.signer)))
    }

    /// Keeps what is said of `repo`. Where it is not open to everyone any more, peers lose what they may have of it; where
    /// it is again, they may have that again. Blocks; call it inside a tokio runtime.
    pub(crate) fn put_facts(&self, repo: &RepoId, facts: RepoFacts) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let known = catalogue.facts(repo)?;
        if known.as_ref() == Some(&facts) {
            return Ok(());
        }
        let (was, is) = (known.unwrap_or_default().access.is_open(), facts.access.is_open());
        // Before, so that no kill leaves it closed and given away; and after, for what was shared meanwhile.
        if was && !is {
            self.take_back(repo)?;
        }
        catalogue.put_facts(repo, &facts)?;
        if was == is {
            return Ok(());
        }
        locked(&self.memory).forget(repo);
        locked(&self.shown).forget(repo);
        if is { self.give_again(repo) } else { self.take_back(repo) }
    }

    /// What this node publishes is its own to give: the word of an origin takes nothing of it back.
    fn take_back(&self, repo: &RepoId) -> Result<(), MirrorError> {
        let refs = self.store.catalogue().refs(repo)?;
        if refs.iter().any(|(_, row)| row.by == RefSource::Published) {
            return Ok(());
        }
        self.keep_from_peers(repo)
    }

    /// Peers lose what only `repo` has: its commits that are listed under no other open repository, and the files that
    /// no commit has which they may go on having. Blocks; call it inside a tokio runtime.
    pub(crate) fn keep_from_peers(&self, repo: &RepoId) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let mut commits = Vec::new();
        for commit in catalogue.commits_of(repo)? {
            if !self.is_open_elsewhere(repo, commit)? {
                commits.push(commit);
            }
        }
        let blobs = self.only_in(&commits)?;
        let mut keys = vec![DhtKey::Repo(repo.clone())];
        keys.extend(commits.iter().map(|commit| DhtKey::Commit(*commit)));
        for (hash, size) in &blobs {
            if *size >= SHARD_MIN_BYTES {
                keys.extend(self.shards_of(hash)?.into_iter().map(DhtKey::Shard));
            }
        }
        let hashes: Vec<BlobHash> = blobs.into_iter().map(|(hash, _)| hash).collect();
        catalogue.keep_back(repo, &commits, &hashes)?;
        self.stop_telling(keys)
    }

    fn give_again(&self, repo: &RepoId) -> Result<(), MirrorError> {
        let (commits, blobs) = self.store.catalogue().give_again(repo)?;
        self.announce_repo(repo)?;
        for commit in commits {
            self.announce_commit(commit)?;
        }
        for hash in blobs {
            for shard in self.shards_of(&hash)? {
                let digest = FileDigest::Sha256(shard);
                if let Some(link) = self.held(&digest)? {
                    self.announce_file(&digest, link.size)?;
                }
            }
        }
        Ok(())
    }

    /// Whether another repository that everybody may read lists the commit, and is more than a name under which somebody
    /// asked for it.
    fn is_open_elsewhere(&self, repo: &RepoId, commit: CommitId) -> Result<bool, MirrorError> {
        let catalogue = self.store.catalogue();
        for other in catalogue.repos_of(commit)? {
            if other != *repo
                && self.access(&other)?.is_open()
                && catalogue.refs(&other)?.iter().any(|(_, row)| row.by != RefSource::Commit)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The shared blobs of these commits, with their sizes, without those of other commits that peers may have.
    fn only_in(&self, commits: &[CommitId]) -> Result<Vec<(BlobHash, u64)>, MirrorError> {
        let mut only: HashSet<(BlobHash, u64)> = HashSet::new();
        for commit in commits {
            for blob in self.blobs_of(*commit)? {
                if !only.contains(&blob) && self.store.blobs().is_shared(&blob.0)? {
                    only.insert(blob);
                }
            }
        }
        if !only.is_empty() {
            let ours: HashSet<&CommitId> = commits.iter().collect();
            self.each_manifest(|commit| {
                if !ours.contains(&commit) && self.store.catalogue().is_commit_shared(commit)? {
                    for blob in self.blobs_of(commit)? {
                        only.remove(&blob);
                    }
                }
                Ok(())
            })?;
        }
        Ok(only.into_iter().collect())
    }

    /// The files of a commit whose roots are known, and their sizes.
    pub(crate) fn blobs_of(&self, commit: CommitId) -> Result<Vec<(BlobHash, u64)>, MirrorError> {
        let Some(manifest) = self.store.catalogue().manifest(commit)? else { return Ok(Vec::new()) };
        let mut blobs = Vec::new();
        self.each_link(&manifest, |_, link| {
            blobs.extend(link.map(|link| (link.hash, link.size)));
            Ok(())
        })?;
        Ok(blobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_honoured_unless_the_operator_goes_on() {
        use Access::{GatedAuto, Open, Private};
        use OriginErrorKind::{
            BadToken, Busy, Disabled, Gated, RepoNotFound, RevisionNotFound, Unavailable, Wrong,
        };
        for (kind, before, honoured, not) in [
            (Gated, Open, Some(Private), Some(Private)),
            (Gated, GatedAuto, Some(GatedAuto), Some(GatedAuto)),
            (RepoNotFound, Open, Some(Private), None),
            (RepoNotFound, GatedAuto, Some(Private), None),
            (Disabled, Open, Some(Private), None),
            (BadToken, Open, Some(Private), None),
            (RevisionNotFound, Open, None, None),
            (Busy, Open, None, None),
            (Unavailable, Open, None, None),
            (Wrong, Open, None, None),
        ] {
            assert_eq!(
                (closes(kind, before, true), closes(kind, before, false)),
                (honoured, not),
                "{kind:?}"
            );
        }
    }
}
