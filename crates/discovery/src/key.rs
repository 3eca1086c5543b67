//! What is announced: each key is a multihash, and nothing else is accepted from others.

use hubless_types::{CommitId, NodeId, RepoId, Sha256};
use sha2::Digest;

use crate::place::Place;

/// Multihash code of SHA-1.
const SHA1_CODE: u8 = 0x11;
/// Multihash code of SHA2-256.
const SHA256_CODE: u8 = 0x12;
/// Set before a repository's printed name, so that no file can be made whose key is a repository's.
const REPO_DOMAIN: &[u8] = b"hubless repo\0";

/// Something a node may say it provides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DhtKey {
    /// A commit: its manifest and the files it lists, wholly or in part.
    Commit(CommitId),
    /// A file large enough to be announced by itself.
    Shard(Sha256),
    /// A repository's name: statements about its refs.
    Repo(RepoId),
}

impl DhtKey {
    /// The key on the DHT: a multihash of 22 or 34 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Commit(commit) => multihash(SHA1_CODE, commit.as_bytes()),
            Self::Shard(digest) => multihash(SHA256_CODE, digest.as_bytes()),
            Self::Repo(repo) => {
                let hash = sha2::Sha256::new().chain_update(REPO_DOMAIN).chain_update(repo.to_string());
                multihash(SHA256_CODE, &hash.finalize())
            }
        }
    }
}

impl DhtKey {
    /// Where it lies in the key space.
    pub fn place(&self) -> Place {
        Place::of_key(&self.to_bytes())
    }
}

fn multihash(code: u8, digest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![code, digest.len() as u8];
    bytes.extend_from_slice(digest);
    bytes
}

/// How long the digest of a key of this kind is, in bytes; `None` if there is no such kind.
pub(crate) fn digest_len(code: u8) -> Option<usize> {
    match code {
        SHA1_CODE => Some(20),
        SHA256_CODE => Some(32),
        _ => None,
    }
}

/// The node whose ed25519 secret this is.
pub fn node_id_of_secret(secret: &[u8; 32]) -> NodeId {
    NodeId::from_bytes(ed25519_dalek::SigningKey::from_bytes(secret).verifying_key().to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_multihash_of_its_kind() {
        let commit = DhtKey::Commit(CommitId::from_bytes([3; 20])).to_bytes();
        assert_eq!((commit.len(), &commit[..3]), (22, &[0x11, 20, 3][..]));
        let shard = DhtKey::Shard(Sha256::from_bytes([4; 32])).to_bytes();
        assert_eq!((shard.len(), &shard[..3]), (34, &[0x12, 32, 4][..]));
    }

    #[test]
    fn a_model_and_a_dataset_of_one_name_are_two_keys() {
        let model = DhtKey::Repo("acme/tiny".parse().unwrap()).to_bytes();
        let dataset = DhtKey::Repo("datasets/acme/tiny".parse().unwrap()).to_bytes();
        assert_ne!(model, dataset);
    }

    #[test]
    fn a_secret_names_the_node_that_libp2p_names() {
        let secret = [9; 32];
        let key = libp2p::identity::Keypair::ed25519_from_bytes(secret).unwrap();
        assert_eq!(node_id_of_secret(&secret).to_string(), key.public().to_peer_id().to_string());
    }
}
