//! Stopping: the signals that ask for it, the time each part has, and what happens when that is not enough.

use std::future::Future;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::error::NodeError;
use crate::exit::Exit;

/// How long answers that are under way may take to end.
pub(super) const GATEWAY_BUDGET: Duration = Duration::from_millis(3000);
/// How long fetches and announcements may take to end.
pub(super) const MIRROR_BUDGET: Duration = Duration::from_millis(1500);
/// How long connections with other nodes may take to close. A node that is gone does not answer to that, and QUIC
/// waits three of its timeouts before it gives up.
pub(super) const NETWORK_BUDGET: Duration = Duration::from_millis(3500);
/// How long work on blocking threads may take to end.
pub(super) const RUNTIME_BUDGET: Duration = Duration::from_millis(500);
/// When the process ends whatever happens. More than all of the above together, less than the 10 s promised.
const LAST_RESORT: Duration = Duration::from_millis(9500);

/// The signals that ask the node to stop, or to read its config again.
pub(super) struct Signals {
    stop: Stop,
    hang_up: HangUp,
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// A terminal that is closed, as [`HangUp`] finds out.
    closed: Arc<Notify>,
}

/// SIGHUP has the config read again, except where it says that the terminal is gone from which the node was started.
struct HangUp {
    signal: Signal,
    had_terminal: bool,
    closed: Arc<Notify>,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, NodeError> {
        let on = |kind| {
            signal(kind).map_err(|source| NodeError::Io { doing: "listen for signals".into(), source })
        };
        let closed = Arc::new(Notify::new());
        Ok(Self {
            stop: Stop {
                terminate: on(SignalKind::terminate())?,
                interrupt: on(SignalKind::interrupt())?,
                closed: closed.clone(),
            },
            hang_up: HangUp {
                signal: on(SignalKind::hangup())?,
                had_terminal: std::io::stdin().is_terminal(),
                closed,
            },
        })
    }

    /// Waits for the next, and says what it asks for.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            () = self.stop.next() => Asked::Stop,
            () = self.hang_up.next() => Asked::Reload,
        }
    }

    /// Waits for the next that asks the node to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To stop.
    Stop,
    /// To read the config again.
    Reload,
}

impl Stop {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.closed.notified() => {}
        }
    }
}

impl HangUp {
    /// Waits for one that is no closed terminal.
    async fn next(&mut self) {
        loop {
            let _ = self.signal.recv().await;
            if !self.had_terminal || std::io::stdin().is_terminal() {
                return;
            }
            self.closed.notify_one();
        }
    }
}

/// Lets one part stop within its budget; `false` if it did not.
pub(super) async fn within(budget: Duration, part: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(budget, part).await.is_ok()
}

/// Ends the process if stopping itself hangs, for example with every worker blocked.
pub(super) struct Watchdog {
    call_off: mpsc::SyncSender<()>,
}

impl Watchdog {
    /// Starts the clock; `socket` is removed if it runs out.
    pub(super) fn start(socket: PathBuf) -> Self {
        let (call_off, called_off) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            if called_off.recv_timeout(LAST_RESORT) == Err(mpsc::RecvTimeoutError::Timeout) {
                tracing::error!("stopping hangs: the process ends itself");
                let _ = std::fs::remove_file(socket);
                std::process::exit(Exit::Internal as i32);
            }
        });
        Self { call_off }
    }

    /// Stopping went well.
    pub(super) fn call_off(self) {
        let _ = self.call_off.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_budgets_together_end_before_the_last_resort() {
        let all = GATEWAY_BUDGET + MIRROR_BUDGET + NETWORK_BUDGET + RUNTIME_BUDGET;
        assert!(all < LAST_RESORT && LAST_RESORT < Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_is_noticed() {
        assert!(within(MIRROR_BUDGET, async {}).await);
        assert!(!within(MIRROR_BUDGET, std::future::pending()).await);
    }
}
