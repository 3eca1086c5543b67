//! `hubless unpin`: no longer keep a revision.

use serde_json::{Value, json};

use super::{Reach, RepoSpec};
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// No longer keep a revision
///
/// Nothing is deleted at once: `gc` does that.
#[derive(Debug, clap::Args)]
pub(crate) struct UnpinArgs {
    /// What to let go, as `owner/name` or `owner/name@revision`
    #[arg(value_name = "ORG/NAME[@REV]")]
    what: RepoSpec,
    /// It is a dataset (as `datasets/owner/name` says as well)
    #[arg(long)]
    dataset: bool,
}

impl UnpinArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let (repo, revision) = (self.what.repo(self.dataset), self.what.revision());
        let request = json!({ "repo": repo, "revision": revision });
        match Reach::find(&context.data, false).await? {
            Reach::Online(mut node) => drop(node.post("/v1/unpin", &request, |_: Value| {}).await?),
            Reach::Offline(mirror) => mirror.unpin(&repo, &revision)?,
        }
        context.out.done(&request, report::unpinned)
    }
}
