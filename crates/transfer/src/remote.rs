//! Asks other nodes over QUIC: the [`PeerClient`] that the node runs with.

use std::future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use hubless_limits::{Limits, Use};
use hubless_store::{Draft, DraftNews, PartialBlob};
use hubless_types::{BlobHash, CommitId, FileDigest, Link, NodeId, Provider, RepoId, Revision, Statement};
use iroh::endpoint::RecvStream;
use tokio::time::timeout;

use crate::bulk::Broken;
use crate::client::{Gathering, HeldRepos, Holding, ManifestReply, PeerClient, Tick};
use crate::decode::{Tree, Verified, check_ask, garbled};
use crate::endpoint::address_of;
use crate::get::Get;
use crate::limits::{
    BULK_GROUPS, MANIFEST_TIMEOUT, MAX_CROWD_FRAME, MAX_DRAFTS_ASKED, MAX_HOLDING_FRAME, MAX_HOLDINGS_ASKED,
    MAX_LINKS_ASKED, MAX_PART_GROUPS, MAX_SEGMENT_GROUPS, MAX_SMALL_FILES_ASKED, REQUEST_TIMEOUT,
    STALL_TIMEOUT, STREAM_WAIT,
};
use crate::part::Part;
use crate::pool::{Lease, Protocol, Want};
use crate::receive::{Account, connection_error, read_frame, receive_segment, write_error};
use crate::transfer::Shared;
use crate::wire::{self, Question, WireError};
use crate::{TransferError, crowd, shape};

pub(crate) struct Remote {
    shared: Arc<Shared>,
}

impl Remote {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Opens a stream, sends `request` and ends the sending half; `what` the answer is says whether it may still come
    /// this month.
    async fn open(
        &self,
        peer: &Provider,
        protocol: Protocol,
        request: Vec<u8>,
        what: Use,
    ) -> Result<(Lease, RecvStream), TransferError> {
        self.open_for(peer, protocol, request, what, Want::Answer).await
    }

    async fn open_for(
        &self,
        peer: &Provider,
        protocol: Protocol,
        request: Vec<u8>,
        what: Use,
        want: Want,
    ) -> Result<(Lease, RecvStream), TransferError> {
        let node = peer.node;
        if self.shared.is_stopping() {
            return Err(TransferError::Stopping);
        }
        if !self.shared.allows(&node) {
            return Err(TransferError::Refused { node });
        }
        let limits = &self.shared.limits;
        if let Some(spent) = limits.down().spent(what) {
            return Err(spent.into());
        }
        let lease = self.shared.pool.connect(peer, protocol, want).await?;
        self.shared.pool.hold_to_cap(&lease);
        let opened = async {
            let (mut send, recv) = lease.open_bi().await.map_err(|e| connection_error(e, node))?;
            send.write_chunk(request.into()).await.map_err(|e| write_error(e, node))?;
            let _ = send.finish();
            Ok::<_, TransferError>(recv)
        };
        let recv = timeout(STREAM_WAIT, opened).await.map_err(|_| TransferError::Busy { node })??;
        Ok((lease, recv))
    }

    /// Fetches `groups` on a bulk line, where there is one and it is worth it. Returns what is left to be fetched over QUIC.
    pub(crate) async fn by_line(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: &Tick,
    ) -> Result<Range<u64>, TransferError> {
        let (node, shared) = (peer.node, &self.shared);
        if groups.is_empty() || shared.desk.is_none() || !shared.allows(&node) {
            return Ok(groups);
        }
        let open = groups.end - groups.start >= BULK_GROUPS;
        let Some(line) = shared.lines.to(shared, peer, open) else { return Ok(groups) };
        match line.segment(groups.clone(), into, tick.clone()).await {
            Ok(()) => Ok(groups.end..groups.end),
            Err(Broken::Line { groups: done, why }) => {
                tracing::debug!(node = %node.short(), why, "a bulk line broke; going on over QUIC");
                shared.lines.failed(node);
                Ok(groups.start + done..groups.end)
            }
            Err(Broken::Answer(error)) => {
                if error.blames_peer() {
                    shared.lines.failed(node);
                }
                Err(error)
            }
        }
    }

    /// Fetches `groups` over QUIC, until `enough` at the longest. Returns what is left then.
    pub(crate) async fn by_quic(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: &Tick,
        enough: impl Future<Output = ()>,
    ) -> Result<Range<u64>, TransferError> {
        if groups.is_empty() {
            return Ok(groups);
        }
        let request = Get::groups(into.hash(), &groups).encode();
        let (lease, recv) = self.open(peer, Protocol::Blobs, request, Use::Content).await?;
        let expected = shape::answer_len(into.size(), &groups);
        let verified = Verified::new(into, groups.clone(), peer.node, tick.clone());
        let counter = self.shared.counters.of(peer.node);
        let account = Account { node: peer.node, counter: &counter, valve: self.shared.limits.down() };
        let here = receive_segment(recv, expected, verified, account, tick.clone(), enough).await?;
        drop(lease);
        Ok(groups.start + here..groups.end)
    }

    /// Asks a question and reads all frames of the answer.
    async fn ask(
        &self,
        peer: &Provider,
        question: &Question,
        within: Duration,
    ) -> Result<Vec<Vec<u8>>, TransferError> {
        let node = peer.node;
        let request = question.encode().map_err(|e| garbled(node, &e))?;
        let asked = async {
            let (lease, mut recv) = self.open(peer, Protocol::Hubless, request, question.what()).await?;
            let counter = self.shared.counters.of(node);
            let mut frames = Vec::new();
            loop {
                let limit = question.frame_limit(frames.len());
                let valve = self.shared.limits.down();
                let frame = read_frame(&mut recv, limit, Some(STALL_TIMEOUT), node, valve).await?;
                let Some(frame) = frame else { break };
                counter.received(frame.len());
                if limit == 0 {
                    return Err(garbled(node, &WireError::TooMany));
                }
                frames.push(frame);
            }
            drop(lease);
            Ok(frames)
        };
        timeout(within, asked).await.map_err(|_| TransferError::Stalled { node, after: within })?
    }

    /// Opens a stream on which `question` about `wanted` is answered again and again.
    async fn subscribe(
        &self,
        peer: &Provider,
        question: &Question,
        wanted: &[BlobHash],
    ) -> Result<Subscription, TransferError> {
        let node = peer.node;
        let request = question.encode().map_err(|e| garbled(node, &e))?;
        let (mut lease, recv) =
            self.open_for(peer, Protocol::Hubless, request, Use::Words, Want::News).await?;
        lease.listen();
        Ok(Subscription { lease, recv, wanted: wanted.to_vec(), node, limits: self.shared.limits.clone() })
    }
}

#[async_trait]
impl PeerClient for Remote {
    async fn manifest(&self, peer: &Provider, commit: CommitId) -> Result<ManifestReply, TransferError> {
        let frames = self.ask(peer, &Question::Manifest(commit), MANIFEST_TIMEOUT).await?;
        wire::manifest_reply(frames).map_err(|e| garbled(peer.node, &e))
    }

    async fn statements(
        &self,
        peer: &Provider,
        repo: &RepoId,
        revision: Option<&Revision>,
    ) -> Result<Vec<Statement>, TransferError> {
        let question = Question::Statements(repo.clone(), revision.cloned());
        let frames = self.ask(peer, &question, REQUEST_TIMEOUT).await?;
        wire::statements_reply(&frames, repo, revision).map_err(|e| garbled(peer.node, &e))
    }

    async fn repos(&self, peer: &Provider, after: Option<CommitId>) -> Result<HeldRepos, TransferError> {
        let frames = self.ask(peer, &Question::Repos(after), REQUEST_TIMEOUT).await?;
        wire::repos_reply(&frames, after).map_err(|e| garbled(peer.node, &e))
    }

    async fn links(&self, peer: &Provider, digests: &[FileDigest]) -> Result<Vec<Link>, TransferError> {
        let mut links = Vec::new();
        for asked in digests.chunks(MAX_LINKS_ASKED) {
            let frames = self.ask(peer, &Question::Links(asked.to_vec()), REQUEST_TIMEOUT).await?;
            links.extend(wire::links_reply(&frames, asked).map_err(|e| garbled(peer.node, &e))?);
        }
        Ok(links)
    }

    async fn small_files(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, Bytes)>, TransferError> {
        let mut files = Vec::new();
        for asked in digests.chunks(MAX_SMALL_FILES_ASKED) {
            let frames = self.ask(peer, &Question::SmallFiles(asked.to_vec()), MANIFEST_TIMEOUT).await?;
            files.extend(wire::small_files_reply(frames, asked).map_err(|e| garbled(peer.node, &e))?);
        }
        Ok(files)
    }

    async fn holdings(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Holding, TransferError>>, TransferError> {
        check_ask("blobs", wanted.len() as u64, MAX_HOLDINGS_ASKED as u64)?;
        let subscription = self.subscribe(peer, &Question::Holdings(wanted.to_vec()), wanted).await?;
        Ok(stream::try_unfold(subscription, Subscription::next).boxed())
    }

    async fn crowd(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Gathering, TransferError>>, TransferError> {
        check_ask("blobs", wanted.len() as u64, MAX_HOLDINGS_ASKED as u64)?;
        let subscription = self.subscribe(peer, &Question::Crowd(wanted.to_vec()), wanted).await?;
        Ok(stream::try_unfold(subscription, Subscription::gathering).boxed())
    }

    async fn segment(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), TransferError> {
        check_ask("groups", groups.end.saturating_sub(groups.start), MAX_SEGMENT_GROUPS)?;
        let rest = self.by_line(peer, groups, into, &tick).await?;
        let line = self.shared.lines.far(&self.shared.limits, peer.node);
        let rest = self.by_quic(peer, rest, into, &tick, line).await?;
        // A line came about meanwhile.
        let rest = self.by_line(peer, rest, into, &tick).await?;
        self.by_quic(peer, rest, into, &tick, future::pending()).await.map(drop)
    }

    async fn segment_now(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), TransferError> {
        check_ask("groups", groups.end.saturating_sub(groups.start), MAX_SEGMENT_GROUPS)?;
        self.by_quic(peer, groups, into, &tick, future::pending()).await.map(drop)
    }

    async fn tree(&self, peer: &Provider, into: &PartialBlob) -> Result<(), TransferError> {
        let (node, blob) = (peer.node, into.clone());
        let mut tree = blocking(move || Tree::new(&blob, node)).await??;
        let Some(question) = tree.question(into) else { return Ok(()) };
        let request = question.encode().map_err(|e| garbled(node, &e))?;
        let (lease, mut recv) = self.open(peer, Protocol::Hubless, request, Use::Content).await?;
        let counter = self.shared.counters.of(node);
        loop {
            let limit = question.frame_limit(0);
            let valve = self.shared.limits.down();
            let frame = read_frame(&mut recv, limit, Some(STALL_TIMEOUT), node, valve).await?;
            let Some(frame) = frame else { break };
            counter.received(frame.len());
            let (pushed, more) = blocking(move || {
                let more = tree.push(&frame);
                (tree, more)
            })
            .await?;
            tree = pushed;
            if !more? {
                break;
            }
        }
        drop(lease);
        tree.finish()
    }

    async fn drafts(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, DraftNews)>, TransferError> {
        check_ask("drafts", digests.len() as u64, MAX_DRAFTS_ASKED as u64)?;
        let frames = self.ask(peer, &Question::Drafts(digests.to_vec()), REQUEST_TIMEOUT).await?;
        wire::drafts_reply(&frames, digests).map_err(|e| garbled(peer.node, &e))
    }

    async fn part(
        &self,
        peer: &Provider,
        digest: FileDigest,
        groups: Range<u64>,
        into: &Draft,
        tick: Tick,
    ) -> Result<(), TransferError> {
        check_ask("groups", groups.end.saturating_sub(groups.start), MAX_PART_GROUPS)?;
        let node = peer.node;
        let mut part = Part::new(into, groups.clone(), node, tick);
        let question = Question::Part(digest, groups);
        let request = question.encode().map_err(|e| garbled(node, &e))?;
        let (lease, mut recv) = self.open(peer, Protocol::Hubless, request, Use::Content).await?;
        let valve = self.shared.limits.down();
        let counter = self.shared.counters.of(node);
        let limit = question.frame_limit(0);
        while let Some(frame) = read_frame(&mut recv, limit, Some(STALL_TIMEOUT), node, valve).await? {
            counter.received(frame.len());
            let (pushed, more) = blocking(move || {
                let more = part.push(&frame);
                (part, more)
            })
            .await?;
            part = pushed;
            if !more? {
                break;
            }
        }
        drop(lease);
        part.finish()
    }
}

/// A stream of pushes; the lease keeps its connection for as long as no other needs the place.
struct Subscription {
    lease: Lease,
    recv: RecvStream,
    wanted: Vec<BlobHash>,
    node: NodeId,
    limits: Limits,
}

impl Subscription {
    async fn next(mut self) -> Result<Option<(Holding, Self)>, TransferError> {
        // A quiet subscription is a healthy one: QUIC's own keep-alive notices a peer that is gone.
        let valve = self.limits.down();
        let frame = read_frame(&mut self.recv, MAX_HOLDING_FRAME, None, self.node, valve).await?;
        let Some(frame) = frame else { return Ok(None) };
        let holding = wire::holding(&frame, &self.wanted).map_err(|e| garbled(self.node, &e))?;
        if !holding.have.is_empty() {
            self.lease.was_of_use();
        }
        Ok(Some((holding, self)))
    }

    async fn gathering(mut self) -> Result<Option<(Gathering, Self)>, TransferError> {
        let valve = self.limits.down();
        let frame = read_frame(&mut self.recv, MAX_CROWD_FRAME, None, self.node, valve).await?;
        let Some(frame) = frame else { return Ok(None) };
        let mut gathering = wire::gathering(&frame, &self.wanted).map_err(|e| garbled(self.node, &e))?;
        let met = address_of(&self.lease).map(|addr| addr.ip());
        gathering.peers.retain(|(_, addr)| crowd::fits(addr, met));
        Ok(Some((gathering, self)))
    }
}

/// Runs what blocks where it may. A thread that panicked ends the request as a stopping node would.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TransferError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| TransferError::Stopping)
}
