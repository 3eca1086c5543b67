//! Signed statements: the bytes that are signed, and whether they were.

use ed25519_dalek::{Signature, VerifyingKey};
use hubless_types::{NodeId, Statement, StatementBody};

use crate::wire::{put_bytes, put_number};
use crate::{NodeKey, ProofError};

/// Longest origin that a statement may name, in bytes.
pub const MAX_ORIGIN_BYTES: usize = 1024;

/// Stands before the bytes of every statement, so that no other signature of the key passes for one.
const DOMAIN: &[u8] = b"hubless statement 1\0";

/// Signs `body` with `key`.
///
/// An origin of more than [`MAX_ORIGIN_BYTES`] is signed, but nobody takes it: [`verify_statement`] refuses it.
pub fn sign_statement(body: StatementBody, key: &NodeKey) -> Statement {
    let signer = key.id();
    let signature = key.sign(&signed_bytes(&body, &signer));
    Statement { body, signer, signature }
}

/// Whether the statement's signer signed it. Says nothing of whether the signer is to be believed.
///
/// # Errors
/// [`ProofError::Signature`] if the key is none or the signature is not its; [`ProofError::TooLarge`] if the
/// origin is longer than [`MAX_ORIGIN_BYTES`].
pub fn verify_statement(statement: &Statement) -> Result<(), ProofError> {
    let origin = statement.body.origin.as_ref().map_or(0, String::len);
    if origin > MAX_ORIGIN_BYTES {
        let (size, limit) = (origin as u64, MAX_ORIGIN_BYTES as u64);
        return Err(ProofError::TooLarge { what: "a statement's origin, in bytes", size, limit });
    }
    let wrong = || ProofError::Signature { signer: statement.signer };
    let key = VerifyingKey::from_bytes(statement.signer.as_bytes()).map_err(|_| wrong())?;
    let signature = Signature::from_bytes(&statement.signature.0);
    let message = signed_bytes(&statement.body, &statement.signer);
    // Strict: keys and signatures of small order, which would fit many messages, are refused.
    key.verify_strict(&message, &signature).map_err(|_| wrong())
}

/// One spelling for each body: every field in order, those of varying length behind their length, those that
/// may be absent behind a 0 or 1.
fn signed_bytes(body: &StatementBody, signer: &NodeId) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    out.extend_from_slice(signer.as_bytes());
    put_bytes(&mut out, body.repo.to_string().as_bytes());
    put_bytes(&mut out, body.revision.as_str().as_bytes());
    out.extend_from_slice(body.commit.as_bytes());
    out.push(u8::from(body.origin.is_some()));
    if let Some(origin) = &body.origin {
        put_bytes(&mut out, origin.as_bytes());
    }
    put_number(&mut out, body.seen.0);
    out.push(u8::from(body.links.is_some()));
    if let Some(links) = &body.links {
        out.extend_from_slice(links.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::{BlobHash, CommitId, PublicSignature, Timestamp};
    use proptest::prelude::*;

    fn body(origin: Option<String>, seen: u64, links: Option<[u8; 32]>) -> StatementBody {
        StatementBody {
            repo: "acme/tiny".parse().unwrap(),
            revision: "main".parse().unwrap(),
            commit: CommitId::from_bytes([7; 20]),
            origin,
            seen: Timestamp(seen),
            links: links.map(BlobHash::from_bytes),
        }
    }

    type Change = fn(&mut Statement);

    #[test]
    fn no_field_can_be_changed() {
        let key = NodeKey::from_bytes([3; 32]);
        let signed = sign_statement(body(Some("https://hub.example".into()), 9, Some([4; 32])), &key);
        assert_eq!(verify_statement(&signed), Ok(()));
        let changes: [Change; 9] = [
            |s| s.body.repo = "datasets/acme/tiny".parse().unwrap(),
            |s| s.body.revision = "mai".parse().unwrap(),
            |s| s.body.commit = CommitId::from_bytes([8; 20]),
            |s| s.body.origin = None,
            |s| s.body.origin = Some("https://hub.exampl".into()),
            |s| s.body.seen = Timestamp(10),
            |s| s.body.links = None,
            |s| s.signer = NodeKey::from_bytes([5; 32]).id(),
            |s| s.signature.0[40] ^= 1,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut changed = signed.clone();
            change(&mut changed);
            let refused = Err(ProofError::Signature { signer: changed.signer });
            assert_eq!(verify_statement(&changed), refused, "change {i}");
        }
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        // The neutral point as key, and a signature of zeros with the neutral point: fits any message if not
        // checked strictly.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let forged = Statement {
            body: body(None, 1, None),
            signer: NodeId::from_bytes(neutral),
            signature: PublicSignature(signature),
        };
        assert!(verify_statement(&forged).is_err());
    }

    #[test]
    fn an_endless_origin_is_refused() {
        let signed = sign_statement(body(Some("x".repeat(1025)), 1, None), &NodeKey::from_bytes([3; 32]));
        assert!(matches!(verify_statement(&signed), Err(ProofError::TooLarge { size: 1025, .. })));
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies(origin: Option<String>, seen: u64, links: Option<[u8; 32]>, seed: [u8; 32]) {
            let key = NodeKey::from_bytes(seed);
            let origin = origin.filter(|o| o.len() <= MAX_ORIGIN_BYTES);
            prop_assert_eq!(verify_statement(&sign_statement(body(origin, seen, links), &key)), Ok(()));
        }

        #[test]
        fn no_key_or_signature_panics(signer: [u8; 32], half: [[u8; 32]; 2]) {
            let signature = PublicSignature(half.concat().try_into().unwrap());
            let statement = Statement { body: body(None, 1, None), signer: NodeId::from_bytes(signer), signature };
            prop_assert!(verify_statement(&statement).is_err());
        }
    }
}
