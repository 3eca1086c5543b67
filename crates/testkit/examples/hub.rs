//! A stand-in hub that serves folders until it is interrupted: `hub acme/tiny=./folder datasets/acme/rows=./other`.
//!
//! Prints its address. For trying clients by hand, and for measuring a pull-through.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::path::Path;

use anyhow::{Context as _, Result};
use hubless_testkit::{Hub, HubFile};
use hubless_types::RepoId;

#[tokio::main]
async fn main() -> Result<()> {
    let hub = Hub::start().await?;
    for argument in std::env::args().skip(1) {
        let (repo, folder) = argument.split_once('=').context("give REPO=FOLDER")?;
        let repo: RepoId = repo.parse()?;
        let mut files = Vec::new();
        read(Path::new(folder), "", &mut files)?;
        let commit = hub.push_files(&repo, "main", files).await?;
        eprintln!("{repo} is {commit}");
    }
    println!("{}", hub.url());
    Ok(tokio::signal::ctrl_c().await?)
}

fn read(folder: &Path, prefix: &str, files: &mut Vec<HubFile>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push(HubFile::new(&name, &std::fs::read(entry.path())?));
        }
    }
    Ok(())
}
