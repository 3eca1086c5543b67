//! The files and folders of a commit, as `git ls-tree` lists them, LFS pointers read.

use std::path::Path;

use anyhow::{Context as _, Result};
use hubless_proof::Pointer;
use hubless_types::{CommitId, POINTER_MAX_BYTES};

use super::repo::{run, text};

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    /// Blob or tree.
    pub(crate) oid: String,
    pub(crate) folder: bool,
    /// Of the blob itself.
    pub(crate) blob_size: u64,
    pub(crate) pointer: Option<Pointer>,
}

impl Entry {
    /// Bytes of the real content.
    pub(crate) fn size(&self) -> u64 {
        self.pointer.map_or(self.blob_size, |pointer| pointer.size)
    }
}

/// All of them, by path; submodules are left out, as the Hub does.
pub(crate) async fn listing(dir: &Path, commit: CommitId) -> Result<Vec<Entry>> {
    let out = run(dir, &["ls-tree", "-r", "-t", "-l", "-z", "--full-tree", &commit.to_string()], b"").await?;
    let mut entries = Vec::new();
    for line in text(&out).split('\0').filter(|line| !line.is_empty()) {
        let (fields, path) = line.split_once('\t').context("ls-tree puts a tab before the path")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [_mode, kind, oid, size] = fields[..] else { anyhow::bail!("ls-tree says `{line}`") };
        if kind != "commit" {
            entries.push(Entry {
                path: path.to_owned(),
                oid: oid.to_owned(),
                folder: kind == "tree",
                blob_size: size.parse().unwrap_or(0),
                pointer: None,
            });
        }
    }
    read_pointers(dir, &mut entries).await?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Reads every blob that is small enough to be one.
async fn read_pointers(dir: &Path, entries: &mut [Entry]) -> Result<()> {
    let small = |e: &&mut Entry| !e.folder && e.blob_size < POINTER_MAX_BYTES;
    let mut small: Vec<&mut Entry> = entries.iter_mut().filter(small).collect();
    let asked: String = small.iter().map(|entry| format!("{}\n", entry.oid)).collect();
    let out = run(dir, &["cat-file", "--batch"], asked.as_bytes()).await?;
    let mut rest = &out[..];
    for entry in &mut small {
        // `OID blob SIZE\n`, the content, `\n`.
        let end = rest.iter().position(|b| *b == b'\n').context("cat-file answers each")? + 1;
        let size = entry.blob_size as usize;
        let content = rest.get(end..end + size).context("cat-file gives each blob whole")?;
        entry.pointer = Pointer::parse(content);
        rest = &rest[end + size + 1..];
    }
    Ok(())
}
