//! The bundle: everything that proves a commit's manifest, as it is stored and sent.

use hubless_types::{BlobId, MAX_MANIFEST_ENTRIES, POINTER_MAX_BYTES};

use crate::ProofError;
use crate::wire::{self, Reader, bytes_len, number_len, put_bytes, put_number};

/// Longest encoded bundle, in bytes; about 375,000 LFS files or a million others.
pub const MAX_BUNDLE_BYTES: usize = 64 * 1024 * 1024;

const WHAT: &str = "bundle";
const VERSION: u8 = 1;

/// A commit object, its trees, its small blobs, and the sizes of the other blobs.
///
/// Every blob of at most [`POINTER_MAX_BYTES`] is there with its content, so that an LFS pointer cannot be
/// passed off as a plain file: one that is given a size instead is said to be longer than any pointer, which no
/// content with its id is.
///
/// Nothing is proven before [`Bundle::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The commit object (all objects are content only, without git's header).
    pub commit: Vec<u8>,
    /// Its root tree and every tree beneath it, each once, in any order.
    pub trees: Vec<Vec<u8>>,
    /// Every blob of at most [`POINTER_MAX_BYTES`] bytes that the trees name, each once, in any order.
    pub blobs: Vec<Vec<u8>>,
    /// Every other blob, each once, in any order, and how many bytes it is said to have: proven only with the
    /// content.
    pub sizes: Vec<(BlobId, u64)>,
}

impl Bundle {
    /// The encoding: a version byte, the commit, and the three lists, each behind its count. Anything of
    /// varying length is behind its length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        out.push(VERSION);
        put_bytes(&mut out, &self.commit);
        for list in [&self.trees, &self.blobs] {
            put_number(&mut out, list.len() as u64);
            list.iter().for_each(|object| put_bytes(&mut out, object));
        }
        put_number(&mut out, self.sizes.len() as u64);
        for (id, size) in &self.sizes {
            out.extend_from_slice(id.as_bytes());
            put_number(&mut out, *size);
        }
        out
    }

    /// How many bytes [`Bundle::encode`] gives.
    pub fn encoded_len(&self) -> usize {
        let list = |list: &[Vec<u8>]| {
            number_len(list.len() as u64) + list.iter().map(|o| bytes_len(o)).sum::<usize>()
        };
        let sizes = self.sizes.iter().map(|(_, size)| BlobId::LEN + number_len(*size)).sum::<usize>();
        let sizes = number_len(self.sizes.len() as u64) + sizes;
        1 + bytes_len(&self.commit) + list(&self.trees) + list(&self.blobs) + sizes
    }

    /// Reads what [`Bundle::encode`] wrote. Takes memory for what is there, never for what is promised: the
    /// input's length and a few words for each object.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`] above [`MAX_BUNDLE_BYTES`] or for more objects than a manifest may list,
    /// [`ProofError::Version`] if a newer program wrote it, [`ProofError::Malformed`] otherwise.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        let mut reader = wire::open(WHAT, bytes, MAX_BUNDLE_BYTES, VERSION)?;
        let commit = reader.bytes()?.to_vec();
        // A folder for every file and the root are the most that the check will take.
        let trees = read_objects(&mut reader, "trees of a bundle", MAX_MANIFEST_ENTRIES + 1, usize::MAX)?;
        let blobs =
            read_objects(&mut reader, "blobs of a bundle", MAX_MANIFEST_ENTRIES, POINTER_MAX_BYTES as usize)?;
        let count = reader.count("sizes of a bundle", MAX_MANIFEST_ENTRIES, BlobId::LEN + 1)?;
        let mut sizes = Vec::with_capacity(count);
        for _ in 0..count {
            sizes.push((BlobId::from_bytes(reader.array()?), reader.number()?));
        }
        reader.end()?;
        Ok(Self { commit, trees, blobs, sizes })
    }
}

fn read_objects(
    reader: &mut Reader<'_>,
    what: &'static str,
    limit: usize,
    longest: usize,
) -> Result<Vec<Vec<u8>>, ProofError> {
    let count = reader.count(what, limit, 1)?;
    let mut objects = Vec::with_capacity(count);
    for _ in 0..count {
        let object = reader.bytes()?;
        if object.len() > longest {
            return Err(reader.malformed("a blob is too long to travel with it"));
        }
        objects.push(object.to_vec());
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bundles() -> impl Strategy<Value = Bundle> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let lists = || prop::collection::vec(bytes(), 0..6);
        let sizes = prop::collection::vec((any::<[u8; 20]>(), any::<u64>()), 0..6);
        (bytes(), lists(), lists(), sizes).prop_map(|(commit, trees, blobs, sizes)| {
            let sizes = sizes.into_iter().map(|(id, size)| (BlobId::from_bytes(id), size)).collect();
            Bundle { commit, trees, blobs, sizes }
        })
    }

    proptest! {
        #[test]
        fn a_bundle_reads_as_it_is_written(bundle in bundles()) {
            let bytes = bundle.encode();
            prop_assert_eq!(bytes.len(), bundle.encoded_len());
            prop_assert_eq!(Bundle::decode(&bytes), Ok(bundle));
            for len in 0..bytes.len() {
                prop_assert!(Bundle::decode(&bytes[..len]).is_err());
            }
            prop_assert!(Bundle::decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![0..9_u8, any::<u8>()], 0..90)) {
            for bytes in [bytes.clone(), [&[VERSION][..], &bytes].concat()] {
                if let Ok(bundle) = Bundle::decode(&bytes) {
                    prop_assert_eq!(bundle.encode(), bytes);
                }
            }
        }
    }

    #[test]
    fn promises_take_no_memory() {
        let promise = |n| {
            let mut bytes = vec![VERSION, 0];
            put_number(&mut bytes, n);
            Bundle::decode(&bytes)
        };
        assert!(matches!(promise(1_000_000), Err(ProofError::Malformed { .. })));
        assert!(matches!(promise(u64::MAX), Err(ProofError::TooLarge { .. })));
        let too_long = vec![VERSION; MAX_BUNDLE_BYTES + 1];
        assert!(matches!(Bundle::decode(&too_long), Err(ProofError::TooLarge { .. })));
        assert_eq!(
            Bundle::decode(&[2]),
            Err(ProofError::Version { what: WHAT, found: 2, supported: VERSION })
        );
    }

    #[test]
    fn a_large_blob_does_not_travel() {
        let bundle = |len| Bundle { blobs: vec![vec![0; len]], ..Bundle::default() };
        assert!(Bundle::decode(&bundle(1024).encode()).is_ok());
        assert!(Bundle::decode(&bundle(1025).encode()).is_err());
    }
}
