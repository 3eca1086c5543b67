//! Finds out what of a blob's bytes are still right, by hashing them again.

use std::fs::File;
use std::sync::PoisonError;

use hubless_types::{BlobHash, GroupSet};

use super::file::{BlobFile, TreeWindow, open_tree, read_exact_at};
use super::import::{DigestKind, hash_file};
use super::layout::{open_stamped, same_file};
use super::tree::{Cv, Node, split_pair};
use super::{Inner, Temps};
use crate::catalogue::{BlobRecord, FileStamp, Place};
use crate::error::{Result, StoreError};

/// What is found wrong while a blob is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A group of its bytes.
    Bytes,
    /// A parent of its tree: what lies below may be right.
    Tree,
}

/// The groups of a file that hash up to `root`, as far as its tree can be believed; and whether all of the tree can.
fn right_groups(data: &File, tree: Option<&File>, size: u64, root: &BlobHash) -> (GroupSet, bool) {
    let (mut right, mut is_tree_right) = (GroupSet::new(), true);
    let mut window = TreeWindow::default();
    let mut buffer = vec![0; hubless_types::GROUP_BYTES as usize];
    let mut stack: Vec<(Node, Cv)> = vec![(Node::root(size), *root.as_bytes())];
    while let Some((node, hash)) = stack.pop() {
        if node.is_leaf() {
            let bytes = node.bytes(size);
            let leaf = &mut buffer[..bytes.len() as usize];
            if read_exact_at(data, leaf, bytes.start).is_ok() && node.hash_all(leaf) == hash {
                right.insert(node.start..node.end());
            }
            continue;
        }
        let pair = tree.and_then(|tree| window.parent(tree, &node).ok());
        let Some(pair) = pair.filter(|pair| node.hash_parent(pair) == hash) else {
            is_tree_right = false;
            continue;
        };
        let ((left, right_child), (left_hash, right_hash)) = (node.children(), split_pair(&pair));
        stack.push((right_child, right_hash));
        stack.push((left, left_hash));
    }
    (right, is_tree_right)
}

impl Inner {
    /// Hashes a blob again and writes down what is right, unless its record has changed since it was `seen`: of a file of
    /// our own the groups that are; a reference is kept as it looks now, or dropped.
    pub(super) fn recheck(&self, hash: &BlobHash, seen: &BlobRecord) -> Result<()> {
        let _alone = self.rechecking.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_still(hash, seen)? {
            return Ok(());
        }
        let Place::Reference { path, .. } = &seen.place else { return self.recheck_own(hash, seen) };
        let Ok((data, now)) = open_stamped(path) else { return self.forget_if(&self.lives(), hash, seen) };
        let groups = 0..Node::root(seen.size).groups;
        let is_whole = now.size == seen.size && self.right_of(hash, seen, &data)?.contains(groups);
        if is_whole && same_file(path, &now) {
            return self.renew_stamp(hash, seen, now);
        }
        self.forget_if(&self.lives(), hash, seen)
    }

    fn recheck_own(&self, hash: &BlobHash, seen: &BlobRecord) -> Result<()> {
        let right = match File::open(self.layout.data(hash)) {
            Ok(data) => self.right_of(hash, seen, &data)?,
            Err(_) => GroupSet::new(),
        };
        let complete = right.contains(0..Node::root(seen.size).groups);
        let have = (!complete).then_some(right);
        let found = BlobRecord { have, synced: false, boot: self.boot, parents: 0, ..seen.clone() };
        if self.catalogue.replace_blob(hash, seen, Some(&found))? {
            self.syncer.soon(*hash);
        }
        Ok(())
    }

    /// The groups of `data` that are right, of those that the record speaks of. Where the tree of a whole blob is lost or
    /// rotten, and the bytes are right, it is made anew: what it was made of is here.
    pub(super) fn right_of(&self, hash: &BlobHash, record: &BlobRecord, data: &File) -> Result<GroupSet> {
        let size = record.size;
        let tree = open_tree(&self.layout.tree(hash), size).ok().flatten();
        let (right, is_tree_right) = right_groups(data, tree.as_ref(), size, hash);
        match &record.have {
            Some(have) => Ok(right.intersection(have)),
            None if is_tree_right || !self.regrow(hash, size, data)? => Ok(right),
            None => Ok(GroupSet::whole(size)),
        }
    }

    /// Makes the tree of a whole blob anew; `false` if the bytes are not the blob's.
    fn regrow(&self, hash: &BlobHash, size: u64, data: &File) -> Result<bool> {
        let mut temps = Temps::default();
        let (path, tree) = self.temp_file(&mut temps)?;
        let hashed = match hash_file(data, size, DigestKind::Sha256, Some(&tree), None, &|_| {}) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            hashed => hashed.map_err(|e| StoreError::io(&path, e))?,
        };
        if hashed.hash != *hash {
            return Ok(false);
        }
        let to = self.layout.tree(hash);
        std::fs::rename(&path, &to).map_err(|e| StoreError::io(&to, e))?;
        tracing::warn!(%hash, tree = %to.display(), "a hash tree was lost or damaged; made anew from the bytes");
        Ok(true)
    }

    /// Remembers how the file of a reference looks now; its bytes are those that were hashed.
    pub(super) fn renew_stamp(&self, hash: &BlobHash, seen: &BlobRecord, now: FileStamp) -> Result<()> {
        let Place::Reference { path, stamp } = &seen.place else { return Ok(()) };
        if *stamp != now {
            let place = Place::Reference { path: path.clone(), stamp: now };
            self.catalogue.replace_blob(hash, seen, Some(&BlobRecord { place, ..seen.clone() }))?;
        }
        Ok(())
    }

    /// Whether what the catalogue says of a blob is still of the bytes that were `seen`.
    pub(super) fn is_still(&self, hash: &BlobHash, seen: &BlobRecord) -> Result<bool> {
        Ok(self.catalogue.blob(hash)?.is_some_and(|now| now.is_of_same_bytes(seen)))
    }

    /// Called when something turned out to be wrong as it was read: a reference with other bytes is dropped at once.
    pub(super) fn doubt(&self, blob: &BlobFile, wrong: Wrong) -> Result<()> {
        let Some(record) = self.catalogue.blob(&blob.hash)? else { return Ok(()) };
        match (&record.place, wrong) {
            // It may have been added again from elsewhere meanwhile.
            (Place::Reference { path, .. }, _) if *path != blob.path => Ok(()),
            (Place::Owned, _) if blob.live.is_some() => Ok(()),
            (Place::Reference { .. }, Wrong::Bytes) => self.forget_if(&self.lives(), &blob.hash, &record),
            _ => self.recheck(&blob.hash, &record),
        }
    }
}
