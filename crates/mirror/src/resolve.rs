//! Which commit a name means: asks origins and peers, and lets [`decide`] choose.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use hubless_origin::OriginErrorKind;
use hubless_store::{RefRecord, RefSource};
use hubless_types::{Access, CommitId, NodeId, RepoId, Revision, Statement, Timestamp, Token};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::mirror::Inner;
use crate::names::decide::{Answer, Question, Sight, decide};
use crate::names::{Heard, Outcome, Remembered, Told, is_absent};
use crate::util::{blocking, locked};
use crate::{Accept, Caller, Mirror, MirrorError, Resolved, ResolvedBy};

/// How long an origin is asked alone: most often it answers in this time, and peers need not be asked.
const HEAD_START: Duration = Duration::from_millis(100);
/// How much longer others are waited for once a usable answer is known, or one is known here; for a pull.
const GRACE: Duration = Duration::from_secs(1);
/// The same for a client at the door. Who answers later is heard all the same, for the next one who asks.
const SHORT_GRACE: Duration = Duration::from_millis(150);
/// How long peers are waited for where an origin says that there is no such thing, and nobody's word but this
/// node's own would count.
const ABSENT_WAIT: Duration = Duration::from_secs(1);

/// Whether a recent answer will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// An answer of the last seconds will do.
    Recently,
    /// Origins and peers are asked now.
    Now,
}

impl Mirror {
    /// Which commit `revision` of `repo` is.
    ///
    /// A commit id needs nobody's word. A name means, the first of these that says anything: what this node
    /// published; what an origin says within `answer_within`; what `threshold` of the `witnesses` saw at an origin;
    /// what a node listed in `trusted` or in the caller's `accept` signed; what was seen or accepted here last,
    /// which nothing older takes back. (A publisher in `accept` comes before the origin.)
    ///
    /// An answer of the last 3 s is given again, one of the last 15 s as well while it is renewed behind it. Else an
    /// origin is waited for at most `answer_within`, and peers at most `lookup_timeout`, or a moment where an answer
    /// is known already. What is learnt is kept, so that it is known here later with nobody in reach.
    ///
    /// # Errors
    /// [`MirrorError::Untrusted`] if only others say something; [`MirrorError::Split`] if witnesses disagree;
    /// [`MirrorError::Origin`] if an origin refuses, or fails where nobody else knows; [`MirrorError::RevisionNotFound`]
    /// or [`MirrorError::RepoNotFound`] if nobody knows it.
    pub async fn resolve(
        &self,
        repo: &RepoId,
        revision: &Revision,
        caller: &Caller,
    ) -> Result<Resolved, MirrorError> {
        self.inner.resolve(repo, revision, caller, Ask::Recently).await
    }

    /// The names of `repo` that are known here, without those that are commit ids.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn refs(&self, repo: &RepoId) -> Result<Vec<(Revision, RefRecord)>, MirrorError> {
        let mut refs = self.inner.store.catalogue().refs(repo)?;
        refs.retain(|(revision, _)| revision.as_commit().is_none());
        Ok(refs)
    }

    /// The one commit of `repo` known here whose id begins with these hexadecimal digits; `None` if there is none, or several.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn commit_by_prefix(&self, repo: &RepoId, digits: &str) -> Result<Option<CommitId>, MirrorError> {
        let mut commits = self.inner.store.catalogue().commits_of(repo)?;
        commits.extend(self.refs(repo)?.into_iter().map(|(_, record)| record.commit));
        commits.retain(|commit| commit.to_string().starts_with(digits));
        commits.sort_unstable();
        commits.dedup();
        Ok(commits.first().copied().filter(|_| commits.len() == 1))
    }

    /// Whether anything of `repo` is known here.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn knows(&self, repo: &RepoId) -> Result<bool, MirrorError> {
        self.inner.knows(repo)
    }
}

impl Inner {
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        repo: &RepoId,
        revision: &Revision,
        caller: &Caller,
        ask: Ask,
    ) -> Result<Resolved, MirrorError> {
        if let Some(commit) = revision.as_commit() {
            return self.resolve_commit(repo, revision, commit);
        }
        let accept = &caller.accept.from;
        if ask == Ask::Recently {
            match locked(&self.memory).recall(repo, revision, accept) {
                Remembered::Fresh(resolved) => return Ok(self.aged(resolved)),
                Remembered::Stale(resolved, renew) => {
                    if renew {
                        self.renew_later(repo, revision, accept);
                    }
                    return Ok(self.aged(resolved));
                }
                Remembered::Nothing => {}
            }
        }
        self.look(repo, revision, caller, ask).await
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
        let seen = row.as_ref().map_or_else(|| self.clock.now(), |r| r.seen);
        let mut resolved = Resolved::commit(repo.clone(), commit, seen);
        if let Some(RefSource::Adopted) = row.map(|r| r.by) {
            resolved.by = ResolvedBy::LastSeen { by: RefSource::Adopted };
        }
        Ok(self.aged(resolved))
    }

    fn aged(&self, resolved: Resolved) -> Resolved {
        let age = self.clock.now().0.saturating_sub(resolved.seen.0);
        Resolved { age, ..resolved }
    }

    /// Whose statements about links count: the configured ones, this node itself, and those named for this request.
    pub(crate) fn allowed(&self, accept: &Accept) -> Vec<NodeId> {
        let mut allowed = self.config.trusted.clone();
        allowed.extend(&accept.from);
        allowed.push(self.node);
        allowed.sort();
        allowed.dedup();
        allowed
    }

    /// Looks a name up behind an answer that is a few seconds old.
    fn renew_later(self: &Arc<Self>, repo: &RepoId, revision: &Revision, accept: &[NodeId]) {
        let (inner, repo, revision) = (Arc::clone(self), repo.clone(), revision.clone());
        let caller = Caller::taking(accept);
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            let looked = inner.look(&repo, &revision, &caller, Ask::Recently);
            if let Some(Err(error)) = cancel.run_until_cancelled(looked).await {
                tracing::debug!(%repo, %revision, %error, "a name could not be looked up anew");
                locked(&inner.memory).renewal_failed(&repo, &revision, &caller.accept.from);
            }
        });
    }

    /// Looks a name up; several who want the same one look once.
    async fn look(
        self: &Arc<Self>,
        repo: &RepoId,
        revision: &Revision,
        caller: &Caller,
        ask: Ask,
    ) -> Result<Resolved, MirrorError> {
        // Before anything is waited for: a look that ends meanwhile is as good as one of its own.
        let since = Instant::now();
        let (known, token) = (repo.clone(), caller.token.as_ref());
        let inner = Arc::clone(self);
        let (canonical, private) = blocking(move || {
            let canonical = inner.store.catalogue().canonical(&known)?.unwrap_or(known);
            let private = inner.access(&canonical)? == Access::Private;
            Ok((canonical, private))
        })
        .await?;
        if canonical != *repo {
            self.ask_of_former(repo, &canonical);
        }
        if private {
            return self.look_private(&canonical, revision, token).await;
        }
        let accept = &caller.accept.from;
        let _alone = self.looks.enter((repo.clone(), revision.clone())).await;
        match locked(&self.memory).since(repo, revision, accept, since) {
            Some(Outcome::Is(resolved)) => return Ok(resolved),
            Some(Outcome::Failed(error)) if token.is_none() => return Err(MirrorError::Shared(error)),
            _ => {}
        }
        let found = Look::new(self, &canonical, revision, caller, ask).run().await;
        match found {
            Ok(Found { resolved, private: true }) => Ok(resolved),
            Ok(Found { resolved, private: false }) => {
                let outcome = Outcome::Is(resolved.clone());
                locked(&self.memory).remember(repo, revision, accept, outcome);
                Ok(resolved)
            }
            Err(error) => {
                if let (None, Some(same)) = (token, copy_of(&error)) {
                    let outcome = Outcome::Failed(Arc::new(same));
                    locked(&self.memory).remember(repo, revision, accept, outcome);
                }
                Err(error)
            }
        }
    }

    /// What a private repository's names mean is asked of its origin for every request, with that request's token.
    async fn look_private(
        self: &Arc<Self>,
        repo: &RepoId,
        revision: &Revision,
        token: Option<&Token>,
    ) -> Result<Resolved, MirrorError> {
        match self.ask_origins(repo, revision, token).await {
            Ok(Some(told)) => Ok(of_origin(told)),
            Ok(None) => Err(self.not_let_in(repo, None)),
            Err(MirrorError::Origin(error)) if error.kind() == OriginErrorKind::RepoNotFound => {
                Err(self.not_let_in(repo, Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn knows(&self, repo: &RepoId) -> Result<bool, MirrorError> {
        let catalogue = self.store.catalogue();
        Ok(!catalogue.refs(repo)?.is_empty() || !catalogue.commits_of(repo)?.is_empty())
    }
}

/// The same error again, where it says something of the name.
fn copy_of(error: &MirrorError) -> Option<MirrorError> {
    Some(match error {
        MirrorError::RepoNotFound { repo } => MirrorError::RepoNotFound { repo: repo.clone() },
        MirrorError::RevisionNotFound { repo, revision } => {
            absent_error(true, repo.clone(), revision.clone())
        }
        MirrorError::Origin(error) => MirrorError::Origin(error.clone()),
        _ => return None,
    })
}

fn of_origin(told: Told) -> Resolved {
    let Sight { origin, commit, seen } = told.sight;
    Resolved { repo: told.repo, commit, by: ResolvedBy::Origin(origin), seen, age: 0, fork: None }
}

/// What a look came to.
struct Found {
    resolved: Resolved,
    /// It may be told to nobody but whoever asked.
    private: bool,
}

type OriginTold = Result<Option<Told>, MirrorError>;

/// One look at a name.
struct Look<'a> {
    inner: &'a Arc<Inner>,
    repo: &'a RepoId,
    revision: &'a Revision,
    caller: &'a Caller,
    ask: Ask,
    /// What an origin says, while it is asked.
    origin: Option<oneshot::Receiver<OriginTold>>,
    refused: Option<MirrorError>,
    /// What peers say, while they are asked.
    peers: Option<mpsc::Receiver<Heard>>,
    asked_peers: bool,
    heard: Vec<Statement>,
    /// Who gave its own statement itself: nobody else can have a newer one of it.
    spoke: HashSet<NodeId>,
    /// Until when peers are waited for.
    deadline: Instant,
}

impl<'a> Look<'a> {
    fn new(
        inner: &'a Arc<Inner>,
        repo: &'a RepoId,
        revision: &'a Revision,
        caller: &'a Caller,
        ask: Ask,
    ) -> Self {
        let (origin, refused, peers, heard, deadline) = (None, None, None, Vec::new(), Instant::now());
        let (asked_peers, spoke) = (false, HashSet::new());
        Self {
            inner,
            repo,
            revision,
            caller,
            ask,
            origin,
            refused,
            peers,
            asked_peers,
            heard,
            spoke,
            deadline,
        }
    }

    async fn run(mut self) -> Result<Found, MirrorError> {
        let local = self.inner.store.catalogue().get_ref(self.repo, self.revision)?;
        let own = local.as_ref().is_some_and(|l| l.by == RefSource::Published);
        let nobody_else = self.inner.allowed(&self.caller.accept) == [self.inner.node];
        // Where only this node's own word counts and it is here, nobody can change the answer.
        if !(own && nobody_else) {
            if !own && !self.inner.origins.is_empty() {
                self.ask_origin();
            }
            if let Some(told) = self.wait(local.as_ref()).await? {
                if !told.private {
                    self.inner.exchange_later(&told.repo);
                }
                return self.conclude(Some(told)).await;
            }
        }
        self.conclude(None).await
    }

    /// Asks origins in the background: what they say is kept even if whoever asked goes away.
    fn ask_origin(&mut self) {
        let (tell, told) = oneshot::channel();
        let (inner, repo, revision) = (Arc::clone(self.inner), self.repo.clone(), self.revision.clone());
        let token = self.caller.token.clone();
        let cancel = inner.cancel.clone();
        self.inner.tasks.spawn(async move {
            let asked = inner.ask_origins(&repo, &revision, token.as_ref());
            if let Some(answer) = cancel.run_until_cancelled(asked).await {
                let _ = tell.send(answer);
            }
        });
        self.origin = Some(told);
    }

    fn ask_peers(&mut self, known: bool) {
        if std::mem::replace(&mut self.asked_peers, true) {
            return;
        }
        let Some(net) = &self.inner.net else { return };
        let patience = if known { self.grace() } else { net.lookup_timeout };
        self.deadline = Instant::now() + patience.min(net.lookup_timeout);
        self.peers = self.inner.hear_peers(self.repo, Some(self.revision), &self.caller.accept.from);
    }

    const fn grace(&self) -> Duration {
        match self.ask {
            Ask::Now => GRACE,
            Ask::Recently => SHORT_GRACE,
        }
    }

    /// Waits for the origin, which has its budget, and for peers as long as that may change the answer.
    async fn wait(&mut self, local: Option<&RefRecord>) -> Result<Option<Told>, MirrorError> {
        let alone_until = Instant::now() + HEAD_START;
        if self.origin.is_none() || self.takes_publishers() {
            self.ask_peers(local.is_some());
        }
        let mut told = None;
        while self.origin.is_some() || self.peers.is_some() && (told.is_none() || self.takes_publishers()) {
            let (deadline, alone) = (self.deadline, !self.asked_peers);
            let (peers_asked, origin_asked) = (self.peers.is_some(), self.origin.is_some());
            let origin: OptionFuture<_> = self.origin.as_mut().into();
            let peers: OptionFuture<_> = self.peers.as_mut().map(mpsc::Receiver::recv).into();
            tokio::select! {
                Some(answer) = origin, if origin_asked => {
                    self.origin = None;
                    told = self.take_origin(answer.unwrap_or(Err(MirrorError::Stopped)))?;
                    match &told {
                        Some(_) => self.deadline = self.deadline.min(Instant::now() + self.grace()),
                        None => {
                            self.ask_peers(local.is_some());
                            self.hurry_if_absent();
                        }
                    }
                }
                Some(heard) = peers, if peers_asked => match heard {
                    Some(heard) => self.take_heard(heard, local),
                    None => self.peers = None,
                },
                () = sleep_until(alone_until), if alone => self.ask_peers(local.is_some()),
                () = sleep_until(deadline), if peers_asked => self.peers = None,
            }
        }
        Ok(told)
    }

    /// Whether a publisher that was named for this request comes before the origin.
    fn takes_publishers(&self) -> bool {
        !self.caller.accept.from.is_empty()
    }

    /// What an origin said; a refusal is remembered, in case that nobody else knows better.
    fn take_origin(&mut self, answer: OriginTold) -> Result<Option<Told>, MirrorError> {
        match answer {
            Ok(told) => Ok(told),
            // What its own origin has just closed is nobody else's to say.
            Err(MirrorError::Origin(error)) if self.inner.access(self.repo)? == Access::Private => {
                match error.kind() {
                    OriginErrorKind::RepoNotFound => Err(self.inner.not_let_in(self.repo, Some(error))),
                    _ => Err(error.into()),
                }
            }
            Err(error @ (MirrorError::Origin(_) | MirrorError::Stopped)) => {
                self.refused = Some(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn absent(&self) -> bool {
        matches!(&self.refused, Some(MirrorError::Origin(error)) if is_absent(error.kind()))
    }

    fn hurry_if_absent(&mut self) {
        let strangers_only = self.inner.allowed(&self.caller.accept) == [self.inner.node]
            && self.inner.config.witnesses.is_empty();
        if self.absent() && strangers_only {
            self.deadline = self.deadline.min(Instant::now() + ABSENT_WAIT);
        }
    }

    fn take_heard(&mut self, Heard { from, said }: Heard, local: Option<&RefRecord>) {
        if said.iter().any(|statement| statement.signer == from) {
            self.spoke.insert(from);
        }
        self.heard.extend(said);
        let question = self.question(None, local, &self.heard, self.inner.clock.now());
        let patience = match decide(&question) {
            Answer::Is(_, ResolvedBy::LastSeen { .. }) => return,
            Answer::Is(_, by) if self.is_last_word(&by) => Duration::ZERO,
            Answer::Is(..) => self.grace(),
            _ => return,
        };
        self.deadline = self.deadline.min(Instant::now() + patience);
    }

    /// Whether all whose word could change the answer have given it themselves: who is out of reach keeps nobody waiting.
    fn is_last_word(&self, by: &ResolvedBy) -> bool {
        let spoke = |node: &NodeId| *node == self.inner.node || self.spoke.contains(node);
        let (asked, config) = (&self.caller.accept.from, &self.inner.config);
        // Those that were named for this request come before all others.
        let first = matches!(by, ResolvedBy::Publisher(node) if asked.contains(node));
        asked.iter().all(spoke) && (first || config.witnesses.iter().chain(&config.trusted).all(spoke))
    }

    fn question<'q>(
        &'q self,
        origin: Option<&'q Sight>,
        local: Option<&'q RefRecord>,
        statements: &'q [Statement],
        now: Timestamp,
    ) -> Question<'q> {
        let config = &self.inner.config;
        Question {
            origin,
            local,
            statements,
            me: self.inner.node,
            asked: &self.caller.accept.from,
            trusted: &config.trusted,
            witnesses: &config.witnesses,
            threshold: config.threshold,
            now,
        }
    }

    async fn conclude(self, told: Option<Told>) -> Result<Found, MirrorError> {
        if let Some(told) = told.as_ref().filter(|told| told.private) {
            return Ok(Found { resolved: of_origin(told.clone()), private: true });
        }
        let repo = told.as_ref().map_or(self.repo, |told| &told.repo);
        let catalogue = self.inner.store.catalogue();
        let mut statements = self.heard.clone();
        statements.extend(catalogue.statements(repo, Some(self.revision))?);
        let (local, now) = (catalogue.get_ref(repo, self.revision)?, self.inner.clock.now());
        let sight = told.as_ref().map(|told| &told.sight);
        match decide(&self.question(sight, local.as_ref(), &statements, now)) {
            Answer::Is(record, by) => {
                // What an origin says was kept when it said it.
                if !matches!(by, ResolvedBy::Origin(_)) && local.as_ref() != Some(&record) {
                    catalogue.move_ref(repo, self.revision, &record)?;
                    self.inner.announce_repo(repo)?;
                }
                let fork = self.inner.fork_of(repo, self.revision, record.commit, now)?;
                let age = now.0.saturating_sub(record.seen.0);
                let (repo, commit, seen) = (repo.clone(), record.commit, record.seen);
                Ok(Found { resolved: Resolved { repo, commit, by, seen, age, fork }, private: false })
            }
            Answer::Split(said) => Err(MirrorError::Split {
                repo: repo.clone(),
                revision: self.revision.clone(),
                threshold: self.inner.config.threshold,
                said,
            }),
            Answer::Untrusted(said) => {
                Err(MirrorError::Untrusted { repo: repo.clone(), revision: self.revision.clone(), said })
            }
            Answer::Unknown => Err(self.not_found().await?),
        }
    }

    /// Why nobody knows the name: what an origin said, else whether anybody knows the repository.
    async fn not_found(mut self) -> Result<MirrorError, MirrorError> {
        let absent = self.absent();
        let (repo, revision) = (self.repo.clone(), self.revision.clone());
        match self.refused.take() {
            // It was asked as well, and peers a moment ago: there is no need to ask them again.
            Some(MirrorError::Origin(error)) if absent => {
                let known =
                    error.kind() == OriginErrorKind::RevisionNotFound || self.inner.knows(self.repo)?;
                return Ok(absent_error(known, repo, revision));
            }
            Some(error) => return Ok(error),
            None => {}
        }
        let mut known = self.inner.knows(self.repo)?;
        if let (false, Some(mut heard)) = (known, self.inner.hear_peers(self.repo, None, &[])) {
            while let (false, Some(heard)) = (known, heard.recv().await) {
                known = !heard.said.is_empty();
            }
        }
        Ok(absent_error(known, repo, revision))
    }
}

fn absent_error(known: bool, repo: RepoId, revision: Revision) -> MirrorError {
    if known { MirrorError::RevisionNotFound { repo, revision } } else { MirrorError::RepoNotFound { repo } }
}
