//! Whom to ask: nodes that are connected or on the local network first, then those that records name.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hubless_discovery::{DhtKey, Discovery};
use hubless_types::{NodeId, Provider, ProviderSource};

use crate::counted::Counted;
use crate::fetch::Fetcher;

/// Most nodes that are asked for one thing.
pub(crate) const MAX_SOURCES: usize = 64;
/// Questions for one thing that are under way at once.
pub(crate) const ASKED_AT_ONCE: usize = 8;
/// Pauses between two rounds of looking for sources of one file: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(3);
/// The first pause where others begin at the same moment.
const FIRST_CROWD_PAUSE: Duration = Duration::from_millis(400);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a mirror with a network has.
pub(crate) struct Net {
    pub(crate) node: NodeId,
    pub(crate) discovery: Arc<dyn Discovery>,
    pub(crate) peers: Arc<Counted>,
    pub(crate) fetcher: Fetcher,
    pub(crate) lookup_timeout: Duration,
}

impl Net {
    /// Sources of what `keys` name, nearest first, each node once; ends when the lookups end or take too long.
    pub(crate) fn sources(&self, keys: &[DhtKey]) -> BoxStream<'static, Provider> {
        once(&self.discovery, self.node, keys, self.lookup_timeout)
    }

    /// Sources for a fetch that may take long: round after round, at growing pauses, for as long as it is read.
    pub(crate) fn feed(&self, keys: Vec<DhtKey>) -> BoxStream<'static, Provider> {
        self.rounds(keys, FIRST_PAUSE)
    }

    /// As [`Net::feed`], where others that begin at the same moment are to be found: what they announce comes after the
    /// first round.
    pub(crate) fn feed_of_crowd(&self, keys: Vec<DhtKey>) -> BoxStream<'static, Provider> {
        self.rounds(keys, FIRST_CROWD_PAUSE)
    }

    fn rounds(&self, keys: Vec<DhtKey>, first: Duration) -> BoxStream<'static, Provider> {
        let (discovery, node, timeout) = (self.discovery.clone(), self.node, self.lookup_timeout);
        let rounds = stream::unfold(None, move |pause: Option<Duration>| {
            let (discovery, keys) = (discovery.clone(), keys.clone());
            async move {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                let next = pause.map_or(first, |p| (p * 2).min(LONGEST_PAUSE));
                Some((once(&discovery, node, &keys, timeout), Some(next)))
            }
        });
        rounds.flatten().boxed()
    }
}

fn once(
    discovery: &Arc<dyn Discovery>,
    node: NodeId,
    keys: &[DhtKey],
    timeout: Duration,
) -> BoxStream<'static, Provider> {
    let mut near = discovery.peers();
    near.sort_by_key(|p| nearness(p.source));
    let found = stream::select_all(keys.iter().map(|key| discovery.find(key)));
    let mut seen = HashSet::from([node]);
    stream::iter(near)
        .chain(found.take_until(Box::pin(tokio::time::sleep(timeout))))
        .filter(move |p| std::future::ready(seen.insert(p.node)))
        .take(MAX_SOURCES)
        .boxed()
}

fn nearness(source: ProviderSource) -> u8 {
    match source {
        ProviderSource::Lan => 0,
        ProviderSource::Connected => 1,
        ProviderSource::Dht => 2,
    }
}
