//! Records: what one side seals and the other opens, each with its number as nonce.
//!
//! A record is four bytes of head (length of the plain bytes in the lower 24 bits, kind in the upper 8, little endian),
//! the sealed bytes and 16 bytes of tag. The head is sealed with it.
//!
//! **Invariant:** pure; nothing is allocated; a head's length is within its bound before anything is waited for.

use ring::aead::{
    AES_256_GCM, Aad, BoundKey, CHACHA20_POLY1305, NONCE_LEN, Nonce, NonceSequence, OpeningKey, SealingKey,
    UnboundKey,
};
use ring::error::Unspecified;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_RECORD;

/// Bytes before a record's sealed bytes.
pub(crate) const HEAD_BYTES: usize = 4;
/// Bytes after them.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of the longest record.
pub(crate) const MAX_SEALED: usize = HEAD_BYTES + MAX_RECORD + TAG_BYTES;
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes that say why an answer ends.
pub(crate) const END_BYTES: usize = 4;

/// What a node can seal with at speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ciphers {
    /// Whether its processor has instructions for AES.
    pub(crate) aes_is_fast: bool,
}

impl Ciphers {
    /// What this machine is good at.
    pub(crate) fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        let aes_is_fast = std::arch::is_x86_feature_detected!("aes");
        #[cfg(target_arch = "aarch64")]
        let aes_is_fast = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let aes_is_fast = false;
        Self { aes_is_fast }
    }

    /// The cipher that serves both.
    pub(crate) const fn with(self, other: Self) -> Cipher {
        if self.aes_is_fast && other.aes_is_fast { Cipher::Aes256Gcm } else { Cipher::ChaCha20Poly1305 }
    }
}

/// How a line is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cipher {
    Aes256Gcm,
    ChaCha20Poly1305,
}

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes of an answer.
    Data,
    /// The answer ends before its end: a refusal's code.
    End,
}

/// What stands before a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Plain bytes.
    pub(crate) len: usize,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    #[error("a record that none may be")]
    Head,
    #[error("a record that was not sealed by the peer")]
    Seal,
}

impl Head {
    pub(crate) fn parse(bytes: [u8; HEAD_BYTES]) -> Result<Self, SealError> {
        let number = u32::from_le_bytes(bytes);
        let (kind, len) = (number >> 24, (number & 0x00ff_ffff) as usize);
        match kind {
            0 if (1..=MAX_RECORD).contains(&len) => Ok(Self { kind: Kind::Data, len }),
            1 if len == END_BYTES => Ok(Self { kind: Kind::End, len }),
            _ => Err(SealError::Head),
        }
    }

    pub(crate) const fn bytes(self) -> [u8; HEAD_BYTES] {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::End => 1,
        };
        (self.len as u32 | kind << 24).to_le_bytes()
    }

    /// Bytes of the whole record.
    pub(crate) const fn sealed_len(self) -> usize {
        HEAD_BYTES + self.len + TAG_BYTES
    }
}

/// Numbers the records of one direction of one line.
struct Count(u64);

impl NonceSequence for Count {
    fn advance(&mut self) -> Result<Nonce, Unspecified> {
        let number = self.0;
        self.0 = number.checked_add(1).ok_or(Unspecified)?;
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_le_bytes());
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

fn bound<K: BoundKey<Count>>(cipher: Cipher, key: &[u8; KEY_BYTES]) -> Result<K, SealError> {
    let algorithm = match cipher {
        Cipher::Aes256Gcm => &AES_256_GCM,
        Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
    };
    let key = UnboundKey::new(algorithm, key).map_err(|_| SealError::Seal)?;
    Ok(K::new(key, Count(0)))
}

/// Seals the records of one line.
pub(crate) struct Sealer(SealingKey<Count>);

impl Sealer {
    pub(crate) fn new(cipher: Cipher, key: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        bound(cipher, key).map(Self)
    }

    /// Seals in place the `len` bytes that stand in `room` after the place for the head. Says how long the record is.
    pub(crate) fn seal(&mut self, kind: Kind, room: &mut [u8], len: usize) -> Result<usize, SealError> {
        let head = Head { kind, len };
        Head::parse(head.bytes())?;
        let record = room.get_mut(..head.sealed_len()).ok_or(SealError::Head)?;
        let (place, rest) = record.split_at_mut(HEAD_BYTES);
        let (plain, tag_place) = rest.split_at_mut(len);
        place.copy_from_slice(&head.bytes());
        let tag =
            self.0.seal_in_place_separate_tag(Aad::from(head.bytes()), plain).map_err(|_| SealError::Seal)?;
        tag_place.copy_from_slice(tag.as_ref());
        Ok(head.sealed_len())
    }
}

/// Opens the records of one line, in the order in which they were sealed.
pub(crate) struct Opener(OpeningKey<Count>);

impl Opener {
    pub(crate) fn new(cipher: Cipher, key: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        bound(cipher, key).map(Self)
    }

    /// Opens the record of `head` whose sealed bytes and tag begin at `skip` in `room` and end with it; the plain bytes are
    /// put at the beginning of `room`.
    pub(crate) fn open(&mut self, head: Head, room: &mut [u8], skip: usize) -> Result<(), SealError> {
        let plain = self.0.open_within(Aad::from(head.bytes()), room, skip..).map_err(|_| SealError::Seal)?;
        if plain.len() == head.len { Ok(()) } else { Err(SealError::Head) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(cipher: Cipher) -> (Sealer, Opener) {
        let key = [7; KEY_BYTES];
        (Sealer::new(cipher, &key).unwrap(), Opener::new(cipher, &key).unwrap())
    }

    fn sealed(sealer: &mut Sealer, kind: Kind, plain: &[u8]) -> Vec<u8> {
        let mut room = vec![0; plain.len() + HEAD_BYTES + TAG_BYTES];
        room[HEAD_BYTES..HEAD_BYTES + plain.len()].copy_from_slice(plain);
        let len = sealer.seal(kind, &mut room, plain.len()).unwrap();
        assert_eq!(len, room.len());
        room
    }

    fn opened(opener: &mut Opener, record: &[u8]) -> Result<(Kind, Vec<u8>), SealError> {
        let head = Head::parse(*record.first_chunk().ok_or(SealError::Head)?)?;
        let mut room = record.get(..head.sealed_len()).ok_or(SealError::Head)?.to_vec();
        opener.open(head, &mut room, HEAD_BYTES)?;
        room.truncate(head.len);
        Ok((head.kind, room))
    }

    fn cipher() -> impl Strategy<Value = Cipher> {
        prop::sample::select(vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305])
    }

    proptest! {
        #[test]
        fn records_open_as_they_were_sealed(cipher in cipher(), plains in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 1..5)) {
            let (mut sealer, mut opener) = pair(cipher);
            for plain in plains {
                let record = sealed(&mut sealer, Kind::Data, &plain);
                prop_assert_eq!(opened(&mut opener, &record), Ok((Kind::Data, plain)));
            }
        }

        #[test]
        fn one_bit_anywhere_is_noticed(cipher in cipher(), plain in prop::collection::vec(any::<u8>(), 4..5), place: prop::sample::Index, bit in 0..8_u32) {
            let (mut sealer, mut opener) = pair(cipher);
            let mut record = sealed(&mut sealer, Kind::Data, &plain);
            let place = place.index(record.len());
            record[place] ^= 1_u8 << bit;
            record.resize(record.len() + 300, 0);
            prop_assert!(opened(&mut opener, &record).is_err());
        }

        #[test]
        fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (_, mut opener) = pair(Cipher::Aes256Gcm);
            prop_assert!(opened(&mut opener, &bytes).is_err());
        }
    }

    #[test]
    fn a_record_opens_once_and_in_its_turn() {
        let (mut sealer, mut opener) = pair(Cipher::Aes256Gcm);
        let (first, second) =
            (sealed(&mut sealer, Kind::Data, b"one"), sealed(&mut sealer, Kind::Data, b"one"));
        assert_ne!(first, second);
        assert!(opened(&mut opener, &second).is_err());
        let mut opener = pair(Cipher::Aes256Gcm).1;
        assert!(opened(&mut opener, &first).is_ok());
        assert!(opened(&mut opener, &first).is_err());
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_read() {
        let head = |number: u32| Head::parse(number.to_le_bytes());
        assert!(head(MAX_RECORD as u32).is_ok());
        assert_eq!(head(MAX_RECORD as u32 + 1), Err(SealError::Head));
        assert_eq!(head(0), Err(SealError::Head));
        assert_eq!(head(1 << 24 | 5), Err(SealError::Head));
        assert_eq!(head(1 << 24 | 4).map(|head| head.kind), Ok(Kind::End));
        assert_eq!(head(2 << 24 | 4), Err(SealError::Head));
        let (mut sealer, _) = pair(Cipher::Aes256Gcm);
        assert!(sealer.seal(Kind::Data, &mut vec![0; MAX_SEALED + 10], MAX_RECORD + 1).is_err());
    }

    #[test]
    fn aes_is_used_where_both_are_fast_at_it() {
        let (fast, slow) = (Ciphers { aes_is_fast: true }, Ciphers { aes_is_fast: false });
        assert_eq!(fast.with(fast), Cipher::Aes256Gcm);
        assert_eq!(fast.with(slow), Cipher::ChaCha20Poly1305);
        assert_eq!(slow.with(fast), Cipher::ChaCha20Poly1305);
    }
}
