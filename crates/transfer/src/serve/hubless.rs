//! Answers on `hubless/1`: one question a stream.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use hubless_types::BlobHash;
use iroh::endpoint::{RecvStream, SendStream};
use tokio::time::timeout;

use super::{Peer, pump::pump, share};
use crate::limits::{MANIFEST_TIMEOUT, QUESTION_TIMEOUT, SLOT_WAIT, TAKE_TIMEOUT};
use crate::refusal::Refusal;
use crate::wire::{QUESTION_HEAD, Question, frame, pack};
use crate::{answer, holdings};

pub(super) async fn answer(send: &mut SendStream, recv: &mut RecvStream, peer: &Peer) -> Result<(), Refusal> {
    let question =
        timeout(QUESTION_TIMEOUT, read_question(recv)).await.unwrap_or(Err(Refusal::BadRequest))?;
    if let Question::Holdings(wanted) = question {
        return subscribe(send, wanted, peer).await;
    }
    if let Question::Drafts(digests) = &question {
        peer.shared.store.blobs().crowd_asked(digests, peer.node);
    }
    let (own, all) = match question {
        Question::Manifest(_) => (&peer.share.manifests, &peer.shared.manifests),
        // Bytes of files: they count as segments do.
        Question::Part(..) => (&peer.share.uploads, &peer.shared.uploads),
        _ => (&peer.share.questions, &peer.shared.questions),
    };
    let slots = async { (own.acquire().await, all.acquire().await) };
    let Ok((Ok(_turn), Ok(_slot))) = timeout(SLOT_WAIT, slots).await else { return Err(Refusal::Busy) };
    let store = peer.shared.store.clone();
    let answered = pump(send, &peer.counter, move |emit| answer::answer(&store, &question, emit));
    // No asker waits longer for any answer of this protocol.
    timeout(MANIFEST_TIMEOUT, answered).await.unwrap_or(Err(Refusal::Busy))
}

/// Reads a question; its body's length is within its kind's bound before any of it is taken.
async fn read_question(recv: &mut RecvStream) -> Result<Question, Refusal> {
    let mut head = [0; QUESTION_HEAD];
    recv.read_exact(&mut head).await.map_err(|_| Refusal::BadRequest)?;
    let (kind, len) = Question::decode_head(head).map_err(|_| Refusal::BadRequest)?;
    let body = recv.read_to_end(len).await.map_err(|_| Refusal::BadRequest)?;
    if body.len() != len {
        return Err(Refusal::BadRequest);
    }
    Question::decode_body(kind, &body).map_err(|_| Refusal::BadRequest)
}

/// Counts a subscription for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Pushes what is held of `wanted` until all of it is, or the asker has had enough.
async fn subscribe(send: &mut SendStream, wanted: Vec<BlobHash>, peer: &Peer) -> Result<(), Refusal> {
    let _place = peer.subscriptions.try_acquire().map_err(|_| Refusal::Busy)?;
    let _watched = share::take(&peer.share.watched, &peer.shared.watched, wanted.len())?;
    let _counted = Counted::new(&peer.shared.subscriptions);
    let mut news = holdings::watch(peer.shared.store.clone(), wanted);
    let stopped = send.stopped();
    tokio::pin!(stopped);
    loop {
        let batch = tokio::select! {
            batch = news.next() => batch,
            _ = &mut stopped => return Ok(()),
        };
        let Some(batch) = batch else { return Ok(()) };
        for holding in batch? {
            let push = frame(&pack(&holding).map_err(|_| Refusal::Failed)?);
            let len = push.len();
            match timeout(TAKE_TIMEOUT, send.write_chunk(push)).await {
                Ok(Ok(())) => peer.counter.sent(len),
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Refusal::Busy),
            }
        }
    }
}
