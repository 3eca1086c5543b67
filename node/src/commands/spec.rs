//! `org/name[@revision]`, as commands take it.

use std::str::FromStr;

use hubless_types::{ParseError, RepoId, RepoKind, Revision};

/// A repository and, if named, one of its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepoSpec {
    repo: RepoId,
    revision: Option<Revision>,
}

impl RepoSpec {
    /// A repository without a revision.
    pub(crate) const fn of(repo: RepoId) -> Self {
        Self { repo, revision: None }
    }

    /// The repository; with `dataset`, a name without a prefix means a dataset.
    pub(crate) fn repo(&self, dataset: bool) -> RepoId {
        match (dataset, self.repo.kind()) {
            // The name was checked when it was parsed, so a kind of its own cannot make it wrong.
            (true, RepoKind::Model) => {
                RepoId::new(RepoKind::Dataset, self.repo.name()).unwrap_or_else(|_| self.repo.clone())
            }
            _ => self.repo.clone(),
        }
    }

    /// The revision that was named, else `main`.
    pub(crate) fn revision(&self) -> Revision {
        self.revision.clone().unwrap_or_else(Revision::main)
    }
}

impl FromStr for RepoSpec {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s.split_once('@') {
            Some((repo, revision)) => Ok(Self { repo: repo.parse()?, revision: Some(revision.parse()?) }),
            None => Ok(Self { repo: s.parse()?, revision: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_names_repository_and_revision() {
        for (text, dataset, repo, revision) in [
            ("acme/tiny", false, "acme/tiny", "main"),
            ("acme/tiny@refs/pr/1", false, "acme/tiny", "refs/pr/1"),
            ("acme/rows", true, "datasets/acme/rows", "main"),
            ("datasets/acme/rows@v1", true, "datasets/acme/rows", "v1"),
            ("gpt2@a@b", false, "gpt2", "a@b"),
        ] {
            let spec: RepoSpec = text.parse().unwrap();
            assert_eq!((spec.repo(dataset).to_string().as_str(), spec.revision().as_str()), (repo, revision));
        }
        assert!("acme/tiny@".parse::<RepoSpec>().is_err());
    }
}
