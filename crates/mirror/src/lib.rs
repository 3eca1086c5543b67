//! Every decision of a node: which commit a name means, which files it has, where their bytes come from, and
//! what stays.
//!
//! [`Mirror`] is one handle for all of it; clones share one node. It knows the network only as two traits
//! (`discovery::Discovery`, `transfer::PeerClient`), so that whole swarms run in one test.
//!
//! **Invariant:** no byte leaves a [`FileReader`] that is not checked against a BLAKE3 tree whose link to the
//! file's digest is proven or vouched for; a commit's manifest is stored only once its git objects hash up to
//! the commit; what a stranger sends is bounded and checked before it is kept.
//! **Not here:** HTTP, argument parsing, libp2p, iroh, RocksDB, and reading the environment.

mod absent;
mod add;
mod adopt;
mod announce;
mod body;
mod card;
mod config;
mod counted;
mod crowd;
mod error;
pub mod fetch;
mod forget;
mod gc;
mod git_serve;
mod history;
mod keeper;
mod limits;
mod links;
mod manifests;
mod meter;
mod mirror;
mod names;
mod obtain;
mod open_file;
mod pins;
mod progress;
mod pull;
mod report;
mod request;
mod resolve;
mod sharing;
mod shelf;
mod shown;
mod sources;
mod status;
mod trace;
mod upstream;
mod util;
mod verify;
mod withdrawn;

pub use config::{MirrorConfig, MirrorParts};
pub use error::{ErrorKind, MirrorError, NotFound, Said};
pub use git_serve::{GitBody, GitServer, MAX_GIT_REQUEST_BYTES};
pub use history::History;
pub use limits::LimitsRequest;
pub use mirror::Mirror;
pub use names::{
    Fork, ForkKind, MoveReport, NameReport, NamesReport, Resolved, ResolvedBy, Role, Word, age_text,
};
pub use progress::{PROGRESS_QUEUE, Progress, ProgressSink};
pub use report::{
    AddReport, AdoptReport, AdoptedRepo, AnnounceStatus, BadFile, DiscoverySummary, FetchSummary, FileReader,
    ForgetReport, GcReport, NodeStatus, OriginSummary, PeerSummary, PullReport, RepoSummary, VerifyReport,
};
pub use request::{
    Accept, AddRequest, AdoptRequest, Caller, LIST_MAX, ListRequest, ListSort, PullRequest, PullTo,
};
pub use shelf::{Found, FoundPage, With};
pub use trace::{HolderReport, LookupReport, OriginWord, TraceReport, TraceTarget};

// What callers need to read this crate's results without naming the crates beneath it.
pub use hubless_limits::LimitsReport;
pub use hubless_origin::{Breaker, OriginStatus};
pub use hubless_store::{
    RefRecord, RefSource, SHELF_PAGE_MAX, ShelfCursor, ShelfQuery, ShelfSort, ShelfTerm,
};
