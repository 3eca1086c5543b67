//! One node's view of the network in memory.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use hubless_limits::{Limits, Use};
use hubless_store::{Draft, DraftNews, PartialBlob, StoreError};
use hubless_types::{
    BlobHash, CommitId, FileDigest, GROUP_BYTES, Link, NodeId, Provider, RepoId, Revision, Statement,
};
use tokio::sync::watch;

use super::line::Passed;
use super::{Delivered, Delivery, Dial, Member, MemoryNet, lock};
use crate::answer::{answer, open_segment, open_tree};
use crate::client::{Gathering, HeldRepos, Holding, ManifestReply, PeerClient, Tick};
use crate::decode::{self, Tree, Verified};
use crate::limits::{
    MAX_DRAFTS_ASKED, MAX_HOLDINGS_ASKED, MAX_LINKS_ASKED, MAX_PART_GROUPS, MAX_SEGMENT_GROUPS,
    MAX_SMALL_FILES_ASKED, STALL_TIMEOUT,
};
use crate::part::Part;
use crate::receive::pay;
use crate::refusal::Refusal;
use crate::wire::{self, Question};
use crate::{TransferError, crowd, holdings, shape};

fn unreachable(node: NodeId, why: &str) -> TransferError {
    TransferError::Unreachable { node, why: why.into() }
}

fn broken(node: NodeId) -> TransferError {
    unreachable(node, "the connection broke")
}

pub(super) struct MemoryPeer {
    me: NodeId,
    net: MemoryNet,
    limits: Limits,
}

impl MemoryPeer {
    pub(super) const fn new(me: NodeId, net: MemoryNet, limits: Limits) -> Self {
        Self { me, net, limits }
    }

    /// A connection with `peer`, as far as its faults, and what is left of both nodes' months, let one come about.
    fn connect(&self, peer: &Provider, what: Delivered, kind: Use) -> Result<Call, TransferError> {
        let node = peer.node;
        if let Some(spent) = self.limits.down().spent(kind) {
            return Err(spent.into());
        }
        let member = self.reach(node, what.name())?;
        if member.limits.up().spent(kind).is_some() {
            return Err(TransferError::Busy { node });
        }
        let cuts = member.line.cuts();
        let delivery = Delivery { from: node, to: self.me, what, bytes: 0 };
        Ok(Call { net: self.net.clone(), member, cuts, delivery })
    }

    /// `node`, as far as its faults let it be reached.
    fn reach(&self, node: NodeId, what: &'static str) -> Result<Member, TransferError> {
        self.net.note_dial(Dial { from: self.me, to: node, what });
        let member = self.net.member(node).ok_or_else(|| unreachable(node, "nobody is there"))?;
        let faults = member.line.faults();
        if faults.unreachable {
            return Err(unreachable(node, "no answer"));
        }
        if faults.refuses {
            return Err(TransferError::Refused { node });
        }
        Ok(member)
    }

    /// Whom to listen to about `wanted`.
    fn subscribe(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
        what: &'static str,
    ) -> Result<Member, TransferError> {
        decode::check_ask("blobs", wanted.len() as u64, MAX_HOLDINGS_ASKED as u64)?;
        self.reach(peer.node, what)
    }

    /// Asks a question and waits for all frames of its answer.
    async fn ask(
        &self,
        peer: &Provider,
        question: Question,
        what: Delivered,
    ) -> Result<Vec<Vec<u8>>, TransferError> {
        let mut call = self.connect(peer, what, question.what())?;
        self.net.hear(&question.encode().unwrap_or_default());
        let store = call.member.store.clone();
        let asked = question.clone();
        let answered = blocking(move || {
            let mut all = Vec::new();
            answer(&store, &asked, &mut |piece| {
                all.extend_from_slice(&piece);
                true
            })
            .map(|()| all)
        });
        let all = answered.await?.map_err(|refusal| call.refused(refusal))?;
        self.net.hear(&all);
        call.pass_all(all.len()).await?;
        self.limits.down().small(all.len()).await;
        wire::split_frames(&question, &all).map_err(|e| decode::garbled(peer.node, &e))
    }
}

/// One request on its way; what was sent is recorded when it is dropped.
struct Call {
    net: MemoryNet,
    member: Member,
    cuts: watch::Receiver<u64>,
    delivery: Delivery,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.net.record(self.delivery.clone());
    }
}

impl Call {
    fn refused(&self, refusal: Refusal) -> TransferError {
        Refusal::error(refusal.code().into(), self.delivery.from)
    }

    /// Sends up to `len` bytes, as the line allows.
    async fn pass(&mut self, len: usize) -> Result<usize, TransferError> {
        let node = self.delivery.from;
        let len = self.member.limits.up().take(len).await.min(len);
        match self.member.line.pass(len, &mut self.cuts).await {
            Passed::Bytes(bytes) => {
                self.delivery.bytes += bytes as u64;
                Ok(bytes)
            }
            Passed::Stalled => Err(TransferError::Stalled { node, after: STALL_TIMEOUT }),
            Passed::Cut => Err(broken(node)),
        }
    }

    async fn pass_all(&mut self, mut len: usize) -> Result<(), TransferError> {
        while len > 0 {
            len -= self.pass(len).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl PeerClient for MemoryPeer {
    async fn manifest(&self, peer: &Provider, commit: CommitId) -> Result<ManifestReply, TransferError> {
        let frames = self.ask(peer, Question::Manifest(commit), Delivered::Manifest).await?;
        wire::manifest_reply(frames).map_err(|e| decode::garbled(peer.node, &e))
    }

    async fn statements(
        &self,
        peer: &Provider,
        repo: &RepoId,
        revision: Option<&Revision>,
    ) -> Result<Vec<Statement>, TransferError> {
        let question = Question::Statements(repo.clone(), revision.cloned());
        let frames = self.ask(peer, question, Delivered::Statements).await?;
        wire::statements_reply(&frames, repo, revision).map_err(|e| decode::garbled(peer.node, &e))
    }

    async fn repos(&self, peer: &Provider, after: Option<CommitId>) -> Result<HeldRepos, TransferError> {
        let frames = self.ask(peer, Question::Repos(after), Delivered::Repos).await?;
        wire::repos_reply(&frames, after).map_err(|e| decode::garbled(peer.node, &e))
    }

    async fn links(&self, peer: &Provider, digests: &[FileDigest]) -> Result<Vec<Link>, TransferError> {
        let mut links = Vec::new();
        for asked in digests.chunks(MAX_LINKS_ASKED) {
            let frames = self.ask(peer, Question::Links(asked.to_vec()), Delivered::Links).await?;
            links.extend(wire::links_reply(&frames, asked).map_err(|e| decode::garbled(peer.node, &e))?);
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
            let frames = self.ask(peer, Question::SmallFiles(asked.to_vec()), Delivered::SmallFiles).await?;
            files.extend(wire::small_files_reply(frames, asked).map_err(|e| decode::garbled(peer.node, &e))?);
        }
        Ok(files)
    }

    async fn holdings(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Holding, TransferError>>, TransferError> {
        let member = self.subscribe(peer, wanted, "holdings")?;
        let cuts = member.line.cuts();
        let news = singly(holdings::watch(member.store, wanted.to_vec()));
        Ok(until_cut(news, cuts, broken(peer.node)))
    }

    async fn crowd(
        &self,
        peer: &Provider,
        wanted: &[BlobHash],
    ) -> Result<BoxStream<'static, Result<Gathering, TransferError>>, TransferError> {
        let member = self.subscribe(peer, wanted, "crowd")?;
        let cuts = member.line.cuts();
        let addr = Some(super::ADDR);
        let news = crowd::watch(&member.crowds, member.store, self.me, addr, wanted.to_vec());
        Ok(until_cut(singly(news), cuts, broken(peer.node)))
    }

    async fn segment(
        &self,
        peer: &Provider,
        groups: Range<u64>,
        into: &PartialBlob,
        tick: Tick,
    ) -> Result<(), TransferError> {
        decode::check_ask("groups", groups.end.saturating_sub(groups.start), MAX_SEGMENT_GROUPS)?;
        if self.net.member(self.me).is_some_and(|me| !me.line.take_in()) {
            return Err(TransferError::Disk(StoreError::DiskFull { path: "/full".into() }));
        }
        let (hash, size) = (into.hash(), into.size());
        let mut call =
            self.connect(peer, Delivered::Segment { hash, groups: groups.clone() }, Use::Content)?;
        let (store, wanted) = (call.member.store.clone(), groups.clone());
        call.member.crowds.gave(&hash, &self.me, &groups.clone().into());
        let encoder = blocking(move || open_segment(&store, &hash, |_| Some(wanted.into()))).await?;
        let encoder = Arc::new(Mutex::new(encoder.map_err(|refusal| call.refused(refusal))?));
        let verified = Arc::new(Mutex::new(Verified::new(into, groups.clone(), peer.node, tick.clone())));
        let wrong_at = call.member.line.faults().wrong_byte_at;
        let wrong_at = wrong_at.and_then(|offset| shape::place_of(size, &groups, offset));
        let mut at = 0_u64;
        loop {
            let reader = encoder.clone();
            let Some(piece) = blocking(move || lock(&reader).next()).await? else { break };
            let mut piece = piece.map_err(|error| call.refused(error.into()))?;
            if let Some(place) = wrong_at.filter(|p| (at..at + piece.len() as u64).contains(p)) {
                let mut spoilt = piece.to_vec();
                spoilt[(place - at) as usize] ^= 1;
                piece = spoilt.into();
            }
            at += piece.len() as u64;
            while !piece.is_empty() {
                let most = self.limits.down().piece(piece.len());
                let arrived = piece.split_to(call.pass(most).await?);
                self.net.hear(&arrived);
                pay(self.limits.down(), arrived.len(), &tick).await;
                let writer = verified.clone();
                blocking(move || lock(&writer).push(&arrived)).await??;
            }
        }
        let done = Arc::into_inner(verified).and_then(|v| v.into_inner().ok());
        done.map_or(Ok(()), |verified| verified.finish())
    }

    async fn tree(&self, peer: &Provider, into: &PartialBlob) -> Result<(), TransferError> {
        let (node, blob) = (peer.node, into.clone());
        let mut tree = blocking(move || Tree::new(&blob, node)).await??;
        let Some(Question::Tree(hash, from)) = tree.question(into) else { return Ok(()) };
        let mut call = self.connect(peer, Delivered::Tree { hash }, Use::Content)?;
        let store = call.member.store.clone();
        let encoder = blocking(move || open_tree(&store, &hash, from)).await?;
        let encoder = Arc::new(Mutex::new(encoder.map_err(|refusal| call.refused(refusal))?));
        loop {
            let reader = encoder.clone();
            let Some(piece) = blocking(move || lock(&reader).next()).await? else { break };
            let mut piece = piece.map_err(|error| call.refused(error.into()))?;
            while !piece.is_empty() {
                let arrived = piece.split_to(call.pass(piece.len()).await?);
                self.net.hear(&arrived);
                self.limits.down().small(arrived.len()).await;
                let (pushed, more) = blocking(move || {
                    let more = tree.push(&arrived);
                    (tree, more)
                })
                .await?;
                tree = pushed;
                more?;
            }
        }
        tree.finish()
    }

    async fn drafts(
        &self,
        peer: &Provider,
        digests: &[FileDigest],
    ) -> Result<Vec<(FileDigest, DraftNews)>, TransferError> {
        decode::check_ask("drafts", digests.len() as u64, MAX_DRAFTS_ASKED as u64)?;
        if let Some(member) = self.net.member(peer.node) {
            member.store.blobs().crowd_asked(digests, self.me);
        }
        let frames = self.ask(peer, Question::Drafts(digests.to_vec()), Delivered::Drafts).await?;
        wire::drafts_reply(&frames, digests).map_err(|e| decode::garbled(peer.node, &e))
    }

    async fn part(
        &self,
        peer: &Provider,
        digest: FileDigest,
        groups: Range<u64>,
        into: &Draft,
        tick: Tick,
    ) -> Result<(), TransferError> {
        decode::check_ask("groups", groups.end.saturating_sub(groups.start), MAX_PART_GROUPS)?;
        let mut part = Part::new(into, groups.clone(), peer.node, tick);
        let mut call =
            self.connect(peer, Delivered::Part { digest, groups: groups.clone() }, Use::Content)?;
        let (store, question) = (call.member.store.clone(), Question::Part(digest, groups.clone()));
        let asked = question.clone();
        let answered = blocking(move || {
            let mut all = Vec::new();
            answer(&store, &asked, &mut |piece| {
                all.extend_from_slice(&piece);
                true
            })
            .map(|()| all)
        });
        let all = answered.await?.map_err(|refusal| call.refused(refusal))?;
        self.net.hear(&all);
        let frames = wire::split_frames(&question, &all).map_err(|e| decode::garbled(peer.node, &e))?;
        let mut at = groups.start * GROUP_BYTES;
        for mut frame in frames {
            call.pass_all(frame.len()).await?;
            let wrong = call.member.line.faults().wrong_byte_at.and_then(|offset| offset.checked_sub(at));
            if let Some(byte) = wrong.and_then(|place| frame.get_mut(place as usize)) {
                *byte ^= 1;
            }
            at += frame.len() as u64;
            let (pushed, more) = blocking(move || {
                let more = part.push(&frame);
                (part, more)
            })
            .await?;
            part = pushed;
            more?;
        }
        part.finish()
    }
}

/// Each of a batch of news by itself.
fn singly<T: Send + 'static>(
    news: BoxStream<'static, Result<Vec<T>, StoreError>>,
) -> BoxStream<'static, Result<T, TransferError>> {
    news.flat_map(|batch| {
        stream::iter(match batch {
            Ok(batch) => batch.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(TransferError::Disk(error))],
        })
    })
    .boxed()
}

/// `news` until the connection breaks.
fn until_cut<T: Send + 'static>(
    news: BoxStream<'static, Result<T, TransferError>>,
    cuts: watch::Receiver<u64>,
    broken: TransferError,
) -> BoxStream<'static, Result<T, TransferError>> {
    let on_the_way = Some((news, cuts, broken));
    stream::unfold(on_the_way, |state| async move {
        let (mut news, mut cuts, broken) = state?;
        tokio::select! {
            item = news.next() => {
                let item = item?;
                let rest = item.is_ok().then_some((news, cuts, broken));
                Some((item, rest))
            }
            _ = cuts.changed() => Some((Err(broken), None)),
        }
    })
    .boxed()
}

/// Runs what blocks where it may. A thread that panicked ends the request as a stopping node would.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TransferError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| TransferError::Stopping)
}
