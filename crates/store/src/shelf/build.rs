//! Writes a segment from what the catalogue says at one moment.
//!
//! One walk over the catalogue writes names and columns as they come; what must be sorted is sorted a piece at a time, so
//! that it takes some tens of megabytes whatever the number of repositories.
//!
//! **Invariant:** the description is written last, after everything else reached the disk: a folder without one is
//! no segment.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use hubless_types::{RepoFacts, RepoId, RepoKind};

use super::bits::Gaps;
use super::grams::{self, CODES};
use super::query::{Entry, ShelfSort, trending};
use super::segment::{
    BLOCK, GRAM_BLOCKS, GRAMS, LINE_STARTS, LINES, MAX_DOCS, META, Meta, NAMES, SEGMENT_FORMAT, STARTS,
    TERM_DOCS, TERMS, column_file, order_file,
};
use crate::error::{Result, StoreError};

/// Pieces in which terms are sorted.
const PIECES: usize = 16;
/// Bytes of a term and its document.
const PAIR: usize = 12;

/// A file under way.
struct Out {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Out {
    fn create(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        let file = File::create(&path).map_err(|e| StoreError::io(&path, e))?;
        Ok(Self { file: BufWriter::with_capacity(64 * 1024, file), path })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| StoreError::io(&self.path, e))
    }

    /// Has the disk take it.
    fn done(mut self) -> Result<()> {
        let fail = |e| StoreError::io(&self.path, e);
        self.file.flush().map_err(fail)?;
        self.file.get_ref().sync_all().map_err(fail)
    }
}

/// A segment that is being written.
pub(super) struct Builder<'a> {
    dir: &'a Path,
    cancel: &'a AtomicBool,
    names: Out,
    starts: Out,
    hashes: [blake3::Hasher; 2],
    columns: [Out; 4],
    lines: [Out; 2],
    line_at: u64,
    pieces: Vec<Out>,
    grams: Vec<Gaps>,
    docs: u32,
    text: u32,
    ends: [u32; 3],
}

const COLUMNS: [ShelfSort; 4] =
    [ShelfSort::Downloads, ShelfSort::Likes, ShelfSort::Created, ShelfSort::Modified];

impl<'a> Builder<'a> {
    /// Begins in the empty folder `dir`.
    pub(super) fn new(dir: &'a Path, cancel: &'a AtomicBool) -> Result<Self> {
        let column = |sort| Out::create(dir, column_file(sort));
        let piece = |n: usize| Out::create(dir, &piece_file(n));
        Ok(Self {
            dir,
            cancel,
            names: Out::create(dir, NAMES)?,
            starts: Out::create(dir, STARTS)?,
            hashes: Default::default(),
            columns: [column(COLUMNS[0])?, column(COLUMNS[1])?, column(COLUMNS[2])?, column(COLUMNS[3])?],
            lines: [Out::create(dir, LINES)?, Out::create(dir, LINE_STARTS)?],
            line_at: 0,
            pieces: (0..PIECES).map(piece).collect::<Result<_>>()?,
            grams: vec![Gaps::default(); CODES as usize],
            docs: 0,
            text: 0,
            ends: [0; 3],
        })
    }

    /// Adds the next repository, in the order of kinds and names.
    pub(super) fn add(&mut self, repo: &RepoId, facts: &RepoFacts) -> Result<()> {
        if self.docs.is_multiple_of(1024) {
            self.check_cancelled()?;
        }
        let length = repo.name().len() as u32 + 1;
        if self.docs == MAX_DOCS || u32::MAX - self.text < length {
            return Ok(());
        }
        let entry = Entry::new(facts);
        let line = [repo.name().as_bytes(), b"\n"].concat();
        self.names.put(&line)?;
        self.hashes[0].update(&line);
        self.put_start()?;
        for (out, sort) in self.columns.iter_mut().zip(COLUMNS) {
            out.put(&entry.value(sort).to_le_bytes())?;
        }
        let line = postcard::to_stdvec(&RepoFacts { card: None, ..facts.clone() });
        let line = line.map_err(|e| StoreError::corrupt("shelf", e))?;
        self.lines[0].put(&line)?;
        self.lines[1].put(&self.line_at.to_le_bytes())?;
        self.line_at += line.len() as u64;
        for term in &entry.terms {
            let piece = &mut self.pieces[(term >> 60) as usize];
            piece.put(&term.to_le_bytes())?;
            piece.put(&self.docs.to_le_bytes())?;
        }
        let (block, grams) = (self.docs / BLOCK, &mut self.grams);
        grams::of_name(repo.name().to_ascii_lowercase().as_bytes(), |code| grams[code as usize].add(block));
        self.docs += 1;
        self.text += length;
        let kind = match repo.kind() {
            RepoKind::Model => 0,
            RepoKind::Dataset => 1,
            RepoKind::Space => 2,
        };
        self.ends[kind..].fill(self.docs);
        Ok(())
    }

    fn put_start(&mut self) -> Result<()> {
        let start = self.text.to_le_bytes();
        self.hashes[1].update(&start);
        self.starts.put(&start)
    }

    fn check_cancelled(&self) -> Result<()> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(StoreError::Cancelled),
            false => Ok(()),
        }
    }

    /// Writes the rest, and last the description.
    pub(super) fn finish(mut self, covers: u32) -> Result<()> {
        self.put_start()?;
        self.lines[1].put(&self.line_at.to_le_bytes())?;
        let (dir, cancel, ends, docs) = (self.dir, self.cancel, self.ends, self.docs);
        let [names, starts] = &self.hashes;
        let meta = Meta {
            format: SEGMENT_FORMAT,
            covers,
            ends,
            names: names.finalize().to_hex().to_string(),
            starts: starts.finalize().to_hex().to_string(),
        };
        write_grams(dir, std::mem::take(&mut self.grams), docs.div_ceil(BLOCK))?;
        self.check_cancelled()?;
        self.names.done()?;
        self.starts.done()?;
        self.lines.into_iter().try_for_each(Out::done)?;
        self.columns.into_iter().try_for_each(Out::done)?;
        self.pieces.into_iter().try_for_each(Out::done)?;
        write_terms(dir, docs, cancel)?;
        for sort in ShelfSort::KEPT {
            write_order(dir, sort, ends)?;
        }
        let mut out = Out::create(dir, "meta.new")?;
        out.put(&serde_json::to_vec(&meta).map_err(|e| StoreError::corrupt("shelf", e))?)?;
        out.done()?;
        let fail = |e| StoreError::io(dir, e);
        std::fs::rename(dir.join("meta.new"), dir.join(META)).map_err(fail)?;
        File::open(dir).and_then(|d| d.sync_all()).map_err(fail)
    }
}

fn piece_file(n: usize) -> String {
    format!("piece-{n}")
}

fn write_grams(dir: &Path, grams: Vec<Gaps>, blocks: u32) -> Result<()> {
    let (mut table, mut rows) = (Out::create(dir, GRAMS)?, Out::create(dir, GRAM_BLOCKS)?);
    let (mut at, mut bytes) = (0_u32, Vec::new());
    for gram in grams {
        bytes.clear();
        gram.write(blocks, &mut bytes);
        table.put(&at.to_le_bytes())?;
        table.put(&(bytes.len() as u32).to_le_bytes())?;
        rows.put(&bytes)?;
        at = at.checked_add(bytes.len() as u32).ok_or_else(|| super::segment::damaged("too many grams"))?;
    }
    table.done()?;
    rows.done()
}

/// Terms are sorted by their hashes, of which each piece has a part of its own.
fn write_terms(dir: &Path, docs: u32, cancel: &AtomicBool) -> Result<()> {
    let (mut table, mut rows) = (Out::create(dir, TERMS)?, Out::create(dir, TERM_DOCS)?);
    let (mut at, mut bytes) = (0_u64, Vec::new());
    for n in 0..PIECES {
        if cancel.load(Ordering::Relaxed) {
            return Err(StoreError::Cancelled);
        }
        let path = dir.join(piece_file(n));
        let mut pairs = read_piece(&path)?;
        pairs.sort_unstable();
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            let mut gaps = Gaps::default();
            same.iter().for_each(|(_, doc)| gaps.add(*doc));
            bytes.clear();
            gaps.write(docs, &mut bytes);
            rows.put(&bytes)?;
            [same[0].0, at, bytes.len() as u64]
                .iter()
                .try_for_each(|field| table.put(&field.to_le_bytes()))?;
            at += bytes.len() as u64;
        }
        std::fs::remove_file(&path).map_err(|e| StoreError::io(&path, e))?;
    }
    table.done()?;
    rows.done()
}

fn read_piece(path: &Path) -> Result<Vec<(u64, u32)>> {
    let fail = |e| StoreError::io(path, e);
    let file = File::open(path).map_err(fail)?;
    let count = file.metadata().map_err(fail)?.len() / PAIR as u64;
    let mut file = BufReader::with_capacity(64 * 1024, file);
    let mut pairs = Vec::with_capacity(count as usize);
    let (mut hash, mut doc) = ([0; 8], [0; 4]);
    for _ in 0..count {
        file.read_exact(&mut hash).and_then(|()| file.read_exact(&mut doc)).map_err(fail)?;
        pairs.push((u64::from_le_bytes(hash), u32::from_le_bytes(doc)));
    }
    Ok(pairs)
}

fn read_column(dir: &Path, sort: ShelfSort) -> Result<Vec<u32>> {
    let path = dir.join(column_file(sort));
    let bytes = std::fs::read(&path).map_err(|e| StoreError::io(&path, e))?;
    Ok(bytes
        .chunks_exact(4)
        .map(|four| four.try_into().map(u32::from_le_bytes).unwrap_or_default())
        .collect())
}

/// The documents of each kind, the largest value first; of equal ones the first document.
fn write_order(dir: &Path, sort: ShelfSort, ends: [u32; 3]) -> Result<()> {
    let mut values = match sort {
        ShelfSort::Trending => read_column(dir, ShelfSort::Likes)?,
        sort => read_column(dir, sort)?,
    };
    if sort == ShelfSort::Trending {
        let created = read_column(dir, ShelfSort::Created)?;
        values.iter_mut().zip(created).for_each(|(value, created)| *value = trending(*value, created));
    }
    let mut out = Out::create(dir, order_file(sort))?;
    for (from, to) in [(0, ends[0]), (ends[0], ends[1]), (ends[1], ends[2])] {
        let mut order: Vec<u32> = (from..to).collect();
        order.sort_unstable_by_key(|doc| (std::cmp::Reverse(values[*doc as usize]), *doc));
        order.iter().try_for_each(|doc| out.put(&doc.to_le_bytes()))?;
    }
    out.done()
}
