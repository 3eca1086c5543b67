//! Runs cells against an endpoint: a few at a time, each in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cells::{Cell, Operation, Program};
use crate::clients::environment;
use crate::line::Line;

/// Cells that run at the same time.
const AT_ONCE: usize = 3;
/// Longest time a program may take.
const LIMIT: Duration = Duration::from_secs(180);
/// Bytes a second while a client waits to be killed.
const SLOW: u64 = 6 * 1024 * 1024;
/// A client is killed when it has received so many bytes: less than half of the large file.
const KILLED_AT: u64 = 8 * 1024 * 1024;

/// A cell that is not green.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub cell: Cell,
    /// What went wrong.
    pub error: anyhow::Error,
}

/// Runs `cells` against the node at `endpoint`; what failed.
///
/// # Errors
/// If the runner itself fails.
pub async fn run_all(cells: &[Cell], endpoint: &str, fixture: &Path) -> Result<Vec<Failure>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for cell in cells.iter().copied() {
        let (places, endpoint, fixture) = (places.clone(), endpoint.to_owned(), fixture.to_owned());
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            (cell, run(cell, &endpoint, &fixture).await)
        });
    }
    let mut failures = Vec::new();
    while let Some(ended) = running.join_next().await {
        if let (cell, Err(error)) = ended? {
            failures.push(Failure { cell, error });
        }
    }
    Ok(failures)
}

async fn run(cell: Cell, endpoint: &str, fixture: &Path) -> Result<()> {
    let work = TempDir::with_prefix("hubless-cell-")?;
    if cell.operation != Operation::Resume {
        return once(cell.program, endpoint, fixture, work.path()).await;
    }
    let line = Line::to(endpoint).await?;
    line.limit(Some(SLOW));
    killed_when(cell.program, &line.endpoint, fixture, work.path(), || line.passed() >= KILLED_AT).await?;
    line.limit(None);
    once(cell.program, &line.endpoint, fixture, work.path()).await.context("started again")
}

/// Runs one cell against the node at `endpoint`: kills it when `half_way` says so, and starts it again.
///
/// # Errors
/// If it ends before it is killed, or does not end well afterwards.
pub async fn run_killed(
    cell: Cell,
    endpoint: &str,
    fixture: &Path,
    half_way: impl Fn() -> bool,
) -> Result<()> {
    let work = TempDir::with_prefix("hubless-cell-")?;
    killed_when(cell.program, endpoint, fixture, work.path(), half_way).await?;
    once(cell.program, endpoint, fixture, work.path()).await.context("started again")
}

async fn once(program: Program, endpoint: &str, fixture: &Path, work: &Path) -> Result<()> {
    let mut command = command(program, endpoint, fixture, work)?;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start it")?;
    let group = group_of(&child)?;
    let Ok(output) = tokio::time::timeout(LIMIT, child.wait_with_output()).await else {
        let _ = kill_process_group(group, Signal::KILL);
        bail!("it did not end within {LIMIT:?}");
    };
    let output = output?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && out.ends_with("ok\n"), "{}\n{out}\n{err}", output.status);
    Ok(())
}

async fn killed_when(
    program: Program,
    endpoint: &str,
    fixture: &Path,
    work: &Path,
    half_way: impl Fn() -> bool,
) -> Result<()> {
    let mut command = command(program, endpoint, fixture, work)?;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start it")?;
    let group = group_of(&child)?;
    let waiting = async {
        while !half_way() {
            if let Some(status) = child.try_wait()? {
                bail!("it ended before it could be killed: {status}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    let reached = tokio::time::timeout(LIMIT, waiting).await;
    // The programs that it started go with it. One that ended by itself is told of below.
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().await?;
    reached.with_context(|| format!("it was not half way within {LIMIT:?}"))?
}

fn group_of(child: &Child) -> Result<Pid> {
    let id = child.id().context("it was just started")?;
    Pid::from_raw(i32::try_from(id)?).context("a process has a number")
}

/// The folder of the other clients, as scripts/test makes it.
fn clients() -> PathBuf {
    let named = std::env::var_os("HUBLESS_TEST_CLIENTS").map(PathBuf::from);
    named.unwrap_or_else(|| environment().with_file_name("clients"))
}

fn command(program: Program, endpoint: &str, fixture: &Path, work: &Path) -> Result<Command> {
    let sources = crate::crate_folder().join("clients");
    let clients = clients();
    let mut command = match program {
        Program::Python(name, script) => {
            let home = if name.is_empty() { environment() } else { clients.join(name) };
            let mut command = Command::new(home.join("bin/python"));
            command.arg(sources.join("python").join(format!("{script}.py")));
            command
        }
        Program::Shell(script) => {
            let mut command = Command::new("bash");
            command.arg(sources.join("shell").join(format!("{script}.sh")));
            command
        }
        Program::Js(operation) => {
            let mut command = Command::new("node");
            command.arg(sources.join("js/client.mjs")).arg(operation);
            command
        }
        Program::Crate(version, operation) => {
            let mut command = Command::new(clients.join("hf-hub/debug/hf-hub-client"));
            command.args([version, operation]);
            command
        }
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(environment().join("bin")).chain(std::env::split_paths(&path));
    command
        .arg(fixture)
        .env("PATH", std::env::join_paths(paths)?)
        .env("HUBLESS_TEST_CLIENTS", clients)
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", work.join("hf-home"))
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1,localhost")
        .current_dir(work)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(name);
    }
    Ok(command)
}
