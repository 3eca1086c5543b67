//! A proof in one file: who says which commit a name is, the commit's objects, and which BLAKE3 trees its files are.
//!
//! Whoever has the file needs nothing else to check it: no network, no node, no trust in whoever made it. What it
//! cannot prove it says: that a name is the commit is its signers' word, and a link is the word of those who signed
//! the table, or of whoever made the file, until the content is hashed.

use std::collections::HashMap;

use hubless_types::{
    BlobHash, CommitId, FileDigest, Manifest, NodeId, PublicSignature, RepoId, Revision, Statement,
    StatementBody, Timestamp,
};

use crate::wire::{Reader, put_bytes, put_number};
use crate::{
    Bundle, LinkTable, MAX_BUNDLE_BYTES, MAX_LINK_TABLE_BYTES, ProofError, commit_id, verify_statement,
};

/// Most statements that a proof file carries.
pub const MAX_PROOF_STATEMENTS: usize = 64;
/// Longest proof file that is read, in bytes: the longest bundle, the longest link table, and statements.
pub const MAX_PROOF_FILE_BYTES: usize = MAX_BUNDLE_BYTES + MAX_LINK_TABLE_BYTES + 1024 * 1024;

const WHAT: &str = "proof file";
/// The file begins with it, so that people and `file` see what it is.
const MAGIC: &[u8] = b"hubless proof\n";
const VERSION: u8 = 1;
/// Bytes of the shortest statement: name, ref, commit, three marks, signer, signature.
const SHORTEST_STATEMENT: usize = 2 + 20 + 3 + 32 + 64;

/// Everything that proves what a name is, as far as it can be proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// The repository.
    pub repo: RepoId,
    /// What was asked for: a name, or the commit itself.
    pub revision: Revision,
    /// Who says that the name (or another of the repository) is this commit.
    pub statements: Vec<Statement>,
    /// The commit's objects.
    pub bundle: Bundle,
    /// Which BLAKE3 trees its files are, as far as whoever made this knows.
    pub links: Option<LinkTable>,
}

/// What a proof file proves.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The commit: its objects hash up to this id.
    pub commit: CommitId,
    /// Its files.
    pub manifest: Manifest,
    /// Who signed the link table; where nobody did, it is the word of whoever made the file.
    pub vouchers: Vec<NodeId>,
}

impl ProofFile {
    /// The one encoding that it has.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        put_bytes(&mut out, self.repo.to_string().as_bytes());
        put_bytes(&mut out, self.revision.as_str().as_bytes());
        put_number(&mut out, self.statements.len() as u64);
        self.statements.iter().for_each(|statement| put_statement(&mut out, statement));
        put_bytes(&mut out, &self.bundle.encode());
        out.push(u8::from(self.links.is_some()));
        if let Some(links) = &self.links {
            put_bytes(&mut out, &links.encode());
        }
        out
    }

    /// Reads what [`ProofFile::encode`] wrote. Takes memory for what is there, never for what is promised.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`] above [`MAX_PROOF_FILE_BYTES`] or [`MAX_PROOF_STATEMENTS`],
    /// [`ProofError::Version`] if a newer program wrote it, [`ProofError::Malformed`] otherwise.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        if bytes.len() > MAX_PROOF_FILE_BYTES {
            let (size, limit) = (bytes.len() as u64, MAX_PROOF_FILE_BYTES as u64);
            return Err(ProofError::TooLarge { what: WHAT, size, limit });
        }
        let none = ProofError::Malformed { what: WHAT, why: "it does not begin as one" };
        let mut reader = Reader::new(WHAT, bytes.strip_prefix(MAGIC).ok_or(none)?);
        match reader.byte()? {
            VERSION => {}
            found => return Err(ProofError::Version { what: WHAT, found, supported: VERSION }),
        }
        let (repo, revision) = (read_text(&mut reader)?, read_text(&mut reader)?);
        let count = reader.count("statements of a proof", MAX_PROOF_STATEMENTS, SHORTEST_STATEMENT)?;
        let mut statements = Vec::with_capacity(count);
        for _ in 0..count {
            statements.push(read_statement(&mut reader)?);
        }
        let bundle = Bundle::decode(reader.bytes()?)?;
        let links = if read_mark(&mut reader)? { Some(LinkTable::decode(reader.bytes()?)?) } else { None };
        reader.end()?;
        Ok(Self { repo, revision, statements, bundle, links })
    }

    /// Checks all of it: that the objects hash up to the commit, that every statement is signed and says this commit
    /// of this repository, that every link is of a file of the commit, with its size.
    ///
    /// # Errors
    /// Those of [`Bundle::check`] and [`verify_statement`]; [`ProofError::Malformed`] for what belongs to something
    /// else; [`ProofError::WrongCommit`] if a commit id was asked for, and this is another.
    pub fn check(&self) -> Result<Proven, ProofError> {
        let commit = commit_id(&self.bundle.commit)?;
        if let Some(expected) = self.revision.as_commit().filter(|expected| *expected != commit) {
            return Err(ProofError::WrongCommit { expected, found: commit });
        }
        for statement in &self.statements {
            verify_statement(statement)?;
            let body = &statement.body;
            if body.repo != self.repo || body.commit != commit {
                return Err(foreign("a statement speaks of something else"));
            }
        }
        let manifest = self.bundle.check(commit)?;
        let vouchers = self.links.as_ref().map(|links| self.check_links(links, &manifest)).transpose()?;
        Ok(Proven { commit, manifest, vouchers: vouchers.unwrap_or_default() })
    }

    fn check_links(&self, links: &LinkTable, manifest: &Manifest) -> Result<Vec<NodeId>, ProofError> {
        let files: HashMap<FileDigest, u64> =
            manifest.entries().iter().map(|entry| (entry.digest(), entry.size)).collect();
        for (digest, _, size) in links.rows() {
            match files.get(digest) {
                Some(expected) if expected == size => {}
                Some(_) => return Err(foreign("a link gives a file another size than the commit does")),
                None => return Err(foreign("a link is of a file that the commit does not have")),
            }
        }
        let id = links.id();
        let signed = self.statements.iter().filter(|s| s.body.links == Some(id));
        Ok(signed.map(|s| s.signer).collect())
    }
}

const fn foreign(why: &'static str) -> ProofError {
    ProofError::Malformed { what: WHAT, why }
}

fn put_statement(out: &mut Vec<u8>, statement: &Statement) {
    let body = &statement.body;
    put_bytes(out, body.repo.to_string().as_bytes());
    put_bytes(out, body.revision.as_str().as_bytes());
    out.extend_from_slice(body.commit.as_bytes());
    out.push(u8::from(body.origin.is_some()));
    if let Some(origin) = &body.origin {
        put_bytes(out, origin.as_bytes());
    }
    put_number(out, body.seen.0);
    out.push(u8::from(body.links.is_some()));
    if let Some(links) = &body.links {
        out.extend_from_slice(links.as_bytes());
    }
    out.extend_from_slice(statement.signer.as_bytes());
    out.extend_from_slice(&statement.signature.0);
}

fn read_statement(reader: &mut Reader<'_>) -> Result<Statement, ProofError> {
    let (repo, revision) = (read_text(reader)?, read_text(reader)?);
    let commit = CommitId::from_bytes(reader.array()?);
    let origin = if read_mark(reader)? { Some(utf8(reader)?.to_owned()) } else { None };
    let seen = Timestamp(reader.number()?);
    let links = if read_mark(reader)? { Some(BlobHash::from_bytes(reader.array()?)) } else { None };
    let body = StatementBody { repo, revision, commit, origin, seen, links };
    let signer = NodeId::from_bytes(reader.array()?);
    Ok(Statement { body, signer, signature: PublicSignature(reader.array()?) })
}

fn utf8<'a>(reader: &mut Reader<'a>) -> Result<&'a str, ProofError> {
    std::str::from_utf8(reader.bytes()?).map_err(|_| foreign("a text is not UTF-8"))
}

/// An identifier in the one spelling that it has.
fn read_text<T: std::str::FromStr + ToString>(reader: &mut Reader<'_>) -> Result<T, ProofError> {
    let text = utf8(reader)?;
    let read = text.parse::<T>().map_err(|_| foreign("a name is none"))?;
    if read.to_string() == text { Ok(read) } else { Err(foreign("a name is spelt in another way")) }
}

fn read_mark(reader: &mut Reader<'_>) -> Result<bool, ProofError> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(foreign("a mark is neither 0 nor 1")),
    }
}

#[cfg(test)]
#[path = "proof_file_tests.rs"]
mod tests;
