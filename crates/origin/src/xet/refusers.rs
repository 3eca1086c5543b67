//! Files that the plain way was refused for, so that it is not tried again for each range of them.
//!
//! **Invariant:** a file is forgotten after a while, or when the other way fails too: where the plain way is open, it
//! is taken.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hubless_types::{FileDigest, RepoId};
use tokio::time::Instant;

use super::XetId;

/// Most files that are remembered.
const MAX_FILES: usize = 256;
/// How long one is.
const MEMORY: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct File {
    repo: RepoId,
    digest: FileDigest,
    id: XetId,
    until: Instant,
}

impl File {
    fn is(&self, repo: &RepoId, digest: &FileDigest) -> bool {
        self.digest == *digest && self.repo == *repo
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Refusers(Mutex<Vec<File>>);

impl Refusers {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<File>) -> T) -> T {
        // Nothing that is done under the lock leaves it half changed.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How Xet calls a file that the plain way was refused for.
    pub(crate) fn get(&self, repo: &RepoId, digest: &FileDigest, now: Instant) -> Option<XetId> {
        self.with(|files| {
            files.retain(|file| now < file.until);
            files.iter().find(|file| file.is(repo, digest)).map(|file| file.id.clone())
        })
    }

    pub(crate) fn remember(&self, repo: &RepoId, digest: FileDigest, id: &XetId, now: Instant) {
        let file = File { repo: repo.clone(), digest, id: id.clone(), until: now + MEMORY };
        self.with(|files| {
            files.retain(|file| !file.is(repo, &digest));
            if files.len() >= MAX_FILES {
                files.remove(0);
            }
            files.push(file);
        });
    }

    pub(crate) fn forget(&self, repo: &RepoId, digest: &FileDigest) {
        self.with(|files| files.retain(|file| !file.is(repo, digest)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::Sha256;

    #[test]
    fn a_refusal_is_remembered_for_a_while() {
        let (refusers, now) = (Refusers::default(), Instant::now());
        let (repo, other): (RepoId, RepoId) = ("acme/tiny".parse().unwrap(), "acme/other".parse().unwrap());
        let digest = |i: u8| FileDigest::Sha256(Sha256::from_bytes([i; 32]));
        let id = XetId("ab".repeat(32));
        refusers.remember(&repo, digest(1), &id, now);
        assert_eq!(refusers.get(&repo, &digest(1), now), Some(id.clone()));
        assert_eq!(refusers.get(&other, &digest(1), now), None);
        refusers.forget(&repo, &digest(1));
        assert_eq!(refusers.get(&repo, &digest(1), now), None);
        for i in 0..=255 {
            refusers.remember(&repo, digest(i), &id, now);
            refusers.remember(&other, digest(i), &id, now);
        }
        assert_eq!(refusers.with(|files| files.len()), MAX_FILES);
        assert_eq!(refusers.get(&repo, &digest(255), now + MEMORY), None);
    }
}
