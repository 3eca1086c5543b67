//! What a memory origin has: repositories, their commits and bytes, and who may read them.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hubless_origin::{OriginErrorKind, SeenRef};
use hubless_proof::{Bundle, CommitMeta, NewContent, NewFile, blob_id};
use hubless_types::{
    Access, CommitId, FileDigest, FileEntry, FileMode, POINTER_MAX_BYTES, RepoFacts, RepoId, Revision,
    Sha256, Timestamp,
};
use sha2::{Digest as _, Sha256 as Hasher};

use crate::START;

/// All that it has.
#[derive(Default)]
pub(super) struct Shelf {
    repos: HashMap<RepoId, Repo>,
    renamed: HashMap<RepoId, RepoId>,
    /// Tokens that it knows.
    pub(super) users: HashSet<String>,
    /// Commits made so far: each is a minute after the last.
    made: u64,
}

/// One repository.
#[derive(Default)]
pub(super) struct Repo {
    pub(super) facts: RepoFacts,
    /// Tokens that may read it, where it is not open.
    pub(super) readers: HashSet<String>,
    refs: BTreeMap<String, CommitId>,
    commits: HashMap<CommitId, Bundle>,
    content: HashMap<FileDigest, Bytes>,
}

/// `main` is a branch; a name that begins with `refs/` is whole.
fn full_name(rev: &str) -> String {
    if rev.starts_with("refs/") { rev.to_owned() } else { format!("refs/heads/{rev}") }
}

fn new_file(path: &str, bytes: &[u8], lfs_from: u64) -> Result<(NewFile, FileDigest)> {
    let size = bytes.len() as u64;
    let (content, digest) = if size >= lfs_from {
        let sha256 = Sha256::from_bytes(Hasher::digest(bytes).into());
        (NewContent::Lfs { sha256, size }, FileDigest::Sha256(sha256))
    } else {
        let blob = blob_id(bytes)?;
        let small = size <= POINTER_MAX_BYTES;
        let content = if small { NewContent::Bytes(bytes.to_vec()) } else { NewContent::Git { blob, size } };
        (content, FileDigest::Git(blob))
    };
    Ok((NewFile { path: path.parse()?, mode: FileMode::Regular, content }, digest))
}

impl Shelf {
    pub(super) fn publish(
        &mut self,
        repo: &RepoId,
        rev: &str,
        files: &[(&str, &[u8])],
        lfs_from: u64,
        follows: bool,
    ) -> Result<CommitId> {
        let shelf = self.repos.entry(repo.clone()).or_default();
        let name = full_name(rev);
        let parent = shelf.refs.get(&name).filter(|_| follows).copied();
        self.made += 1;
        let time = Timestamp(START.0 + 60 * self.made);
        let mut new_files = Vec::with_capacity(files.len());
        for (path, bytes) in files {
            let (file, digest) = new_file(path, bytes, lfs_from)?;
            new_files.push(file);
            shelf.content.insert(digest, Bytes::copy_from_slice(bytes));
        }
        let meta = CommitMeta {
            parents: parent.into_iter().collect(),
            author_name: "Ada".into(),
            author_mail: "ada@example.org".into(),
            time,
            message: "Upload".into(),
        };
        let (commit, bundle, _) = Bundle::build(new_files, meta)?;
        if shelf.facts.created == Timestamp(0) {
            shelf.facts.created = time;
        }
        shelf.facts.modified = time;
        shelf.commits.insert(commit, bundle);
        shelf.refs.insert(name, commit);
        Ok(commit)
    }

    pub(super) fn point(&mut self, repo: &RepoId, rev: &str, commit: CommitId) -> Result<()> {
        let shelf = self.repos.get_mut(repo).with_context(|| format!("there is no {repo}"))?;
        ensure!(shelf.commits.contains_key(&commit), "{repo} has no {commit}");
        shelf.refs.insert(full_name(rev), commit);
        Ok(())
    }

    pub(super) fn repo_mut(&mut self, repo: &RepoId) -> Option<&mut Repo> {
        self.repos.get_mut(repo)
    }

    pub(super) fn rename(&mut self, from: &RepoId, to: &RepoId) -> Option<()> {
        let shelf = self.repos.remove(from)?;
        self.repos.insert(to.clone(), shelf);
        self.renamed.insert(from.clone(), to.clone());
        Some(())
    }

    /// The name that a repository has now, for those who may know of it.
    pub(super) fn find(&self, repo: &RepoId, token: Option<&str>) -> Result<RepoId, OriginErrorKind> {
        if token.is_some_and(|token| !self.users.contains(token)) {
            return Err(OriginErrorKind::BadToken);
        }
        let mut name = repo;
        // As many renames as there are; a ring of them ends here.
        for _ in 0..=self.renamed.len() {
            let Some(next) = self.renamed.get(name).filter(|_| !self.repos.contains_key(name)) else { break };
            name = next;
        }
        let same =
            |known: &&RepoId| known.kind() == name.kind() && known.name().eq_ignore_ascii_case(name.name());
        let known = self.repos.get_key_value(name).map(|(known, _)| known);
        let known = known.or_else(|| self.repos.keys().find(same)).ok_or(OriginErrorKind::RepoNotFound)?;
        let shelf = &self.repos[known];
        let hidden = shelf.facts.access == Access::Private;
        if hidden && !token.is_some_and(|token| shelf.readers.contains(token)) {
            return Err(OriginErrorKind::RepoNotFound);
        }
        Ok(known.clone())
    }

    fn get(&self, repo: &RepoId) -> Result<&Repo, OriginErrorKind> {
        self.repos.get(repo).ok_or(OriginErrorKind::RepoNotFound)
    }

    pub(super) fn resolve(
        &self,
        repo: &RepoId,
        revision: &Revision,
    ) -> Result<(CommitId, RepoFacts), OriginErrorKind> {
        let shelf = self.get(repo)?;
        let text = revision.as_str();
        let named = [text.to_owned(), format!("refs/heads/{text}"), format!("refs/tags/{text}")];
        let head = (text == "HEAD").then(|| "refs/heads/main".to_owned());
        let found = named.iter().chain(&head).find_map(|name| shelf.refs.get(name)).copied();
        let written = revision.as_commit().filter(|commit| shelf.commits.contains_key(commit));
        let commit = found.or(written).ok_or(OriginErrorKind::RevisionNotFound)?;
        Ok((commit, shelf.facts.clone()))
    }

    pub(super) fn refs(&self, repo: &RepoId) -> Vec<SeenRef> {
        let refs = self.repos.get(repo).map(|shelf| &shelf.refs).into_iter().flatten();
        refs.map(|(name, commit)| SeenRef { name: name.clone(), commit: *commit }).collect()
    }

    pub(super) fn bundle(&self, repo: &RepoId, commit: CommitId) -> Result<Bundle, OriginErrorKind> {
        self.get(repo)?.commits.get(&commit).cloned().ok_or(OriginErrorKind::RevisionNotFound)
    }

    pub(super) fn may_read(&self, repo: &RepoId, token: Option<&str>) -> Result<(), OriginErrorKind> {
        let shelf = self.get(repo)?;
        let lets_in = token.is_some_and(|token| shelf.readers.contains(token));
        if shelf.facts.access.is_open() || lets_in { Ok(()) } else { Err(OriginErrorKind::Gated) }
    }

    pub(super) fn content(
        &self,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
        token: Option<&str>,
    ) -> Result<Bytes, OriginErrorKind> {
        self.may_read(repo, token)?;
        let shelf = self.get(repo)?;
        if !shelf.commits.contains_key(&commit) {
            return Err(OriginErrorKind::RevisionNotFound);
        }
        shelf.content.get(&entry.digest()).cloned().ok_or(OriginErrorKind::EntryNotFound)
    }
}
