//! Remembers, of the repositories that were asked for last, what every request needs to know first: who may read it, and
//! whether it is kept by another name.
//!
//! **Invariant:** what is remembered is what the tables say: a change of what is listed, of facts or of names
//! forgets everything, also what somebody read meanwhile and was about to remember.

use std::collections::HashMap;
use std::sync::Mutex;

use hubless_types::{Access, RepoId};

use super::lock;

/// Repositories that are remembered; then it begins anew.
const MAX_LOOKS: usize = 8192;

/// What was found of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) access: Option<Access>,
    pub(super) canonical: Option<RepoId>,
}

/// What was found lately.
#[derive(Default)]
pub(super) struct Looks(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    looks: HashMap<RepoId, Look>,
    /// Counts changes of the tables.
    changes: u64,
}

impl Looks {
    /// What is remembered of `repo`, else what `find` finds.
    pub(super) fn get<E>(&self, repo: &RepoId, find: impl FnOnce() -> Result<Look, E>) -> Result<Look, E> {
        let changes = {
            let kept = lock(&self.0);
            if let Some(look) = kept.looks.get(repo) {
                return Ok(look.clone());
            }
            kept.changes
        };
        let found = find()?;
        let mut kept = lock(&self.0);
        if kept.changes == changes {
            if kept.looks.len() >= MAX_LOOKS {
                kept.looks.clear();
            }
            kept.looks.insert(repo.clone(), found.clone());
        }
        Ok(found)
    }

    /// The tables changed.
    pub(super) fn forget(&self) {
        let mut kept = lock(&self.0);
        kept.changes += 1;
        if !kept.looks.is_empty() {
            kept.looks.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_while_it_was_read_is_not_remembered() {
        let (looks, repo) = (Looks::default(), "acme/tiny".parse::<RepoId>().unwrap());
        let open = Look { access: Some(Access::Open), canonical: None };
        let gated = Look { access: Some(Access::GatedAuto), canonical: None };
        let read = |find: &dyn Fn() -> Look| looks.get(&repo, || Ok::<_, ()>(find())).unwrap();
        let late = read(&|| {
            looks.forget();
            open.clone()
        });
        assert_eq!((late, read(&|| gated.clone())), (open.clone(), gated.clone()));
        assert_eq!(read(&|| open.clone()), gated, "remembered");
        looks.forget();
        assert_eq!(read(&|| open.clone()), open);
    }
}
