//! Keeps the manifests that were read last.
//!
//! **Invariant:** the manifests that it keeps alive have at most [`CACHED_ENTRIES`] files and folders together.
//! A larger one is shared for as long as somebody else keeps it.

use std::sync::{Arc, Mutex, Weak};

use hubless_types::{CommitId, Manifest};

use super::lock;

/// Files and folders of all cached manifests together, at about 200 bytes each.
const CACHED_ENTRIES: usize = 100_000;
/// Manifests that are too large to be kept, but are shared while someone uses them.
const SHARED_MANIFESTS: usize = 8;

#[derive(Default)]
pub(super) struct ManifestCache(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    /// The one used last stands last.
    kept: Vec<Arc<Manifest>>,
    shared: Vec<(CommitId, Weak<Manifest>)>,
}

impl ManifestCache {
    pub(super) fn get(&self, commit: CommitId) -> Option<Arc<Manifest>> {
        let mut slots = lock(&self.0);
        if let Some(at) = slots.kept.iter().position(|m| m.commit() == commit) {
            slots.kept[at..].rotate_left(1);
            return slots.kept.last().cloned();
        }
        slots.shared.iter().find(|(c, _)| *c == commit).and_then(|(_, m)| m.upgrade())
    }

    pub(super) fn put(&self, manifest: &Arc<Manifest>) {
        let mut slots = lock(&self.0);
        slots.remove(manifest.commit());
        if weight(manifest) > CACHED_ENTRIES {
            slots.shared.retain(|(_, m)| m.strong_count() > 0);
            let excess = (slots.shared.len() + 1).saturating_sub(SHARED_MANIFESTS);
            slots.shared.drain(..excess);
            slots.shared.push((manifest.commit(), Arc::downgrade(manifest)));
            return;
        }
        slots.kept.push(manifest.clone());
        let mut total: usize = slots.kept.iter().map(|m| weight(m)).sum();
        while total > CACHED_ENTRIES {
            total -= weight(&slots.kept.remove(0));
        }
    }

    pub(super) fn remove(&self, commit: CommitId) {
        lock(&self.0).remove(commit);
    }
}

impl Slots {
    fn remove(&mut self, commit: CommitId) {
        self.kept.retain(|m| m.commit() != commit);
        self.shared.retain(|(c, _)| *c != commit);
    }
}

/// An empty manifest, too, takes room; this way there are never more than a thousand.
fn weight(manifest: &Manifest) -> usize {
    manifest.entries().len() + manifest.folders().len() + CACHED_ENTRIES / 1000
}

#[cfg(test)]
mod tests {
    use super::super::manifest_rows::tests::manifest;
    use super::*;

    #[test]
    fn what_was_used_last_stays_and_the_bound_holds() {
        let cache = ManifestCache::default();
        let all: Vec<_> = (0..5).map(|n| Arc::new(manifest(n, 30_000))).collect();
        cache.put(&all[0]);
        cache.put(&all[1]);
        assert!(cache.get(all[0].commit()).is_some());
        cache.put(&all[2]);
        cache.put(&all[3]); // now `all[1]` was not used for the longest time
        let here: Vec<_> = all.iter().map(|m| cache.get(m.commit()).is_some()).collect();
        assert_eq!(here, [true, false, true, true, false]);
        let kept: usize = lock(&cache.0).kept.iter().map(|m| weight(m)).sum();
        assert!(kept <= CACHED_ENTRIES);
    }

    #[test]
    fn a_huge_manifest_is_shared_while_it_is_used() {
        let cache = ManifestCache::default();
        let huge = Arc::new(manifest(1, CACHED_ENTRIES));
        cache.put(&huge);
        let again = cache.get(huge.commit()).unwrap();
        assert!(Arc::ptr_eq(&huge, &again));
        let commit = huge.commit();
        drop(huge);
        assert!(cache.get(commit).is_some());
        drop(again);
        assert!(cache.get(commit).is_none());
    }
}
