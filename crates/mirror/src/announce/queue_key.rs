//! How what is announced is called in the queue: by where it lies in the key space, so that keys near each other lie
//! near each other there too, then what it is.

use std::collections::HashMap;

use hubless_discovery::{DhtKey, Lifetime};
use hubless_store::{BlobStatus, Catalogue, Store};
use hubless_types::{CommitId, FileDigest, RepoId, Sha256};

use crate::MirrorError;

/// Repositories that are looked at between two looks at the catalogue.
const REPO_PAGE: usize = 256;
/// Bytes of a key's place.
const LEAD: usize = 8;

const COMMIT: u8 = b'c';
const SHARD: u8 = b's';
const PARTIAL: u8 = b'p';
const REPO: u8 = b'r';

fn at(key: &DhtKey, kind: u8, rest: &[u8]) -> Vec<u8> {
    [&key.place().lead().to_be_bytes()[..], &[kind], rest].concat()
}

pub(super) fn commit(commit: CommitId) -> Vec<u8> {
    at(&DhtKey::Commit(commit), COMMIT, commit.as_bytes())
}

pub(super) fn shard(shard: Sha256) -> Vec<u8> {
    at(&DhtKey::Shard(shard), SHARD, shard.as_bytes())
}

/// A shard of which only a part is here.
pub(super) fn partial(shard: Sha256) -> Vec<u8> {
    at(&DhtKey::Shard(shard), PARTIAL, shard.as_bytes())
}

/// A repository's name may be too long for the queue: its DHT key stands for it.
pub(super) fn repo(repo: &RepoId) -> Vec<u8> {
    let key = DhtKey::Repo(repo.clone());
    at(&key, REPO, &key.to_bytes())
}

/// Where a key of the queue lies.
pub(super) fn lead(queued: &[u8]) -> u64 {
    queued.first_chunk::<LEAD>().map_or(0, |lead| u64::from_be_bytes(*lead))
}

/// A key as versions before the sweep wrote it, as it is written now; `None` if it is none.
pub(super) fn renewed(queued: &[u8], catalogue: &Catalogue) -> Result<Option<Vec<u8>>, MirrorError> {
    let Some((kind, rest)) = queued.split_first() else { return Ok(None) };
    Ok(match (*kind, rest.len()) {
        (COMMIT, CommitId::LEN) => CommitId::from_slice(rest).map(commit),
        (SHARD, 32) => Sha256::from_slice(rest).map(shard),
        (REPO, 34) => find_repos(catalogue, &[rest])?.into_values().next().map(|found| repo(&found)),
        _ => None,
    })
}

/// Whether it is a key as versions before the sweep wrote it.
pub(super) fn is_old(queued: &[u8]) -> bool {
    matches!((queued.first(), queued.len()), (Some(&COMMIT), 21) | (Some(&SHARD), 33) | (Some(&REPO), 35))
}

/// What keys of the queue mean, in their order; `None` for what is no longer here, or no longer for others.
pub(super) fn read(
    store: &Store,
    queued: &[Vec<u8>],
) -> Result<Vec<Option<(DhtKey, Lifetime)>>, MirrorError> {
    let rest = |key: &Vec<u8>| key.get(LEAD + 1..).map(<[u8]>::to_vec).unwrap_or_default();
    let kind = |key: &Vec<u8>| key.get(LEAD).copied();
    let repos: Vec<Vec<u8>> = queued.iter().filter(|key| kind(key) == Some(REPO)).map(rest).collect();
    let wanted: Vec<&[u8]> = repos.iter().map(Vec::as_slice).collect();
    let repos = if wanted.is_empty() { HashMap::new() } else { find_repos(store.catalogue(), &wanted)? };
    let one = |key: &Vec<u8>| {
        let rest = rest(key);
        Ok(match kind(key) {
            Some(COMMIT) => match CommitId::from_slice(&rest) {
                Some(commit) if store.catalogue().is_commit_shared(commit)? => {
                    Some((DhtKey::Commit(commit), Lifetime::Whole))
                }
                _ => None,
            },
            Some(kind @ (SHARD | PARTIAL)) => match Sha256::from_slice(&rest) {
                Some(shard) => held(store, shard)?
                    .filter(|held| kind == PARTIAL || *held == Lifetime::Whole)
                    .map(|_| if kind == SHARD { Lifetime::Whole } else { Lifetime::Partial })
                    .map(|lifetime| (DhtKey::Shard(shard), lifetime)),
                None => None,
            },
            Some(REPO) => repos.get(&rest).map(|repo| (DhtKey::Repo(repo.clone()), Lifetime::Whole)),
            _ => None,
        })
    };
    queued.iter().map(one).collect()
}

/// How much of a shard is here that peers may have; `None` if nothing is.
fn held(store: &Store, shard: Sha256) -> Result<Option<Lifetime>, MirrorError> {
    let Some(link) = store.catalogue().link(&FileDigest::Sha256(shard))? else { return Ok(None) };
    if !store.blobs().is_shared(&link.hash)? {
        return Ok(None);
    }
    Ok(match store.blobs().status(&link.hash)? {
        BlobStatus::Complete { .. } => Some(Lifetime::Whole),
        BlobStatus::Partial { size, have } if have.bytes(size) > 0 => Some(Lifetime::Partial),
        BlobStatus::Partial { .. } | BlobStatus::Absent => None,
    })
}

/// The repositories whose DHT keys these are, by one look at all that are known.
fn find_repos(catalogue: &Catalogue, keys: &[&[u8]]) -> Result<HashMap<Vec<u8>, RepoId>, MirrorError> {
    let (mut found, mut after) = (HashMap::new(), None);
    while found.len() < keys.len() {
        let page = catalogue.repos(after.as_ref(), REPO_PAGE)?;
        let Some(last) = page.last().cloned() else { break };
        after = Some(last);
        for repo in page {
            let key = DhtKey::Repo(repo.clone()).to_bytes();
            if keys.contains(&key.as_slice()) {
                found.insert(key, repo);
            }
        }
    }
    Ok(found)
}
