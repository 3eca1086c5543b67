//! A serving node: what it is wired from, in which order it starts, and how it stops.
//!
//! **Invariant:** the data folder's lock is held from before the first socket to after the last task.
//! **Not here:** arguments (`commands::run`), decisions (`mirror`).

mod known_peers;
mod ports;
mod reload;
mod services;
mod stop;
mod table;

use std::path::Path;

use serde::Serialize;

use crate::cli;
use crate::config::Config;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::Output;

pub(crate) use reload::ConfigFile;
use services::Services;
use stop::{Asked, Signals, Watchdog};

/// What is printed when the node serves. The order and the names of these fields are relied on.
#[derive(Debug, Serialize)]
struct Serving {
    /// Where Hub clients are served.
    http: String,
    /// Who this node is.
    node: String,
    /// What others give to `--bootstrap`.
    bootstrap: String,
    /// The admin socket.
    socket: String,
}

/// Serves the data in `data` until a signal.
///
/// # Errors
/// If it cannot start, or a part of it fails while it serves.
pub(crate) fn serve(data: &Path, config: Config, file: ConfigFile, out: Output) -> Result<Exit, NodeError> {
    let runtime = cli::runtime()?;
    let ended = runtime.block_on(serve_until_told(data, config, file, out));
    // Blocking work that goes on is cut by the process's end: what it wrote is found again at the next start.
    runtime.shutdown_timeout(stop::RUNTIME_BUDGET);
    ended
}

async fn serve_until_told(
    data: &Path,
    config: Config,
    file: ConfigFile,
    out: Output,
) -> Result<Exit, NodeError> {
    let mut signals = Signals::listen()?;
    let mut services = tokio::select! {
        started = Services::start(data, config, file) => started?,
        () = signals.stop() => return Ok(Exit::Ok),
    };
    let greeted = greet(&services.serving(), out);
    let failed = loop {
        // Whoever waits for the first line would wait in vain; what was started is stopped in order.
        if let Err(error) = greeted {
            break Some(error);
        }
        tokio::select! {
            error = services.failure() => break Some(error),
            asked = signals.next() => match asked {
                Asked::Stop => break None,
                Asked::Reload => services.reload().await,
            },
        }
    };
    match &failed {
        Some(error) => tracing::error!(%error, "stopping: a part of the node failed"),
        None => tracing::info!("stopping"),
    }
    let watchdog = Watchdog::start(services.socket_path());
    let again = async {
        signals.stop().await;
        tracing::warn!("stopped at once, as a second signal asked");
    };
    let late = tokio::select! {
        late = services.stop() => late,
        () = again => vec!["everything (a second signal came)"],
    };
    watchdog.call_off();
    if !late.is_empty() {
        tracing::warn!("did not stop in time: {}", late.join(", "));
    }
    match failed {
        Some(error) => Err(error),
        // What was cut off is told, and no failure: nothing that is kept depends on a good end.
        None => Ok(Exit::Ok),
    }
}

fn greet(serving: &Serving, out: Output) -> Result<(), NodeError> {
    let line = if out.is_json() {
        serde_json::to_string(serving).map_err(|e| NodeError::Admin(e.to_string()))?
    } else {
        summary(serving)
    };
    out.line(&line).map(drop)
}

fn summary(serving: &Serving) -> String {
    format!(
        "node {}\n\n  tools   export HF_ENDPOINT={}\n  others  hubless run --bootstrap {}\n  admin   {}\n\nCtrl-C stops it.",
        serving.node, serving.http, serving.bootstrap, serving.socket
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_as_promised() {
        let serving = Serving {
            http: "http://127.0.0.1:1".into(),
            node: "12D3".into(),
            bootstrap: "/ip4/127.0.0.1/tcp/2/p2p/12D3".into(),
            socket: "/d/admin.sock".into(),
        };
        assert_eq!(
            serde_json::to_string(&serving).unwrap(),
            r#"{"http":"http://127.0.0.1:1","node":"12D3","bootstrap":"/ip4/127.0.0.1/tcp/2/p2p/12D3","socket":"/d/admin.sock"}"#
        );
    }
}
