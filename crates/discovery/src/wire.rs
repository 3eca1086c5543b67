//! What nodes ask each other about records, as it travels. Ours, because Kademlia's own messages hand over one key at
//! a time, to nodes that its own walk chose.
//!
//! **Invariant:** what a stranger sends is read within [`MAX_ASK`] or [`MAX_ANSWER`] bytes, whole or not at all; every
//! list has a bound before it is allocated. A message has no place for whom it speaks of: that is who sent it.
//! **Not here:** what is kept of it (`answers`), which addresses are worth dialling (`addrs`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hubless_types::NodeId;

use crate::key;
use crate::place::Place;

/// Longest question, in bytes.
pub(crate) const MAX_ASK: usize = 48 * 1024;
/// Longest answer, in bytes.
pub(crate) const MAX_ANSWER: usize = 16 * 1024;
/// Most keys in one message.
pub(crate) const MAX_KEYS: usize = 1_024;
/// Most addresses of one node in a message.
pub(crate) const MAX_ADDRS: usize = 6;
/// Most providers in one answer.
pub(crate) const MAX_PROVIDERS: usize = 20;
/// Most other nodes that one answer names.
pub(crate) const MAX_CLOSER: usize = 40;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Who provides `key`, and who is near it, or shares its first `bits`?
    Find { key: Vec<u8>, bits: u8 },
    /// Who is near `place`, or shares its first `bits`?
    Near { place: Place, bits: u8 },
    /// The sender provides these keys for so many seconds, and is reached there.
    Announce { ttl: u32, addrs: Vec<SocketAddr>, keys: Vec<Vec<u8>> },
    /// The sender no longer provides these keys.
    Withdraw { keys: Vec<Vec<u8>> },
}

/// A node and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) node: NodeId,
    pub(crate) addrs: Vec<SocketAddr>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To [`Ask::Find`] and [`Ask::Near`].
    Found { providers: Vec<Named>, closer: Vec<Named> },
    /// To [`Ask::Announce`] and [`Ask::Withdraw`]: of how many keys the sender's word was taken.
    Kept { kept: u16, refused: u16 },
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(&'static str);

impl From<Malformed> for std::io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

const FIND: u8 = 1;
const NEAR: u8 = 2;
const ANNOUNCE: u8 = 3;
const WITHDRAW: u8 = 4;
const FOUND: u8 = 5;
const KEPT: u8 = 6;

impl Ask {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Find { key, bits } => {
                out.extend([FIND, *bits]);
                put_key(&mut out, key);
            }
            Self::Near { place, bits } => {
                out.extend([NEAR, *bits]);
                out.extend(place.as_bytes());
            }
            Self::Announce { ttl, addrs, keys } => {
                out.push(ANNOUNCE);
                out.extend(ttl.to_be_bytes());
                put_addrs(&mut out, addrs);
                put_keys(&mut out, keys);
            }
            Self::Withdraw { keys } => {
                out.push(WITHDRAW);
                put_keys(&mut out, keys);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut read = Reader(bytes);
        let ask = match read.byte()? {
            FIND => {
                let bits = read.byte()?;
                Self::Find { key: read.key()?, bits }
            }
            NEAR => {
                let bits = read.byte()?;
                Self::Near { place: Place::from_bytes(read.array()?), bits }
            }
            ANNOUNCE => {
                let ttl = u32::from_be_bytes(read.array()?);
                Self::Announce { ttl, addrs: read.addrs()?, keys: read.keys()? }
            }
            WITHDRAW => Self::Withdraw { keys: read.keys()? },
            _ => return Err(Malformed("it is no question that is known here")),
        };
        read.end().map(|()| ask)
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Found { providers, closer } => {
                out.push(FOUND);
                put_named(&mut out, providers, MAX_PROVIDERS);
                put_named(&mut out, closer, MAX_CLOSER);
            }
            Self::Kept { kept, refused } => {
                out.push(KEPT);
                out.extend(kept.to_be_bytes());
                out.extend(refused.to_be_bytes());
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut read = Reader(bytes);
        let answer = match read.byte()? {
            FOUND => Self::Found { providers: read.named(MAX_PROVIDERS)?, closer: read.named(MAX_CLOSER)? },
            KEPT => Self::Kept {
                kept: u16::from_be_bytes(read.array()?),
                refused: u16::from_be_bytes(read.array()?),
            },
            _ => return Err(Malformed("it is no answer that is known here")),
        };
        read.end().map(|()| answer)
    }
}

/// A key without the length that its kind implies.
fn put_key(out: &mut Vec<u8>, key: &[u8]) {
    out.extend(key.iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, byte)| byte));
}

fn put_keys(out: &mut Vec<u8>, keys: &[Vec<u8>]) {
    let keys = &keys[..keys.len().min(MAX_KEYS)];
    out.extend((keys.len() as u16).to_be_bytes());
    keys.iter().for_each(|key| put_key(out, key));
}

fn put_addrs(out: &mut Vec<u8>, addrs: &[SocketAddr]) {
    let addrs = &addrs[..addrs.len().min(MAX_ADDRS)];
    out.push(addrs.len() as u8);
    for addr in addrs {
        match addr.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend(ip.octets());
            }
        }
        out.extend(addr.port().to_be_bytes());
    }
}

fn put_named(out: &mut Vec<u8>, named: &[Named], most: usize) {
    let named = &named[..named.len().min(most)];
    out.push(named.len() as u8);
    for one in named {
        out.extend(one.node.as_bytes());
        put_addrs(out, &one.addrs);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<&[u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("something follows its end")) }
    }

    fn key(&mut self) -> Result<Vec<u8>, Malformed> {
        let code = self.byte()?;
        let len = key::digest_len(code).ok_or(Malformed("a key is of no known kind"))?;
        let mut key = vec![code, len as u8];
        key.extend(self.take(len)?);
        Ok(key)
    }

    fn keys(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        if !(1..=MAX_KEYS).contains(&count) {
            return Err(Malformed("it has no keys, or too many"));
        }
        (0..count).map(|_| self.key()).collect()
    }

    fn addrs(&mut self) -> Result<Vec<SocketAddr>, Malformed> {
        let count = usize::from(self.byte()?);
        if count > MAX_ADDRS {
            return Err(Malformed("it has too many addresses"));
        }
        (0..count).map(|_| self.addr()).collect()
    }

    fn addr(&mut self) -> Result<SocketAddr, Malformed> {
        let ip = match self.byte()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Malformed("an address is of no known kind")),
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(self.array()?)))
    }

    fn named(&mut self, most: usize) -> Result<Vec<Named>, Malformed> {
        let count = usize::from(self.byte()?);
        if count > most {
            return Err(Malformed("it names too many nodes"));
        }
        let one =
            |read: &mut Self| Ok(Named { node: NodeId::from_bytes(read.array()?), addrs: read.addrs()? });
        (0..count).map(|_| one(self)).collect()
    }
}

/// Reads bytes as a stranger's question and as its answer: for fuzzing. What was read is written and read again;
/// `false` if that makes a difference.
#[doc(hidden)]
pub fn survives_a_round_trip(bytes: &[u8]) -> bool {
    let ask = Ask::decode(bytes).is_ok_and(|ask| Ask::decode(&ask.encode()).as_ref() != Ok(&ask));
    let answer = Answer::decode(bytes).is_ok_and(|a| Answer::decode(&a.encode()).as_ref() != Ok(&a));
    !ask && !answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<[u8; 20]>().prop_map(|d| [&[0x11, 20], &d[..]].concat()),
            any::<[u8; 32]>().prop_map(|d| [&[0x12, 32], &d[..]].concat()),
        ]
    }

    fn addr() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
    }

    fn named(most: usize) -> impl Strategy<Value = Vec<Named>> {
        let one = (any::<[u8; 32]>(), vec(addr(), 0..=MAX_ADDRS))
            .prop_map(|(node, addrs)| Named { node: NodeId::from_bytes(node), addrs });
        vec(one, 0..=most)
    }

    fn ask() -> impl Strategy<Value = Ask> {
        let keys = || vec(key(), 1..50);
        prop_oneof![
            (key(), any::<u8>()).prop_map(|(key, bits)| Ask::Find { key, bits }),
            (any::<[u8; 32]>(), any::<u8>())
                .prop_map(|(place, bits)| Ask::Near { place: Place::from_bytes(place), bits }),
            (any::<u32>(), vec(addr(), 0..=MAX_ADDRS), keys()).prop_map(|(ttl, addrs, keys)| Ask::Announce {
                ttl,
                addrs,
                keys
            }),
            keys().prop_map(|keys| Ask::Withdraw { keys }),
        ]
    }

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            (named(MAX_PROVIDERS), named(MAX_CLOSER))
                .prop_map(|(providers, closer)| Answer::Found { providers, closer }),
            (any::<u16>(), any::<u16>()).prop_map(|(kept, refused)| Answer::Kept { kept, refused }),
        ]
    }

    proptest! {
        #[test]
        fn a_question_survives(ask in ask()) {
            prop_assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
        }

        #[test]
        fn an_answer_survives(answer in answer()) {
            let bytes = answer.encode();
            prop_assert!(bytes.len() <= MAX_ANSWER);
            prop_assert_eq!(Answer::decode(&bytes), Ok(answer));
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>) {
            prop_assert!(survives_a_round_trip(&bytes));
        }

        /// A message that was cut, or has something after its end, is refused.
        #[test]
        fn a_message_is_whole_or_nothing(ask in ask(), cut in any::<proptest::sample::Index>()) {
            let mut bytes = ask.encode();
            prop_assert!(Ask::decode(&bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(0);
            prop_assert!(Ask::decode(&bytes).is_err());
        }
    }

    #[test]
    fn the_longest_messages_fit() {
        let addr: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        let named =
            |count| vec![Named { node: NodeId::from_bytes([1; 32]), addrs: vec![addr; MAX_ADDRS] }; count];
        let keys = vec![[&[0x12, 32], &[7; 32][..]].concat(); MAX_KEYS];
        let ask = Ask::Announce { ttl: 1, addrs: vec![addr; MAX_ADDRS], keys };
        assert!(ask.encode().len() <= MAX_ASK);
        let answer = Answer::Found { providers: named(MAX_PROVIDERS), closer: named(MAX_CLOSER) };
        assert!(answer.encode().len() <= MAX_ANSWER);
    }

    #[test]
    fn a_message_that_claims_more_than_it_may_hold_is_refused_before_it_is_read() {
        for bytes in [
            &[WITHDRAW, 0, 0][..],
            &[WITHDRAW, 0xff, 0xff],
            &[ANNOUNCE, 0, 0, 0, 1, 7],
            &[FIND, 0, 0x13, 1],
            &[],
            &[99],
        ] {
            assert!(Ask::decode(bytes).is_err(), "{bytes:?}");
        }
        assert!(Answer::decode(&[FOUND, 255]).is_err());
    }
}
