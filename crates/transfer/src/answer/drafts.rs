//! What is told and given of files that are fetched from an origin by many nodes at once.
//!
//! **Invariant:** of a draft only what was offered is given, as it came; of a file that is whole here, only what peers
//! may have, each group checked.

use std::ops::Range;

use hubless_store::{BlobStatus, DraftNews, Store};
use hubless_types::{ByteRange, FileDigest, GroupSet, Link, LinkTrust};

use super::{Emit, emit_frame, open_shared};
use crate::limits::{MAX_HAVE_BYTES, MAX_PART_FRAME};
use crate::refusal::Refusal;
use crate::wire::draft_frame;

/// Tells of those of `digests` about which something is done here, or which are here.
pub(super) fn news(store: &Store, digests: &[FileDigest], emit: Emit<'_>) -> Result<(), Refusal> {
    for (digest, index) in digests.iter().zip(0_u32..) {
        let news = match store.blobs().crowd_news(digest) {
            Some(news) => shortened(news),
            None => match whole(store, digest)? {
                Some(link) => {
                    let all = GroupSet::whole(link.size);
                    DraftNews { size: link.size, offers: all.clone(), have: all, ..DraftNews::default() }
                }
                None => continue,
            },
        };
        if !emit(draft_frame(index, &news).map_err(|_| Refusal::Failed)?) {
            break;
        }
    }
    Ok(())
}

/// Sends groups of a file: from the blob where it is whole, else from its draft.
pub(super) fn part(
    store: &Store,
    digest: &FileDigest,
    groups: Range<u64>,
    emit: Emit<'_>,
) -> Result<(), Refusal> {
    if let Some(pieces) = store.blobs().offered(digest, groups.clone()) {
        for piece in pieces {
            let mut piece = piece?;
            while !piece.is_empty() {
                let now = piece.split_to(piece.len().min(MAX_PART_FRAME));
                if !emit_frame(now, emit) {
                    return Ok(());
                }
            }
        }
        return Ok(());
    }
    let link = whole(store, digest)?.ok_or(Refusal::NotHeld)?;
    let file = open_shared(store, &link.hash)?.ok_or(Refusal::NotHeld)?;
    let range = ByteRange::of_groups(groups, link.size);
    let mut at = range.start;
    while at < range.end {
        let piece = file.read(ByteRange::new(at, range.end.min(at + MAX_PART_FRAME as u64)))?;
        if piece.is_empty() {
            return Err(Refusal::NotHeld);
        }
        at += piece.len() as u64;
        if !emit_frame(piece, emit) {
            break;
        }
    }
    Ok(())
}

/// The link of a file that is whole here, was hashed here, and may be given to peers.
fn whole(store: &Store, digest: &FileDigest) -> Result<Option<Link>, Refusal> {
    let link = store.catalogue().link(digest)?.filter(|link| link.trust == LinkTrust::Proven);
    let Some(link) = link.filter(|link| link.size > 0) else { return Ok(None) };
    if !store.blobs().is_shared(&link.hash)? {
        return Ok(None);
    }
    Ok(matches!(store.blobs().status(&link.hash)?, BlobStatus::Complete { .. }).then_some(link))
}

/// Less than all is true, too.
fn shortened(news: DraftNews) -> DraftNews {
    let cut = crate::holdings::shortened;
    DraftNews { offers: cut(news.offers), awaits: cut(news.awaits), have: cut(news.have), ..news }
}

const _: () = assert!(3 * MAX_HAVE_BYTES < crate::limits::MAX_DRAFT_FRAME);
