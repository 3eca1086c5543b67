//! How the files of a manifest lie in rows: in chunks, each under the path of its first file.
//!
//! One file of a manifest of a million is found by reading one chunk. Paths are kept as what differs from the path
//! before, so a row costs little more than its digests.

use hubless_types::{BlobId, CommitId, FileEntry, FileMode, Lfs, RepoPath, TreeId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::codec::{self, Record};
use crate::error::{Result, StoreError};

/// Files, or folders, in one row.
pub(super) const CHUNK_ROWS: usize = 256;

/// `commit 0`: the head.
pub(super) const HEAD: u8 = 0;
/// `commit 1 path`: files.
pub(super) const FILES: u8 = 1;
/// `commit 2 path`: folders.
pub(super) const FOLDERS: u8 = 2;

pub(super) fn key(commit: CommitId, tag: u8, path: &str) -> Vec<u8> {
    [&commit.as_bytes()[..], &[tag], path.as_bytes()].concat()
}

/// What a chunk says of one path, apart from the path.
pub(super) trait Item: Sized {
    type Rest: Serialize + DeserializeOwned;
    const TAG: u8;

    fn path(&self) -> &RepoPath;
    fn rest(&self) -> Self::Rest;
    fn join(path: RepoPath, rest: Self::Rest) -> Self;
}

impl Item for FileEntry {
    type Rest = (FileMode, BlobId, u64, Option<Lfs>);
    const TAG: u8 = FILES;

    fn path(&self) -> &RepoPath {
        &self.path
    }

    fn rest(&self) -> Self::Rest {
        (self.mode, self.blob, self.size, self.lfs)
    }

    fn join(path: RepoPath, (mode, blob, size, lfs): Self::Rest) -> Self {
        Self { path, mode, blob, size, lfs }
    }
}

impl Item for (RepoPath, TreeId) {
    type Rest = TreeId;
    const TAG: u8 = FOLDERS;

    fn path(&self) -> &RepoPath {
        &self.0
    }

    fn rest(&self) -> TreeId {
        self.1
    }

    fn join(path: RepoPath, tree: TreeId) -> Self {
        (path, tree)
    }
}

/// Each path as the count of bytes it shares with the one before, and its own end.
#[derive(Serialize, Deserialize)]
#[serde(bound = "R: Serialize + DeserializeOwned")]
struct Chunk<R> {
    rows: Vec<(u32, String, R)>,
}

impl<R: Serialize + DeserializeOwned> Record for Chunk<R> {
    const NAME: &'static str = "manifest rows";
}

/// The rows of items that are sorted by path.
pub(super) fn encode<T: Item>(
    commit: CommitId,
    items: &[T],
) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> {
    items.chunks(CHUNK_ROWS).map(move |some| {
        let mut before = "";
        let mut rows = Vec::with_capacity(some.len());
        for item in some {
            let path = item.path().as_str();
            let shared = shared_bytes(before, path);
            rows.push((shared as u32, path[shared..].to_owned(), item.rest()));
            before = path;
        }
        let first = some.first().map_or("", |item| item.path().as_str());
        Ok((key(commit, T::TAG, first), codec::encode(&Chunk { rows })?))
    })
}

/// Reads one row.
pub(super) fn decode<T: Item>(value: &[u8]) -> Result<Vec<T>> {
    let chunk: Chunk<T::Rest> = codec::decode(value)?;
    let mut before = String::new();
    let mut items = Vec::with_capacity(chunk.rows.len());
    for (shared, end, rest) in chunk.rows {
        let start = before.get(..shared as usize).ok_or_else(|| bad_path("it shares more than there is"))?;
        let text = format!("{start}{end}");
        let path = text.parse().map_err(bad_path)?;
        items.push(T::join(path, rest));
        before = text;
    }
    Ok(items)
}

fn bad_path(why: impl ToString) -> StoreError {
    StoreError::corrupt("manifest path", why)
}

/// How many bytes two texts begin with alike, cut where both have a character's end.
fn shared_bytes(a: &str, b: &str) -> usize {
    let alike = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    (0..=alike).rev().find(|&at| a.is_char_boundary(at) && b.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hubless_types::{CommitInfo, Manifest, Sha256, Timestamp};
    use proptest::prelude::*;

    /// A commit with `files` files in a few folders.
    pub(in crate::catalogue) fn manifest(number: u32, files: usize) -> Manifest {
        let mut id = [0; 20];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let entries =
            (0..files).map(|n| entry(&format!("data/part-{:02}/shard {n:07}.bin", n % 100), n as u64));
        let mut folders: Vec<_> = (0..files.min(100)).map(|n| format!("data/part-{n:02}")).collect();
        folders.extend((files > 0).then(|| "data".to_owned()));
        let folders = folders.iter().map(|f| (f.parse().unwrap(), TreeId::from_bytes([3; 20])));
        let info = CommitInfo {
            tree: TreeId::from_bytes([2; 20]),
            parents: vec![CommitId::from_bytes([8; 20])],
            author: "A <a@example.org>".into(),
            time: Timestamp(1_700_000_000),
            message: "first\n\nmore".into(),
        };
        Manifest::new(CommitId::from_bytes(id), info, entries.collect(), folders.collect()).unwrap()
    }

    pub(in crate::catalogue) fn entry(path: &str, seed: u64) -> FileEntry {
        let (mut blob, mut sha256) = ([1; 20], [2; 32]);
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        blob[..8].copy_from_slice(&mixed);
        sha256[..8].copy_from_slice(&mixed);
        let lfs =
            seed.is_multiple_of(2).then(|| Lfs { sha256: Sha256::from_bytes(sha256), pointer_size: 132 });
        FileEntry {
            path: path.parse().unwrap(),
            mode: FileMode::Regular,
            blob: BlobId::from_bytes(blob),
            size: seed,
            lfs,
        }
    }

    proptest! {
        #[test]
        fn any_paths_come_back(paths in prop::collection::btree_set("[aé日/.]{1,12}|x{0,9}", 0..600)) {
            let paths = paths.iter().filter(|p| p.parse::<RepoPath>().is_ok());
            let mut entries: Vec<_> = paths.enumerate().map(|(n, p)| entry(p, n as u64)).collect();
            entries.sort_by(|a, b| a.path.cmp(&b.path));
            let rows: Result<Vec<_>> = encode(CommitId::from_bytes([1; 20]), &entries).collect();
            let read: Vec<FileEntry> = rows.unwrap().iter().flat_map(|(_, v)| decode(v).unwrap()).collect();
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn damaged_rows_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut value = vec![1];
            value.extend(bytes);
            let _ = decode::<FileEntry>(&value);
        }
    }
}
