//! From a blocking thread that reads the store to a stream: a few pieces ahead, and no copy between.

use bytes::Bytes;
use iroh::endpoint::SendStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::limits::{PIECES_READY, TAKE_TIMEOUT};
use crate::refusal::Refusal;
use crate::stats::Counter;

/// Runs `read` in a blocking thread and sends what it emits. `read` is told by `false` that nobody wants more.
pub(super) async fn pump(
    send: &mut SendStream,
    counter: &Counter,
    read: impl FnOnce(&mut dyn FnMut(Bytes) -> bool) -> Result<(), Refusal> + Send + 'static,
) -> Result<(), Refusal> {
    let (pieces, mut ready) = mpsc::channel::<Bytes>(PIECES_READY);
    let reader = tokio::task::spawn_blocking(move || read(&mut |piece| pieces.blocking_send(piece).is_ok()));
    while let Some(piece) = ready.recv().await {
        let len = piece.len();
        match timeout(TAKE_TIMEOUT, send.write_chunk(piece)).await {
            Ok(Ok(())) => counter.sent(len),
            // It stopped the stream, or is gone: nobody is left to be told.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Refusal::Busy),
        }
    }
    reader.await.unwrap_or(Err(Refusal::Failed))
}
