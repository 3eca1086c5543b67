//! Which repositories peers hold: asked of those that are connected, so that listings and searches have them.
//!
//! Peers are asked every hour, and anew behind whoever looks, who sees at the next look what they say now: a node that
//! nobody uses asks for next to nothing. Names alone are taken: counts and tags of strangers would order a listing as
//! they like.
//! **Not here:** what the names mean (`peers`), how one is found among others (`store`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hubless_transfer::PeerClient as _;
use hubless_types::{NodeId, Provider, RepoId};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::MirrorError;
use crate::mirror::Inner;
use crate::sources::Net;
use crate::util::blocking;

/// How often it is looked who is connected.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long what a peer told is listed before it is asked again, where nobody looks.
const ANEW: Duration = Duration::from_secs(3600);
/// How long it is new enough for whoever looks: so much, and for each name that came so much more.
const FRESH: Duration = Duration::from_secs(3);
const FRESH_A_NAME: Duration = Duration::from_millis(10);
/// How soon a peer that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(60);
/// Longest time that one peer has to tell all that it will: others are listed with it.
const WITHIN: Duration = Duration::from_secs(10);
/// Peers whose repositories are listed at a time.
const MAX_PEERS: usize = 16;
/// Most repositories that are taken from one of them, and pages that they may come in.
const MAX_FROM_ONE_PEER: usize = 4096;
const MAX_PAGES: usize = 32;

/// What each peer told, and when it is asked again.
#[derive(Default)]
struct Elsewhere(BTreeMap<NodeId, Told>);

struct Told {
    at: Instant,
    answered: bool,
    repos: Vec<RepoId>,
}

impl Told {
    fn is_due(&self, wanted: bool, now: Instant) -> bool {
        let pause = match (self.answered, wanted) {
            (false, _) => RETRY,
            (true, false) => ANEW,
            (true, true) => FRESH + FRESH_A_NAME * self.repos.len() as u32,
        };
        self.at + pause <= now
    }
}

impl Elsewhere {
    /// Whom to ask now of `peers`, the nearest of which come first, where somebody looks (`wanted`) or not. Who is gone is
    /// listed for an hour, unless somebody else wants the room.
    fn due(&mut self, peers: Vec<Provider>, wanted: bool, now: Instant) -> Vec<Provider> {
        let is_there = |node: &NodeId| peers.iter().any(|peer| peer.node == *node);
        self.0.retain(|node, told| told.at + ANEW > now || is_there(node));
        let others = peers.iter().filter(|peer| !self.0.contains_key(&peer.node)).count();
        if self.0.len() + others > MAX_PEERS {
            // Who is gone, and who has never told anything.
            self.0.retain(|node, told| is_there(node) && (told.answered || !told.repos.is_empty()));
        }
        let mut room = MAX_PEERS.saturating_sub(self.0.len());
        let is_due = |peer: &Provider| match self.0.get(&peer.node) {
            Some(told) => told.is_due(wanted, now),
            None => room.checked_sub(1).map(|left| room = left).is_some(),
        };
        peers.into_iter().filter(is_due).collect()
    }

    /// Notes what a peer told; `None` if it did not answer, and what it told before is listed on.
    fn note(&mut self, node: NodeId, repos: Option<Vec<RepoId>>, now: Instant) {
        let told = self.0.entry(node).or_insert_with(|| Told { at: now, answered: false, repos: Vec::new() });
        (told.at, told.answered) = (now, repos.is_some());
        if let Some(mut repos) = repos {
            repos.sort_unstable();
            repos.dedup();
            told.repos = repos;
        }
    }

    /// All that was told, one of each peer in turn: where not everything is listed, nobody fills the list alone.
    fn in_turn(&self) -> impl Iterator<Item = RepoId> {
        let longest = self.0.values().map(|told| told.repos.len()).max().unwrap_or(0);
        (0..longest).flat_map(|n| self.0.values().filter_map(move |told| told.repos.get(n))).cloned()
    }
}

impl Inner {
    /// Lists what connected peers hold, until `cancel`.
    pub(crate) fn list_what_peers_hold(self: &Arc<Self>, cancel: CancellationToken) {
        let inner = Arc::downgrade(self);
        let work = async move {
            let (mut elsewhere, mut wanted) = (Elsewhere::default(), false);
            loop {
                let Some(mirror) = inner.upgrade() else { return };
                if let Err(error) = mirror.look_elsewhere(&mut elsewhere, wanted).await {
                    tracing::warn!(%error, "what peers hold cannot be listed");
                }
                let asked = Arc::clone(&mirror.list_wanted);
                drop(mirror);
                wanted = tokio::time::timeout(LOOK_EVERY, asked.notified()).await.is_ok();
            }
        };
        self.tasks.spawn(async move { cancel.run_until_cancelled(work).await.is_some() });
    }

    async fn look_elsewhere(
        self: &Arc<Self>,
        elsewhere: &mut Elsewhere,
        wanted: bool,
    ) -> Result<(), MirrorError> {
        let Some(net) = &self.net else { return Ok(()) };
        let mut peers = net.discovery.peers();
        peers.retain(|peer| peer.node != net.node);
        let before = elsewhere.0.len();
        let due = elsewhere.due(peers, wanted, Instant::now());
        if due.is_empty() && elsewhere.0.len() == before {
            return Ok(());
        }
        let told = join_all(due.iter().map(|peer| held_by(net, peer))).await;
        for (peer, repos) in due.iter().zip(told) {
            elsewhere.note(peer.node, repos, Instant::now());
        }
        let (inner, repos) = (Arc::clone(self), elsewhere.in_turn().collect::<Vec<_>>());
        blocking(move || Ok(inner.store.catalogue().list_elsewhere(repos)?)).await
    }
}

/// All pages of what a peer holds, up to the bounds; `None` if the first does not come.
async fn held_by(net: &Net, peer: &Provider) -> Option<Vec<RepoId>> {
    let deadline = Instant::now() + WITHIN;
    let ask = async |after| timeout_at(deadline, net.peers.repos(peer, after)).await.ok()?.ok();
    let mut page = ask(None).await?;
    let mut repos = std::mem::take(&mut page.repos);
    for _ in 1..MAX_PAGES {
        if page.next.is_none() || repos.len() >= MAX_FROM_ONE_PEER {
            break;
        }
        let Some(next) = ask(page.next).await else { break };
        page = next;
        repos.append(&mut page.repos);
    }
    repos.truncate(MAX_FROM_ONE_PEER);
    Some(repos)
}

#[cfg(test)]
mod tests {
    use hubless_types::ProviderSource;

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn peers(nodes: impl IntoIterator<Item = u8>) -> Vec<Provider> {
        let peer = |n| Provider { node: node(n), addrs: Vec::new(), source: ProviderSource::Connected };
        nodes.into_iter().map(peer).collect()
    }

    fn asked(due: &[Provider]) -> Vec<u8> {
        due.iter().map(|peer| peer.node.as_bytes()[0]).collect()
    }

    fn repos(names: &[&str]) -> Vec<RepoId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn listed(elsewhere: &Elsewhere) -> Vec<String> {
        elsewhere.in_turn().map(|repo| repo.name().to_owned()).collect()
    }

    #[test]
    fn each_is_asked_once_an_hour_and_anew_where_somebody_looks() {
        let (mut all, now) = (Elsewhere::default(), Instant::now());
        assert_eq!(asked(&all.due(peers([1, 2]), false, now)), [1, 2]);
        all.note(node(1), Some(repos(&["a/x"])), now);
        all.note(node(2), None, now);
        assert_eq!(asked(&all.due(peers([1, 2, 3]), false, now)), [3]);
        all.note(node(3), Some(Vec::new()), now);
        assert_eq!(
            asked(&all.due(peers([1, 2, 3]), true, now + FRESH)),
            [3],
            "one name more is fresh for longer"
        );
        assert_eq!(asked(&all.due(peers([1, 2, 3]), false, now + RETRY)), [2]);
        assert_eq!(asked(&all.due(peers([1]), false, now + ANEW)), [1]);
        all.note(node(1), None, now + ANEW);
        assert_eq!(listed(&all), ["a/x"], "what it told before stays while it is there");
        assert!(all.due(peers([]), false, now + 2 * ANEW).is_empty());
        assert!(listed(&all).is_empty(), "and goes when it is gone");
    }

    #[test]
    fn nobody_fills_the_list_alone() {
        let (mut all, now) = (Elsewhere::default(), Instant::now());
        all.note(node(1), Some(repos(&["a/1", "a/2", "a/3", "a/2"])), now);
        all.note(node(2), Some(repos(&["b/1"])), now);
        assert_eq!(listed(&all), ["a/1", "b/1", "a/2", "a/3"]);
    }

    #[test]
    fn who_is_gone_makes_room() {
        let (mut all, now) = (Elsewhere::default(), Instant::now());
        let many: Vec<u8> = (1..=40).collect();
        let first = all.due(peers(many.clone()), false, now);
        assert_eq!(first.len(), MAX_PEERS);
        first.iter().for_each(|peer| all.note(peer.node, Some(Vec::new()), now));
        assert!(all.due(peers(many), false, now).is_empty());
        assert_eq!(asked(&all.due(peers([16, 17, 18]), false, now)), [17, 18], "sixteen is known already");
    }
}
