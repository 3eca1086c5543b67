//! Git's object ids: SHA-1 over a header and the content, with collision attacks detected.

use sha1_checked::{CollisionResult, Digest, Sha1};

use hubless_types::{BlobId, CommitId, TreeId};

use crate::ProofError;

/// The id of a commit with this content (no header).
///
/// # Errors
/// [`ProofError::Collision`] if the content bears the marks of a SHA-1 collision attack.
pub fn commit_id(content: &[u8]) -> Result<CommitId, ProofError> {
    object_id("commit", content).map(CommitId::from_bytes)
}

/// The id of a tree with this content (no header).
///
/// # Errors
/// [`ProofError::Collision`] as for [`commit_id`].
pub fn tree_id(content: &[u8]) -> Result<TreeId, ProofError> {
    object_id("tree", content).map(TreeId::from_bytes)
}

/// The id of a blob with this content (no header).
///
/// # Errors
/// [`ProofError::Collision`] as for [`commit_id`].
pub fn blob_id(content: &[u8]) -> Result<BlobId, ProofError> {
    object_id("blob", content).map(BlobId::from_bytes)
}

pub(crate) fn object_id(kind: &'static str, content: &[u8]) -> Result<[u8; 20], ProofError> {
    let mut sha1 = Sha1::new();
    sha1.update(kind);
    sha1.update(format!(" {}\0", content.len()));
    sha1.update(content);
    verdict(kind, sha1.try_finalize())
}

/// Git's own rule: an object in which an attack is detected has no id, "safe" hash or not.
fn verdict(kind: &'static str, result: CollisionResult) -> Result<[u8; 20], ProofError> {
    match result {
        CollisionResult::Ok(hash) => Ok(hash.into()),
        CollisionResult::Mitigated(_) | CollisionResult::Collision(_) => Err(ProofError::Collision { kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 320 bytes of shattered-1.pdf (Stevens et al., 2017): the collision lies wholly within them.
    const SHATTERED: &[u8] = include_bytes!("../testdata/shattered-320.bin");

    #[test]
    fn ids_are_gits() {
        // `git hash-object -t TYPE /dev/null`
        assert_eq!(blob_id(b"").unwrap().to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(tree_id(b"").unwrap().to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        assert_eq!(blob_id(b"hello\n").unwrap().to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn an_attack_on_sha1_is_no_id() {
        let found = Sha1::try_digest(SHATTERED);
        assert!(found.has_collision());
        assert_eq!(verdict("blob", found), Err(ProofError::Collision { kind: "blob" }));
        assert!(verdict("blob", CollisionResult::Mitigated([0; 20].into())).is_err());
        assert!(verdict("blob", CollisionResult::Ok([0; 20].into())).is_ok());
        // Behind git's header the same bytes collide with nothing.
        assert!(blob_id(SHATTERED).is_ok());
    }
}
