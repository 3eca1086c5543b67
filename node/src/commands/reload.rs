//! `hubless reload`: have the running node read its config again.

use serde_json::json;

use crate::admin::AdminClient;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::limits;

/// Have the node read its config again
///
/// Caps (`[limits]`, except `max_connections`) hold at once; other keys that were changed are named, and hold when the node
/// is started again. A config that is wrong anywhere changes nothing. SIGHUP does the same.
#[derive(Debug, clap::Args)]
pub(crate) struct ReloadArgs {}

impl ReloadArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let mut node = AdminClient::reach(&context.data).await?;
        context.out.object(&node.post("/v1/reload", &json!({}), |_| {}).await?, limits::reloaded)
    }
}
