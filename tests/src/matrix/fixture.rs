//! What the clients are to find: a folder for each repository.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::files::{MIB, Tree, random_bytes};

/// A repository's address, such as `datasets/acme/rows`, is also its folder within the fixture.
const REPOS: [&str; 8] = [
    "acme/tiny",
    "acme/big",
    "acme/words",
    "acme/vocabulary",
    "datasets/acme/rows",
    "datasets/acme/columns",
    "datasets/acme/long",
    "spaces/acme/app",
];

/// Bytes of the large file: long enough to be killed in the middle of.
const BIG: usize = 24 * MIB + 7;

/// What tells git-lfs which files are its own; every repository on the Hub has one.
const ATTRIBUTES: &[u8] = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n\
    *.onnx filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n";

const CARD: &str = "---\nlicense: mit\ntags:\n- small\npipeline_tag: text-generation\n---\n# Tiny\n";

/// The folders. They go away with it.
#[derive(Debug)]
pub struct Fixture {
    tree: Tree,
}

impl Fixture {
    /// Writes all that needs no library: `make.py` writes tokenizers and Parquet files beside it.
    ///
    /// # Errors
    /// If the temporary folder cannot be written.
    pub fn new() -> Result<Self> {
        let tree = Tree::new()?;
        let rows: String = (0..500).map(|n| format!("{{\"n\": {n}, \"text\": \"row {n}\"}}\n")).collect();
        let files: [(&str, &[u8]); 14] = [
            ("acme/tiny/README.md", CARD.as_bytes()),
            ("acme/tiny/.gitattributes", ATTRIBUTES),
            ("acme/big/.gitattributes", ATTRIBUTES),
            ("acme/tiny/config.json", b"{\"model_type\": \"bert\"}\n"),
            ("acme/tiny/tokenizer.json", &random_bytes(300_000)),
            ("acme/tiny/model.safetensors", &random_bytes(9 * MIB + 12_345)),
            ("acme/tiny/empty", b""),
            ("acme/tiny/100%.txt", b"percent\n"),
            ("acme/tiny/onnx/model.onnx", &random_bytes(70_000)),
            ("acme/tiny/onnx/sub dir/a,b+c.txt", b"odd\n"),
            ("acme/big/model.safetensors", &random_bytes(BIG)),
            ("acme/big/config.json", b"{}\n"),
            ("datasets/acme/rows/lines/train.jsonl", rows.as_bytes()),
            ("spaces/acme/app/app.py", b"print('app')\n"),
        ];
        for (path, bytes) in files {
            tree.write(path, bytes)?;
        }
        Ok(Self { tree })
    }

    /// The folder over all of them.
    pub fn path(&self) -> &Path {
        self.tree.path()
    }

    /// Every repository and its folder.
    pub fn repos(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        REPOS.into_iter().map(|repo| (repo, self.path().join(repo)))
    }
}
