//! A data folder, and commands run on it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::node::{Node, RunOptions};

/// Longest time any command of a story may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// The binary under test: `$HUBLESS_BIN`, else the one beside the tests in the target folder.
///
/// # Errors
/// If there is none.
pub fn hubless_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HUBLESS_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("a test lies in target/<profile>/deps")?;
    let path = profile.join("hubless");
    ensure!(
        path.exists(),
        "there is no `{}`: run `cargo build -p hubless` first, or all of it with scripts/test",
        path.display()
    );
    Ok(path)
}

/// A data folder that goes away with the test.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
}

/// What became of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Home {
    /// A new data folder.
    ///
    /// # Errors
    /// If the temporary folder cannot be written.
    pub fn new() -> Result<Self> {
        Ok(Self { dir: TempDir::with_prefix("hubless-home-")? })
    }

    /// The data folder; it does not exist before a command makes it.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A place beside the data folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a node that nobody knows yet.
    ///
    /// # Errors
    /// If it does not serve in time.
    pub async fn start(&self) -> Result<Node> {
        self.start_with(RunOptions::default()).await
    }

    /// Starts a node that knows others.
    ///
    /// # Errors
    /// If it does not serve in time.
    pub async fn join(&self, others: &[&Node]) -> Result<Node> {
        self.start_with(RunOptions::knowing(others)).await
    }

    /// Starts a node.
    ///
    /// # Errors
    /// If it does not serve in time.
    pub async fn start_with(&self, options: RunOptions) -> Result<Node> {
        Node::start(&self.data(), &self.beside("log"), options).await
    }

    /// Runs `hubless --data DIR --json …` to its end.
    ///
    /// # Errors
    /// If it cannot be started or does not end in time.
    pub async fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Outcome> {
        run_at(&self.data(), args).await
    }

    /// Runs it and returns the result of its last line.
    ///
    /// # Errors
    /// If it fails.
    pub async fn done<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Value> {
        self.run(args).await?.done()
    }

    /// Runs a command that answers with one object.
    ///
    /// # Errors
    /// If it fails.
    pub async fn done_object<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Value> {
        self.run(args).await?.ok()?.lines()?.pop().context("it printed nothing")
    }

    /// Publishes a folder and returns its commit.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn add(&self, dir: &Path, repo: &str) -> Result<String> {
        let report = self.done(&[OsStr::new("add"), dir.as_os_str(), OsStr::new(repo)]).await?;
        Ok(report["commit"].as_str().context("a report names its commit")?.to_owned())
    }
}

async fn run_at<S: AsRef<OsStr>>(data: &Path, args: &[S]) -> Result<Outcome> {
    let mut command = Command::new(hubless_binary()?);
    command.arg("--data").arg(data).arg("--json").args(args);
    outcome_of(command).await
}

/// Runs any command to its end.
pub(crate) async fn outcome_of(mut command: Command) -> Result<Outcome> {
    let shown = format!("{:?}", command.as_std());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_LIMIT, command.output())
        .await
        .with_context(|| format!("{shown} did not end within {COMMAND_LIMIT:?}"))??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Outcome {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    })
}

impl Outcome {
    /// Itself, if the command succeeded.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "exit code {}\n{}\n{}", self.code, self.out, self.err);
        Ok(self)
    }

    /// Every line of its output.
    ///
    /// # Errors
    /// If one is no JSON: `--json` promises that all are.
    pub fn lines(&self) -> Result<Vec<Value>> {
        let parse = |line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// The result in its last line.
    ///
    /// # Errors
    /// If it failed, or its last line holds no result.
    pub fn done(self) -> Result<Value> {
        let mut last = self.ok()?.lines()?.pop().context("it printed nothing")?;
        ensure!(last["event"] == "done", "the last line is {last}");
        Ok(last["result"].take())
    }

    /// Fails unless it ended with `code`, an error that holds every one of `parts`, and a hint.
    ///
    /// # Errors
    /// What it said instead.
    pub fn refused(&self, code: i32, parts: &[&str]) -> Result<()> {
        if self.code != code || !self.err.contains("error: ") || !self.err.contains("hint: ") {
            bail!(
                "expected exit code {code}, an error and a hint; got {}\n{}\n{}",
                self.code,
                self.out,
                self.err
            );
        }
        for part in parts {
            ensure!(self.err.contains(part), "{:?} is not in:\n{}", part, self.err);
        }
        Ok(())
    }
}
