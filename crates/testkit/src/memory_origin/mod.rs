//! An origin in memory: real commits and bundles, no HTTP, faults on demand, and a record of what it was asked.
//!
//! Clones are the same origin. Time is tokio's: with paused time a stall of seconds takes none.

mod body;
mod shelf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use bytes::Bytes;
use hubless_origin::{
    Breaker, Origin, OriginBody, OriginError, OriginErrorKind, OriginStatus, Seen, SeenRef,
};
use hubless_proof::Bundle;
use hubless_types::{
    Access, ByteRange, CommitId, FileEntry, LFS_MIN_BYTES, RepoFacts, RepoId, Revision, Token,
};

use shelf::Shelf;

/// What goes wrong with a [`MemoryOrigin`]. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginFaults {
    /// Nobody reaches it.
    pub offline: bool,
    /// It refuses everything, for this reason.
    pub refuses: Option<OriginErrorKind>,
    /// It refuses content alone, for this reason.
    pub refuses_content: Option<OriginErrorKind>,
    /// It waits as long before it answers anything.
    pub delay: Duration,
    /// The byte at this offset of every file is wrong.
    pub wrong_byte_at: Option<u64>,
    /// A body ends, with an error, after this many bytes.
    pub cut_after: Option<u64>,
    /// A body goes no further after this many bytes, and never ends.
    pub stall_after: Option<u64>,
    /// Bytes a second of each body.
    pub bytes_per_second: Option<u64>,
    /// A bundle's objects hash to something else: its first tree has a byte changed.
    pub wrong_bundle: bool,
}

/// What was asked of a [`MemoryOrigin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// For what.
    pub what: Question,
    /// Of which repository; none for a token's owner.
    pub repo: Option<RepoId>,
    /// The token that came with it.
    pub token: Option<String>,
}

/// One of the trait's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What a name means.
    Resolve(Revision),
    /// The refs.
    Refs,
    /// A commit's objects.
    Bundle(CommitId),
    /// Bytes of a file.
    Open(String, ByteRange),
    /// Whether a token may read.
    MayRead,
    /// Whose a token is.
    WhoAmI,
}

/// Most questions that are remembered; the oldest are forgotten first.
const MAX_ASKED: usize = 65_536;

/// An origin in memory.
#[derive(Clone)]
pub struct MemoryOrigin {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shelf: Shelf,
    faults: OriginFaults,
    asked: Vec<Asked>,
    failures: u64,
    bytes: u64,
}

impl MemoryOrigin {
    /// An origin that has nothing yet. `name` is its address, such as `https://hub.test`.
    pub fn new(name: &str) -> Self {
        Self { inner: Arc::new(Inner { name: name.to_owned(), state: Mutex::default() }) }
    }

    /// As the mirror takes it.
    pub fn origin(&self) -> Arc<dyn Origin> {
        Arc::new(self.clone())
    }

    /// Makes a commit of exactly these files, on top of what `rev` is, and moves `rev` (`main`, or a full name such as
    /// `refs/tags/v1`) there. Files from [`LFS_MIN_BYTES`] on are kept by LFS.
    ///
    /// # Errors
    /// If a path or revision is none.
    pub fn publish(&self, repo: &RepoId, rev: &str, files: &[(&str, &[u8])]) -> Result<CommitId> {
        self.publish_with(repo, rev, files, LFS_MIN_BYTES)
    }

    /// As [`Self::publish`], with LFS for files from `lfs_from` bytes on.
    ///
    /// # Errors
    /// As there.
    pub fn publish_with(
        &self,
        repo: &RepoId,
        rev: &str,
        files: &[(&str, &[u8])],
        lfs_from: u64,
    ) -> Result<CommitId> {
        self.state().shelf.publish(repo, rev, files, lfs_from, true)
    }

    /// As [`Self::publish`], but the new commit descends from nothing: a fork, where `rev` was something before.
    ///
    /// # Errors
    /// As there.
    pub fn rewrite(&self, repo: &RepoId, rev: &str, files: &[(&str, &[u8])]) -> Result<CommitId> {
        self.state().shelf.publish(repo, rev, files, LFS_MIN_BYTES, false)
    }

    /// Points `rev` at a commit that is there, new or old.
    ///
    /// # Errors
    /// If the repository has no such commit.
    pub fn point(&self, repo: &RepoId, rev: &str, commit: CommitId) -> Result<()> {
        self.state().shelf.point(repo, rev, commit)
    }

    /// Changes what is said of a repository.
    ///
    /// # Errors
    /// If there is none.
    pub fn facts(&self, repo: &RepoId, change: impl FnOnce(&mut RepoFacts)) -> Result<()> {
        let mut state = self.state();
        let shown = state.shelf.repo_mut(repo).with_context(|| format!("there is no {repo}"))?;
        change(&mut shown.facts);
        Ok(())
    }

    /// Says who may read a repository; those with one of `tokens`, where it is not open.
    ///
    /// # Errors
    /// If there is none.
    pub fn restrict(&self, repo: &RepoId, access: Access, tokens: &[&str]) -> Result<()> {
        let mut state = self.state();
        let shown = state.shelf.repo_mut(repo).with_context(|| format!("there is no {repo}"))?;
        shown.facts.access = access;
        shown.readers = tokens.iter().map(|token| (*token).to_owned()).collect();
        state.shelf.users.extend(tokens.iter().map(|token| (*token).to_owned()));
        Ok(())
    }

    /// Makes a token known that may read nothing in particular.
    pub fn user(&self, token: &str) {
        self.state().shelf.users.insert(token.to_owned());
    }

    /// Gives a repository another name; the old one leads to it from now on.
    ///
    /// # Errors
    /// If there is none.
    pub fn rename(&self, from: &RepoId, to: &RepoId) -> Result<()> {
        self.state().shelf.rename(from, to).ok_or_else(|| anyhow!("there is no {from}"))
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: OriginFaults) {
        self.state().faults = faults;
    }

    /// What it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Forgets what it was asked.
    pub fn forget_asked(&self) {
        self.state().asked.clear();
    }

    /// Bytes of files that it sent.
    pub fn bytes_sent(&self) -> u64 {
        self.state().bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the question, waits as it is told to, and refuses if it must.
    async fn hear(
        &self,
        what: Question,
        repo: Option<&RepoId>,
        token: Option<&Token>,
    ) -> Result<(), OriginError> {
        let faults = {
            let mut state = self.state();
            if state.asked.len() == MAX_ASKED {
                state.asked.remove(0);
            }
            let token = token.map(|token| token.reveal().to_owned());
            state.asked.push(Asked { what: what.clone(), repo: repo.cloned(), token });
            state.faults.clone()
        };
        tokio::time::sleep(faults.delay).await;
        let content = matches!(what, Question::Open(..));
        let refused = if faults.offline {
            Some(self.unreachable("connection refused"))
        } else {
            let reason = faults.refuses.or(faults.refuses_content.filter(|_| content));
            reason.map(|kind| self.refusal(kind))
        };
        refused.map_or(Ok(()), |error| Err(self.failed(error)))
    }

    fn failed(&self, error: OriginError) -> OriginError {
        self.state().failures += 1;
        error
    }

    fn unreachable(&self, why: &str) -> OriginError {
        OriginError::Unreachable { origin: self.inner.name.clone(), why: why.to_owned() }
    }

    /// The error that an origin over HTTP would give for this reason.
    fn refusal(&self, kind: OriginErrorKind) -> OriginError {
        let origin = self.inner.name.clone();
        let (status, said) = match kind {
            OriginErrorKind::RepoNotFound => (404, "Repository not found"),
            OriginErrorKind::RevisionNotFound => (404, "Revision not found"),
            OriginErrorKind::EntryNotFound => (404, "Entry not found"),
            OriginErrorKind::Gated => (403, "Access to this repository is restricted"),
            OriginErrorKind::Disabled => (403, "Access to this resource is disabled."),
            OriginErrorKind::BadToken => (401, "Invalid credentials in Authorization header"),
            OriginErrorKind::Busy => {
                return OriginError::Limited { origin, status: 429, wait: Duration::from_secs(7) };
            }
            OriginErrorKind::Unavailable => return self.unreachable("it answered 503"),
            OriginErrorKind::Wrong => return OriginError::Length { origin, got: 1, expected: 2 },
        };
        OriginError::Refused { origin, status, kind, said: said.to_owned() }
    }

    /// The repository's own name, if whoever holds `token` may know of it.
    fn known(&self, repo: &RepoId, token: Option<&Token>) -> Result<RepoId, OriginError> {
        let known = self.state().shelf.find(repo, token.map(Token::reveal));
        known.map_err(|kind| self.failed(self.refusal(kind)))
    }
}

#[async_trait]
impl Origin for MemoryOrigin {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn status(&self) -> OriginStatus {
        let state = self.state();
        OriginStatus {
            name: self.inner.name.clone(),
            breaker: Breaker::Closed,
            trouble: None,
            wait: None,
            budget: None,
            requests: state.asked.len() as u64,
            failures: state.failures,
            bytes: state.bytes,
            last_error: None,
        }
    }

    async fn resolve(
        &self,
        repo: &RepoId,
        revision: &Revision,
        token: Option<&Token>,
    ) -> Result<Seen, OriginError> {
        self.hear(Question::Resolve(revision.clone()), Some(repo), token).await?;
        let repo = self.known(repo, token)?;
        let found = self.state().shelf.resolve(&repo, revision);
        let (commit, facts) = found.map_err(|kind| self.failed(self.refusal(kind)))?;
        Ok(Seen { repo, commit, facts })
    }

    async fn refs(&self, repo: &RepoId, token: Option<&Token>) -> Result<Vec<SeenRef>, OriginError> {
        self.hear(Question::Refs, Some(repo), token).await?;
        let repo = self.known(repo, token)?;
        Ok(self.state().shelf.refs(&repo))
    }

    async fn bundle(
        &self,
        repo: &RepoId,
        commit: CommitId,
        token: Option<&Token>,
    ) -> Result<Bundle, OriginError> {
        self.hear(Question::Bundle(commit), Some(repo), token).await?;
        let repo = self.known(repo, token)?;
        let (found, wrong) = {
            let state = self.state();
            (state.shelf.bundle(&repo, commit), state.faults.wrong_bundle)
        };
        let mut bundle = found.map_err(|kind| self.failed(self.refusal(kind)))?;
        if wrong && let Some(byte) = bundle.trees.first_mut().and_then(|tree| tree.last_mut()) {
            *byte ^= 1;
        }
        Ok(bundle)
    }

    async fn open(
        &self,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
        range: ByteRange,
        token: Option<&Token>,
    ) -> Result<OriginBody, OriginError> {
        self.hear(Question::Open(entry.path.to_string(), range), Some(repo), token).await?;
        let repo = self.known(repo, token)?;
        let (found, faults) = {
            let state = self.state();
            let token = token.map(Token::reveal);
            (state.shelf.content(&repo, commit, entry, token), state.faults.clone())
        };
        let content = found.map_err(|kind| self.failed(self.refusal(kind)))?;
        Ok(body::send(self.clone(), content, range, faults))
    }

    async fn may_read(&self, repo: &RepoId, token: Option<&Token>) -> Result<(), OriginError> {
        self.hear(Question::MayRead, Some(repo), token).await?;
        let repo = self.known(repo, token)?;
        let may = self.state().shelf.may_read(&repo, token.map(Token::reveal));
        may.map_err(|kind| self.failed(self.refusal(kind)))
    }

    async fn whoami(&self, token: &Token) -> Result<Bytes, OriginError> {
        self.hear(Question::WhoAmI, None, Some(token)).await?;
        if !self.state().shelf.users.contains(token.reveal()) {
            return Err(self.failed(self.refusal(OriginErrorKind::BadToken)));
        }
        let said = serde_json::json!({
            "type": "user", "name": "ada", "orgs": [],
            "auth": {"accessToken": {"displayName": "test", "role": "read"}},
        });
        Ok(Bytes::from(said.to_string()))
    }
}
