//! Puts a range of a file together out of chunks, in order, each fetched once.
//!
//! A file may have the same chunks in several places, and one fetch may hold the chunks of several terms. What a later
//! term needs of a fetch is kept until then.
//!
//! **Invariant:** gives exactly the plan's range or fails; keeps at most [`MAX_KEPT_BYTES`].
//! **Not here:** fetching, unpacking.

use std::collections::HashMap;

use bytes::Bytes;

use super::plan::{Plan, Term};

/// Most bytes of chunks that are kept for later terms: as many as the longest range that is planned at once.
const MAX_KEPT_BYTES: u64 = super::WINDOW_BYTES;

/// Why chunks are not what their plan says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// The chunks of a term have other lengths.
    #[error("the chunks of term {term} have not the {bytes} bytes that they should have")]
    Length {
        /// Its place.
        term: usize,
        /// What it should have.
        bytes: u64,
    },
    /// A fetch has more or fewer chunks.
    #[error("a fetch has not the {chunks} chunks that it should have")]
    Chunks {
        /// What it should have.
        chunks: usize,
    },
    /// The file uses its chunks in too wild an order.
    #[error("its chunks are needed in an order that would fill memory")]
    Tangled,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These are the next bytes of the range.
    Give(Bytes),
    /// Another fetch is to begin; whatever is left of the one before is not needed.
    Fetch(usize),
    /// The next chunk of the fetch under way is wanted.
    More,
    /// The range is whole.
    Done,
}

/// A fetch under way.
#[derive(Debug)]
struct Running {
    fetch: usize,
    /// The chunk that comes next.
    next: u32,
    /// Behind the last that anybody needs.
    end: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Rebuild {
    plan: Plan,
    /// How many terms still want a chunk, by its fetch.
    wanted: HashMap<(usize, u32), u32>,
    /// Behind the last chunk that is wanted of each fetch.
    ends: Vec<u32>,
    kept: HashMap<(usize, u32), Bytes>,
    kept_bytes: u64,
    running: Option<Running>,
    term: usize,
    /// Chunks and bytes of the term that came.
    chunk: u32,
    came: u64,
    skip: u64,
    left: u64,
}

impl Rebuild {
    /// For the range of `plan`.
    pub fn new(plan: Plan) -> Self {
        let (mut wanted, mut ends) = (HashMap::new(), vec![0; plan.fetches.len()]);
        for term in &plan.terms {
            for chunk in term.chunks.clone() {
                *wanted.entry((term.fetch, chunk)).or_insert(0) += 1;
            }
            if let Some(end) = ends.get_mut(term.fetch) {
                *end = term.chunks.end.max(*end);
            }
        }
        let (skip, left) = (plan.skip, plan.wanted);
        Self {
            plan,
            wanted,
            ends,
            kept: HashMap::new(),
            kept_bytes: 0,
            running: None,
            term: 0,
            chunk: 0,
            came: 0,
            skip,
            left,
        }
    }

    /// Its plan.
    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What comes next.
    ///
    /// # Errors
    /// [`RebuildError`]; it is over then.
    pub fn step(&mut self) -> Result<Step, RebuildError> {
        loop {
            if self.left == 0 {
                return Ok(Step::Done);
            }
            // A plan covers its range: there is a term while something is left.
            let Some(term) = self.plan.terms.get(self.term).cloned() else { return Ok(Step::Done) };
            if self.chunk == term.chunks.end - term.chunks.start {
                if self.came != term.bytes {
                    return Err(self.wrong_length(&term));
                }
                (self.term, self.chunk, self.came) = (self.term + 1, 0, 0);
                continue;
            }
            let key = (term.fetch, term.chunks.start + self.chunk);
            let Some(bytes) = self.take(key) else { return Ok(self.wants(key)) };
            self.chunk += 1;
            self.came += bytes.len() as u64;
            if self.came > term.bytes {
                return Err(self.wrong_length(&term));
            }
            let given = self.cut(bytes);
            if !given.is_empty() {
                return Ok(Step::Give(given));
            }
        }
    }

    /// The next chunk of the fetch under way came.
    ///
    /// # Errors
    /// [`RebuildError`]; it is over then.
    pub fn chunk(&mut self, bytes: Bytes) -> Result<(), RebuildError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let key = (running.fetch, running.next);
        running.next += 1;
        if self.wanted.contains_key(&key) {
            self.kept_bytes += bytes.len() as u64;
            self.kept.insert(key, bytes);
        }
        if self.kept_bytes > MAX_KEPT_BYTES { Err(RebuildError::Tangled) } else { Ok(()) }
    }

    /// The fetch under way has no more chunks.
    ///
    /// # Errors
    /// [`RebuildError::Chunks`] if some of them are wanted.
    pub fn fetch_ended(&mut self) -> Result<(), RebuildError> {
        match &self.running {
            Some(running) if running.next < running.end => Err(self.wrong_chunks(running.fetch)),
            _ => Ok(()),
        }
    }

    /// What must be done so that a chunk comes.
    fn wants(&mut self, (fetch, chunk): (usize, u32)) -> Step {
        match &self.running {
            // Its own fetch, or one of which later terms need something.
            Some(running)
                if running.next < running.end && (running.fetch != fetch || running.next <= chunk) =>
            {
                Step::More
            }
            _ => {
                let next = self.plan.fetches.get(fetch).map_or(0, |fetch| fetch.chunks.start);
                let end = self.ends.get(fetch).copied().unwrap_or(0);
                self.running = Some(Running { fetch, next, end });
                Step::Fetch(fetch)
            }
        }
    }

    /// A chunk that is here, for one of those who want it.
    fn take(&mut self, key: (usize, u32)) -> Option<Bytes> {
        let bytes = self.kept.get(&key)?.clone();
        if let Some(count) = self.wanted.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(&key);
                self.kept.remove(&key);
                self.kept_bytes -= bytes.len() as u64;
            }
        }
        Some(bytes)
    }

    /// What of a chunk lies within the range.
    fn cut(&mut self, mut bytes: Bytes) -> Bytes {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let mut rest = bytes.split_off(skipped as usize);
        rest.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= rest.len() as u64;
        rest
    }

    fn wrong_length(&self, term: &Term) -> RebuildError {
        RebuildError::Length { term: self.term, bytes: term.bytes }
    }

    fn wrong_chunks(&self, fetch: usize) -> RebuildError {
        RebuildError::Chunks { chunks: self.plan.fetches.get(fetch).map_or(0, |fetch| fetch.chunks.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::ByteRange;
    use proptest::prelude::*;
    use url::Url;

    use crate::xet::plan::Fetch;

    /// Chunk `chunk` of xorb `xorb`; no two are alike or of one length.
    fn content(xorb: usize, chunk: u32) -> Bytes {
        Bytes::from(vec![(xorb * 16) as u8 + chunk as u8; 10 + xorb * 7 + chunk as usize])
    }

    fn fetch(chunks: std::ops::Range<u32>) -> Fetch {
        Fetch { url: Url::parse("http://x/").unwrap(), bytes: ByteRange::new(0, 99), chunks }
    }

    fn term(fetch: usize, chunks: std::ops::Range<u32>) -> Term {
        let bytes = chunks.clone().map(|chunk| content(fetch, chunk).len() as u64).sum();
        Term { fetch, chunks, bytes }
    }

    fn whole(terms: &[Term]) -> Vec<u8> {
        let chunks =
            terms.iter().flat_map(|term| term.chunks.clone().map(|chunk| content(term.fetch, chunk)));
        chunks.flatten().collect()
    }

    /// Runs it; the bytes, and how often each fetch was begun.
    fn run(plan: Plan) -> Result<(Vec<u8>, Vec<usize>), RebuildError> {
        let (fetches, mut begun) = (plan.fetches.clone(), vec![0; plan.fetches.len()]);
        let (mut rebuild, mut out) = (Rebuild::new(plan), Vec::new());
        let mut under_way = (0, 0..0);
        loop {
            match rebuild.step()? {
                Step::Give(bytes) => out.extend_from_slice(&bytes),
                Step::Fetch(fetch) => {
                    begun[fetch] += 1;
                    under_way = (fetch, fetches[fetch].chunks.clone());
                }
                Step::More => match under_way.1.next() {
                    Some(chunk) => rebuild.chunk(content(under_way.0, chunk))?,
                    None => rebuild.fetch_ended()?,
                },
                Step::Done => return Ok((out, begun)),
            }
        }
    }

    #[test]
    fn a_fetch_that_several_terms_need_is_made_once() {
        let terms = vec![term(0, 2..4), term(1, 0..2), term(0, 0..3), term(0, 3..4), term(1, 1..2)];
        let expected = whole(&terms);
        let wanted = expected.len() as u64;
        let plan = Plan { skip: 0, wanted, terms, fetches: vec![fetch(0..5), fetch(0..2)] };
        assert_eq!(run(plan).unwrap(), (expected, vec![1, 1]));
    }

    #[test]
    fn chunks_are_as_long_and_as_many_as_they_should_be() {
        let (mut short, mut long) = (term(0, 0..2), term(0, 0..2));
        short.bytes -= 1;
        long.bytes += 1;
        for wrong in [short, long] {
            let plan = Plan { skip: 0, wanted: wrong.bytes, terms: vec![wrong], fetches: vec![fetch(0..2)] };
            assert!(matches!(run(plan), Err(RebuildError::Length { .. })));
        }
        let mut rebuild =
            Rebuild::new(Plan { skip: 0, wanted: 5, terms: vec![term(0, 0..1)], fetches: vec![fetch(0..1)] });
        assert_eq!(rebuild.step(), Ok(Step::Fetch(0)));
        assert_eq!(rebuild.step(), Ok(Step::More));
        assert_eq!(rebuild.fetch_ended(), Err(RebuildError::Chunks { chunks: 1 }));
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        // The last chunk of the first fetch first, and all others later.
        let terms =
            vec![Term { fetch: 0, chunks: 300..301, bytes: 9 }, Term { fetch: 0, chunks: 0..301, bytes: 99 }];
        let mut rebuild = Rebuild::new(Plan { skip: 0, wanted: 108, terms, fetches: vec![fetch(0..301)] });
        assert_eq!(rebuild.step(), Ok(Step::Fetch(0)));
        let large = Bytes::from(vec![0; 128 * 1024]);
        let error = (0..300).find_map(|_| rebuild.chunk(large.clone()).err());
        assert_eq!(error, Some(RebuildError::Tangled));
    }

    proptest! {
        /// Whatever the order of the terms, what comes out is the range, and nothing is fetched twice.
        #[test]
        fn terms_in_any_order_give_the_range(
            picks in prop::collection::vec((0..3_usize, 0..6_u32, 1..4_u32), 1..12),
            skip: prop::sample::Index,
            cut: prop::sample::Index,
        ) {
            let terms: Vec<_> = picks.into_iter().map(|(fetch, from, count)| term(fetch, from..from + count)).collect();
            let all = whole(&terms);
            let skip = skip.index(terms[0].bytes as usize);
            let last = terms.last().map_or(0, |term| term.bytes as usize);
            let least = (all.len() - last + 1).max(skip + 1);
            let end = least + cut.index(all.len() - least + 1);
            let plan = Plan {
                skip: skip as u64,
                wanted: (end - skip) as u64,
                terms,
                fetches: vec![fetch(0..9), fetch(0..9), fetch(0..10)],
            };
            let (got, begun) = run(plan).unwrap();
            prop_assert_eq!(&got, &all[skip..end]);
            prop_assert!(begun.iter().all(|times| *times <= 1), "{:?}", begun);
        }
    }
}
