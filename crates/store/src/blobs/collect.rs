//! Frees what nobody wants: eviction of one blob, collection of all that is not to be kept, and a count of what
//! is here.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;

use hubless_types::{BlobHash, FileDigest};

use super::layout::{Layout, TEMP_SUFFIX, remove_if_there};
use super::{Blobs, Inner};
use crate::catalogue::{BlobRecord, Place};
use crate::error::{Result, StoreError};

/// Records that are looked at between two looks at the catalogue.
const PAGE: usize = 1024;

/// What a collection took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct GcReport {
    /// Blobs that were dropped; files that are referenced stay where they are.
    pub dropped: u64,
    /// Bytes of disk that were freed.
    pub freed: u64,
    /// Blobs that would have gone but are read or fetched at this moment.
    pub held: u64,
    /// Blobs that stay.
    pub kept: u64,
}

/// What is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Whole blobs in the data folder.
    pub owned: u64,
    /// Their bytes.
    pub owned_bytes: u64,
    /// Files that are served from where they lie.
    pub referenced: u64,
    /// Their bytes.
    pub referenced_bytes: u64,
    /// Blobs that are here in part.
    pub partial: u64,
    /// The bytes of them that are here.
    pub partial_bytes: u64,
    /// Files that an origin is filling, or was.
    pub drafts: u64,
    /// The bytes of them that are here.
    pub draft_bytes: u64,
}

impl Blobs {
    /// Deletes one blob and returns the bytes that this freed; a referenced file is only forgotten.
    ///
    /// # Errors
    /// [`StoreError::Held`] if it is read or fetched at this moment.
    pub fn evict(&self, hash: &BlobHash) -> Result<u64> {
        // With the table of live fetches locked, none can begin between the look and the deletion.
        let lives = self.0.lives();
        if self.0.holds.is_held(hash) {
            return Err(StoreError::Held { hash: *hash });
        }
        let freed = self.0.disk_bytes(hash);
        self.0.catalogue.remove_blob(hash)?;
        self.0.remove_files(hash)?;
        drop(lives);
        Ok(freed)
    }

    /// Drops every blob that is not in `keep` and that nobody holds, every draft that is not in `drafts` and that nobody
    /// has open, and files that no record speaks of. With `dry_run` it only counts.
    ///
    /// # Errors
    /// Of the catalogue; [`StoreError::Io`] if a file cannot be deleted.
    pub fn collect(
        &self,
        keep: &HashSet<BlobHash>,
        drafts: &HashSet<FileDigest>,
        dry_run: bool,
    ) -> Result<GcReport> {
        let mut report = GcReport::default();
        self.for_each(|hash, _| {
            if keep.contains(&hash) {
                report.kept += 1;
            } else if dry_run {
                let held = self.0.holds.is_held(&hash);
                report.held += u64::from(held);
                report.dropped += u64::from(!held);
                report.freed += if held { 0 } else { self.0.disk_bytes(&hash) };
            } else {
                match self.evict(&hash) {
                    Ok(freed) => {
                        report.dropped += 1;
                        report.freed += freed;
                    }
                    Err(StoreError::Held { .. }) => report.held += 1,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        self.0.each_draft(|digest, _| {
            if drafts.contains(&digest) {
                report.kept += 1;
                return Ok(());
            }
            match self.0.evict_draft(&digest, dry_run)? {
                Some(freed) => {
                    report.dropped += 1;
                    report.freed += freed;
                }
                None => report.held += 1,
            }
            Ok(())
        })?;
        report.freed += self.0.collect_strays(dry_run)? + self.0.collect_stray_drafts(dry_run)?;
        Ok(report)
    }

    /// The files that an origin is filling, or was before a restart.
    ///
    /// # Errors
    /// Of the catalogue.
    pub fn drafts(&self) -> Result<HashSet<FileDigest>> {
        let mut drafts = HashSet::new();
        self.0.each_draft(|digest, _| {
            drafts.insert(digest);
            Ok(())
        })?;
        Ok(drafts)
    }

    /// Counts what is here, from the catalogue alone.
    ///
    /// # Errors
    /// Of the catalogue.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        self.for_each(|_, record| {
            let (count, bytes, here) = match (&record.have, &record.place) {
                (Some(have), _) => (&mut usage.partial, &mut usage.partial_bytes, have.bytes(record.size)),
                (None, Place::Owned) => (&mut usage.owned, &mut usage.owned_bytes, record.size),
                (None, Place::Reference { .. }) => {
                    (&mut usage.referenced, &mut usage.referenced_bytes, record.size)
                }
            };
            *count += 1;
            *bytes += here;
            Ok(())
        })?;
        self.0.each_draft(|_, record| {
            usage.drafts += 1;
            usage.draft_bytes += record.have.bytes(record.size);
            Ok(())
        })?;
        Ok(usage)
    }

    fn for_each(&self, mut visit: impl FnMut(BlobHash, BlobRecord) -> Result<()>) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.0.catalogue.blobs(after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            page.into_iter().try_for_each(|(hash, record)| visit(hash, record))?;
        }
    }
}

impl Inner {
    /// What a blob's files take on the disk; a partial one is sparse.
    fn disk_bytes(&self, hash: &BlobHash) -> u64 {
        let files = [self.layout.data(hash), self.layout.tree(hash)];
        files.iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.blocks() * 512).sum()
    }

    /// Deletes files that no record speaks of: a process was killed between the bytes and the record.
    fn collect_strays(&self, dry_run: bool) -> Result<u64> {
        let mut freed = 0;
        let root = self.layout.root();
        for folder in std::fs::read_dir(root).map_err(|e| StoreError::io(root, e))?.flatten() {
            let Ok(files) = std::fs::read_dir(folder.path()) else { continue };
            for file in files.flatten() {
                let name = file.file_name();
                let stem = name.to_str().and_then(|n| n.split_once('.')).map(|(stem, _)| stem);
                let Some(hash) = stem.and_then(|s| s.parse::<BlobHash>().ok()) else { continue };
                let lives = self.lives();
                if self.catalogue.blob(&hash)?.is_some() || self.holds.is_held(&hash) {
                    continue;
                }
                freed += file.metadata().map_or(0, |m| m.blocks() * 512);
                if !dry_run {
                    remove_if_there(&file.path())?;
                }
                drop(lives);
            }
        }
        Ok(freed)
    }
}

/// Deletes what an import left behind when its process was killed.
pub(super) fn remove_temps(layout: &Layout) -> Result<()> {
    let root = layout.root();
    for file in std::fs::read_dir(root).map_err(|e| StoreError::io(root, e))?.flatten() {
        if file.file_name().to_string_lossy().ends_with(TEMP_SUFFIX) {
            remove_if_there(&file.path())?;
        }
    }
    Ok(())
}
