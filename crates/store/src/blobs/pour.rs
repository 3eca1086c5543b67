//! Moves bytes between a draft, which has no tree, and a blob that is fetched by its tree.

use hubless_types::{ByteRange, FileDigest, GroupSet};

use super::Blobs;
use super::decode::DecodeError;
use super::draft::Draft;
use super::partial::PartialBlob;
use crate::error::{Result, StoreError};

/// Bytes that are moved at once.
const PIECE_BYTES: u64 = 1024 * 1024;

impl Draft {
    /// Copies what is here into a blob whose tree is here, each group checked; returns the groups that fit. They are
    /// held by the blob then; what it held before is passed over and not among them. The draft stays as it is, so
    /// that it can go on if the blob comes to nothing: discard it when the blob is what is wanted. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NoTree`]; [`StoreError::SizeClash`] if the two have different sizes; of reading and writing.
    pub fn pour(&self, into: &PartialBlob) -> Result<GroupSet> {
        if self.size() != into.size() {
            return Err(StoreError::SizeClash { hash: into.hash(), known: into.size(), said: self.size() });
        }
        let (have, held) = (self.have(), into.have());
        let mut fitted = GroupSet::new();
        for run in have.runs().iter().flat_map(|run| held.missing(run.clone()).runs().to_vec()) {
            let mut at = run.start;
            while at < run.end {
                let mut filler = into.filler(at..run.end)?;
                let outcome = self.feed(&mut filler);
                let right = filler.groups_done();
                fitted.insert(at..at + right);
                at += right;
                match outcome {
                    Ok(()) => {}
                    // This group is not the tree's; those after it may be.
                    Err(DecodeError::WrongBytes { .. }) => at += 1,
                    Err(DecodeError::Disk(error)) => return Err(error),
                    Err(other) => {
                        return Err(StoreError::io(&self.0.data_path, std::io::Error::other(other)));
                    }
                }
            }
        }
        Ok(fitted)
    }

    fn feed(&self, filler: &mut super::Filler) -> std::result::Result<(), DecodeError> {
        let mut buffer = Vec::new();
        while let Some(range) = filler.wanted(PIECE_BYTES) {
            self.0.read(range, &mut buffer)?;
            filler.push(&buffer)?;
        }
        Ok(())
    }
}

impl Blobs {
    /// A draft that begins with what is here of a blob: for a blob whose peers are gone and whose tree is not here, so
    /// that an origin can go on. Its groups are copied. Blocks.
    ///
    /// The blob's own groups fit its root; whether that root is the file's, [`Draft::finish`] tells. So this is for links
    /// that somebody trusted signed, not for claims.
    ///
    /// # Errors
    /// As [`Blobs::draft`]; of reading and writing.
    pub fn draft_from(&self, partial: &PartialBlob, digest: FileDigest) -> Result<Draft> {
        let draft = self.draft(digest, partial.size())?;
        let wanted = partial.have();
        for run in wanted.runs() {
            let range = ByteRange::of_groups(run.clone(), partial.size());
            let mut writer = draft.writer(range.start);
            while writer.at() < range.end {
                let piece = ByteRange::new(writer.at(), range.end.min(writer.at() + PIECE_BYTES));
                writer.push(&partial.read(piece)?)?;
            }
        }
        Ok(draft)
    }
}
