//! Which files a commit has: from the catalogue, else from peers, whose git objects must hash up to the commit.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hubless_discovery::DhtKey;
use hubless_limits::Use;
use hubless_proof::{Bundle, LinkTable, Pointer, blob_id};
use hubless_store::{DigestKind, RefSource};
use hubless_transfer::{ManifestReply, PeerClient as _};
use hubless_types::{
    BlobHash, CommitId, FileDigest, FileEntry, Manifest, NodeId, POINTER_MAX_BYTES, RepoId, Revision,
};

use crate::mirror::Inner;
use crate::sources::Net;
use crate::upstream::{Upstream, either};
use crate::util::{blocking, locked};
use crate::{Caller, Mirror, MirrorError};

/// Manifests of one commit that are fetched at once: each may be large, and most often the first is right.
const MANIFESTS_AT_ONCE: usize = 2;
/// Right manifests that are looked at for the link table that a trusted signer named.
const MAX_TABLES_TRIED: usize = 4;

/// How much earlier peers are asked where they may have a link table that counts.
const TABLE_HEAD_START: Duration = Duration::from_secs(1);

/// An answer whose git objects hash up to the commit.
struct Checked {
    manifest: Manifest,
    bundle: Vec<u8>,
    table: Option<LinkTable>,
    /// A node's short id, or an origin's address.
    from: String,
    /// Whether it is given to peers, and told of.
    shared: bool,
}

impl Mirror {
    /// The files of `commit`: from here, else from peers, proven and kept.
    ///
    /// `repo` says under which name the commit is listed from now on, and helps to find it. For a snapshot that
    /// was adopted from a Hugging Face cache under that name it gives the snapshot's files while the commit's own
    /// git objects are not here.
    ///
    /// # Errors
    /// [`MirrorError::CommitNotFound`] if nobody reached has it; [`MirrorError::Proof`] if what they sent does not
    /// prove it, or names files that would escape or clash.
    pub async fn manifest(
        &self,
        caller: &Caller,
        repo: Option<&RepoId>,
        commit: CommitId,
    ) -> Result<Arc<Manifest>, MirrorError> {
        self.inner.manifest(caller, repo, commit).await
    }

    /// Whether the files of `commit` are in memory: it is none that has just come.
    pub fn is_at_hand(&self, commit: CommitId) -> bool {
        self.inner.store.catalogue().manifest_in_memory(commit).is_some()
    }

    /// The LFS pointer that stands in `commit` for `entry`, byte for byte; `None` if it is no LFS file, or the commit's git
    /// objects are not here. Blocks a little.
    ///
    /// # Errors
    /// [`MirrorError::Proof`] if the stored objects are damaged; those of the catalogue.
    pub fn pointer(
        &self,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
    ) -> Result<Option<Vec<u8>>, MirrorError> {
        let Some(lfs) = entry.lfs else { return Ok(None) };
        let is_it = |bytes: &[u8]| blob_id(bytes).is_ok_and(|id| id == entry.blob);
        // Nearly all are written as git-lfs writes them; others stand in the bundle.
        let usual = Pointer { sha256: lfs.sha256, size: entry.size }.canonical();
        if is_it(&usual) {
            return Ok(Some(usual));
        }
        let commit = self.inner.own_commit(repo, commit)?;
        let Some(bundle) = self.inner.store.catalogue().bundle(commit)? else { return Ok(None) };
        let bundle = Bundle::decode(&bundle).map_err(|source| unproven(commit, None, source))?;
        Ok(bundle.blobs.into_iter().find(|blob| is_it(blob)))
    }

    /// The files of `commit`, if its manifest is here and may be shown under `repo`; nobody is asked.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub async fn held_manifest(
        &self,
        repo: &RepoId,
        commit: CommitId,
    ) -> Result<Option<Arc<Manifest>>, MirrorError> {
        self.inner.proven_manifest(Some(repo), commit).await
    }
}

impl Inner {
    pub(crate) async fn manifest(
        self: &Arc<Self>,
        caller: &Caller,
        repo: Option<&RepoId>,
        commit: CommitId,
    ) -> Result<Arc<Manifest>, MirrorError> {
        if let Some(repo) = repo {
            self.check_existence(caller, repo).await?;
        }
        if let Some(held) = self.manifest_here(repo, commit).await? {
            return Ok(held);
        }
        self.fetch_manifest(caller, repo, commit).await
    }

    /// As [`Inner::manifest`], but the commit's own objects are looked for even where a snapshot stands for it.
    pub(crate) async fn real_manifest(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
    ) -> Result<Arc<Manifest>, MirrorError> {
        self.check_existence(caller, repo).await?;
        if let Some(held) = self.proven_manifest(Some(repo), commit).await? {
            return Ok(held);
        }
        match self.fetch_manifest(caller, Some(repo), commit).await {
            Ok(manifest) => Ok(manifest),
            Err(error) => self.manifest_here(Some(repo), commit).await?.ok_or(error),
        }
    }

    /// Whether a commit that is here may be shown under `repo`: it is listed under it, or everybody may have it. Who
    /// may read one repository learns nothing of another by asking for that one's commits. Blocks a little.
    pub(crate) fn shows(&self, repo: &RepoId, commit: CommitId) -> Result<bool, MirrorError> {
        let catalogue = self.store.catalogue();
        if catalogue.lists_commit(repo, commit)? || catalogue.is_commit_shared(commit)? {
            return Ok(true);
        }
        let Some(canonical) = catalogue.canonical(repo)? else { return Ok(false) };
        Ok(catalogue.lists_commit(&canonical, commit)?)
    }

    /// The manifest of a commit that is here and may be shown under `repo`. Blocks.
    pub(crate) fn shown_manifest(
        &self,
        repo: &RepoId,
        commit: CommitId,
    ) -> Result<Option<Arc<Manifest>>, MirrorError> {
        if !self.shows(repo, commit)? {
            return Ok(None);
        }
        Ok(self.store.catalogue().manifest(commit)?)
    }

    async fn proven_manifest(
        self: &Arc<Self>,
        repo: Option<&RepoId>,
        commit: CommitId,
    ) -> Result<Option<Arc<Manifest>>, MirrorError> {
        let (inner, repo) = (Arc::clone(self), repo.cloned());
        blocking(move || match repo {
            Some(repo) => inner.shown_manifest(&repo, commit),
            None => Ok(inner.store.catalogue().manifest(commit)?),
        })
        .await
    }

    async fn manifest_here(
        self: &Arc<Self>,
        repo: Option<&RepoId>,
        commit: CommitId,
    ) -> Result<Option<Arc<Manifest>>, MirrorError> {
        // Most often it was read a moment ago: then no thread is needed.
        if let Some(held) = self.store.catalogue().manifest_in_memory(commit)
            && repo.map_or(Ok(true), |repo| self.shows(repo, commit))?
        {
            return Ok(Some(held));
        }
        let (inner, repo) = (Arc::clone(self), repo.cloned());
        blocking(move || {
            let catalogue = inner.store.catalogue();
            let Some(repo) = repo else { return Ok(catalogue.manifest(commit)?) };
            if let Some(manifest) = inner.shown_manifest(&repo, commit)? {
                return Ok(Some(manifest));
            }
            let stand_in = catalogue.get_ref(&repo, &Revision::from(commit))?;
            let Some(row) = stand_in.filter(|r| r.by == RefSource::Adopted) else { return Ok(None) };
            let Some(own) = inner.shown_manifest(&repo, row.commit)? else { return Ok(None) };
            let (entries, folders) = (own.entries().to_vec(), own.folders().to_vec());
            let renamed = Manifest::new(commit, own.info().clone(), entries, folders);
            Ok(renamed.ok().map(Arc::new))
        })
        .await
    }

    async fn fetch_manifest(
        self: &Arc<Self>,
        caller: &Caller,
        repo: Option<&RepoId>,
        commit: CommitId,
    ) -> Result<Arc<Manifest>, MirrorError> {
        let Some(net) = &self.net else {
            return Err(MirrorError::Offline { what: format!("fetching commit {commit}") });
        };
        let _alone = self.manifests.enter(commit).await;
        if let Some(held) = self.proven_manifest(repo, commit).await? {
            return Ok(held);
        }
        self.within_month(Use::Words)?;
        let roots = self.vouched_roots(repo, commit)?;
        let peers = ask_for(net, repo, commit, &roots);
        let Some(named) = repo.filter(|_| self.has_origins()) else {
            return self.keep_manifest(repo, peers.await?).await;
        };
        let origin = async {
            // Peers may have the link table that a trusted signer named; an origin never has.
            let head_start = if roots.is_empty() { self.head_start() } else { TABLE_HEAD_START };
            tokio::time::sleep(head_start).await;
            self.checked_by_origin(caller, named, commit).await
        };
        let checked = if self.access(named)?.is_open() {
            either(peers, origin).await?
        } else {
            self.checked_by_origin(caller, named, commit).await?
        };
        self.keep_manifest(repo, checked).await
    }

    async fn checked_by_origin(
        self: &Arc<Self>,
        caller: &Caller,
        repo: &RepoId,
        commit: CommitId,
    ) -> Result<Checked, MirrorError> {
        let Upstream { manifest, bundle, from, by_token } =
            self.manifest_by_origin(caller, repo, commit).await?;
        if by_token {
            self.note_closed(repo).await?;
        }
        let shared = !by_token && self.access(repo)?.is_open();
        Ok(Checked { manifest, bundle, table: None, from, shared })
    }

    async fn keep_manifest(
        self: &Arc<Self>,
        repo: Option<&RepoId>,
        checked: Checked,
    ) -> Result<Arc<Manifest>, MirrorError> {
        let (inner, repo) = (Arc::clone(self), repo.cloned());
        blocking(move || {
            let Checked { manifest, bundle, table, from, shared } = checked;
            let commit = manifest.commit();
            let encoded = table.as_ref().map(LinkTable::encode);
            let catalogue = inner.store.catalogue();
            catalogue.put_manifest(repo.as_ref(), &manifest, &bundle, encoded.as_deref())?;
            locked(&inner.tables).forget(commit);
            // More is known now of where the repository's names moved.
            repo.as_ref().map_or_else(Default::default, |repo| locked(&inner.memory).forget(repo));
            if shared {
                inner.share_manifest(repo.as_ref(), commit)?;
            }
            inner.announce_commit(commit)?;
            tracing::info!(%commit, from, files = manifest.entries().len(), "manifest proven");
            Ok(Arc::new(manifest))
        })
        .await
    }

    /// Link tables of `commit` that somebody signed whose word counts here.
    pub(crate) fn vouched_roots(
        &self,
        repo: Option<&RepoId>,
        commit: CommitId,
    ) -> Result<Vec<BlobHash>, MirrorError> {
        let catalogue = self.store.catalogue();
        let repos = repo.map_or_else(|| catalogue.repos_of(commit), |repo| Ok(vec![repo.clone()]))?;
        let mut roots = Vec::new();
        for repo in repos {
            let refs = catalogue.refs(&repo)?;
            let accepted = |node: &NodeId| refs.iter().any(|(_, r)| r.by == RefSource::Statement(*node));
            let counts =
                |node: &NodeId| *node == self.node || self.config.trusted.contains(node) || accepted(node);
            let said = catalogue.statements(&repo, None)?;
            let about = said.into_iter().filter(|s| s.body.commit == commit && counts(&s.signer));
            roots.extend(about.filter_map(|s| s.body.links));
        }
        Ok(roots)
    }

    /// Takes in the contents that came with the bundle of `commit`, those of `wanted` only, if the commit may be shown
    /// under `repo`. Blocks.
    pub(crate) fn import_bundled(
        &self,
        repo: &RepoId,
        commit: CommitId,
        wanted: &[&FileEntry],
    ) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let mut missing = std::collections::HashSet::new();
        for entry in wanted.iter().filter(|e| e.lfs.is_none() && e.size <= POINTER_MAX_BYTES) {
            let held = self.held(&entry.digest())?;
            if !held.map_or(Ok(false), |link| self.may_show(repo, &link.hash))? {
                missing.insert(entry.blob);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let commit = self.own_commit(repo, commit)?;
        let bytes = if self.shows(repo, commit)? { catalogue.bundle(commit)? } else { None };
        let Some(bytes) = bytes else { return Ok(()) };
        let bundle = Bundle::decode(&bytes).map_err(|source| unproven(commit, None, source))?;
        // Whoever may have the bundle has these bytes already.
        let shared = catalogue.is_commit_shared(commit)?;
        for content in &bundle.blobs {
            if blob_id(content).is_ok_and(|id| missing.contains(&id)) {
                let taken = self.store.blobs().import_bytes(content, DigestKind::GitBlob)?;
                self.came_under(repo, taken.hash);
                if shared {
                    self.store.blobs().share(&taken.hash)?;
                }
            }
        }
        Ok(())
    }

    /// Mends a manifest that gives a plain git file a size that its content, now proven, does not have. Such a
    /// size is a peer's word. A content of at most 1,024 bytes had to be in the bundle itself (it may be an LFS
    /// pointer), so that bundle is dropped. Blocks.
    pub(crate) fn mend_size(
        &self,
        commit: CommitId,
        entry: &FileEntry,
        size: u64,
    ) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let (Some(bytes), FileDigest::Git(blob)) = (catalogue.bundle(commit)?, entry.digest()) else {
            return Ok(());
        };
        if size <= POINTER_MAX_BYTES {
            catalogue.remove_manifest(commit)?;
            return Ok(());
        }
        let mut bundle = Bundle::decode(&bytes).map_err(|source| unproven(commit, None, source))?;
        for row in bundle.sizes.iter_mut().filter(|row| row.0 == blob) {
            row.1 = size;
        }
        let manifest = bundle.check(commit).map_err(|source| unproven(commit, None, source))?;
        let table = catalogue.link_table(commit)?;
        catalogue.put_manifest(None, &manifest, &bundle.encode(), table.as_deref())?;
        Ok(())
    }
}

/// The first right manifest; where a trusted signer named a link table, one that has that table, if any has.
async fn ask_for(
    net: &Net,
    repo: Option<&RepoId>,
    commit: CommitId,
    roots: &[BlobHash],
) -> Result<Checked, MirrorError> {
    let mut keys = vec![DhtKey::Commit(commit)];
    keys.extend(repo.cloned().map(DhtKey::Repo));
    let answers = net
        .sources(&keys)
        .map(|peer| async move {
            let reply = net.peers.manifest(&peer, commit).await.ok()?;
            Some(check(commit, peer.node, reply).await)
        })
        .buffer_unordered(MANIFESTS_AT_ONCE);
    futures::pin_mut!(answers);
    let (mut right, mut wrong, mut tried) = (None, None, 0);
    while let Some(answer) = answers.next().await {
        match answer {
            None => {}
            Some(Err(error)) => {
                tracing::warn!(%commit, %error, "a peer sent a manifest that proves nothing");
                wrong = Some(error);
            }
            Some(Ok(checked)) => {
                tried += 1;
                let vouched = checked.table.as_ref().is_some_and(|t| roots.contains(&t.id()));
                if vouched || roots.is_empty() || tried == MAX_TABLES_TRIED {
                    return Ok(if vouched { checked } else { right.unwrap_or(checked) });
                }
                right.get_or_insert(checked);
            }
        }
    }
    right.ok_or_else(|| wrong.unwrap_or(MirrorError::CommitNotFound { commit }))
}

async fn check(commit: CommitId, from: NodeId, reply: ManifestReply) -> Result<Checked, MirrorError> {
    blocking(move || {
        let bundle = Bundle::decode(&reply.bundle).map_err(|e| unproven(commit, Some(from), e))?;
        let manifest = bundle.check(commit).map_err(|e| unproven(commit, Some(from), e))?;
        let table = reply.links.and_then(|bytes| LinkTable::decode(&bytes).ok());
        Ok(Checked { manifest, bundle: reply.bundle, table, from: from.short(), shared: true })
    })
    .await
}

fn unproven(commit: CommitId, from: Option<NodeId>, source: hubless_proof::ProofError) -> MirrorError {
    let by = from.map(|node| format!(" from {}", node.short())).unwrap_or_default();
    MirrorError::Proof { what: format!("the manifest of {commit}{by}"), source }
}
