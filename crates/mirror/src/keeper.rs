//! Sees that all that is pinned is here: at the start, when something was lost, and every hour.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use hubless_limits::Use;
use hubless_types::Pin;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Caller;
use crate::MirrorError;
use crate::mirror::Inner;
use crate::util::blocking;

/// How often pins are looked at when nothing wakes the keeper.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// How soon it looks again when something pinned could not be fetched.
const RETRY: Duration = Duration::from_secs(120);
/// Files that are fetched at once in the background.
const AT_ONCE: usize = 2;

/// Fetches anew what is pinned and not here. Dropping it aborts.
#[must_use = "dropping the keeper stops it"]
pub(crate) struct Keeper {
    wake: Arc<Notify>,
    task: AbortOnDropHandle<()>,
}

impl Keeper {
    pub(crate) fn start(inner: &Arc<Inner>) -> Self {
        let wake = Arc::new(Notify::new());
        let run = run(Arc::downgrade(inner), Arc::clone(&wake));
        let cancel: CancellationToken = inner.cancel.child_token();
        #[allow(clippy::disallowed_methods, reason = "owned by the handle beside it")]
        let task = tokio::spawn(async move {
            cancel.run_until_cancelled(run).await;
        });
        Self { wake, task: AbortOnDropHandle::new(task) }
    }

    /// Has it look at the pins now.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns when it has ended.
    pub(crate) async fn ended(self) {
        let _ = self.task.await;
    }
}

async fn run(inner: Weak<Inner>, wake: Arc<Notify>) {
    loop {
        let Some(mirror) = inner.upgrade() else { return };
        // What nobody waits for comes when there are bytes again.
        let kept =
            if mirror.limits.down().spent(Use::Content).is_some() { Ok(1) } else { mirror.keep_pins().await };
        let pause = match kept {
            Ok(0) => LOOK_EVERY,
            Ok(missing) => {
                tracing::info!(missing, "files of pinned commits are not here yet");
                RETRY
            }
            Err(error) => {
                tracing::warn!(%error, "pins cannot be looked at");
                RETRY
            }
        };
        drop(mirror);
        let _ = tokio::time::timeout(pause, wake.notified()).await;
    }
}

impl Inner {
    /// Fetches what is pinned and not here; returns how many files (or manifests) are still missing.
    async fn keep_pins(self: &Arc<Self>) -> Result<usize, MirrorError> {
        let mut missing = 0;
        for pin in self.store.catalogue().pins()? {
            missing += self.keep_pin(&pin).await.unwrap_or_else(|error| {
                tracing::debug!(repo = %pin.repo, %error, "a pinned commit cannot be kept yet");
                1
            });
        }
        Ok(missing)
    }

    async fn keep_pin(self: &Arc<Self>, pin: &Pin) -> Result<usize, MirrorError> {
        let manifest = self.manifest(&Caller::anyone(), Some(&pin.repo), pin.commit).await?;
        let inner = Arc::clone(self);
        let missing = blocking(move || {
            let absent = |e: &&hubless_types::FileEntry| {
                e.size > 0 && inner.held(&e.digest()).is_ok_and(|held| held.is_none())
            };
            Ok(manifest.entries().iter().filter(absent).cloned().collect::<Vec<_>>())
        })
        .await?;
        let fetched = futures::stream::iter(missing)
            .map(|entry| async move {
                let anyone = Caller::anyone();
                let (job, _) = self.obtain(&anyone, &pin.repo, pin.commit, &entry)?;
                let done = self.obtained(&anyone, &pin.repo, pin.commit, &entry, job).await;
                done.map_err(MirrorError::Shared)
            })
            .buffer_unordered(AT_ONCE);
        Ok(fetched.filter(|done| std::future::ready(done.is_err())).count().await)
    }
}
