//! `hubless forget`: take a repository off this node.

use hubless_types::RepoId;
use serde_json::{Value, json};

use super::reach::value;
use super::{Reach, RepoSpec};
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Take a repository off this node: its names, pins and commits
///
/// Others are no longer told of it, nor given what only it has. Its files go with the next `gc`; those that were added
/// stay where they are. What other nodes have of it already is theirs.
#[derive(Debug, clap::Args)]
pub(crate) struct ForgetArgs {
    /// What to forget, as `owner/name`
    #[arg(value_name = "ORG/NAME")]
    what: RepoId,
    /// It is a dataset (as `datasets/owner/name` says as well)
    #[arg(long)]
    dataset: bool,
}

impl ForgetArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let repo = RepoSpec::of(self.what).repo(self.dataset);
        let forgotten: Value = match Reach::find(&context.data, false).await? {
            Reach::Online(mut node) => {
                node.post("/v1/forget", &json!({ "repo": repo }), |_: Value| {}).await?
            }
            Reach::Offline(mirror) => value(&mirror.forget(&repo).await?)?,
        };
        context.out.done(&forgotten, report::forgotten)
    }
}
