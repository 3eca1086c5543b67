//! Other spellings of repositories' names: former names, and names in the wrong case.
//!
//! **Invariant:** following aliases ends, whatever was put.

use hubless_types::{Access, CommitId, Pin, RepoId};

use super::codec::{self, Record};
use super::db::Cf;
use super::forget::IN_REPO;
use super::looks::Look;
use super::txn::Txn;
use super::{Catalogue, keys, pins, repos};
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

    /// Keeps under `to` all that was kept under `from` (commits, names, pins), and has `from` stand for it from now on. What
    /// `to` has already stays as it is; of `from` only what others signed is left.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn rename(&self, from: &RepoId, to: &RepoId) -> Result<()> {
        self.change(|txn| {
            hand_over(txn, from, to)?;
            txn.put(Cf::Aliases, folded(from), &Alias(to.clone()))
        })
    }

    /// Takes back that `from` stands for `to`: it is another repository's name now. What is kept under it is that one's
    /// which it was renamed to.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn end_rename(&self, from: &RepoId, to: &RepoId) -> Result<()> {
        self.change(|txn| {
            hand_over(txn, from, to)?;
            txn.put(Cf::Aliases, folded(from), &Alias(from.clone()))
        })
    }

    /// Forgets what a former name stands for; `false` if it is none.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn forget_rename(&self, from: &RepoId) -> Result<bool> {
        self.change(|txn| {
            let key = folded(from);
            let is_former = txn.get::<Alias>(Cf::Aliases, &key)?.is_some_and(|Alias(to)| folded(&to) != key);
            if is_former {
                txn.touch(keys::repo(from));
                txn.delete(Cf::Aliases, key);
            }
            Ok(is_former)
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

/// Tables whose rows are handed over as they are, where the other name has none of the same key.
const HANDED_OVER: [Cf; 4] = [Cf::Refs, Cf::Tags, Cf::Moves, Cf::KeptBack];

fn hand_over(txn: &mut Txn<'_>, from: &RepoId, to: &RepoId) -> Result<()> {
    txn.touch(keys::repo(from));
    txn.touch(keys::repo(to));
    if from == to {
        return Ok(());
    }
    let (key, prefix, before) = (keys::repo(from), keys::in_repo(from), txn.before());
    let rest = |key: &[u8]| key[prefix.len()..].to_vec();
    let mut has_refs = false;
    for commit in before.page(Cf::RepoCommits, &prefix, None, usize::MAX, |key, _| Ok(rest(key)))? {
        repos::add_commit(txn, to, keys::read_commit(&commit)?)?;
        txn.delete(Cf::CommitRepos, [&commit[..CommitId::LEN], &key].concat());
    }
    for cf in HANDED_OVER {
        let rows =
            before.page(cf, &prefix, None, usize::MAX, |key, value| Ok((rest(key), value.to_vec())))?;
        for (rest, value) in rows {
            has_refs |= cf == Cf::Refs;
            let key = keys::repo_and(to, &rest);
            if !txn.has(cf, &key)? {
                txn.put_bytes(cf, key, value);
            }
        }
    }
    let pins: Vec<Pin> = before.page(Cf::Pins, &prefix, None, usize::MAX, |_, value| codec::decode(value))?;
    for pin in pins {
        if !txn.has(Cf::Pins, &keys::repo_and(to, pin.revision.as_str().as_bytes()))? {
            pins::put(txn, &Pin { repo: to.clone(), ..pin })?;
        }
    }
    if has_refs {
        repos::note(txn, to)?;
    }
    IN_REPO.iter().for_each(|cf| txn.delete_all(*cf, &prefix));
    [Cf::Repos, Cf::Facts].into_iter().for_each(|cf| txn.delete(cf, key.clone()));
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
    use hubless_types::{RepoFacts, Revision, Timestamp};

    use super::super::records::{RefRecord, RefSource};
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

    /// What was kept under a former name is the renamed one's, and stays so when the name is somebody else's.
    #[test]
    fn what_a_renamed_repository_has_goes_with_it() {
        let f = fixture();
        let c = &f.catalogue;
        let (old, new, main, dev) =
            (repo("Acme/Old"), repo("acme/new"), Revision::main(), "dev".parse().unwrap());
        let commit = |n| CommitId::from_bytes([n; 20]);
        let record = |n| RefRecord { commit: commit(n), seen: Timestamp(n.into()), by: RefSource::Adopted };
        let pin = |repo: &RepoId, n| {
            let (repo, revision) = (repo.clone(), main.clone());
            Pin { repo, revision, commit: commit(n), since: Timestamp(1) }
        };
        for n in [1, 2] {
            c.add_commit_to_repo(&old, commit(n)).unwrap();
            c.move_ref(&old, &main, &record(n)).unwrap();
        }
        c.set_ref(&old, &dev, record(1)).unwrap();
        c.put_pin(&pin(&old, 2)).unwrap();
        c.set_ref(&new, &dev, record(3)).unwrap();
        c.rename(&old, &new).unwrap();
        assert_eq!(c.canonical(&repo("acme/old")).unwrap().as_ref(), Some(&new));
        assert_eq!(c.commits_of(&new).unwrap(), [commit(1), commit(2)]);
        assert_eq!(c.repos_of(commit(1)).unwrap(), std::slice::from_ref(&new));
        assert_eq!(c.get_ref(&new, &main).unwrap(), Some(record(2)));
        assert_eq!(c.get_ref(&new, &dev).unwrap(), Some(record(3)), "what it has stays");
        assert_eq!((c.moves(&new, &main).unwrap().len(), c.pins().unwrap()), (1, vec![pin(&new, 2)]));
        assert_eq!((c.refs(&old).unwrap().len(), c.repos(None, 9).unwrap()), (0, vec![new.clone()]));

        c.add_commit_to_repo(&old, commit(4)).unwrap();
        c.end_rename(&old, &new).unwrap();
        c.put_facts(&old, &RepoFacts::default()).unwrap();
        assert_eq!(c.canonical(&old).unwrap(), None);
        assert_eq!(c.canonical(&repo("acme/OLD")).unwrap().as_ref(), Some(&old), "other spellings find it");
        assert_eq!((c.commits_of(&old).unwrap().len(), c.commits_of(&new).unwrap().len()), (0, 3));
    }

    #[test]
    fn a_former_name_is_forgotten_and_a_spelling_is_not() {
        let f = fixture();
        let c = &f.catalogue;
        c.put_facts(&repo("Acme/Tiny"), &RepoFacts::default()).unwrap();
        c.put_alias(&repo("acme/old"), &repo("Acme/Tiny")).unwrap();
        let forgotten = |name| c.forget_rename(&repo(name)).unwrap();
        assert_eq!(
            (forgotten("ACME/old"), forgotten("acme/old"), forgotten("acme/tiny")),
            (true, false, false)
        );
        assert_eq!(c.canonical(&repo("acme/old")).unwrap(), None);
        assert_eq!(c.canonical(&repo("acme/tiny")).unwrap(), Some(repo("Acme/Tiny")));
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
