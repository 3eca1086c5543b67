//! A statement: at this time, this origin's ref was this commit, says this node.

use crate::{BlobHash, CommitId, NodeId, RepoId, Revision, Timestamp};

/// What is said. The bytes that are signed are made from this by `proof`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct StatementBody {
    /// The repository.
    pub repo: RepoId,
    /// The ref that was seen or set.
    pub revision: Revision,
    /// Where it pointed.
    pub commit: CommitId,
    /// Where it was seen; `None` where the signer itself publishes the repository.
    pub origin: Option<String>,
    /// When it was seen or set, by the signer's clock.
    pub seen: Timestamp,
    /// BLAKE3 of the commit's link table (see `proof::LinkTable`), where the signer hashed its files itself:
    /// whoever trusts the signer has every link of the table vouched for, and may stream at once.
    pub links: Option<BlobHash>,
}

/// An ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicSignature(pub [u8; 64]);

impl std::fmt::Debug for PublicSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl serde::Serialize for PublicSignature {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> serde::Deserialize<'de> for PublicSignature {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// A signed statement. Nothing here says that the signature is right: `proof::verify_statement` does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Statement {
    /// What is said.
    pub body: StatementBody,
    /// Who says it.
    pub signer: NodeId,
    /// The signer's signature over the body.
    pub signature: PublicSignature,
}
