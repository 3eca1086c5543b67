//! Folders of files to publish, and whether two folders hold the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use tempfile::TempDir;

/// 1,048,576 bytes.
pub const MIB: usize = 1024 * 1024;

/// That many bytes that nothing compresses and no other test has.
pub fn random_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A folder of the test's own.
#[derive(Debug)]
pub struct Tree {
    dir: TempDir,
}

impl Tree {
    /// An empty folder.
    ///
    /// # Errors
    /// If the temporary folder cannot be written.
    pub fn new() -> Result<Self> {
        Ok(Self { dir: TempDir::with_prefix("hubless-tree-")? })
    }

    /// A small model: a config, a readme in a folder, weights of `mib` MiB and some bytes, and an empty file.
    ///
    /// # Errors
    /// If the temporary folder cannot be written.
    pub fn model(mib: usize) -> Result<Self> {
        let tree = Self::new()?;
        tree.write("config.json", b"{\"model_type\": \"bert\"}\n")?;
        tree.write("docs/README of it.md", b"# A model\n")?;
        tree.write("model.safetensors", &random_bytes(mib * MIB + 12_345))?;
        tree.write("tokenizer.json", &random_bytes(300_000))?;
        tree.write("empty", b"")?;
        Ok(tree)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file, and the folders above it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, bytes)?;
        Ok(path)
    }

    /// Bytes of all its files together.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn bytes(&self) -> Result<u64> {
        Ok(contents(self.path())?.values().map(|bytes| bytes.len() as u64).sum())
    }
}

/// Fails unless both folders hold the same files with the same bytes. What clients keep for themselves
/// (`.cache`) does not count.
///
/// # Errors
/// Names the first file that differs.
pub fn same_files(expected: &Path, found: &Path) -> Result<()> {
    let (expected, found) = (contents(expected)?, contents(found)?);
    let names = |map: &BTreeMap<String, Vec<u8>>| map.keys().cloned().collect::<Vec<_>>();
    ensure!(names(&expected) == names(&found), "files {:?}, expected {:?}", names(&found), names(&expected));
    for (name, bytes) in &expected {
        ensure!(
            found[name] == *bytes,
            "`{name}` differs: {} bytes, expected {}",
            found[name].len(),
            bytes.len()
        );
    }
    Ok(())
}

fn contents(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.strip_prefix(dir)?.to_string_lossy().into_owned();
            if name.starts_with(".cache") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(all)
}
