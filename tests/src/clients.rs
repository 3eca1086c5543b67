//! The real Python clients, in the environment that `scripts/test` makes.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::home::{Outcome, outcome_of};
use crate::node::Node;

/// A user's Python, pointed at a node, with a cache of its own.
#[derive(Debug)]
pub struct Python {
    bin: PathBuf,
    home: TempDir,
    endpoint: String,
}

impl Python {
    /// Clients of `node`.
    ///
    /// # Errors
    /// If there is no environment: a story that cannot be told must not look as if it had been.
    pub fn of(node: &Node) -> Result<Self> {
        let bin = environment().join("bin");
        ensure!(
            bin.join("hf").exists(),
            "there is no `{}`: scripts/test makes the Python environment (or name one in HUBLESS_TEST_VENV)",
            bin.join("hf").display()
        );
        Ok(Self { bin, home: TempDir::with_prefix("hubless-hf-")?, endpoint: node.http.clone() })
    }

    /// Its `HF_HOME`.
    pub fn hf_home(&self) -> &Path {
        self.home.path()
    }

    /// `hf ARGS`.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn hf(&self, args: &[&str]) -> Result<Outcome> {
        let mut command = self.command("hf");
        command.args(args);
        outcome_of(command).await
    }

    /// Runs a Python program.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn run(&self, program: &str, args: &[&str]) -> Result<Outcome> {
        let mut command = self.command("python");
        command.arg("-c").arg(program).args(args);
        outcome_of(command).await
    }

    /// Runs a Python file.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn file(&self, path: &str, args: &[&str]) -> Result<Outcome> {
        let mut command = self.command("python");
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(path).args(args);
        outcome_of(command).await
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .env("HF_ENDPOINT", &self.endpoint)
            .env("HF_HOME", self.home.path())
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            .env("NO_PROXY", "127.0.0.1,localhost")
            .current_dir(self.home.path());
        for name in
            ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "TRANSFORMERS_OFFLINE"]
        {
            command.env_remove(name);
        }
        command
    }
}

/// The main environment's folder.
pub(crate) fn environment() -> PathBuf {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    folder("HUBLESS_TEST_VENV").unwrap_or_else(|| {
        let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
        cache.unwrap_or_default().join("hubless/venv")
    })
}
