//! Who may read what is not open to everyone: asked of the origin, for this very request.

use std::sync::{Arc, Mutex, Weak};

use hubless_origin::{OriginError, OriginErrorKind};
use hubless_store::{Draft, RefSource};
use hubless_types::{Access, BlobHash, Link, RepoFacts, RepoId};
use tokio::sync::OnceCell;

use super::fill::FillError;
use super::remote::{Errand, Remote};
use crate::mirror::Inner;
use crate::util::{blocking, locked};
use crate::{Caller, Mirror, MirrorError};

/// Roots under which one errand's file is fetched from peers that are remembered: as many as are tried, and one more.
const MAX_ROOTS: usize = 9;

impl Mirror {
    /// Whether `caller` may read the content of `repo` now. For what is open to everyone nobody is asked.
    ///
    /// # Errors
    /// [`MirrorError::Origin`] with the origin's refusal; [`MirrorError::Unchecked`] if it cannot be asked.
    pub async fn may_read(&self, caller: &Caller, repo: &RepoId) -> Result<(), MirrorError> {
        self.inner.check_content(caller, repo).await
    }

    /// Whether the content of `repo` is open to everyone, as far as this node was told.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn is_open(&self, repo: &RepoId) -> Result<bool, MirrorError> {
        Ok(self.inner.access(repo)?.is_open())
    }

    /// Whether `caller` may know that there is such a repository. Nobody is asked for one that is not private.
    ///
    /// # Errors
    /// Those that a repository gives which nobody knows; [`MirrorError::Origin`] with the origin's other refusals.
    pub async fn may_know(&self, caller: &Caller, repo: &RepoId) -> Result<(), MirrorError> {
        self.inner.check_existence(caller, repo).await
    }

    /// Who holds the caller's token, in the own JSON of the first origin that has accounts; `None` without one.
    ///
    /// # Errors
    /// [`MirrorError::Origin`] with the origin's refusal.
    pub async fn whoami(&self, caller: &Caller) -> Result<Option<bytes::Bytes>, MirrorError> {
        let origin = self.inner.origins.iter().find(|origin| origin.has_accounts());
        let (Some(origin), Some(token)) = (origin, &caller.token) else {
            return Ok(None);
        };
        Ok(Some(origin.whoami(token).await?))
    }
}

/// What is to be closed before anything of a file comes that is given to a token alone.
#[derive(Default)]
pub(super) struct Closing {
    mirror: Weak<Inner>,
    /// Roots under which the file is fetched from peers.
    roots: Mutex<Vec<BlobHash>>,
    done: OnceCell<()>,
}

impl Closing {
    pub(super) fn of(mirror: &Arc<Inner>) -> Self {
        Self { mirror: Arc::downgrade(mirror), ..Self::default() }
    }
}

impl Errand {
    /// The file is fetched from peers under this root.
    pub(crate) fn comes_under(&self, root: BlobHash) {
        let mut roots = locked(&self.closing.roots);
        if roots.len() < MAX_ROOTS && !roots.contains(&root) {
            roots.push(root);
        }
    }

    /// Peers get nothing of the file any more, and its repository is closed: its origin gives it to a token alone.
    pub(super) async fn close(&self) -> Result<(), MirrorError> {
        let close = || async {
            let inner = self.closing.mirror.upgrade().ok_or(MirrorError::Stopped)?;
            // First: it withdraws what is shared.
            inner.note_closed(&self.repo).await?;
            let (mut roots, digest) = (locked(&self.closing.roots).clone(), self.entry.digest());
            blocking(move || {
                roots.extend(inner.store.catalogue().link(&digest)?.map(|link| link.hash));
                roots.iter().try_for_each(|root| inner.store.blobs().unshare(root).map(drop))?;
                Ok(())
            })
            .await
        };
        self.closing.done.get_or_try_init(close).await.copied()
    }

    /// Notes of a draft that some of it is not for everybody, before that comes: what this fetch leaves of it is for no
    /// other repository's.
    pub(super) fn mark(&self, draft: &Draft) -> Result<(), FillError> {
        let inner = self.closing.mirror.upgrade().ok_or(FillError::Stopped)?;
        Ok(inner.store.catalogue().note_draft_given(&draft.digest(), &self.repo)?)
    }
}

impl Inner {
    /// Who may read the content of `repo`, as far as this node was told.
    pub(crate) fn access(&self, repo: &RepoId) -> Result<Access, MirrorError> {
        Ok(self.store.catalogue().access(repo)?)
    }

    /// As [`Mirror::may_read`].
    pub(crate) async fn check_content(&self, caller: &Caller, repo: &RepoId) -> Result<(), MirrorError> {
        if self.access(repo)?.is_open() {
            return Ok(());
        }
        self.ask_access(caller, repo).await
    }

    /// Whether `caller` may know of `repo` at all; what a gated one has is no secret.
    pub(crate) async fn check_existence(&self, caller: &Caller, repo: &RepoId) -> Result<(), MirrorError> {
        if self.access(repo)? != Access::Private {
            return Ok(());
        }
        self.ask_access(caller, repo).await
    }

    /// The repository's own origin decides: another may have an open one of the same name, and says nothing of what
    /// this one keeps from strangers.
    async fn ask_access(&self, caller: &Caller, repo: &RepoId) -> Result<(), MirrorError> {
        let Some(origin) = self.origins.get(self.home(repo)?) else {
            return Err(self.not_let_in(repo, None));
        };
        origin.may_read(repo, caller.token.as_ref()).await.map_err(|error| self.not_let_in(repo, Some(error)))
    }

    /// Why a caller is not shown `repo`: what its origin said, or that it said nothing. A private one must not differ
    /// from one that nobody knows.
    pub(crate) fn not_let_in(&self, repo: &RepoId, error: Option<OriginError>) -> MirrorError {
        let repo = repo.clone();
        let private = self.access(&repo).is_ok_and(|access| access == Access::Private);
        match (error.as_ref().map(OriginError::kind), error) {
            (Some(OriginErrorKind::RepoNotFound), _) => MirrorError::RepoNotFound { repo },
            (None, _) if private => MirrorError::RepoNotFound { repo },
            (
                Some(OriginErrorKind::Gated | OriginErrorKind::Disabled | OriginErrorKind::BadToken),
                Some(error),
            ) => error.into(),
            (_, Some(error)) if private => error.into(),
            (_, source) => MirrorError::Unchecked { repo, source: source.map(Box::new) },
        }
    }

    /// The place of the one origin that a token for `repo` is shown to: the one that its names are known from, else
    /// the first. Blocks a little.
    pub(crate) fn home(&self, repo: &RepoId) -> Result<usize, MirrorError> {
        if self.origins.len() < 2 {
            return Ok(0);
        }
        Ok(self.known_home(repo)?.unwrap_or_default())
    }

    /// The place of the origin that the names of `repo` are known from, if any is. Blocks a little.
    pub(crate) fn known_home(&self, repo: &RepoId) -> Result<Option<usize>, MirrorError> {
        let catalogue = self.store.catalogue();
        let canonical = catalogue.canonical(repo)?.unwrap_or_else(|| repo.clone());
        let mut refs = catalogue.refs(&canonical)?;
        refs.sort_by_key(|(_, row)| std::cmp::Reverse(row.seen));
        Ok(refs.into_iter().find_map(|(_, row)| match row.by {
            RefSource::Origin(name) => self.origins.iter().position(|origin| origin.name() == name),
            _ => None,
        }))
    }

    /// Remembers that `repo` is not open to everyone, where that was found out by what an origin refused.
    pub(crate) async fn note_closed(self: &Arc<Self>, repo: &RepoId) -> Result<(), MirrorError> {
        let (inner, repo) = (Arc::clone(self), repo.clone());
        blocking(move || {
            let known = inner.store.catalogue().facts(&repo)?.unwrap_or_default();
            if known.access.is_open() {
                // Whether it is gated or private it did not say; so nothing of it is shown unasked.
                inner.put_facts(&repo, RepoFacts { access: Access::Private, ..known })?;
            }
            Ok(())
        })
        .await
    }

    /// Peers get nothing of a file of which anything was given to a token.
    pub(crate) async fn keep_private(
        self: &Arc<Self>,
        remotes: &[Arc<Remote>],
        link: &Link,
    ) -> Result<(), MirrorError> {
        let Some(errand) = remotes.first().map(|remote| remote.errand()).filter(|e| e.is_private()) else {
            return Ok(());
        };
        let (blobs, hash) = (self.store.blobs().clone(), link.hash);
        blocking(move || Ok(blobs.unshare(&hash)?)).await?;
        self.came_under(&errand.repo, hash);
        self.note_closed(&errand.repo).await
    }

    /// A file that an origin sent is here and proven: it is shared where it is open to everyone.
    pub(super) async fn settle(&self, link: &Link, errand: &Errand) -> Result<(), MirrorError> {
        if errand.is_private() {
            return Ok(());
        }
        let (blobs, hash) = (self.store.blobs().clone(), link.hash);
        blocking(move || Ok(blobs.share(&hash)?)).await?;
        self.announce_file(&link.digest, link.size)
    }
}
