//! An origin that speaks git and LFS over HTTP: Gitea, Forgejo, GitLab and their like.
//!
//! Repositories lie at `{base}/{owner}/{name}.git`, whatever kind they are asked for as: such a host knows no kinds.
//! It has no listing with sizes, so blobs above a pointer's length are measured: a few by the fronts of their packs,
//! more of them by one pack.

mod blob;
mod lfs;
mod upload_pack;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hubless_limits::Limits;
use hubless_proof::{
    Bundle, GitRef, GitServer, LsRefs, PackFilter, ProofError, RefsAnswer, parse_ls_refs, write_ls_refs,
};
use hubless_types::{
    Access, BlobId, ByteRange, CommitId, FileEntry, Lfs, RepoFacts, RepoId, Revision, Token,
};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, RANGE};
use tokio::sync::Semaphore;
use url::Url;

use self::blob::PackedBlob;
use self::upload_pack::{PackStream, blob_request, refused};
use crate::assemble::Assembly;
use crate::http::{Ask, Auth, Http};
use crate::hub::range_header;
use crate::pace::LaneKind;
use crate::{Origin, OriginBody, OriginConfig, OriginError, OriginErrorKind, OriginStatus, Seen, SeenRef};

pub(crate) use self::upload_pack::{ABOVE_POINTERS, UploadPack};

/// Longest list of refs, in bytes.
const MAX_REFS_BYTES: usize = 32 * 1024 * 1024;
/// Longest list of a server's capabilities, in bytes; a server of protocol version 0 sends its refs there.
const MAX_CAPABILITIES_BYTES: usize = 32 * 1024 * 1024;
/// Bundles that are fetched at once: each may take the memory of a large pack.
const BUNDLES_AT_ONCE: usize = 2;
/// Up to this many blobs are measured one by one.
const FEW_BLOBS: usize = 8;
/// More than this many are not, where one pack of them is too large.
const MANY_BLOBS: usize = 1000;
/// Of these, at once.
const MEASURED_AT_ONCE: usize = 4;
/// What the frames of a pack and what does not compress add to a blob, at most, in bytes.
const PACK_OVERHEAD: u64 = 1024 * 1024;

/// An origin that speaks git and LFS over HTTP.
#[derive(Debug)]
pub struct GitOrigin {
    http: Http,
    bundles: Semaphore,
}

impl GitOrigin {
    /// The origin at `config.url`. Asks nothing of it yet.
    ///
    /// # Errors
    /// As [`build`](crate::build).
    pub fn new(config: &OriginConfig, limits: &Limits) -> Result<Self, OriginError> {
        Ok(Self { http: Http::new(config, limits)?, bundles: Semaphore::new(BUNDLES_AT_ONCE) })
    }

    /// `{base}/{owner}/{name}.git/…`.
    fn url(&self, repo: &RepoId, tail: &[&str]) -> Url {
        let (owner, name) = match repo.name().split_once('/') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, repo.name()),
        };
        let folder = format!("{name}.git");
        self.http.url(owner.into_iter().chain([folder.as_str()]).chain(tail.iter().copied()))
    }

    fn upload_pack<'a>(&'a self, repo: &RepoId, token: Option<&'a Token>) -> UploadPack<'a> {
        UploadPack { http: &self.http, url: self.url(repo, &["git-upload-pack"]), auth: Auth::Basic(token) }
    }

    async fn server(&self, repo: &RepoId, token: Option<&Token>) -> Result<GitServer, OriginError> {
        let mut url = self.url(repo, &["info", "refs"]);
        url.set_query(Some("service=git-upload-pack"));
        let ask = Ask::get(url, Auth::Basic(token), LaneKind::Api, OriginErrorKind::RepoNotFound)
            .header(HeaderName::from_static("git-protocol"), HeaderValue::from_static("version=2"));
        let answer =
            self.http.send(&ask).await?.bytes(MAX_CAPABILITIES_BYTES, "what git can do there").await?;
        GitServer::parse(&answer).map_err(|source| self.proof(source))
    }

    async fn ls_refs(
        &self,
        repo: &RepoId,
        prefixes: Vec<String>,
        token: Option<&Token>,
    ) -> Result<Vec<GitRef>, OriginError> {
        let git = self.upload_pack(repo, token);
        let asked = LsRefs { symrefs: false, prefixes };
        let body = write_ls_refs(&asked, self.http.agent()).map_err(|source| self.proof(source))?;
        let answer = self.http.send(&git.ask(body)).await?.bytes(MAX_REFS_BYTES, "a list of refs").await?;
        match parse_ls_refs(&answer).map_err(|source| self.proof(source))? {
            RefsAnswer::Refs(refs) => Ok(refs),
            RefsAnswer::Refused(said) => Err(refused(self.http.name(), &said)),
        }
    }

    /// Learns how long the blobs are that the pack left out.
    async fn measure(&self, git: &UploadPack<'_>, assembly: &mut Assembly) -> Result<(), OriginError> {
        let ids: Vec<BlobId> = assembly.missing().into_iter().map(|(id, _)| id).collect();
        if ids.len() > FEW_BLOBS {
            match git.blobs(&ids).await {
                Ok(objects) => {
                    objects.into_iter().for_each(|object| assembly.object(object));
                    return Ok(());
                }
                Err(error) if ids.len() > MANY_BLOBS => return Err(error),
                Err(error) => tracing::debug!(%error, "blobs are measured one by one"),
            }
        }
        let sizes =
            ids.into_iter().map(|id| async move { Ok::<_, OriginError>((id, git.blob_size(id).await?)) });
        let mut sizes = stream::iter(sizes).buffer_unordered(MEASURED_AT_ONCE);
        while let Some((id, size)) = sizes.try_next().await? {
            assembly.size(id, size);
        }
        Ok(())
    }

    async fn open_lfs(
        &self,
        repo: &RepoId,
        (lfs, size): (Lfs, u64),
        range: ByteRange,
        token: Option<&Token>,
    ) -> Result<OriginBody, OriginError> {
        let batch = self.url(repo, &["info", "lfs", "objects", "batch"]);
        let place = lfs::find(&self.http, batch, Auth::Basic(token), lfs.sha256, size).await?;
        // A server that gives headers of its own means those.
        let auth = Auth::Basic(token.filter(|_| !place.headers.contains_key(AUTHORIZATION)));
        let mut ask = Ask::get(place.url, auth, LaneKind::Files, OriginErrorKind::EntryNotFound);
        ask.secrets = place.headers;
        if range != ByteRange::whole(size) {
            ask = ask.header(RANGE, range_header(range));
        }
        self.http.send(&ask).await?.file(range, size)
    }

    /// A plain blob comes as a pack of its own; a part of it is what is left when the rest is passed over.
    async fn open_blob(
        &self,
        repo: &RepoId,
        entry: &FileEntry,
        range: ByteRange,
        token: Option<&Token>,
    ) -> Result<OriginBody, OriginError> {
        let git = self.upload_pack(repo, token);
        let limit = entry.size.saturating_mul(2).saturating_add(PACK_OVERHEAD);
        let pack = git.pack(&blob_request(&[entry.blob]), limit).await?.unhurried();
        let state = BlobBody {
            origin: self.http.name().to_owned(),
            pack,
            blob: PackedBlob::new(),
            size: entry.size,
            skip: range.start,
            left: range.len(),
        };
        Ok(stream::try_unfold(
            state,
            |mut body| async move { Ok(body.next().await?.map(|piece| (piece, body))) },
        )
        .boxed())
    }

    fn proof(&self, source: ProofError) -> OriginError {
        OriginError::Proof { origin: self.http.name().to_owned(), source }
    }
}

/// A range of a blob, on its way.
struct BlobBody {
    origin: String,
    pack: PackStream,
    blob: PackedBlob,
    size: u64,
    skip: u64,
    left: u64,
}

impl BlobBody {
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        while self.left > 0 {
            let made = self.blob.piece();
            let made = made.map_err(|source| OriginError::Proof { origin: self.origin.clone(), source })?;
            if let Some(got) = self.blob.size().filter(|size| *size != self.size) {
                return Err(OriginError::Length { origin: self.origin.clone(), got, expected: self.size });
            }
            if let Some(made) = made {
                let from = self.skip.min(made.len() as u64);
                self.skip -= from;
                let piece = Bytes::from(made).slice(from as usize..);
                let piece = piece.slice(..piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
                self.left -= piece.len() as u64;
                if !piece.is_empty() {
                    return Ok(Some(piece));
                }
                continue;
            }
            let Some(piece) = self.pack.next().await?.filter(|_| !self.blob.is_whole()) else {
                let got = self.size.saturating_sub(self.left);
                return Err(OriginError::Length { origin: self.origin.clone(), got, expected: self.size });
            };
            self.blob.push(&piece);
        }
        Ok(None)
    }
}

/// The full names that `revision` may be short for, the likeliest first.
fn names(revision: &str) -> Vec<String> {
    let mut names = Vec::new();
    if revision == "HEAD" || revision.starts_with("refs/") {
        names.push(revision.to_owned());
    }
    names.extend(["refs/heads/", "refs/tags/"].map(|folder| format!("{folder}{revision}")));
    if revision == "main" {
        // What Hub clients ask for when nobody named a branch: the one that this repository begins with.
        names.push("HEAD".to_owned());
    }
    names
}

#[async_trait]
impl Origin for GitOrigin {
    fn name(&self) -> &str {
        self.http.name()
    }

    fn status(&self) -> OriginStatus {
        self.http.status()
    }

    async fn resolve(
        &self,
        repo: &RepoId,
        revision: &Revision,
        token: Option<&Token>,
    ) -> Result<Seen, OriginError> {
        let names =
            revision.as_commit().map_or_else(|| names(revision.as_str()), |_| vec!["HEAD".to_owned()]);
        let refs = self.ls_refs(repo, names.clone(), token).await?;
        let found = names.iter().find_map(|name| refs.iter().find(|found| found.name == *name));
        let commit = revision.as_commit().or_else(|| found.map(GitRef::commit));
        let commit = commit.ok_or_else(|| OriginError::Refused {
            origin: self.http.name().to_owned(),
            status: 200,
            kind: OriginErrorKind::RevisionNotFound,
            said: format!("no branch or tag is called `{revision}`"),
        })?;
        // Nothing tells whether others may read what came with a token: it is nobody else's.
        let access = if token.is_some() { Access::Private } else { Access::Open };
        Ok(Seen { repo: repo.clone(), commit, facts: RepoFacts { access, ..RepoFacts::default() } })
    }

    async fn refs(&self, repo: &RepoId, token: Option<&Token>) -> Result<Vec<SeenRef>, OriginError> {
        let prefixes = vec!["refs/heads/".to_owned(), "refs/tags/".to_owned()];
        let refs = self.ls_refs(repo, prefixes, token).await?;
        Ok(refs.into_iter().map(|found| SeenRef { commit: found.commit(), name: found.name }).collect())
    }

    async fn bundle(
        &self,
        repo: &RepoId,
        commit: CommitId,
        token: Option<&Token>,
    ) -> Result<Bundle, OriginError> {
        let _turn = self.bundles.acquire().await;
        let server = self.server(repo, token).await?;
        if !server.shallow {
            return Err(self.http.cannot("send a commit without its history"));
        }
        let git = self.upload_pack(repo, token);
        let filter = if server.filter { ABOVE_POINTERS } else { PackFilter::All };
        let pack = git.commit(commit, filter).await?;
        let mut assembly = Assembly::new(commit, pack).map_err(|source| self.proof(source))?;
        if !assembly.is_done() {
            self.measure(&git, &mut assembly).await?;
        }
        assembly.finish().map_err(|source| self.proof(source))
    }

    async fn open(
        &self,
        repo: &RepoId,
        _commit: CommitId,
        entry: &FileEntry,
        range: ByteRange,
        token: Option<&Token>,
    ) -> Result<OriginBody, OriginError> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        match entry.lfs {
            Some(lfs) => self.open_lfs(repo, (lfs, entry.size), range, token).await,
            None => self.open_blob(repo, entry, range, token).await,
        }
    }

    async fn may_read(&self, repo: &RepoId, token: Option<&Token>) -> Result<(), OriginError> {
        self.server(repo, token).await.map(drop)
    }

    async fn whoami(&self, _token: &Token) -> Result<Bytes, OriginError> {
        Err(self.http.cannot("tell who holds a token"))
    }

    fn seeks(&self, entry: &FileEntry) -> bool {
        entry.lfs.is_some()
    }

    fn has_accounts(&self) -> bool {
        false
    }
}
