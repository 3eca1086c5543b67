//! `hubless prove`: the chain from a name to a file's bytes, and checking one that somebody else made.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use hubless_mirror::Caller;
use hubless_proof::{MAX_PROOF_FILE_BYTES, ProofError, ProofFile};
use hubless_types::{NodeId, RepoPath};
use serde_json::json;

use super::{Reach, RepoSpec};
use crate::cli::Context;
use crate::error::NodeError;
use crate::exit::Exit;
use crate::output::proof;

/// Show what proves a revision or a file, write it to a file, or check such a file
///
/// The chain: who says that the name is the commit; the commit and its trees, each hashed; the file's git blob or
/// sha256; its BLAKE3 root. `--export` writes all of it into one file, which `--check` checks on any machine, with
/// no network and no data of this node.
#[derive(Debug, clap::Args)]
pub(crate) struct ProveArgs {
    /// What to prove, as `owner/name[@revision]`; with `--check`, what the file must be a proof of
    #[arg(value_name = "ORG/NAME[@REV]", required_unless_present = "check")]
    what: Option<RepoSpec>,
    /// The file in it whose chain is shown
    #[arg(value_name = "PATH")]
    path: Option<RepoPath>,
    /// It is a dataset (as `datasets/owner/name` says as well)
    #[arg(long)]
    dataset: bool,
    /// Write the proof into this file, which must not exist
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    export: Option<PathBuf>,
    /// Check the proof in this file
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Take this node's word for the name; may be repeated
    #[arg(long, value_name = "NODE", conflicts_with = "check")]
    accept_from: Vec<NodeId>,
}

impl ProveArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, NodeError> {
        let (bytes, whose) = match (&self.check, &self.what) {
            (Some(file), _) => (read(file)?, format!("`{}`", file.display())),
            (None, Some(what)) => (self.fetch(context, what).await?, "what the node sent".to_owned()),
            (None, None) => return Err(NodeError::Admin("there is nothing to prove".into())),
        };
        let unproven = |source| NodeError::Unproven { whose: whose.clone(), source };
        // What this node sent is checked like anyone's.
        let file = ProofFile::decode(&bytes).map_err(unproven)?;
        let proven = file.check().map_err(unproven)?;
        self.is_of(&file)?;
        let mut chain = proof::chain(&file, &proven, self.path.as_ref())?;
        if let Some(to) = &self.export {
            write_new(to, &bytes)?;
            chain["exported"] = json!(to.display().to_string());
        }
        context.out.object(&chain, proof::shown)
    }

    async fn fetch(&self, context: &Context, what: &RepoSpec) -> Result<Vec<u8>, NodeError> {
        let (repo, revision) = (what.repo(self.dataset), what.revision());
        match Reach::find(&context.data, false).await? {
            Reach::Online(mut node) => {
                let request = json!({ "repo": repo, "revision": revision, "accept_from": self.accept_from });
                Ok(node.post_for_bytes("/v1/prove", &request, MAX_PROOF_FILE_BYTES).await?.to_vec())
            }
            Reach::Offline(mirror) => {
                let caller = Caller::taking(self.accept_from.clone());
                Ok(mirror.prove(&repo, &revision, &caller).await?)
            }
        }
    }

    /// With `--check`, that it is a proof of what was named.
    fn is_of(&self, file: &ProofFile) -> Result<(), NodeError> {
        let (Some(what), Some(_)) = (&self.what, &self.check) else { return Ok(()) };
        let wanted = (what.repo(self.dataset), what.revision());
        if wanted == (file.repo.clone(), file.revision.clone()) {
            return Ok(());
        }
        Err(NodeError::OtherProof {
            found: format!("{}@{}", file.repo, file.revision),
            wanted: format!("{}@{}", wanted.0, wanted.1),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, NodeError> {
    let fail = |source| NodeError::Io { doing: format!("read `{}`", path.display()), source };
    let limit = MAX_PROOF_FILE_BYTES as u64;
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(fail)?.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit {
        let source = ProofError::TooLarge { what: "proof file", size: bytes.len() as u64, limit };
        return Err(NodeError::Unproven { whose: format!("`{}`", path.display()), source });
    }
    Ok(bytes)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), NodeError> {
    let fail = |source| NodeError::Io { doing: format!("write `{}`", path.display()), source };
    let mut file = std::fs::File::create_new(path).map_err(fail)?;
    std::io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all()).map_err(|source| {
        // Half of a proof is none.
        let _ = std::fs::remove_file(path);
        fail(source)
    })
}
