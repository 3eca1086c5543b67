//! A stand-in for the Hub, over real git repositories: the same API, redirects, headers and refusals.
//!
//! Repositories are bare ones made by `git`, content is in an LFS folder beside them, and `git http-backend` speaks git.
//! Large files are on a second host, the content network, behind signed addresses, as the Hub keeps them.
//! Everything that is asked is recorded with its headers; everything can go wrong on demand.
//!
//! **Invariant:** a request is recorded before it is answered.
//! **Not here:** writing over HTTP.

mod access;
mod address;
mod answer;
mod api;
mod body;
mod commits;
mod entries;
mod faults;
mod file;
mod git;
mod info;
mod lfs;
mod record;
mod repo;
mod server;
mod state;
mod xet;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hubless_types::{Access, CommitId, RepoFacts, RepoId, Timestamp};
use tempfile::TempDir;

pub use faults::{Budget, HubFaults, Refusal, Scope};
pub use record::{PortOf, Recorded, Who};
pub use repo::HubFile;
pub use xet::{Tamper, XetMode, XetPacking};

use record::Records;
use repo::Git;
use server::Doors;
use state::State;
use xet::XetDoor;

/// A hub that listens on this machine. Its folders and its ports go with it.
pub struct Hub {
    shared: Arc<Shared>,
    doors: tokio::sync::Mutex<Option<Doors>>,
    _dir: TempDir,
}

/// What its two doors and the test see.
pub(crate) struct Shared {
    pub(crate) git: Git,
    pub(crate) state: State,
    pub(crate) records: Records,
    pub(crate) xet: XetDoor,
    /// `http://127.0.0.1:PORT` of the hub itself.
    pub(crate) url: String,
    /// The same of the content network.
    pub(crate) content_url: String,
}

impl Hub {
    /// Starts one that has no repository, on two free ports of the loopback interface. Call it inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// If there is no git, or no port.
    pub async fn start() -> Result<Self> {
        let dir = TempDir::with_prefix("hubless-hub-")?;
        let (hub, content) = (server::listen(0).await?, server::listen(0).await?);
        let shared = Arc::new(Shared {
            git: Git::new(dir.path())?,
            state: State::default(),
            records: Records::default(),
            xet: XetDoor::default(),
            url: format!("http://{}", hub.local_addr()?),
            content_url: format!("http://{}", content.local_addr()?),
        });
        let doors = tokio::sync::Mutex::new(Some(Doors::open(shared.clone(), hub, content)));
        Ok(Self { shared, doors, _dir: dir })
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.shared.url.clone()
    }

    /// Where its large files are: another port, thus another host.
    pub fn content_url(&self) -> String {
        self.shared.content_url.clone()
    }

    /// The folder of a repository's bare git repository.
    pub fn git_dir(&self, repo: &RepoId) -> PathBuf {
        self.shared.git.dir(repo)
    }

    /// Makes a repository without commits, that everyone may read.
    ///
    /// # Errors
    /// If it is there, or git fails.
    pub async fn create(&self, repo: &RepoId) -> Result<()> {
        self.shared.git.create(repo).await?;
        self.shared.state.add_repo(repo);
        Ok(())
    }

    /// Commits these files over what `rev` has (a branch, or a full ref name such as `refs/pr/1`); the repository is
    /// made if it is not there. Files of 1 MiB and more, and those that the Hub's `.gitattributes` name
    /// (`.safetensors`, `.bin`, `.gguf`, `.parquet`), are kept by LFS.
    ///
    /// # Errors
    /// If git refuses.
    pub async fn push(&self, repo: &RepoId, rev: &str, files: &[(&str, &[u8])]) -> Result<CommitId> {
        let files = files.iter().map(|(path, bytes)| HubFile::new(path, bytes)).collect();
        self.push_files(repo, rev, files).await
    }

    /// As [`Self::push`], each file's place said one by one.
    ///
    /// # Errors
    /// As there.
    pub async fn push_files(&self, repo: &RepoId, rev: &str, files: Vec<HubFile>) -> Result<CommitId> {
        self.write(repo, rev, files, true).await
    }

    /// Moves `rev` to a new commit of exactly these files that descends from nothing: a fork, or a forced push.
    ///
    /// # Errors
    /// If git refuses.
    pub async fn rewrite(&self, repo: &RepoId, rev: &str, files: &[(&str, &[u8])]) -> Result<CommitId> {
        let files = files.iter().map(|(path, bytes)| HubFile::new(path, bytes)).collect();
        self.write(repo, rev, files, false).await
    }

    async fn write(&self, repo: &RepoId, rev: &str, files: Vec<HubFile>, follows: bool) -> Result<CommitId> {
        if !self.shared.state.has(repo) {
            self.create(repo).await?;
        }
        let time = self.shared.state.next_time();
        let commit = self.shared.git.commit(repo, rev, files, follows, time).await?;
        self.shared.state.change(repo, |shown| {
            if shown.facts.created == Timestamp(0) {
                shown.facts.created = time;
            }
            shown.facts.modified = time;
        });
        Ok(commit)
    }

    /// Points a ref (a branch's name, or a full ref name) at a commit that is there; tags are annotated.
    ///
    /// # Errors
    /// If git refuses.
    pub async fn point(&self, repo: &RepoId, rev: &str, commit: CommitId) -> Result<()> {
        self.shared.git.point(repo, rev, commit).await
    }

    /// Changes what is said of a repository.
    ///
    /// # Errors
    /// If there is none.
    pub fn facts(&self, repo: &RepoId, change: impl FnOnce(&mut RepoFacts)) -> Result<()> {
        self.shared
            .state
            .change(repo, |shown| change(&mut shown.facts))
            .context("there is no such repository")
    }

    /// Gates a repository's content: only these tokens may read it. Its metadata stays public.
    ///
    /// # Errors
    /// If there is none.
    pub fn gate(&self, repo: &RepoId, tokens: &[&str]) -> Result<()> {
        self.restrict(repo, Access::GatedAuto, tokens)
    }

    /// Hides a repository from everyone but these tokens.
    ///
    /// # Errors
    /// If there is none.
    pub fn private(&self, repo: &RepoId, tokens: &[&str]) -> Result<()> {
        self.restrict(repo, Access::Private, tokens)
    }

    /// Opens a repository to everyone again.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(&self, repo: &RepoId) -> Result<()> {
        self.restrict(repo, Access::Open, &[])
    }

    fn restrict(&self, repo: &RepoId, access: Access, tokens: &[&str]) -> Result<()> {
        tokens.iter().for_each(|token| self.user(token));
        let restricted = self.shared.state.change(repo, |shown| {
            shown.facts.access = access;
            shown.readers = tokens.iter().map(|token| (*token).to_owned()).collect();
        });
        restricted.context("there is no such repository")
    }

    /// Makes a token known that may read nothing in particular. Others are answered 401.
    pub fn user(&self, token: &str) {
        self.shared.state.add_user(token);
    }

    /// Switches a repository off: 403, `Access to this resource is disabled.`
    ///
    /// # Errors
    /// If there is none.
    pub fn disable(&self, repo: &RepoId) -> Result<()> {
        self.shared.state.change(repo, |shown| shown.disabled = true).context("there is no such repository")
    }

    /// Gives a repository another name; the old one redirects from now on.
    ///
    /// # Errors
    /// If there is none, or the new name is taken.
    pub async fn rename(&self, from: &RepoId, to: &RepoId) -> Result<()> {
        self.shared.git.rename(from, to).await?;
        self.shared.state.rename(from, to).context("there is no such repository")
    }

    /// Sets what goes wrong from now on; the default is nothing.
    pub fn set_faults(&self, faults: HubFaults) {
        self.shared.state.set_faults(faults);
    }

    /// Sets what it says it still answers; `None` is the default: it says nothing and answers everything.
    pub fn set_budget(&self, budget: Option<Budget>) {
        self.shared.state.set_budget(budget);
    }

    /// Keeps LFS files in Xet from now on, which is said of each; `None` is the default.
    pub fn keep_in_xet(&self, mode: Option<XetMode>) {
        self.shared.xet.set(mode);
    }

    /// Takes back every leave to ask the Xet store that was given.
    pub fn end_xet_passes(&self) {
        self.shared.xet.end_passes();
    }

    /// Whether it tells clients that large files are in Xet too, as the Hub does, though they are not.
    pub fn claim_xet(&self, claims: bool) {
        self.shared.state.claim_xet(claims);
    }

    /// Has the content network demand these headers from now on, and the LFS batch API give them out with each download;
    /// none is the default.
    pub fn demand_headers(&self, headers: &[(&str, &str)]) {
        self.shared.state.demand_headers(headers);
    }

    /// Makes every signed address of a large file that was given out a 403 from now on.
    pub fn expire_links(&self) {
        self.shared.state.expire_links();
    }

    /// What it was asked so far, both hosts together, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.records.all()
    }

    /// Forgets what it was asked.
    pub fn forget_requests(&self) {
        self.shared.records.clear();
    }

    /// Bytes of bodies that left it so far, both hosts together.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.records.bytes()
    }

    /// Closes both ports and every connection: from here on nobody reaches it. Its repositories stay.
    pub async fn stop(&self) {
        if let Some(doors) = self.doors.lock().await.take() {
            doors.close().await;
        }
    }

    /// Opens the same ports again.
    ///
    /// # Errors
    /// If somebody else has taken one.
    pub async fn resume(&self) -> Result<()> {
        let mut doors = self.doors.lock().await;
        if doors.is_none() {
            let port =
                |url: &str| url.rsplit(':').next().and_then(|port| port.parse().ok()).context("a port");
            let hub = server::listen(port(&self.shared.url)?).await?;
            let content = server::listen(port(&self.shared.content_url)?).await?;
            *doors = Some(Doors::open(self.shared.clone(), hub, content));
        }
        Ok(())
    }
}
