//! A hub as an origin: what it is asked for comes, whole and as cheaply as can be, and what goes wrong is named.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use hubless_origin::{Breaker, Origin, OriginConfig, OriginError, OriginErrorKind, OriginKind, build};
use hubless_testkit::{Budget, Hub, HubFaults, HubFile, PortOf, Refusal, Scope};
use hubless_types::{Access, ByteRange, CommitId, FileEntry, Manifest, RepoId, Revision, Token};

const MIB: usize = 1024 * 1024;

fn config(hub: &Hub) -> Result<OriginConfig> {
    let mut config = OriginConfig::new(&hub.url(), OriginKind::Hub)?;
    config.patience.head = Duration::from_secs(2);
    config.patience.stall = Duration::from_millis(600);
    Ok(config)
}

fn repo(name: &str) -> Result<RepoId> {
    Ok(name.parse()?)
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + seed) as u8).collect()
}

/// A repository with a file of each sort: small, empty, above a pointer's length, LFS, in folders, twice.
async fn sample(hub: &Hub, id: &RepoId) -> Result<CommitId> {
    let files: [(&str, &[u8]); 7] = [
        ("config.json", b"{}"),
        ("empty", b""),
        ("README.md", &bytes(5000, 1)),
        ("model.safetensors", &bytes(2 * MIB, 2)),
        ("sub dir/100%.txt", b"odd"),
        ("sub dir/again.json", b"{}"),
        ("sub dir/deep/er.bin", b"a small file that LFS keeps"),
    ];
    hub.push(id, "main", &files).await
}

async fn manifest(origin: &dyn Origin, id: &RepoId, commit: CommitId) -> Result<Manifest> {
    Ok(origin.bundle(id, commit, None).await?.check(commit)?)
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
    body.try_fold(Vec::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    })
    .await
}

/// What can go wrong with an answer shows in the kind of the error.
fn kind<T>(result: Result<T, OriginError>) -> Option<OriginErrorKind> {
    result.err().map(|error| error.kind())
}

#[tokio::test]
async fn a_repository_comes_over_with_few_requests() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    let commit = sample(&hub, &id).await?;
    hub.facts(&id, |facts| facts.tags = vec!["license:mit".into()])?;
    let origin = build(&config(&hub)?)?;

    let seen = origin.resolve(&id, &Revision::main(), None).await?;
    ensure!((seen.commit, &seen.repo) == (commit, &id) && seen.facts.access == Access::Open);
    ensure!(seen.facts.tags.contains(&"license:mit".to_owned()), "{:?}", seen.facts);
    ensure!(hub.requests().len() == 1, "one call for a name");

    let manifest = manifest(&*origin, &id, commit).await?;
    ensure!(hub.requests().len() <= 3, "a POST and at most one listing: {}", hub.requests().len());
    ensure!(manifest.entries().len() == 7);
    let large = manifest.entry(&"model.safetensors".parse()?).context("the model")?;
    ensure!(large.size == 2 * MIB as u64 && large.lfs.is_some());

    for entry in manifest.entries() {
        let before = hub.requests().iter().filter(|r| r.port == PortOf::Hub).count();
        let whole = read(&*origin, &id, commit, entry, ByteRange::whole(entry.size), None).await?;
        ensure!(whole.len() as u64 == entry.size, "{}", entry.path);
        let asked = hub.requests().iter().filter(|r| r.port == PortOf::Hub).count() - before;
        ensure!(asked <= 2, "{}: {asked} requests", entry.path);
        if entry.size > 10 {
            let part = read(&*origin, &id, commit, entry, ByteRange::new(3, 9), None).await?;
            ensure!(part == whole[3..9], "{}", entry.path);
        }
    }
    ensure!(hub.requests().iter().all(|r| r.method != "HEAD"), "no HEADs");
    let agents: Vec<_> =
        hub.requests().iter().filter_map(|r| r.header("user-agent").map(str::to_owned)).collect();
    ensure!(agents.iter().all(|agent| agent.starts_with("hubless/")), "{agents:?}");
    let status = origin.status();
    ensure!(status.breaker == Breaker::Closed && status.failures == 0 && status.bytes > 2 * MIB as u64);
    Ok(())
}

/// One answer that nobody expects says nothing of what a hub can do.
#[tokio::test]
async fn a_hub_that_refused_everything_once_is_asked_as_before() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    let commit = sample(&hub, &id).await?;
    let origin = build(&config(&hub)?)?;
    hub.set_faults(HubFaults { refuse: Some(Refusal::page(400)), ..HubFaults::default() });
    ensure!(kind(origin.resolve(&id, &Revision::main(), None).await) == Some(OriginErrorKind::Unavailable));
    ensure!(kind(origin.bundle(&id, commit, None).await) == Some(OriginErrorKind::Unavailable));
    hub.set_faults(HubFaults::default());
    hub.forget_requests();
    origin.resolve(&id, &Revision::main(), None).await?;
    let asked: Vec<_> = hub.requests().into_iter().map(|request| request.target).collect();
    ensure!(asked.len() == 1 && asked[0].contains("expand=sha"), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn refs_branches_and_pull_requests_are_listed_and_resolve() -> Result<()> {
    let hub = Hub::start().await?;
    let id: RepoId = "datasets/acme/rows".parse()?;
    let first = hub.push(&id, "main", &[("a", b"1")]).await?;
    let other = hub.push(&id, "refs/pr/1", &[("b", b"2")]).await?;
    hub.point(&id, "refs/tags/v1", first).await?;
    let origin = build(&config(&hub)?)?;
    let refs = origin.refs(&id, None).await?;
    for (name, commit) in [("refs/heads/main", first), ("refs/pr/1", other), ("refs/tags/v1", first)] {
        ensure!(refs.iter().any(|r| r.name == name && r.commit == commit), "{name}: {refs:?}");
    }
    for (revision, commit) in [("refs/pr/1", other), ("v1", first), (&first.to_string(), first)] {
        ensure!(origin.resolve(&id, &revision.parse()?, None).await?.commit == commit, "{revision}");
    }
    Ok(())
}

#[tokio::test]
async fn a_renamed_repository_is_found_by_its_old_name() -> Result<()> {
    let hub = Hub::start().await?;
    let (old, new) = (repo("acme/old")?, repo("beta/new")?);
    let commit = sample(&hub, &old).await?;
    hub.rename(&old, &new).await?;
    let origin = build(&config(&hub)?)?;
    ensure!(origin.resolve(&old, &Revision::main(), None).await?.repo == new);
    let manifest = manifest(&*origin, &old, commit).await?;
    let entry = manifest.entry(&"README.md".parse()?).context("the readme")?;
    let text = read(&*origin, &old, commit, entry, ByteRange::whole(entry.size), None).await?;
    ensure!(text == bytes(5000, 1));
    Ok(())
}

#[tokio::test]
async fn absence_has_its_names() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    let commit = sample(&hub, &id).await?;
    let origin = build(&config(&hub)?)?;
    let main = Revision::main();
    let (none, token) = (repo("acme/none")?, Token::new("hf_known")?);
    hub.user("hf_known");
    use OriginErrorKind::{BadToken, Disabled, EntryNotFound, RepoNotFound, RevisionNotFound};
    ensure!(kind(origin.resolve(&none, &main, None).await) == Some(RepoNotFound));
    ensure!(kind(origin.resolve(&none, &main, Some(&token)).await) == Some(RepoNotFound));
    ensure!(kind(origin.resolve(&id, &"gone".parse()?, None).await) == Some(RevisionNotFound));
    let wrong = Token::new("hf_wrong")?;
    ensure!(kind(origin.whoami(&wrong).await) == Some(BadToken));
    ensure!(!origin.whoami(&token).await?.is_empty());
    let manifest = manifest(&*origin, &id, commit).await?;
    let mut entry = manifest.entries()[0].clone();
    entry.path = "nowhere".parse()?;
    let whole = ByteRange::whole(entry.size);
    ensure!(kind(origin.open(&id, commit, &entry, whole, None).await) == Some(EntryNotFound));
    let unknown = CommitId::from_bytes([7; 20]);
    let error = origin.bundle(&id, unknown, None).await;
    ensure!(matches!(kind(error), Some(RevisionNotFound)));
    hub.disable(&id)?;
    ensure!(kind(origin.resolve(&id, &main, None).await) == Some(Disabled));
    ensure!(origin.status().breaker == Breaker::Closed, "refusals are answers");
    Ok(())
}

/// A proxy before a hub that asks for a password while the hub is down says nothing of repositories; a hub of which
/// nothing is known yet, and git, have no other word for it.
#[tokio::test]
async fn a_bare_refusal_of_a_hub_is_trouble_and_no_word() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    let commit = sample(&hub, &id).await?;
    let (known, new) = (build(&config(&hub)?)?, build(&config(&hub)?)?);
    let manifest = manifest(&*known, &id, commit).await?;
    let entry = manifest.entry(&"README.md".parse()?).context("the readme")?;
    read(&*known, &id, commit, entry, ByteRange::whole(entry.size), None).await?;
    let (main, token) = (Revision::main(), Token::new("hf_known")?);
    for (status, unknown) in [(401, OriginErrorKind::RepoNotFound), (403, OriginErrorKind::Unavailable)] {
        hub.set_faults(HubFaults { refuse: Some(Refusal::page(status)), ..HubFaults::default() });
        for token in [None, Some(&token)] {
            let error = known.resolve(&id, &main, token).await;
            ensure!(kind(error) == Some(OriginErrorKind::Unavailable), "{status}");
            ensure!(kind(known.may_read(&id, token).await) == Some(OriginErrorKind::Unavailable), "{status}");
        }
        ensure!(kind(new.resolve(&id, &main, None).await) == Some(unknown), "{status}");
        ensure!(kind(known.bundle(&id, commit, None).await) == Some(unknown), "{status}: git has no codes");
    }
    hub.set_faults(HubFaults::default());
    hub.private(&id, &["hf_known"])?;
    ensure!(kind(known.resolve(&id, &main, None).await) == Some(OriginErrorKind::RepoNotFound), "its word");
    known.resolve(&id, &main, Some(&token)).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_goes_to_the_hub_and_to_nobody_else() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/gated")?;
    let commit = sample(&hub, &id).await?;
    hub.gate(&id, &["hf_reader"])?;
    let origin = build(&config(&hub)?)?;
    let token = Token::new("hf_reader")?;

    let open = origin.resolve(&id, &Revision::main(), None).await?;
    ensure!(open.facts.access == Access::GatedAuto, "what is said of it is public");
    ensure!(kind(origin.may_read(&id, None).await) == Some(OriginErrorKind::Gated));
    ensure!(kind(origin.bundle(&id, commit, None).await).is_some());
    origin.may_read(&id, Some(&token)).await?;
    hub.forget_requests();

    let manifest = origin.bundle(&id, commit, Some(&token)).await?.check(commit)?;
    for entry in manifest.entries() {
        let whole = ByteRange::whole(entry.size);
        ensure!(read(&*origin, &id, commit, entry, whole, Some(&token)).await?.len() as u64 == entry.size);
        if entry.size > 0 {
            ensure!(
                kind(read(&*origin, &id, commit, entry, whole, None).await) == Some(OriginErrorKind::Gated)
            );
        }
    }
    let (mut ours, mut theirs) = (0, 0);
    for request in hub.requests() {
        let auth = request.header("authorization");
        match request.port {
            PortOf::Hub => ours += usize::from(auth.is_some()),
            PortOf::Content => {
                theirs += 1;
                ensure!(auth.is_none(), "the content network saw a token: {}", request.target);
                ensure!(request.headers.iter().all(|(_, value)| !value.contains("hf_reader")));
            }
        }
    }
    ensure!(ours > 0 && theirs > 0, "both were asked: {ours} and {theirs}");
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_cut_shortened_or_stalled_are_errors() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    let commit = sample(&hub, &id).await?;
    let origin = build(&config(&hub)?)?;
    let manifest = manifest(&*origin, &id, commit).await?;
    let entry = manifest.entry(&"model.safetensors".parse()?).context("the model")?;
    let whole = ByteRange::whole(entry.size);
    let network = || HubFaults { on: Scope::Network, ..HubFaults::default() };

    for (faults, expected) in [
        (HubFaults { cut_after: Some(70_000), ..network() }, OriginErrorKind::Unavailable),
        (HubFaults { shorten_to: Some(70_000), ..network() }, OriginErrorKind::Wrong),
        (HubFaults { stall_after: Some(70_000), ..network() }, OriginErrorKind::Unavailable),
        (HubFaults { bytes_per_second: Some(1000), ..network() }, OriginErrorKind::Unavailable),
        (HubFaults { refuse: Some(Refusal::page(403)), ..network() }, OriginErrorKind::Unavailable),
        (HubFaults { refuse: Some(Refusal::page(500)), ..network() }, OriginErrorKind::Unavailable),
    ] {
        hub.set_faults(faults.clone());
        let result =
            tokio::time::timeout(Duration::from_secs(20), read(&*origin, &id, commit, entry, whole, None))
                .await;
        let result = result.with_context(|| format!("{faults:?} hangs"))?;
        ensure!(kind(result.map(drop)) == Some(expected), "{faults:?}");
        // Something else was asked and answered meanwhile.
        hub.set_faults(HubFaults::default());
        origin.may_read(&id, None).await?;
    }
    hub.set_faults(HubFaults { no_ranges: true, ..network() });
    let part = read(&*origin, &id, commit, entry, ByteRange::new(5, 10), None).await;
    ensure!(matches!(part, Err(OriginError::Unsupported { .. })), "{part:?}");
    Ok(())
}

#[tokio::test]
async fn redirects_end() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    sample(&hub, &id).await?;
    let origin = build(&config(&hub)?)?;
    for (to, why) in
        [("{url}", "more than 5 times"), ("ftp://x/?sig=s3cret", "ftp"), ("http://u:p@h/", "a user")]
    {
        hub.set_faults(HubFaults { redirect_to: Some(to.into()), ..HubFaults::default() });
        hub.forget_requests();
        let error = origin.resolve(&id, &Revision::main(), None).await.err().context("it is followed")?;
        ensure!(matches!(error, OriginError::Redirect { .. }) && error.to_string().contains(why), "{error}");
        ensure!(!error.to_string().contains("s3cret"));
        ensure!(hub.requests().len() <= 6);
    }
    Ok(())
}

#[tokio::test]
async fn an_origin_that_asks_for_patience_is_given_it() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    sample(&hub, &id).await?;
    let origin = build(&config(&hub)?)?;
    hub.set_budget(Some(Budget { left: 2, window: 60 }));
    origin.resolve(&id, &Revision::main(), None).await?;
    let mut asked = 0;
    let limited = loop {
        match origin.resolve(&id, &Revision::main(), None).await {
            Ok(_) => asked += 1,
            Err(error) => break error,
        }
        ensure!(asked < 5, "it goes on");
    };
    ensure!(matches!(limited, OriginError::Limited { .. }), "{limited}");
    ensure!(limited.retry_after().is_some_and(|wait| wait > Duration::from_secs(50)), "{limited:?}");
    hub.forget_requests();
    ensure!(kind(origin.resolve(&id, &Revision::main(), None).await) == Some(OriginErrorKind::Busy));
    ensure!(hub.requests().is_empty(), "it is left in peace");
    ensure!(origin.status().wait.is_some(), "and people see why");
    Ok(())
}

/// One user whom the hub throttles keeps no other waiting who shows a token of his own, nor those who show none.
#[tokio::test]
async fn who_is_throttled_waits_alone() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    sample(&hub, &id).await?;
    hub.gate(&id, &["hf_busy", "hf_calm"])?;
    let (busy, calm) = (Token::new("hf_busy")?, Token::new("hf_calm")?);
    let origin = build(&config(&hub)?)?;
    let refuse = Some(Refusal::page(429).with("Retry-After", "3000"));
    hub.set_faults(HubFaults { refuse, ..HubFaults::default() });
    let limited = origin.may_read(&id, Some(&busy)).await.err().context("it is throttled")?;
    ensure!(limited.retry_after() == Some(Duration::from_secs(3000)), "{limited:?}");
    hub.set_faults(HubFaults::default());
    hub.forget_requests();
    origin.may_read(&id, Some(&calm)).await?;
    origin.resolve(&id, &Revision::main(), None).await?;
    ensure!(kind(origin.may_read(&id, Some(&busy)).await) == Some(OriginErrorKind::Busy));
    let asked = hub.requests();
    ensure!(
        !asked.iter().any(|r| r.headers.iter().any(|(_, v)| v.contains("hf_busy"))),
        "it is left in peace"
    );
    Ok(())
}

/// A content network that wants to be left alone, or is down, says nothing for the hub: names are still resolved.
#[tokio::test]
async fn what_a_content_network_asks_for_is_not_asked_by_the_hub() -> Result<()> {
    for refusal in [
        Refusal::page(429).with("Retry-After", "50"),
        Refusal::page(503).with("Retry-After", "50"),
        Refusal::page(500),
    ] {
        let hub = Hub::start().await?;
        let id = repo("acme/tiny")?;
        let commit = sample(&hub, &id).await?;
        let origin = build(&OriginConfig { attempts: 1, ..config(&hub)? })?;
        let manifest = manifest(&*origin, &id, commit).await?;
        let (on, status) = (Scope::Network, refusal.status);
        hub.set_faults(HubFaults { on, refuse: Some(refusal), ..HubFaults::default() });
        let large = manifest.entry(&"model.safetensors".parse()?).context("the model")?;
        let whole = ByteRange::whole(large.size);
        for _ in 0..5 {
            ensure!(read(&*origin, &id, commit, large, whole, None).await.is_err(), "{status}");
        }
        hub.forget_requests();
        let error = read(&*origin, &id, commit, large, whole, None).await.err().context("it answers")?;
        ensure!(error.kind() == OriginErrorKind::Busy, "{status}: {error}");
        ensure!(error.to_string().contains(&hub.content_url()), "{status}: {error}");
        ensure!(hub.requests().iter().all(|r| r.port == PortOf::Hub), "{status}: it is left in peace");
        origin.resolve(&id, &Revision::main(), None).await.with_context(|| format!("{status}"))?;
        let small = manifest.entry(&"README.md".parse()?).context("the readme")?;
        let text = read(&*origin, &id, commit, small, ByteRange::whole(small.size), None).await?;
        ensure!(text.len() == 5000 && origin.status().breaker == Breaker::Closed, "{status}");
    }
    Ok(())
}

/// Another node as origin says of one file that it is coming, or that nobody has it: nothing else of it is left alone.
#[tokio::test]
async fn what_is_said_of_one_file_is_not_said_of_the_others() -> Result<()> {
    for (status, code) in [(429, "NotYet"), (503, "Unavailable")] {
        let hub = Hub::start().await?;
        let id = repo("acme/tiny")?;
        let commit = sample(&hub, &id).await?;
        let origin = build(&OriginConfig { attempts: 1, ..config(&hub)? })?;
        let manifest = manifest(&*origin, &id, commit).await?;
        let large = manifest.entry(&"model.safetensors".parse()?).context("the model")?;
        let refusal = Refusal::page(status).with("Retry-After", "50").with("X-Error-Code", code);
        hub.set_faults(HubFaults { on: Scope::Content, refuse: Some(refusal), ..HubFaults::default() });
        for _ in 0..6 {
            let whole = ByteRange::whole(large.size);
            let error =
                read(&*origin, &id, commit, large, whole, None).await.err().context("it is refused")?;
            ensure!(
                error.kind() == OriginErrorKind::Busy && error.status() == Some(status),
                "{code}: {error}"
            );
            ensure!(error.retry_after() == Some(Duration::from_secs(50)), "{code}: {error:?}");
        }
        hub.set_faults(HubFaults::default());
        let small = manifest.entry(&"README.md".parse()?).context("the readme")?;
        let text = read(&*origin, &id, commit, small, ByteRange::whole(small.size), None).await?;
        ensure!(text.len() == 5000 && origin.status().breaker == Breaker::Closed, "{code}");
    }
    Ok(())
}

#[tokio::test]
async fn a_short_wait_is_sat_out_and_a_passing_failure_is_tried_again() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    let commit = sample(&hub, &id).await?;
    let origin = build(&config(&hub)?)?;
    let refuse = |refusal| HubFaults { refuse: Some(refusal), ..HubFaults::default() };
    for refusal in [Refusal::page(429).with("Retry-After", "1"), Refusal::page(502)] {
        hub.set_faults(refuse(refusal));
        let main = Revision::main();
        let (seen, ()) = tokio::join!(origin.resolve(&id, &main, None), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            hub.set_faults(HubFaults::default());
        });
        ensure!(seen?.commit == commit);
    }
    Ok(())
}

#[tokio::test]
async fn an_origin_that_is_gone_is_left_alone_and_found_again() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/tiny")?;
    sample(&hub, &id).await?;
    let origin = build(&OriginConfig { attempts: 1, ..config(&hub)? })?;
    hub.stop().await;
    for _ in 0..5 {
        let error = origin.resolve(&id, &Revision::main(), None).await.err().context("it answers")?;
        ensure!(matches!(error, OriginError::Unreachable { .. }), "{error}");
    }
    let error = origin.resolve(&id, &Revision::main(), None).await.err().context("it answers")?;
    ensure!(matches!(error, OriginError::Resting { .. }), "{error}");
    ensure!(origin.status().breaker == Breaker::Open);
    hub.resume().await?;
    tokio::time::sleep(origin.status().wait.unwrap_or_default()).await;
    origin.resolve(&id, &Revision::main(), None).await?;
    ensure!(origin.status().breaker == Breaker::Closed);
    Ok(())
}

#[tokio::test]
async fn a_commit_with_thousands_of_small_files_takes_few_requests() -> Result<()> {
    let hub = Hub::start().await?;
    let id = repo("acme/many")?;
    let files =
        (0..2500).map(|i| HubFile::new(&format!("d{}/f{i}", i % 50), format!("{i}").as_bytes())).collect();
    let commit = hub.push_files(&id, "main", files).await?;
    let origin = build(&config(&hub)?)?;
    ensure!(manifest(&*origin, &id, commit).await?.entries().len() == 2500);
    ensure!(hub.requests().len() <= 8, "{}", hub.requests().len());
    Ok(())
}
