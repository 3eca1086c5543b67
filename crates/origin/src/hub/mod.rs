//! An origin that speaks the Hub's protocol: `huggingface.co`, whatever is compatible with it, another hubless node.
//!
//! It is asked as little as can be: one call for a name, one POST for a commit's objects and one listing for the
//! sizes, one GET a file. What it takes beyond that is asked for in steps: blobs by one more POST, then one by one.

mod info;
mod lack;
mod tree;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use hubless_limits::Limits;
use hubless_proof::{Bundle, PackFilter, PackObject, ProofError};
use hubless_types::{
    BlobId, ByteRange, CommitId, FileEntry, POINTER_MAX_BYTES, RepoId, RepoKind, RepoPath, Revision, Token,
};
use reqwest::header::{HeaderValue, RANGE};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use self::info::{Info, Refs};
use self::lack::Lack;
use crate::assemble::Assembly;
use crate::git::{ABOVE_POINTERS, UploadPack};
use crate::http::{Ask, Auth, Failure, Http};
use crate::pace::LaneKind;
use crate::xet::{Refusers, Wanted, Xet, XetId};
use crate::{Origin, OriginBody, OriginConfig, OriginError, OriginErrorKind, OriginStatus, Seen, SeenRef};

/// Longest answer about a repository, in bytes: it may list every file, to a hub that knows no `expand`.
const MAX_INFO_BYTES: usize = 64 * 1024 * 1024;
/// Longest list of refs, in bytes.
const MAX_REFS_BYTES: usize = 16 * 1024 * 1024;
/// Longest word on a token's holder, in bytes.
const MAX_WHOAMI_BYTES: usize = 256 * 1024;
/// Bundles that are fetched at once: each may take the memory of a large pack.
const BUNDLES_AT_ONCE: usize = 2;
/// Blobs that are fetched one by one, where the hub gives them no other way.
const MAX_RAW_BLOBS: usize = 5000;
/// Of these, at once.
const RAW_AT_ONCE: usize = 8;

/// An origin that speaks the Hub's protocol.
#[derive(Debug)]
pub struct HubOrigin {
    http: Arc<Http>,
    xet: Arc<Xet>,
    /// Files that only Xet gives.
    refusers: Refusers,
    /// The largest file that is asked for whole, in bytes.
    plain_up_to: u64,
    bundles: Semaphore,
    /// `expand`, a kind of repository: each has fields of its own.
    expand: [Lack; RepoKind::ALL.len()],
    /// Filtering blobs by their length.
    filter: Lack,
    /// Giving out blobs by their ids.
    blobs: Lack,
}

impl HubOrigin {
    /// The origin at `config.url`. Asks nothing of it yet.
    ///
    /// # Errors
    /// As [`build`](crate::build).
    pub fn new(config: &OriginConfig, limits: &Limits) -> Result<Self, OriginError> {
        let http = Arc::new(Http::new(config, limits)?);
        Ok(Self {
            xet: Arc::new(Xet::new(Arc::clone(&http))),
            http,
            refusers: Refusers::default(),
            plain_up_to: config.plain_up_to,
            bundles: Semaphore::new(BUNDLES_AT_ONCE),
            expand: Default::default(),
            filter: Lack::default(),
            blobs: Lack::default(),
        })
    }

    fn api(&self, repo: &RepoId, tail: &[&str]) -> Url {
        let head = ["api", repo.kind().plural()].into_iter().chain(repo.name().split('/'));
        self.http.url(head.chain(tail.iter().copied()))
    }

    /// `/{prefix}{id}/{verb}/…`.
    fn page(&self, repo: &RepoId, tail: impl IntoIterator<Item = impl AsRef<str>>) -> Url {
        let tail: Vec<_> = tail.into_iter().collect();
        let prefix = repo.kind().prefix().trim_end_matches('/');
        let head = Some(prefix).filter(|prefix| !prefix.is_empty()).into_iter().chain(repo.name().split('/'));
        self.http.url(head.chain(tail.iter().map(AsRef::as_ref)))
    }

    fn file(&self, repo: &RepoId, verb: &str, commit: CommitId, path: &RepoPath) -> Url {
        let head = [verb.to_owned(), commit.to_string()].into_iter();
        self.page(repo, head.chain(path.parts().map(str::to_owned)))
    }

    async fn info(&self, url: Url, auth: Auth<'_>) -> Result<Info, OriginError> {
        let ask = Ask::get(url, auth, LaneKind::Api, OriginErrorKind::RepoNotFound);
        self.http.send(&ask).await?.json(MAX_INFO_BYTES, "what it knows of a repository").await
    }

    /// The commit's pack, without its large blobs, or without any where the hub does not tell them apart.
    async fn commit_pack(
        &self,
        git: &UploadPack<'_>,
        commit: CommitId,
    ) -> Result<Vec<PackObject>, OriginError> {
        let asks = !self.filter.is_known(Instant::now());
        if asks {
            match git.commit(commit, ABOVE_POINTERS).await {
                Err(error) if may_be_the_filter(&error) => {}
                result => return result,
            }
        }
        let objects = git.commit(commit, PackFilter::NoBlobs).await?;
        if asks {
            // It was the filter.
            self.filter.note(Instant::now());
        }
        Ok(objects)
    }

    /// Fetches the content of small blobs that neither the pack nor the listing gave.
    async fn fill(
        &self,
        git: &UploadPack<'_>,
        repo: &RepoId,
        commit: CommitId,
        assembly: &mut Assembly,
    ) -> Result<(), OriginError> {
        let mut refused = false;
        if !self.blobs.is_known(Instant::now()) {
            let ids: Vec<BlobId> = assembly.missing().into_iter().map(|(id, _)| id).collect();
            match git.blobs(&ids).await {
                Ok(objects) => objects.into_iter().for_each(|object| assembly.object(object)),
                // The Hub itself ends its answer before the pack.
                Err(
                    error @ (OriginError::Refused { .. }
                    | OriginError::Malformed { .. }
                    | OriginError::Proof { .. }),
                ) => {
                    tracing::debug!(%error, "small files are fetched one by one");
                    refused = true;
                }
                Err(error) => return Err(error),
            }
        }
        let left = assembly.missing();
        if left.len() > MAX_RAW_BLOBS {
            return Err(self.http.cannot("give so many small files one by one"));
        }
        let paths = left.into_iter().filter_map(|(_, path)| path);
        let mut contents = stream::iter(paths.map(|path| self.raw(repo, commit, path, git.auth)))
            .buffer_unordered(RAW_AT_ONCE);
        let mut came = false;
        while let Some(content) = contents.next().await {
            assembly.content(content?).map_err(|source| self.proof(source))?;
            came = true;
        }
        if refused && came {
            self.blobs.note(Instant::now());
        }
        Ok(())
    }

    async fn raw(
        &self,
        repo: &RepoId,
        commit: CommitId,
        path: RepoPath,
        auth: Auth<'_>,
    ) -> Result<Vec<u8>, OriginError> {
        let url = self.file(repo, "raw", commit, &path);
        let auth = Auth::Bearer(auth.token());
        let ask = Ask::get(url, auth, LaneKind::Files, OriginErrorKind::EntryNotFound);
        let answer = self.http.send(&ask).await?;
        Ok(answer.bytes(POINTER_MAX_BYTES as usize, "a small file").await?.into())
    }

    async fn open_by_xet(
        &self,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
        range: ByteRange,
        token: Option<&Token>,
        id: XetId,
    ) -> Result<OriginBody, OriginError> {
        let leave = self.api(repo, &["xet-read-token", &commit.to_string()]);
        let wanted = Wanted { repo: repo.clone(), commit, id, leave };
        let opened = Arc::clone(&self.xet).open(wanted, range, token).await;
        if let Err(error) = &opened
            && matches!(error.kind(), OriginErrorKind::Unavailable | OriginErrorKind::Wrong)
        {
            self.refusers.forget(repo, &entry.digest());
        }
        opened
    }

    fn proof(&self, source: ProofError) -> OriginError {
        OriginError::Proof { origin: self.http.name().to_owned(), source }
    }
}

/// Whether an error may come of a filter that the server does not know; git has no code for that.
const fn may_be_the_filter(error: &OriginError) -> bool {
    match error {
        OriginError::Refused { kind, status, .. } => {
            matches!(kind, OriginErrorKind::Unavailable) && *status <= 500
        }
        OriginError::Proof { .. } => true,
        OriginError::Malformed { .. } => true,
        _ => false,
    }
}

#[async_trait]
impl Origin for HubOrigin {
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
        let plain = self.api(repo, &["revision", revision.as_str()]);
        let auth = Auth::Bearer(token);
        let lack = &self.expand[repo.kind() as usize];
        let (mut found, mut refused) = (None, false);
        if !lack.is_known(Instant::now()) {
            let mut url = plain.clone();
            url.query_pairs_mut()
                .extend_pairs(info::fields(repo.kind()).iter().map(|field| ("expand", field)));
            match self.info(url, auth).await {
                Err(OriginError::Refused { status: 400 | 422, .. }) => refused = true,
                // A hub that does not give the fields that were asked for is asked for all that it has.
                info => found = Some(info?).filter(Info::is_enough),
            }
        }
        let info = match found {
            Some(info) => info,
            None => self.info(plain, auth).await?,
        };
        if refused {
            lack.note(Instant::now());
        }
        let seen = info.seen(repo);
        seen.ok_or_else(|| self.http.malformed("what it knows of a repository", "it names no commit"))
    }

    async fn refs(&self, repo: &RepoId, token: Option<&Token>) -> Result<Vec<SeenRef>, OriginError> {
        let mut url = self.api(repo, &["refs"]);
        url.query_pairs_mut().append_pair("include_prs", "1");
        let ask = Ask::get(url, Auth::Bearer(token), LaneKind::Api, OriginErrorKind::RepoNotFound);
        Ok(self.http.send(&ask).await?.json::<Refs>(MAX_REFS_BYTES, "a list of refs").await?.seen())
    }

    async fn bundle(
        &self,
        repo: &RepoId,
        commit: CommitId,
        token: Option<&Token>,
    ) -> Result<Bundle, OriginError> {
        let _turn = self.bundles.acquire().await;
        let url = self.page(repo, ["git-upload-pack"]);
        let git = UploadPack { http: &self.http, url, auth: Auth::Basic(token) };
        let pack = self.commit_pack(&git, commit).await?;
        let mut assembly = Assembly::new(commit, pack).map_err(|source| self.proof(source))?;
        if !assembly.is_done() {
            tree::complete(&self.http, repo, commit, Auth::Bearer(token), &mut assembly).await?;
        }
        if !assembly.is_done() {
            self.fill(&git, repo, commit, &mut assembly).await?;
        }
        assembly.finish().map_err(|source| self.proof(source))
    }

    async fn open(
        &self,
        repo: &RepoId,
        commit: CommitId,
        entry: &FileEntry,
        range: ByteRange,
        token: Option<&Token>,
    ) -> Result<OriginBody, OriginError> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        // What the plain bridge gives is never asked for otherwise.
        let too_large = entry.size > self.plain_up_to;
        let refused = || self.refusers.get(repo, &entry.digest(), Instant::now());
        if let Some(id) = Some(()).filter(|()| too_large).and_then(|()| refused()) {
            return self.open_by_xet(repo, commit, entry, range, token, id).await;
        }
        let url = self.file(repo, "resolve", commit, &entry.path);
        let mut ask = Ask::get(url, Auth::Bearer(token), LaneKind::Files, OriginErrorKind::EntryNotFound);
        if too_large || range != ByteRange::whole(entry.size) {
            ask = ask.header(RANGE, range_header(range));
        }
        match self.http.send_or_tell(&ask).await {
            Ok(answer) => answer.file(range, entry.size),
            Err(Failure { error, by_xet: Some(id) }) if too_large => {
                tracing::debug!(path = %entry.path, %error, "a file is asked for by Xet");
                self.refusers.remember(repo, entry.digest(), &id, Instant::now());
                self.open_by_xet(repo, commit, entry, range, token, id).await
            }
            Err(failure) => Err(failure.error),
        }
    }

    async fn may_read(&self, repo: &RepoId, token: Option<&Token>) -> Result<(), OriginError> {
        let url = self.api(repo, &["auth-check"]);
        let ask = Ask::get(url, Auth::Bearer(token), LaneKind::Api, OriginErrorKind::RepoNotFound);
        self.http.send(&ask).await.map(drop)
    }

    async fn whoami(&self, token: &Token) -> Result<Bytes, OriginError> {
        let url = self.http.url(["api", "whoami-v2"]);
        let ask = Ask::get(url, Auth::Bearer(Some(token)), LaneKind::Api, OriginErrorKind::BadToken);
        self.http.send(&ask).await?.bytes(MAX_WHOAMI_BYTES, "who holds the token").await
    }
}

/// `Range` for a range that is not empty.
pub(crate) fn range_header(range: ByteRange) -> HeaderValue {
    let text = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes=0-"))
}
