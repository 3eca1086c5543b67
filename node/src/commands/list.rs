//! `hubless list`: the repositories that are known here.

use super::Reach;
use super::reach::value;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Show the repositories that are known here
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

impl ListArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let list = match Reach::find(&context.data, false).await? {
            Reach::Online(mut node) => node.get("/v1/list").await?,
            Reach::Offline(mirror) => value(&mirror.list()?)?,
        };
        context.out.rows(&list, report::list)
    }
}
