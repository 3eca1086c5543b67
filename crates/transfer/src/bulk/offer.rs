//! The serving side of a line: offers it, hands wishes to its thread, and ends it with its QUIC stream.
//!
//! **Invariant:** a line takes a place of its node's and of all; its thread gives them back when it has ended.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use iroh::endpoint::{RecvStream, SendStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::seal::{Ciphers, Sealer};
use super::sender::{Ask, Sender};
use super::words::{MAX_WISH_FRAME, Offer, Wish, line_key};
use crate::get::Get;
use crate::limits::{MAX_ASKED_PER_LINE, TAKE_TIMEOUT, TICKET_LIFE};
use crate::refusal::Refusal;
use crate::serve::Peer;
use crate::wire::{FRAME_HEAD, frame_len};

/// Ends the line's thread, wherever it is.
pub(super) struct EndsLine(pub(super) Arc<TcpStream>);

impl Drop for EndsLine {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Serves one line, for as long as the asker keeps the stream open. Dropping the future ends it.
pub(crate) async fn offer(
    send: &mut SendStream,
    recv: &mut RecvStream,
    asker: Ciphers,
    peer: &Arc<Peer>,
) -> Result<(), Refusal> {
    // As a node of a version without lines answers.
    let desk = peer.shared.desk.clone().ok_or(Refusal::BadRequest)?;
    let own = peer.share.lines.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let all = peer.shared.lines_served.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let mut claim = desk.issue().ok_or(Refusal::Failed)?;
    let cipher = Ciphers::here().with(asker);
    let key = line_key(&peer.connection, &claim.ticket).ok_or(Refusal::Failed)?;
    let sealer = Sealer::new(cipher, &key).map_err(|_| Refusal::Failed)?;
    let offer = Offer { port: desk.port(), ticket: claim.ticket, cipher };
    let offer = offer.encode().map_err(|_| Refusal::Failed)?;
    let told = timeout(TAKE_TIMEOUT, send.write_chunk(offer)).await;
    let Ok(Ok(())) = told else { return Err(Refusal::Busy) };
    let shown = tokio::select! {
        shown = timeout(TICKET_LIFE, claim.shown()) => shown,
        _ = send.stopped() => return Ok(()),
    };
    let Ok(Some(line)) = shown else { return Err(Refusal::Busy) };
    let line = Arc::new(line);
    let _ends = EndsLine(line.clone());
    let (asks, asked) = mpsc::sync_channel(MAX_ASKED_PER_LINE);
    let (over, mut ended) = oneshot::channel::<()>();
    let sender = Sender::new(line, sealer, peer.clone(), Handle::current());
    let token = peer.shared.tasks.token();
    // Of the blocking pool, which waits for its threads: none of them outlives the runtime, and with it the store.
    tokio::task::spawn_blocking(move || {
        sender.run(&asked);
        drop((over, token, own, all));
    });
    tokio::select! {
        wished = hear(recv, &asks) => wished,
        _ = &mut ended => Ok(()),
        _ = send.stopped() => Ok(()),
    }
}

/// Hands on what is wished until the asker has no more wishes.
async fn hear(recv: &mut RecvStream, asks: &mpsc::SyncSender<Ask>) -> Result<(), Refusal> {
    let mut open: VecDeque<(u64, Arc<AtomicBool>)> = VecDeque::new();
    let mut next = 0;
    while let Some(wish) = read_wish(recv).await? {
        match wish {
            Wish::Ask(get) => {
                let ask = ask(get);
                open.push_back((next, ask.cancelled.clone()));
                // Only the last so many can still be waiting.
                if open.len() > MAX_ASKED_PER_LINE {
                    open.pop_front();
                }
                next += 1;
                asks.try_send(ask).map_err(|_| Refusal::Busy)?;
            }
            Wish::Cancel(number) => {
                if let Some((_, cancelled)) = open.iter().find(|(known, _)| *known == number) {
                    cancelled.store(true, Ordering::Relaxed);
                }
            }
        }
    }
    Ok(())
}

fn ask(get: Get) -> Ask {
    Ask { get, cancelled: Arc::default() }
}

/// The next wish, however long it takes to come; `None` at the stream's end.
async fn read_wish(recv: &mut RecvStream) -> Result<Option<Wish>, Refusal> {
    let mut head = [0; FRAME_HEAD];
    if recv.read_exact(&mut head).await.is_err() {
        return Ok(None);
    }
    let len = frame_len(head, MAX_WISH_FRAME).map_err(|_| Refusal::BadRequest)?;
    let mut body = vec![0; len];
    recv.read_exact(&mut body).await.map_err(|_| Refusal::BadRequest)?;
    Wish::decode(&body).map(Some).map_err(|_| Refusal::BadRequest)
}
