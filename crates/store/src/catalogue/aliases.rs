//! Other spellings of repositories' names: former names, and names in the wrong case.
//!
//! **Invariant:** following aliases ends, whatever was put.

use hubless_types::{Access, RepoId};

use super::codec::Record;
use super::db::Cf;
use super::looks::Look;
use super::txn::Txn;
use super::{Catalogue, keys};
use crate::error::Result;

/// Renames of one repository that are followed, one after the other.
const MAX_RENAMES: usize = 8;

/// The repository that a name stands for, with its kind's prefix.
#[derive(serde::Serialize, serde::Deserialize)]
struct Alias(RepoId);

impl Record for Alias {
    const NAME: &'static str = "alias";
}

impl Catalogue {
    /// Has `from`, in whatever case it is written, stand for `to` from now on. `put_alias(a, a)` takes back what
    /// `a` stood for before.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_alias(&self, from: &RepoId, to: &RepoId) -> Result<()> {
        self.change(|txn| {
            txn.touch(keys::repo(from));
            txn.put(Cf::Aliases, folded(from), &Alias(to.clone()))
        })
    }

    /// The name by which `repo` is kept, if it is another: it was renamed, or is written in another case than
    /// the repository that is known here. A repository that is known as it is written stands for itself unless
    /// it was renamed.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn canonical(&self, repo: &RepoId) -> Result<Option<RepoId>> {
        Ok(self.look(repo)?.canonical)
    }

    /// Who may read the content of a repository, by whatever name: what was said of that name, or of the one that it
    /// stands for, whichever lets fewer in. Of one that nobody said anything of: everyone. Every decision about
    /// access begins here.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn access(&self, repo: &RepoId) -> Result<Access> {
        let Look { access, canonical } = self.look(repo)?;
        let of_other = canonical.map(|other| self.look(&other)).transpose()?.and_then(|look| look.access);
        Ok(access.max(of_other).unwrap_or_default())
    }

    fn look(&self, repo: &RepoId) -> Result<Look> {
        self.inner.looks.get(repo, || {
            let access = self.facts(repo)?.map(|facts| facts.access);
            Ok(Look { access, canonical: self.find_canonical(repo)? })
        })
    }

    fn find_canonical(&self, repo: &RepoId) -> Result<Option<RepoId>> {
        let mut now = repo.clone();
        for _ in 0..MAX_RENAMES {
            match self.stands_for(&now)? {
                Some(to) if to == *repo => return Ok(None),
                Some(to) => now = to,
                None => break,
            }
        }
        Ok((now != *repo).then_some(now))
    }

    /// One step from a name to the one it stands for.
    fn stands_for(&self, repo: &RepoId) -> Result<Option<RepoId>> {
        let (key, folded) = (keys::repo(repo), folded(repo));
        let same_but_case = match self.db().get::<Alias>(Cf::Aliases, &folded)? {
            Some(Alias(to)) if self::folded(&to) != folded => return Ok(Some(to)),
            Some(Alias(to)) => to,
            None if key == folded => return Ok(None),
            None => keys::read_repo(&folded)?,
        };
        let other = same_but_case != *repo && !self.is_listed(&key)?;
        Ok((other && self.is_listed(&keys::repo(&same_but_case))?).then_some(same_but_case))
    }

    fn is_listed(&self, key: &[u8]) -> Result<bool> {
        Ok(self.db().has(Cf::Repos, key)? || self.db().has(Cf::Facts, key)?)
    }
}

/// Notes how the name of a repository that is listed is written, so that other spellings find it. The first one
/// that is listed keeps its name.
pub(super) fn note_case(txn: &mut Txn<'_>, repo: &RepoId) -> Result<()> {
    let key = folded(repo);
    if key != keys::repo(repo) && !txn.has(Cf::Aliases, &key)? {
        txn.touch(keys::repo(repo));
        txn.put(Cf::Aliases, key, &Alias(repo.clone()))?;
    }
    Ok(())
}

/// Other spellings no longer find a repository that is forgotten. A name that it had left behind stays a rename.
pub(super) fn forget_case(txn: &mut Txn<'_>, repo: &RepoId) -> Result<()> {
    let key = folded(repo);
    if txn.get::<Alias>(Cf::Aliases, &key)?.is_some_and(|Alias(to)| to == *repo) {
        txn.delete(Cf::Aliases, key);
    }
    Ok(())
}

/// `kind name`, the name in lower case (names are ASCII).
fn folded(repo: &RepoId) -> Vec<u8> {
    let mut key = keys::repo(repo);
    key.make_ascii_lowercase();
    key
}

#[cfg(test)]
mod tests {
    use hubless_types::RepoFacts;

    use super::super::tests::fixture;
    use super::*;

    fn repo(name: &str) -> RepoId {
        name.parse().unwrap()
    }

    #[test]
    fn renames_are_followed_and_end() {
        let f = fixture();
        let c = &f.catalogue;
        assert_eq!(c.canonical(&repo("bert")).unwrap(), None);
        c.put_alias(&repo("bert"), &repo("google/BERT")).unwrap();
        c.put_alias(&repo("google/bert"), &repo("Google/bert-base")).unwrap();
        for old in ["bert", "Bert", "google/BERT", "GOOGLE/bert"] {
            assert_eq!(c.canonical(&repo(old)).unwrap(), Some(repo("Google/bert-base")), "{old}");
        }
        assert_eq!(c.canonical(&repo("datasets/bert")).unwrap(), None, "another kind");

        c.put_alias(&repo("Google/bert-base"), &repo("bert")).unwrap();
        assert_eq!(c.canonical(&repo("bert")).unwrap(), None, "a circle leads nowhere");
        c.put_alias(&repo("bert"), &repo("bert")).unwrap();
        assert_eq!(c.canonical(&repo("bert")).unwrap(), None, "taken back");
        assert_eq!(c.canonical(&repo("google/bert")).unwrap(), Some(repo("bert")));
    }

    /// A name that was left behind is no way around what is said of the repository now.
    #[test]
    fn access_is_the_same_by_every_name() {
        let f = fixture();
        let c = &f.catalogue;
        let facts = |access| RepoFacts { access, ..RepoFacts::default() };
        c.put_facts(&repo("acme/old"), &facts(Access::Open)).unwrap();
        c.put_facts(&repo("acme/New"), &facts(Access::Private)).unwrap();
        assert_eq!(c.access(&repo("acme/old")).unwrap(), Access::Open);
        c.put_alias(&repo("acme/old"), &repo("acme/New")).unwrap();
        for name in ["acme/old", "ACME/OLD", "acme/new", "acme/New"] {
            assert_eq!(c.access(&repo(name)).unwrap(), Access::Private, "{name}");
        }
        assert_eq!(c.access(&repo("acme/none")).unwrap(), Access::Open);
    }

    #[test]
    fn a_name_in_another_case_finds_what_is_known() {
        let f = fixture();
        let c = &f.catalogue;
        c.put_facts(&repo("Acme/Tiny"), &RepoFacts::default()).unwrap();
        c.put_facts(&repo("acme/small"), &RepoFacts::default()).unwrap();
        assert_eq!(c.canonical(&repo("acme/tiny")).unwrap(), Some(repo("Acme/Tiny")));
        assert_eq!(c.canonical(&repo("ACME/small")).unwrap(), Some(repo("acme/small")));
        assert_eq!(c.canonical(&repo("Acme/Tiny")).unwrap(), None);
        assert_eq!(c.canonical(&repo("acme/huge")).unwrap(), None);
        // Both spellings are known: each is itself.
        c.put_facts(&repo("acme/tiny"), &RepoFacts::default()).unwrap();
        assert_eq!(c.canonical(&repo("acme/tiny")).unwrap(), None);
        assert_eq!(c.canonical(&repo("ACME/TINY")).unwrap(), Some(repo("Acme/Tiny")));
    }
}
