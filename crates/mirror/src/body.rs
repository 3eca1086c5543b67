//! The bytes of a reader: from a file that is here, or from one that is still coming.
//!
//! **Invariant:** every piece was read through the store, which yields verified bytes only.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hubless_store::{BlobFile, MAX_READ_BYTES, Store};
use hubless_types::{BlobHash, ByteRange, CommitId, FileEntry, GROUP_BYTES, Link, LinkTrust, RepoId};

use crate::fetch::{FetchError, FetchHandle, ReaderGuard};
use crate::mirror::Inner;
use crate::util::blocking;
use crate::{Caller, MirrorError};

/// The first piece is short, so that it is soon there.
const FIRST_PIECE_BYTES: u64 = 4 * GROUP_BYTES;
/// Pieces of a file that is coming.
const COMING_PIECE_BYTES: u64 = 256 * 1024;
/// Pieces of a file that is here. A client that does not read costs a node a few of them.
const HELD_PIECE_BYTES: u64 = MAX_READ_BYTES / 4;
/// Pieces that are read ahead of the reader.
const READ_AHEAD: usize = 2;

/// What is waited for before a file that is coming is opened.
pub(crate) fn first_piece(range: ByteRange) -> ByteRange {
    next_piece(range.start, range, FIRST_PIECE_BYTES)
}

/// The piece from `at` on: ends on a multiple of `bytes`, so that pieces and groups share their edges.
fn next_piece(at: u64, range: ByteRange, bytes: u64) -> ByteRange {
    let edge = (at / bytes).saturating_add(1).saturating_mul(bytes);
    ByteRange::new(at, edge.min(range.end))
}

fn pieces(range: ByteRange) -> impl Iterator<Item = ByteRange> + Send {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let bytes = if at == range.start { COMING_PIECE_BYTES } else { HELD_PIECE_BYTES };
        let piece = next_piece(at, range, bytes);
        at = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A whole blob that was opened, and its first piece; it cannot be collected meanwhile.
pub(crate) struct Begun {
    file: BlobFile,
    first: Bytes,
    range: ByteRange,
}

/// Opens a whole blob and reads the first piece of `range`, in one go: a small file is read by then. Blocks.
pub(crate) fn begin_held(store: &Store, hash: BlobHash, range: ByteRange) -> Result<Begun, MirrorError> {
    let file = store.blobs().open(&hash)?.ok_or(hubless_store::StoreError::NotHere { hash })?;
    let first = pieces(range).next().map(|piece| file.read(piece)).transpose()?.unwrap_or_default();
    Ok(Begun { file, first, range })
}

impl Begun {
    /// All pieces, the first one at once.
    pub(crate) fn stream(self) -> BoxStream<'static, Result<Bytes, MirrorError>> {
        let Self { file, first, range } = self;
        if first.len() as u64 == range.len() {
            return stream::iter([Ok(first)]).boxed();
        }
        let file = Arc::new(file);
        let read = move |piece| read_piece(Arc::clone(&file), piece);
        let rest = stream::iter(pieces(range).skip(1)).map(read).buffered(READ_AHEAD);
        stop_at_error(stream::iter([Ok(first)]).chain(rest).boxed())
    }
}

/// Streams `range` of a whole blob, which cannot be collected meanwhile.
pub(crate) async fn of_held(
    store: &Store,
    hash: BlobHash,
    range: ByteRange,
) -> Result<BoxStream<'static, Result<Bytes, MirrorError>>, MirrorError> {
    let store = store.clone();
    Ok(blocking(move || begin_held(&store, hash, range)).await?.stream())
}

async fn read_piece(file: Arc<BlobFile>, piece: ByteRange) -> Result<Bytes, MirrorError> {
    blocking(move || Ok(file.read(piece)?)).await
}

/// Where a reader of a file that is coming stands.
struct Coming {
    handle: FetchHandle,
    guard: ReaderGuard,
    link: Link,
    range: ByteRange,
    at: u64,
    inner: Arc<Inner>,
    rescue: Option<Rescue>,
}

/// How a file is had when its peers are gone in the middle of it.
pub(crate) struct Rescue {
    pub(crate) caller: Caller,
    pub(crate) repo: RepoId,
    pub(crate) commit: CommitId,
    pub(crate) entry: FileEntry,
}

impl Drop for Coming {
    fn drop(&mut self) {
        if self.link.trust < LinkTrust::Proven && self.handle.partial().is_complete() {
            self.inner.prove_later(self.link);
        }
    }
}

/// Streams `range` of a blob as it comes and is verified; its place is fetched first.
pub(crate) fn of_coming(
    handle: FetchHandle,
    link: Link,
    range: ByteRange,
    inner: Arc<Inner>,
    rescue: Option<Rescue>,
) -> BoxStream<'static, Result<Bytes, MirrorError>> {
    let guard = handle.want_range(range);
    let coming = Coming { handle, guard, link, range, at: range.start, inner, rescue };
    let body = stream::unfold(coming, |mut coming| async move {
        if coming.at >= coming.range.end {
            return None;
        }
        let bytes = if coming.at == coming.range.start { FIRST_PIECE_BYTES } else { COMING_PIECE_BYTES };
        let piece = next_piece(coming.at, coming.range, bytes);
        let read = coming.read(piece).await;
        coming.at = piece.end;
        coming.guard.move_to(piece.end);
        Some((read, coming))
    });
    stop_at_error(body.boxed())
}

impl Coming {
    async fn read(&self, piece: ByteRange) -> Result<Bytes, MirrorError> {
        match (self.handle.wait_for(piece).await, &self.rescue) {
            (Ok(()), _) => {
                let partial = self.handle.partial();
                blocking(move || Ok(partial.read(piece)?)).await
            }
            (Err(FetchError::NoSource { .. }), Some(rescue)) => self.read_whole(rescue, piece).await,
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Gets all of the file from an origin before it goes on.
    async fn read_whole(&self, rescue: &Rescue, piece: ByteRange) -> Result<Bytes, MirrorError> {
        let Rescue { caller, repo, commit, entry } = rescue;
        let (job, _) = self.inner.obtain(caller, repo, *commit, entry)?;
        let done = self.inner.obtained(caller, repo, *commit, entry, job).await;
        let link = done.map_err(MirrorError::Shared)?;
        // Under another root it would be another file than what was shown so far.
        let right = link.hash == self.link.hash;
        let blobs = self.inner.store.blobs().clone();
        let file = blocking(move || Ok(if right { blobs.open(&link.hash)? } else { None })).await?;
        let file = file.ok_or(hubless_store::StoreError::NotHere { hash: self.link.hash })?;
        read_piece(Arc::new(file), piece).await
    }
}

/// Ends the stream after its first error: what follows would be read as if nothing were missing.
fn stop_at_error(
    body: BoxStream<'static, Result<Bytes, MirrorError>>,
) -> BoxStream<'static, Result<Bytes, MirrorError>> {
    body.scan(false, |failed, item| {
        let stop = *failed;
        *failed = item.is_err();
        std::future::ready((!stop).then_some(item))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_once_and_are_short_enough() {
        for (start, end) in [(0, 1), (5, 5), (100, 3_000_000), (262_144, 5_000_001)] {
            let range = ByteRange::new(start, end);
            let mut at = start;
            for piece in pieces(range) {
                assert!(piece.start == at && piece.len() <= MAX_READ_BYTES && !piece.is_empty());
                at = piece.end;
            }
            assert_eq!(at, end);
        }
        assert_eq!(first_piece(ByteRange::new(10, 1 << 30)).end, FIRST_PIECE_BYTES);
        assert_eq!(first_piece(ByteRange::new(10, 20)), ByteRange::new(10, 20));
    }
}
