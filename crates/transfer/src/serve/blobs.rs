//! Answers on `/iroh-bytes/4`: groups of one blob with their proofs.

use hubless_limits::Use;
use iroh::endpoint::{RecvStream, SendStream};
use tokio::time::timeout;

use super::{Peer, pump::pump, share};
use crate::answer::open_segment;
use crate::get::Get;
use crate::limits::{MAX_GET_BYTES, QUESTION_TIMEOUT, SLOT_WAIT};
use crate::refusal::Refusal;

pub(super) async fn answer(send: &mut SendStream, recv: &mut RecvStream, peer: &Peer) -> Result<(), Refusal> {
    let request = timeout(QUESTION_TIMEOUT, recv.read_to_end(MAX_GET_BYTES)).await;
    let Ok(Ok(request)) = request else { return Err(Refusal::BadRequest) };
    let get = Get::decode(&request).ok_or(Refusal::BadRequest)?;
    share::refuse_spent(&peer.shared, Use::Content)?;
    // First its connection's turn: so many wait for slots at most.
    let slot = async { (peer.uploads.acquire().await, peer.shared.uploads.take(peer.node).await) };
    let Ok((Ok(_turn), _slot)) = timeout(SLOT_WAIT, slot).await else { return Err(Refusal::Busy) };
    let (store, crowds, node) = (peer.shared.store.clone(), peer.shared.crowds.clone(), peer.node);
    pump(send, peer, Use::Content, move |emit| {
        let wanted = |size| get.wanted(size).inspect(|groups| crowds.gave(&get.hash, &node, groups));
        for piece in open_segment(&store, &get.hash, wanted)? {
            if !emit(piece?) {
                break;
            }
        }
        Ok(())
    })
    .await
}
