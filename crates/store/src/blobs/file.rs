//! A blob that is open for reading, whole or in part.
//!
//! **Invariant:** what is read was checked against the root in the same call, whoever keeps the file: disks rot,
//! and checking costs less than handing the bytes on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hubless_types::{BlobHash, ByteRange, GROUP_BYTES, GroupSet};
use rustix::buffer::spare_capacity;

use super::Inner;
use super::encode::Encoder;
use super::hold::Hold;
use super::partial::PartialBlob;
use super::recheck::Wrong;
use super::tree::{Cv, Node, PARENT_BYTES, split_pair};
use super::tree_encode::TreeEncoder;
use crate::error::StoreError;

/// Most bytes that one [`BlobFile::read`] returns.
pub const MAX_READ_BYTES: u64 = 1024 * 1024;

/// What is behind a blob's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A file beneath the data folder, which nobody else writes.
    Owned,
    /// Somebody else's file, which may change at any time.
    Reference(PathBuf),
}

/// A blob open for reading; held against collection until it is dropped.
#[derive(Debug)]
pub struct BlobFile {
    pub(super) hash: BlobHash,
    pub(super) size: u64,
    pub(super) data: File,
    /// `None` for a blob of one group, which has no parents.
    pub(super) tree: Option<File>,
    pub(super) backing: Backing,
    pub(super) path: PathBuf,
    /// Set while the blob is still being fetched.
    pub(super) live: Option<PartialBlob>,
    pub(super) blobs: Arc<Inner>,
    pub(super) _hold: Hold,
}

impl BlobFile {
    /// Its BLAKE3 root.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Which groups are here and verified.
    pub fn have(&self) -> GroupSet {
        self.live.as_ref().map_or_else(|| GroupSet::whole(self.size), PartialBlob::have)
    }

    /// Whether somebody else may change the file underneath.
    pub fn is_reference(&self) -> bool {
        matches!(self.backing, Backing::Reference(_))
    }

    /// Reads `range`, cut at the end of the file and at [`MAX_READ_BYTES`]. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotHere`] if a group of it is not here yet; [`StoreError::Mismatch`] if the file is no longer
    /// what was hashed: it is then no longer offered, and of a file of our own only what is wrong is fetched anew.
    pub fn read(&self, range: ByteRange) -> Result<Bytes, StoreError> {
        let end = range.end.min(self.size).min(range.start.saturating_add(MAX_READ_BYTES));
        let range = ByteRange::new(range.start.min(end), end);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if let Some(live) = &self.live
            && !live.has(range.groups())
        {
            return Err(StoreError::NotHere { hash: self.hash });
        }
        self.read_checked(range)
    }

    /// Sends `groups` as iroh-blobs does; see [`Encoder`].
    pub fn encode(self: &Arc<Self>, groups: impl Into<GroupSet>) -> Encoder {
        Encoder::new(Arc::clone(self), groups.into())
    }

    /// Sends the tree from parent number `from` (in pre-order) on; `None` if not all of it is here.
    pub fn encode_tree(self: &Arc<Self>, from: u64) -> Option<TreeEncoder> {
        let whole = self.live.as_ref().is_none_or(PartialBlob::has_tree);
        whole.then(|| TreeEncoder::new(Arc::clone(self), from))
    }

    pub(super) fn data(&self) -> &File {
        &self.data
    }

    fn read_plain(&self, range: ByteRange) -> Result<Bytes, StoreError> {
        let len = range.len() as usize;
        // Not cleared first: that would be a tenth of all that serving a byte costs.
        let mut buffer = Vec::with_capacity(len);
        while buffer.len() < len {
            let at = range.start + buffer.len() as u64;
            match rustix::io::pread(&self.data, spare_capacity(&mut buffer), at) {
                Ok(0) => return Err(self.read_error(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.read_error(error.into())),
            }
        }
        buffer.truncate(len);
        Ok(buffer.into())
    }

    /// Reads the groups that `range` touches, checks each against the root, and cuts out what was asked for.
    fn read_checked(&self, range: ByteRange) -> Result<Bytes, StoreError> {
        let groups = range.groups();
        let whole = ByteRange::of_groups(groups.clone(), self.size);
        let bytes = self.read_plain(whole)?;
        let mut stack = vec![(Node::root(self.size), *self.hash.as_bytes())];
        let mut window = TreeWindow::default();
        while let Some((node, hash)) = stack.pop() {
            if node.end() <= groups.start || groups.end <= node.start {
                continue;
            }
            // All that lies beneath is here: one hash tells of it. Where it is wrong, its leaves tell which byte.
            if groups.start <= node.start && node.end() <= groups.end {
                let beneath = node.bytes(self.size);
                let at = (beneath.start - whole.start) as usize;
                if node.hash_all(&bytes[at..at + beneath.len() as usize]) == hash {
                    continue;
                }
                if node.is_leaf() {
                    return Err(self.mismatch(beneath.start, Wrong::Bytes));
                }
            }
            let [left, right] = self.checked_children(&node, &hash, &mut window)?;
            stack.push(right);
            stack.push(left);
        }
        let skip = (range.start - whole.start) as usize;
        Ok(bytes.slice(skip..skip + range.len() as usize))
    }

    fn checked_children(
        &self,
        node: &Node,
        hash: &Cv,
        window: &mut TreeWindow,
    ) -> Result<[(Node, Cv); 2], StoreError> {
        let pair = self.parent(node, window)?;
        if node.hash_parent(&pair) != *hash {
            return Err(self.mismatch(node.start * GROUP_BYTES, Wrong::Tree));
        }
        let ((left, right), (left_hash, right_hash)) = (node.children(), split_pair(&pair));
        Ok([(left, left_hash), (right, right_hash)])
    }

    /// The two child hashes of a parent, unchecked.
    pub(super) fn parent(
        &self,
        node: &Node,
        window: &mut TreeWindow,
    ) -> Result<[u8; PARENT_BYTES], StoreError> {
        let place = node.start * GROUP_BYTES;
        let tree = self.tree.as_ref().ok_or_else(|| self.mismatch(place, Wrong::Tree))?;
        window.parent(tree, node).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.mismatch(place, Wrong::Tree),
            _ => StoreError::io(&self.path, e),
        })
    }

    /// Says that what lies at `offset` is wrong, and sees to it that it is not offered again.
    pub(super) fn mismatch(&self, offset: u64, wrong: Wrong) -> StoreError {
        if let Err(error) = self.blobs.doubt(self, wrong) {
            tracing::warn!(hash = %self.hash, %error, "wrong bytes could not be dropped");
        }
        StoreError::Mismatch { hash: self.hash, offset }
    }

    /// A file that ends early has been changed; anything else is the disk's fault.
    pub(super) fn read_error(&self, error: io::Error) -> StoreError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let end = self.data.metadata().map_or(0, |m| m.len()).min(self.size);
            return self.mismatch(end, Wrong::Bytes);
        }
        StoreError::io(&self.path, error)
    }
}

/// Reads parents of a tree file a window at a time: neighbours in pre-order are asked for one after another.
#[derive(Debug, Default)]
pub(super) struct TreeWindow {
    start: u64,
    bytes: Vec<u8>,
}

/// Bytes of a tree that are read at once.
const WINDOW_BYTES: usize = 4096;

impl TreeWindow {
    pub(super) fn parent(&mut self, tree: &File, node: &Node) -> io::Result<[u8; PARENT_BYTES]> {
        let offset = node.offset();
        let inside =
            offset >= self.start && offset + PARENT_BYTES as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            self.fill(tree, offset)?;
        }
        let at = (offset - self.start) as usize;
        let mut pair = [0; PARENT_BYTES];
        match self.bytes.get(at..at + PARENT_BYTES) {
            Some(bytes) => pair.copy_from_slice(bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(pair)
    }

    fn fill(&mut self, tree: &File, offset: u64) -> io::Result<()> {
        self.bytes.resize(WINDOW_BYTES, 0);
        self.start = offset;
        let got = read_at_most(tree, &mut self.bytes, offset)?;
        self.bytes.truncate(got);
        Ok(())
    }
}

/// Fills `buffer` from `offset` on.
pub(super) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Reads until `buffer` is full or the file ends.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Opens the tree of a blob that has more than one group.
pub(super) fn open_tree(path: &Path, size: u64) -> Result<Option<File>, StoreError> {
    if Node::root(size).is_leaf() {
        return Ok(None);
    }
    File::open(path).map(Some).map_err(|e| StoreError::io(path, e))
}
