//! Answers from the store: what is told to whoever asks, whatever carried the question.
//!
//! **Invariant:** only what this node holds, has verified and may share is told, and links only where it hashed the
//! file itself or somebody it trusts did. What is not shared is answered as what is not here.
//! **Not here:** streams, slots and timeouts (`serve`), subscriptions (`holdings`). All of this blocks.

mod drafts;

use std::sync::Arc;

use bytes::Bytes;
use hubless_store::{BlobFile, Encoder, Store, TreeEncoder};
use hubless_types::{
    BlobHash, ByteRange, CommitId, FileDigest, GroupSet, LinkTrust, RepoId, Revision, Statement,
};

use crate::client::HeldRepos;
use crate::limits::{
    MAX_LINK_TABLE_BYTES, MAX_REPOS_TOLD, MAX_SEGMENT_GROUPS, MAX_STATEMENTS, MAX_STATEMENTS_BYTES,
    PIECE_BYTES, SHARED_LOOKED_AT, SMALL_FILE_MAX,
};
use crate::refusal::Refusal;
use crate::wire::{LinkRow, Question, frame, frame_head, pack, small_file_frame};

/// Takes an answer piece by piece, whatever a piece holds of a frame; `false` ends it early.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(Bytes) -> bool;

/// Answers `question` in frames. A refusal comes before the first of them, except for a failure half-way.
pub(crate) fn answer(store: &Store, question: &Question, emit: Emit<'_>) -> Result<(), Refusal> {
    let catalogue = store.catalogue();
    match question {
        Question::Manifest(commit) => {
            if !catalogue.is_commit_shared(*commit)? {
                return Err(Refusal::NotHeld);
            }
            let bundle = catalogue.bundle(*commit)?.ok_or(Refusal::NotHeld)?;
            let links = catalogue.link_table(*commit)?.filter(|l| l.len() <= MAX_LINK_TABLE_BYTES);
            if emit_frame(bundle, emit)
                && let Some(links) = links
            {
                emit_frame(links, emit);
            }
        }
        Question::Statements(repo, revision) => {
            emit(frame(&statements(store, repo, revision.as_ref())?));
        }
        Question::Repos(after) => {
            emit(frame(&repos(store, *after)?));
        }
        Question::Links(digests) => {
            emit(frame(&links(store, digests)?));
        }
        Question::SmallFiles(digests) => small_files(store, digests, emit)?,
        Question::Tree(hash, from) => {
            for piece in open_tree(store, hash, *from)? {
                if !emit_frame(piece?, emit) {
                    break;
                }
            }
        }
        Question::Drafts(digests) => drafts::news(store, digests, emit)?,
        Question::Part(digest, groups) => drafts::part(store, digest, groups.clone(), emit)?,
        Question::Holdings(_) | Question::Bulk(_) | Question::Crowd(_) => return Err(Refusal::BadRequest),
    }
    Ok(())
}

/// Emits a long frame in pieces, so that a slow taker is not taken for a silent one. `false` if nobody wants more.
fn emit_frame(body: impl Into<Bytes>, emit: Emit<'_>) -> bool {
    let mut body = body.into();
    let mut wanted = emit(frame_head(body.len()));
    while wanted && !body.is_empty() {
        wanted = emit(body.split_to(body.len().min(PIECE_BYTES)));
    }
    wanted
}

/// Of a repository that not everybody may read nobody hears even that it is known here.
fn statements(store: &Store, repo: &RepoId, revision: Option<&Revision>) -> Result<Vec<u8>, Refusal> {
    let open = store.catalogue().access(repo)?.is_open();
    let mut told: Vec<Statement> =
        if open { store.catalogue().statements(repo, revision)? } else { Vec::new() };
    told.truncate(MAX_STATEMENTS);
    loop {
        let packed = pack(&told).map_err(|_| Refusal::Failed)?;
        if packed.len() <= MAX_STATEMENTS_BYTES {
            return Ok(packed);
        }
        told.truncate(told.len() / 2);
    }
}

/// Names of repositories that are open, of commits that peers may have.
fn repos(store: &Store, after: Option<CommitId>) -> Result<Vec<u8>, Refusal> {
    let rows = store.catalogue().shared_repos(after, SHARED_LOOKED_AT)?;
    let more = rows.len() == SHARED_LOOKED_AT;
    let mut told = HeldRepos::default();
    for (commit, repos) in rows {
        told.repos.extend(repos);
        let full = told.repos.len() >= MAX_REPOS_TOLD;
        told.next = (more || full).then_some(commit);
        if full {
            break;
        }
    }
    // Of a commit that more list than fit, some stay untold: the next page begins after it.
    told.repos.truncate(MAX_REPOS_TOLD);
    pack(&told).map_err(|_| Refusal::Failed)
}

fn links(store: &Store, digests: &[FileDigest]) -> Result<Vec<u8>, Refusal> {
    let links = store.catalogue().links(digests)?;
    let mut told: Vec<LinkRow> = Vec::new();
    for (link, index) in links.iter().zip(0_u32..) {
        let Some(link) = link.as_ref().filter(|l| l.trust >= LinkTrust::Vouched) else { continue };
        if store.blobs().is_shared(&link.hash)? {
            told.push((index, link.hash, link.size));
        }
    }
    pack(&told).map_err(|_| Refusal::Failed)
}

/// Only what a proven link leads to is sent: it is the file, not what somebody says is the file.
fn small_files(store: &Store, digests: &[FileDigest], emit: Emit<'_>) -> Result<(), Refusal> {
    for (digest, index) in digests.iter().zip(0_u32..) {
        let Some(content) = small_file(store, digest)? else { continue };
        if !emit(small_file_frame(index, &content)) {
            break;
        }
    }
    Ok(())
}

fn small_file(store: &Store, digest: &FileDigest) -> Result<Option<Bytes>, Refusal> {
    let link = store.catalogue().link(digest)?;
    let Some(link) = link.filter(|l| l.trust == LinkTrust::Proven && l.size <= SMALL_FILE_MAX) else {
        return Ok(None);
    };
    let Some(file) = open_shared(store, &link.hash)? else { return Ok(None) };
    // A file that changed underneath is one that is not held; the others are answered all the same.
    Ok(file.read(ByteRange::whole(link.size)).ok().filter(|content| content.len() as u64 == link.size))
}

/// Opens a blob for sending its tree, all of which must be here.
pub(crate) fn open_tree(store: &Store, hash: &BlobHash, from: u64) -> Result<TreeEncoder, Refusal> {
    let file = open_shared(store, hash)?.ok_or(Refusal::NotHeld)?;
    Arc::new(file).encode_tree(from).ok_or(Refusal::NotHeld)
}

/// Opens a blob that peers may have. One that they may not have is as good as absent: nobody learns that it is here.
fn open_shared(store: &Store, hash: &BlobHash) -> Result<Option<BlobFile>, Refusal> {
    let blobs = store.blobs();
    Ok(if blobs.is_shared(hash)? { blobs.open(hash)? } else { None })
}

/// Opens a blob for sending `wanted` of it, which must be held wholly.
pub(crate) fn open_segment(
    store: &Store,
    hash: &BlobHash,
    wanted: impl FnOnce(u64) -> Option<GroupSet>,
) -> Result<Encoder, Refusal> {
    let file = Arc::new(open_shared(store, hash)?.ok_or(Refusal::NotHeld)?);
    let groups = wanted(file.size()).ok_or(Refusal::BadRequest)?;
    if groups.len() > MAX_SEGMENT_GROUPS {
        return Err(Refusal::BadRequest);
    }
    let have = file.have();
    if !groups.runs().iter().all(|run| have.contains(run.clone())) {
        return Err(Refusal::NotHeld);
    }
    Ok(file.encode(groups))
}
