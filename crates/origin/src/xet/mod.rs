//! Xet, for files that an origin gives no other way: ranges put together from the chunks of its content store.
//!
//! The origin gives leave (a token of the store's own, and where the store is), the store tells of which chunks of which
//! xorbs a range is made and where those are, and they are fetched from there. All of it by this crate's own HTTP: the
//! rules for redirects, private addresses, budgets and lengths are the same as for everything else.
//!
//! **Invariants:** a user's token goes to the origin alone, the store's token to the store alone, and neither to where
//! the bytes are; a range comes exactly or not at all; what is kept of it in memory is less than [`WINDOW_BYTES`].
//! **Not here:** whether the bytes are the file: the caller hashes them, as whatever comes from an origin. Nothing here
//! uploads, and chunks are kept for no later request.

mod chunk;
mod pass;
mod plan;
mod rebuild;
mod refusers;

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hubless_types::{ByteRange, CommitId, RepoId, Token};
use reqwest::header::{AUTHORIZATION, HeaderMap, LINK, RANGE};
use tokio::time::Instant;
use url::Url;

pub use chunk::{ChunkError, MAX_CHUNK_BYTES, Unpacker};
pub use plan::{Plan, PlanError};
pub use rebuild::{Rebuild, RebuildError, Step};
pub(crate) use refusers::Refusers;

use self::pass::{Given, Pass, Passes};
use crate::http::{Ask, Auth, Http, words};
use crate::hub::range_header;
use crate::pace::LaneKind;
use crate::{OriginBody, OriginError, OriginErrorKind};

/// Bytes of a file that are planned at once.
pub(crate) const WINDOW_BYTES: u64 = 16 * 1024 * 1024;
/// Longest answer that gives leave, in bytes.
const MAX_PASS_BYTES: usize = 64 * 1024;
/// Longest plan, in bytes.
const MAX_PLAN_BYTES: usize = 16 * 1024 * 1024;
/// Digits of a file's name in Xet.
const ID_DIGITS: usize = 64;

/// How Xet calls a file: 64 hexadecimal digits, which no digest of ours tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct XetId(String);

impl XetId {
    /// The name in `X-Xet-Hash`, where `Link` tells that leave is given for it.
    pub(crate) fn told(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get("x-xet-hash")?.to_str().ok()?;
        let is_name = id.len() == ID_DIGITS && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let leave = |link: &str| link.contains("rel=\"xet-auth\"");
        let leave = headers.get_all(LINK).iter().any(|link| link.to_str().is_ok_and(leave));
        (is_name && leave).then(|| Self(id.to_owned()))
    }
}

/// Which file, of which commit.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) repo: RepoId,
    pub(crate) commit: CommitId,
    pub(crate) id: XetId,
    /// Where leave is given for it.
    pub(crate) leave: Url,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Xet {
    http: Arc<Http>,
    passes: Passes,
}

impl Xet {
    /// By the origin that `http` asks.
    pub(crate) fn new(http: Arc<Http>) -> Self {
        Self { http, passes: Passes::default() }
    }

    /// The bytes of `range`, which is not empty. What is to come first is known to be there when this returns.
    pub(crate) async fn open(
        self: Arc<Self>,
        wanted: Wanted,
        range: ByteRange,
        token: Option<&Token>,
    ) -> Result<OriginBody, OriginError> {
        let mut reader =
            Reader { xet: self, wanted, token: token.cloned(), left: range, owed: range.len(), window: None };
        reader.begin_window().await?;
        let pieces = stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|piece| (piece, reader)))
        });
        Ok(pieces.boxed())
    }

    /// Leave to ask the store; one that is kept, or a new one.
    async fn pass(&self, wanted: &Wanted, token: Option<&Token>) -> Result<(Pass, bool), OriginError> {
        if let Some(pass) = self.passes.get(&wanted.repo, wanted.commit, token, Instant::now()) {
            return Ok((pass, true));
        }
        let auth = Auth::Bearer(token);
        let ask = Ask::get(wanted.leave.clone(), auth, LaneKind::Api, OriginErrorKind::Unavailable);
        let answer = self.http.send(&ask).await?;
        let date = answer.date();
        let given: Given = answer.json(MAX_PASS_BYTES, "leave to ask its store").await?;
        let pass = given.pass(date).map_err(|why| self.malformed("leave to ask its store", why))?;
        self.passes.keep(&wanted.repo, wanted.commit, token, &pass, Instant::now());
        Ok((pass, false))
    }

    /// How `range` is put together.
    async fn plan(
        &self,
        wanted: &Wanted,
        range: ByteRange,
        token: Option<&Token>,
    ) -> Result<Plan, OriginError> {
        let (pass, kept) = self.pass(wanted, token).await?;
        let answer = match self.ask_store(&pass, wanted, range).await {
            // It was taken back before its time.
            Err(error) if kept && matches!(error.status(), Some(401 | 403)) => {
                self.passes.drop(&wanted.repo, wanted.commit, token, Instant::now());
                let (pass, _) = self.pass(wanted, token).await?;
                self.ask_store(&pass, wanted, range).await
            }
            answer => answer,
        };
        Plan::read(&answer?, range.len())
            .map_err(|error| self.malformed("a plan of a file", &error.to_string()))
    }

    async fn ask_store(&self, pass: &Pass, wanted: &Wanted, range: ByteRange) -> Result<Bytes, OriginError> {
        let mut url = pass.cas.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "reconstructions", &wanted.id.0]);
        }
        let mut ask = elsewhere(url, range);
        ask.secrets.insert(AUTHORIZATION, pass.bearer.clone());
        let answer = self.http.send(&ask).await.map_err(of_the_store)?;
        answer.bytes(MAX_PLAN_BYTES, "a plan of a file").await
    }

    fn malformed(&self, what: &'static str, why: &str) -> OriginError {
        self.http.noted(self.http.malformed(what, words(why)))
    }
}

/// A question to somebody else in the origin's name.
fn elsewhere(url: Url, range: ByteRange) -> Ask<'static> {
    let ask = Ask::get(url, Auth::Bearer(None), LaneKind::Elsewhere, OriginErrorKind::Unavailable);
    ask.header(RANGE, range_header(range))
}

/// A store knows neither repositories nor who may read them, even where it is at the origin's own address.
fn of_the_store(error: OriginError) -> OriginError {
    match error {
        OriginError::Refused { kind, origin, status, said } if kind != OriginErrorKind::Busy => {
            OriginError::Refused { kind: OriginErrorKind::Unavailable, origin, status, said }
        }
        error => error,
    }
}

/// A range being read.
struct Reader {
    xet: Arc<Xet>,
    wanted: Wanted,
    token: Option<Token>,
    /// What no window was begun for.
    left: ByteRange,
    /// Bytes that have not been given.
    owed: u64,
    window: Option<Window>,
}

/// The part of a range that one plan gives.
struct Window {
    rebuild: Rebuild,
    fetch: Option<(OriginBody, Unpacker)>,
}

impl Reader {
    async fn begin_window(&mut self) -> Result<(), OriginError> {
        let end = self.left.end.min(self.left.start + WINDOW_BYTES);
        let range = ByteRange::new(self.left.start, end);
        let plan = self.xet.plan(&self.wanted, range, self.token.as_ref()).await?;
        self.window = Some(Window { rebuild: Rebuild::new(plan), fetch: None });
        self.left = ByteRange::new(end, self.left.end);
        Ok(())
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        loop {
            let http = &self.xet.http;
            if let Some(window) = &mut self.window
                && let Some(bytes) = window.next(http).await?
            {
                self.owed = self.owed.saturating_sub(bytes.len() as u64);
                return Ok(Some(bytes));
            }
            if self.left.is_empty() {
                return match self.owed {
                    0 => Ok(None),
                    owed => Err(http.noted(http.malformed("parts of a file", format!("{owed} bytes lack")))),
                };
            }
            self.begin_window().await?;
        }
    }
}

impl Window {
    async fn next(&mut self, http: &Http) -> Result<Option<Bytes>, OriginError> {
        let wrong = |why: String| http.noted(http.malformed("parts of a file", words(&why)));
        loop {
            match self.rebuild.step().map_err(|error| wrong(error.to_string()))? {
                Step::Give(bytes) => return Ok(Some(bytes)),
                Step::Done => return Ok(None),
                Step::Fetch(fetch) => {
                    let Some(fetch) = self.rebuild.plan().fetches.get(fetch) else { return Ok(None) };
                    let ask = elsewhere(fetch.url.clone(), fetch.bytes);
                    let body = http.send(&ask).await.map_err(of_the_store)?.part(fetch.bytes)?;
                    self.fetch = Some((body, Unpacker::new()));
                }
                Step::More => {
                    let Some((body, unpacker)) = &mut self.fetch else { return Ok(None) };
                    if let Some(chunk) = unpacker.next_chunk().map_err(|error| wrong(error.to_string()))? {
                        self.rebuild.chunk(chunk).map_err(|error| wrong(error.to_string()))?;
                    } else if let Some(piece) = body.try_next().await? {
                        unpacker.push(&piece);
                    } else {
                        unpacker.end().map_err(|error| wrong(error.to_string()))?;
                        self.rebuild.fetch_ended().map_err(|error| wrong(error.to_string()))?;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(id: &str, link: &str) -> Option<XetId> {
        let mut headers = HeaderMap::new();
        headers.insert("x-xet-hash", id.parse().ok()?);
        headers.insert(LINK, link.parse().ok()?);
        XetId::told(&headers)
    }

    #[test]
    fn a_name_in_xet_is_told_with_the_way_to_it() {
        let (id, link) = ("0a".repeat(32), "<https://h/api/models/a/b/xet-read-token/c>; rel=\"xet-auth\"");
        assert_eq!(told(&id, link), Some(XetId(id.clone())));
        for bad in ["", "abc", &id[1..], &id.to_uppercase(), &format!("../{}", &id[3..])] {
            assert_eq!(told(bad, link), None, "{bad}");
        }
        assert_eq!(told(&id, "<https://h>; rel=\"next\""), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(id in "[ -~]{0,70}", link in "[ -~]{0,60}") {
            let _ = told(&id, &link);
        }
    }
}
