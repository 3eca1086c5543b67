//! Watches what this node holds of some blobs and tells each change, not too often.
//!
//! **Not here:** how it travels (`serve`, `memory`).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{pending, select_all};
use futures::stream::{self, BoxStream, StreamExt as _};
use hubless_store::{BlobStatus, Store, StoreError};
use hubless_types::{BlobHash, GroupSet};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::client::Holding;
use crate::limits::{HOLDINGS_INTERVAL, HOLDINGS_POLL, MAX_HAVE_BYTES, MAX_HOLDINGS_POLL};

/// Changes as they come, a batch at a time, what is held now first. Ends when all of `wanted` is held wholly.
pub(crate) fn watch(
    store: Store,
    wanted: Vec<BlobHash>,
) -> BoxStream<'static, Result<Vec<Holding>, StoreError>> {
    let now = Instant::now();
    let open = wanted.into_iter().map(|hash| (hash, Open::new(now))).collect();
    stream::try_unfold(Watch { store, open, next: now }, Watch::step).boxed()
}

struct Watch {
    store: Store,
    /// Blobs that are not whole yet.
    open: BTreeMap<BlobHash, Open>,
    /// No push before this.
    next: Instant,
}

/// A blob that is not whole yet.
struct Open {
    /// Groups that were told of it.
    told: Option<u64>,
    /// How long it rests before it is looked at again.
    pause: Duration,
    look: Look,
}

/// When a blob is looked at again.
enum Look {
    At(Instant),
    /// It is being fetched here, and this says when it grows.
    Grown(watch::Receiver<u64>),
}

impl Open {
    const fn new(now: Instant) -> Self {
        Self { told: None, pause: HOLDINGS_POLL, look: Look::At(now) }
    }

    fn is_due(&self, now: Instant) -> bool {
        match &self.look {
            Look::At(at) => *at <= now,
            // Whoever fetched it has stopped, perhaps because it is whole.
            Look::Grown(receiver) => receiver.has_changed().unwrap_or(true),
        }
    }

    /// Nothing about it has changed: it is looked at ever more rarely.
    fn rest(&mut self, now: Instant) {
        self.look = Look::At(now + self.pause);
        self.pause = self.pause.saturating_mul(2).min(MAX_HOLDINGS_POLL);
    }

    /// Something has changed: if it rests, it is looked at soon.
    fn wake(&mut self, now: Instant) {
        self.pause = HOLDINGS_POLL;
        if let Look::At(at) = &mut self.look {
            *at = (*at).min(now + HOLDINGS_POLL);
        }
    }
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
        let now = Instant::now();
        let due = self.open.iter().filter(|(_, open)| open.is_due(now)).map(|(hash, _)| *hash);
        let (store, due) = (self.store.clone(), due.collect::<Vec<_>>());
        let looked = tokio::task::spawn_blocking(move || {
            due.into_iter()
                .map(|hash| Ok((hash, Seen::of(&store, &hash)?)))
                .collect::<Result<Vec<_>, StoreError>>()
        });
        // A thread that panicked has said so already; there is nothing to tell then.
        let seen = looked.await.unwrap_or_else(|_| Ok(Vec::new()))?;
        let (now, mut news, mut stirs) = (Instant::now(), Vec::new(), false);
        for (hash, seen) in seen {
            let Some(open) = self.open.get_mut(&hash) else { continue };
            let Some(Seen { size, have, growth }) = seen else {
                open.rest(now);
                continue;
            };
            let (whole, groups) = (matches!(growth, Growth::Whole), have.len());
            let known = open.told.replace(groups);
            let is_news = known.map_or(whole || groups > 0, |known| known != groups);
            stirs |= whole || known.is_none();
            match growth {
                Growth::Whole => {
                    self.open.remove(&hash);
                }
                Growth::Resting => {
                    if is_news {
                        open.wake(now);
                    }
                    open.rest(now);
                }
                Growth::Fetched(receiver) => {
                    open.wake(now);
                    open.look = Look::Grown(receiver);
                }
            }
            if is_news {
                news.push(Holding { hash, size, have: shortened(have) });
            }
        }
        if stirs {
            // Blobs come one after the other: where one has just begun or ended, the next begins soon.
            self.open.values_mut().for_each(|open| open.wake(now));
        }
        Ok(news)
    }

    /// Waits until something may have changed.
    async fn changed(&mut self) {
        let mut next = None::<Instant>;
        let mut growing = Vec::new();
        for (hash, open) in &mut self.open {
            match &mut open.look {
                Look::At(at) => next = Some(next.map_or(*at, |next| next.min(*at))),
                Look::Grown(receiver) => growing.push(Box::pin(async move {
                    // An error says that nobody fetches it any more, which is a change, too.
                    let _ = receiver.changed().await;
                    *hash
                })),
            }
        }
        let rested = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let grown = async { if growing.is_empty() { pending().await } else { select_all(growing).await.0 } };
        let grown = tokio::select! {
            hash = grown => Some(hash),
            () = rested => None,
        };
        // Waiting has marked the change as seen.
        if let Some(open) = grown.and_then(|hash| self.open.get_mut(&hash)) {
            open.look = Look::At(Instant::now());
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
        // What peers may not have is not here, as far as they can tell.
        if !store.blobs().is_shared(hash)? {
            return Ok(None);
        }
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
pub(crate) fn shortened(have: GroupSet) -> GroupSet {
    if have.encode().len() <= MAX_HAVE_BYTES {
        return have;
    }
    // Ten bytes are the longest number; a run has two.
    have.runs().iter().take(MAX_HAVE_BYTES / 20).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hubless_store::DigestKind;
    use hubless_types::{ManualClock, NodeId, Timestamp};

    use super::*;

    /// When a resting blob is looked at again.
    fn at(open: &Open) -> Instant {
        match open.look {
            Look::At(at) => at,
            Look::Grown(_) => panic!("it is being fetched"),
        }
    }

    #[test]
    fn a_blob_that_rests_is_looked_at_ever_more_rarely() {
        let now = Instant::now();
        let mut open = Open::new(now);
        let pauses: Vec<_> = (0..9)
            .map(|_| {
                open.rest(now);
                (at(&open) - now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        open.wake(now);
        assert_eq!(at(&open) - now, HOLDINGS_POLL);
    }

    #[tokio::test]
    async fn only_what_is_due_is_looked_at_and_a_blob_that_comes_wakes_the_others() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000)));
        let store = Store::open(dir.path(), NodeId::from_bytes([1; 32]), clock)?;
        let comes = store.blobs().import_bytes(b"comes", DigestKind::Sha256)?.hash;
        store.blobs().share(&comes)?;
        let absent = BlobHash::from_bytes([7; 32]);
        let (now, mut both) = (Instant::now(), BTreeMap::new());
        for hash in [comes, absent] {
            let mut open = Open::new(now);
            (0..8).for_each(|_| open.rest(now));
            both.insert(hash, open);
        }
        let mut watch = Watch { store, open: both, next: now };
        assert!(watch.look().await?.is_empty(), "neither is due");
        assert!(watch.open.values().all(|open| at(open) - now == MAX_HOLDINGS_POLL));
        watch.open.insert(comes, Open::new(now));
        let news = watch.look().await?;
        assert_eq!(news.iter().map(|n| n.hash).collect::<Vec<_>>(), [comes]);
        let left: Vec<_> = watch.open.iter().map(|(hash, open)| (*hash, open.pause)).collect();
        assert_eq!(left, [(absent, HOLDINGS_POLL)]);
        assert!(at(&watch.open[&absent]) <= Instant::now() + HOLDINGS_POLL);
        Ok(())
    }
}
