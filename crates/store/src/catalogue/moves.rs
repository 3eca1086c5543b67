//! How names moved: the last moves of each, so that one that went astray is seen later too.
//!
//! **Not here:** whether a commit descends from another (`mirror`).

use hubless_types::{CommitId, RepoId, Revision, Timestamp};
use serde::{Deserialize, Serialize};

use super::codec::Record;
use super::db::Cf;
use super::records::{RefRecord, RefSource};
use super::{Catalogue, keys, refs};
use crate::error::Result;

/// Most moves that are kept for one name; the oldest make room.
pub const MOVES_MAX: usize = 16;

/// A name that was seen to point elsewhere than before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Move {
    /// Where it pointed before.
    pub from: CommitId,
    /// Where it pointed then.
    pub to: CommitId,
    /// When that was seen.
    pub seen: Timestamp,
    /// Who said so.
    pub by: RefSource,
}

#[derive(Default, Serialize, Deserialize)]
struct Moves(Vec<Move>);

impl Record for Moves {
    const NAME: &'static str = "moves";
}

impl Catalogue {
    /// As [`Catalogue::set_ref`]; where the name pointed elsewhere before, the move is noted and returned.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn move_ref(&self, repo: &RepoId, revision: &Revision, record: &RefRecord) -> Result<Option<Move>> {
        self.change(|txn| {
            let key = keys::repo_and(repo, revision.as_str().as_bytes());
            let before: Option<RefRecord> = txn.get(Cf::Refs, &key)?;
            let moved = before.filter(|b| b.commit != record.commit).map(|before| Move {
                from: before.commit,
                to: record.commit,
                seen: record.seen,
                by: record.by.clone(),
            });
            if let Some(moved) = &moved {
                let mut moves: Moves = txn.get(Cf::Moves, &key)?.unwrap_or_default();
                let spare = (moves.0.len() + 1).saturating_sub(MOVES_MAX);
                moves.0.drain(..spare);
                moves.0.push(moved.clone());
                txn.put(Cf::Moves, key, &moves)?;
            }
            refs::set(txn, repo, revision, record)?;
            Ok(moved)
        })
    }

    /// The last moves of a name, oldest first.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn moves(&self, repo: &RepoId, revision: &Revision) -> Result<Vec<Move>> {
        let key = keys::repo_and(repo, revision.as_str().as_bytes());
        Ok(self.db().get::<Moves>(Cf::Moves, &key)?.unwrap_or_default().0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::super::tests::{fixture, node};
    use super::*;

    fn record(n: u8, by: RefSource) -> RefRecord {
        RefRecord { commit: CommitId::from_bytes([n; 20]), seen: Timestamp(n.into()), by }
    }

    #[test]
    fn moves_are_noted_and_bounded() {
        let f = fixture();
        let (repo, main): (RepoId, _) = ("acme/tiny".parse().unwrap(), Revision::main());
        let origin = || RefSource::Origin("https://hub.example".into());
        let c = &f.catalogue;
        assert_eq!(c.move_ref(&repo, &main, &record(1, origin())).unwrap(), None);
        assert_eq!(c.move_ref(&repo, &main, &record(1, RefSource::Statement(node(1)))).unwrap(), None);
        for n in 2..30 {
            let moved = c.move_ref(&repo, &main, &record(n, origin())).unwrap().unwrap();
            assert_eq!((moved.from, moved.to), (record(n - 1, origin()).commit, record(n, origin()).commit));
        }
        let moves = c.moves(&repo, &main).unwrap();
        assert_eq!(moves.len(), MOVES_MAX);
        assert_eq!(moves.last().unwrap().seen, Timestamp(29));
        assert_eq!(c.get_ref(&repo, &main).unwrap(), Some(record(29, origin())));
        assert!(c.moves(&repo, &"dev".parse().unwrap()).unwrap().is_empty());
    }

    /// Rows that were written before there were witnesses read as they did.
    #[test]
    fn refs_of_version_1_are_read() {
        let old = record(7, RefSource::Commit);
        let mut bytes = vec![1];
        bytes.extend(postcard::to_stdvec(&old).unwrap());
        assert_eq!(codec::decode::<RefRecord>(&bytes).unwrap(), old);
        let new = record(7, RefSource::Witnesses { agree: 2, of: 3 });
        assert_eq!(codec::decode::<RefRecord>(&codec::encode(&new).unwrap()).unwrap(), new);
    }
}
