//! Which BLAKE3 tree holds a file, and how well that is known.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hubless_discovery::DhtKey;
use hubless_proof::LinkTable;
use hubless_store::BlobStatus;
use hubless_transfer::PeerClient as _;
use hubless_types::{BlobHash, CommitId, FileDigest, FileEntry, Link, LinkTrust, Manifest, NodeId, RepoId};
use tokio::time::Instant;

use crate::mirror::Inner;
use crate::sources::{ASKED_AT_ONCE, Net};
use crate::util::locked;
use crate::{MirrorError, util::blocking};

/// Files of a commit whose links are looked up at once.
const LINK_PAGE: usize = 4096;
/// Wrong links that are remembered.
const MAX_STRUCK: usize = 4096;
/// Link tables that are kept in memory.
const MAX_TABLES: usize = 4;
/// How long a look at the statements that vouch for a table is good for.
const SIGNED_FOR: Duration = Duration::from_secs(1);
/// How much longer other peers are waited for once one has claimed a link.
const CLAIM_GRACE: Duration = Duration::from_millis(400);

/// What is known of where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// All of it is here, under a link that is proven or vouched for.
    Held(Link),
    /// All of it is here, proven, but as another repository's, and not for everybody.
    Elsewhere(Link),
    /// It is not all here, but what comes may be shown as it is verified.
    Stream(Link),
    /// At best somebody claims something.
    Unknown,
}

/// A link that somebody claims, and who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) link: Link,
    pub(crate) by: Vec<NodeId>,
}

/// Links that were found wrong, and who told them; the oldest make room.
#[derive(Default)]
pub(crate) struct Struck(VecDeque<(FileDigest, BlobHash, Vec<NodeId>)>);

impl Struck {
    fn add(&mut self, link: &Link, by: &[NodeId]) {
        if self.0.len() == MAX_STRUCK {
            self.0.pop_front();
        }
        self.0.push_back((link.digest, link.hash, by.to_vec()));
    }

    fn has(&self, link: &Link) -> bool {
        self.0.iter().any(|(digest, hash, _)| (digest, hash) == (&link.digest, &link.hash))
    }

    fn told_lies(&self, node: &NodeId) -> bool {
        self.0.iter().any(|(_, _, by)| by.contains(node))
    }
}

/// A link table and its id.
type Table = Arc<(LinkTable, BlobHash)>;

/// Link tables that were read lately, with their ids; `None` where a commit has none.
#[derive(Default)]
pub(crate) struct Tables(VecDeque<(CommitId, Option<Table>)>);

/// Link tables that a signer whose word counts for a repository named a moment ago, so that the statements are
/// not read for each file of a commit.
#[derive(Default)]
pub(crate) struct Signed(VecDeque<(RepoId, CommitId, BlobHash, Instant)>);

impl Signed {
    fn has(&self, repo: &RepoId, commit: CommitId, table: BlobHash) -> bool {
        let fresh = |at: &Instant| at.elapsed() < SIGNED_FOR;
        self.0.iter().any(|(r, c, t, at)| r == repo && (*c, *t) == (commit, table) && fresh(at))
    }

    fn add(&mut self, repo: &RepoId, commit: CommitId, table: BlobHash) {
        self.0.retain(|(r, c, _, at)| at.elapsed() < SIGNED_FOR && (r, *c) != (repo, commit));
        if self.0.len() == MAX_TABLES {
            self.0.pop_front();
        }
        self.0.push_back((repo.clone(), commit, table, Instant::now()));
    }
}

impl Tables {
    /// The table of `commit` was written anew.
    pub(crate) fn forget(&mut self, commit: CommitId) {
        self.0.retain(|(c, _)| *c != commit);
    }

    fn add(&mut self, commit: CommitId, table: Option<Table>) {
        self.forget(commit);
        if self.0.len() == MAX_TABLES {
            self.0.pop_front();
        }
        self.0.push_back((commit, table));
    }
}

impl Inner {
    /// Visits every file of a commit with the link that is known of it. Blocks.
    pub(crate) fn each_link(
        &self,
        manifest: &Manifest,
        mut visit: impl FnMut(&FileEntry, Option<Link>) -> Result<(), MirrorError>,
    ) -> Result<(), MirrorError> {
        for page in manifest.entries().chunks(LINK_PAGE) {
            let digests: Vec<_> = page.iter().map(FileEntry::digest).collect();
            for (entry, link) in page.iter().zip(self.store.catalogue().links(&digests)?) {
                visit(entry, link)?;
            }
        }
        Ok(())
    }

    /// The link of a file, if its content was hashed here.
    fn proven_link(&self, digest: &FileDigest) -> Result<Option<Link>, MirrorError> {
        Ok(self.store.catalogue().link(digest)?.filter(|l| l.trust == LinkTrust::Proven))
    }

    /// The proven link of a file that is here as a whole.
    pub(crate) fn held(&self, digest: &FileDigest) -> Result<Option<Link>, MirrorError> {
        let Some(link) = self.proven_link(digest)? else {
            return Ok(None);
        };
        let whole = matches!(self.store.blobs().status(&link.hash)?, BlobStatus::Complete { .. });
        Ok(whole.then_some(link))
    }

    /// What is known of where the bytes of `entry` are. Blocks a little.
    ///
    /// # Errors
    /// [`MirrorError::WrongSize`] if the proven content has another size than the manifest says.
    pub(crate) fn known(
        &self,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
    ) -> Result<Known, MirrorError> {
        let digest = entry.digest();
        let link = match self.proven_link(&digest)? {
            Some(link) if link.size != entry.size => {
                self.mend_size(commit, entry, link.size)?;
                let path = entry.path.clone();
                return Err(MirrorError::WrongSize { path, claimed: entry.size, found: link.size });
            }
            Some(link) => Some(link),
            // Where the sizes differ one of two words is wrong: the content decides, see `claims`.
            None => self.vouched_link(repo, commit, &digest)?.filter(|l| l.size == entry.size),
        };
        let Some(link) = link else { return Ok(Known::Unknown) };
        Ok(match self.store.blobs().status(&link.hash)? {
            BlobStatus::Complete { .. } if self.may_show(repo, &link.hash)? => Known::Held(link),
            BlobStatus::Complete { .. } => Known::Elsewhere(link),
            BlobStatus::Partial { .. } if !self.may_show(repo, &link.hash)? => Known::Unknown,
            BlobStatus::Partial { .. } | BlobStatus::Absent => Known::Stream(link),
        })
    }

    /// The link of a file of `commit` by the commit's table, if a signer who counts for `repo` named that table.
    ///
    /// It is looked up for this commit each time and never becomes a link of the whole catalogue: who is trusted
    /// for one name has no say about the files of another.
    fn vouched_link(
        &self,
        repo: &RepoId,
        commit: CommitId,
        digest: &FileDigest,
    ) -> Result<Option<Link>, MirrorError> {
        let Some(table) = self.table(commit)? else { return Ok(None) };
        let Some((hash, size)) = table.0.get(digest) else { return Ok(None) };
        let link = Link { digest: *digest, hash, size, trust: LinkTrust::Vouched };
        if locked(&self.struck).has(&link) {
            return Ok(None);
        }
        if !locked(&self.signed).has(repo, commit, table.1) {
            if !self.vouched_roots(Some(repo), commit)?.contains(&table.1) {
                return Ok(None);
            }
            locked(&self.signed).add(repo, commit, table.1);
        }
        Ok(Some(link))
    }

    fn table(&self, commit: CommitId) -> Result<Option<Table>, MirrorError> {
        if let Some((_, table)) = locked(&self.tables).0.iter().find(|(c, _)| *c == commit) {
            return Ok(table.clone());
        }
        let bytes = self.store.catalogue().link_table(commit)?;
        let table = bytes.and_then(|b| LinkTable::decode(&b).ok());
        let table = table.map(|t| {
            let id = t.id();
            Arc::new((t, id))
        });
        locked(&self.tables).add(commit, table.clone());
        Ok(table)
    }

    /// Links of `entry` that anybody claims, the likeliest first: those that most peers tell who were not
    /// caught telling a wrong one.
    pub(crate) async fn claims(
        &self,
        net: &Net,
        commit: CommitId,
        entry: &FileEntry,
    ) -> Result<Vec<Claim>, MirrorError> {
        let digest = entry.digest();
        let mut claims: BTreeMap<[u8; 32], Claim> = BTreeMap::new();
        let mut add = |link: Link, by: Option<NodeId>| {
            // What LFS names has its size from git's own objects; that of a plain git file is a peer's word, as
            // the link's is, and the content tells which is right.
            let sized = link.size == entry.size || matches!(digest, FileDigest::Git(_));
            if link.digest != digest || !sized || locked(&self.struck).has(&link) {
                return;
            }
            let link = Link { trust: LinkTrust::Claimed, ..link };
            let claim = claims.entry(*link.hash.as_bytes()).or_insert(Claim { link, by: Vec::new() });
            claim.by.extend(by);
        };
        if let Some(link) = self.store.catalogue().link(&digest)? {
            add(link, None);
        }
        if let Some((hash, size)) = self.table(commit)?.and_then(|t| t.0.get(&digest)) {
            add(Link { digest, hash, size, trust: LinkTrust::Claimed }, None);
        }
        for (node, link) in ask_links(net, &keys_of(commit, entry), digest).await {
            add(link, Some(node));
        }
        let mut claims: Vec<Claim> = claims.into_values().collect();
        let struck = locked(&self.struck);
        claims.sort_by_key(|c| std::cmp::Reverse(c.by.iter().filter(|n| !struck.told_lies(n)).count()));
        Ok(claims)
    }

    /// Hashes a blob that is here as a whole. If it is not what `link` says, the link is struck, those who told
    /// it are remembered, and the bytes are dropped.
    pub(crate) async fn prove(&self, link: &Link, told_by: &[NodeId]) -> Result<bool, MirrorError> {
        let _alone = self.proofs.enter(link.hash).await;
        let catalogue = self.store.catalogue();
        let known = catalogue.link(&link.digest)?;
        if known.is_some_and(|l| l.hash == link.hash && l.trust == LinkTrust::Proven) {
            return Ok(true);
        }
        let (blobs, hash, digest) = (self.store.blobs().clone(), link.hash, link.digest);
        if blocking(move || Ok(blobs.prove(&hash, &digest)?)).await? {
            self.announce_file(&link.digest, link.size)?;
            return Ok(true);
        }
        tracing::warn!(digest = %link.digest, hash = %link.hash, ?told_by, "a link was wrong; struck");
        catalogue.strike_link(&link.digest, &link.hash)?;
        locked(&self.struck).add(link, told_by);
        // The bytes may well be another file, which is kept here: whoever lies chooses which root to name.
        if catalogue.digests_of(&hash)?.iter().any(|other| *other != link.digest) {
            return Ok(false);
        }
        // Whoever else reads it holds it; the collector takes it later.
        let (blobs, hash) = (self.store.blobs().clone(), link.hash);
        if let Err(error) = blocking(move || Ok(blobs.evict(&hash)?)).await {
            tracing::debug!(%error, "a struck blob stays for the collector");
        }
        Ok(false)
    }
}

/// Under which keys holders of a file announce themselves.
pub(crate) fn keys_of(commit: CommitId, entry: &FileEntry) -> Vec<DhtKey> {
    let mut keys = vec![DhtKey::Commit(commit)];
    if let (FileDigest::Sha256(digest), true) = (entry.digest(), entry.is_shard()) {
        keys.insert(0, DhtKey::Shard(digest));
    }
    keys
}

async fn ask_links(net: &Net, keys: &[DhtKey], digest: FileDigest) -> Vec<(NodeId, Link)> {
    let answers = net
        .sources(keys)
        .map(|peer| async move {
            let links = net.peers.links(&peer, &[digest]).await.unwrap_or_default();
            (peer.node, links)
        })
        .buffer_unordered(ASKED_AT_ONCE);
    futures::pin_mut!(answers);
    let mut deadline = Instant::now() + net.lookup_timeout;
    let mut told = Vec::new();
    while let Ok(Some((node, links))) = tokio::time::timeout_at(deadline, answers.next()).await {
        if let Some(link) = links.into_iter().find(|l| l.digest == digest) {
            told.push((node, link));
            deadline = deadline.min(Instant::now() + CLAIM_GRACE);
        }
    }
    told
}
