//! `hubless pull`: fetch a repository from the nodes that have it, or from an origin.

use std::path::PathBuf;

use hubless_mirror::PullTo;
use hubless_types::NodeId;
use serde_json::json;

use super::add::utf8;
use super::{RepoSpec, absolute};
use crate::admin::AdminClient;
use crate::cli::Context;
use crate::env;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Fetch a repository from the nodes that have it, or from an origin
///
/// A name means what this node, trusted nodes or those of `--accept-from` say; a 40-hex commit needs nobody's
/// word. Every byte is verified. A pull that was interrupted goes on where it stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// What to fetch, as `owner/name`, `owner/name@branch` or `owner/name@<40-hex commit>`
    #[arg(value_name = "ORG/NAME[@REV]")]
    what: RepoSpec,
    /// It is a dataset (as `datasets/owner/name` says as well)
    #[arg(long)]
    dataset: bool,
    /// Only files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Write the files into this folder as well; another file of the same name there is an error
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Replace other files that stand in the folder under the same names
    #[arg(long, requires = "to")]
    overwrite: bool,
    /// Write them into a Hugging Face cache as well [default: your own, ~/.cache/huggingface/hub]
    #[arg(long, value_name = "CACHE", num_args = 0..=1, conflicts_with = "to")]
    to_hf_cache: Option<Option<PathBuf>>,
    /// Take this node's word for the name; may be repeated
    #[arg(long, value_name = "NODE")]
    accept_from: Vec<NodeId>,
    /// Keep it here until it is unpinned
    #[arg(long)]
    pin: bool,
}

impl PullArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let to = match (self.to, self.to_hf_cache) {
            (Some(dir), _) => PullTo::Dir(checked(dir)?),
            (None, Some(Some(cache))) => PullTo::HfCache(checked(cache)?),
            (None, Some(None)) => PullTo::HfCache(checked(usual_cache()?)?),
            (None, None) => PullTo::Store,
        };
        let request = json!({
            "repo": self.what.repo(self.dataset),
            "revision": self.what.revision(),
            "include": self.include,
            "exclude": self.exclude,
            "to": to,
            "accept_from": self.accept_from,
            "overwrite": self.overwrite,
            "pin": self.pin,
        });
        let mut node = AdminClient::reach(&context.data).await?;
        let mut view = context.out.progress();
        let result = node.post("/v1/pull", &request, |step| view.show(step)).await?;
        view.finish();
        context.out.done(&result, report::pulled)
    }
}

fn checked(path: PathBuf) -> Result<PathBuf, NodeError> {
    let path = absolute(&path)?;
    utf8(&path)?;
    Ok(path)
}

fn usual_cache() -> Result<PathBuf, NodeError> {
    env::hf_cache().ok_or_else(|| NodeError::Unusable {
        message: "there is no home folder to find a cache in".into(),
        hint: Some("name the cache: --to-hf-cache CACHE".into()),
    })
}
