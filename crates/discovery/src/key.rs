//! What is announced: each key is a multihash, and nothing else is accepted from others.

use hubless_types::{CommitId, NodeId, RepoId, Sha256};
use sha2::Digest;

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

fn multihash(code: u8, digest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![code, digest.len() as u8];
    bytes.extend_from_slice(digest);
    bytes
}

/// Whether these bytes are a key that [`DhtKey::to_bytes`] could have made.
pub(crate) fn is_key(bytes: &[u8]) -> bool {
    matches!(bytes, [SHA1_CODE, 20, digest @ ..] if digest.len() == 20)
        || matches!(bytes, [SHA256_CODE, 32, digest @ ..] if digest.len() == 32)
}

/// The node whose ed25519 secret this is.
pub fn node_id_of_secret(secret: &[u8; 32]) -> NodeId {
    NodeId::from_bytes(ed25519_dalek::SigningKey::from_bytes(secret).verifying_key().to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert!(is_key(&model) && is_key(&dataset));
    }

    #[test]
    fn a_secret_names_the_node_that_libp2p_names() {
        let secret = [9; 32];
        let key = libp2p::identity::Keypair::ed25519_from_bytes(secret).unwrap();
        assert_eq!(node_id_of_secret(&secret).to_string(), key.public().to_peer_id().to_string());
    }

    proptest! {
        #[test]
        fn only_keys_pass_for_keys(bytes: Vec<u8>, digest: [u8; 20]) {
            prop_assert!(is_key(&DhtKey::Commit(CommitId::from_bytes(digest)).to_bytes()));
            if bytes.len() != 22 && bytes.len() != 34 {
                prop_assert!(!is_key(&bytes));
            }
        }
    }
}
