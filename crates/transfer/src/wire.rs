//! `hubless/1` in bytes: one question a stream, answered by frames or by a reset with a code.
//!
//! A question is one byte (version in the upper half, kind in the lower), four bytes of length (little endian) and
//! that many bytes of postcard. An answer is any number of frames: four bytes of length, then the body.
//!
//! **Invariant:** pure; nothing is allocated beyond the length of what was received.

use std::ops::Range;

use bytes::Bytes;
use hubless_limits::Use;
use hubless_store::DraftNews;
use hubless_types::{BlobHash, CommitId, FileDigest, GroupSet, Link, LinkTrust, RepoId, Revision, Statement};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::bulk::seal::Ciphers;
use crate::bulk::words::MAX_OFFER_FRAME;
use crate::client::{Gathering, HeldRepos, Holding, ManifestReply};
use crate::limits::{
    MAX_BUNDLE_BYTES, MAX_CROWD_FRAME, MAX_CROWD_TOLD, MAX_DRAFT_FRAME, MAX_DRAFTS_ASKED, MAX_HOLDING_FRAME,
    MAX_HOLDINGS_ASKED, MAX_LINK_TABLE_BYTES, MAX_LINKS_ASKED, MAX_LINKS_BYTES, MAX_PART_FRAME,
    MAX_PART_GROUPS, MAX_REPOS_BYTES, MAX_REPOS_TOLD, MAX_REQUEST_BYTES, MAX_SMALL_FILES_ASKED,
    MAX_SMALL_FRAME, MAX_STATEMENTS, MAX_STATEMENTS_BYTES, MAX_TREE_FRAME, SMALL_FILE_MAX,
};

/// The protocol's name in the TLS handshake.
pub(crate) const ALPN: &[u8] = b"hubless/1";

/// Bytes before a question's body.
pub(crate) const QUESTION_HEAD: usize = 5;
/// Bytes before a frame's body.
pub(crate) const FRAME_HEAD: usize = 4;

const VERSION: u8 = 1;

/// What one node asks of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Manifest(CommitId),
    Statements(RepoId, Option<Revision>),
    Links(Vec<FileDigest>),
    SmallFiles(Vec<FileDigest>),
    Holdings(Vec<BlobHash>),
    /// The tree of a blob, from this parent on in pre-order.
    Tree(BlobHash, u64),
    /// A bulk line; see `bulk`. The stream stays open both ways: wishes go one way, an offer comes the other.
    Bulk(Ciphers),
    /// Who else asks for these.
    Crowd(Vec<BlobHash>),
    /// What is done about these files, which are fetched from an origin.
    Drafts(Vec<FileDigest>),
    /// Groups of a draft.
    Part(FileDigest, Range<u64>),
    /// Which repositories are held, after this commit in the order of their ids.
    Repos(Option<CommitId>),
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("version {0} is not spoken here")]
    Version(u8),
    #[error("there is no question of kind {0}")]
    Kind(u8),
    #[error("a message of {len} bytes where at most {limit} are taken")]
    TooLong { len: usize, limit: usize },
    #[error("a message that cannot be read")]
    Garbled,
    #[error("a message names more than it may")]
    TooMany,
    #[error("an answer to something that was not asked")]
    NotAsked,
}

impl Question {
    const fn kind(&self) -> u8 {
        match self {
            Self::Manifest(_) => 1,
            Self::Statements(..) => 2,
            Self::Links(_) => 3,
            Self::SmallFiles(_) => 4,
            Self::Holdings(_) => 5,
            Self::Tree(..) => 6,
            Self::Bulk(_) => 7,
            Self::Crowd(_) => 8,
            Self::Drafts(_) => 9,
            Self::Part(..) => 10,
            Self::Repos(_) => 11,
        }
    }

    /// What its answer is, where a month's bytes run out.
    pub(crate) const fn what(&self) -> Use {
        match self {
            Self::Manifest(_)
            | Self::Statements(..)
            | Self::Links(_)
            | Self::Holdings(_)
            | Self::Crowd(_)
            | Self::Drafts(_)
            | Self::Repos(_) => Use::Words,
            Self::SmallFiles(_) | Self::Tree(..) | Self::Bulk(_) | Self::Part(..) => Use::Content,
        }
    }

    /// The whole question, head and body.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, WireError> {
        let body = match self {
            Self::Manifest(commit) => pack(commit)?,
            Self::Statements(repo, revision) => pack(&(repo, revision))?,
            Self::Links(digests) | Self::SmallFiles(digests) | Self::Drafts(digests) => pack(digests)?,
            Self::Holdings(hashes) | Self::Crowd(hashes) => pack(hashes)?,
            Self::Tree(hash, from) => pack(&(hash, from))?,
            Self::Bulk(ciphers) => pack(ciphers)?,
            Self::Part(digest, groups) => pack(&(digest, groups.start, groups.end))?,
            Self::Repos(after) => pack(after)?,
        };
        check_len(body.len(), MAX_REQUEST_BYTES)?;
        let mut out = Vec::with_capacity(QUESTION_HEAD + body.len());
        out.push(VERSION << 4 | self.kind());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Reads a head: the kind, and how many bytes of body follow.
    pub(crate) fn decode_head(head: [u8; QUESTION_HEAD]) -> Result<(u8, usize), WireError> {
        let [first, len @ ..] = head;
        let (version, kind) = (first >> 4, first & 0x0f);
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let limit = match kind {
            1 | 6 | 11 => 64,
            10 => 128,
            7 => 16,
            2 => 1024,
            3 | 4 => MAX_REQUEST_BYTES,
            5 | 8 => 64 * MAX_HOLDINGS_ASKED,
            9 => 80 * MAX_DRAFTS_ASKED,
            _ => return Err(WireError::Kind(kind)),
        };
        let len = u32::from_le_bytes(len) as usize;
        check_len(len, limit)?;
        Ok((kind, len))
    }

    /// Reads the body that follows a head.
    pub(crate) fn decode_body(kind: u8, body: &[u8]) -> Result<Self, WireError> {
        Ok(match kind {
            1 => Self::Manifest(unpack(body)?),
            2 => {
                let (repo, revision) = unpack(body)?;
                Self::Statements(repo, revision)
            }
            3 => Self::Links(at_most(unpack(body)?, MAX_LINKS_ASKED)?),
            4 => Self::SmallFiles(at_most(unpack(body)?, MAX_SMALL_FILES_ASKED)?),
            5 => Self::Holdings(at_most(unpack(body)?, MAX_HOLDINGS_ASKED)?),
            6 => {
                let (hash, from) = unpack(body)?;
                Self::Tree(hash, from)
            }
            7 => Self::Bulk(unpack(body)?),
            8 => Self::Crowd(at_most(unpack(body)?, MAX_HOLDINGS_ASKED)?),
            9 => Self::Drafts(at_most(unpack(body)?, MAX_DRAFTS_ASKED)?),
            10 => {
                let (digest, start, end) = unpack(body)?;
                if end < start || end - start > MAX_PART_GROUPS {
                    return Err(WireError::TooMany);
                }
                Self::Part(digest, start..end)
            }
            11 => Self::Repos(unpack(body)?),
            _ => return Err(WireError::Kind(kind)),
        })
    }

    /// Longest frame of the answer to this, as number `index` (from 0) of its frames; 0 where none may follow.
    pub(crate) fn frame_limit(&self, index: usize) -> usize {
        match (self, index) {
            (Self::Manifest(_), 0) => MAX_BUNDLE_BYTES,
            (Self::Manifest(_), 1) => MAX_LINK_TABLE_BYTES,
            (Self::Statements(..), 0) => MAX_STATEMENTS_BYTES,
            (Self::Links(_), 0) => MAX_LINKS_BYTES,
            (Self::Repos(_), 0) => MAX_REPOS_BYTES,
            (Self::SmallFiles(asked), i) if i < asked.len() => MAX_SMALL_FRAME,
            (Self::Holdings(_), _) => MAX_HOLDING_FRAME,
            (Self::Crowd(_), _) => MAX_CROWD_FRAME,
            (Self::Tree(..), _) => MAX_TREE_FRAME,
            (Self::Bulk(_), 0) => MAX_OFFER_FRAME,
            (Self::Drafts(asked), i) if i < asked.len() => MAX_DRAFT_FRAME,
            (Self::Part(..), _) => MAX_PART_FRAME,
            _ => 0,
        }
    }
}

/// What stands before a body of `len` bytes.
pub(crate) fn frame_head(len: usize) -> Bytes {
    Bytes::copy_from_slice(&(len as u32).to_le_bytes())
}

/// All frames of a whole answer to `question`.
pub(crate) fn split_frames(question: &Question, mut answer: &[u8]) -> Result<Vec<Vec<u8>>, WireError> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = answer.split_first_chunk() {
        let len = frame_len(*head, question.frame_limit(frames.len()))?;
        let (body, rest) = rest.split_at_checked(len).ok_or(WireError::Garbled)?;
        frames.push(body.to_vec());
        answer = rest;
    }
    if answer.is_empty() { Ok(frames) } else { Err(WireError::Garbled) }
}

/// Puts a frame's length before its body.
pub(crate) fn frame(body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(FRAME_HEAD + body.len());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out.into()
}

/// The length in a frame's head, if it is within `limit`.
pub(crate) fn frame_len(head: [u8; FRAME_HEAD], limit: usize) -> Result<usize, WireError> {
    let len = u32::from_le_bytes(head) as usize;
    check_len(len, limit)?;
    Ok(len)
}

/// A manifest from its frames: the bundle, and the link table if there is one.
pub(crate) fn manifest_reply(frames: Vec<Vec<u8>>) -> Result<ManifestReply, WireError> {
    let mut frames = frames.into_iter();
    let bundle = frames.next().ok_or(WireError::Garbled)?;
    Ok(ManifestReply { bundle, links: frames.next() })
}

/// Statements on `repo` and, where one was asked for, `revision`.
pub(crate) fn statements_reply(
    frames: &[Vec<u8>],
    repo: &RepoId,
    revision: Option<&Revision>,
) -> Result<Vec<Statement>, WireError> {
    let statements: Vec<Statement> = unpack(frames.first().ok_or(WireError::Garbled)?)?;
    let asked = |s: &Statement| s.body.repo == *repo && revision.is_none_or(|r| s.body.revision == *r);
    if !statements.iter().all(asked) {
        return Err(WireError::NotAsked);
    }
    at_most(statements, MAX_STATEMENTS)
}

/// Which repositories are held, those after `after`.
pub(crate) fn repos_reply(frames: &[Vec<u8>], after: Option<CommitId>) -> Result<HeldRepos, WireError> {
    let told: HeldRepos = unpack(frames.first().ok_or(WireError::Garbled)?)?;
    // Whoever follows an answer that leads nowhere new would never be done.
    if told.next.is_some_and(|next| Some(next) <= after) {
        return Err(WireError::NotAsked);
    }
    Ok(HeldRepos { repos: at_most(told.repos, MAX_REPOS_TOLD)?, ..told })
}

/// One row of an answer with links: which of the digests asked for, its tree and its size.
pub(crate) type LinkRow = (u32, BlobHash, u64);

/// Links for `asked`, all as claimed.
pub(crate) fn links_reply(frames: &[Vec<u8>], asked: &[FileDigest]) -> Result<Vec<Link>, WireError> {
    let rows: Vec<LinkRow> = unpack(frames.first().ok_or(WireError::Garbled)?)?;
    let link = |(index, hash, size): LinkRow| {
        let digest = *asked.get(index as usize).ok_or(WireError::NotAsked)?;
        Ok(Link { digest, hash, size, trust: LinkTrust::Claimed })
    };
    at_most(rows, asked.len())?.into_iter().map(link).collect()
}

/// A small file in its frame: which of the digests asked for, then its bytes.
pub(crate) fn small_file_frame(index: u32, content: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(4 + content.len());
    body.extend_from_slice(&index.to_le_bytes());
    body.extend_from_slice(content);
    frame(&body)
}

/// Small files of `asked`.
pub(crate) fn small_files_reply(
    frames: Vec<Vec<u8>>,
    asked: &[FileDigest],
) -> Result<Vec<(FileDigest, Bytes)>, WireError> {
    let file = |frame: Vec<u8>| {
        let index: [u8; 4] = frame.first_chunk().copied().ok_or(WireError::Garbled)?;
        let digest = *asked.get(u32::from_le_bytes(index) as usize).ok_or(WireError::NotAsked)?;
        let content = Bytes::from(frame).slice(index.len()..);
        check_len(content.len(), SMALL_FILE_MAX as usize)?;
        Ok((digest, content))
    };
    frames.into_iter().map(file).collect()
}

/// A push of a subscription to `wanted`.
pub(crate) fn holding(body: &[u8], wanted: &[BlobHash]) -> Result<Holding, WireError> {
    let holding: Holding = unpack(body)?;
    let last = holding.have.runs().last().map_or(0, |run| run.end);
    if !wanted.contains(&holding.hash) || last > holding.size.div_ceil(hubless_types::GROUP_BYTES) {
        return Err(WireError::NotAsked);
    }
    Ok(holding)
}

/// A push about the crowds around `wanted`.
pub(crate) fn gathering(body: &[u8], wanted: &[BlobHash]) -> Result<Gathering, WireError> {
    let gathering: Gathering = unpack(body)?;
    if !wanted.contains(&gathering.hash) {
        return Err(WireError::NotAsked);
    }
    if gathering.peers.len() > MAX_CROWD_TOLD { Err(WireError::TooMany) } else { Ok(gathering) }
}

/// What is told of a draft: which of the digests asked for, then the news.
pub(crate) fn draft_frame(index: u32, news: &DraftNews) -> Result<Bytes, WireError> {
    Ok(frame(&pack(&(index, news))?))
}

/// What is told of drafts of `asked`.
pub(crate) fn drafts_reply(
    frames: &[Vec<u8>],
    asked: &[FileDigest],
) -> Result<Vec<(FileDigest, DraftNews)>, WireError> {
    let told = |frame: &Vec<u8>| {
        let (index, news): (u32, DraftNews) = unpack(frame)?;
        let digest = *asked.get(index as usize).ok_or(WireError::NotAsked)?;
        let groups = news.size.div_ceil(hubless_types::GROUP_BYTES);
        let fits = |set: &GroupSet| set.runs().last().is_none_or(|run| run.end <= groups);
        if !fits(&news.offers) || !fits(&news.awaits) || !fits(&news.have) {
            return Err(WireError::Garbled);
        }
        Ok((digest, news))
    };
    frames.iter().map(told).collect()
}

/// What strangers may say of crowds, drafts, parts and repositories (questions 8 to 11 and their answers). Nothing panics,
/// and what is taken reads the same when it is written again, within its bounds.
#[cfg(fuzzing)]
pub fn strangers_words(bytes: &[u8]) {
    check_words(bytes);
}

#[cfg(any(test, fuzzing))]
fn check_words(bytes: &[u8]) {
    for kind in 8..=11 {
        let Ok(question) = Question::decode_body(kind, bytes) else { continue };
        let written = question.encode().unwrap_or_default();
        let head = written.first_chunk().map(|head| Question::decode_head(*head));
        assert_eq!(head, Some(Ok((kind, written.len() - QUESTION_HEAD))));
        assert_eq!(Question::decode_body(kind, &written[QUESTION_HEAD..]), Ok(question));
    }
    if let Some(hash) = bytes.first_chunk().map(|hash| BlobHash::from_bytes(*hash))
        && let Ok(told) = gathering(bytes, &[hash])
    {
        assert!(told.hash == hash && told.peers.len() <= MAX_CROWD_TOLD);
        assert_eq!(gathering(&pack(&told).unwrap_or_default(), &[hash]), Ok(told));
    }
    if let Ok(told) = repos_reply(&[bytes.to_vec()], None) {
        assert!(told.repos.len() <= MAX_REPOS_TOLD);
        assert_eq!(repos_reply(&[pack(&told).unwrap_or_default()], None), Ok(told));
    }
    let asked = [FileDigest::Git(hubless_types::BlobId::from_bytes([1; 20]))];
    if let Ok(told) = drafts_reply(&[bytes.to_vec()], &asked) {
        let frames: Vec<Vec<u8>> =
            told.iter().map(|(_, news)| pack(&(0_u32, news)).unwrap_or_default()).collect();
        assert_eq!(drafts_reply(&frames, &asked), Ok(told));
    }
}

pub(crate) fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    postcard::to_stdvec(value).map_err(|_| WireError::Garbled)
}

pub(crate) fn unpack<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(WireError::Garbled),
    }
}

fn at_most<T: DeserializeOwned>(list: Vec<T>, limit: usize) -> Result<Vec<T>, WireError> {
    if list.len() > limit { Err(WireError::TooMany) } else { Ok(list) }
}

const fn check_len(len: usize, limit: usize) -> Result<(), WireError> {
    if len > limit { Err(WireError::TooLong { len, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::{BlobId, Sha256};
    use proptest::prelude::*;

    fn digest() -> impl Strategy<Value = FileDigest> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(|d| FileDigest::Sha256(Sha256::from_bytes(d))),
            any::<[u8; 20]>().prop_map(|d| FileDigest::Git(BlobId::from_bytes(d))),
        ]
    }

    fn question() -> impl Strategy<Value = Question> {
        let repos = prop::sample::select(vec!["acme/tiny", "datasets/acme/words", "gpt2"]);
        prop_oneof![
            any::<[u8; 20]>().prop_map(|c| Question::Manifest(CommitId::from_bytes(c))),
            (repos, any::<bool>()).prop_map(|(repo, named)| {
                Question::Statements(repo.parse().unwrap(), named.then(|| "refs/pr/7".parse().unwrap()))
            }),
            prop::collection::vec(digest(), 0..20).prop_map(Question::Links),
            prop::collection::vec(digest(), 0..20).prop_map(Question::SmallFiles),
            prop::collection::vec(any::<[u8; 32]>().prop_map(BlobHash::from_bytes), 0..20)
                .prop_map(Question::Holdings),
            prop::collection::vec(any::<[u8; 32]>().prop_map(BlobHash::from_bytes), 0..20)
                .prop_map(Question::Crowd),
            any::<([u8; 32], u64)>()
                .prop_map(|(hash, from)| Question::Tree(BlobHash::from_bytes(hash), from)),
            any::<bool>().prop_map(|aes_is_fast| Question::Bulk(Ciphers { aes_is_fast })),
            prop::collection::vec(digest(), 0..20).prop_map(Question::Drafts),
            (digest(), any::<u32>(), 0..=MAX_PART_GROUPS)
                .prop_map(|(digest, at, len)| Question::Part(digest, u64::from(at)..u64::from(at) + len)),
            any::<Option<[u8; 20]>>().prop_map(|c| Question::Repos(c.map(CommitId::from_bytes))),
        ]
    }

    fn groups() -> impl Strategy<Value = GroupSet> {
        prop::collection::vec((0..400_u64, 1..40_u64), 0..6).prop_map(|runs| {
            let mut set = GroupSet::new();
            runs.into_iter().for_each(|(at, len)| set.insert_all(&GroupSet::from(at..at + len)));
            set
        })
    }

    /// Of a file that has at least all these groups.
    fn news() -> impl Strategy<Value = DraftNews> {
        (440_u64..1 << 40, groups(), groups(), groups()).prop_map(|(groups, offers, awaits, have)| {
            let size = groups * hubless_types::GROUP_BYTES;
            DraftNews { size, offers, awaits, have }
        })
    }

    fn crowd() -> impl Strategy<Value = Gathering> {
        let peer = (any::<[u8; 32]>(), any::<(std::net::IpAddr, u16)>())
            .prop_map(|(node, addr)| (hubless_types::NodeId::from_bytes(node), addr.into()));
        (any::<[u8; 32]>(), groups(), prop::collection::vec(peer, 0..=MAX_CROWD_TOLD))
            .prop_map(|(hash, gave, peers)| Gathering { hash: BlobHash::from_bytes(hash), gave, peers })
    }

    fn decoded(bytes: &[u8]) -> Result<Question, WireError> {
        let (head, body) = bytes.split_first_chunk().ok_or(WireError::Garbled)?;
        let (kind, len) = Question::decode_head(*head)?;
        Question::decode_body(kind, body.get(..len).ok_or(WireError::Garbled)?)
    }

    proptest! {
        #[test]
        fn questions_read_as_they_were_written(question in question()) {
            prop_assert_eq!(decoded(&question.encode().unwrap()), Ok(question));
        }

        #[test]
        fn what_is_told_of_crowds_and_drafts_reads_as_it_was_written(crowd in crowd(), news in news(), at: usize, flip: u8) {
            let told = pack(&crowd).unwrap();
            prop_assert!(told.len() <= MAX_CROWD_FRAME);
            prop_assert_eq!(gathering(&told, &[crowd.hash]), Ok(crowd));
            let asked = [FileDigest::Git(BlobId::from_bytes([1; 20]))];
            let framed = draft_frame(0, &news).unwrap();
            let frames = split_frames(&Question::Drafts(asked.to_vec()), &framed).unwrap();
            prop_assert_eq!(drafts_reply(&frames, &asked), Ok(vec![(asked[0], news)]));
            for mut bytes in [told, frames[0].clone()] {
                check_words(&bytes);
                let place = at % bytes.len();
                bytes[place] ^= flip;
                check_words(&bytes);
            }
        }

        #[test]
        fn questions_about_crowds_drafts_and_parts_survive_a_spoilt_byte(question in question(), at: usize, flip: u8) {
            let mut body = question.encode().unwrap().split_off(QUESTION_HEAD);
            check_words(&body);
            if !body.is_empty() {
                let place = at % body.len();
                body[place] ^= flip;
                check_words(&body);
            }
        }

        #[test]
        fn strangers_bytes_never_panic(question in question(), bytes in prop::collection::vec(any::<u8>(), 0..300), cut: u8) {
            let _ = decoded(&bytes);
            let mut spoilt = question.encode().unwrap();
            let place = usize::from(cut) % spoilt.len();
            spoilt[place] ^= bytes.first().copied().unwrap_or(1);
            let _ = decoded(&spoilt);
            let asked = [FileDigest::Git(BlobId::from_bytes([1; 20]))];
            let frames = vec![bytes.clone(), bytes.clone()];
            let _ = statements_reply(&frames, &"acme/tiny".parse().unwrap(), None);
            let _ = links_reply(&frames, &asked);
            let _ = drafts_reply(&frames, &asked);
            let _ = repos_reply(&frames, None);
            let _ = small_files_reply(frames.clone(), &asked);
            let _ = manifest_reply(frames);
            let _ = holding(&bytes, &[BlobHash::from_bytes([1; 32])]);
            let _ = gathering(&bytes, &[BlobHash::from_bytes([1; 32])]);
        }
    }

    #[test]
    fn the_largest_questions_fit() {
        let digests = vec![FileDigest::Sha256(Sha256::from_bytes([0xab; 32])); MAX_LINKS_ASKED];
        for question in [
            Question::Links(digests.clone()),
            Question::SmallFiles(digests[..MAX_SMALL_FILES_ASKED].to_vec()),
            Question::Drafts(digests[..MAX_DRAFTS_ASKED].to_vec()),
            Question::Part(digests[0], u64::MAX - MAX_PART_GROUPS..u64::MAX),
            Question::Holdings(vec![BlobHash::from_bytes([1; 32]); MAX_HOLDINGS_ASKED]),
        ] {
            assert_eq!(decoded(&question.encode().unwrap()), Ok(question));
        }
        let more = Question::Links([digests.clone(), digests[..1].to_vec()].concat());
        assert_eq!(decoded(&more.encode().unwrap()), Err(WireError::TooMany));
    }

    #[test]
    fn a_promise_beyond_the_bound_is_refused_before_anything_is_read() {
        let head = |kind: u8, len: u32| {
            let [a, b, c, d] = len.to_le_bytes();
            Question::decode_head([0x10 | kind, a, b, c, d])
        };
        assert_eq!(head(1, 65), Err(WireError::TooLong { len: 65, limit: 64 }));
        assert!(matches!(head(3, u32::MAX), Err(WireError::TooLong { .. })));
        assert_eq!(head(12, 1), Err(WireError::Kind(12)));
        assert_eq!(Question::decode_head([0x21, 1, 0, 0, 0]), Err(WireError::Version(2)));
    }

    #[test]
    fn of_a_draft_no_more_is_believed_than_it_has_groups() {
        let asked = [FileDigest::Git(BlobId::from_bytes([1; 20]))];
        let news =
            DraftNews { size: 16_385, offers: (1..2).into(), awaits: (0..1).into(), have: (1..2).into() };
        let told = |news: &DraftNews, index| {
            let framed = draft_frame(index, news).unwrap();
            drafts_reply(&split_frames(&Question::Drafts(asked.to_vec()), &framed).unwrap(), &asked)
        };
        assert_eq!(told(&news, 0), Ok(vec![(asked[0], news.clone())]));
        assert_eq!(told(&news, 1), Err(WireError::NotAsked));
        let beyond = DraftNews { have: (0..3).into(), ..news };
        assert_eq!(told(&beyond, 0), Err(WireError::Garbled));
        let backwards = pack(&(asked[0], 5_u64, 4_u64)).unwrap();
        assert_eq!(Question::decode_body(10, &backwards), Err(WireError::TooMany));
    }

    #[test]
    fn a_page_of_repositories_is_bounded_and_leads_on() {
        let page = |many: usize, next: Option<u8>| {
            let repos = vec!["acme/tiny".parse().unwrap(); many];
            pack(&HeldRepos { repos, next: next.map(|n| CommitId::from_bytes([n; 20])) }).unwrap()
        };
        let after = Some(CommitId::from_bytes([5; 20]));
        let told = |many, next| repos_reply(&[page(many, next)], after).map(|told| told.repos.len());
        assert_eq!((told(2, None), told(MAX_REPOS_TOLD, Some(6))), (Ok(2), Ok(MAX_REPOS_TOLD)));
        assert_eq!(told(MAX_REPOS_TOLD + 1, None), Err(WireError::TooMany));
        assert_eq!(
            (told(1, Some(5)), told(1, Some(4))),
            (Err(WireError::NotAsked), Err(WireError::NotAsked))
        );
        let longest = "datasets/".to_owned() + &"a".repeat(47) + "/" + &"b".repeat(48);
        let repos = vec![longest.parse().unwrap(); MAX_REPOS_TOLD];
        let told = pack(&HeldRepos { repos, next: after }).unwrap();
        assert!(told.len() <= MAX_REPOS_BYTES, "{}", told.len());
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let hash = BlobHash::from_bytes([1; 32]);
        let told =
            |groups: u64| pack(&Holding { hash, size: 40_000, have: GroupSet::from(0..groups) }).unwrap();
        assert!(holding(&told(3), &[hash]).is_ok());
        assert_eq!(holding(&told(4), &[hash]), Err(WireError::NotAsked));
        assert_eq!(holding(&told(3), &[BlobHash::from_bytes([2; 32])]), Err(WireError::NotAsked));
        let crowd = |hash, many: usize| {
            let peers = vec![(hubless_types::NodeId::from_bytes([1; 32]), ([1, 2, 3, 4], 5).into()); many];
            pack(&Gathering { hash, gave: GroupSet::from(0..3), peers }).unwrap()
        };
        assert_eq!(gathering(&crowd(hash, 2), &[hash]).unwrap().peers.len(), 2);
        assert_eq!(gathering(&crowd(BlobHash::from_bytes([2; 32]), 2), &[hash]), Err(WireError::NotAsked));
        assert_eq!(gathering(&crowd(hash, MAX_CROWD_TOLD + 1), &[hash]), Err(WireError::TooMany));
        let asked = [FileDigest::Git(BlobId::from_bytes([1; 20]))];
        let rows: Vec<LinkRow> = vec![(1, hash, 5)];
        assert_eq!(links_reply(&[pack(&rows).unwrap()], &asked), Err(WireError::NotAsked));
        assert_eq!(small_files_reply(vec![vec![1, 0, 0, 0, b'x']], &asked), Err(WireError::NotAsked));
    }
}
