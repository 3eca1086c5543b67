//! How identifiers are spelt in keys, so that keys sort as identifiers do and a prefix finds what belongs together.

use hubless_types::{BlobId, CommitId, FileDigest, NodeId, RepoId, RepoKind, Revision, Sha256};

use crate::error::{Result, StoreError};

/// Ends a name inside a key: neither repository names nor revisions hold a NUL.
const END: u8 = 0;

/// `kind name`: sorts as [`RepoId`] does.
pub(crate) fn repo(repo: &RepoId) -> Vec<u8> {
    let kind = match repo.kind() {
        RepoKind::Model => 0,
        RepoKind::Dataset => 1,
        RepoKind::Space => 2,
    };
    let mut key = vec![kind];
    key.extend_from_slice(repo.name().as_bytes());
    key
}

pub(crate) fn read_repo(key: &[u8]) -> Result<RepoId> {
    let fail = || StoreError::corrupt("repo key", "it names no repository");
    let (&kind, name) = key.split_first().ok_or_else(fail)?;
    let kind = *RepoKind::ALL.get(usize::from(kind)).ok_or_else(fail)?;
    let name = std::str::from_utf8(name).map_err(|_| fail())?;
    RepoId::new(kind, name).map_err(|_| fail())
}

/// What all keys of one repository begin with.
pub(crate) fn in_repo(id: &RepoId) -> Vec<u8> {
    let mut key = repo(id);
    key.push(END);
    key
}

/// `repo 0 rest`.
pub(crate) fn repo_and(id: &RepoId, rest: &[u8]) -> Vec<u8> {
    let mut key = in_repo(id);
    key.extend_from_slice(rest);
    key
}

pub(crate) fn read_revision(bytes: &[u8]) -> Result<Revision> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|t| t.parse().ok()).ok_or_else(|| StoreError::corrupt("ref key", "it names no revision"))
}

/// What all statements about one name begin with.
pub(crate) fn in_revision(id: &RepoId, revision: &Revision) -> Vec<u8> {
    let mut key = repo_and(id, revision.as_str().as_bytes());
    key.push(END);
    key
}

/// `repo 0 revision 0 signer`.
pub(crate) fn statement(id: &RepoId, revision: &Revision, signer: &NodeId) -> Vec<u8> {
    let mut key = in_revision(id, revision);
    key.extend_from_slice(signer.as_bytes());
    key
}

/// `kind digest`.
pub(crate) fn digest(digest: &FileDigest) -> Vec<u8> {
    match digest {
        FileDigest::Git(id) => [&[0], &id.as_bytes()[..]].concat(),
        FileDigest::Sha256(id) => [&[1], &id.as_bytes()[..]].concat(),
    }
}

pub(crate) fn read_digest(key: &[u8]) -> Result<FileDigest> {
    let found = match key.split_first() {
        Some((0, id)) => BlobId::from_slice(id).map(FileDigest::Git),
        Some((1, id)) => Sha256::from_slice(id).map(FileDigest::Sha256),
        _ => None,
    };
    found.ok_or_else(|| StoreError::corrupt("link key", "it is no file digest"))
}

pub(crate) fn read_commit(key: &[u8]) -> Result<CommitId> {
    let id = key.get(..CommitId::LEN).and_then(CommitId::from_slice);
    id.ok_or_else(|| StoreError::corrupt("commit key", "it is too short"))
}

/// The first key after `key`.
pub(crate) fn next(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The first key after all that begin with `prefix`; `None` if there is none.
pub(crate) fn past(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
