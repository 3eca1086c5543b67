//! A node's secret key.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use hubless_types::{NodeId, PublicSignature};
use rand::CryptoRng;

/// The ed25519 secret from which a node's id, and its place on every network, follow.
///
/// Printing it shows the [`NodeId`] only; dropping it wipes it.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// Draws a new key.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(SigningKey::generate(rng))
    }

    /// The key with this secret seed.
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&secret))
    }

    /// The secret seed, for the key file and for the libraries that need it.
    pub fn secret_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Whose key it is: the public half.
    pub fn id(&self) -> NodeId {
        NodeId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes that begin with a domain tag of their own, so that no signature serves two purposes.
    pub(crate) fn sign(&self, message: &[u8]) -> PublicSignature {
        PublicSignature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey(of {})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_seed_and_prints_no_secret() {
        let key = NodeKey::generate(&mut rand::rng());
        assert_eq!(NodeKey::from_bytes(key.secret_bytes()).id(), key.id());
        assert_eq!(format!("{key:?}"), format!("NodeKey(of {})", key.id()));
        assert_ne!(NodeKey::generate(&mut rand::rng()).id(), key.id());
    }

    /// RFC 8032, 7.1, test 1.
    #[test]
    fn the_id_is_the_public_key() {
        let seed = b"\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
        let public = b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a";
        assert_eq!(NodeKey::from_bytes(*seed).id().as_bytes(), public);
    }
}
