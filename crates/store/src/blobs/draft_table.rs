//! The drafts that are open, one a digest; beginning them, dropping them, counting them.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use hubless_types::{FileDigest, GroupSet};
use tokio::sync::watch;

use super::begin::{check_room, has_length, open_for_fetch};
use super::draft::{Draft, DraftCore, DraftState, FrontDigest, LiveDraft, lock};
use super::front::FrontTree;
use super::layout::remove_if_there;
use super::tree::{Node, PARENT_BYTES};
use super::{Blobs, Inner};
use crate::catalogue::DraftRecord;
use crate::error::{Result, StoreError};

/// Records that are looked at between two looks at the catalogue.
const PAGE: usize = 256;

/// The drafts that somebody has open.
#[derive(Debug, Default)]
pub(super) struct Drafts(Mutex<HashMap<FileDigest, Weak<LiveDraft>>>);

impl Drafts {
    /// Bytes that are still to come of all of them.
    pub(super) fn missing_bytes(&self) -> u64 {
        lock(&self.0).values().filter_map(Weak::upgrade).map(|live| live.missing_bytes()).sum()
    }
}

/// What of a draft a look at the catalogue finds.
struct Left {
    have: GroupSet,
    safe: GroupSet,
}

impl Blobs {
    /// A file of `size` bytes whose BLAKE3 root is not known, to be filled by an origin; goes on with one that was
    /// begun before, by this process or a former one.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] if what is missing has no room; [`StoreError::DraftSizeClash`] if somebody is filling it
    /// with another size in mind.
    pub fn draft(&self, digest: FileDigest, size: u64) -> Result<Draft> {
        let lives = self.0.lives();
        let mut drafts = lock(&self.0.drafts.0);
        if let Some(live) = drafts.get(&digest).and_then(Weak::upgrade).filter(|live| !live.is_settled()) {
            if live.size != size {
                return Err(StoreError::DraftSizeClash { digest, known: live.size, said: size });
            }
            return Ok(Draft(live));
        }
        let promised = |live: Arc<super::partial::Live>| live.missing_bytes();
        let promised = lives.values().filter_map(Weak::upgrade).map(promised).sum::<u64>()
            + drafts.values().filter_map(Weak::upgrade).map(|live| live.missing_bytes()).sum::<u64>();
        drop(lives);
        let live = Arc::new(self.0.begin_draft(digest, size, promised)?);
        drafts.retain(|_, weak| weak.strong_count() > 0);
        drafts.insert(digest, Arc::downgrade(&live));
        drop(drafts);
        // What a former process left is hashed meanwhile.
        self.0.follower.soon(&live.core);
        Ok(Draft(live))
    }
}

impl Inner {
    fn begin_draft(self: &Arc<Self>, digest: FileDigest, size: u64, promised: u64) -> Result<LiveDraft> {
        let (data_path, tree_path) = (self.layout.draft(&digest, "data"), self.layout.draft(&digest, "tree"));
        let Left { have, safe } = self.left_of_draft(&digest, size, &data_path)?;
        self.layout.prepare_drafts()?;
        check_room(self.layout.root(), &data_path, size.saturating_sub(have.bytes(size)), promised)?;
        let tree_bytes = (Node::root(size).groups - 1) * PARENT_BYTES as u64;
        let data = open_for_fetch(&data_path, size, false)?;
        let tree = (tree_bytes > 0).then(|| open_for_fetch(&tree_path, tree_bytes, false)).transpose()?;
        let record = DraftRecord { size, have: have.clone(), safe: safe.clone(), boot: self.boot };
        self.catalogue.put_draft(&digest, &record)?;
        let (changed, _) = watch::channel(have.len());
        let busy = GroupSet::new();
        let state =
            DraftState { have, busy, safe, persisted_at: Instant::now(), dirty: false, settled: false };
        let core = DraftCore {
            digest,
            size,
            data,
            tree,
            data_path,
            tree_path,
            state: Mutex::new(state),
            front: Mutex::new(FrontTree::new(size)),
            digester: Mutex::new(FrontDigest::new(&digest, size)),
            finishing: Mutex::default(),
            queued: [AtomicBool::new(false), AtomicBool::new(false)],
            changed,
            catalogue: self.catalogue.clone(),
            boot: self.boot,
        };
        Ok(LiveDraft { core: Arc::new(core), blobs: Arc::clone(self) })
    }

    /// What a former process left and can be believed.
    fn left_of_draft(&self, digest: &FileDigest, size: u64, data_path: &Path) -> Result<Left> {
        let nothing = || Left { have: GroupSet::new(), safe: GroupSet::new() };
        let Some(record) = self.catalogue.draft(digest)? else {
            remove_if_there(data_path)?;
            return Ok(nothing());
        };
        if record.size != size || !has_length(data_path, size) {
            remove_if_there(data_path)?;
            return Ok(nothing());
        }
        let this_boot = record.boot == self.boot && self.boot != [0; 16];
        let have = if this_boot { record.have } else { record.safe.clone() };
        Ok(Left { have, safe: record.safe })
    }

    /// Ends a draft and deletes what is here of it.
    pub(super) fn drop_draft(&self, live: &LiveDraft) -> Result<()> {
        // Under the lock no new draft of the same digest can begin before the files are gone.
        let _drafts = lock(&self.drafts.0);
        if !live.settle() {
            return Ok(());
        }
        self.remove_draft(&live.digest)
    }

    pub(super) fn remove_draft(&self, digest: &FileDigest) -> Result<()> {
        self.catalogue.remove_draft(digest)?;
        self.draft_files(digest).iter().try_for_each(|path| remove_if_there(path))
    }

    fn draft_files(&self, digest: &FileDigest) -> [PathBuf; 2] {
        ["data", "tree"].map(|ending| self.layout.draft(digest, ending))
    }

    fn draft_disk_bytes(&self, digest: &FileDigest) -> u64 {
        let files = self.draft_files(digest);
        files.iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.blocks() * 512).sum()
    }

    /// Visits the drafts that are here, open or not.
    pub(super) fn each_draft(
        &self,
        mut visit: impl FnMut(FileDigest, DraftRecord) -> Result<()>,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.catalogue.drafts(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            page.into_iter().try_for_each(|(digest, record)| visit(digest, record))?;
        }
    }

    /// Drops a draft that nobody has open and returns the bytes that this freed; `None` if somebody has.
    pub(super) fn evict_draft(&self, digest: &FileDigest, dry_run: bool) -> Result<Option<u64>> {
        let drafts = lock(&self.drafts.0);
        let open = drafts.get(digest).and_then(Weak::upgrade).is_some_and(|live| !live.is_settled());
        if open {
            return Ok(None);
        }
        let freed = self.draft_disk_bytes(digest);
        if !dry_run {
            self.remove_draft(digest)?;
        }
        Ok(Some(freed))
    }

    /// Deletes files of drafts that no record speaks of.
    pub(super) fn collect_stray_drafts(&self, dry_run: bool) -> Result<u64> {
        let mut freed = 0;
        let Ok(files) = std::fs::read_dir(self.layout.drafts()) else { return Ok(0) };
        for file in files.flatten() {
            let name = file.file_name();
            let Some(digest) = name.to_str().and_then(super::layout::draft_digest) else { continue };
            let drafts = lock(&self.drafts.0);
            let open = drafts.get(&digest).is_some_and(|weak| weak.strong_count() > 0);
            if open || self.catalogue.draft(&digest)?.is_some() {
                continue;
            }
            freed += file.metadata().map_or(0, |m| m.blocks() * 512);
            if !dry_run {
                remove_if_there(&file.path())?;
            }
            drop(drafts);
        }
        Ok(freed)
    }
}
