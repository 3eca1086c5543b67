//! Many nodes that fetch one file from an origin at the same time: a crowd, which the origin sends it once.
//!
//! Without a known root, what an origin sends goes into a draft. Nodes that fill a draft of the same file ask one
//! another what they do about it, share its parts out among themselves without anybody in the chair (`view`), and
//! hand each other what the origin sent them.
//!
//! **Invariants:** what a mate sends goes into a draft, of which nothing is seen before all of it has its digest; a draft
//! that has it not is fetched anew from the origin alone, and whoever sent a wrong part is not listened to again. No
//! more than what an origin gives to everybody is told or given to anyone.
//! **Not here:** drafts (`store`), the questions (`transfer`).

mod fill;
mod view;
#[cfg(test)]
mod view_tests;
mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use hubless_discovery::DhtKey;
use hubless_store::{CrowdSeat, DraftNews};
use hubless_types::{CommitId, FileDigest, FileEntry, NodeId, Provider};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::mirror::Inner;
use crate::util::locked;

/// How long a node listens to others before it asks the origin, where any are connected: within their head start.
const LISTEN_FOR: Duration = Duration::from_millis(200);
/// How long a node is not listened to that talked and brought nothing, or brought something wrong.
const DOUBTED_FOR: Duration = Duration::from_secs(600);
/// Nodes that are doubted; the oldest make room.
const MAX_DOUBTED: usize = 1024;

/// The crowds that this node is in.
#[derive(Default)]
pub(crate) struct Crowds {
    tables: Mutex<Tables>,
    doubted: Mutex<VecDeque<(NodeId, Instant)>>,
}

#[derive(Default)]
struct Tables {
    by_digest: HashMap<FileDigest, Weak<Table>>,
    /// Whether somebody listens for all of them.
    watched: bool,
}

/// One crowd. Dropping it leaves the crowd.
pub(crate) struct Table {
    seat: Arc<CrowdSeat>,
    since: Instant,
    keys: Vec<DhtKey>,
    mates: Mutex<BTreeMap<NodeId, (Provider, DraftNews)>>,
    /// Told when `mates` changed.
    changed: Notify,
    over: CancellationToken,
    _over: DropGuard,
}

impl Crowds {
    /// Whether `node` is not listened to.
    fn doubts(&self, node: &NodeId) -> bool {
        locked(&self.doubted).iter().any(|(n, at)| n == node && at.elapsed() < DOUBTED_FOR)
    }

    /// `node` is not listened to for a while.
    fn doubt(&self, node: NodeId) {
        let mut doubted = locked(&self.doubted);
        doubted.retain(|(n, at)| *n != node && at.elapsed() < DOUBTED_FOR);
        if doubted.len() == MAX_DOUBTED {
            doubted.pop_front();
        }
        doubted.push_back((node, Instant::now()));
    }

    fn alive(&self) -> Vec<Arc<Table>> {
        locked(&self.tables).by_digest.values().filter_map(Weak::upgrade).collect()
    }

    /// The crowds that this node is in; `None` once there are none, and nobody listens any more.
    fn tables(&self) -> Option<Vec<Arc<Table>>> {
        let mut tables = locked(&self.tables);
        tables.by_digest.retain(|_, table| table.strong_count() > 0);
        let alive: Vec<Arc<Table>> = tables.by_digest.values().filter_map(Weak::upgrade).collect();
        tables.watched = !alive.is_empty();
        tables.watched.then_some(alive)
    }
}

impl Inner {
    /// Joins those that fetch a file that is open to everybody from an origin; `None` without a network.
    pub(crate) fn join_crowd(self: &Arc<Self>, commit: CommitId, entry: &FileEntry) -> Option<Arc<Table>> {
        self.net.as_ref()?;
        let over = CancellationToken::new();
        let table = Arc::new(Table {
            seat: Arc::new(self.store.blobs().join_crowd(entry.digest(), entry.size)?),
            since: Instant::now(),
            keys: vec![DhtKey::Commit(commit)],
            mates: Mutex::default(),
            changed: Notify::new(),
            _over: over.clone().drop_guard(),
            over,
        });
        let mut tables = locked(&self.crowds.tables);
        tables.by_digest.insert(entry.digest(), Arc::downgrade(&table));
        if !std::mem::replace(&mut tables.watched, true) {
            let (inner, cancel) = (Arc::clone(self), self.cancel.clone());
            self.tasks.spawn(async move { cancel.run_until_cancelled(watch::watch(inner)).await.is_some() });
        }
        drop(tables);
        self.store.blobs().crowd_stirred().notify_one();
        Some(table)
    }

    /// Returns when others that began at the same moment have been heard of, where anybody is connected.
    pub(crate) async fn listened(&self, table: &Table) {
        if self.net.as_ref().is_some_and(|net| !net.discovery.peers().is_empty()) {
            tokio::time::sleep_until(table.since + LISTEN_FOR).await;
        }
    }
}

impl Table {
    /// What the other nodes at the table say, all of it.
    fn news(&self) -> Vec<(Provider, DraftNews)> {
        locked(&self.mates).values().cloned().collect()
    }

    /// What `node` said counts no longer.
    fn forget(&self, node: &NodeId) {
        locked(&self.mates).remove(node);
    }

    /// `provider` says this, or that it does nothing about the file.
    fn hear(&self, provider: &Provider, news: Option<DraftNews>) {
        let mut mates = locked(&self.mates);
        match news {
            Some(news) => {
                mates.insert(provider.node, (provider.clone(), news));
            }
            None if mates.remove(&provider.node).is_none() => return,
            None => {}
        }
        drop(mates);
        self.changed.notify_one();
    }
}
