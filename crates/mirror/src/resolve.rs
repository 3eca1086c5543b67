//! Which commit a name means: asks this node's catalogue and its peers, and lets [`decide`] choose.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt as _;
use hubless_discovery::DhtKey;
use hubless_proof::verify_statement;
use hubless_store::{RefRecord, RefSource};
use hubless_transfer::PeerClient as _;
use hubless_types::{CommitId, NodeId, RepoId, Revision, Statement};
use tokio::time::Instant;

use crate::mirror::Inner;
use crate::names::decide::{Answer, Question, decide, is_timely};
use crate::sources::{ASKED_AT_ONCE, Net};
use crate::util::locked;
use crate::{Accept, Caller, Mirror, MirrorError, Resolved, ResolvedBy};

/// How much longer others are waited for once a usable answer is known.
const GRACE: Duration = Duration::from_secs(1);
/// How long an answer is good for the same question, so that a burst of requests asks the peers once.
const GOOD_FOR: Duration = Duration::from_secs(3);
/// Questions whose answers are remembered for that long.
const MAX_REMEMBERED: usize = 256;
/// Statements of one peer's answer that are looked at; those of allowed signers come first.
const MAX_FROM_ONE_PEER: usize = 64;

/// Whether a recent answer will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// An answer of the last seconds will do.
    Recently,
    /// Peers are asked now.
    Now,
}

/// Names that were asked of the peers a moment ago.
#[derive(Default)]
pub(crate) struct Asked(VecDeque<(RepoId, Revision, Vec<NodeId>, Instant)>);

impl Asked {
    fn is_recent(&self, repo: &RepoId, revision: &Revision, allowed: &[NodeId]) -> bool {
        let fresh = |at: &Instant| at.elapsed() < GOOD_FOR;
        self.0.iter().any(|(r, v, a, at)| r == repo && v == revision && a == allowed && fresh(at))
    }

    fn remember(&mut self, repo: &RepoId, revision: &Revision, allowed: &[NodeId]) {
        self.0.retain(|(_, _, _, at)| at.elapsed() < GOOD_FOR);
        if self.0.len() == MAX_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((repo.clone(), revision.clone(), allowed.to_vec(), Instant::now()));
    }
}

impl Mirror {
    /// Which commit `revision` of `repo` is.
    ///
    /// A commit id needs nobody's word. A name means what this node published, adopted or accepted before, or
    /// what a node listed in `trusted` or in the caller's `accept` signed, whichever is the newest. Peers are waited for at most
    /// `lookup_timeout`, and about a second where an answer is known already. What is accepted is kept, so that
    /// it is known here later without that, and with no peer in reach.
    ///
    /// # Errors
    /// [`MirrorError::Untrusted`] if only others say something; [`MirrorError::RevisionNotFound`] or
    /// [`MirrorError::RepoNotFound`] if nobody does.
    pub async fn resolve(
        &self,
        repo: &RepoId,
        revision: &Revision,
        caller: &Caller,
    ) -> Result<Resolved, MirrorError> {
        self.inner.resolve(repo, revision, caller, Ask::Recently).await
    }

    /// The names of `repo` that are known here, without those that are commit ids.
    pub fn refs(&self, repo: &RepoId) -> Result<Vec<(Revision, RefRecord)>, MirrorError> {
        let mut refs = self.inner.store.catalogue().refs(repo)?;
        refs.retain(|(revision, _)| revision.as_commit().is_none());
        Ok(refs)
    }

    /// Whether anything of `repo` is known here.
    pub fn knows(&self, repo: &RepoId) -> Result<bool, MirrorError> {
        self.inner.knows(repo)
    }
}

impl Inner {
    pub(crate) async fn resolve(
        &self,
        repo: &RepoId,
        revision: &Revision,
        caller: &Caller,
        ask: Ask,
    ) -> Result<Resolved, MirrorError> {
        if let Some(commit) = revision.as_commit() {
            return self.resolve_commit(repo, revision, commit);
        }
        let allowed = self.allowed(&caller.accept);
        let local = self.store.catalogue().get_ref(repo, revision)?;
        if let Some(net) = self.net_worth_asking(repo, revision, &allowed, local.is_some(), ask) {
            let heard = ask_peers(self, net, repo, Some(revision), &allowed, local.is_some()).await;
            self.keep_statements(&heard, &allowed)?;
            // Only an answer is remembered: who finds nobody may ask again at once.
            if local.is_some() || heard.iter().any(|s| allowed.contains(&s.signer)) {
                locked(&self.asked).remember(repo, revision, &allowed);
            }
            return self.conclude(repo, revision, &allowed, local, heard).await;
        }
        self.conclude(repo, revision, &allowed, local, Vec::new()).await
    }

    fn resolve_commit(
        &self,
        repo: &RepoId,
        revision: &Revision,
        commit: CommitId,
    ) -> Result<Resolved, MirrorError> {
        // A row under a commit id is an adopted snapshot (and names the commit that stands for it here), or
        // says since when the commit was asked for.
        let row = self.store.catalogue().get_ref(repo, revision)?;
        let now = self.clock.now();
        let seen = row.as_ref().map_or(now, |r| r.seen);
        let by = match row.map(|r| r.by) {
            Some(RefSource::Adopted) => ResolvedBy::LastSeen { by: RefSource::Adopted },
            _ => ResolvedBy::Commit,
        };
        let age = now.0.saturating_sub(seen.0);
        Ok(Resolved { repo: repo.clone(), commit, by, seen, age, fork: None })
    }

    /// Whose statements count: the configured ones, this node itself, and those named for this request.
    pub(crate) fn allowed(&self, accept: &Accept) -> Vec<NodeId> {
        let mut allowed = self.config.trusted.clone();
        allowed.extend(&accept.from);
        allowed.push(self.node);
        allowed.sort();
        allowed.dedup();
        allowed
    }

    fn net_worth_asking(
        &self,
        repo: &RepoId,
        revision: &Revision,
        allowed: &[NodeId],
        known: bool,
        ask: Ask,
    ) -> Option<&Net> {
        let net = self.net.as_ref()?;
        // Where only this node's own word counts and it is here, nobody can change the answer.
        let settled = known && allowed == [self.node];
        let recent = ask == Ask::Recently && locked(&self.asked).is_recent(repo, revision, allowed);
        (!settled && !recent).then_some(net)
    }

    async fn conclude(
        &self,
        repo: &RepoId,
        revision: &Revision,
        allowed: &[NodeId],
        local: Option<RefRecord>,
        mut statements: Vec<Statement>,
    ) -> Result<Resolved, MirrorError> {
        let catalogue = self.store.catalogue();
        statements.extend(catalogue.statements(repo, Some(revision))?);
        let now = self.clock.now();
        let question = Question {
            origin: None,
            local: local.as_ref(),
            statements: &statements,
            me: self.node,
            asked: allowed,
            trusted: &self.config.trusted,
            witnesses: &self.config.witnesses,
            threshold: self.config.threshold,
            now,
        };
        match decide(&question) {
            Answer::Is(record, by) => {
                if local.as_ref() != Some(&record) {
                    catalogue.set_ref(repo, revision, record.clone())?;
                    self.announce_repo(repo)?;
                }
                let age = now.0.saturating_sub(record.seen.0);
                let (repo, commit, seen) = (repo.clone(), record.commit, record.seen);
                Ok(Resolved { repo, commit, by, seen, age, fork: None })
            }
            Answer::Split(said) => Err(MirrorError::Split {
                repo: repo.clone(),
                revision: revision.clone(),
                threshold: self.config.threshold,
                said,
            }),
            Answer::Untrusted(said) => {
                Err(MirrorError::Untrusted { repo: repo.clone(), revision: revision.clone(), said })
            }
            Answer::Unknown => Err(self.not_found(repo, revision).await?),
        }
    }

    /// Tells a name that nobody knows from a repository that nobody knows.
    async fn not_found(&self, repo: &RepoId, revision: &Revision) -> Result<MirrorError, MirrorError> {
        let mut known = self.knows(repo)?;
        if let (false, Some(net)) = (known, &self.net) {
            known = !ask_peers(self, net, repo, None, &[], false).await.is_empty();
        }
        let (repo, revision) = (repo.clone(), revision.clone());
        Ok(if known {
            MirrorError::RevisionNotFound { repo, revision }
        } else {
            MirrorError::RepoNotFound { repo }
        })
    }

    pub(crate) fn knows(&self, repo: &RepoId) -> Result<bool, MirrorError> {
        let catalogue = self.store.catalogue();
        Ok(!catalogue.refs(repo)?.is_empty() || !catalogue.commits_of(repo)?.is_empty())
    }

    /// Keeps what was heard, so that this node can pass it on; the catalogue bounds how much.
    fn keep_statements(&self, heard: &[Statement], allowed: &[NodeId]) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        for statement in heard.iter().filter(|s| s.signer != self.node) {
            if allowed.contains(&statement.signer) {
                catalogue.put_trusted_statement(statement)?;
            } else {
                catalogue.put_statement(statement)?;
            }
        }
        Ok(())
    }
}

/// Statements about `repo` (and `revision`) that peers send, those whose signature and time hold.
async fn ask_peers(
    inner: &Inner,
    net: &Net,
    repo: &RepoId,
    revision: Option<&Revision>,
    allowed: &[NodeId],
    known: bool,
) -> Vec<Statement> {
    let peers = &net.peers;
    let answers = net
        .sources(&[DhtKey::Repo(repo.clone())])
        .map(|peer| async move { peers.statements(&peer, repo, revision).await.unwrap_or_default() })
        .buffer_unordered(ASKED_AT_ONCE);
    futures::pin_mut!(answers);
    let mut deadline =
        Instant::now() + if known { net.lookup_timeout.min(GRACE) } else { net.lookup_timeout };
    let mut heard = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout_at(deadline, answers.next()).await {
        let good = good_ones(answer, repo, revision, allowed, inner);
        if good.iter().any(|s| allowed.contains(&s.signer)) {
            deadline = deadline.min(Instant::now() + GRACE);
        }
        heard.extend(good);
    }
    heard
}

fn good_ones(
    mut answer: Vec<Statement>,
    repo: &RepoId,
    revision: Option<&Revision>,
    allowed: &[NodeId],
    inner: &Inner,
) -> Vec<Statement> {
    let now = inner.clock.now();
    answer.retain(|s| &s.body.repo == repo && revision.is_none_or(|r| &s.body.revision == r));
    answer.sort_by_key(|s| !allowed.contains(&s.signer));
    answer.truncate(MAX_FROM_ONE_PEER);
    answer.retain(|s| is_timely(s, now) && verify_statement(s).is_ok());
    answer
}
