//! Signed statements: the newest of each signer about each name.
//!
//! **Invariant:** however many keys strangers make up, a statement of a signer who counts finds its place: those
//! of strangers make room for it, and for each other.
//! **Not here:** whether the signature is right; only statements that were verified are put.

use hubless_types::{RepoId, Revision, Statement};
use serde::{Deserialize, Serialize};

use super::codec::Record;
use super::db::Cf;
use super::txn::Txn;
use super::{Catalogue, codec, keys};
use crate::error::Result;

/// Most signers that are kept for one name of one repository.
pub const STATEMENT_MAX_SIGNERS: usize = 64;
/// Most statements that are kept for one repository, so that nobody fills the disk with names.
pub const STATEMENT_MAX_PER_REPO: usize = 4096;

#[derive(Serialize, Deserialize)]
struct StatementRecord {
    statement: Statement,
    /// Whether the signer counts: it never makes room for a stranger's.
    counts: bool,
}

impl Record for StatementRecord {
    const NAME: &'static str = "statement";
}

/// What may have to make room.
struct Candidate {
    key: Vec<u8>,
    seen: u64,
}

impl Catalogue {
    /// Keeps a verified statement if it is the newest of its signer about this name; `false` if it is not, or if
    /// there is no room for it.
    ///
    /// Where [`STATEMENT_MAX_SIGNERS`] signers speak of the name, or [`STATEMENT_MAX_PER_REPO`] statements of the
    /// repository, the oldest one of a signer who does not count makes room for a newer one.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_statement(&self, statement: &Statement) -> Result<bool> {
        let own = statement.signer == self.inner.node;
        self.change(|txn| put(txn, statement, own))
    }

    /// As [`Catalogue::put_statement`], for a signer who counts: one that the operator trusts or has asked for.
    /// (This node's own statements count in any case.)
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_trusted_statement(&self, statement: &Statement) -> Result<bool> {
        self.change(|txn| put(txn, statement, true))
    }

    /// The statements about one name, or about all names of a repository; sorted by name and signer.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn statements(&self, repo: &RepoId, revision: Option<&Revision>) -> Result<Vec<Statement>> {
        let prefix = revision.map_or_else(|| keys::in_repo(repo), |r| keys::in_revision(repo, r));
        self.db().page(Cf::Statements, &prefix, None, STATEMENT_MAX_PER_REPO, |_, value| {
            Ok(codec::decode::<StatementRecord>(value)?.statement)
        })
    }
}

pub(super) fn put(txn: &mut Txn<'_>, statement: &Statement, counts: bool) -> Result<bool> {
    let body = &statement.body;
    let key = keys::statement(&body.repo, &body.revision, &statement.signer);
    let old: Option<StatementRecord> = txn.get(Cf::Statements, &key)?;
    let counts = counts || old.as_ref().is_some_and(|old| old.counts);
    match old {
        Some(old) if old.statement.body.seen > body.seen => return Ok(false),
        Some(_) => {}
        None if !make_room(txn, statement, counts)? => return Ok(false),
        None => {}
    }
    txn.put(Cf::Statements, key, &StatementRecord { statement: statement.clone(), counts })?;
    Ok(true)
}

/// Whether there is room for one more row.
enum Room {
    Free,
    /// If this row goes.
    Instead(Vec<u8>),
    Full,
}

/// Sees to it that both bounds hold with one row more; `false` if they cannot.
fn make_room(txn: &mut Txn<'_>, statement: &Statement, counts: bool) -> Result<bool> {
    let body = &statement.body;
    let of_name = keys::in_revision(&body.repo, &body.revision);
    let of_repo = keys::in_repo(&body.repo);
    let mut leaving = Vec::new();
    for (prefix, most) in [(of_name, STATEMENT_MAX_SIGNERS), (of_repo, STATEMENT_MAX_PER_REPO)] {
        match room(txn, &prefix, most, body.seen.0, counts)? {
            Room::Full => return Ok(false),
            // Whoever leaves the name leaves the repository too.
            Room::Instead(key) if leaving.is_empty() => leaving.push(key),
            Room::Free | Room::Instead(_) => {}
        }
    }
    leaving.into_iter().for_each(|key| txn.delete(Cf::Statements, key));
    Ok(true)
}

fn room(txn: &Txn<'_>, prefix: &[u8], most: usize, seen: u64, counts: bool) -> Result<Room> {
    let (rows, oldest) = survey(txn, prefix)?;
    Ok(match oldest {
        _ if rows < most => Room::Free,
        Some(oldest) if counts || oldest.seen < seen => Room::Instead(oldest.key),
        // Signers who count are few, by the operator's choice; their statements pass the bound.
        None if counts => Room::Free,
        _ => Room::Full,
    })
}

/// How many rows begin with `prefix`, and the oldest of those whose signers do not count.
fn survey(txn: &Txn<'_>, prefix: &[u8]) -> Result<(usize, Option<Candidate>)> {
    let (mut rows, mut oldest) = (0, None::<Candidate>);
    txn.before().scan(Cf::Statements, prefix, prefix, |key, _| {
        // What this change itself has deleted or put is read as it is now.
        let Some(record) = txn.get::<StatementRecord>(Cf::Statements, key)? else { return Ok(true) };
        rows += 1;
        let seen = record.statement.body.seen.0;
        if !record.counts && oldest.as_ref().is_none_or(|o| seen < o.seen) {
            oldest = Some(Candidate { key: key.to_vec(), seen });
        }
        Ok(true)
    })?;
    Ok((rows, oldest))
}
