//! Statements that peers send of a name: asked for, checked, kept.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hubless_discovery::DhtKey;
use hubless_proof::verify_statement;
use hubless_transfer::PeerClient as _;
use hubless_types::{NodeId, RepoId, Revision, Statement};
use tokio::sync::mpsc;

use super::decide::is_timely;
use crate::MirrorError;
use crate::mirror::Inner;
use crate::sources::{ASKED_AT_ONCE, MAX_SOURCES};
use crate::util::{blocking, locked};

/// Statements of one peer's answer that are looked at; those of signers who count come first.
const MAX_FROM_ONE_PEER: usize = 64;
/// Repositories whose statements are fetched from peers in the background at once.
pub(crate) const EXCHANGES_AT_ONCE: usize = 4;
/// How often a repository's statements are fetched from peers while its origin answers.
const EXCHANGE_EVERY: Duration = Duration::from_secs(600);

/// What one peer answered, as far as it holds.
pub(crate) struct Heard {
    /// Who answered; the statements may be others'.
    pub(crate) from: NodeId,
    pub(crate) said: Vec<Statement>,
}

impl Inner {
    /// Asks peers in the background for at most `lookup_timeout`; each answer is checked and kept, and then told.
    /// What comes after the receiver is gone is kept all the same. `None` without a network.
    pub(crate) fn hear_peers(
        self: &Arc<Self>,
        repo: &RepoId,
        revision: Option<&Revision>,
        asked: &[NodeId],
    ) -> Option<mpsc::Receiver<Heard>> {
        self.net.as_ref()?;
        // Never full: no more than so many are asked.
        let (tell, heard) = mpsc::channel(MAX_SOURCES);
        let (inner, repo, revision, asked) =
            (Arc::clone(self), repo.clone(), revision.cloned(), asked.to_vec());
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            cancel.run_until_cancelled(inner.ask_peers(&repo, revision.as_ref(), &asked, tell)).await;
        });
        Some(heard)
    }

    async fn ask_peers(
        self: &Arc<Self>,
        repo: &RepoId,
        revision: Option<&Revision>,
        asked: &[NodeId],
        tell: mpsc::Sender<Heard>,
    ) {
        let Some(net) = &self.net else { return };
        let peers = &net.peers;
        let answers = net
            .sources(&[DhtKey::Repo(repo.clone())])
            .map(|peer| async move {
                (peer.node, peers.statements(&peer, repo, revision).await.unwrap_or_default())
            })
            .buffer_unordered(ASKED_AT_ONCE);
        let all = answers.for_each(async |(from, answer)| {
            match self.take_answer(answer, repo, revision, asked).await {
                Ok(said) => drop(tell.try_send(Heard { from, said })),
                Err(error) => tracing::warn!(%repo, %error, "statements cannot be kept"),
            }
        });
        let _ = tokio::time::timeout(net.lookup_timeout, all).await;
    }

    /// Checks one peer's statements and keeps those that hold; the catalogue bounds how many.
    async fn take_answer(
        self: &Arc<Self>,
        mut answer: Vec<Statement>,
        repo: &RepoId,
        revision: Option<&Revision>,
        asked: &[NodeId],
    ) -> Result<Vec<Statement>, MirrorError> {
        answer.retain(|s| s.body.repo == *repo && revision.is_none_or(|r| s.body.revision == *r));
        if answer.is_empty() {
            return Ok(answer);
        }
        let (inner, asked) = (Arc::clone(self), asked.to_vec());
        let (repo, revision) = (repo.clone(), revision.cloned());
        blocking(move || {
            let (now, catalogue) = (inner.clock.now(), inner.store.catalogue());
            let counts = |s: &Statement| inner.counts(&s.signer) || asked.contains(&s.signer);
            answer.sort_by_key(|s| !counts(s));
            answer.truncate(MAX_FROM_ONE_PEER);
            let known = catalogue.statements(&repo, revision.as_ref())?;
            // Most answers say what others said before: that was checked then.
            let is_new = |s: &Statement| !known.contains(s);
            answer.retain(|s| !is_new(s) || is_timely(s, now) && verify_statement(s).is_ok());
            let mut news = false;
            for statement in answer.iter().filter(|s| s.signer != inner.node) {
                if counts(statement) {
                    let kept = catalogue.put_trusted_statement(statement)?;
                    news |= kept && is_new(statement);
                } else if is_new(statement) {
                    catalogue.put_statement(statement)?;
                }
            }
            if news {
                locked(&inner.memory).forget(&repo);
            }
            Ok(answer)
        })
        .await
    }

    /// Whether a signer's word counts here without being asked for.
    pub(crate) fn counts(&self, signer: &NodeId) -> bool {
        *signer == self.node || self.config.trusted.contains(signer) || self.config.witnesses.contains(signer)
    }

    /// Fetches what peers say of a repository that an origin answers for, every now and then, so that it is here
    /// when the origin is gone. Where too many are under way, the next request for it tries again.
    pub(crate) fn exchange_later(self: &Arc<Self>, repo: &RepoId) {
        if self.net.is_none() || !locked(&self.exchanged).statements.is_due(repo, EXCHANGE_EVERY) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.exchanges).try_acquire_owned() else { return };
        locked(&self.exchanged).statements.note(repo);
        let Some(mut heard) = self.hear_peers(repo, None, &[]) else { return };
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            let _turn = turn;
            cancel.run_until_cancelled(async { while heard.recv().await.is_some() {} }).await;
        });
    }
}
