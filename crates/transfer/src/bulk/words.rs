//! What is said on the QUIC stream of a line: the offer, and wishes.
//!
//! **Invariant:** pure; every message has a bound.

use bytes::Bytes;
use iroh::endpoint::Connection;
use serde::{Deserialize, Serialize};

use super::seal::{Cipher, KEY_BYTES};
use crate::get::Get;
use crate::limits::MAX_GET_BYTES;
use crate::wire::{WireError, frame, pack, unpack};

/// Most bytes of an offer.
pub(crate) const MAX_OFFER_FRAME: usize = 64;

/// Most bytes of a wish.
pub(crate) const MAX_WISH_FRAME: usize = MAX_GET_BYTES + 1;

/// Bytes of a ticket.
pub(crate) const TICKET_BYTES: usize = 16;

/// Names one line before it exists. It is told over QUIC alone, may be shown once, and goes into the line's key.
pub(crate) type Ticket = [u8; TICKET_BYTES];

/// What the keys of lines are made for.
const LABEL: &[u8] = b"hubless bulk line 1";

/// Where and how a line is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// TCP port, at the address that the QUIC connection leads to.
    pub(crate) port: u16,
    pub(crate) ticket: Ticket,
    pub(crate) cipher: Cipher,
}

impl Offer {
    pub(crate) fn encode(&self) -> Result<Bytes, WireError> {
        Ok(frame(&pack(self)?))
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, WireError> {
        unpack(body)
    }
}

/// What the fetching side wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// These groups, after those that were asked for before.
    Ask(Get),
    /// No longer the answer of this number: the wishes to ask are numbered from 0 on.
    Cancel(u64),
}

impl Wish {
    pub(crate) fn encode(&self) -> Bytes {
        let mut body = Vec::with_capacity(80);
        match self {
            Self::Ask(get) => {
                body.push(0);
                body.extend_from_slice(&get.encode());
            }
            Self::Cancel(number) => {
                body.push(1);
                body.extend_from_slice(&number.to_le_bytes());
            }
        }
        frame(&body)
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, WireError> {
        match body.split_first() {
            Some((0, get)) => Get::decode(get).map(Self::Ask).ok_or(WireError::Garbled),
            Some((1, number)) => match number.try_into() {
                Ok(number) => Ok(Self::Cancel(u64::from_le_bytes(number))),
                Err(_) => Err(WireError::Garbled),
            },
            _ => Err(WireError::Garbled),
        }
    }
}

/// The key of the line that `ticket` names: both ends of the connection come to the same, and nobody else.
pub(crate) fn line_key(connection: &Connection, ticket: &Ticket) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    connection.export_keying_material(&mut key, LABEL, ticket).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FRAME_HEAD, frame_len};
    use hubless_types::BlobHash;
    use proptest::prelude::*;

    fn body(framed: &Bytes, limit: usize) -> Bytes {
        let len = frame_len(*framed.first_chunk().unwrap(), limit).unwrap();
        assert_eq!(framed.len(), FRAME_HEAD + len);
        framed.slice(FRAME_HEAD..)
    }

    proptest! {
        #[test]
        fn offers_and_wishes_read_as_they_were_written(port: u16, ticket: Ticket, aes: bool, hash: [u8; 32], start in 0..1_u64 << 40, len in 1..1_u64 << 18, number: u64) {
            let cipher = if aes { Cipher::Aes256Gcm } else { Cipher::ChaCha20Poly1305 };
            let offer = Offer { port, ticket, cipher };
            prop_assert_eq!(Offer::decode(&body(&offer.encode().unwrap(), MAX_OFFER_FRAME)), Ok(offer));
            for wish in [Wish::Ask(Get::groups(BlobHash::from_bytes(hash), &(start..start + len))), Wish::Cancel(number)] {
                prop_assert_eq!(Wish::decode(&body(&wish.encode(), MAX_WISH_FRAME)), Ok(wish));
            }
        }

        #[test]
        fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Offer::decode(&bytes);
            let _ = Wish::decode(&bytes);
        }
    }
}
