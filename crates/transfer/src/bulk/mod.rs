//! The bulk path: long segments over kernel TCP, beside the QUIC connection that vouches for both ends.
//!
//! QUIC in user space costs more than all else of a fetch: packets, acknowledgements, a seal for each 1,400 bytes. A *line*
//! is one TCP connection that carries nothing but sealed records from the node that serves to the one that fetches:
//!
//! ```text
//! fetcher                            server
//!   hubless/1: Bulk          ──▶       a place and a ticket are set aside
//!                            ◀──       Offer: TCP port, ticket, cipher
//!   TCP: the ticket          ──▶       (the only bytes that are ever read there)
//!   hubless/1: wishes        ──▶       ask for a segment, take it back
//!                            ◀──  TCP: records: bytes of the answers, one after the other, or why there is none
//! ```
//!
//! The line lives as long as the QUIC stream on which it was asked for. Identity, admission, shares, wishes and the key
//! come from there (the key out of the TLS session, with the ticket), so nothing that a stranger sends to the port can do
//! more than use up a ticket that it would have to know.
//!
//! **Invariant:** a record is opened before anything of it is looked at, each key seals one direction of one line, and
//! no number is used twice.
//! **Not here:** which segment is asked of whom (`mirror`); what a reader waits for goes over QUIC (`remote`).

mod desk;
mod inbox;
mod line;
mod lines;
mod offer;
mod pace;
pub(crate) mod seal;
mod sender;
pub(crate) mod words;

pub(crate) use desk::{Desk, accept, listen};
pub(crate) use line::Broken;
pub(crate) use lines::Lines;
pub(crate) use offer::offer;

#[cfg(test)]
mod tests;

/// Reads `bytes` as everything that a stranger may send of this path: for the fuzzer.
#[cfg(fuzzing)]
pub fn strangers_bytes(bytes: &[u8]) {
    use crate::wire::{QUESTION_HEAD, Question};
    if let Ok(offer) = words::Offer::decode(bytes) {
        assert!(offer.encode().is_ok());
    }
    if let Ok(wish) = words::Wish::decode(bytes) {
        let again = wish.encode();
        assert_eq!(words::Wish::decode(&again[crate::wire::FRAME_HEAD..]), Ok(wish));
    }
    if let Some((head, body)) = bytes.split_first_chunk::<QUESTION_HEAD>()
        && let Ok((kind, len)) = Question::decode_head(*head)
        && let Some(body) = body.get(..len)
    {
        let _ = Question::decode_body(kind, body);
    }
    let Ok(mut opener) = seal::Opener::new(seal::Cipher::Aes256Gcm, &[7; seal::KEY_BYTES]) else { return };
    let mut rest = bytes.to_vec();
    while let Some(Ok(head)) = rest.first_chunk().map(|head| seal::Head::parse(*head))
        && let Some(record) = rest.get_mut(..head.sealed_len())
    {
        let _ = opener.open(head, record, seal::HEAD_BYTES);
        rest.drain(..head.sealed_len());
    }
}
