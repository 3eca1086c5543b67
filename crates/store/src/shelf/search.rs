//! Answers a question from a segment.
//!
//! Two ways: *gather* all that fits and sort it, where little can fit; or *walk* along the order that is kept and take
//! what fits until the page is full, where much does. A walk that finds too little is given up and gathered.

use std::collections::HashSet;

use memchr::memmem::Finder;

use super::bits::Bits;
use super::grams;
use super::query::{ShelfCursor, ShelfQuery, gated_hash};
use super::segment::{BLOCK, Segment};
use crate::error::Result;

/// Candidates up to which they are gathered.
const GATHER_MAX: u64 = 50_000;
/// Names that a walk looks at before it is given up; sooner where, by what it found so far, it would come to more.
const WALK_LOOKS: usize = 60_000;
/// Names that it looks at before that is judged.
const WALK_TRIAL: usize = 4_000;
/// Places of an order that are read together.
const ORDER_STEP: u32 = 4096;

/// A document, and the value it is sorted by.
type Hit = (u32, u32);

/// A question, made ready for one segment.
struct Search<'a> {
    segment: &'a Segment,
    query: &'a ShelfQuery,
    /// Documents overridden by what came later.
    stale: &'a HashSet<u32>,
    /// All documents of the kind.
    kind: (u32, u32),
    /// Those of the author.
    range: (u32, u32),
    filter: Option<Bits>,
    blocks: Option<Bits>,
    words: Vec<Finder<'a>>,
    after: Option<Edge>,
    wanted: usize,
}

/// Where the page before ended: of equal values, documents from `doc` on lie behind it.
#[derive(Clone, Copy)]
struct Edge {
    value: u32,
    doc: u32,
}

/// The first `wanted` documents that fit, in order, each with its value.
pub(super) fn search(
    segment: &Segment,
    query: &ShelfQuery,
    stale: &HashSet<u32>,
    wanted: usize,
) -> Result<Vec<Hit>> {
    let words = query.words();
    if !words.iter().all(|word| grams::is_possible(word)) {
        return Ok(Vec::new());
    }
    let kind = segment.of_kind(query.kind);
    let range = match &query.author {
        None => kind,
        Some(author) => (
            segment.place_of(kind, &format!("{author}/"))?,
            // `0` follows `/`.
            segment.place_of(kind, &format!("{author}0"))?,
        ),
    };
    let search = Search {
        segment,
        query,
        stale,
        kind,
        range,
        filter: filter(segment, query)?,
        blocks: blocks(segment, &words)?,
        words: words.iter().map(Finder::new).collect(),
        after: query.after.as_ref().map(|cursor| edge(segment, query, kind, cursor)).transpose()?,
        wanted,
    };
    if search.candidates() > GATHER_MAX
        && let Some(found) = search.walk()?
    {
        return Ok(found);
    }
    search.gather()
}

fn filter(segment: &Segment, query: &ShelfQuery) -> Result<Option<Bits>> {
    let mut all: Option<Bits> = None;
    let gated = (query.gated == Some(true)).then(gated_hash);
    for hash in query.term_hashes().into_iter().chain(gated) {
        let with = segment.with_term(hash)?;
        match &mut all {
            Some(all) => all.and(&with),
            None => all = Some(with),
        }
    }
    if query.gated == Some(false) {
        let gated = segment.with_term(gated_hash())?;
        all.get_or_insert_with(|| Bits::all(segment.docs())).without(&gated);
    }
    Ok(all)
}

fn blocks(segment: &Segment, words: &[String]) -> Result<Option<Bits>> {
    let mut all: Option<Bits> = None;
    for code in words.iter().flat_map(|word| grams::of_word(word)) {
        let with = segment.with_gram(code)?;
        match &mut all {
            Some(all) => all.and(&with),
            None => all = Some(with),
        }
    }
    Ok(all)
}

fn edge(segment: &Segment, query: &ShelfQuery, kind: (u32, u32), cursor: &ShelfCursor) -> Result<Edge> {
    let doc = segment.place_of(kind, &cursor.name)?;
    let is_it = doc < kind.1 && segment.name(doc)? == cursor.name;
    Ok(Edge { value: cursor.value, doc: doc + u32::from(is_it && query.is_forward()) })
}

impl Search<'_> {
    /// At most how many documents can fit.
    fn candidates(&self) -> u64 {
        let (from, to) = self.range;
        let blocks =
            self.blocks.as_ref().map(|b| b.about(from / BLOCK, to.div_ceil(BLOCK)) * u64::from(BLOCK));
        let filter = self.filter.as_ref().map(|f| f.about(from, to));
        [blocks, filter].into_iter().flatten().fold(u64::from(to.saturating_sub(from)), u64::min)
    }

    /// Whether a hit comes after the page before.
    fn is_after(&self, (value, doc): Hit) -> bool {
        self.after.is_none_or(|edge| match self.query.is_forward() {
            true => value < edge.value || (value == edge.value && doc >= edge.doc),
            false => value > edge.value || (value == edge.value && doc < edge.doc),
        })
    }

    fn passes(&self, doc: u32) -> bool {
        (self.range.0..self.range.1).contains(&doc)
            && self.filter.as_ref().is_none_or(|filter| filter.has(doc))
            && self.blocks.as_ref().is_none_or(|blocks| blocks.has(doc / BLOCK))
            && !self.stale.contains(&doc)
            && (self.query.private || !self.segment.is_private(doc))
    }

    fn has_words(&self, doc: u32) -> bool {
        let text = self.segment.text(doc);
        self.words.iter().all(|word| word.find(text).is_some())
    }

    /// Along the order; `None` if that takes too long.
    fn walk(&self) -> Result<Option<Vec<Hit>>> {
        let sort = self.query.sort;
        let mut column = self.segment.column(sort);
        let (mut looks, mut found) = (0_usize, Vec::new());
        let (mut from, mut to) = self.kind;
        let start = self.start_of_walk()?;
        match self.query.is_forward() {
            true => from = start,
            false => to = start,
        }
        while from < to {
            let step = ORDER_STEP.min(to - from);
            let mut docs = match self.query.is_forward() {
                true => self.segment.order(sort, from, from + step)?,
                false => self.segment.order(sort, to - step, to)?,
            };
            match self.query.is_forward() {
                true => from += step,
                false => {
                    to -= step;
                    docs.reverse();
                }
            }
            for doc in docs.into_iter().filter(|doc| self.passes(*doc)) {
                if !self.words.is_empty() {
                    looks += 1;
                    if !self.has_words(doc) {
                        continue;
                    }
                }
                found.push((column.value(doc, false)?, doc));
                if found.len() == self.wanted {
                    return Ok(Some(found));
                }
            }
            let in_all = looks.saturating_mul(self.wanted) / found.len().max(1);
            if looks > WALK_TRIAL && in_all > WALK_LOOKS {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// The first place of the order that comes after the page before (or, backwards, the end of those that do).
    fn start_of_walk(&self) -> Result<u32> {
        let (mut from, mut to) = self.kind;
        let forward = self.query.is_forward();
        if self.after.is_none() {
            return Ok(if forward { from } else { to });
        }
        let mut column = self.segment.column(self.query.sort);
        while from < to {
            let middle = from + (to - from) / 2;
            let doc = self.segment.order(self.query.sort, middle, middle + 1)?.first().copied().unwrap_or(0);
            let after = self.is_after((column.value(doc, false)?, doc));
            if after == forward {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        Ok(from)
    }

    /// All that fits, sorted.
    fn gather(&self) -> Result<Vec<Hit>> {
        let mut column = self.segment.column(self.query.sort);
        let mut hits = Vec::new();
        self.each_candidate(|doc| {
            let hit = (column.value(doc, true)?, doc);
            if self.is_after(hit) {
                hits.push(hit);
            }
            Ok(())
        })?;
        let key = |hit: &Hit| (std::cmp::Reverse(hit.0), hit.1);
        match self.query.is_forward() {
            true => first_of(&mut hits, self.wanted, |a, b| key(a).cmp(&key(b))),
            false => first_of(&mut hits, self.wanted, |a, b| key(b).cmp(&key(a))),
        }
        Ok(hits)
    }

    /// Visits every document that fits, rising.
    fn each_candidate(&self, mut visit: impl FnMut(u32) -> Result<()>) -> Result<()> {
        let (from, to) = self.range;
        let few = |bits: &Bits| bits.about(from, to) <= GATHER_MAX;
        if let Some(filter) = self.filter.as_ref().filter(|f| self.words.is_empty() || few(f)) {
            let mut fitting =
                filter.between(from, to).filter(|doc| self.passes(*doc) && self.has_words(*doc));
            return fitting.try_for_each(visit);
        }
        match (self.words.split_first(), &self.blocks) {
            (Some((first, _)), Some(blocks)) => {
                let runs = Runs::of(blocks.between(from / BLOCK, to.div_ceil(BLOCK)));
                for (start, end) in runs {
                    let (start, end) = (start * BLOCK, (end * BLOCK).min(self.segment.docs()));
                    self.scan(first, start, end, &mut visit)?;
                }
                Ok(())
            }
            (Some((first, _)), None) => self.scan(first, from, to, &mut visit),
            (None, _) => (from..to).filter(|doc| self.passes(*doc)).try_for_each(visit),
        }
    }

    /// Reads through the names of neighbours for a word.
    fn scan(
        &self,
        word: &Finder<'_>,
        from: u32,
        to: u32,
        visit: &mut impl FnMut(u32) -> Result<()>,
    ) -> Result<()> {
        let (text, base) = self.segment.texts(from, to);
        let mut last = None;
        for place in word.find_iter(text) {
            let doc = self.segment.doc_at(base + place, from, to);
            if last.replace(doc) != Some(doc) && self.passes(doc) && self.has_words(doc) {
                visit(doc)?;
            }
        }
        Ok(())
    }
}

fn first_of(hits: &mut Vec<Hit>, wanted: usize, order: impl Fn(&Hit, &Hit) -> std::cmp::Ordering) {
    if wanted < hits.len() {
        hits.select_nth_unstable_by(wanted, &order);
        hits.truncate(wanted);
    }
    hits.sort_unstable_by(order);
}

/// Rising numbers as runs of neighbours, half-open.
struct Runs<I: Iterator<Item = u32>>(std::iter::Peekable<I>);

impl<I: Iterator<Item = u32>> Runs<I> {
    fn of(numbers: I) -> Self {
        Self(numbers.peekable())
    }
}

impl<I: Iterator<Item = u32>> Iterator for Runs<I> {
    type Item = (u32, u32);
    fn next(&mut self) -> Option<(u32, u32)> {
        let start = self.0.next()?;
        let mut end = start + 1;
        while self.0.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some((start, end))
    }
}
