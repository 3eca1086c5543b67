//! What can be proven from bytes alone: git objects, LFS pointers, link tables, signed statements.
//!
//! A commit id vouches for a commit object, that for a root tree, that for every tree and blob beneath it, and
//! a blob that is an LFS pointer for the sha256 of a file. A [`Bundle`] carries that chain; [`Bundle::check`]
//! walks it and gives the [`Manifest`](hubless_types::Manifest), which then needs nobody's word.
//!
//! **Invariants:** everything here is pure (no disk, network, clock or environment); whatever a stranger sends
//! is read within named limits ([`MAX_BUNDLE_BYTES`], [`MAX_TREE_DEPTH`], …) and never panics; an object is
//! believed only if it hashes to the id by which it was named, and a SHA-1 that shows the marks of a collision
//! attack is refused.
//! **Not here:** hashing files of any size (`store`), fetching bundles (`transfer`), deciding whom to trust
//! (`mirror`).

mod bundle;
mod check;
mod commit;
mod compose;
mod error;
mod fetch_pack;
mod hash;
mod key;
mod links;
mod pack;
mod pkt_line;
mod pointer;
mod proof_file;
mod statement;
mod tree;
mod upload_pack;
mod wire;

pub use bundle::{Bundle, MAX_BUNDLE_BYTES};
pub use check::{MAX_PATH_TEXT_BYTES, MAX_TREE_DEPTH};
pub use commit::{MAX_COMMIT_BYTES, NewCommit, parse_commit, write_commit};
pub use compose::{CommitMeta, NewContent, NewFile};
pub use error::ProofError;
pub use fetch_pack::{
    FetchAnswer, FetchState, GitRef, GitServer, MAX_REFS, RefsAnswer, parse_ls_refs, write_fetch,
    write_ls_refs,
};
pub use hash::{blob_id, commit_id, tree_id};
pub use key::NodeKey;
pub use links::{LinkTable, MAX_LINK_TABLE_BYTES};
pub use pack::{
    MAX_DELTA_DEPTH, ObjectKind, PackKind, PackLimits, PackObject, PackWriter, peek_object, read_pack,
};
pub use pkt_line::{
    Band, MAX_PKT_DATA, Packet, PacketBuffer, Packets, put_band, put_delim, put_flush, put_line, put_packet,
    put_response_end, read_packet,
};
pub use pointer::Pointer;
pub use proof_file::{MAX_PROOF_FILE_BYTES, MAX_PROOF_STATEMENTS, ProofFile, Proven};
pub use statement::{MAX_ORIGIN_BYTES, sign_statement, verify_statement};
pub use tree::{TreeEntry, parse_tree, write_tree};
pub use upload_pack::{FetchRequest, GitRequest, INFINITE_DEPTH, LsRefs, MAX_GIT_REQUEST_BYTES, PackFilter};
