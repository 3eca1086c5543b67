//! A git host as an origin: refs, objects and LFS by plain git, with and without filters.

mod support;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use hubless_origin::{Origin, OriginConfig, OriginError, OriginErrorKind, OriginKind, build};
use hubless_testkit::{Hub, HubFaults, PortOf, Refusal, Scope};
use hubless_types::{Access, ByteRange, CommitId, FileEntry, RepoId, Revision, Token};
use support::{Rogue, answer};

const MIB: usize = 1024 * 1024;

fn config(hub: &Hub) -> Result<OriginConfig> {
    let mut config = OriginConfig::new(&hub.url(), OriginKind::Git)?;
    config.patience.stall = Duration::from_millis(800);
    config.attempts = 1;
    Ok(config)
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 131 + i / 7 * 3 + seed) as u8).collect()
}

async fn sample(hub: &Hub, id: &RepoId, plain: usize) -> Result<CommitId> {
    let plains: Vec<(String, Vec<u8>)> =
        (0..plain).map(|i| (format!("texts/{i}.txt"), bytes(3000 + i, i))).collect();
    let mut files: Vec<(&str, &[u8])> =
        plains.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect();
    let (large, model) = (bytes(900_000, 1), bytes(2 * MIB, 2));
    files.extend([
        ("config.json", &b"{}"[..]),
        ("empty", b""),
        ("large.txt", &large),
        ("m.safetensors", &model),
    ]);
    hub.push(id, "main", &files).await
}

async fn read(
    origin: &dyn Origin,
    id: &RepoId,
    commit: CommitId,
    entry: &FileEntry,
    range: ByteRange,
    token: Option<&Token>,
) -> Result<Vec<u8>, OriginError> {
    let body = origin.open(id, commit, entry, range, token).await?;
    let pieces: Vec<_> = body.try_collect().await?;
    Ok(pieces.concat())
}

fn set(hub: &Hub, id: &RepoId, key: &str, value: &str) -> Result<()> {
    let status = Command::new("git").arg("-C").arg(hub.git_dir(id)).args(["config", key, value]).status()?;
    ensure!(status.success());
    Ok(())
}

#[tokio::test]
async fn a_repository_comes_over_with_filters_and_without() -> Result<()> {
    let hub = Hub::start().await?;
    for (name, plain, filter) in
        [("acme/few", 2, "true"), ("acme/more", 30, "true"), ("acme/bare", 2, "false")]
    {
        let id: RepoId = name.parse()?;
        let commit = sample(&hub, &id, plain).await?;
        set(&hub, &id, "uploadpack.allowFilter", filter)?;
        let origin = build(&config(&hub)?)?;
        hub.forget_requests();
        ensure!(origin.resolve(&id, &Revision::main(), None).await?.commit == commit);
        let manifest = origin.bundle(&id, commit, None).await?.check(commit)?;
        ensure!(manifest.entries().len() == plain + 4, "{name}");
        ensure!(hub.requests().len() <= 8, "{name}: {}", hub.requests().len());
        for (path, expected) in [
            ("config.json", b"{}".to_vec()),
            ("empty", Vec::new()),
            ("large.txt", bytes(900_000, 1)),
            ("m.safetensors", bytes(2 * MIB, 2)),
            ("texts/1.txt", bytes(3001, 1)),
        ] {
            let entry = manifest.entry(&path.parse()?).context(path)?;
            ensure!(entry.size == expected.len() as u64, "{name}: {path}");
            let whole = ByteRange::whole(entry.size);
            ensure!(read(&*origin, &id, commit, entry, whole, None).await? == expected, "{name}: {path}");
            let (start, end) = (expected.len() / 3, expected.len() / 2);
            let part = ByteRange::new(start as u64, end as u64);
            ensure!(read(&*origin, &id, commit, entry, part, None).await? == expected[start..end], "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn names_are_branches_tags_and_the_branch_that_comes_first() -> Result<()> {
    let hub = Hub::start().await?;
    let id: RepoId = "acme/named".parse()?;
    let first = hub.push(&id, "main", &[("a", b"1")]).await?;
    let other = hub.push(&id, "feature/x", &[("a", b"2")]).await?;
    hub.point(&id, "refs/tags/v1", first).await?;
    let origin = build(&config(&hub)?)?;
    for (revision, commit) in [
        ("main", first),
        ("feature/x", other),
        ("v1", first),
        ("refs/heads/feature/x", other),
        ("HEAD", first),
    ] {
        ensure!(origin.resolve(&id, &revision.parse()?, None).await?.commit == commit, "{revision}");
    }
    let gone = origin.resolve(&id, &"gone".parse()?, None).await.err().context("it is there")?;
    ensure!(gone.kind() == OriginErrorKind::RevisionNotFound);
    let none =
        origin.resolve(&"acme/none".parse()?, &Revision::main(), None).await.err().context("it is there")?;
    ensure!(none.kind() == OriginErrorKind::RepoNotFound, "{none}");
    let refs = origin.refs(&id, None).await?;
    ensure!(refs.iter().any(|r| r.name == "refs/tags/v1" && r.commit == first), "peeled: {refs:?}");
    let unknown =
        origin.bundle(&id, CommitId::from_bytes([3; 20]), None).await.err().context("it is there")?;
    ensure!(unknown.kind() == OriginErrorKind::RevisionNotFound, "{unknown}");
    Ok(())
}

#[tokio::test]
async fn a_private_repository_is_read_with_a_token_that_goes_nowhere_else() -> Result<()> {
    let hub = Hub::start().await?;
    let id: RepoId = "acme/hidden".parse()?;
    let commit = sample(&hub, &id, 1).await?;
    hub.private(&id, &["hf_reader"])?;
    let (origin, token) = (build(&config(&hub)?)?, Token::new("hf_reader")?);
    ensure!(origin.resolve(&id, &Revision::main(), None).await.is_err());
    ensure!(origin.may_read(&id, None).await.is_err());
    origin.may_read(&id, Some(&token)).await?;
    let seen = origin.resolve(&id, &Revision::main(), Some(&token)).await?;
    ensure!(seen.facts.access == Access::Private);
    let manifest = origin.bundle(&id, commit, Some(&token)).await?.check(commit)?;
    for entry in manifest.entries() {
        let whole = ByteRange::whole(entry.size);
        ensure!(read(&*origin, &id, commit, entry, whole, Some(&token)).await?.len() as u64 == entry.size);
    }
    let network: Vec<_> = hub.requests().into_iter().filter(|r| r.port == PortOf::Content).collect();
    ensure!(network.iter().all(|r| r.header("authorization").is_none()));
    Ok(())
}

/// What an LFS server tells to send with a download goes to the address that it is for, whole file or part, and neither to
/// the git host nor to where that address leads.
#[tokio::test]
async fn headers_of_a_download_go_to_its_address_alone() -> Result<()> {
    let hub = Hub::start().await?;
    let id: RepoId = "acme/tiny".parse()?;
    let commit = sample(&hub, &id, 1).await?;
    let (secret, ticket) = ("Basic bGZzOnNlY3JldA==", "ticket-7");
    hub.demand_headers(&[("Authorization", secret), ("X-Lfs-Ticket", ticket)]);
    hub.user("hf_reader");
    let (origin, token) = (build(&config(&hub)?)?, Token::new("hf_reader")?);
    let manifest = origin.bundle(&id, commit, None).await?.check(commit)?;
    let entry = manifest.entry(&"m.safetensors".parse()?).context("the model")?;
    let (whole, part) = (ByteRange::whole(entry.size), ByteRange::new(1_000_000, 1_000_100));
    let model = bytes(2 * MIB, 2);
    for token in [None, Some(&token)] {
        ensure!(read(&*origin, &id, commit, entry, whole, token).await? == model);
        ensure!(read(&*origin, &id, commit, entry, part, token).await? == model[1_000_000..1_000_100]);
    }
    let (content, own): (Vec<_>, Vec<_>) =
        hub.requests().into_iter().partition(|request| request.port == PortOf::Content);
    ensure!(content.len() == 4, "{content:?}");
    for request in &content {
        let brought = (request.header("authorization"), request.header("x-lfs-ticket"));
        ensure!(brought == (Some(secret), Some(ticket)), "{request:?}");
    }
    let strayed = |(_, value): &(String, String)| value == secret || value == ticket;
    ensure!(!own.iter().any(|request| request.headers.iter().any(strayed)), "{own:?}");

    let elsewhere = Rogue::start(move |_| answer("200 OK", "", &bytes(2 * MIB, 2))).await?;
    let redirect_to = Some(format!("{}/moved", elsewhere.url));
    hub.set_faults(HubFaults { on: Scope::Network, redirect_to, ..HubFaults::default() });
    ensure!(read(&*origin, &id, commit, entry, whole, Some(&token)).await? == model);
    let heads = elsewhere.heads().concat().to_lowercase();
    ensure!(heads.contains("get /moved"), "{heads}");
    ensure!(!heads.contains("authorization") && !heads.contains(ticket), "{heads}");
    Ok(())
}

/// A host whose repositories lie deeper than `owner/name` (GitLab's subgroups) is an origin by the address of a group:
/// what it has is named from there on.
#[tokio::test]
async fn a_group_of_a_host_is_an_origin_by_its_own_address() -> Result<()> {
    let hub = Hub::start().await?;
    // On this host `datasets` is but the first part of three.
    let commit = sample(&hub, &"datasets/acme/rows".parse()?, 1).await?;
    let id: RepoId = "acme/rows".parse()?;
    for url in [format!("{}/datasets", hub.url()), format!("{}/datasets/", hub.url())] {
        let origin = build(&OriginConfig { attempts: 1, ..OriginConfig::new(&url, OriginKind::Git)? })?;
        ensure!(origin.name() == format!("{}/datasets", hub.url()));
        ensure!(origin.resolve(&id, &Revision::main(), None).await?.commit == commit);
        let manifest = origin.bundle(&id, commit, None).await?.check(commit)?;
        for (path, expected) in [("large.txt", bytes(900_000, 1)), ("m.safetensors", bytes(2 * MIB, 2))] {
            let entry = manifest.entry(&path.parse()?).context(path)?;
            let whole = ByteRange::whole(entry.size);
            ensure!(read(&*origin, &id, commit, entry, whole, None).await? == expected, "{path}");
        }
        let none = origin.resolve(&"acme/none".parse()?, &Revision::main(), None).await;
        ensure!(none.err().context("it is there")?.kind() == OriginErrorKind::RepoNotFound);
    }
    let asked = hub.requests().into_iter().filter(|request| request.port == PortOf::Hub);
    let astray: Vec<_> = asked.filter(|request| !request.target.starts_with("/datasets/acme/")).collect();
    ensure!(astray.is_empty(), "{astray:?}");
    // Without the group there is no such repository.
    let above = build(&config(&hub)?)?;
    ensure!(above.resolve(&id, &Revision::main(), None).await.is_err());
    Ok(())
}

#[tokio::test]
async fn packs_that_are_cut_or_changed_are_errors() -> Result<()> {
    let hub = Hub::start().await?;
    let id: RepoId = "acme/tiny".parse()?;
    let commit = sample(&hub, &id, 1).await?;
    let origin = build(&config(&hub)?)?;
    let manifest = origin.bundle(&id, commit, None).await?.check(commit)?;
    let entry = manifest.entry(&"large.txt".parse()?).context("the text")?;
    let git = || HubFaults { on: Scope::Git, ..HubFaults::default() };
    for faults in [
        HubFaults { wrong_byte_at: Some(300), ..git() },
        HubFaults { cut_after: Some(300), ..git() },
        HubFaults { shorten_to: Some(300), ..git() },
        HubFaults { stall_after: Some(300), ..git() },
        HubFaults { refuse: Some(Refusal::page(200)), ..git() },
        HubFaults { refuse: Some(Refusal::page(403)), ..git() },
    ] {
        hub.set_faults(faults.clone());
        let limit = Duration::from_secs(10);
        let bundle = tokio::time::timeout(limit, origin.bundle(&id, commit, None)).await;
        ensure!(bundle.context("it hangs")?.is_err(), "{faults:?}");
        let whole = ByteRange::whole(entry.size);
        let body = tokio::time::timeout(limit, read(&*origin, &id, commit, entry, whole, None)).await;
        // A wrong byte may inflate to wrong bytes: whoever asked hashes them.
        ensure!(body.context("it hangs")?.is_err() || faults.wrong_byte_at.is_some(), "{faults:?}");
    }
    Ok(())
}
