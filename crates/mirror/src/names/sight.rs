//! Asks origins what a name means, and keeps what they say: the name, a signed statement of it, and what else is
//! said of the repository.
//!
//! **Invariant:** a token goes to one origin alone, the one that the repository is known from or else the first; and only
//! where nobody in particular is refused. What a private repository's names mean is neither kept nor signed. What one
//! origin has is not another's to open, to rename or to move.

use std::sync::Arc;
use std::time::Duration;

use hubless_origin::{Breaker, OriginError, OriginErrorKind, Seen};
use hubless_proof::sign_statement;
use hubless_store::{RefRecord, RefSource};
use hubless_types::{Access, RepoFacts, RepoId, Revision, StatementBody, Timestamp, Token};

use tokio::time::Instant;

use super::decide::Sight;
use crate::MirrorError;
use crate::mirror::Inner;
use crate::upstream::{Got, ask};
use crate::util::{blocking, locked};

/// How long a sight is not written down and signed anew while the name does not move, in seconds.
const SIGN_EVERY_SECS: u64 = 60;

/// Longest wait for all origins together to say what a name means: whoever asks is told within ten seconds, and what
/// witnesses and this node itself saw has its turn before that.
pub(super) const ORIGINS_TOGETHER: Duration = Duration::from_secs(7);

/// What an origin said, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The repository by its origin's name for it.
    pub(crate) repo: RepoId,
    pub(crate) sight: Sight,
    /// Whether it may be told to nobody but whoever asked.
    pub(crate) private: bool,
}

/// How far an origin is heard of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// Its word is kept: no other stands before it.
    Kept,
    /// It is told as long as the one before it, which the repository is known from, says nothing; and not kept.
    Told,
    /// It speaks of what another has, or this node publishes: it has said nothing.
    Nothing,
}

impl Inner {
    /// What the first origin that answers says of a name, kept. `Ok(None)` if there is no origin, or none has anything to
    /// say of it.
    ///
    /// # Errors
    /// The most telling refusal: one that needs the user's doing before one that needs patience, and that before
    /// "not here".
    pub(crate) async fn ask_origins(
        self: &Arc<Self>,
        repo: &RepoId,
        revision: &Revision,
        token: Option<&Token>,
    ) -> Result<Option<Told>, MirrorError> {
        let mut refusals: Vec<OriginError> = Vec::new();
        let home = self.home(repo)?;
        let open = self.access(repo)?.is_open();
        let deadline = Instant::now() + ORIGINS_TOGETHER;
        for (place, origin) in self.origins.iter().enumerate() {
            // Another's repository of the same name would open what this one keeps from strangers.
            if !open && place != home {
                continue;
            }
            let token = token.filter(|_| place == home);
            let within = self.config.answer_within.min(deadline.saturating_duration_since(Instant::now()));
            match self.ask_origin(place, repo, revision, token, within).await? {
                Ok(Some(told)) => return Ok(Some(told)),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%repo, %revision, %error, "an origin does not say what a name means");
                    if place == home && self.is_closed_by(repo, &error, origin.name()).await? {
                        return Err(error.into());
                    }
                    refusals.push(error);
                }
            }
        }
        // The first of equals.
        match refusals.into_iter().min_by_key(|e| weight(e.kind())) {
            Some(error) => Err(error.into()),
            None => Ok(None),
        }
    }

    /// What the origin at `place` says of a name; `None` if that is not its to say.
    pub(super) async fn ask_origin(
        self: &Arc<Self>,
        place: usize,
        repo: &RepoId,
        revision: &Revision,
        token: Option<&Token>,
        within: Duration,
    ) -> Result<Result<Option<Told>, OriginError>, MirrorError> {
        let Some(origin) = self.origins.get(place) else { return Ok(Ok(None)) };
        let status = origin.status();
        if status.breaker == Breaker::Open {
            let (wait, why) = (status.wait.unwrap_or_default(), status.trouble.unwrap_or_default());
            return Ok(Err(OriginError::Resting { origin: status.name, why, wait }));
        }
        let closed = self.access(repo)? == Access::Private;
        let question =
            |token: Option<Token>| async move { origin.resolve(repo, revision, token.as_ref()).await };
        let asked = tokio::time::timeout(within, ask(token, closed, question)).await;
        let stalled = || OriginError::Stalled { origin: origin.name().to_owned(), after: within };
        let got = match asked.unwrap_or_else(|_| Err(stalled())) {
            Ok(got) => got,
            Err(error) => return Ok(Err(error)),
        };
        let (inner, repo, revision) = (Arc::clone(self), repo.clone(), revision.clone());
        blocking(move || inner.keep_sight(&repo, &revision, place, got).map(Ok)).await
    }

    /// How far the origin at `place` is heard, which says that what is asked for as `asked` is `repo`. Blocks a little.
    fn hearing(&self, asked: &RepoId, repo: &RepoId, place: usize) -> Result<Hearing, MirrorError> {
        let mut hearing = Hearing::Kept;
        for name in [asked, repo] {
            let home = self.known_home(name)?;
            let is_closed = !self.access(name)?.is_open();
            let refs = self.store.catalogue().refs(name)?;
            let is_published = refs.iter().any(|(_, row)| row.by == RefSource::Published);
            // Who names its own as another's would have what is said of its own said of the other's.
            let is_others = is_published || home.is_some_and(|home| home != place);
            if is_closed && place != home.unwrap_or_default() || asked != repo && is_others {
                return Ok(Hearing::Nothing);
            }
            if home.is_some_and(|home| home < place) {
                hearing = Hearing::Told;
            }
        }
        Ok(hearing)
    }

    /// Whether an origin's refusal is its last word about a repository of its own; then it was written down.
    async fn is_closed_by(
        self: &Arc<Self>,
        repo: &RepoId,
        error: &OriginError,
        origin: &str,
    ) -> Result<bool, MirrorError> {
        let (inner, repo, origin, kind) = (Arc::clone(self), repo.clone(), origin.to_owned(), error.kind());
        blocking(move || inner.note_refusal(&repo, &origin, kind)).await
    }

    /// Writes down what an origin said; `None` if it is not its to say. Blocks; call it inside a tokio runtime.
    fn keep_sight(
        &self,
        asked: &RepoId,
        revision: &Revision,
        place: usize,
        got: Got<Seen>,
    ) -> Result<Option<Told>, MirrorError> {
        let Seen { repo, commit, mut facts } = got.value;
        let origin = self.origins.get(place).map(|origin| origin.name().to_owned()).unwrap_or_default();
        let hearing = self.hearing(asked, &repo, place)?;
        if hearing == Hearing::Nothing {
            tracing::warn!(%repo, %asked, origin, "an origin speaks of a repository that is not its own; passed over");
            return Ok(None);
        }
        // What only a token shows is private, whatever its host says, or does not say, of it.
        if got.by_token && facts.access.is_open() {
            facts.access = Access::Private;
        }
        let private = facts.access == Access::Private;
        let open = facts.access.is_open();
        let mut sight = Sight { origin, commit, seen: self.clock.now() };
        match (hearing, private) {
            (Hearing::Kept, true) => self.keep_facts(&repo, facts)?,
            (Hearing::Kept, false) => {
                self.end_rename(&repo)?;
                self.keep_facts(&repo, facts)?;
                self.keep_rename(asked, &repo)?;
                sight.seen = self.keep_name(&repo, revision, &sight, open)?;
            }
            (Hearing::Told | Hearing::Nothing, _) => {}
        }
        Ok(Some(Told { repo, sight, private }))
    }

    fn keep_facts(&self, repo: &RepoId, facts: RepoFacts) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let known = catalogue.facts(repo)?;
        // A plain git host says nothing: what was read from the files stays.
        let silent = facts == RepoFacts { access: facts.access, ..RepoFacts::default() };
        let facts = match &known {
            Some(known) if silent => RepoFacts { access: facts.access, ..known.clone() },
            _ => facts,
        };
        self.put_facts(repo, facts)
    }

    /// Notes where the name points, with a statement that others may be given; returns when it is said to be so.
    fn keep_name(
        &self,
        repo: &RepoId,
        revision: &Revision,
        sight: &Sight,
        open: bool,
    ) -> Result<Timestamp, MirrorError> {
        let catalogue = self.store.catalogue();
        let before = catalogue.get_ref(repo, revision)?;
        // A clock that was set back must not make this sight older than what it follows.
        let seen = before.as_ref().map_or(sight.seen, |b| b.seen.max(sight.seen));
        let by = RefSource::Origin(sight.origin.clone());
        match &before {
            // What this node publishes is not an origin's to say.
            Some(b) if b.by == RefSource::Published => return Ok(seen),
            Some(b) if b.commit == sight.commit && b.by == by && seen < b.seen.plus(SIGN_EVERY_SECS) => {
                return Ok(seen);
            }
            _ => {}
        }
        let record = RefRecord { commit: sight.commit, seen, by };
        if let Some(moved) = catalogue.move_ref(repo, revision, &record)? {
            tracing::info!(%repo, %revision, from = %moved.from, to = %moved.to, "a name moved");
            locked(&self.memory).forget(repo);
        }
        if before.is_none() && self.lists_as_tag(&sight.origin, repo, revision) {
            catalogue.note_tags(repo, &[(revision.clone(), true)])?;
        }
        let body = StatementBody {
            repo: repo.clone(),
            revision: revision.clone(),
            commit: sight.commit,
            origin: Some(sight.origin.clone()),
            seen,
            links: None,
        };
        catalogue.put_statement(&sign_statement(body, &self.key))?;
        if open {
            self.announce_repo(repo)?;
        }
        Ok(seen)
    }
}

/// The lower, the more it tells.
const fn weight(kind: OriginErrorKind) -> u8 {
    match kind {
        OriginErrorKind::BadToken => 0,
        OriginErrorKind::Gated => 1,
        OriginErrorKind::Disabled => 2,
        OriginErrorKind::Busy => 3,
        OriginErrorKind::Unavailable => 4,
        OriginErrorKind::Wrong => 5,
        OriginErrorKind::RevisionNotFound => 6,
        OriginErrorKind::EntryNotFound => 7,
        OriginErrorKind::RepoNotFound => 8,
    }
}

/// Whether the origin says for certain that there is no such thing.
pub(crate) const fn is_absent(kind: OriginErrorKind) -> bool {
    matches!(kind, OriginErrorKind::RepoNotFound | OriginErrorKind::RevisionNotFound)
}
