//! `hubless add`: publish a folder as a repository.

use std::path::PathBuf;

use hubless_mirror::AddRequest;

use super::reach::{here, value};
use super::{Reach, RepoSpec, absolute};
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Publish a folder as a repository: its files stay where they are
///
/// Writes a git commit of the folder; a second add of a changed folder makes a child of the first.
/// The files stay where they are and are read from there: do not change them, add them again. Large files become
/// LFS files; nothing is put beside them. For `git clone` to fetch them at once, have a `.gitattributes` in the folder
/// that gives them to LFS; without one a clone has pointers until `git lfs pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The repository, as `owner/name`; `@branch` names another branch than `main`
    #[arg(value_name = "ORG/NAME")]
    repo: RepoSpec,
    /// It is a dataset (as `datasets/owner/name` says as well)
    #[arg(long)]
    dataset: bool,
    /// The commit's message
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// The commit's author, as `Name <mail>`
    #[arg(long, value_name = "AUTHOR")]
    author: Option<String>,
}

impl AddArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let request = AddRequest {
            dir: absolute(&self.dir)?,
            repo: self.repo.repo(self.dataset),
            revision: self.repo.revision(),
            message: self.message,
            author: self.author,
        };
        utf8(&request.dir)?;
        let mut view = context.out.progress();
        let result = match Reach::find(&context.data, true).await? {
            Reach::Online(mut node) => {
                node.post("/v1/add", &value(&request)?, |step| view.show(step)).await?
            }
            Reach::Offline(mirror) => here(&mut view, async |sink| mirror.add(request, sink).await).await?,
        };
        view.finish();
        context.out.done(&result, report::added)
    }
}

/// A path that JSON can carry.
pub(super) fn utf8(path: &std::path::Path) -> Result<(), NodeError> {
    if path.to_str().is_some() {
        return Ok(());
    }
    Err(NodeError::Unusable {
        message: format!("the path `{}` is not UTF-8", path.display()),
        hint: Some("rename the folder".into()),
    })
}
