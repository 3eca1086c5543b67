//! From a blocking thread that reads the store to a stream: a few pieces ahead, and no copy between.

use bytes::Bytes;
use iroh::endpoint::SendStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Patience;
use crate::limits::PIECES_READY;
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
    let mut patience = Patience::new();
    while let Some(piece) = ready.recv().await {
        let len = piece.len();
        let (within, before) = (patience.for_piece(len), Instant::now());
        match timeout(within, send.write_chunk(piece)).await {
            Ok(Ok(())) => {
                counter.sent(len);
                patience.spend(before.elapsed());
            }
            // It stopped the stream, or is gone: nobody is left to be told.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Refusal::Busy),
        }
    }
    reader.await.unwrap_or(Err(Refusal::Failed))
}
