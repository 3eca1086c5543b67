//! `hubless adopt`: take over an existing Hugging Face cache.

use std::path::PathBuf;

use hubless_mirror::AdoptRequest;
use serde_json::json;

use super::add::utf8;
use super::reach::here;
use super::{Reach, RepoSpec, absolute};
use crate::cli::Context;
use crate::env;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Take over an existing Hugging Face cache: its files stay where they are
///
/// Reads `hub/models--*` and `hub/datasets--*` with their commits and snapshots. Files stay where they are.
#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArgs {
    /// The cache, or its `hub` folder [default: your own, ~/.cache/huggingface/hub]
    #[arg(value_name = "CACHE")]
    cache: Option<PathBuf>,
    /// Only this repository
    #[arg(long, value_name = "ORG/NAME")]
    only: Option<RepoSpec>,
    /// Tell others of it: a cache does not say which of its repositories are gated or private
    #[arg(long)]
    share: bool,
}

impl AdoptArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let cache = self.cache.or_else(env::hf_cache).ok_or_else(|| NodeError::Unusable {
            message: "there is no home folder to find a cache in".into(),
            hint: Some("name the cache: hubless adopt CACHE".into()),
        })?;
        let cache = absolute(&cache)?;
        utf8(&cache)?;
        let only = self.only.map(|spec| spec.repo(false));
        let asked = json!({ "cache": cache, "repo": only, "share": self.share });
        let request = AdoptRequest { cache, only, share: self.share };
        let mut view = context.out.progress();
        let result = match Reach::find(&context.data, true).await? {
            Reach::Online(mut node) => node.post("/v1/adopt", &asked, |step| view.show(step)).await?,
            Reach::Offline(mirror) => here(&mut view, async |sink| mirror.adopt(request, sink).await).await?,
        };
        view.finish();
        context.out.done(&result, |result| report::adopted(result, self.share))
    }
}
