//! How a command gets at a folder's data: through the node that serves it, or itself where none runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hubless_mirror::{Mirror, MirrorError, PROGRESS_QUEUE, Progress};
use hubless_store::Store;
use hubless_types::{Clock, SystemClock};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::admin::AdminClient;
use crate::config::Config;
use crate::error::NodeError;
use crate::key;
use crate::output::ProgressView;

/// The way to the data.
pub(crate) enum Reach {
    /// A node runs: it is asked.
    Online(AdminClient),
    /// None runs: the folder is opened here, under its lock.
    Offline(Mirror),
}

impl Reach {
    /// Finds the way; with `create`, a folder that is not there yet is made. Without a node, whose word counts is what the
    /// folder's own config says.
    ///
    /// # Errors
    /// If no node serves the folder and it cannot be opened, for example because another process has it.
    pub(crate) async fn find(dir: &Path, create: bool) -> Result<Self, NodeError> {
        if let Some(client) = AdminClient::find(dir).await? {
            return Ok(Self::Online(client));
        }
        let key = if create { key::load_or_create(dir)? } else { key::load(dir)? };
        let config = Config::find_written(None, dir)?.config;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Store::open(dir, key.id(), clock.clone())?;
        Ok(Self::Offline(Mirror::offline(store, key, clock, config.mirror())))
    }
}

/// Runs a piece of work of a mirror in this process, showing its progress as the node's would be shown.
pub(crate) async fn here<T: Serialize>(
    view: &mut ProgressView,
    work: impl AsyncFnOnce(mpsc::Sender<Progress>) -> Result<T, MirrorError>,
) -> Result<Value, NodeError> {
    let (sink, mut progress) = mpsc::channel(PROGRESS_QUEUE);
    let work = work(sink);
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            Some(step) = progress.recv() => view.show(value(&step)?),
            result = &mut work => break result,
        }
    };
    while let Ok(step) = progress.try_recv() {
        view.show(value(&step)?);
    }
    value(&result?)
}

/// A result as the JSON that the admin API would have sent.
pub(crate) fn value(of: &impl Serialize) -> Result<Value, NodeError> {
    serde_json::to_value(of).map_err(|e| NodeError::Admin(format!("a result cannot be written as JSON: {e}")))
}

/// The same path, wherever the node's working folder is.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, NodeError> {
    std::path::absolute(path)
        .map_err(|source| NodeError::Io { doing: format!("find `{}`", path.display()), source })
}
