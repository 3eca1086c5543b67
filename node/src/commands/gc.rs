//! `hubless gc`: remove files that nothing pinned needs.

use serde_json::json;

use super::Reach;
use super::reach::value;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Remove files that nothing pinned needs
///
/// Files that were added or adopted are never deleted, only forgotten: they are yours.
#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl GcArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let mut view = context.out.progress();
        let result = match Reach::find(&context.data, false).await? {
            Reach::Online(mut node) => {
                node.post("/v1/gc", &json!({ "dry_run": self.dry_run }), |step| view.show(step)).await?
            }
            Reach::Offline(mirror) => value(&mirror.gc(self.dry_run).await?)?,
        };
        view.finish();
        context.out.done(&result, report::collected)
    }
}
