//! Watches what this node holds of some blobs and tells each change, not too often.
//!
//! **Not here:** how it travels (`serve`, `memory`).

use std::collections::HashMap;

use futures::stream::{self, BoxStream, StreamExt as _};
use hubless_store::{BlobStatus, Store, StoreError};
use hubless_types::{BlobHash, GroupSet};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::Holding;
use crate::limits::{HOLDINGS_INTERVAL, HOLDINGS_POLL, MAX_HAVE_BYTES};

/// Changes as they come, a batch at a time, what is held now first. Ends when all of `wanted` is held wholly.
pub(crate) fn watch(
    store: Store,
    wanted: Vec<BlobHash>,
) -> BoxStream<'static, Result<Vec<Holding>, StoreError>> {
    let watch =
        Watch { store, open: wanted, told: HashMap::new(), growing: HashMap::new(), next: Instant::now() };
    stream::try_unfold(watch, Watch::step).boxed()
}

struct Watch {
    store: Store,
    /// Blobs that are not whole yet.
    open: Vec<BlobHash>,
    /// Groups that were told of each.
    told: HashMap<BlobHash, u64>,
    /// Those that are being fetched here, and who says when they grow.
    growing: HashMap<BlobHash, watch::Receiver<u64>>,
    /// No push before this.
    next: Instant,
}

impl Watch {
    async fn step(mut self) -> Result<Option<(Vec<Holding>, Self)>, StoreError> {
        loop {
            if self.open.is_empty() {
                return Ok(None);
            }
            sleep_until(self.next).await;
            self.next = Instant::now() + HOLDINGS_INTERVAL;
            let news = self.look().await?;
            if !news.is_empty() {
                return Ok(Some((news, self)));
            }
            self.changed().await;
        }
    }

    /// What has changed since it was last told.
    async fn look(&mut self) -> Result<Vec<Holding>, StoreError> {
        for receiver in self.growing.values_mut() {
            // What changes while it is looked at is looked at again.
            receiver.borrow_and_update();
        }
        let (store, hashes) = (self.store.clone(), self.open.clone());
        let looked = tokio::task::spawn_blocking(move || {
            hashes
                .into_iter()
                .map(|hash| Ok((hash, Seen::of(&store, &hash)?)))
                .collect::<Result<Vec<_>, StoreError>>()
        });
        // A thread that panicked has said so already; there is nothing to tell then.
        let seen = looked.await.unwrap_or_else(|_| Ok(Vec::new()))?;
        let mut news = Vec::new();
        for (hash, seen) in seen {
            let Some(Seen { size, have, growth }) = seen else { continue };
            let (whole, groups) = (matches!(growth, Growth::Whole), have.len());
            let known = self.told.insert(hash, groups);
            self.keep(hash, growth);
            if known.map_or(whole || groups > 0, |known| known != groups) {
                news.push(Holding { hash, size, have: shortened(have) });
            }
        }
        Ok(news)
    }

    fn keep(&mut self, hash: BlobHash, growth: Growth) {
        match growth {
            Growth::Whole => {
                self.growing.remove(&hash);
                self.open.retain(|open| *open != hash);
            }
            Growth::Resting => {
                self.growing.remove(&hash);
            }
            Growth::Fetched(receiver) => {
                self.growing.entry(hash).or_insert(receiver);
            }
        }
    }

    /// Waits until something may have changed.
    async fn changed(&mut self) {
        let all_known = self.open.iter().all(|hash| self.growing.contains_key(hash));
        let gone = if self.growing.is_empty() {
            sleep(HOLDINGS_POLL).await;
            None
        } else {
            let changes = self.growing.iter_mut().map(|(hash, receiver)| {
                let hash = *hash;
                Box::pin(async move { receiver.changed().await.is_err().then_some(hash) })
            });
            tokio::select! {
                (gone, ..) = futures::future::select_all(changes) => gone,
                () = sleep(HOLDINGS_POLL), if !all_known => None,
            }
        };
        if let Some(hash) = gone {
            self.growing.remove(&hash);
        }
    }
}

/// What is here of a blob.
struct Seen {
    size: u64,
    have: GroupSet,
    growth: Growth,
}

enum Growth {
    /// Nothing more will come.
    Whole,
    /// Nobody fetches it just now: it is looked at again after a while.
    Resting,
    /// It is being fetched, and this tells when there is more.
    Fetched(watch::Receiver<u64>),
}

impl Seen {
    fn of(store: &Store, hash: &BlobHash) -> Result<Option<Self>, StoreError> {
        let (size, have) = match store.blobs().status(hash)? {
            BlobStatus::Absent => return Ok(None),
            BlobStatus::Complete { size } => (size, GroupSet::whole(size)),
            BlobStatus::Partial { size, have } => (size, have),
        };
        if have == GroupSet::whole(size) {
            return Ok(Some(Self { size, have, growth: Growth::Whole }));
        }
        // It cannot be joined if, say, the disk has no room for the rest: what is here can be told all the same.
        let Ok(partial) = store.blobs().partial(*hash, size) else {
            return Ok(Some(Self { size, have, growth: Growth::Resting }));
        };
        let growing = partial.changed();
        let have = partial.have();
        drop(partial);
        // With its last handle gone, nobody is left to make it grow.
        let growth = if growing.has_changed().is_err() { Growth::Resting } else { Growth::Fetched(growing) };
        Ok(Some(Self { size, have, growth }))
    }
}

/// A set that would not fit into a push is told in part: less than all is true, too.
fn shortened(have: GroupSet) -> GroupSet {
    if have.encode().len() <= MAX_HAVE_BYTES {
        return have;
    }
    // Ten bytes are the longest number; a run has two.
    have.runs().iter().take(MAX_HAVE_BYTES / 20).cloned().collect()
}
