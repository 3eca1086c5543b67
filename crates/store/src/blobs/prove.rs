//! Hashes a file's content by git's or LFS' rule while it is still arriving, so that the proof ends with the fetch.

use hubless_types::{ByteRange, FileDigest, GROUP_BYTES, Link, LinkTrust};

use super::file::MAX_READ_BYTES;
use super::import::{DigestKind, Digester};
use super::partial::PartialBlob;
use crate::error::{Result, StoreError};

/// Follows a fetch from the file's beginning on; see [`Prover::advance`].
pub struct Prover {
    blob: PartialBlob,
    expect: FileDigest,
    digester: Digester,
    at: u64,
}

impl Prover {
    pub(super) fn new(blob: PartialBlob, expect: FileDigest) -> Self {
        let digester = Digester::new(DigestKind::of(&expect), blob.size());
        Self { blob, expect, digester, at: 0 }
    }

    /// Hashes what has arrived without a gap, and returns how many bytes that is by now. Blocks.
    ///
    /// # Errors
    /// Of reading the disk.
    pub fn advance(&mut self) -> Result<u64> {
        loop {
            let groups = self.blob.have().run_from(self.at / GROUP_BYTES);
            let end = (self.at / GROUP_BYTES + groups).saturating_mul(GROUP_BYTES).min(self.blob.size());
            if end <= self.at {
                return Ok(self.at);
            }
            let bytes = self.blob.read(ByteRange::new(self.at, end.min(self.at + MAX_READ_BYTES)))?;
            self.digester.update(&bytes);
            self.at += bytes.len() as u64;
        }
    }

    /// Hashes the rest. `true`: the link is proven now. `false`: the content is another. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotHere`] if the blob is not complete.
    pub fn finish(mut self) -> Result<bool> {
        let size = self.blob.size();
        let hash = self.blob.hash();
        if self.advance()? < size {
            return Err(StoreError::NotHere { hash });
        }
        if self.digester.finish() != Some(self.expect) {
            return Ok(false);
        }
        let link = Link { digest: self.expect, hash, size, trust: LinkTrust::Proven };
        self.blob.0.blobs.catalogue.put_link(&link)?;
        Ok(true)
    }
}

impl std::fmt::Debug for Prover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prover({}, {} of {} bytes)", self.expect, self.at, self.blob.size())
    }
}
