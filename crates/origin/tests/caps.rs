//! What an origin sends keeps to the caps, and is no origin's fault where they hold it back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use hubless_limits::{Direction, Limits, Rate, Settings, Volume};
use hubless_origin::{OriginConfig, OriginError, OriginKind, build_within};
use hubless_testkit::Hub;
use hubless_types::{ByteRange, RepoId, Timestamp};
use jiff::tz::TimeZone;

const NOW: Timestamp = Timestamp(1_800_000_000);
/// What may come ahead of the rate, in seconds: credit that a valve kept from before, and the last turn at it.
const AHEAD: f64 = 0.2;
/// How much later than due it may be over on a machine that has other work, in seconds. A valve makes up for pauses of 0.15 s;
/// what is lost in longer ones is lost.
const LATE: f64 = 0.3;

/// Forty million bytes and more at 4 MB/s: those of ten seconds are ten seconds' worth, within 3 %. They are counted as whoever
/// reads gets them, by one measurement alone.
#[tokio::test]
async fn what_an_origin_sends_within_ten_seconds_is_its_rates_worth() -> Result<()> {
    const RATE: u64 = 4_000_000;
    let hub = Hub::start().await?;
    let id: RepoId = "acme/large".parse()?;
    let bytes: Vec<u8> = (0..48_000_000_usize).map(|i| (i * 31 + i / 251) as u8).collect();
    let commit = hub.push(&id, "main", &[("model.safetensors", &bytes)]).await?;
    let mut settings = Settings::default();
    settings.rates.origin = Rate::per_second(RATE);
    let limits = Limits::new(settings, TimeZone::UTC);
    limits.turn(NOW);
    let origin = build_within(&OriginConfig::new(&hub.url(), OriginKind::Hub)?, &limits)?;
    let manifest = origin.bundle(&id, commit, None).await?.check(commit)?;
    let entry = manifest.entry(&"model.safetensors".parse()?).context("it is there")?;

    let mut body = origin.open(&id, commit, entry, ByteRange::whole(entry.size), None).await?;
    // The first second uses up what the valve had kept.
    let (opened, mut begun, mut got) = (Instant::now(), None, 0);
    loop {
        let piece = body.try_next().await?.context("it ended too soon")?;
        match begun {
            None if opened.elapsed() >= Duration::from_secs(1) => begun = Some(Instant::now()),
            None => {}
            Some(begun) => {
                got += piece.len();
                if Instant::now() - begun >= Duration::from_secs(10) {
                    let rate = got as f64 / begun.elapsed().as_secs_f64();
                    ensure!((rate / RATE as f64 - 1.0).abs() <= 0.03, "{rate} B/s where {RATE} were to be");
                    return Ok(());
                }
            }
        }
    }
}

/// Three million bytes at 1 MB/s take three seconds, longer than the origin may be silent; then the month is used up, and
/// what else is asked says so without a request.
#[tokio::test]
async fn an_origins_bytes_keep_to_the_caps() -> Result<()> {
    let hub = Hub::start().await?;
    let id: RepoId = "acme/tiny".parse()?;
    let bytes: Vec<u8> = (0..3_000_000_usize).map(|i| (i * 31 + i / 251) as u8).collect();
    let commit = hub.push(&id, "main", &[("model.safetensors", &bytes)]).await?;
    let mut settings = Settings::default();
    settings.rates.origin = Rate::per_second(1_000_000);
    settings.months.down = Volume::of(3_020_000);
    let limits = Limits::new(settings, TimeZone::UTC);
    limits.turn(NOW);
    let mut config = OriginConfig::new(&hub.url(), OriginKind::Hub)?;
    config.patience.stall = Duration::from_millis(600);
    config.patience.answer = Duration::from_secs(2);
    let origin = build_within(&config, &limits)?;
    let manifest = origin.bundle(&id, commit, None).await?.check(commit)?;
    let entry = manifest.entry(&"model.safetensors".parse()?).context("it is there")?;

    let (begun, before) = (Instant::now(), limits.valve(Direction::Origin).used());
    let whole = ByteRange::whole(entry.size);
    let body = origin.open(&id, commit, entry, whole, None).await?;
    let got = body.try_fold(Vec::new(), |mut all: Vec<u8>, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    // Its end is within the reserve: what was begun before is cut there, or comes whole.
    let got = got.await;
    let took = begun.elapsed().as_secs_f64();
    let due = (limits.valve(Direction::Origin).used() - before) as f64 / 1e6;
    assert!((due - AHEAD..due + LATE).contains(&took), "{took} s where {due} s were to be");
    assert!(
        matches!(&got, Ok(all) if *all == bytes) || matches!(got, Err(OriginError::Spent { .. })),
        "{took}"
    );
    assert!(
        limits.down().used() >= 2_900_000 && limits.down().used() == limits.valve(Direction::Origin).used()
    );
    assert_eq!(origin.status().failures, 0, "{:?}", origin.status());

    let before = origin.status().requests;
    let refused = origin.open(&id, commit, entry, whole, None).await.err();
    assert!(matches!(refused, Some(OriginError::Spent { .. })), "{refused:?}");
    assert_eq!(origin.status().requests, before, "nobody was asked");
    limits.reconfigure(Settings::default(), NOW);
    drop(origin.open(&id, commit, entry, whole, None).await?);
    Ok(())
}
