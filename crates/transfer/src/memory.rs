//! The memory twin: nodes that reach into one another's stores, with faults on demand and a record of who sent what.
//!
//! Questions and answers pass through the same code as over the network, so what a test sees here is what a
//! peer would see. Time is tokio's: with paused time a stall of seconds takes none.

mod client;
mod line;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hubless_limits::Limits;
use hubless_store::Store;
use hubless_types::{BlobHash, FileDigest, NodeId};

use crate::client::PeerClient;
use crate::crowd::Crowds;
use client::MemoryPeer;
use line::Line;

/// Deliveries, and dials, that are remembered one by one; totals go on beyond.
const MAX_DELIVERIES: usize = 65_536;

/// What goes wrong with one node. The default is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nobody can connect with it.
    pub unreachable: bool,
    /// It refuses everybody, as a closed swarm does.
    pub refuses: bool,
    /// After this many bytes, counted from when the fault was set, it sends nothing more, yet stays connected.
    pub stall_after: Option<u64>,
    /// The byte at this offset of every blob that it sends is wrong.
    pub wrong_byte_at: Option<u64>,
    /// It sends at most this many bytes a second, over all requests together.
    pub bytes_per_second: Option<u64>,
    /// After this many bytes, counted from when the fault was set, its connections break; it cannot be reached afterwards.
    pub cut_after: Option<u64>,
    /// After it took in so many segments, counted from when the fault was set, its own disk is full.
    pub disk_full_after: Option<u64>,
}

/// Most bytes that are kept of what goes over the lines, for whoever listens.
const MAX_HEARD_BYTES: usize = 64 * 1024 * 1024;

/// One answer, or the part of it that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who sent.
    pub from: NodeId,
    /// Who received.
    pub to: NodeId,
    /// What was asked for.
    pub what: Delivered,
    /// Bytes that were sent, proofs included.
    pub bytes: u64,
}

/// What an answer was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// A manifest.
    Manifest,
    /// Statements.
    Statements,
    /// Names of repositories.
    Repos,
    /// Links.
    Links,
    /// Small files.
    SmallFiles,
    /// What is done about drafts.
    Drafts,
    /// A part of a draft.
    Part {
        /// Which file.
        digest: FileDigest,
        /// Which groups were asked for.
        groups: Range<u64>,
    },
    /// A blob's hash tree.
    Tree {
        /// Which blob.
        hash: BlobHash,
    },
    /// Groups of a blob.
    Segment {
        /// Which blob.
        hash: BlobHash,
        /// Which groups were asked for.
        groups: Range<u64>,
    },
}

impl Delivered {
    const fn name(&self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Statements => "statements",
            Self::Repos => "repos",
            Self::Links => "links",
            Self::SmallFiles => "small files",
            Self::Drafts => "drafts",
            Self::Part { .. } => "part",
            Self::Tree { .. } => "tree",
            Self::Segment { .. } => "segment",
        }
    }
}

/// An attempt to reach a node, whatever came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial {
    /// Who tried.
    pub from: NodeId,
    /// Whom.
    pub to: NodeId,
    /// What for, such as `manifest` or `holdings`.
    pub what: &'static str,
}

/// Joins stores to a network in memory. Clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct MemoryNet {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: Mutex<HashMap<NodeId, Member>>,
    log: Mutex<Log>,
    /// What went over the lines, once somebody listens.
    heard: Mutex<Option<Vec<u8>>>,
}

#[derive(Debug, Clone)]
struct Member {
    store: Store,
    line: Arc<Line>,
    limits: Limits,
    crowds: Arc<Crowds>,
}

/// Where every node of the network is met; it leads nowhere.
const ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

#[derive(Debug, Default)]
struct Log {
    totals: HashMap<(NodeId, NodeId), u64>,
    deliveries: Vec<Delivery>,
    dials: Vec<Dial>,
}

impl MemoryNet {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `node` on the network, serving from `store`, and returns the client by which it asks others.
    /// A node that joins again has no faults.
    pub fn join(&self, node: NodeId, store: Store) -> Arc<dyn PeerClient> {
        self.join_within(node, store, Limits::default())
    }

    /// As [`MemoryNet::join`], within caps.
    pub fn join_within(&self, node: NodeId, store: Store, limits: Limits) -> Arc<dyn PeerClient> {
        let member = Member { store, line: Arc::default(), limits: limits.clone(), crowds: Arc::default() };
        lock(&self.inner.nodes).insert(node, member);
        Arc::new(MemoryPeer::new(node, self.clone(), limits))
    }

    /// Takes `node` off the network: what it is sending breaks, and nobody can reach it.
    pub fn leave(&self, node: NodeId) {
        if let Some(member) = lock(&self.inner.nodes).remove(&node) {
            member.line.cut();
        }
    }

    /// Sets what goes wrong with `node` from now on, in place of what did before.
    pub fn set_faults(&self, node: NodeId, faults: Faults) {
        if let Some(member) = lock(&self.inner.nodes).get(&node) {
            member.line.set(faults);
        }
    }

    /// Breaks all that `node` is sending now. It can be reached again at once.
    pub fn cut(&self, node: NodeId) {
        if let Some(member) = lock(&self.inner.nodes).get(&node) {
            member.line.cut();
        }
    }

    /// Bytes that `node` has sent to all others.
    pub fn sent_by(&self, node: NodeId) -> u64 {
        self.log().totals.iter().filter(|((from, _), _)| *from == node).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that `from` has sent to `to`.
    pub fn sent(&self, from: NodeId, to: NodeId) -> u64 {
        self.log().totals.get(&(from, to)).copied().unwrap_or(0)
    }

    /// The first 65,536 answers, in the order in which they ended.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.log().deliveries.clone()
    }

    /// The first 65,536 attempts to reach somebody, in their order.
    pub fn dials(&self) -> Vec<Dial> {
        self.log().dials.clone()
    }

    /// From now on, keeps what goes over the lines: at most 64 MiB.
    pub fn listen(&self) {
        lock(&self.inner.heard).get_or_insert_default();
    }

    /// The bytes of all questions and answers since [`MemoryNet::listen`], one after the other.
    pub fn heard(&self) -> Vec<u8> {
        lock(&self.inner.heard).clone().unwrap_or_default()
    }

    fn hear(&self, bytes: &[u8]) {
        if let Some(heard) = lock(&self.inner.heard).as_mut() {
            let room = MAX_HEARD_BYTES.saturating_sub(heard.len());
            heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn member(&self, node: NodeId) -> Option<Member> {
        lock(&self.inner.nodes).get(&node).cloned()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.inner.log)
    }

    fn note_dial(&self, dial: Dial) {
        let mut log = self.log();
        if log.dials.len() < MAX_DELIVERIES {
            log.dials.push(dial);
        }
    }

    fn record(&self, delivery: Delivery) {
        let mut log = self.log();
        *log.totals.entry((delivery.from, delivery.to)).or_insert(0) += delivery.bytes;
        if log.deliveries.len() < MAX_DELIVERIES {
            log.deliveries.push(delivery);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
