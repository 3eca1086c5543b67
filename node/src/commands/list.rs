//! `hubless list`: the repositories that are known here.

use hubless_mirror::{LIST_MAX, ListRequest, ListSort};
use hubless_types::RepoKind;

use super::Reach;
use super::reach::value;
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::report;

/// Show the repositories that are known here
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only those with all of these words in their names
    #[arg(value_name = "WORD")]
    search: Vec<String>,
    /// Only those of this owner
    #[arg(long, value_name = "OWNER")]
    author: Option<String>,
    /// Only those with this tag, such as `license:mit` or `gguf`; may be repeated
    #[arg(long, value_name = "TAG")]
    filter: Vec<String>,
    /// Only those of this kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The order, in each kind
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    sort: Sort,
    /// At most so many of each kind
    #[arg(long, value_name = "N", default_value_t = LIST_MAX)]
    limit: usize,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Models,
    Datasets,
    Spaces,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Sort {
    Name,
    Downloads,
    Likes,
    Created,
    Modified,
    Trending,
}

impl ListArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let request = self.request();
        let list = match Reach::find(&context.data, false).await? {
            Reach::Online(mut node) => node.post("/v1/list", &value(&request)?, |_| {}).await?,
            Reach::Offline(mirror) => value(&mirror.list(&request)?)?,
        };
        context.out.rows(&list, report::list)
    }

    fn request(self) -> ListRequest {
        let kind = self.kind.map(|kind| match kind {
            Kind::Models => RepoKind::Model,
            Kind::Datasets => RepoKind::Dataset,
            Kind::Spaces => RepoKind::Space,
        });
        let sort = match self.sort {
            Sort::Name => ListSort::Name,
            Sort::Downloads => ListSort::Downloads,
            Sort::Likes => ListSort::Likes,
            Sort::Created => ListSort::Created,
            Sort::Modified => ListSort::Modified,
            Sort::Trending => ListSort::Trending,
        };
        let (search, limit) = (self.search.join(" "), self.limit);
        ListRequest { search, author: self.author, filter: self.filter, kind, sort, limit }
    }
}
