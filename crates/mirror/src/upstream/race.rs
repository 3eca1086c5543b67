//! One file from peers and origins: whoever has it first whole and proven.
//!
//! Peers begin. Where they bring nothing for a moment, the file is fetched from an origin into a draft. When a peer
//! with the file's hash tree turns up meanwhile, the draft's groups that fit it are poured into the blob that peers
//! and origin fill from then on together. Either side may fail; the other goes on.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hubless_origin::OriginError;
use hubless_store::{Draft, PartialBlob};
use hubless_types::Link;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ask::{more_telling, try_next};
use super::draft::Bearing;
use super::fill::FillError;
use super::remote::{Remote, may_pass};
use crate::crowd::Table;
use crate::mirror::Inner;
use crate::obtain::Gauge;
use crate::util::blocking;
use crate::{ErrorKind, MirrorError};

/// How often peers' progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Peers that bring nothing for so long, after they brought something, are too slow to wait for.
const STALLED_AFTER: Duration = Duration::from_secs(2);

impl Inner {
    /// Gets a small file from `peers`, or a moment later from an origin.
    pub(crate) async fn race_small(
        &self,
        remotes: &[Arc<Remote>],
        gauge: &Gauge,
        peers: impl Future<Output = Result<Link, MirrorError>> + Send,
    ) -> Result<Link, MirrorError> {
        let over = watch::Sender::new(false);
        let head_start = self.head_start();
        let by_origin = async {
            let mut peers_over = over.subscribe();
            let _ = tokio::time::timeout(head_start, peers_over.wait_for(|over| *over)).await;
            self.small_by_origin(remotes, gauge).await
        };
        either(telling(peers, &over), by_origin).await
    }

    /// Gets a large file from `peers`, or from an origin where they bring nothing.
    pub(crate) async fn race_large(
        self: &Arc<Self>,
        remotes: &[Arc<Remote>],
        gauge: &Gauge,
        peers: impl Future<Output = Result<Link, MirrorError>> + Send,
    ) -> Result<Link, MirrorError> {
        let over = watch::Sender::new(false);
        let by_origin = self.large_by_origin(remotes, gauge, over.subscribe());
        let link = either(telling(peers, &over), by_origin).await?;
        if let (true, Some(remote)) = (gauge.end_draft(), remotes.first()) {
            self.drop_draft(remote).await?;
        }
        Ok(link)
    }

    /// What a draft left behind is of no use once the file is here.
    async fn drop_draft(&self, remote: &Remote) -> Result<(), MirrorError> {
        let (blobs, entry) = (self.store.blobs().clone(), remote.errand().entry.clone());
        blocking(move || Ok(blobs.draft(entry.digest(), entry.size)?.discard()?)).await
    }

    async fn large_by_origin(
        self: &Arc<Self>,
        remotes: &[Arc<Remote>],
        gauge: &Gauge,
        over: watch::Receiver<bool>,
    ) -> Result<Link, MirrorError> {
        let mut refused: Option<OriginError> = None;
        let mut lied = None;
        // Others are told at once: those that begin at the same moment are to know of one another.
        let open = remotes.first().map(|remote| remote.errand()).filter(|errand| !errand.is_private());
        let mut crowd = open.and_then(|errand| self.join_crowd(errand.commit, &errand.entry));
        // Each is asked before any is waited for; then those that may come round are, in their order.
        let hurried = if remotes.len() > 1 { remotes } else { &[] }.iter().map(|r| (r, Bearing::Hurried));
        let patient = remotes.iter().map(|r| (r, Bearing::Patient));
        let mut hopeless: Vec<&str> = Vec::new();
        for (remote, bearing) in hurried.chain(patient) {
            if hopeless.contains(&remote.name()) {
                continue;
            }
            match self.by_draft(remote, bearing, gauge, over.clone(), &mut crowd).await {
                Ok(Some(link)) => {
                    self.settle(&link, remote.errand()).await?;
                    return Ok(link);
                }
                Ok(None) => {
                    hopeless.push(remote.name());
                    lied = Some(MirrorError::WrongContent { digest: remote.errand().entry.digest() });
                }
                Err(FillOrOwn::Own(error)) => return Err(error),
                Err(FillOrOwn::Origin(error)) => {
                    let path = &remote.errand().entry.path;
                    tracing::debug!(origin = remote.name(), %path, %error, "an origin did not send a file");
                    let go_on = try_next(&error);
                    if !may_pass(&error) {
                        hopeless.push(remote.name());
                    }
                    refused = Some(more_telling(refused, error));
                    if !go_on {
                        break;
                    }
                }
            }
        }
        Err(lied.or_else(|| refused.map(MirrorError::Origin)).unwrap_or(MirrorError::Stopped))
    }

    /// A file from one origin, or `None` if what came was another.
    async fn by_draft(
        &self,
        remote: &Remote,
        bearing: Bearing,
        gauge: &Gauge,
        mut over: watch::Receiver<bool>,
        crowd: &mut Option<Arc<Table>>,
    ) -> Result<Option<Link>, FillOrOwn> {
        let mut accused = Vec::new();
        loop {
            self.until_needed(gauge, &mut over).await;
            if let Some(table) = crowd {
                self.listened(table).await;
            }
            let draft = self.draft_of(remote).await?;
            let began_with = draft.have().len();
            let drafting = gauge.drafts(&draft);
            let filled = tokio::select! {
                filled = self.fill_together(&draft, remote, bearing, &drafting, crowd.as_deref()) => filled,
                poured = self.pour(&draft, remote, gauge) => match poured {
                    Ok(()) => {
                        gauge.end_draft();
                        discard(draft).await?;
                        continue;
                    }
                    Err(error) => return Err(FillOrOwn::Own(error)),
                },
            };
            let suspects = self.suspects(&draft, &filled?).await?;
            if !suspects.is_empty() {
                // Either the origin or one of the others sent something else. By the origin alone it comes out who.
                (accused, *crowd) = (suspects, None);
                gauge.end_draft();
                discard(draft).await?;
                continue;
            }
            let done = self.finish_draft(&draft, remote).await;
            gauge.end_draft();
            match done? {
                Some(link) => {
                    self.blame_mates(&link, accused).await?;
                    return Ok(Some(link));
                }
                // What an earlier attempt, or another origin, had left may have been what was wrong.
                None if began_with > 0 => continue,
                None => return Ok(None),
            }
        }
    }

    /// Returns when peers have given up, have brought nothing for their head start, or have stalled; not while an
    /// origin is one of the sources of their plan.
    async fn until_needed(&self, gauge: &Gauge, over: &mut watch::Receiver<bool>) {
        let (mut had, mut since, mut allowed) = (gauge.fetched(), Instant::now(), self.head_start());
        loop {
            let treed = gauge.has_tree();
            let left = allowed.saturating_sub(since.elapsed());
            if *over.borrow() || !treed && left.is_zero() {
                return;
            }
            let pause = if treed { LOOK_EVERY } else { left.min(LOOK_EVERY) };
            let _ = tokio::time::timeout(pause, over.wait_for(|over| *over)).await;
            let now = gauge.fetched();
            if now > had {
                (had, since, allowed) = (now, Instant::now(), STALLED_AFTER);
            }
        }
    }

    /// Returns when peers have brought nothing for their head start, or have stalled.
    pub(crate) async fn until_stalled(&self, gauge: &Gauge) {
        let over = watch::Sender::new(false);
        self.until_needed(gauge, &mut over.subscribe()).await;
    }

    /// Waits until a blob of the same file has its tree, and pours the draft into it. Does not return while what the
    /// origin sent does not fit: then one of the two is not the file, and the draft's end tells which. Nor where it was
    /// given to a token: then it goes into no blob that others fill, and have.
    async fn pour(&self, draft: &Draft, remote: &Remote, gauge: &Gauge) -> Result<(), MirrorError> {
        let mut tried = None;
        loop {
            let view = gauge.treed_view().await;
            let fresh = |p: &PartialBlob| tried != Some(p.hash()) && p.size() == draft.size();
            if let Some(into) = view.partial().filter(|p| fresh(p) && !remote.errand().is_private()) {
                tried = Some(into.hash());
                let (draft, target) = (draft.clone(), into.clone());
                let fits = blocking(move || {
                    let fitted = draft.pour(&target)?;
                    let (have, held) = (draft.have(), target.have());
                    Ok(!fitted.is_empty() || have.runs().iter().all(|run| held.contains(run.clone())))
                })
                .await?;
                if fits {
                    view.poured();
                    return Ok(());
                }
                tracing::debug!(hash = %into.hash(), "what an origin sends does not fit the tree that peers claim");
            }
            drop(view);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn discard(draft: Draft) -> Result<(), MirrorError> {
    blocking(move || Ok(draft.discard()?)).await
}

/// Why one origin did not send a file.
enum FillOrOwn {
    Origin(OriginError),
    /// This node's own fault: another origin would not help.
    Own(MirrorError),
}

impl From<MirrorError> for FillOrOwn {
    fn from(error: MirrorError) -> Self {
        Self::Own(error)
    }
}

impl From<FillError> for FillOrOwn {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Origin(error) => Self::Origin(error),
            FillError::Disk(error) => Self::Own(error.into()),
            FillError::Wrong { .. } | FillError::Stopped => Self::Own(MirrorError::Stopped),
        }
    }
}

/// `work`, telling when it is over.
async fn telling<T>(work: impl Future<Output = T>, over: &watch::Sender<bool>) -> T {
    let done = work.await;
    over.send_replace(true);
    done
}

/// The first that succeeds; where both fail, the error that tells more.
pub(crate) async fn either<T>(
    peers: impl Future<Output = Result<T, MirrorError>>,
    origin: impl Future<Output = Result<T, MirrorError>>,
) -> Result<T, MirrorError> {
    tokio::pin!(peers, origin);
    let (by_peers, by_origin) = tokio::select! {
        done = &mut peers => match done {
            Err(error) if goes_on(&error) => (error, origin.await),
            done => return done,
        },
        done = &mut origin => match done {
            Ok(link) => return Ok(link),
            Err(error) => match peers.await {
                Ok(link) => return Ok(link),
                Err(by_peers) => (by_peers, Err(error)),
            },
        },
    };
    // That no peer has it says little while the one who would know is out of reach.
    by_origin.map_err(|error| match by_peers.kind() {
        ErrorKind::Unavailable | ErrorKind::NotFound(_) => error,
        _ if error.kind() == ErrorKind::Unavailable => by_peers,
        _ => error,
    })
}

/// Whether an origin may bring what peers did not.
fn goes_on(error: &MirrorError) -> bool {
    !matches!(error, MirrorError::WrongSize { .. } | MirrorError::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    use hubless_origin::OriginErrorKind;
    use hubless_types::CommitId;

    /// What is told where no peer has a commit and the origin refuses with `status`.
    async fn told(status: u16, kind: OriginErrorKind) -> ErrorKind {
        let commit = CommitId::from_bytes([1; 20]);
        let no_peer = std::future::ready(Err::<(), _>(MirrorError::CommitNotFound { commit }));
        let said = OriginError::Refused { origin: "o".into(), status, kind, said: String::new() };
        either(no_peer, std::future::ready(Err(said.into()))).await.unwrap_err().kind()
    }

    #[tokio::test]
    async fn nobody_says_that_it_is_not_there_while_the_origin_cannot_be_asked() {
        assert_eq!(told(503, OriginErrorKind::Unavailable).await, ErrorKind::Unavailable);
        assert_eq!(told(429, OriginErrorKind::Busy).await, ErrorKind::Busy);
        let missing = told(404, OriginErrorKind::RevisionNotFound).await;
        assert!(matches!(missing, ErrorKind::NotFound(_)), "{missing:?}");
    }
}
