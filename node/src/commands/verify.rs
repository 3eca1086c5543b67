//! `hubless verify`: hash every file again and name every bad one.

use serde_json::json;

use super::Reach;
use super::reach::here;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Hash every file again and name every bad one
///
/// A bad file is dropped, and fetched anew if a pin needs it. What a pin needs and is gone from this disk is named likewise. Ends
/// with exit code 6 if there was one.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {}

impl VerifyArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let mut view = context.out.progress();
        let result = match Reach::find(&context.data, false).await? {
            Reach::Online(mut node) => node.post("/v1/verify", &json!({}), |step| view.show(step)).await?,
            Reach::Offline(mirror) => here(&mut view, async |sink| mirror.verify(sink).await).await?,
        };
        view.finish();
        context.out.done(&result, report::verified)?;
        let bad = result["bad"].as_array().is_some_and(|bad| !bad.is_empty());
        Ok(if bad { Exit::Integrity } else { Exit::Ok })
    }
}
