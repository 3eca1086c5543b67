//! Forgets a repository: whatever is kept under its name.
//!
//! **Not here:** manifests ([`Catalogue::remove_manifest`]) and bytes (`blobs`).

use hubless_types::RepoId;

use super::db::Cf;
use super::{Catalogue, aliases, keys, shelf, statements};
use crate::error::Result;

/// Tables whose keys begin with a repository, and which count nothing.
pub(super) const IN_REPO: [Cf; 6] = [Cf::RepoCommits, Cf::Refs, Cf::Tags, Cf::Moves, Cf::Pins, Cf::KeptBack];

impl Catalogue {
    /// Forgets a repository in one change: its names and how they moved, its pins, what was said of it, by whom, and
    /// which commits it lists. `false` if nothing was known of it.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn forget_repo(&self, repo: &RepoId) -> Result<bool> {
        let (key, prefix) = (keys::repo(repo), keys::in_repo(repo));
        self.change(|txn| {
            let mut known = txn.has(Cf::Repos, &key)? || txn.has(Cf::Facts, &key)?;
            let commits = txn.before().page(Cf::RepoCommits, &prefix, None, usize::MAX, |row, _| {
                keys::read_commit(&row[prefix.len()..])
            })?;
            for commit in commits {
                txn.delete(Cf::CommitRepos, [&commit.as_bytes()[..], &key].concat());
            }
            known |= statements::remove_all(txn, repo)?;
            for cf in IN_REPO {
                txn.delete_all(cf, &prefix);
            }
            for cf in [Cf::Repos, Cf::Facts] {
                txn.delete(cf, key.clone());
            }
            shelf::forget_heard(txn, repo)?;
            aliases::forget_case(txn, repo)?;
            txn.touch(key);
            Ok(known)
        })
    }
}

#[cfg(test)]
mod tests {
    use hubless_types::{Access, CommitId, Pin, RepoFacts, Revision, Timestamp};

    use super::super::records::{RefRecord, RefSource};
    use super::super::tests::{fixture, node, statement};
    use super::*;

    /// Nothing under the name is left, and of its neighbour, whose name begins alike, everything is.
    #[test]
    fn what_is_forgotten_is_gone_and_its_neighbour_is_not() {
        let f = fixture();
        let c = &f.catalogue;
        let main = Revision::main();
        let names: [RepoId; 2] = ["Acme/Tiny".parse().unwrap(), "Acme/Tiny-2".parse().unwrap()];
        let both = CommitId::from_bytes([9; 20]);
        for (n, repo) in (1..).zip(&names) {
            let commit = CommitId::from_bytes([n; 20]);
            let record = |commit| RefRecord { commit, seen: Timestamp(n.into()), by: RefSource::Published };
            c.move_ref(repo, &main, &record(both)).unwrap();
            c.move_ref(repo, &main, &record(commit)).unwrap();
            c.note_tags(repo, &[(main.clone(), true)]).unwrap();
            c.add_commit_to_repo(repo, commit).unwrap();
            c.add_commit_to_repo(repo, both).unwrap();
            c.put_pin(&Pin { repo: repo.clone(), revision: main.clone(), commit, since: Timestamp(1) })
                .unwrap();
            c.put_facts(repo, &RepoFacts { access: Access::Private, ..RepoFacts::default() }).unwrap();
            assert!(c.put_statement(&statement(node(n), repo, "main", 1)).unwrap());
        }
        let [gone, stays] = &names;
        assert!(c.forget_repo(gone).unwrap());
        assert!(!c.forget_repo(gone).unwrap(), "once");

        assert_eq!(c.repos(None, 9).unwrap(), std::slice::from_ref(stays));
        assert_eq!((c.refs(gone).unwrap().len(), c.refs(stays).unwrap().len()), (0, 1));
        assert_eq!((c.tags(gone).unwrap().len(), c.tags(stays).unwrap().len()), (0, 1));
        assert_eq!((c.moves(gone, &main).unwrap().len(), c.moves(stays, &main).unwrap().len()), (0, 1));
        assert_eq!((c.commits_of(gone).unwrap().len(), c.commits_of(stays).unwrap().len()), (0, 2));
        assert_eq!(c.repos_of(both).unwrap(), std::slice::from_ref(stays));
        assert_eq!(c.pins().unwrap().len(), 1);
        assert_eq!((c.facts(gone).unwrap(), c.access(gone).unwrap()), (None, Access::Open));
        assert_eq!(c.access(stays).unwrap(), Access::Private);
        assert_eq!(
            (c.statements(gone, None).unwrap().len(), c.statements(stays, None).unwrap().len()),
            (0, 1)
        );
        assert_eq!(c.canonical(&"acme/TINY".parse().unwrap()).unwrap(), None);
    }
}
