//! `hubless trace`: each step of resolving a name and finding who has what it means.

use hubless_mirror::TraceTarget;
use hubless_types::NodeId;
use serde_json::{Value, json};

use crate::admin::AdminClient;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::trace;

/// Show each step of resolving a name and finding who has it
///
/// It looks as a fetch would: what the name means and on whose word, what each origin says of it, which nodes of the DHT
/// were asked, how long each took and what it said, which providers were named, and what these and connected nodes hold.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// A name (`owner/name[@revision]`), a commit (40 hex digits) or a large file's sha256 (64)
    #[arg(value_name = "NAME|COMMIT|SHA256")]
    target: TraceTarget,
    /// Take this node's word as well; may be repeated
    #[arg(long, value_name = "NODE")]
    accept_from: Vec<NodeId>,
}

impl TraceArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let mut node = AdminClient::reach(&context.data).await?;
        let request = json!({ "target": self.target, "accept_from": self.accept_from });
        let report = node.post("/v1/trace", &request, |_: Value| {}).await?;
        context.out.object(&report, trace::shown)
    }
}
