//! What is said of repositories beside their files: who may read them, their tags, their counts.
//!
//! **Invariant:** one repository's facts take a bounded number of bytes, whoever told them.
//! **Not here:** whether they are true; nothing of it is proven.

use hubless_types::{RepoFacts, RepoId};

use super::codec::Record;
use super::db::Cf;
use super::txn::Txn;
use super::{Catalogue, aliases, keys};
use crate::error::Result;

/// Most tags that are kept for a repository; a dataset in many languages has some hundreds.
pub const TAGS_MAX: usize = 1024;
/// Longest tag (and task, and library's name) that is kept, in bytes; longer ones are left out.
pub const TAG_MAX_BYTES: usize = 256;
/// Longest card that is kept, as JSON text, in bytes; a longer one is left out.
pub const CARD_MAX_BYTES: usize = 256 * 1024;

impl Record for RepoFacts {
    const NAME: &'static str = "facts";
}

impl Catalogue {
    /// Keeps what is said of a repository, in place of what was said before. What passes [`TAGS_MAX`],
    /// [`TAG_MAX_BYTES`] or [`CARD_MAX_BYTES`] is left out.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_facts(&self, repo: &RepoId, facts: &RepoFacts) -> Result<()> {
        self.change(|txn| put(txn, repo, facts))
    }

    /// What is said of a repository; `None` if nobody said anything.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn facts(&self, repo: &RepoId) -> Result<Option<RepoFacts>> {
        self.db().get(Cf::Facts, &keys::repo(repo))
    }

    /// [`Catalogue::facts`] of many repositories, in their order.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn facts_of(&self, repos: &[RepoId]) -> Result<Vec<Option<RepoFacts>>> {
        let keys: Vec<_> = repos.iter().map(keys::repo).collect();
        self.db().get_many(Cf::Facts, &keys)
    }
}

pub(super) fn put(txn: &mut Txn<'_>, repo: &RepoId, facts: &RepoFacts) -> Result<()> {
    let (key, facts) = (keys::repo(repo), bounded(facts));
    if txn.get::<RepoFacts>(Cf::Facts, &key)?.as_ref() == Some(&facts) {
        return Ok(());
    }
    aliases::note_case(txn, repo)?;
    txn.touch(key.clone());
    txn.put(Cf::Facts, key, &facts)
}

fn bounded(facts: &RepoFacts) -> RepoFacts {
    let fits = |text: &&String| !text.is_empty() && text.len() <= TAG_MAX_BYTES;
    RepoFacts {
        tags: facts.tags.iter().filter(fits).take(TAGS_MAX).cloned().collect(),
        pipeline_tag: facts.pipeline_tag.clone().filter(|t| fits(&t)),
        library_name: facts.library_name.clone().filter(|t| fits(&t)),
        card: facts.card.clone().filter(|card| card.len() <= CARD_MAX_BYTES),
        access: facts.access,
        downloads: facts.downloads,
        likes: facts.likes,
        created: facts.created,
        modified: facts.modified,
    }
}

#[cfg(test)]
mod tests {
    use hubless_types::{Access, Timestamp};

    use super::super::tests::fixture;
    use super::*;

    #[test]
    fn facts_come_back_and_are_bounded() {
        let f = fixture();
        let repo: RepoId = "acme/tiny".parse().unwrap();
        assert_eq!(f.catalogue.facts(&repo).unwrap(), None);
        let facts = RepoFacts {
            access: Access::GatedManual,
            tags: vec!["license:mit".into(), "region:us".into()],
            pipeline_tag: Some("text-generation".into()),
            card: Some("{}".into()),
            downloads: 7,
            modified: Timestamp(9),
            ..RepoFacts::default()
        };
        f.catalogue.put_facts(&repo, &facts).unwrap();
        assert_eq!(f.catalogue.facts(&repo).unwrap(), Some(facts.clone()));

        let long = "x".repeat(TAG_MAX_BYTES + 1);
        let mut hostile = facts.clone();
        hostile.tags = vec!["y".to_owned(); TAGS_MAX * 2];
        hostile.tags.insert(0, long.clone());
        hostile.library_name = Some(long);
        hostile.card = Some("z".repeat(CARD_MAX_BYTES + 1));
        f.catalogue.put_facts(&repo, &hostile).unwrap();
        let kept = f.catalogue.facts(&repo).unwrap().unwrap();
        assert_eq!((kept.tags.len(), kept.library_name, kept.card), (TAGS_MAX, None, None));
        assert_eq!(kept.tags[0], "y");
        let others = ["acme/none".parse().unwrap(), repo];
        let found = f.catalogue.facts_of(&others).unwrap();
        assert_eq!((found[0].is_none(), found[1].as_ref().unwrap().downloads), (true, 7));
    }
}
