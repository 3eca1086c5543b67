//! What changed since the segment was written: few enough to look at one by one.

use std::collections::BTreeMap;

use hubless_types::{RepoFacts, RepoId, RepoKind};

use super::Hit;
use super::query::{Entry, ShelfQuery, gated_hash, private_hash};

/// Most repositories that are kept so.
pub(crate) const RECENT_MAX: usize = 32_768;

/// Repositories that changed. `None`: it is not listed any more.
#[derive(Debug, Default)]
pub(super) struct Recent(BTreeMap<(RepoKind, String), Option<Row>>);

#[derive(Debug)]
struct Row {
    entry: Entry,
    /// The name in lower case.
    text: String,
}

impl Recent {
    /// Notes what is known of a repository now; `false` if there is no room.
    pub(super) fn set(&mut self, repo: &RepoId, facts: Option<&RepoFacts>) -> bool {
        let key = (repo.kind(), repo.name().to_owned());
        if self.0.len() >= RECENT_MAX && !self.0.contains_key(&key) {
            return false;
        }
        let row = facts.map(|facts| Row { entry: Entry::new(facts), text: repo.name().to_ascii_lowercase() });
        self.0.insert(key, row);
        true
    }

    /// Nothing is noted of a repository any more.
    pub(super) fn remove(&mut self, repo: &RepoId) {
        self.0.remove(&(repo.kind(), repo.name().to_owned()));
    }

    /// Whether it notes that a repository is listed.
    pub(super) fn lists(&self, repo: &RepoId) -> bool {
        matches!(self.0.get(&(repo.kind(), repo.name().to_owned())), Some(Some(_)))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many are listed, without those of which `later` notes something.
    pub(super) fn listed(&self, later: Option<&Self>) -> u64 {
        let is_last = |key| later.is_none_or(|later| !later.0.contains_key(key));
        self.0.iter().filter(|(key, row)| row.is_some() && is_last(key)).count() as u64
    }

    /// Whether something of a repository is noted.
    pub(super) fn has(&self, kind: RepoKind, name: &str) -> bool {
        self.0.contains_key(&(kind, name.to_owned()))
    }

    /// The repositories that are noted.
    pub(super) fn repos(&self) -> impl Iterator<Item = RepoId> {
        self.0.keys().filter_map(|(kind, name)| RepoId::new(*kind, name).ok())
    }

    /// Takes over what `older` noted and this one did not.
    pub(super) fn add_older(&mut self, older: Self) {
        for (key, row) in older.0 {
            self.0.entry(key).or_insert(row);
        }
    }

    /// Every one that fits and comes after the page before, with its value; not sorted.
    pub(super) fn search(&self, query: &ShelfQuery, later: Option<&Self>) -> Vec<Hit> {
        let (words, terms) = (query.words(), query.term_hashes());
        let has = |entry: &Entry, hash: &u64| entry.terms.binary_search(hash).is_ok();
        let rows = self.0.iter().filter(|((kind, _), _)| *kind == query.kind);
        let found = rows.filter_map(|((kind, name), row)| {
            let Row { entry, text } = row.as_ref()?;
            let author = name.split_once('/').map(|(owner, _)| owner);
            let fits = words.iter().all(|word| text.contains(word.as_str()))
                && query.author.as_deref().is_none_or(|wanted| author == Some(wanted))
                && terms.iter().all(|hash| has(entry, hash))
                && (query.private || !has(entry, &private_hash()))
                && query.gated.is_none_or(|gated| has(entry, &gated_hash()) == gated)
                && later.is_none_or(|later| !later.has(*kind, name));
            let value = entry.value(query.sort);
            let after = query
                .after
                .as_ref()
                .is_none_or(|cursor| query.order((cursor.value, &cursor.name), (value, name)).is_lt());
            (fits && after).then(|| Hit { value, name: name.clone(), doc: None })
        });
        found.collect()
    }
}
