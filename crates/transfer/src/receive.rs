//! Reads answers from a stream, never waiting for a silent peer longer than the stall timeout.
//!
//! A segment takes two hands: this task gathers what arrives, and one blocking thread checks and writes it. They
//! meet in batches of 256 KiB, so that neither wakes the other for every packet.

use std::time::Duration;

use bytes::Bytes;
use hubless_limits::{Use, Valve};
use hubless_types::NodeId;
use iroh::endpoint::{ConnectionError, ReadError, RecvStream, VarInt, WriteError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::TransferError;
use crate::client::Tick;
use crate::decode::{Verified, garbled};
use crate::limits::{BATCH_BYTES, BATCH_LINGER, BATCHES_READY, STALL_TIMEOUT, TELL_HELD};
use crate::refusal::Refusal;
use crate::stats::Counter;
use crate::wire::{FRAME_HEAD, frame_len};

/// Chunks (a packet's payload each) that are taken from the stream at once.
const CHUNKS_AT_ONCE: usize = 256;

/// Bytes of a chunk, about: so many chunks are taken as bring what is wanted.
const CHUNK_BYTES: u64 = 1024;

/// What has been gathered.
#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    bytes: usize,
}

/// What received bytes are counted by and taken from.
pub(crate) struct Account<'a> {
    pub(crate) node: NodeId,
    pub(crate) counter: &'a Counter,
    pub(crate) valve: &'a Valve,
}

/// Receives the `expected` bytes of an answer into `verified`, as fast as the cap lets it; `tick` hears of 0 bytes
/// while the cap holds it back. Says how many groups are here: all of them, unless `enough` came first.
pub(crate) async fn receive_segment(
    recv: RecvStream,
    expected: u64,
    verified: Verified,
    account: Account<'_>,
    tick: Tick,
    enough: impl Future<Output = ()>,
) -> Result<u64, TransferError> {
    let (batches, arriving) = mpsc::channel(BATCHES_READY);
    let verifier = tokio::task::spawn_blocking(move || verify(arriving, verified));
    let gathered = tokio::select! {
        gathered = gather(recv, expected, &batches, &account, &tick) => gathered,
        // Dropping the stream tells the peer to stop.
        () = enough => Ok(()),
    };
    drop(batches);
    // What the verifier found is the nearer cause: the gatherer stops when the verifier does.
    let groups = verifier.await.map_err(|_| TransferError::Stopping)??;
    gathered.map(|()| groups)
}

/// The blocking half; returns the groups that are written. A batch is put together before it is pushed: one large piece
/// makes one large write.
fn verify(mut arriving: mpsc::Receiver<Batch>, mut verified: Verified) -> Result<u64, TransferError> {
    let mut piece = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 4);
    let mut whole = false;
    while let Some(batch) = arriving.blocking_recv() {
        whole = batch.chunks.is_empty();
        piece.clear();
        batch.chunks.iter().for_each(|chunk| piece.extend_from_slice(chunk));
        verified.push(&piece)?;
    }
    let groups = verified.groups_done();
    // Without the empty batch at its end the answer was broken off, and the gatherer says why.
    if whole {
        verified.finish()?
    }
    Ok(groups)
}

/// The async half. An empty batch says that all has come.
async fn gather(
    mut recv: RecvStream,
    expected: u64,
    batches: &mpsc::Sender<Batch>,
    account: &Account<'_>,
    tick: &Tick,
) -> Result<(), TransferError> {
    let mut left = expected;
    while left > 0 {
        // The plan hears of it a moment later; by then a fast line would have brought much more.
        if let Some(spent) = account.valve.spent(Use::Content) {
            return Err(spent.into());
        }
        // Under a low cap little is taken at once: what was read is what the peer may send anew.
        let most = left.min(account.valve.piece(BATCH_BYTES) as u64);
        let batch = tokio::select! {
            batch = next_batch(&mut recv, most, account.node) => batch?,
            // The verifier has found a fault: it says which.
            () = batches.closed() => return Ok(()),
        };
        let bytes = batch.bytes;
        account.counter.received(bytes);
        left = left.saturating_sub(bytes as u64);
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
        pay(account.valve, bytes, tick).await;
    }
    let _ = batches.send(Batch::default()).await;
    Ok(())
}

/// Takes `bytes` that came from the cap; says now and then that they came, and that it is the cap that holds the next.
pub(crate) async fn pay(valve: &Valve, bytes: usize, tick: &Tick) {
    let paid = valve.pay(bytes);
    tokio::pin!(paid);
    tokio::select! {
        biased;
        () = &mut paid => return,
        () = std::future::ready(()) => tick(0),
    }
    loop {
        tokio::select! {
            biased;
            () = &mut paid => return,
            () = tokio::time::sleep(TELL_HELD) => tick(0),
        }
    }
}

/// Waits for some bytes and then a moment for more, up to a full batch.
async fn next_batch(recv: &mut RecvStream, left: u64, node: NodeId) -> Result<Batch, TransferError> {
    let stalled = Instant::now() + STALL_TIMEOUT;
    let mut batch = Batch::default();
    let mut bufs: [Bytes; CHUNKS_AT_ONCE] = std::array::from_fn(|_| Bytes::new());
    // Under a low cap a few: all that is read is written before it is paid for.
    let at_once = usize::try_from(left / CHUNK_BYTES).unwrap_or(CHUNKS_AT_ONCE).clamp(1, CHUNKS_AT_ONCE);
    let mut deadline = stalled;
    while batch.bytes < BATCH_BYTES && (batch.bytes as u64) < left {
        match timeout_at(deadline, recv.read_many_chunks(&mut bufs[..at_once])).await {
            Ok(Ok(Some(count))) => {
                for chunk in &mut bufs[..count] {
                    batch.bytes += chunk.len();
                    batch.chunks.push(std::mem::take(chunk));
                }
                deadline = deadline.min(Instant::now() + BATCH_LINGER);
            }
            Ok(Ok(None)) if batch.bytes > 0 => break,
            Ok(Ok(None)) => {
                return Err(TransferError::Protocol { node, what: "its answer is too short".into() });
            }
            Ok(Err(error)) => return Err(read_error(error, node)),
            Err(_) if batch.bytes > 0 => break,
            Err(_) => {
                let _ = recv.stop(VarInt::from_u32(0));
                return Err(TransferError::Stalled { node, after: STALL_TIMEOUT });
            }
        }
    }
    Ok(batch)
}

/// Reads one frame of at most `limit` bytes; `None` at the end of the answer. Memory grows with what arrives,
/// not with what is promised. `first_wait` bounds the wait for the first byte, [`STALL_TIMEOUT`] that for each next.
pub(crate) async fn read_frame(
    recv: &mut RecvStream,
    limit: usize,
    first_wait: Option<Duration>,
    node: NodeId,
    valve: &Valve,
) -> Result<Option<Vec<u8>>, TransferError> {
    let mut head = Vec::with_capacity(FRAME_HEAD);
    if !fill(recv, &mut head, FRAME_HEAD, first_wait, node, valve).await? {
        return Ok(None);
    }
    let head = head.first_chunk().copied().unwrap_or_default();
    let len = frame_len(head, limit).map_err(|e| garbled(node, &e))?;
    let mut body = Vec::new();
    if !fill(recv, &mut body, len, Some(STALL_TIMEOUT), node, valve).await? {
        return Err(TransferError::Protocol { node, what: "a message is cut off".into() });
    }
    Ok(Some(body))
}

/// Appends up to `len` bytes to `out`; `false` if the stream ends before the first of them.
async fn fill(
    recv: &mut RecvStream,
    out: &mut Vec<u8>,
    len: usize,
    first_wait: Option<Duration>,
    node: NodeId,
    valve: &Valve,
) -> Result<bool, TransferError> {
    while out.len() < len {
        let wait = if out.is_empty() { first_wait } else { Some(STALL_TIMEOUT) };
        let read = recv.read_chunk(len - out.len());
        let read = match wait {
            Some(wait) => tokio::time::timeout(wait, read)
                .await
                .map_err(|_| TransferError::Stalled { node, after: STALL_TIMEOUT })?,
            None => read.await,
        };
        match read.map_err(|e| read_error(e, node))? {
            Some(chunk) => {
                out.extend_from_slice(&chunk);
                valve.small(chunk.len()).await;
            }
            None if out.is_empty() => return Ok(false),
            None => return Err(TransferError::Protocol { node, what: "a message is cut off".into() }),
        }
    }
    Ok(true)
}

/// What a failed read says about the peer.
pub(crate) fn read_error(error: ReadError, node: NodeId) -> TransferError {
    match error {
        ReadError::Reset(code) => Refusal::error(code.into_inner(), node),
        ReadError::ConnectionLost(error) => connection_error(error, node),
        other => TransferError::Unreachable { node, why: other.to_string() },
    }
}

/// What a failed write says about the peer.
pub(crate) fn write_error(error: WriteError, node: NodeId) -> TransferError {
    match error {
        WriteError::Stopped(code) => Refusal::error(code.into_inner(), node),
        WriteError::ConnectionLost(error) => connection_error(error, node),
        other => TransferError::Unreachable { node, why: other.to_string() },
    }
}

/// What a lost connection says about the peer.
pub(crate) fn connection_error(error: ConnectionError, node: NodeId) -> TransferError {
    match error {
        ConnectionError::ApplicationClosed(close) => Refusal::error(close.error_code.into_inner(), node),
        other => TransferError::Unreachable { node, why: other.to_string() },
    }
}
