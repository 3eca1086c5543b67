//! `hubless names`: who says what a repository's names mean.

use hubless_mirror::Caller;
use hubless_types::{NodeId, RepoId};
use serde_json::{Value, json};

use super::reach::value;
use super::{Reach, RepoSpec};
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::names;

/// Show who says what a repository's names mean
///
/// Origins and peers are asked. For each branch and tag it shows which commit it is and on whose word, what each
/// signer said and when, and how it moved: a move to a commit that does not descend from the former is a fork.
#[derive(Debug, clap::Args)]
pub(crate) struct NamesArgs {
    /// The repository, as `owner/name`
    #[arg(value_name = "ORG/NAME")]
    repo: RepoId,
    /// It is a dataset (as `datasets/owner/name` says as well)
    #[arg(long)]
    dataset: bool,
    /// Take this node's word as well; may be repeated
    #[arg(long, value_name = "NODE")]
    accept_from: Vec<NodeId>,
}

impl NamesArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let repo = RepoSpec::of(self.repo).repo(self.dataset);
        let report = match Reach::find(&context.data, false).await? {
            Reach::Online(mut node) => {
                let request = json!({ "repo": repo, "accept_from": self.accept_from });
                node.post("/v1/names", &request, |_: Value| {}).await?
            }
            Reach::Offline(mirror) => value(&mirror.names(&repo, &Caller::taking(self.accept_from)).await?)?,
        };
        context.out.object(&report, names::shown)
    }
}
