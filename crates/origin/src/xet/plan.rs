//! What a file's range is made of: the store's answer, read and checked before anything is fetched by it.
//!
//! **Invariant:** a [`Plan`] gives its range and nothing else: its terms cover it without one too many, each has its
//! chunks in a fetch, and every number has its bound.
//! **Not here:** whether an address may be asked (`http`), what the chunks hold (`chunk`).

use std::collections::HashMap;
use std::ops::Range;

use hubless_types::ByteRange;
use serde::Deserialize;
use url::Url;

use super::chunk::{HEAD_BYTES, MAX_CHUNK_BYTES};

/// Most terms of one plan.
const MAX_TERMS: usize = 16_384;
/// Most chunks that its terms have together.
const MAX_CHUNKS: u64 = 65_536;
/// Most bytes of one fetch: twice what a whole xorb has.
const MAX_FETCH_BYTES: u64 = 128 * 1024 * 1024;

/// Why an answer is no plan for a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It is no such JSON.
    #[error("{0}")]
    Json(String),
    /// Its terms are not those of the range.
    #[error("its terms give {got} bytes from {skip} on, where {wanted} are wanted")]
    Extent {
        /// All of them.
        got: u64,
        /// Before the range.
        skip: u64,
        /// The range has.
        wanted: u64,
    },
    /// A term that cannot be.
    #[error("term {index} has {bytes} bytes in the chunks {chunks:?}")]
    Term {
        /// Its place.
        index: usize,
        /// Half-open.
        chunks: Range<u32>,
        /// What it says it has.
        bytes: u64,
    },
    /// Nothing says where a term's chunks are.
    #[error("nothing says where the chunks {chunks:?} of term {index} are")]
    Nowhere {
        /// Its place.
        index: usize,
        /// Half-open.
        chunks: Range<u32>,
    },
    /// A fetch that cannot be.
    #[error("the chunks {chunks:?} are to lie in {bytes} bytes")]
    Fetch {
        /// Half-open.
        chunks: Range<u32>,
        /// Of the xorb.
        bytes: u64,
    },
    /// An address that is none.
    #[error("an address is none")]
    Address,
    /// Beyond what is taken.
    #[error("it has more terms or chunks than are taken")]
    TooMuch,
}

/// A part of a file: consecutive chunks of one xorb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    /// Where its chunks come in.
    pub(super) fetch: usize,
    /// Half-open, counted within the xorb.
    pub(super) chunks: Range<u32>,
    /// Bytes that they have together.
    pub(super) bytes: u64,
}

/// Consecutive chunks of one xorb, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) url: Url,
    /// Of the xorb as it is stored.
    pub(super) bytes: ByteRange,
    /// Half-open, counted within the xorb.
    pub(super) chunks: Range<u32>,
}

/// How a range of a file is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of the first term that lie before the range.
    pub(super) skip: u64,
    /// Bytes of the range.
    pub(super) wanted: u64,
    pub(super) terms: Vec<Term>,
    pub(super) fetches: Vec<Fetch>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    offset_into_first_range: u64,
    terms: Vec<WireTerm>,
    fetch_info: HashMap<String, Vec<WireFetch>>,
}

#[derive(Deserialize)]
struct WireTerm {
    hash: String,
    unpacked_length: u64,
    range: WireChunks,
}

/// Half-open.
#[derive(Deserialize)]
struct WireChunks {
    start: u32,
    end: u32,
}

#[derive(Deserialize)]
struct WireFetch {
    range: WireChunks,
    url: String,
    url_range: WireBytes,
}

/// With both ends.
#[derive(Deserialize)]
struct WireBytes {
    start: u64,
    end: u64,
}

impl Plan {
    /// Reads the store's answer (version 1, JSON) for a range of `wanted` bytes.
    ///
    /// # Errors
    /// [`PlanError`] for whatever does not give just that range.
    pub fn read(json: &[u8], wanted: u64) -> Result<Self, PlanError> {
        let wire: Wire = serde_json::from_slice(json).map_err(|error| PlanError::Json(error.to_string()))?;
        if wire.terms.len() > MAX_TERMS {
            return Err(PlanError::TooMuch);
        }
        let mut plan = Self {
            skip: wire.offset_into_first_range,
            wanted,
            terms: Vec::with_capacity(wire.terms.len()),
            fetches: Vec::new(),
        };
        // A fetch that several terms need is made once.
        let mut known: HashMap<(&str, usize), usize> = HashMap::new();
        let mut chunks_left = MAX_CHUNKS;
        for (index, wire_term) in wire.terms.iter().enumerate() {
            let (chunks, bytes) = (wire_term.chunks(index)?, wire_term.unpacked_length);
            let count = u64::from(chunks.end - chunks.start);
            chunks_left = chunks_left.checked_sub(count).ok_or(PlanError::TooMuch)?;
            let nowhere = || PlanError::Nowhere { index, chunks: chunks.clone() };
            let places = wire.fetch_info.get(&wire_term.hash).ok_or_else(nowhere)?;
            let holds =
                |place: &WireFetch| place.range.start <= chunks.start && chunks.end <= place.range.end;
            let place = places.iter().position(holds).ok_or_else(nowhere)?;
            let fetch = match known.get(&(wire_term.hash.as_str(), place)) {
                Some(fetch) => *fetch,
                None => {
                    plan.fetches.push(places.get(place).ok_or_else(nowhere)?.fetch()?);
                    known.insert((&wire_term.hash, place), plan.fetches.len() - 1);
                    plan.fetches.len() - 1
                }
            };
            plan.terms.push(Term { fetch, chunks, bytes });
        }
        plan.check_extent()?;
        Ok(plan)
    }

    /// That the range begins in the first term and ends in the last.
    fn check_extent(&self) -> Result<(), PlanError> {
        let got = self.terms.iter().map(|term| term.bytes).sum::<u64>();
        let error = PlanError::Extent { got, skip: self.skip, wanted: self.wanted };
        let first = self.terms.first().map_or(0, |term| term.bytes);
        let last = self.terms.last().map_or(0, |term| term.bytes);
        let end = self.skip.checked_add(self.wanted).ok_or_else(|| error.clone())?;
        let fits = self.skip < first && got - last < end && end <= got;
        if fits { Ok(()) } else { Err(error) }
    }
}

impl WireTerm {
    /// The chunks, if there are some and they can have so many bytes. (As many terms as are taken cannot make a sum
    /// that is no `u64`.)
    fn chunks(&self, index: usize) -> Result<Range<u32>, PlanError> {
        let chunks = self.range.start..self.range.end;
        let count = u64::from(chunks.end.saturating_sub(chunks.start));
        // No chunk is empty.
        let fits = count > 0 && (count..=count * MAX_CHUNK_BYTES as u64).contains(&self.unpacked_length);
        if fits { Ok(chunks) } else { Err(PlanError::Term { index, chunks, bytes: self.unpacked_length }) }
    }
}

impl WireFetch {
    fn fetch(&self) -> Result<Fetch, PlanError> {
        let chunks = self.range.start..self.range.end;
        let bytes = self.url_range.end.checked_add(1).and_then(|end| end.checked_sub(self.url_range.start));
        let count = u64::from(chunks.end.saturating_sub(chunks.start));
        let least = count * (HEAD_BYTES as u64 + 1);
        match bytes {
            Some(bytes) if (least..=MAX_FETCH_BYTES).contains(&bytes) && count <= MAX_CHUNKS => {
                let url = Url::parse(&self.url).map_err(|_| PlanError::Address)?;
                let start = self.url_range.start;
                Ok(Fetch { url, bytes: ByteRange::new(start, start + bytes), chunks })
            }
            bytes => Err(PlanError::Fetch { chunks, bytes: bytes.unwrap_or(0) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "offset_into_first_range": 10,
            "terms": [
                { "hash": "a", "unpacked_length": 1000, "range": { "start": 2, "end": 4 } },
                { "hash": "b", "unpacked_length": 500, "range": { "start": 0, "end": 1 } },
                { "hash": "a", "unpacked_length": 400, "range": { "start": 3, "end": 4 } },
            ],
            "fetch_info": {
                "a": [
                    { "range": { "start": 0, "end": 1 }, "url": "https://x/a?sig=0", "url_range": { "start": 0, "end": 99 } },
                    { "range": { "start": 2, "end": 4 }, "url": "https://x/a?sig=1", "url_range": { "start": 200, "end": 999 } },
                ],
                "b": [{ "range": { "start": 0, "end": 7 }, "url": "https://x/b", "url_range": { "start": 0, "end": 99 } }],
            },
        })
    }

    fn read(value: &Value, wanted: u64) -> Result<Plan, PlanError> {
        Plan::read(value.to_string().as_bytes(), wanted)
    }

    #[test]
    fn a_plan_says_where_everything_is_and_fetches_nothing_twice() {
        let plan = read(&good(), 1700).unwrap();
        assert_eq!((plan.skip, plan.terms.len(), plan.fetches.len()), (10, 3, 2));
        assert_eq!(plan.fetches[0].bytes, ByteRange::new(200, 1000));
        assert_eq!(plan.terms[2], Term { fetch: 0, chunks: 3..4, bytes: 400 });
    }

    #[test]
    fn terms_cover_the_range_and_end_with_it() {
        for wanted in [1491, 1890] {
            assert!(read(&good(), wanted).is_ok(), "{wanted}");
        }
        // Too few; one term too many; beyond every number.
        for wanted in [1891, 1490, 0, u64::MAX] {
            let error = read(&good(), wanted).unwrap_err();
            assert!(matches!(error, PlanError::Extent { .. }), "{wanted}: {error}");
        }
        let mut late = good();
        late["offset_into_first_range"] = json!(1000);
        assert!(matches!(read(&late, 700), Err(PlanError::Extent { .. })));
        assert!(matches!(read(&json!({"terms": [], "fetch_info": {}}), 1), Err(PlanError::Extent { .. })));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let huge = u64::MAX;
        let bad: [(&str, Value); 14] = [
            ("/terms/0/unpacked_length", json!(huge)),
            ("/terms/0/unpacked_length", json!(2 * MAX_CHUNK_BYTES + 1)),
            ("/terms/0/unpacked_length", json!(1)),
            ("/terms/0/unpacked_length", json!(-1)),
            ("/terms/0/range", json!({ "start": 4, "end": 4 })),
            ("/terms/0/range", json!({ "start": 4, "end": 2 })),
            ("/terms/0/range", json!({ "start": 2, "end": 5 })),
            ("/terms/0/range", json!({ "start": 0, "end": 4_294_967_295_u32 })),
            ("/terms/1/hash", json!("c")),
            ("/fetch_info/b", json!([])),
            ("/fetch_info/b/0/url", json!("no address")),
            ("/fetch_info/b/0/url_range", json!({ "start": 0, "end": huge })),
            ("/fetch_info/b/0/url_range", json!({ "start": 9, "end": 0 })),
            ("/fetch_info/b/0/url_range", json!({ "start": 0, "end": 5 })),
        ];
        for (place, value) in bad {
            let mut plan = good();
            *plan.pointer_mut(place).unwrap() = value.clone();
            assert!(read(&plan, 1700).is_err(), "{place} = {value}");
        }
        assert!(matches!(Plan::read(b"[[[[", 1), Err(PlanError::Json(_))));
    }

    #[test]
    fn a_plan_has_so_many_terms_and_chunks() {
        let term = json!({ "hash": "b", "unpacked_length": 7, "range": { "start": 0, "end": 7 } });
        let mut plan = good();
        plan["terms"] = json!(vec![term.clone(); MAX_TERMS]);
        assert_eq!(read(&plan, 9), Err(PlanError::TooMuch), "too many chunks");
        plan["terms"] = json!(vec![term; MAX_TERMS + 1]);
        assert_eq!(read(&plan, 9), Err(PlanError::TooMuch));
    }
}
