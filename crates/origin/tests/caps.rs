//! What an origin sends keeps to the caps, and is no origin's fault where they hold it back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use hubless_limits::{Direction, Limits, Rate, Settings, Volume};
use hubless_origin::{OriginConfig, OriginError, OriginKind, build_within};
use hubless_testkit::Hub;
use hubless_types::{ByteRange, RepoId, Timestamp};
use jiff::tz::TimeZone;

const NOW: Timestamp = Timestamp(1_800_000_000);

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

    let begun = Instant::now();
    let whole = ByteRange::whole(entry.size);
    let body = origin.open(&id, commit, entry, whole, None).await?;
    let got = body.try_fold(Vec::new(), |mut all: Vec<u8>, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    // Its end is within the reserve: what was begun before is cut there, or comes whole.
    let got = got.await;
    let took = begun.elapsed().as_secs_f64();
    assert!(took > 2.6, "{took}");
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
