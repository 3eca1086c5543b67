//! One file at one origin.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use hubless_origin::{Origin, OriginBody, OriginError, OriginErrorKind};
use hubless_store::{Draft, PartialBlob};
use hubless_transfer::Tick;
use hubless_types::{BlobHash, ByteRange, CommitId, FileEntry, RepoId, Token};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::Closing;
use super::ask::ask;
use super::fill::{FillError, into_draft, into_partial};
use crate::util::locked;
use hubless_plan::Source;

/// Longest time without a byte from an origin. Origins have their own, shorter ones; this one holds whatever they do.
const SILENCE: Duration = Duration::from_secs(20);

/// Doubts that are remembered of one file.
const MAX_DOUBTS: usize = 16;

/// What is fetched, and for whom.
pub(crate) struct Errand {
    pub(crate) repo: RepoId,
    pub(crate) commit: CommitId,
    pub(crate) entry: FileEntry,
    /// Shown to the origin at the place `home` alone, if it wants one, as long as this lives.
    pub(crate) token: Option<Token>,
    pub(crate) home: usize,
    /// Whether the content is known not to be open to everyone.
    pub(crate) closed: bool,
    /// Set before the first bytes come that are given to a token alone.
    pub(crate) by_token: AtomicBool,
    /// Closes what they belong to, before they come.
    pub(super) closing: Closing,
    pub(crate) slots: Arc<Semaphore>,
    /// Bytes that did not fit a tree: either the origin's, or the root that somebody claims, is wrong.
    pub(super) doubts: Mutex<Vec<Doubt>>,
}

/// Bytes of an origin that did not fit a tree.
pub(super) struct Doubt {
    index: u8,
    hash: BlobHash,
    offset: u64,
}

impl Errand {
    pub(crate) fn new(repo: &RepoId, commit: CommitId, entry: &FileEntry, slots: Arc<Semaphore>) -> Self {
        Self {
            repo: repo.clone(),
            commit,
            entry: entry.clone(),
            token: None,
            home: 0,
            closed: false,
            by_token: AtomicBool::new(false),
            closing: Closing::default(),
            slots,
            doubts: Mutex::default(),
        }
    }

    /// Whether what came must not be shared.
    pub(crate) fn is_private(&self) -> bool {
        self.closed || self.by_token.load(Ordering::Acquire)
    }
}

/// One file at one origin.
pub(crate) struct Remote {
    index: u8,
    origin: Arc<dyn Origin>,
    errand: Arc<Errand>,
}

/// Bytes on their way from an origin; while it lives it counts as one of the bodies that may be.
pub(super) struct Body {
    stream: OriginBody,
    origin: String,
    _slot: OwnedSemaphorePermit,
}

impl Body {
    /// The next bytes; `None` after the last. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        match tokio::time::timeout(SILENCE, self.stream.next()).await {
            Ok(next) => next.transpose(),
            Err(_) => Err(stalled(&self.origin)),
        }
    }
}

impl Remote {
    pub(crate) fn new(index: u8, origin: Arc<dyn Origin>, errand: Arc<Errand>) -> Self {
        Self { index, origin, errand }
    }

    /// As the plan knows it.
    pub(crate) const fn source(&self) -> Source {
        Source::Origin(self.index)
    }

    /// Its address.
    pub(crate) fn name(&self) -> &str {
        self.origin.name()
    }

    /// Whether a range of the file costs the origin no more than that range.
    pub(crate) fn seeks(&self) -> bool {
        self.origin.seeks(&self.errand.entry)
    }

    pub(crate) fn errand(&self) -> &Errand {
        &self.errand
    }

    /// Asks for `range` of the file, by the token too where the origin wants one. Waits for room among all bodies.
    pub(super) async fn open(&self, range: ByteRange) -> Result<Body, OriginError> {
        let at_home = usize::from(self.index) == self.errand.home;
        self.open_by(range, self.errand.token.as_ref().filter(|_| at_home)).await
    }

    async fn open_by(&self, range: ByteRange, token: Option<&Token>) -> Result<Body, OriginError> {
        let errand = &*self.errand;
        let slot = errand.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_| self.unreachable("the node is stopping"))?;
        let closed = errand.is_private();
        let question = |token: Option<Token>| {
            let (origin, errand) = (self.origin.clone(), self.errand.clone());
            async move {
                let Errand { repo, commit, entry, .. } = &*errand;
                let opened = origin.open(repo, *commit, entry, range, token.as_ref());
                tokio::time::timeout(SILENCE, opened).await.unwrap_or_else(|_| Err(stalled(origin.name())))
            }
        };
        let got = ask(token, closed, question).await?;
        if got.by_token {
            // Before anything of it is read: whatever becomes of the rest, peers get nothing of it.
            errand.by_token.store(true, Ordering::Release);
            errand.close().await.map_err(|error| {
                tracing::error!(repo = %errand.repo, %error, "that a repository is not open cannot be written down");
                self.unreachable("what it gives to a token cannot be kept from others")
            })?;
        }
        Ok(Body { stream: got.value, origin: self.origin.name().to_owned(), _slot: slot })
    }

    /// Fetches `groups` into a blob whose tree is here; each group is checked before it is written.
    ///
    /// No token is shown: peers get what is in such a blob as soon as it is verified.
    pub(crate) async fn fill(
        &self,
        into: &PartialBlob,
        groups: Range<u64>,
        tick: Tick,
    ) -> Result<(), FillError> {
        let range = ByteRange::of_groups(groups.clone(), into.size());
        let body = self.open_by(range, None).await?;
        let filled = into_partial(body, into, groups, tick).await;
        if let Err(FillError::Wrong { offset }) = &filled {
            let mut doubts = locked(&self.errand.doubts);
            if doubts.len() < MAX_DOUBTS {
                doubts.push(Doubt { index: self.index, hash: into.hash(), offset: *offset });
            }
        }
        filled
    }

    /// Where what it sent did not fit the tree of `hash`.
    pub(super) fn misfit(&self, hash: &BlobHash) -> Option<u64> {
        let doubts = locked(&self.errand.doubts);
        doubts.iter().find(|d| d.index == self.index && d.hash == *hash).map(|d| d.offset)
    }

    /// Fetches `range` into a draft, unchecked; `tick` is told of bytes as they are written.
    pub(super) async fn draft(&self, into: &Draft, range: ByteRange, tick: Tick) -> Result<(), FillError> {
        let body = self.open(range).await?;
        if self.errand.is_private() {
            self.errand.mark(into)?;
        }
        into_draft(body, into, range.start, tick).await
    }

    fn unreachable(&self, why: &str) -> OriginError {
        OriginError::Unreachable { origin: self.origin.name().to_owned(), why: why.to_owned() }
    }
}

fn stalled(origin: &str) -> OriginError {
    OriginError::Stalled { origin: origin.to_owned(), after: SILENCE }
}

/// Whether asking the same origin again may help.
pub(super) fn may_pass(error: &OriginError) -> bool {
    let spent = matches!(error, OriginError::Spent { .. });
    !spent
        && matches!(
            error.kind(),
            OriginErrorKind::Busy | OriginErrorKind::Unavailable | OriginErrorKind::Wrong
        )
}
