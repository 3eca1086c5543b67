//! All that is known of a repository's names: what `hubless names` shows.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use hubless_store::{Move, RefSource};
use hubless_types::{Access, CommitId, NodeId, RepoId, Revision, Statement, Timestamp};
use serde::Serialize;

use super::descent::Descent;
use super::{ForkKind, Resolved};
use crate::mirror::Inner;
use crate::resolve::Ask;
use crate::util::blocking;
use crate::{Caller, Mirror, MirrorError};

/// Names of one repository that are looked up now, beside `main`; of further ones it is shown what is known.
const MAX_LOOKED_UP: usize = 16;
/// Names that are looked up at the same time: an origin that is gone lets each wait.
const LOOKED_UP_AT_ONCE: usize = 8;
/// Most names of one repository that are shown.
const MAX_SHOWN: usize = 256;

/// All that is known of a repository's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamesReport {
    /// The repository, by the name that its origin uses now.
    pub repo: RepoId,
    /// Who may read it, where somebody said so.
    pub access: Option<Access>,
    /// Origins, in the order in which they are asked.
    pub origins: Vec<String>,
    /// Nodes of which `threshold` must agree on what they saw.
    pub witnesses: Vec<NodeId>,
    /// How many of them must agree.
    pub threshold: usize,
    /// Nodes whose word alone counts.
    pub trusted: Vec<NodeId>,
    /// Its names, sorted.
    pub names: Vec<NameReport>,
    /// Names that are not shown because there are too many.
    pub left_out: usize,
}

/// All that is known of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NameReport {
    /// The name.
    pub revision: Revision,
    /// What it means; `None` where that cannot be said.
    pub resolved: Option<Resolved>,
    /// On whose word, as people are told.
    pub by: Option<String>,
    /// Why it cannot be said.
    pub error: Option<String>,
    /// Who says what of it, newest first.
    pub said: Vec<Word>,
    /// How it moved as far as this node saw, newest first.
    pub moves: Vec<MoveReport>,
}

/// One signer's word for one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Who says it.
    pub signer: NodeId,
    /// What that one is here.
    pub role: Role,
    /// Where the name points, by its word.
    pub commit: CommitId,
    /// Where it was seen; `None` where the signer publishes it.
    pub origin: Option<String>,
    /// When it was seen so.
    pub seen: Timestamp,
    /// How long ago that was, in seconds.
    pub age: u64,
    /// Whether the BLAKE3 links of the commit's files are signed with it.
    pub links: bool,
}

/// What a signer is to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// This node itself.
    Here,
    /// Its word alone counts.
    Trusted,
    /// Some of them must agree.
    Witness,
    /// Nobody chose it.
    Stranger,
}

/// A name that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MoveReport {
    /// Where it pointed before.
    pub from: CommitId,
    /// Where it pointed then.
    pub to: CommitId,
    /// When that was seen.
    pub seen: Timestamp,
    /// Who said so.
    pub by: RefSource,
    /// `descends`, `diverged`, `rolled-back`, or `unknown` where the commits between are not held.
    pub descent: &'static str,
}

impl Mirror {
    /// All that is known of the names of `repo`: asks origins and peers, and shows who says what.
    ///
    /// # Errors
    /// [`MirrorError::RepoNotFound`] if nobody knows it; the refusal of its origin where it is private and
    /// `caller` may not know of it.
    pub async fn names(&self, repo: &RepoId, caller: &Caller) -> Result<NamesReport, MirrorError> {
        let inner = &self.inner;
        let repo = inner.store.catalogue().canonical(repo)?.unwrap_or_else(|| repo.clone());
        inner.check_existence(caller, &repo).await?;
        if let Some(mut heard) = inner.hear_peers(&repo, None, &caller.accept.from) {
            while heard.recv().await.is_some() {}
        }
        let mut names = inner.names_of(&repo)?;
        let nobody_knows = names.is_empty();
        names.insert(Revision::main());
        let left_out = names.len().saturating_sub(MAX_SHOWN);
        let report = |(n, revision): (usize, Revision)| {
            let repo = &repo;
            async move {
                let looked = match n < MAX_LOOKED_UP || revision == Revision::main() {
                    true => Some(inner.resolve(repo, &revision, caller, Ask::Now).await),
                    false => None,
                };
                match looked {
                    Some(Err(error)) if nobody_knows => Err(error),
                    looked => inner.name_report(repo, revision, looked).await,
                }
            }
        };
        let shown = names.into_iter().take(MAX_SHOWN).enumerate();
        let reports =
            futures::stream::iter(shown).map(report).buffered(LOOKED_UP_AT_ONCE).try_collect().await?;
        let config = &inner.config;
        Ok(NamesReport {
            access: inner.store.catalogue().facts(&repo)?.map(|facts| facts.access),
            repo,
            origins: inner.origins.iter().map(|origin| origin.name().to_owned()).collect(),
            witnesses: config.witnesses.clone(),
            threshold: config.threshold,
            trusted: config.trusted.clone(),
            names: reports,
            left_out,
        })
    }
}

impl Inner {
    /// Every name of `repo` of which anything is known.
    fn names_of(&self, repo: &RepoId) -> Result<BTreeSet<Revision>, MirrorError> {
        let catalogue = self.store.catalogue();
        let known = catalogue.refs(repo)?.into_iter().map(|(revision, _)| revision);
        let said = catalogue.statements(repo, None)?.into_iter().map(|s| s.body.revision);
        Ok(known.chain(said).filter(|revision| revision.as_commit().is_none()).collect())
    }

    /// What is known of one name, with what a look at it came to.
    pub(crate) async fn name_report(
        self: &Arc<Self>,
        repo: &RepoId,
        revision: Revision,
        looked: Option<Result<Resolved, MirrorError>>,
    ) -> Result<NameReport, MirrorError> {
        let (resolved, error) = match looked {
            Some(Ok(resolved)) => (Some(resolved), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let (inner, repo) = (Arc::clone(self), repo.clone());
        blocking(move || {
            let (catalogue, now) = (inner.store.catalogue(), inner.clock.now());
            let mut said: Vec<Word> = catalogue
                .statements(&repo, Some(&revision))?
                .into_iter()
                .map(|statement| inner.word(statement, now))
                .collect();
            said.sort_by_key(|word| (std::cmp::Reverse(word.seen), word.signer));
            let moves = catalogue.moves(&repo, &revision)?;
            let moves =
                moves.into_iter().rev().map(|moved| inner.move_report(moved)).collect::<Result<_, _>>()?;
            let by = resolved.as_ref().map(Resolved::by_text);
            Ok(NameReport { revision, resolved, by, error, said, moves })
        })
        .await
    }

    /// A statement, as people are shown it.
    pub(crate) fn word(&self, statement: Statement, now: Timestamp) -> Word {
        let Statement { body, signer, .. } = statement;
        let role = match signer {
            me if me == self.node => Role::Here,
            one if self.config.trusted.contains(&one) => Role::Trusted,
            one if self.config.witnesses.contains(&one) => Role::Witness,
            _ => Role::Stranger,
        };
        let (age, links) = (now.0.saturating_sub(body.seen.0), body.links.is_some());
        Word { signer, role, commit: body.commit, origin: body.origin, seen: body.seen, age, links }
    }

    fn move_report(&self, moved: Move) -> Result<MoveReport, MirrorError> {
        let descent = match self.descent_of(&moved)? {
            Descent::Descends => "descends",
            Descent::Fork(ForkKind::Diverged) => "diverged",
            Descent::Fork(ForkKind::RolledBack) => "rolled-back",
            Descent::Unknown => "unknown",
        };
        let Move { from, to, seen, by } = moved;
        Ok(MoveReport { from, to, seen, by, descent })
    }
}
