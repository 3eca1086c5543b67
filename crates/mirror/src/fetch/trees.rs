//! Hash trees that are being fetched for files of which an origin is to send ranges.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hubless_store::PartialBlob;
use hubless_transfer::{PeerClient, TransferError};
use hubless_types::{BlobHash, NodeId, Provider};
use tokio::task::{Id, JoinSet};

/// Peers that one file's tree is asked of at the same time.
const AT_ONCE: usize = 2;
/// Peers that one file's tree is asked of in all.
const MAX_TRIES: usize = 16;
/// Files whose tries are remembered; beyond, they are forgotten together.
const MAX_REMEMBERED: usize = 4096;

/// How one try ended.
pub(super) struct GotTree {
    pub(super) hash: BlobHash,
    pub(super) node: NodeId,
    pub(super) result: Result<(), TransferError>,
}

/// The trees that are being fetched. Dropping it cancels them all.
#[derive(Default)]
pub(super) struct Trees {
    tasks: JoinSet<Result<(), TransferError>>,
    names: HashMap<Id, (BlobHash, NodeId)>,
    tried: HashMap<BlobHash, HashSet<NodeId>>,
}

impl Trees {
    /// Asks `provider` for the tree of `into`, unless it was asked already or others are being asked.
    pub(super) fn ask(&mut self, peers: &Arc<dyn PeerClient>, provider: Provider, into: &PartialBlob) {
        let (hash, node) = (into.hash(), provider.node);
        if self.tried.len() >= MAX_REMEMBERED {
            self.tried.clear();
        }
        let tried = self.tried.entry(hash).or_default();
        let asked_now = self.names.values().filter(|(file, _)| *file == hash).count();
        if tried.len() >= MAX_TRIES || asked_now >= AT_ONCE || !tried.insert(node) {
            return;
        }
        let (peers, into) = (peers.clone(), into.clone());
        let task = self.tasks.spawn(async move { peers.tree(&provider, &into).await });
        self.names.insert(task.id(), (hash, node));
    }

    /// The next try that ends; `None` while none runs. Cancel safe.
    pub(super) async fn got(&mut self) -> Option<GotTree> {
        loop {
            let (id, result) = match self.tasks.join_next_with_id().await? {
                Ok((id, result)) => (id, result),
                Err(error) => (error.id(), Err(TransferError::Stopping)),
            };
            if let Some((hash, node)) = self.names.remove(&id) {
                if result.is_ok() {
                    self.tried.remove(&hash);
                }
                return Some(GotTree { hash, node, result });
            }
        }
    }

    /// Cancels all and waits for their tasks.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }
}
