//! Hashes everything again and names what is wrong.

use std::path::PathBuf;

use hubless_types::BlobHash;

use super::layout::open_stamped;
use super::tree::group_count;
use super::{Blobs, Inner};
use crate::catalogue::{BlobRecord, Place};
use crate::error::Result;

/// Records that are looked at between two looks at the catalogue.
const PAGE: usize = 256;

/// What is told while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyEvent {
    /// This many bytes are about to be hashed.
    Begins {
        /// Which blob.
        hash: BlobHash,
        /// Bytes of it that are here.
        bytes: u64,
    },
    /// It is as it should be.
    Good {
        /// Which blob.
        hash: BlobHash,
        /// Bytes that were hashed.
        bytes: u64,
    },
    /// It is not; it has been dropped, or cut down to what is right.
    Bad(BadBlob),
}

/// A blob whose bytes are not what they were.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BadBlob {
    /// Which blob.
    pub hash: BlobHash,
    /// The file on disk.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// Bytes that were lost.
    pub lost: u64,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// Blobs that are as they should be, in part or in whole.
    pub good: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Those that are not.
    pub bad: Vec<BadBlob>,
}

impl Blobs {
    /// Hashes every blob again. What is wrong is dropped: a reference altogether, of a file of our own the groups
    /// that are wrong. `progress` returns `false` to stop.
    ///
    /// # Errors
    /// Of the catalogue, and of writing down what is right.
    pub fn verify(&self, progress: &mut dyn FnMut(VerifyEvent) -> bool) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let mut after = None;
        loop {
            let page = self.0.catalogue.blobs(after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(report) };
            after = Some(*last);
            for (hash, record) in page {
                let bytes = record.have.as_ref().map_or(record.size, |have| have.bytes(record.size));
                if !progress(VerifyEvent::Begins { hash, bytes }) {
                    return Ok(report);
                }
                let event = match self.0.verify_one(&hash, &record)? {
                    None => {
                        report.good += 1;
                        report.bytes += bytes;
                        VerifyEvent::Good { hash, bytes }
                    }
                    Some(bad) => {
                        report.bad.push(bad.clone());
                        VerifyEvent::Bad(bad)
                    }
                };
                if !progress(event) {
                    return Ok(report);
                }
            }
        }
    }
}

impl Inner {
    /// `None` if the blob is as it should be, or has changed since its record was read.
    pub(super) fn verify_one(&self, hash: &BlobHash, record: &BlobRecord) -> Result<Option<BadBlob>> {
        if !self.is_still(hash, record)? || record.have.is_some() && self.live_one(hash).is_some() {
            return Ok(None);
        }
        let path = match &record.place {
            Place::Owned => self.layout.data(hash),
            Place::Reference { path, .. } => path.clone(),
        };
        let (lost, why) = match open_stamped(&path) {
            Err(e) => (record.size, format!("it cannot be opened: {e}")),
            Ok((_, now)) if now.size != record.size => {
                (record.size, format!("it has {} bytes instead of {}", now.size, record.size))
            }
            Ok((data, now)) => {
                let kept = self.right_of(hash, record, &data)?;
                let claimed = record.have.clone().unwrap_or_else(|| (0..group_count(record.size)).into());
                if kept == claimed {
                    self.renew_stamp(hash, record, now)?;
                    return Ok(None);
                }
                let lost = claimed.bytes(record.size) - kept.bytes(record.size);
                (lost, "its bytes are not those that were hashed".to_owned())
            }
        };
        self.recheck(hash, record)?;
        Ok(Some(BadBlob { hash: *hash, path, why, lost }))
    }
}
