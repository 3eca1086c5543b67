//! Finds out what of a blob's bytes are still right, by hashing them again.

use std::fs::File;
use std::sync::PoisonError;

use hubless_types::{BlobHash, GroupSet};

use super::Inner;
use super::file::{BlobFile, TreeWindow, open_tree, read_exact_at};
use super::tree::{Cv, Node, split_pair};
use crate::catalogue::{BlobRecord, Place};
use crate::error::Result;

/// The groups of a file that hash up to `root`, as far as its tree can be believed.
pub(super) fn right_groups(data: &File, tree: Option<&File>, size: u64, root: &BlobHash) -> GroupSet {
    let mut right = GroupSet::new();
    let mut window = TreeWindow::default();
    let mut buffer = vec![0; hubless_types::GROUP_BYTES as usize];
    let mut stack: Vec<(Node, Cv)> = vec![(Node::root(size), *root.as_bytes())];
    while let Some((node, hash)) = stack.pop() {
        if node.is_leaf() {
            let bytes = node.leaf_bytes(size);
            let leaf = &mut buffer[..bytes.len() as usize];
            if read_exact_at(data, leaf, bytes.start).is_ok() && node.hash_leaf(leaf) == hash {
                right.insert(node.start..node.end());
            }
            continue;
        }
        let pair = tree.and_then(|tree| window.parent(tree, &node).ok());
        let Some(pair) = pair.filter(|pair| node.hash_parent(pair) == hash) else { continue };
        let ((left, right_child), (left_hash, right_hash)) = (node.children(), split_pair(&pair));
        stack.push((right_child, right_hash));
        stack.push((left, left_hash));
    }
    right
}

impl Inner {
    /// Hashes a blob of ours again and writes down what is right, unless its record has changed since it was `seen`.
    pub(super) fn recheck(&self, hash: &BlobHash, seen: &BlobRecord) -> Result<()> {
        let _alone = self.rechecking.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_still(hash, seen)? {
            return Ok(());
        }
        let data = File::open(self.layout.data(hash));
        let tree = open_tree(&self.layout.tree(hash), seen.size).ok().flatten();
        let mut right =
            data.map_or_else(|_| GroupSet::new(), |data| right_groups(&data, tree.as_ref(), seen.size, hash));
        if let Some(have) = &seen.have {
            right = right.intersection(have);
        }
        let complete = right.contains(0..Node::root(seen.size).groups);
        let have = (!complete).then_some(right);
        let found = BlobRecord { have, synced: false, boot: self.boot, parents: 0, ..seen.clone() };
        if self.catalogue.replace_blob(hash, seen, Some(&found))? {
            self.syncer.soon(*hash);
        }
        Ok(())
    }

    /// Whether what the catalogue says of a blob is still of the bytes that were `seen`.
    pub(super) fn is_still(&self, hash: &BlobHash, seen: &BlobRecord) -> Result<bool> {
        Ok(self.catalogue.blob(hash)?.is_some_and(|now| now.is_of_same_bytes(seen)))
    }

    /// Called when bytes turned out to be wrong as they were read: a reference is dropped, and of a file of our own
    /// what is still right is kept.
    pub(super) fn doubt(&self, blob: &BlobFile) -> Result<()> {
        let Some(record) = self.catalogue.blob(&blob.hash)? else { return Ok(()) };
        match &record.place {
            // It may have been added again from elsewhere meanwhile.
            Place::Reference { path, .. } if *path == blob.path => {
                self.forget_if(&self.lives(), &blob.hash, &record)
            }
            Place::Owned if blob.live.is_none() => self.recheck(&blob.hash, &record),
            Place::Reference { .. } | Place::Owned => Ok(()),
        }
    }
}
