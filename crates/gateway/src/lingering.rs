//! Work that outlives its answer: the client was told to come back, and is to find more when it does.
//!
//! **Invariant:** at most [`MAX_LINGERING`] at once, each for at most [`LINGER`]; dropping the set ends them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinSet;

/// Most pieces of work that go on unwatched; further ones end with their answer.
const MAX_LINGERING: usize = 256;
/// How long one goes on. What it brought so far stays, also if it ends there.
const LINGER: Duration = Duration::from_secs(60);

/// Work that goes on unwatched.
#[derive(Default)]
pub(crate) struct Lingering(Mutex<JoinSet<()>>);

impl Lingering {
    /// Lets `work` go on, if there is room.
    pub(crate) fn keep(&self, work: BoxFuture<'static, ()>) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while set.try_join_next().is_some() {}
        if set.len() < MAX_LINGERING {
            set.spawn(async move { tokio::time::timeout(LINGER, work).await.unwrap_or_default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_until_it_ends_or_the_set_does() {
        let set = Lingering::default();
        let (done, told) = oneshot::channel();
        set.keep(async { done.send(()).unwrap_or_default() }.boxed());
        assert!(told.await.is_ok());
        let (held, ended) = oneshot::channel::<()>();
        set.keep(async { drop((held, std::future::pending::<()>().await)) }.boxed());
        tokio::task::yield_now().await;
        drop(set);
        assert!(ended.await.is_err());
    }
}
