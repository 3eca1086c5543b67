//! What is asked of a mirror.

use std::path::PathBuf;

use hubless_types::{NodeId, RepoId, RepoKind, Revision, Token};

/// Whose word about a name is taken for this one request, beside the configured ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Accept {
    /// Nodes named by `--accept-from`.
    #[serde(default)]
    pub from: Vec<NodeId>,
}

/// On whose behalf something is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Whose word about names counts for this request.
    pub accept: Accept,
    /// What an origin is shown, for this request alone.
    pub token: Option<Token>,
}

impl Caller {
    /// Somebody who shows nothing.
    pub fn anyone() -> Self {
        Self::default()
    }

    /// Somebody who takes these nodes' word, beside the configured ones'.
    pub fn taking(from: impl Into<Vec<NodeId>>) -> Self {
        Self { accept: Accept { from: from.into() }, token: None }
    }
}

/// Where a pull puts files.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullTo {
    /// Into this node's own store only.
    Store,
    /// And as plain files beneath a folder.
    Dir(PathBuf),
    /// And into a Hugging Face cache: the `hub` folder, or its parent.
    HfCache(PathBuf),
}

/// A request to fetch a revision.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PullRequest {
    /// The repository.
    pub repo: RepoId,
    /// The revision.
    pub revision: Revision,
    /// Globs over paths; empty means all.
    #[serde(default)]
    pub include: Vec<String>,
    /// Globs over paths that are left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Where to.
    pub to: PullTo,
    /// Whose word is taken.
    #[serde(default)]
    pub accept: Accept,
    /// Whether other files that stand where files are written are replaced; else nothing is fetched where one does.
    #[serde(default)]
    pub overwrite: bool,
    /// Whether the commit is pinned as well.
    #[serde(default)]
    pub pin: bool,
    /// What an origin is shown; never written anywhere.
    #[serde(skip)]
    pub token: Option<Token>,
}

impl PullRequest {
    /// All of `revision`, into the store.
    pub fn all(repo: RepoId, revision: Revision) -> Self {
        Self {
            repo,
            revision,
            include: Vec::new(),
            exclude: Vec::new(),
            to: PullTo::Store,
            accept: Accept::default(),
            overwrite: false,
            pin: false,
            token: None,
        }
    }

    /// On whose behalf it is.
    pub(crate) fn caller(&self) -> Caller {
        Caller { accept: self.accept.clone(), token: self.token.clone() }
    }
}

/// Most repositories that are listed where no number is asked for.
pub const LIST_MAX: usize = 1000;

/// By what a list is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListSort {
    /// Kind and name.
    #[default]
    Name,
    /// Downloads, by a hub's count; the most come first.
    Downloads,
    /// Likes, by a hub's count.
    Likes,
    /// When it was made; the newest come first.
    Created,
    /// When it last changed.
    Modified,
    /// What is new and liked.
    Trending,
}

/// A request to list what is known here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListRequest {
    /// Words that must all be in the name.
    pub search: String,
    /// Who owns it.
    pub author: Option<String>,
    /// Tags that it must have.
    pub filter: Vec<String>,
    /// Only of this kind.
    pub kind: Option<RepoKind>,
    /// The order, in each kind.
    pub sort: ListSort,
    /// Most repositories.
    pub limit: usize,
}

impl Default for ListRequest {
    fn default() -> Self {
        let (search, author, filter, kind) = (String::new(), None, Vec::new(), None);
        Self { search, author, filter, kind, sort: ListSort::Name, limit: LIST_MAX }
    }
}

/// A request to publish a folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AddRequest {
    /// The folder.
    pub dir: PathBuf,
    /// Under which name.
    pub repo: RepoId,
    /// Under which branch.
    #[serde(default = "Revision::main")]
    pub revision: Revision,
    /// The commit's message; one is made if none is given.
    #[serde(default)]
    pub message: Option<String>,
    /// `Name <mail>` of the commit; this node's short id if none is given.
    #[serde(default)]
    pub author: Option<String>,
}

impl AddRequest {
    /// `dir` as the `main` branch of `repo`.
    pub fn new(dir: impl Into<PathBuf>, repo: RepoId) -> Self {
        Self { dir: dir.into(), repo, revision: Revision::main(), message: None, author: None }
    }
}

/// A request to take over a Hugging Face cache.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AdoptRequest {
    /// The cache: its `hub` folder, or that folder's parent.
    pub cache: PathBuf,
    /// Only this repository.
    #[serde(default)]
    pub only: Option<RepoId>,
    /// Whether others are told of what was taken over. A cache does not say which of its repositories are gated
    /// or private, so this is asked for, never assumed.
    #[serde(default)]
    pub share: bool,
}
