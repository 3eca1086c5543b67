//! `hubless status`: how the node is.

use crate::admin::AdminClient;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Show how the node is
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {}

impl StatusArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let mut node = AdminClient::reach(&context.data).await?;
        context.out.object(&node.get("/v1/status").await?, report::status)
    }
}
