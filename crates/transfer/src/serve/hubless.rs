//! Answers on `hubless/1`: one question a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{BoxStream, StreamExt as _};
use hubless_limits::Use;
use hubless_store::StoreError;
use hubless_types::BlobHash;
use iroh::endpoint::{RecvStream, SendStream};
use serde::Serialize;
use tokio::sync::AcquireError;
use tokio::time::timeout;

use super::{Peer, pump::pump, share};
use crate::limits::{MANIFEST_TIMEOUT, QUESTION_TIMEOUT, SLOT_WAIT, TAKE_TIMEOUT};
use crate::refusal::Refusal;
use crate::wire::{QUESTION_HEAD, Question, frame, pack};
use crate::{answer, bulk, crowd, holdings};

pub(super) async fn answer(
    send: &mut SendStream,
    recv: &mut RecvStream,
    peer: &Arc<Peer>,
) -> Result<(), Refusal> {
    let question =
        timeout(QUESTION_TIMEOUT, read_question(recv)).await.unwrap_or(Err(Refusal::BadRequest))?;
    // Who is told what is held here would ask for it.
    let held = matches!(question, Question::Holdings(_));
    share::refuse_spent(&peer.shared, if held { Use::Content } else { question.what() })?;
    if let Question::Holdings(wanted) = question {
        return subscribe(send, wanted, peer).await;
    }
    if let Question::Bulk(ciphers) = question {
        return bulk::offer(send, recv, ciphers, peer).await;
    }
    if let Question::Crowd(wanted) = question {
        return gather(send, wanted, peer).await;
    }
    if matches!(question, Question::Repos(_)) && !peer.shared.lists_repos {
        return Err(Refusal::NotHeld);
    }
    if let Question::Drafts(digests) = &question {
        peer.shared.store.blobs().crowd_asked(digests, peer.node);
    }
    let place = async {
        let (own, all) = match question {
            // Bytes of files: they count as segments do.
            Question::Part(..) => return Ok((Some(peer.shared.uploads.take(peer.node).await), None)),
            Question::Manifest(_) => (&peer.share.manifests, &peer.shared.manifests),
            _ => (&peer.share.questions, &peer.shared.questions),
        };
        Ok::<_, AcquireError>((None, Some((own.acquire().await?, all.acquire().await?))))
    };
    let Ok(Ok(_place)) = timeout(SLOT_WAIT, place).await else { return Err(Refusal::Busy) };
    let (store, what) = (peer.shared.store.clone(), question.what());
    let answered = pump(send, peer, what, move |emit| answer::answer(&store, &question, emit));
    // No asker waits longer for any answer of this protocol.
    timeout(MANIFEST_TIMEOUT, answered).await.unwrap_or(Err(Refusal::Busy))
}

/// Reads a question; its body's length is within its kind's bound before any of it is taken.
async fn read_question(recv: &mut RecvStream) -> Result<Question, Refusal> {
    let mut head = [0; QUESTION_HEAD];
    recv.read_exact(&mut head).await.map_err(|_| Refusal::BadRequest)?;
    let (kind, len) = Question::decode_head(head).map_err(|_| Refusal::BadRequest)?;
    let mut body = vec![0; len];
    recv.read_exact(&mut body).await.map_err(|_| Refusal::BadRequest)?;
    let question = Question::decode_body(kind, &body).map_err(|_| Refusal::BadRequest)?;
    // Nothing follows a question, except wishes.
    let goes_on = matches!(question, Question::Bulk(_));
    if !goes_on && recv.read_to_end(0).await.is_err() {
        return Err(Refusal::BadRequest);
    }
    Ok(question)
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
    let news = holdings::watch(peer.shared.store.clone(), wanted);
    push(send, news, peer).await
}

/// Tells who else asks for any of `wanted`, until the asker has had enough.
async fn gather(send: &mut SendStream, wanted: Vec<BlobHash>, peer: &Peer) -> Result<(), Refusal> {
    let _place = peer.subscriptions.try_acquire().map_err(|_| Refusal::Busy)?;
    let _watched = share::take(&peer.share.watched, &peer.shared.watched, wanted.len())?;
    let shared = &peer.shared;
    let news = crowd::watch(&shared.crowds, shared.store.clone(), peer.node, peer.addr, wanted);
    push(send, news, peer).await
}

/// Sends each of `news` in a frame of its own.
async fn push<T: Serialize>(
    send: &mut SendStream,
    mut news: BoxStream<'static, Result<Vec<T>, StoreError>>,
    peer: &Peer,
) -> Result<(), Refusal> {
    let stopped = send.stopped();
    tokio::pin!(stopped);
    loop {
        let batch = tokio::select! {
            batch = news.next() => batch,
            _ = &mut stopped => return Ok(()),
        };
        let Some(batch) = batch else { return Ok(()) };
        for item in batch? {
            let push = frame(&pack(&item).map_err(|_| Refusal::Failed)?);
            let len = push.len();
            peer.shared.limits.up().small(len).await;
            match timeout(TAKE_TIMEOUT, send.write_chunk(push)).await {
                Ok(Ok(())) => peer.counter.sent(len),
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Refusal::Busy),
            }
        }
    }
}
