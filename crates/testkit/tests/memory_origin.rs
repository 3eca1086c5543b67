//! The memory origin keeps to what the trait promises.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use hubless_origin::{Origin as _, OriginErrorKind};
use hubless_testkit::{MemoryOrigin, OriginFaults, Question};
use hubless_types::{Access, ByteRange, RepoId, Revision, Token};

fn repo() -> Result<RepoId> {
    Ok("acme/tiny".parse()?)
}

/// What it publishes proves itself, and its bytes are those of the files; each fault shows.
#[tokio::test(start_paused = true)]
async fn what_it_publishes_proves_itself() -> Result<()> {
    let origin = MemoryOrigin::new("https://hub.test");
    let repo = repo()?;
    let large = vec![7; 200_000];
    let commit = origin.publish_with(&repo, "main", &[("a/large.bin", &large), ("small", b"x")], 1000)?;
    let seen = origin.resolve(&repo, &Revision::main(), None).await?;
    ensure!(seen.commit == commit);
    let manifest = origin.bundle(&repo, commit, None).await?.check(commit)?;
    let entry = manifest.entry(&"a/large.bin".parse()?).context("it is listed")?.clone();
    ensure!(entry.lfs.is_some() && entry.size == 200_000);
    let range = ByteRange::new(10, 150_000);
    let read = || async {
        let pieces: Vec<_> = origin.open(&repo, commit, &entry, range, None).await?.try_collect().await?;
        Ok::<_, hubless_origin::OriginError>(pieces.concat())
    };
    ensure!(read().await? == large[10..150_000]);
    origin.set_faults(OriginFaults { wrong_byte_at: Some(100_000), ..OriginFaults::default() });
    ensure!(read().await?[99_990] == 7 ^ 0xff);
    origin.set_faults(OriginFaults { cut_after: Some(5), ..OriginFaults::default() });
    ensure!(read().await.unwrap_err().kind() == OriginErrorKind::Wrong);
    origin.set_faults(OriginFaults { stall_after: Some(5), ..OriginFaults::default() });
    ensure!(tokio::time::timeout(Duration::from_secs(3600), read()).await.is_err());
    origin.set_faults(OriginFaults { wrong_bundle: true, ..OriginFaults::default() });
    ensure!(origin.bundle(&repo, commit, None).await?.check(commit).is_err());
    origin.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
    ensure!(read().await.unwrap_err().kind() == OriginErrorKind::Unavailable);
    let opens = origin.asked().into_iter().filter(|asked| matches!(asked.what, Question::Open(..)));
    ensure!(opens.count() == 5);
    Ok(())
}

/// Names move, and who may read is asked each time.
#[tokio::test]
async fn some_may_read_and_others_may_not() -> Result<()> {
    let origin = MemoryOrigin::new("https://hub.test");
    let repo = repo()?;
    let first = origin.publish(&repo, "main", &[("x", b"1")])?;
    origin.restrict(&repo, Access::GatedAuto, &["hf_in"])?;
    let token = Token::new("hf_in")?;
    ensure!(origin.may_read(&repo, Some(&token)).await.is_ok());
    ensure!(origin.may_read(&repo, None).await.unwrap_err().kind() == OriginErrorKind::Gated);
    ensure!(origin.whoami(&Token::new("hf_bad")?).await.unwrap_err().kind() == OriginErrorKind::BadToken);
    let moved = "acme/moved".parse()?;
    origin.rename(&repo, &moved)?;
    let fork = origin.rewrite(&moved, "main", &[("x", b"2")])?;
    let seen = origin.resolve(&repo, &Revision::main(), None).await?;
    ensure!(seen.repo == moved && seen.commit == fork && fork != first);
    Ok(())
}
