//! The index of a great many repositories, as it lies on disk.
//!
//! A folder of plain files. A *document* is a repository's number in the order of kinds and names. In memory are the
//! names in lower case (searches read them through) and where each begins; everything else is read where it is needed:
//! columns of values and the orders by them, which documents have a term, which blocks of names have a gram.
//!
//! **Invariant:** whatever is in the files, reading ends and yields documents that exist; what does not fit is an
//! error or found by nothing. A segment never changes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use hubless_types::{RepoFacts, RepoId, RepoKind};
use serde::{Deserialize, Serialize};

use super::bits::{self, Bits};
use super::grams::CODES;
use super::query::{ShelfSort, private_hash, trending};
use crate::error::{Result, StoreError};

/// The format of segments that this version reads and writes; another is made anew.
pub(super) const SEGMENT_FORMAT: u32 = 2;
/// The segment's description; written last.
pub(super) const META: &str = "meta.json";
/// Longest description that is read, in bytes.
const MAX_META_BYTES: u64 = 64 * 1024;
/// Most documents.
pub(super) const MAX_DOCS: u32 = 1 << 26;
/// Names that share a row of grams.
pub(super) const BLOCK: u32 = 64;
/// Bytes of a row of the terms' table: the hash, where its documents are written, and how many bytes they take.
pub(super) const TERM_ROW: usize = 24;
/// Bytes of a row of the grams' table.
pub(super) const GRAM_ROW: usize = 8;

pub(super) const NAMES: &str = "names";
pub(super) const STARTS: &str = "starts";
pub(super) const TERMS: &str = "terms";
pub(super) const TERM_DOCS: &str = "term-docs";
/// What is said of each document, as a listing tells it; and where that begins, in eight bytes each.
pub(super) const LINES: &str = "lines";
pub(super) const LINE_STARTS: &str = "line-starts";
pub(super) const GRAMS: &str = "grams";
pub(super) const GRAM_BLOCKS: &str = "gram-blocks";

/// The file of a column.
pub(super) fn column_file(sort: ShelfSort) -> &'static str {
    match sort {
        ShelfSort::Downloads => "downloads",
        ShelfSort::Likes => "likes",
        ShelfSort::Created => "created",
        ShelfSort::Modified => "modified",
        ShelfSort::Name | ShelfSort::Trending => "none",
    }
}

/// The file of an order.
pub(super) fn order_file(sort: ShelfSort) -> &'static str {
    match sort {
        ShelfSort::Downloads => "by-downloads",
        ShelfSort::Likes => "by-likes",
        ShelfSort::Created => "by-created",
        ShelfSort::Modified => "by-modified",
        ShelfSort::Trending => "by-trending",
        ShelfSort::Name => "none",
    }
}

/// What a segment says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) format: u32,
    /// Changes of generations before this one are in it.
    pub(super) covers: u32,
    /// Where the documents of each kind end.
    pub(super) ends: [u32; 3],
    /// BLAKE3 of the files that are read whole.
    pub(super) names: String,
    pub(super) starts: String,
}

/// A file that is read piece by piece.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Part {
    pub(super) fn open(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        let file = File::open(&path).map_err(|e| StoreError::io(&path, e))?;
        let len = file.metadata().map_err(|e| StoreError::io(&path, e))?.len();
        Ok(Self { file, path, len })
    }

    fn read(&self, at: u64, to: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(to, at).map_err(|e| StoreError::io(&self.path, e))
    }

    fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let end = at.checked_add(len).filter(|end| *end <= self.len);
        end.ok_or_else(|| damaged("a table leads past a file's end"))?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| damaged("a part is too long"))?];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// The numbers at `places`, each of four bytes.
    pub(super) fn numbers(&self, from: u32, to: u32) -> Result<Vec<u32>> {
        let bytes = self.bytes(u64::from(from) * 4, u64::from(to.saturating_sub(from)) * 4)?;
        Ok(bytes.chunks_exact(4).map(number).collect())
    }
}

pub(super) fn damaged(why: &str) -> StoreError {
    StoreError::corrupt("shelf", why)
}

fn number(four: &[u8]) -> u32 {
    four.try_into().map(u32::from_le_bytes).unwrap_or_default()
}

/// Values of one sort, read in rows of neighbours.
pub(super) struct Column<'a> {
    parts: Vec<&'a Part>,
    docs: u32,
    rows: Vec<Vec<u32>>,
    first: u32,
}

/// Documents whose values are read together.
const COLUMN_ROWS: u32 = 4096;

impl Column<'_> {
    /// The value of a document.
    pub(super) fn value(&mut self, doc: u32, near: bool) -> Result<u32> {
        let here = self
            .rows
            .first()
            .is_some_and(|row| doc.checked_sub(self.first).is_some_and(|i| (i as usize) < row.len()));
        if !here {
            let (first, count) = if near { (doc - doc % COLUMN_ROWS, COLUMN_ROWS) } else { (doc, 1) };
            let to = (first + count).min(self.docs);
            self.rows = self.parts.iter().map(|part| part.numbers(first, to)).collect::<Result<_>>()?;
            self.first = first;
        }
        let at = (doc - self.first) as usize;
        Ok(match &self.rows[..] {
            [] => 0,
            [one] => one.get(at).copied().unwrap_or(0),
            [likes, created, ..] => {
                trending(likes.get(at).copied().unwrap_or(0), created.get(at).copied().unwrap_or(0))
            }
        })
    }
}

/// A segment that is open.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) meta: Meta,
    dir: PathBuf,
    /// Every name in lower case, each followed by a line's end.
    text: Vec<u8>,
    /// Where each name begins; one more for the end.
    starts: Vec<u32>,
    names: Part,
    columns: [Part; 4],
    orders: [Part; 5],
    terms: Part,
    term_rows: u64,
    term_docs: Part,
    grams: Vec<u8>,
    gram_blocks: Part,
    lines: Part,
    line_starts: Part,
    private: Option<Bits>,
}

impl Segment {
    /// Opens the segment in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let meta = read_meta(dir)?;
        let part = |name| Part::open(dir, name);
        let whole = |name, hash: &str| {
            let part = part(name)?;
            let bytes = part.bytes(0, part.len)?;
            match blake3::hash(&bytes).to_hex().as_str() == hash {
                true => Ok((part, bytes)),
                false => Err(damaged("a file is not what was written")),
            }
        };
        let (names, mut text) = whole(NAMES, &meta.names)?;
        text.make_ascii_lowercase();
        let (_, starts) = whole(STARTS, &meta.starts)?;
        let starts: Vec<u32> = starts.chunks_exact(4).map(number).collect();
        check(&meta, &text, &starts)?;
        let column = |sort| part(column_file(sort));
        let order = |sort| part(order_file(sort));
        use ShelfSort::{Created, Downloads, Likes, Modified, Trending};
        let terms = part(TERMS)?;
        let grams = part(GRAMS)?;
        let grams = grams.bytes(0, u64::from(CODES) * GRAM_ROW as u64)?;
        let mut segment = Self {
            private: None,
            dir: dir.to_owned(),
            text,
            starts,
            names,
            columns: [column(Downloads)?, column(Likes)?, column(Created)?, column(Modified)?],
            orders: [order(Downloads)?, order(Likes)?, order(Created)?, order(Modified)?, order(Trending)?],
            term_rows: terms.len / TERM_ROW as u64,
            terms,
            term_docs: part(TERM_DOCS)?,
            grams,
            gram_blocks: part(GRAM_BLOCKS)?,
            lines: part(LINES)?,
            line_starts: part(LINE_STARTS)?,
            meta,
        };
        let private = segment.with_term(private_hash())?;
        segment.private = (private.about(0, segment.docs()) > 0).then_some(private);
        Ok(segment)
    }

    /// Whether a document is of a private repository.
    pub(super) fn is_private(&self, doc: u32) -> bool {
        self.private.as_ref().is_some_and(|private| private.has(doc))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn docs(&self) -> u32 {
        self.meta.ends[2]
    }

    /// The documents of a kind.
    pub(super) fn of_kind(&self, kind: RepoKind) -> (u32, u32) {
        let ends = self.meta.ends;
        match kind {
            RepoKind::Model => (0, ends[0]),
            RepoKind::Dataset => (ends[0], ends[1]),
            RepoKind::Space => (ends[1], ends[2]),
        }
    }

    /// A document's name in lower case.
    pub(super) fn text(&self, doc: u32) -> &[u8] {
        let (start, end) = self.span(doc);
        self.text.get(start..end).unwrap_or_default()
    }

    fn span(&self, doc: u32) -> (usize, usize) {
        let at = |n: usize| self.starts.get(n).copied().unwrap_or(0) as usize;
        (at(doc as usize), at(doc as usize + 1).saturating_sub(1))
    }

    /// All names from document `from` to `to`, each followed by a line's end.
    pub(super) fn texts(&self, from: u32, to: u32) -> (&[u8], usize) {
        let at = |n: u32| self.starts.get(n as usize).copied().unwrap_or(0) as usize;
        (self.text.get(at(from)..at(to)).unwrap_or_default(), at(from))
    }

    /// The document whose name the byte at `place` belongs to.
    pub(super) fn doc_at(&self, place: usize, from: u32, to: u32) -> u32 {
        let starts = self.starts.get(from as usize..to as usize).unwrap_or_default();
        from + (starts.partition_point(|start| *start as usize <= place) as u32).saturating_sub(1)
    }

    /// A document's name.
    pub(super) fn name(&self, doc: u32) -> Result<String> {
        let (start, end) = self.span(doc);
        let bytes = self.names.bytes(start as u64, end.saturating_sub(start) as u64)?;
        String::from_utf8(bytes).map_err(|_| damaged("a name is no text"))
    }

    /// What is said of a document's repository, without its card.
    pub(super) fn facts(&self, doc: u32) -> Result<RepoFacts> {
        let ends = self.line_starts.bytes(u64::from(doc) * 8, 16)?;
        let at = |n: usize| ends[n..n + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
        let line = self.lines.bytes(at(0), at(8).saturating_sub(at(0)))?;
        postcard::from_bytes(&line).map_err(|e| StoreError::corrupt("shelf", e))
    }

    /// The first document from `from` to `to` whose name is not before `name`.
    pub(super) fn place_of(&self, (mut from, mut to): (u32, u32), name: &str) -> Result<u32> {
        while from < to {
            let middle = from + (to - from) / 2;
            if self.name(middle)?.as_str() < name {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        Ok(from)
    }

    /// The document of a repository.
    pub(super) fn find(&self, repo: &RepoId) -> Result<Option<u32>> {
        let range = self.of_kind(repo.kind());
        let doc = self.place_of(range, repo.name())?;
        Ok((doc < range.1 && self.name(doc)? == repo.name()).then_some(doc))
    }

    pub(super) fn column(&self, sort: ShelfSort) -> Column<'_> {
        let [downloads, likes, created, modified] = &self.columns;
        let parts = match sort {
            ShelfSort::Name => vec![],
            ShelfSort::Downloads => vec![downloads],
            ShelfSort::Likes => vec![likes],
            ShelfSort::Created => vec![created],
            ShelfSort::Modified => vec![modified],
            ShelfSort::Trending => vec![likes, created],
        };
        Column { parts, docs: self.docs(), rows: Vec::new(), first: 0 }
    }

    /// The documents at places `from` to `to` of an order.
    pub(super) fn order(&self, sort: ShelfSort, from: u32, to: u32) -> Result<Vec<u32>> {
        match ShelfSort::KEPT.iter().position(|kept| *kept == sort) {
            None => Ok((from..to).collect()),
            Some(at) => self.orders[at].numbers(from, to),
        }
    }

    /// The documents that have a term.
    pub(super) fn with_term(&self, hash: u64) -> Result<Bits> {
        let (mut from, mut to) = (0, self.term_rows);
        while from < to {
            let middle = from + (to - from) / 2;
            let row = self.terms.bytes(middle * TERM_ROW as u64, TERM_ROW as u64)?;
            let field = |at: usize| row[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
            match field(0).cmp(&hash) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => {
                    return Ok(bits::read(&self.term_docs.bytes(field(8), field(16))?, self.docs()));
                }
            }
        }
        Ok(Bits::none(self.docs()))
    }

    /// How many blocks of names there are.
    pub(super) fn blocks(&self) -> u32 {
        self.docs().div_ceil(BLOCK)
    }

    /// The blocks of names that have a gram, as they lie on disk.
    pub(super) fn with_gram(&self, code: u32) -> Result<Bits> {
        let at = code as usize * GRAM_ROW;
        let row = self.grams.get(at..at + GRAM_ROW).ok_or_else(|| damaged("a gram is missing"))?;
        let (start, len) = (number(&row[..4]), number(&row[4..]));
        let bytes = self.gram_blocks.bytes(u64::from(start), u64::from(len))?;
        Ok(bits::read(&bytes, self.blocks()))
    }
}

/// Reads a segment's description, if it is one of this version.
pub(super) fn read_meta(dir: &Path) -> Result<Meta> {
    let part = Part::open(dir, META)?;
    let text = part.bytes(0, part.len.min(MAX_META_BYTES))?;
    let meta: Meta = serde_json::from_slice(&text).map_err(|e| StoreError::corrupt("shelf", e))?;
    let rising = meta.ends.is_sorted() && meta.ends[2] <= MAX_DOCS;
    match meta.format == SEGMENT_FORMAT && rising {
        true => Ok(meta),
        false => Err(damaged("it is of another version")),
    }
}

fn check(meta: &Meta, text: &[u8], starts: &[u32]) -> Result<()> {
    let whole = starts.len() == meta.ends[2] as usize + 1
        && starts.is_sorted_by(|a, b| a < b)
        && starts.last().is_some_and(|end| *end as usize == text.len());
    if whole { Ok(()) } else { Err(damaged("its names and their places do not fit")) }
}
