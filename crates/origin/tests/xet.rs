//! Files that a hub's plain bridge refuses: they come through its Xet store, by the same rules as everything else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use hubless_origin::{Origin, OriginConfig, OriginError, OriginErrorKind, OriginKind, build};
use hubless_testkit::{Hub, HubFaults, PortOf, Recorded, Scope, Tamper, Who, XetMode, XetPacking};
use hubless_types::{ByteRange, CommitId, FileEntry, RepoId, Token};
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;
const TOKEN: &str = "hf_reader";

/// A hub with one file of floats and repeated parts in Xet, and a client that takes it for too large a file.
struct Story {
    hub: Hub,
    origin: Arc<dyn Origin>,
    repo: RepoId,
    commit: CommitId,
    entry: FileEntry,
    content: Vec<u8>,
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    });
    noise.take(len).collect()
}

/// Floats that grow slowly, noise, and both once more: something for each way of packing, and for storing once.
fn content() -> Vec<u8> {
    let floats: Vec<u8> = (0..200_000).flat_map(|i| (1.0 + i as f32 * 1e-6).to_le_bytes()).collect();
    let noise = noise(MIB);
    [&floats[..], &noise, &floats, b"the end", &noise].concat()
}

impl Story {
    async fn begin(mode: XetMode) -> Result<Self> {
        Self::with(mode, content(), |config| config.plain_up_to = MIB as u64).await
    }

    /// With a file just large enough for two xorbs.
    async fn hostile(mode: XetMode) -> Result<Self> {
        Self::with(mode, noise(5 * MIB / 2), |config| config.plain_up_to = MIB as u64).await
    }

    async fn with(mode: XetMode, content: Vec<u8>, change: impl FnOnce(&mut OriginConfig)) -> Result<Self> {
        let (hub, repo): (_, RepoId) = (Hub::start().await?, "acme/large".parse()?);
        let commit = hub.push(&repo, "main", &[("w.safetensors", &content)]).await?;
        hub.keep_in_xet(Some(mode));
        let mut config = OriginConfig::new(&hub.url(), OriginKind::Hub)?;
        config.patience.head = Duration::from_secs(5);
        config.patience.stall = Duration::from_secs(1);
        config.attempts = 1;
        change(&mut config);
        let origin = build(&config)?;
        let manifest = origin.bundle(&repo, commit, None).await?.check(commit)?;
        let entry = manifest.entry(&"w.safetensors".parse()?).context("the file")?.clone();
        hub.forget_requests();
        Ok(Self { hub, origin, repo, commit, entry, content })
    }

    async fn read(&self, range: ByteRange, token: Option<&Token>) -> Result<Vec<u8>, OriginError> {
        let body = self.origin.open(&self.repo, self.commit, &self.entry, range, token).await?;
        Ok(body.try_collect::<Vec<_>>().await?.concat())
    }

    async fn whole(&self) -> Result<Vec<u8>, OriginError> {
        self.read(ByteRange::whole(self.entry.size), None).await
    }

    /// What was asked for at addresses that hold `part`.
    fn asked(&self, part: &str) -> Vec<Recorded> {
        self.hub.requests().into_iter().filter(|request| request.target.contains(part)).collect()
    }
}

fn tampered_plan(tamper: impl Fn(&mut Value) + Send + Sync + 'static) -> XetMode {
    XetMode { tamper_plan: Some(Arc::new(tamper)), ..XetMode::default() }
}

#[tokio::test]
async fn what_the_plain_bridge_refuses_comes_by_xet() -> Result<()> {
    for packing in [XetPacking::Plain, XetPacking::Lz4, XetPacking::GroupedLz4, XetPacking::Each] {
        let story = Story::begin(XetMode { packing, ..XetMode::default() }).await?;
        ensure!(story.whole().await? == story.content, "{packing:?}");
        let size = story.entry.size;
        for (start, end) in [(0, 1), (70_001, 70_002), (size / 3, size / 3 + MIB as u64), (size - 9, size)] {
            let part = story.read(ByteRange::new(start, end), None).await?;
            ensure!(part == story.content[start as usize..end as usize], "{packing:?} {start}..{end}");
        }
        ensure!(story.asked("/resolve/").len() == 1, "the plain way is not tried for each range");
        ensure!(story.asked("xet-read-token").len() == 1, "leave is asked for once");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_file_has_twice_is_fetched_once() -> Result<()> {
    let story = Story::begin(XetMode { packing: XetPacking::Plain, ..XetMode::default() }).await?;
    ensure!(story.whole().await? == story.content);
    let xorbs = story.asked("/xorbs/");
    let sent: u64 = xorbs.iter().map(|request| request.sent).sum();
    ensure!(sent < 2 * story.entry.size / 3, "{sent} bytes for {}", story.entry.size);
    let mut places: Vec<_> = xorbs.iter().map(|request| &request.target).collect();
    places.sort();
    places.dedup();
    ensure!(places.len() == xorbs.len());
    Ok(())
}

#[tokio::test]
async fn where_the_plain_bridge_serves_xet_is_never_asked() -> Result<()> {
    let story = Story::begin(XetMode { bridge: None, ..XetMode::default() }).await?;
    ensure!(story.whole().await? == story.content);
    ensure!(story.asked("xet-read-token").is_empty() && story.asked("/cas/").is_empty());
    // What any client could have plainly is not asked for otherwise because a content network hiccups.
    let small = Story::with(XetMode::default(), content(), |config| config.plain_up_to = 100 << 20).await?;
    let error = small.whole().await.err().context("it is refused")?;
    ensure!((error.kind(), error.status()) == (OriginErrorKind::Unavailable, Some(400)), "{error}");
    ensure!(small.asked("xet-read-token").is_empty());
    Ok(())
}

#[tokio::test]
async fn only_refusals_of_the_way_lead_to_xet() -> Result<()> {
    for (status, by_xet) in [(400, true), (403, true), (413, true), (404, false), (500, false), (429, false)]
    {
        let story = Story::begin(XetMode { bridge: Some(status), ..XetMode::default() }).await?;
        ensure!(story.whole().await.is_ok() == by_xet, "{status}");
        ensure!(story.asked("xet-read-token").is_empty() != by_xet, "{status}");
    }
    // Nor does a hub that tells of no Xet.
    let story = Story::begin(XetMode::default()).await?;
    story.hub.keep_in_xet(None);
    let faults = HubFaults { on: Scope::Network, ..HubFaults::default() };
    story.hub.set_faults(HubFaults { refuse: Some(hubless_testkit::Refusal::page(400)), ..faults });
    ensure!(story.whole().await.is_err() && story.asked("xet-read-token").is_empty());
    Ok(())
}

#[tokio::test]
async fn each_token_goes_to_its_own_host_alone() -> Result<()> {
    let story = Story::begin(XetMode::default()).await?;
    story.hub.gate(&story.repo, &[TOKEN])?;
    story.hub.user("hf_other");
    let error = story.whole().await.err().context("strangers read it")?;
    ensure!(error.kind() == OriginErrorKind::Gated, "{error}");
    let token = Token::new(TOKEN)?;
    ensure!(story.read(ByteRange::whole(story.entry.size), Some(&token)).await? == story.content);
    for request in story.hub.requests() {
        match (request.port, &request.who) {
            (PortOf::Hub, Who::Token(shown)) => ensure!(shown == TOKEN, "{request:?}"),
            (PortOf::Hub, Who::Nobody) => {}
            (PortOf::Content, Who::Token(shown)) => {
                ensure!(shown.starts_with("xet-pass-") && request.target.starts_with("/cas/"), "{request:?}");
            }
            (PortOf::Content, Who::Nobody) => ensure!(!request.target.starts_with("/cas/"), "{request:?}"),
        }
    }
    // What was given to a reader's token is used for nobody else, though everything is known by now.
    for other in [None, Some(Token::new("hf_other")?)] {
        let error = story.read(ByteRange::new(0, 9), other.as_ref()).await.err().context("it is read")?;
        ensure!(error.kind() == OriginErrorKind::Gated, "{error}");
    }
    let before = story.asked("xet-read-token").len();
    ensure!(story.read(ByteRange::new(0, 9), Some(&token)).await.is_ok());
    ensure!(story.asked("xet-read-token").len() == before, "of the same request");
    ensure!(story.read(ByteRange::new(0, 9), Some(&Token::new(TOKEN)?)).await.is_ok());
    ensure!(story.asked("xet-read-token").len() == before + 1, "of another request");
    Ok(())
}

#[tokio::test]
async fn leave_is_asked_for_again_before_it_ends() -> Result<()> {
    let (mode, long) = (XetMode { life: 10, ..XetMode::default() }, content().repeat(10));
    let story = Story::with(mode, long, |config| config.plain_up_to = MIB as u64).await?;
    ensure!(story.entry.size > 32 * MIB as u64, "it is planned in several parts");
    ensure!(story.whole().await? == story.content);
    let plans = story.asked("/cas/");
    ensure!(plans.len() == 3 && plans.iter().all(|plan| plan.status == 200), "{plans:?}");
    ensure!(story.asked("xet-read-token").len() == 3, "ten seconds are too few to begin anything with");

    let story = Story::begin(XetMode::default()).await?;
    ensure!(story.read(ByteRange::new(0, 9), None).await.is_ok());
    story.hub.end_xet_passes();
    ensure!(story.whole().await? == story.content, "leave that was taken back is asked for once more");
    let statuses: Vec<_> = story.asked("/cas/").iter().map(|plan| plan.status).collect();
    ensure!(statuses == [200, 401, 200], "{statuses:?}");
    Ok(())
}

#[tokio::test]
async fn a_range_that_breaks_off_can_be_gone_on_with() -> Result<()> {
    let mode = XetMode { packing: XetPacking::Plain, ..XetMode::default() };
    let story = Story::with(mode, noise(3 * MIB), |config| config.plain_up_to = MIB as u64).await?;
    ensure!(story.read(ByteRange::new(0, 9), None).await.is_ok());
    let cut = HubFaults { on: Scope::Network, cut_after: Some(900_000), ..HubFaults::default() };
    story.hub.set_faults(cut);
    let (mut got, mut tries) = (Vec::new(), 0);
    while (got.len() as u64) < story.entry.size && tries < 30 {
        tries += 1;
        let range = ByteRange::new(got.len() as u64, story.entry.size);
        let Ok(mut body) = story.origin.open(&story.repo, story.commit, &story.entry, range, None).await
        else {
            continue;
        };
        while let Ok(Some(piece)) = body.try_next().await {
            got.extend_from_slice(&piece);
        }
    }
    ensure!(tries > 1 && got == story.content, "{tries} tries, {} bytes", got.len());
    Ok(())
}

#[tokio::test]
async fn plans_that_make_no_sense_are_refused() -> Result<()> {
    let set = |place: &'static str, value: Value| -> (String, XetMode) {
        let name = format!("{place} = {value}");
        let tamper = move |plan: &mut Value| {
            if let Some(found) = plan.pointer_mut(place) {
                *found = value.clone();
            }
        };
        (name, tampered_plan(tamper))
    };
    let every = |field: &'static str, value: Value| -> (String, XetMode) {
        let name = format!("each {field} = {value}");
        let tamper = move |plan: &mut Value| {
            let fetches = plan["fetch_info"].as_object_mut().into_iter().flat_map(|all| all.values_mut());
            fetches.for_each(|places| places[0][field] = value.clone());
        };
        (name, tampered_plan(tamper))
    };
    let elsewhere = "http://169.254.169.254/latest/meta-data";
    let modes = [
        set("/terms", json!([])),
        set("/terms/0/unpacked_length", json!(u64::MAX)),
        set("/terms/0/unpacked_length", json!(1)),
        set("/terms/0/range", json!({ "start": 0, "end": 4_000_000_000_u32 })),
        set("/terms/1/hash", json!("0".repeat(64))),
        set("/offset_into_first_range", json!(u64::MAX)),
        set("/offset_into_first_range", json!(200_000)),
        set("/fetch_info", json!({})),
        set("", json!([])),
        every("url", json!(elsewhere)),
        every("url", json!("file:///etc/passwd")),
        every("url", json!("http://user:s3cret@127.0.0.1:1/")),
        every("url_range", json!({ "start": 0, "end": u64::MAX })),
        every("url_range", json!({ "start": 0, "end": 1_000 })),
        every("range", json!({ "start": 0, "end": 1 })),
        (
            "each term twice".to_owned(),
            tampered_plan(|plan| {
                let terms = plan["terms"].as_array().cloned().unwrap_or_default();
                plan["terms"] = json!([terms.clone(), terms].concat());
            }),
        ),
        (
            "the last term lacks".to_owned(),
            tampered_plan(|plan| drop(plan["terms"].as_array_mut().and_then(Vec::pop))),
        ),
        ("endless".to_owned(), tampered_plan(|plan| plan["more"] = json!("x".repeat(17 * MIB)))),
    ];
    for (what, mode) in modes {
        let story = Story::hostile(mode).await?;
        let done = tokio::time::timeout(Duration::from_secs(10), story.whole()).await;
        let error = done.with_context(|| format!("{what}: it hangs"))?.err();
        let error = error.with_context(|| format!("{what}: it is believed"))?;
        let told = error.to_string();
        ensure!(told.starts_with(&story.hub.url()) && told.len() < 1000, "{what}: {told}");
        ensure!(!told.contains("Signature") && !told.contains("s3cret"), "{what}: {told}");
        ensure!(
            matches!(error.kind(), OriginErrorKind::Wrong | OriginErrorKind::Unavailable),
            "{what}: {error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn xorbs_that_make_no_sense_are_refused() -> Result<()> {
    let tampers: Vec<(&str, Tamper<Vec<u8>>)> = vec![
        ("another version", Arc::new(|xorb| xorb[0] = 1)),
        ("another scheme", Arc::new(|xorb| xorb[4] = 7)),
        ("a huge length", Arc::new(|xorb| xorb[5..8].fill(0xff))),
        ("a huge packed length", Arc::new(|xorb| xorb[1..4].fill(0xff))),
        ("a shorter chunk", Arc::new(|xorb| xorb[5] ^= 1)),
        ("no frame", Arc::new(|xorb| xorb[8..12].fill(0))),
        ("zeros", Arc::new(|xorb| xorb.fill(0))),
        ("cut", Arc::new(|xorb| xorb.truncate(xorb.len() - 1))),
        ("one byte more", Arc::new(|xorb| xorb.push(0))),
        ("nothing", Arc::new(|xorb| xorb.clear())),
    ];
    for (what, tamper) in tampers {
        let mode = XetMode { packing: XetPacking::Lz4, tamper_xorb: Some(tamper), ..XetMode::default() };
        let story = Story::hostile(mode).await?;
        let done = tokio::time::timeout(Duration::from_secs(10), story.whole()).await;
        let error = done.with_context(|| format!("{what}: it hangs"))?.err();
        let error = error.with_context(|| format!("{what}: it is believed"))?;
        ensure!(error.kind() == OriginErrorKind::Wrong, "{what}: {error}");
    }
    Ok(())
}
