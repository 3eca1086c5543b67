//! A commit's link table: which BLAKE3 tree holds each of its files, in one blob that a statement can name.

use hubless_types::{BlobHash, BlobId, FileDigest, Link, LinkTrust, MAX_MANIFEST_ENTRIES, Sha256};

use crate::ProofError;
use crate::wire::{self, put_number};

/// Longest encoded link table that is read, in bytes; it has room for a million files.
pub const MAX_LINK_TABLE_BYTES: usize = 80 * 1024 * 1024;

const WHAT: &str = "link table";
const VERSION: u8 = 1;
const KIND_SHA256: u8 = 0;
const KIND_GIT: u8 = 1;
/// Bytes of the shortest row: kind, git blob id, BLAKE3 root, size.
const SHORTEST_ROW: usize = 1 + BlobId::LEN + BlobHash::LEN + 1;

/// Digest, BLAKE3 root and size (bytes) of files, sorted by digest, each digest once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkTable(Vec<(FileDigest, BlobHash, u64)>);

impl LinkTable {
    /// Sorts `rows`; a row that is there twice is kept once.
    ///
    /// # Errors
    /// [`ProofError::TwoLinks`] if two rows say different things of one digest; [`ProofError::TooLarge`] if
    /// there are more than a manifest may list.
    pub fn new(mut rows: Vec<(FileDigest, BlobHash, u64)>) -> Result<Self, ProofError> {
        rows.sort_unstable();
        rows.dedup();
        if let Some(pair) = rows.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(ProofError::TwoLinks { digest: pair[0].0 });
        }
        if rows.len() > MAX_MANIFEST_ENTRIES {
            let (size, limit) = (rows.len() as u64, MAX_MANIFEST_ENTRIES as u64);
            return Err(ProofError::TooLarge { what: "rows of a link table", size, limit });
        }
        Ok(Self(rows))
    }

    /// Every row, by digest.
    pub fn rows(&self) -> &[(FileDigest, BlobHash, u64)] {
        &self.0
    }

    /// How many rows.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The BLAKE3 root and size (bytes) of a file.
    pub fn get(&self, digest: &FileDigest) -> Option<(BlobHash, u64)> {
        let i = self.0.binary_search_by(|row| row.0.cmp(digest)).ok()?;
        self.0.get(i).map(|row| (row.1, row.2))
    }

    /// Every row as a link that is known as `trust` says.
    pub fn links(&self, trust: LinkTrust) -> impl Iterator<Item = Link> + '_ {
        self.0.iter().map(move |&(digest, hash, size)| Link { digest, hash, size, trust })
    }

    /// What a statement names it by: the BLAKE3 hash of its encoding.
    pub fn id(&self) -> BlobHash {
        BlobHash::from_bytes(*blake3::hash(&self.encode()).as_bytes())
    }

    /// The one encoding that a table has.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.0.len() * (1 + Sha256::LEN + BlobHash::LEN + 5));
        out.push(VERSION);
        put_number(&mut out, self.0.len() as u64);
        for (digest, hash, size) in &self.0 {
            match digest {
                FileDigest::Sha256(d) => {
                    out.push(KIND_SHA256);
                    out.extend_from_slice(d.as_bytes());
                }
                FileDigest::Git(d) => {
                    out.push(KIND_GIT);
                    out.extend_from_slice(d.as_bytes());
                }
            }
            out.extend_from_slice(hash.as_bytes());
            put_number(&mut out, *size);
        }
        out
    }

    /// Reads what [`LinkTable::encode`] wrote, and nothing else: bytes that are read have [`LinkTable::id`] as
    /// their BLAKE3 hash.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`] above [`MAX_LINK_TABLE_BYTES`], [`ProofError::Version`] if a newer program
    /// wrote it, [`ProofError::Malformed`] otherwise.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        let mut reader = wire::open(WHAT, bytes, MAX_LINK_TABLE_BYTES, VERSION)?;
        let count = reader.count("rows of a link table", MAX_MANIFEST_ENTRIES, SHORTEST_ROW)?;
        let mut rows: Vec<(FileDigest, BlobHash, u64)> = Vec::with_capacity(count);
        for _ in 0..count {
            let digest = match reader.byte()? {
                KIND_SHA256 => FileDigest::Sha256(Sha256::from_bytes(reader.array()?)),
                KIND_GIT => FileDigest::Git(BlobId::from_bytes(reader.array()?)),
                _ => return Err(reader.malformed("a digest is of an unknown kind")),
            };
            if rows.last().is_some_and(|last| last.0 >= digest) {
                return Err(reader.malformed("its rows are out of order"));
            }
            rows.push((digest, BlobHash::from_bytes(reader.array()?), reader.number()?));
        }
        reader.end()?;
        Ok(Self(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<(FileDigest, BlobHash, u64)>> {
        let digest = prop_oneof![
            any::<[u8; 32]>().prop_map(|d| FileDigest::Sha256(Sha256::from_bytes(d))),
            any::<[u8; 20]>().prop_map(|d| FileDigest::Git(BlobId::from_bytes(d))),
        ];
        prop::collection::vec((digest, any::<[u8; 32]>().prop_map(BlobHash::from_bytes), any::<u64>()), 0..12)
    }

    proptest! {
        #[test]
        fn a_table_reads_as_it_is_written(rows in rows()) {
            let table = LinkTable::new(rows.clone()).unwrap();
            let bytes = table.encode();
            prop_assert_eq!(LinkTable::decode(&bytes), Ok(table.clone()));
            prop_assert_eq!(table.id(), BlobHash::from_bytes(blake3::hash(&bytes).into()));
            prop_assert_eq!(table.links(LinkTrust::Vouched).count(), rows.len());
            for (digest, hash, size) in rows {
                prop_assert_eq!(table.get(&digest), Some((hash, size)));
            }
            for len in 0..bytes.len() {
                prop_assert!(LinkTable::decode(&bytes[..len]).is_err());
            }
        }

        #[test]
        fn a_table_has_one_encoding(rows in rows(), at: prop::sample::Index, byte: u8) {
            let mut bytes = LinkTable::new(rows).unwrap().encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(table) = LinkTable::decode(&bytes) {
                prop_assert_eq!(table.encode(), bytes);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = LinkTable::decode(&bytes);
            let _ = LinkTable::decode(&[&[VERSION][..], &bytes].concat());
        }
    }

    #[test]
    fn one_file_has_one_link() {
        let digest = FileDigest::Git(BlobId::from_bytes([1; 20]));
        let row = |hash| (digest, BlobHash::from_bytes([hash; 32]), 5);
        assert_eq!(LinkTable::new(vec![row(1), row(1)]).unwrap().len(), 1);
        assert_eq!(LinkTable::new(vec![row(1), row(2)]), Err(ProofError::TwoLinks { digest }));
        let mut twice = LinkTable::new(vec![row(1)]).unwrap().encode();
        twice[1] = 2;
        twice.extend_from_within(2..);
        assert!(LinkTable::decode(&twice).is_err());
    }

    #[test]
    fn a_promise_of_many_rows_takes_no_memory() {
        let mut bytes = vec![VERSION];
        put_number(&mut bytes, MAX_MANIFEST_ENTRIES as u64);
        assert!(matches!(LinkTable::decode(&bytes), Err(ProofError::Malformed { .. })));
        assert!(matches!(LinkTable::decode(&[9]), Err(ProofError::Version { found: 9, .. })));
        assert_eq!(LinkTable::decode(&LinkTable::default().encode()), Ok(LinkTable::default()));
    }
}
