//! `hubless pin`: keep a revision here until it is unpinned.

use hubless_types::NodeId;
use serde_json::json;

use super::RepoSpec;
use crate::admin::AdminClient;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Keep a revision here until it is unpinned, and fetch what is missing
///
/// A pin protects from `gc`, and what is found bad or missing of it is fetched anew. It stays also if not all can
/// be fetched now: the node tries again.
#[derive(Debug, clap::Args)]
pub(crate) struct PinArgs {
    /// What to keep, as `owner/name` or `owner/name@revision`
    #[arg(value_name = "ORG/NAME[@REV]")]
    what: RepoSpec,
    /// It is a dataset (as `datasets/owner/name` says as well)
    #[arg(long)]
    dataset: bool,
    /// Take this node's word for the name; may be repeated
    #[arg(long, value_name = "NODE")]
    accept_from: Vec<NodeId>,
}

impl PinArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let request = json!({
            "repo": self.what.repo(self.dataset),
            "revision": self.what.revision(),
            "accept_from": self.accept_from,
            "pin": true,
        });
        // A pull that pins, and so tells how far it is: `/v1/pin` does the same in silence.
        let mut node = AdminClient::reach(&context.data).await?;
        let mut view = context.out.progress();
        let result = node.post("/v1/pull", &request, |step| view.show(step)).await?;
        view.finish();
        context.out.done(&result, report::pinned)
    }
}
