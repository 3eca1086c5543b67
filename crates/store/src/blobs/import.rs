//! Takes a file in: one pass over its bytes makes the BLAKE3 tree and the digest that git or LFS knows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hubless_types::{BlobHash, BlobId, FileDigest, GROUP_BYTES, Sha256};
use sha2::Digest as _;

use super::front::BLOCK_GROUPS;
use super::tree::{Cv, Node, PARENT_BYTES, join_pair};

/// Bytes that are read at once and passed from the tree's thread to the digest's.
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces on their way between the two threads.
const PIECES: usize = 6;

/// Which digest names the file beside its BLAKE3 root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestKind {
    /// SHA-256 of the content: a file that LFS keeps.
    Sha256,
    /// SHA-1 of the git blob: a file that git keeps.
    GitBlob,
}

impl DigestKind {
    /// The kind of an existing digest.
    pub const fn of(digest: &FileDigest) -> Self {
        match digest {
            FileDigest::Sha256(_) => Self::Sha256,
            FileDigest::Git(_) => Self::GitBlob,
        }
    }
}

/// A digest in the making.
#[derive(Clone)]
pub(super) enum Digester {
    Sha256(sha2::Sha256),
    Git(Box<sha1_checked::Sha1>),
}

impl Digester {
    /// For a file of `size` bytes: git's digest begins with the size.
    pub(super) fn new(kind: DigestKind, size: u64) -> Self {
        match kind {
            DigestKind::Sha256 => Self::Sha256(sha2::Sha256::new()),
            DigestKind::GitBlob => {
                let mut sha1 = Box::new(sha1_checked::Sha1::new());
                sha1_checked::Digest::update(sha1.as_mut(), format!("blob {size}\0"));
                Self::Git(sha1)
            }
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(d) => d.update(bytes),
            Self::Git(d) => sha1_checked::Digest::update(d.as_mut(), bytes),
        }
    }

    /// `None` if the content was made to collide with another's SHA-1.
    pub(super) fn finish(self) -> Option<FileDigest> {
        match self {
            Self::Sha256(d) => Some(FileDigest::Sha256(Sha256::from_bytes(d.finalize().into()))),
            Self::Git(d) => {
                let result = d.try_finalize();
                let hash = BlobId::from_bytes((*result.hash()).into());
                (!result.has_collision()).then_some(FileDigest::Git(hash))
            }
        }
    }
}

/// What one pass found.
pub(super) struct Hashed {
    pub(super) hash: BlobHash,
    /// `None` for a SHA-1 collision.
    pub(super) digest: Option<FileDigest>,
}

/// Hashes the first `size` bytes of `data`, writes its parents to `tree` and, where wanted, its bytes to `copy`.
///
/// # Errors
/// Of reading or writing; [`io::ErrorKind::UnexpectedEof`] if the file is shorter than `size`.
pub(super) fn hash_file(
    data: &File,
    size: u64,
    kind: DigestKind,
    tree: Option<&File>,
    copy: Option<&File>,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<Hashed> {
    if size <= PIECE_BYTES as u64 {
        return hash_small(data, size, kind, tree, copy, progress);
    }
    std::thread::scope(|scope| {
        let (full, full_inbox) = sync_channel::<(Vec<u8>, usize)>(PIECES);
        let (empty, empty_inbox) = sync_channel::<Vec<u8>>(PIECES);
        for _ in 0..PIECES {
            let _ = empty.send(vec![0; PIECE_BYTES]);
        }
        let digest = scope.spawn(move || {
            let mut digester = Digester::new(kind, size);
            while let Ok((piece, len)) = full_inbox.recv() {
                digester.update(&piece[..len]);
                let _ = empty.send(piece);
            }
            digester.finish()
        });
        let source =
            Source { data, size, copy, progress, full, empty: empty_inbox, piece: Vec::new(), at: 0, pos: 0 };
        let mut builder = Builder { source, tree, block: None };
        let root = builder.build(Node::root(size))?;
        builder.source.hand_over();
        drop(builder);
        let digest = digest.join().map_err(|_| io::Error::other("the hashing thread ended early"))?;
        Ok(Hashed { hash: BlobHash::from_bytes(root), digest })
    })
}

/// One piece needs no second thread.
fn hash_small(
    data: &File,
    size: u64,
    kind: DigestKind,
    tree: Option<&File>,
    copy: Option<&File>,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<Hashed> {
    let mut bytes = vec![0; size as usize];
    data.read_exact_at(&mut bytes, 0)?;
    if let Some(copy) = copy {
        copy.write_all_at(&bytes, 0)?;
    }
    let mut digester = Digester::new(kind, size);
    digester.update(&bytes);
    let mut parents = vec![0; (Node::root(size).groups as usize - 1) * PARENT_BYTES];
    let root = build_in_memory(Node::root(size), &bytes, &mut parents);
    if let Some(tree) = tree {
        tree.write_all_at(&parents, 0)?;
    }
    progress(size);
    Ok(Hashed { hash: BlobHash::from_bytes(root), digest: digester.finish() })
}

fn build_in_memory(node: Node, bytes: &[u8], parents: &mut [u8]) -> Cv {
    if node.is_leaf() {
        let leaf = node.bytes(bytes.len() as u64);
        return node.hash_all(&bytes[leaf.start as usize..leaf.end as usize]);
    }
    let (left, right) = node.children();
    let pair = join_pair(&build_in_memory(left, bytes, parents), &build_in_memory(right, bytes, parents));
    let at = node.offset() as usize;
    parents[at..at + PARENT_BYTES].copy_from_slice(&pair);
    node.hash_parent(&pair)
}

/// Yields a file's groups in order; each piece goes on to the digest when its last group was taken.
struct Source<'a> {
    data: &'a File,
    size: u64,
    copy: Option<&'a File>,
    progress: &'a (dyn Fn(u64) + Sync),
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    /// Where the file is read next.
    at: u64,
    /// Where the piece is taken next.
    pos: usize,
}

impl Source<'_> {
    fn piece_len(&self) -> usize {
        if self.at == 0 { 0 } else { (self.at - 1) as usize % PIECE_BYTES + 1 }
    }

    fn hand_over(&mut self) {
        let len = self.piece_len();
        if len > 0 {
            let _ = self.full.send((std::mem::take(&mut self.piece), len));
        }
    }

    fn next_piece(&mut self) -> io::Result<()> {
        self.hand_over();
        self.piece = self.empty.recv().map_err(|_| io::Error::other("the hashing thread ended early"))?;
        let len = (self.size - self.at).min(PIECE_BYTES as u64) as usize;
        self.data.read_exact_at(&mut self.piece[..len], self.at)?;
        if let Some(copy) = self.copy {
            copy.write_all_at(&self.piece[..len], self.at)?;
        }
        self.at += len as u64;
        self.pos = 0;
        (self.progress)(len as u64);
        Ok(())
    }

    fn hash_next_leaf(&mut self, leaf: Node) -> io::Result<Cv> {
        if self.pos == self.piece_len() {
            self.next_piece()?;
        }
        let end = (self.pos + GROUP_BYTES as usize).min(self.piece_len());
        let cv = leaf.hash_all(&self.piece[self.pos..end]);
        self.pos = end;
        Ok(cv)
    }
}

/// Builds the tree from the left, a block of parents in memory at a time.
struct Builder<'a> {
    source: Source<'a>,
    tree: Option<&'a File>,
    /// The parents of the subtree that is being built, and the place of the first.
    block: Option<(u64, Vec<u8>)>,
}

impl Builder<'_> {
    fn build(&mut self, node: Node) -> io::Result<Cv> {
        if node.is_leaf() {
            return self.source.hash_next_leaf(node);
        }
        let opens_block = self.block.is_none() && node.groups <= BLOCK_GROUPS;
        if opens_block {
            self.block = Some((node.place, vec![0; (node.groups as usize - 1) * PARENT_BYTES]));
        }
        let (left, right) = node.children();
        let pair = join_pair(&self.build(left)?, &self.build(right)?);
        self.put(&node, &pair)?;
        if opens_block && let Some((place, bytes)) = self.block.take() {
            self.write(&bytes, place * PARENT_BYTES as u64)?;
        }
        Ok(node.hash_parent(&pair))
    }

    fn put(&mut self, node: &Node, pair: &[u8; PARENT_BYTES]) -> io::Result<()> {
        match &mut self.block {
            Some((first, bytes)) => {
                let at = (node.place - *first) as usize * PARENT_BYTES;
                bytes[at..at + PARENT_BYTES].copy_from_slice(pair);
                Ok(())
            }
            None => self.write(pair, node.offset()),
        }
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.tree.map_or(Ok(()), |tree| tree.write_all_at(bytes, offset))
    }
}

/// The digest of a whole open file, for a proof. Reads it once, in order.
pub(super) fn digest_file(data: &File, size: u64, kind: DigestKind) -> io::Result<Option<FileDigest>> {
    let mut digester = Digester::new(kind, size);
    let mut buffer = vec![0; PIECE_BYTES.min(size as usize)];
    let mut at = 0;
    while at < size {
        let len = (size - at).min(PIECE_BYTES as u64) as usize;
        data.read_exact_at(&mut buffer[..len], at)?;
        digester.update(&buffer[..len]);
        at += len as u64;
    }
    Ok(digester.finish())
}

/// The digest of bytes that are in memory; `None` if they were made to collide with another file's SHA-1.
pub fn digest_bytes(bytes: &[u8], kind: DigestKind) -> Option<FileDigest> {
    let mut digester = Digester::new(kind, bytes.len() as u64);
    digester.update(bytes);
    digester.finish()
}

/// Where a link in a folder really leads, as an absolute path that stays valid from any folder.
pub(super) fn real_path(path: &Path) -> io::Result<std::path::PathBuf> {
    std::fs::canonicalize(path)
}
