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
use super::{Catalogue, codec, keys, shelf};
use crate::error::Result;

/// Most signers that are kept for one name of one repository.
pub const STATEMENT_MAX_SIGNERS: usize = 64;
/// Most statements that are kept for one repository, so that nobody fills the disk with names.
pub const STATEMENT_MAX_PER_REPO: usize = 4096;
/// Before a repository's key: counts its statements.
const PER_REPO: &[u8] = b"statements/";

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
    /// Where [`STATEMENT_MAX_SIGNERS`] signers speak of the name, the oldest statement of one who does not count
    /// makes room for a newer one. Where the repository has [`STATEMENT_MAX_PER_REPO`] statements, only those who
    /// count find room.
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
        self.db().page(Cf::Statements, &prefix, None, usize::MAX, |_, value| {
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
    shelf::note_heard(txn, &body.repo)?;
    txn.put(Cf::Statements, key, &StatementRecord { statement: statement.clone(), counts })?;
    Ok(true)
}

/// Sees to it that both bounds hold with one row more; `false` if they cannot.
fn make_room(txn: &mut Txn<'_>, statement: &Statement, counts: bool) -> Result<bool> {
    let body = &statement.body;
    let (signers, oldest) = survey(txn, &keys::in_revision(&body.repo, &body.revision))?;
    if signers >= STATEMENT_MAX_SIGNERS {
        match oldest {
            Some(oldest) if counts || oldest.seen < body.seen.0 => {
                txn.delete(Cf::Statements, oldest.key);
                return Ok(true);
            }
            // Signers who count are few, by the operator's choice; their statements pass the bound.
            None if counts => {}
            _ => return Ok(false),
        }
    }
    let counter = [PER_REPO, &keys::repo(&body.repo)].concat();
    let rows: u64 = txn.get(Cf::Counters, &counter)?.unwrap_or(0);
    let fits = counts || rows < STATEMENT_MAX_PER_REPO as u64;
    if fits {
        txn.count(&counter, 1)?;
    }
    Ok(fits)
}

/// How many signers speak of a name, and the oldest statement of those who do not count.
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
