//! Hears what other nodes do about the files that this node fetches from an origin: one question a node for all files,
//! again and again for as long as there are any.
//!
//! Whoever asks is asked back at once: so two that begin a moment apart know each other from the second one's question.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use hubless_store::DraftNews;
use hubless_transfer::limits::MAX_DRAFTS_ASKED;
use hubless_transfer::{PeerClient as _, TransferError};
use hubless_types::{FileDigest, NodeId, Provider};
use tokio::time::Instant;

use super::Table;
use crate::mirror::Inner;
use crate::sources::MAX_SOURCES;

/// How often a node is asked that fetches one of the files.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// First and longest pause before one is asked again that fetches none; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Pause after one did not understand the question: it is older than that.
const DEAF_PAUSE: Duration = Duration::from_secs(60);
/// Questions in a row that a node may leave unanswered before what it said last counts no longer. On a full line one is late
/// now and then; who is gone brings nothing, and is passed over for that.
const MAX_MISSES: u32 = 3;
/// Questions that are under way at once.
const ASKED_AT_ONCE: usize = 16;

/// A node that may fetch one of the files, too.
struct Peer {
    provider: Provider,
    due: Instant,
    pause: Duration,
    asking: bool,
    /// There is more to ask than what it is being asked.
    again: bool,
    /// Questions in a row that it did not answer.
    misses: u32,
}

type Told = Result<Vec<(FileDigest, DraftNews)>, TransferError>;

/// Listens until this node is in no crowd any more.
pub(super) async fn watch(inner: Arc<Inner>) {
    let Some(net) = &inner.net else { return };
    let stirred = inner.store.blobs().crowd_stirred();
    let mut peers: HashMap<NodeId, Peer> = HashMap::new();
    let mut feeds: SelectAll<BoxStream<'static, Provider>> = SelectAll::new();
    let mut fed: HashMap<FileDigest, Instant> = HashMap::new();
    let mut asking = FuturesUnordered::new();
    loop {
        let Some(tables) = inner.crowds.tables() else { return };
        fed.retain(|digest, since| tables.iter().any(|t| t.seat.digest() == *digest && t.since == *since));
        for table in &tables {
            if fed.insert(table.seat.digest(), table.since).is_none() {
                let feed =
                    net.feed_of_crowd(table.keys.clone()).take_until(table.over.clone().cancelled_owned());
                feeds.push(feed.boxed());
                peers.values_mut().for_each(Peer::is_due);
            }
            for node in table.seat.askers() {
                let connected = || net.discovery.peers().into_iter().find(|p| p.node == node);
                if !peers.contains_key(&node)
                    && let Some(provider) = connected()
                {
                    known(&mut peers, provider);
                }
                if let Some(peer) = peers.get_mut(&node) {
                    peer.is_due();
                }
            }
        }
        let now = Instant::now();
        let digests: Vec<FileDigest> = turn(&tables, now);
        for peer in peers.values_mut().filter(|peer| !peer.asking && peer.due <= now) {
            if asking.len() >= ASKED_AT_ONCE {
                break;
            }
            peer.asking = true;
            let (provider, digests) = (peer.provider.clone(), digests.clone());
            asking.push(async move {
                let told = net.peers.drafts(&provider, &digests).await;
                (provider, digests, told)
            });
        }
        drop(tables);
        let next = peers.values().filter(|peer| !peer.asking).map(|peer| peer.due).min();
        let next = next.unwrap_or(now + ASK_EVERY).clamp(now + Duration::from_millis(10), now + ASK_EVERY);
        tokio::select! {
            Some((provider, digests, told)) = asking.next() => {
                if peers.get_mut(&provider.node).is_none_or(|peer| peer.told(&told)) {
                    hear(&inner, &provider, &digests, told);
                }
            }
            Some(provider) = feeds.next(), if !feeds.is_empty() => known(&mut peers, provider),
            () = stirred.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// The files that are asked about now: as many as one question may name, others in their turn.
fn turn(tables: &[Arc<Table>], now: Instant) -> Vec<FileDigest> {
    let mut digests: Vec<FileDigest> = tables.iter().map(|table| table.seat.digest()).collect();
    digests.sort_unstable();
    if digests.len() > MAX_DRAFTS_ASKED {
        let oldest = tables.iter().map(|table| table.since).min().unwrap_or(now);
        let turns = now.duration_since(oldest).as_millis() / ASK_EVERY.as_millis();
        let len = digests.len();
        digests.rotate_left((turns as usize).wrapping_mul(MAX_DRAFTS_ASKED) % len);
        digests.truncate(MAX_DRAFTS_ASKED);
    }
    digests
}

fn known(peers: &mut HashMap<NodeId, Peer>, provider: Provider) {
    let room = peers.len() < MAX_SOURCES;
    match peers.get_mut(&provider.node) {
        // The newest addresses are kept.
        Some(peer) if !provider.addrs.is_empty() => peer.provider = provider,
        None if room => {
            peers.insert(provider.node, Peer::new(provider));
        }
        _ => {}
    }
}

fn hear(inner: &Inner, provider: &Provider, digests: &[FileDigest], told: Told) {
    let doubted = inner.crowds.doubts(&provider.node);
    let told = told.unwrap_or_else(|error| {
        tracing::debug!(peer = %provider.node.short(), %error, "a peer did not say what it fetches");
        Vec::new()
    });
    let mut told: HashMap<FileDigest, DraftNews> = told.into_iter().filter(|_| !doubted).collect();
    for table in inner.crowds.alive().iter().filter(|table| digests.contains(&table.seat.digest())) {
        table.hear(provider, told.remove(&table.seat.digest()));
    }
}

impl Peer {
    fn new(provider: Provider) -> Self {
        Self { provider, due: Instant::now(), pause: FIRST_PAUSE, asking: false, again: false, misses: 0 }
    }

    /// It is asked at once: there is something new to ask, or it fetches something itself.
    fn is_due(&mut self) {
        (self.due, self.pause, self.again) = (Instant::now(), FIRST_PAUSE, self.asking);
    }

    /// It answered, or did not; whether that is to be believed.
    fn told(&mut self, told: &Told) -> bool {
        self.asking = false;
        self.misses = if told.is_ok() { 0 } else { self.misses.saturating_add(1) };
        let pause = match told {
            Ok(news) if !news.is_empty() => {
                self.pause = FIRST_PAUSE;
                ASK_EVERY
            }
            Err(TransferError::Protocol { .. }) => DEAF_PAUSE,
            _ => {
                let pause = self.pause;
                self.pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            }
        };
        let pause = if std::mem::take(&mut self.again) { Duration::ZERO } else { pause };
        self.due = Instant::now() + pause;
        told.is_ok() || self.misses >= MAX_MISSES
    }
}
