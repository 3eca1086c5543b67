//! Signed statements: the newest of each signer about each name.
//!
//! **Invariant:** however many keys, names and repositories strangers make up, a statement of a signer who counts
//! finds its place and keeps it: those of strangers make room for it, and for each other, and are bounded in all.
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
/// Most statements in all of signers who do not count; some 600 bytes each on disk.
pub const STATEMENT_MAX_STRANGERS: u64 = 200_000;
/// Before a repository's key: counts its statements.
const PER_REPO: &[u8] = b"statements/";
/// Counts the statements of signers who do not count.
const STRANGERS: &[u8] = b"statements-of-strangers";
/// Rows that are entered by age in one go, where an older version did not.
const ROWS_AT_ONCE: usize = 4096;

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
    /// count find room. Where those who do not count have [`STATEMENT_MAX_STRANGERS`] in all, the oldest of theirs goes.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_statement(&self, statement: &Statement) -> Result<bool> {
        let own = statement.signer == self.inner.node;
        self.change(|txn| put(txn, statement, own, self.inner.statement_limit))
    }

    /// As [`Catalogue::put_statement`], for a signer who counts: one that the operator trusts or has asked for.
    /// (This node's own statements count in any case.)
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_trusted_statement(&self, statement: &Statement) -> Result<bool> {
        self.change(|txn| put(txn, statement, true, self.inner.statement_limit))
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

/// Keeps a statement; `limit` bounds those of signers who do not count.
pub(super) fn put(txn: &mut Txn<'_>, statement: &Statement, counts: bool, limit: u64) -> Result<bool> {
    let body = &statement.body;
    let key = keys::statement(&body.repo, &body.revision, &statement.signer);
    let old: Option<StatementRecord> = txn.get(Cf::Statements, &key)?;
    let counts = counts || old.as_ref().is_some_and(|old| old.counts);
    match &old {
        Some(old) if old.statement.body.seen > body.seen => return Ok(false),
        Some(old) => forget_age(txn, old, &key)?,
        None if !make_room(txn, statement, counts, limit)? => return Ok(false),
        None => _ = txn.count(&per_repo(&keys::repo(&body.repo)), 1)?,
    }
    let record = StatementRecord { statement: statement.clone(), counts };
    note_age(txn, &record, &key)?;
    shelf::note_heard(txn, &body.repo)?;
    txn.put(Cf::Statements, key, &record)?;
    Ok(true)
}

/// Sees to it that all bounds hold with one row more; `false` if they cannot.
fn make_room(txn: &mut Txn<'_>, statement: &Statement, counts: bool, limit: u64) -> Result<bool> {
    let body = &statement.body;
    let (signers, oldest) = survey(txn, &keys::in_revision(&body.repo, &body.revision))?;
    if signers >= STATEMENT_MAX_SIGNERS {
        match oldest {
            Some(oldest) if counts || oldest.seen < body.seen.0 => {
                remove(txn, &oldest.key)?;
                return Ok(true);
            }
            // Signers who count are few, by the operator's choice; their statements pass the bound.
            None if counts => {}
            _ => return Ok(false),
        }
    }
    if counts {
        return Ok(true);
    }
    let rows: u64 = txn.get(Cf::Counters, &per_repo(&keys::repo(&body.repo)))?.unwrap_or(0);
    if rows >= STATEMENT_MAX_PER_REPO as u64 {
        return Ok(false);
    }
    while txn.get::<u64>(Cf::Counters, STRANGERS)?.unwrap_or(0) >= limit {
        let Some((seen, key)) = oldest_stranger(txn)?.filter(|(seen, _)| *seen < body.seen.0) else {
            return Ok(false);
        };
        tracing::debug!(seen, "an old statement of a stranger makes room for a newer one");
        remove(txn, &key)?;
    }
    Ok(true)
}

/// Takes a row out of every count.
fn remove(txn: &mut Txn<'_>, key: &[u8]) -> Result<()> {
    if let Some(old) = txn.get::<StatementRecord>(Cf::Statements, key)? {
        forget_age(txn, &old, key)?;
        txn.count(&per_repo(&keys::repo(&old.statement.body.repo)), -1)?;
        txn.delete(Cf::Statements, key.to_vec());
    }
    Ok(())
}

/// Forgets all that anybody said of a repository; `false` if nobody said anything.
pub(super) fn remove_all(txn: &mut Txn<'_>, repo: &RepoId) -> Result<bool> {
    let prefix = keys::in_repo(repo);
    let rows = txn.before().page(Cf::Statements, &prefix, None, usize::MAX, |key, _| Ok(key.to_vec()))?;
    rows.iter().try_for_each(|key| remove(txn, key))?;
    Ok(!rows.is_empty())
}

fn per_repo(repo: &[u8]) -> Vec<u8> {
    [PER_REPO, repo].concat()
}

/// `seen key`: strangers' statements, the oldest first.
fn age_key(record: &StatementRecord, key: &[u8]) -> Vec<u8> {
    [&record.statement.body.seen.0.to_be_bytes()[..], key].concat()
}

fn note_age(txn: &mut Txn<'_>, record: &StatementRecord, key: &[u8]) -> Result<()> {
    if !record.counts {
        txn.put(Cf::StatementAges, age_key(record, key), &())?;
        txn.count(STRANGERS, 1)?;
    }
    Ok(())
}

fn forget_age(txn: &mut Txn<'_>, record: &StatementRecord, key: &[u8]) -> Result<()> {
    if !record.counts {
        txn.delete(Cf::StatementAges, age_key(record, key));
        txn.count(STRANGERS, -1)?;
    }
    Ok(())
}

/// When the oldest of the strangers' statements was made, and its key.
fn oldest_stranger(txn: &Txn<'_>) -> Result<Option<(u64, Vec<u8>)>> {
    let first = txn.first(Cf::StatementAges)?;
    let split = first.as_deref().and_then(<[u8]>::split_first_chunk);
    Ok(split.map(|(seen, key)| (u64::from_be_bytes(*seen), key.to_vec())))
}

/// Enters by age what a version that did not bound them in all has kept. May be repeated.
pub(super) fn enter_ages(catalogue: &Catalogue) -> Result<()> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page =
            catalogue.db().page(Cf::Statements, &[], after.as_deref(), ROWS_AT_ONCE, |key, value| {
                Ok((key.to_vec(), codec::decode::<StatementRecord>(value)?))
            })?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        catalogue.change(|txn| {
            for (key, record) in &page {
                if !txn.has(Cf::StatementAges, &age_key(record, key))? {
                    note_age(txn, record, key)?;
                }
            }
            Ok(())
        })?;
    }
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
