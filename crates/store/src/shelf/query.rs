//! What is asked of the shelf, and in which order the answer comes.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use hubless_types::{Access, RepoFacts, RepoId, RepoKind};

/// Most words of a search, and most terms that must be met, that are looked at.
pub(crate) const MAX_WORDS: usize = 8;
pub(crate) const MAX_TERMS: usize = 16;
/// Most repositories on one page.
pub const SHELF_PAGE_MAX: usize = 1000;
/// Longest cursor that is read, in bytes.
const MAX_CURSOR_BYTES: usize = 128;
/// How many hours of age a doubling of likes makes up for in the order of what is talked about now.
const HOURS_A_DOUBLING: u64 = 30 * 24;

/// By what a listing is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShelfSort {
    /// The name, as bytes.
    Name,
    /// Downloads in the last 30 days.
    Downloads,
    /// Likes.
    Likes,
    /// When it was made.
    Created,
    /// When it last changed.
    Modified,
    /// Likes against age: what is new and liked comes first. (The Hub's own measure is not public; this one needs no
    /// clock, so the order stays while time passes.)
    Trending,
}

impl ShelfSort {
    /// Those that are kept on disk as an order of their own.
    pub(super) const KEPT: [Self; 5] =
        [Self::Downloads, Self::Likes, Self::Created, Self::Modified, Self::Trending];
}

/// Something that a repository must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShelfTerm {
    /// A tag, its task or its library; in any case.
    Tag(String),
    /// Its task.
    Pipeline(String),
    /// Its library.
    Library(String),
}

/// A question. Texts are compared without regard to case, the author excepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfQuery {
    /// Of which kind.
    pub kind: RepoKind,
    /// Words that must all be in the name (at most 8 are looked at).
    pub search: String,
    /// Who owns it.
    pub author: Option<String>,
    /// What it must have, all of it (at most 16 are looked at).
    pub terms: Vec<ShelfTerm>,
    /// Only gated ones, or only those that are not.
    pub gated: Option<bool>,
    /// Private ones as well: for the operator's own eyes.
    pub private: bool,
    /// The order.
    pub sort: ShelfSort,
    /// Whether the largest come first; equal ones come by name, then. Otherwise it is all the other way round.
    pub descending: bool,
    /// Where the page before ended.
    pub after: Option<ShelfCursor>,
    /// Most repositories wanted, up to [`SHELF_PAGE_MAX`].
    pub limit: usize,
}

impl ShelfQuery {
    /// All of a kind, by name.
    pub fn all(kind: RepoKind) -> Self {
        Self {
            kind,
            search: String::new(),
            author: None,
            terms: Vec::new(),
            gated: None,
            private: false,
            sort: ShelfSort::Name,
            descending: false,
            after: None,
            limit: SHELF_PAGE_MAX,
        }
    }

    pub(super) fn words(&self) -> Vec<String> {
        let mut words: Vec<_> =
            self.search.split_whitespace().take(MAX_WORDS).map(str::to_lowercase).collect();
        // The longest is the rarest, most likely.
        words.sort_by_key(|w| std::cmp::Reverse(w.len()));
        words.dedup();
        words
    }

    pub(super) fn term_hashes(&self) -> Vec<u64> {
        self.terms.iter().take(MAX_TERMS).map(term_hash).collect()
    }

    /// Whether what is kept in order (largest first, then by name) is read from its beginning.
    pub(super) fn is_forward(&self) -> bool {
        self.descending != (self.sort == ShelfSort::Name)
    }

    /// Which of two comes first.
    pub(super) fn order(&self, a: (u32, &str), b: (u32, &str)) -> Ordering {
        match self.is_forward() {
            true => b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)),
            false => a.0.cmp(&b.0).then_with(|| b.1.cmp(a.1)),
        }
    }
}

/// Where a page ended: the next one begins after it, whatever came and went meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfCursor {
    pub(super) value: u32,
    pub(super) name: String,
}

impl fmt::Display for ShelfCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.value, self.name)
    }
}

impl FromStr for ShelfCursor {
    type Err = ();
    /// Reads what was written; anything else is an error.
    fn from_str(s: &str) -> Result<Self, ()> {
        let (value, name) = s.split_once(':').filter(|_| s.len() <= MAX_CURSOR_BYTES).ok_or(())?;
        Ok(Self { value: value.parse().map_err(|_| ())?, name: name.to_owned() })
    }
}

/// One page of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfPage {
    /// The repositories, in order, each with what is said of it (without its card); `None` if that has to be looked
    /// up.
    pub repos: Vec<(RepoId, Option<RepoFacts>)>,
    /// Where the next page begins; `None` if there is none.
    pub next: Option<ShelfCursor>,
}

/// What a repository is sorted and found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Counts and seconds, cut at what 32 bits hold.
    pub(super) downloads: u32,
    pub(super) likes: u32,
    pub(super) created: u32,
    pub(super) modified: u32,
    /// Hashes of its terms, sorted.
    pub(super) terms: Vec<u64>,
}

impl Entry {
    pub(super) fn new(facts: &RepoFacts) -> Self {
        let tag = |text: &String| hash(b't', text);
        let mut terms: Vec<u64> = facts.tags.iter().map(tag).collect();
        for (letter, text) in [(b'p', &facts.pipeline_tag), (b'l', &facts.library_name)] {
            terms.extend(text.iter().flat_map(|text| [hash(letter, text), hash(b't', text)]));
        }
        if !facts.access.is_open() {
            terms.push(gated_hash());
        }
        if facts.access == Access::Private {
            terms.push(private_hash());
        }
        terms.sort_unstable();
        terms.dedup();
        let cut = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            downloads: cut(facts.downloads),
            likes: cut(facts.likes),
            created: cut(facts.created.0),
            modified: cut(facts.modified.0),
            terms,
        }
    }

    pub(super) fn value(&self, sort: ShelfSort) -> u32 {
        match sort {
            ShelfSort::Name => 0,
            ShelfSort::Downloads => self.downloads,
            ShelfSort::Likes => self.likes,
            ShelfSort::Created => self.created,
            ShelfSort::Modified => self.modified,
            ShelfSort::Trending => trending(self.likes, self.created),
        }
    }
}

/// Hours since 1970, and some for likes: logarithm to base 2 in steps of an eighth.
pub(super) fn trending(likes: u32, created: u32) -> u32 {
    let likes = u64::from(likes) + 1;
    let whole = likes.ilog2();
    // The three bits after the first one, as eighths.
    let eighths = u64::from(whole) * 8 + ((likes << 3 >> whole) & 7);
    let hours = u64::from(created) / 3600 + eighths * HOURS_A_DOUBLING / 8;
    u32::try_from(hours).unwrap_or(u32::MAX)
}

fn term_hash(term: &ShelfTerm) -> u64 {
    match term {
        ShelfTerm::Tag(text) => hash(b't', text),
        ShelfTerm::Pipeline(text) => hash(b'p', text),
        ShelfTerm::Library(text) => hash(b'l', text),
    }
}

/// The term of every repository whose content is not open.
pub(super) fn gated_hash() -> u64 {
    hash(b'g', "")
}

/// The term of every private repository.
pub(super) fn private_hash() -> u64 {
    hash(b'x', "")
}

/// Eight bytes of a BLAKE3 hash. Two terms of one hash would be found together; nothing worse.
fn hash(letter: u8, text: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[letter]);
    match text.bytes().any(|b| b.is_ascii_uppercase()) {
        true => hasher.update(text.to_ascii_lowercase().as_bytes()),
        false => hasher.update(text.as_bytes()),
    };
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_new_and_liked_comes_first() {
        let day = 24 * 3600;
        let now = 20_000 * day;
        assert!(trending(0, now) > trending(0, now - day));
        assert!(trending(1000, now - 200 * day) > trending(3, now), "ten doublings make up for 300 days");
        assert!(trending(1000, now - 400 * day) < trending(3, now));
        assert!((0..10_000).all(|n| trending(n, 0) <= trending(n + 1, 0)));
        trending(u32::MAX, u32::MAX);
    }

    proptest! {
        #[test]
        fn cursors_come_back(value: u32, name in "[a-zA-Z0-9./_-]{0,96}") {
            let cursor = ShelfCursor { value, name };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_makes_a_cursor_panic(text in ".{0,200}") {
            let _ = text.parse::<ShelfCursor>();
        }
    }
}
