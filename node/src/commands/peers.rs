//! `hubless peers`: the nodes that are reached.

use crate::admin::AdminClient;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Show the nodes that are reached
#[derive(Debug, clap::Args)]
pub(crate) struct PeersArgs {}

impl PeersArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let mut node = AdminClient::reach(&context.data).await?;
        context.out.rows(&node.get("/v1/peers").await?, report::peers)
    }
}
