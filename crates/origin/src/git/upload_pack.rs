//! Objects by git's smart HTTP, protocol version 2: one POST, one pack.

use hubless_proof::{
    FetchAnswer, FetchRequest, FetchState, ObjectKind, PackFilter, PackLimits, PackObject, ProofError,
    peek_object, read_pack, write_fetch,
};
use hubless_types::{BlobId, CommitId, MAX_MANIFEST_ENTRIES, POINTER_MAX_BYTES};
use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use crate::http::{Ask, Auth, Http, words};
use crate::pace::LaneKind;
use crate::{OriginError, OriginErrorKind};

/// What the pack of a commit may cost. Inflated it may hold a bundle, deltas, and what a server sends that takes no
/// filter.
const LIMITS: PackLimits = PackLimits {
    bytes: 96 * 1024 * 1024,
    objects: 2 * MAX_MANIFEST_ENTRIES + 2,
    inflated: 256 * 1024 * 1024,
    depth: 4095,
    keep_blob: POINTER_MAX_BYTES,
};
/// A pack in frames is a little longer than the pack, and has progress beside it.
const MAX_ANSWER_BYTES: u64 = LIMITS.bytes as u64 + 8 * 1024 * 1024;
/// Blobs that are asked for at once.
const BLOBS_AT_ONCE: usize = 2000;
/// Bytes of a pack that are enough to tell the length of its first object.
const PEEK_BYTES: usize = 64;
/// What is left out of a commit's pack: a pointer is never as long as this.
pub(crate) const ABOVE_POINTERS: PackFilter = PackFilter::BlobsBelow(POINTER_MAX_BYTES + 1);

/// A repository's `git-upload-pack`.
#[derive(Debug, Clone)]
pub(crate) struct UploadPack<'a> {
    pub(crate) http: &'a Http,
    /// The address that ends in `git-upload-pack`.
    pub(crate) url: Url,
    pub(crate) auth: Auth<'a>,
}

impl UploadPack<'_> {
    /// The commit, its trees, and the blobs that `filter` leaves.
    pub(crate) async fn commit(
        &self,
        commit: CommitId,
        filter: PackFilter,
    ) -> Result<Vec<PackObject>, OriginError> {
        let wants = vec![*commit.as_bytes()];
        let request =
            FetchRequest { wants, depth: Some(1), filter, done: true, quiet: true, ..Default::default() };
        self.objects(&request).await
    }

    /// The blobs of these ids, as far as one pack has room for them.
    pub(crate) async fn blobs(&self, ids: &[BlobId]) -> Result<Vec<PackObject>, OriginError> {
        let mut objects = Vec::new();
        for ids in ids.chunks(BLOBS_AT_ONCE) {
            objects.extend(self.objects(&blob_request(ids)).await?);
        }
        Ok(objects)
    }

    /// How long a blob is, by the front of its pack.
    pub(crate) async fn blob_size(&self, id: BlobId) -> Result<u64, OriginError> {
        let mut pack = self.pack(&blob_request(&[id]), u64::MAX).await?;
        let mut front = Vec::new();
        while front.len() < PEEK_BYTES {
            let Some(piece) = pack.next().await? else { break };
            front.extend_from_slice(&piece);
            match peek_object(&front).map_err(|source| self.proof(source))? {
                Some((ObjectKind::Blob, size, _)) => return Ok(size),
                Some(_) => break,
                None => {}
            }
        }
        Err(self.http.malformed("a git pack", "it does not begin with the blob that was asked for"))
    }

    /// The pack that answers `request`, as it arrives; at most `limit` bytes with its frames.
    pub(crate) async fn pack(&self, request: &FetchRequest, limit: u64) -> Result<PackStream, OriginError> {
        let body = write_fetch(request, self.http.agent()).map_err(|source| self.proof(source))?;
        let answer = self.http.send(&self.ask(body)).await?;
        Ok(PackStream {
            origin: self.http.name().to_owned(),
            pieces: answer.pieces(limit, "a git pack")?,
            reader: FetchAnswer::default(),
        })
    }

    /// A POST to it, in protocol version 2.
    pub(crate) fn ask(&self, body: Vec<u8>) -> Ask<'_> {
        Ask::get(self.url.clone(), self.auth, LaneKind::Api, OriginErrorKind::RepoNotFound)
            .post(body, "application/x-git-upload-pack-request")
            .accept("application/x-git-upload-pack-result")
            .header(HeaderName::from_static("git-protocol"), HeaderValue::from_static("version=2"))
    }

    async fn objects(&self, request: &FetchRequest) -> Result<Vec<PackObject>, OriginError> {
        let mut stream = self.pack(request, MAX_ANSWER_BYTES).await?;
        let mut pack = Vec::new();
        while let Some(piece) = stream.next().await? {
            pack.extend_from_slice(&piece);
        }
        // Inflating and hashing may take a second of a core.
        let read = tokio::task::spawn_blocking(move || read_pack(&pack, &LIMITS)).await;
        let read = read.map_err(|_| self.http.malformed("a git pack", "reading it was given up"))?;
        read.map_err(|source| self.proof(source))
    }

    fn proof(&self, source: ProofError) -> OriginError {
        OriginError::Proof { origin: self.http.name().to_owned(), source }
    }
}

pub(crate) fn blob_request(ids: &[BlobId]) -> FetchRequest {
    let wants = ids.iter().map(|id| *id.as_bytes()).collect();
    FetchRequest { wants, done: true, quiet: true, ..Default::default() }
}

/// A pack as it arrives.
#[derive(Debug)]
pub(crate) struct PackStream {
    origin: String,
    pieces: crate::http::Limited,
    reader: FetchAnswer,
}

impl PackStream {
    /// The same, for as long as pieces keep coming: a file may be large.
    pub(crate) fn unhurried(self) -> Self {
        Self { pieces: self.pieces.unhurried(), ..self }
    }

    /// The next bytes of the pack; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, OriginError> {
        let mut pack = Vec::new();
        while pack.is_empty() {
            if *self.reader.state() == FetchState::Done {
                return Ok(None);
            }
            let Some(piece) = self.pieces.next().await? else {
                let why = "it is cut off".to_owned();
                return Err(OriginError::Malformed { origin: self.origin.clone(), what: "a git pack", why });
            };
            let state = self.reader.push(&piece, &mut pack);
            match state.map_err(|source| OriginError::Proof { origin: self.origin.clone(), source })? {
                FetchState::Refused(said) => return Err(refused(&self.origin, said)),
                FetchState::Head | FetchState::Pack | FetchState::Done => {}
            }
        }
        Ok(Some(pack))
    }
}

/// What a refusal within the protocol means: git has words for it, not codes.
pub(crate) fn refused(origin: &str, said: &str) -> OriginError {
    let said = words(said);
    let lower = said.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let kind = if any(&["not our ref", "not held", "no such commit", "unknown commit"]) {
        OriginErrorKind::RevisionNotFound
    } else if any(&["not found", "does not exist"]) {
        OriginErrorKind::RepoNotFound
    } else if any(&["denied", "gated", "restricted"]) {
        OriginErrorKind::Gated
    } else {
        OriginErrorKind::Unavailable
    };
    OriginError::Refused { origin: origin.to_owned(), status: 200, kind, said }
}
