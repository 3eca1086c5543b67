//! The log: to standard error, so that standard output stays the program's own.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::env;

/// What a serving node logs unless told otherwise: its own doings, and only the troubles of its libraries.
const RUN_FILTER: &str = "warn,libp2p_kad=error,hubless=info,hubless_store=info,hubless_discovery=info,hubless_transfer=info,\
    hubless_mirror=info,hubless_gateway=info";

/// What a command logs unless told otherwise.
const COMMAND_FILTER: &str = "error,hubless=warn,hubless_store=warn,hubless_mirror=warn";

/// Starts logging; `serving` for `run`. A malformed `HUBLESS_LOG` is named and ignored.
pub(crate) fn start(serving: bool) {
    let default = if serving { RUN_FILTER } else { COMMAND_FILTER };
    let asked = env::log_filter();
    let parsed = asked.as_deref().map(EnvFilter::try_new);
    let filter = match &parsed {
        Some(Ok(filter)) => filter.clone(),
        _ => EnvFilter::new(default),
    };
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    if started.is_ok()
        && let Some(Err(error)) = parsed
    {
        tracing::warn!(%error, "`{}` is no log filter; ignored", env::LOG_VAR);
    }
}
