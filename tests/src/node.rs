//! A running node.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::home::hubless_binary;
use crate::http;

/// Longest time a node may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How soon a node must be gone after SIGTERM: the promise of the command line.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How a node is started.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Addresses of other nodes.
    pub bootstrap: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// What it logs, as `HUBLESS_LOG` says it; empty for what it logs by itself.
    pub log: String,
}

impl RunOptions {
    /// Knowing these nodes.
    pub fn knowing(others: &[&Node]) -> Self {
        let bootstrap = others.iter().map(|node| node.bootstrap.clone()).collect();
        Self { bootstrap, ..Self::default() }
    }

    /// Below these origins, asked in this order.
    #[must_use]
    pub fn below(mut self, origins: &[String]) -> Self {
        self.args.extend(origins.iter().flat_map(|url| ["--origin".to_owned(), url.clone()]));
        self
    }

    /// With a config of this text, written to `path`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn config(mut self, path: &Path, text: &str) -> Result<Self> {
        std::fs::write(path, text)?;
        self.args.extend(["--config".to_owned(), path.display().to_string()]);
        Ok(self)
    }
}

/// A running node. Dropping it kills its process.
#[derive(Debug)]
pub struct Node {
    child: Child,
    data: PathBuf,
    log: PathBuf,
    /// Where Hub clients find it.
    pub http: String,
    /// Who it is.
    pub id: String,
    /// What others give to `--bootstrap`.
    pub bootstrap: String,
    /// Its admin socket.
    pub socket: PathBuf,
}

impl Node {
    pub(crate) async fn start(data: &Path, log: &Path, options: RunOptions) -> Result<Self> {
        let mut command = Command::new(hubless_binary()?);
        command.arg("--data").arg(data);
        command.args("run --http 127.0.0.1:0 --listen 127.0.0.1:0 --no-mdns --json".split(' '));
        if !options.args.iter().any(|arg| arg == "--origin") {
            command.arg("--no-origin");
        }
        for peer in &options.bootstrap {
            command.args(["--bootstrap", peer]);
        }
        if !options.log.is_empty() {
            command.env("HUBLESS_LOG", &options.log);
        }
        command.args(&options.args).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::options().create(true).append(true).open(log)?).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let first = tokio::time::timeout(START_LIMIT, lines.next_line()).await;
        let Ok(Ok(Some(line))) = first else {
            bail!("the node did not serve: {}", std::fs::read_to_string(log).unwrap_or_default());
        };
        let said: Value =
            serde_json::from_str(&line).with_context(|| format!("the first line is no JSON: {line}"))?;
        let text = |key: &str| {
            said[key].as_str().map(str::to_owned).with_context(|| format!("no `{key}` in {line}"))
        };
        Ok(Self {
            http: text("http")?,
            id: text("node")?,
            bootstrap: text("bootstrap")?,
            socket: text("socket")?.into(),
            data: data.to_owned(),
            log: log.to_owned(),
            child,
        })
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its last eight characters, as reports name it.
    pub fn short(&self) -> &str {
        &self.id[self.id.len() - 8..]
    }

    /// A file of a model, by its name.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn file(&self, repo: &str, revision: &str, path: &str) -> Result<http::Answer> {
        http::get(&format!("{}/{repo}/resolve/{revision}/{path}", self.http)).await
    }

    /// Asks it to stop, and waits; fails unless it ends well and in time, and leaves neither process nor socket.
    ///
    /// # Errors
    /// What it left or how it ended.
    pub async fn stop(mut self) -> Result<Duration> {
        let pid = self.pid()?;
        let asked = Instant::now();
        kill_process(pid, Signal::TERM)?;
        let ended = tokio::time::timeout(STOP_LIMIT, self.child.wait()).await;
        let Ok(status) = ended else {
            bail!("it did not stop within {STOP_LIMIT:?}: {}", self.log());
        };
        let status = status?;
        ensure!(status.success(), "it ended with {status}: {}", self.log());
        ensure!(!self.log().contains("did not stop in time"), "a part hung: {}", self.log());
        ensure!(!self.socket.exists(), "it left its socket");
        ensure!(rustix::process::test_kill_process(pid).is_err(), "its process is still there");
        Ok(asked.elapsed())
    }

    /// Has it read its config again.
    ///
    /// # Errors
    /// If it is gone.
    pub fn hang_up(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::HUP)?)
    }

    /// Kills it: no time to write anything down.
    ///
    /// # Errors
    /// If it is gone already.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// Starts a command on its data folder, with JSON on its piped output.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, args: &[&str]) -> Result<Child> {
        let mut command = Command::new(hubless_binary()?);
        command.arg("--data").arg(&self.data).arg("--json").args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(command.spawn()?)
    }

    fn pid(&self) -> Result<Pid> {
        let id = self.child.id().context("it runs")?;
        Pid::from_raw(i32::try_from(id)?).context("a process has a number")
    }
}
