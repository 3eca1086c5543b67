//! From a blocking thread that reads the store to a stream: a few pieces ahead, and no copy between.

use bytes::Bytes;
use hubless_limits::Use;
use iroh::endpoint::{SendStream, WriteError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Patience, Peer, share::refuse_spent};
use crate::limits::PIECES_READY;
use crate::refusal::Refusal;

/// Runs `read` in a blocking thread and sends what it emits, as the cap on what goes out allows for `what` it is. `read`
/// is told by `false` that nobody wants more.
pub(super) async fn pump(
    send: &mut SendStream,
    peer: &Peer,
    what: Use,
    read: impl FnOnce(&mut dyn FnMut(Bytes) -> bool) -> Result<(), Refusal> + Send + 'static,
) -> Result<(), Refusal> {
    let (pieces, mut ready) = mpsc::channel::<Bytes>(PIECES_READY);
    let reader = tokio::task::spawn_blocking(move || read(&mut |piece| pieces.blocking_send(piece).is_ok()));
    let mut patience = Patience::new();
    while let Some(mut piece) = ready.recv().await {
        refuse_spent(&peer.shared, what)?;
        while !piece.is_empty() {
            let part = allowed(peer, what, &mut piece).await;
            let len = part.len();
            let (within, before) = (patience.for_piece(len), Instant::now());
            match timeout(within, write(send, peer, part)).await {
                Ok(Ok(())) => {
                    if what == Use::Content {
                        peer.shared.uploads.sent(&peer.node, len);
                    }
                    patience.spend(before.elapsed());
                }
                // It stopped the stream, or is gone: nobody is left to be told.
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Refusal::Busy),
            }
        }
    }
    reader.await.unwrap_or(Err(Refusal::Failed))
}

/// Writes `part`. Each bit counts as the stream takes it: packets with the first of it go while the rest waits for the peer's
/// window, and would be taken for what packets cost beside the bytes that they carry ([`crate::overhead`]).
async fn write(send: &mut SendStream, peer: &Peer, part: Bytes) -> Result<(), WriteError> {
    let mut rest = &mut [part][..];
    while !rest.is_empty() {
        peer.counter.sent(send.write_many_chunks(&mut rest).await?);
    }
    Ok(())
}

/// The front of `piece`, once the cap lets it go.
async fn allowed(peer: &Peer, what: Use, piece: &mut Bytes) -> Bytes {
    let up = peer.shared.limits.up();
    match what {
        Use::Content => piece.split_to(up.take(piece.len()).await.min(piece.len())),
        Use::Words => {
            let part = piece.split_to(up.piece(piece.len()));
            up.small(part.len()).await;
            part
        }
    }
}
