//! What we pack, git unpacks: the real `git index-pack` is run over packs of any objects.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hubless_proof::{PackKind, PackWriter, blob_id};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Each case runs git twice.
const CASES: u32 = 16;

fn pack(blobs: &[Vec<u8>], piece: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut pack = PackWriter::new(u32::try_from(blobs.len())?, &mut out);
    for blob in blobs {
        pack.begin(PackKind::Blob, blob.len() as u64, &mut out)?;
        for piece in blob.chunks(piece) {
            pack.push(piece, &mut out)?;
        }
        pack.end(&mut out)?;
    }
    pack.finish(&mut out)?;
    Ok(out)
}

/// What `git` prints with `input`, run in a folder of its own.
fn git(dir: &std::path::Path, args: &[&str], input: &[u8]) -> Result<String> {
    let mut git = Command::new("git")
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    git.stdin.take().context("a pipe")?.write_all(input)?;
    let done = git.wait_with_output()?;
    ensure!(done.status.success(), "git {args:?}");
    Ok(String::from_utf8(done.stdout)?)
}

#[test]
fn git_unpacks_what_we_pack() -> Result<()> {
    let dir = tempfile::tempdir()?;
    git(dir.path(), &["init", "-q", "--bare"], b"")?;
    let content = prop::collection::vec(any::<u8>(), 0..300);
    let repeated = (content, 1..900_usize).prop_map(|(part, times)| part.repeat(times));
    let blobs = (prop::collection::vec(repeated, 0..8), 1..70_000_usize);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
    runner.run(&blobs, |(blobs, piece)| {
        let check = || -> Result<()> {
            git(dir.path(), &["index-pack", "--stdin", "--strict"], &pack(&blobs, piece)?)?;
            for blob in &blobs {
                let size = git(dir.path(), &["cat-file", "-s", &blob_id(blob)?.to_string()], b"")?;
                ensure!(size.trim() == blob.len().to_string());
            }
            Ok(())
        };
        check().map_err(|e| TestCaseError::fail(format!("{e:#}")))
    })?;
    Ok(())
}
