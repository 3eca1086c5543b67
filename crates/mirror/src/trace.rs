//! Shows each step of resolving a name and of finding who holds what it means, for people who look for a fault.
//!
//! **Not here:** how a lookup goes (`discovery`), who says what of a name (`names`).

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use hubless_discovery::{DhtKey, Trace};
use hubless_origin::{Origin, Seen};
use hubless_proof::verify_statement;
use hubless_store::RefSource;
use hubless_transfer::{PeerClient as _, TransferError};
use hubless_types::{
    Access, CommitId, FileDigest, NodeId, Provider, ProviderSource, RepoId, Revision, Sha256, Statement,
    Token,
};
use serde::{Deserialize, Serialize};

use crate::mirror::Inner;
use crate::names::decide::is_timely;
use crate::names::{NameReport, Word};
use crate::resolve::Ask;
use crate::sources::{ASKED_AT_ONCE, Net};
use crate::upstream::ask;
use crate::{Caller, Mirror, MirrorError};

/// Most nodes that are asked what they hold; how many are left over is told.
const MAX_ASKED: usize = 16;
/// Longest wait for what one of them says.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of that it has to say that it holds something of a file whose link it knows.
const HOLDING_TIMEOUT: Duration = Duration::from_secs(2);
/// Statements of one peer's answer that are looked at and shown.
const MAX_WORDS: usize = 16;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceTarget {
    /// What a name means, and who has that.
    Name {
        /// The repository.
        repo: RepoId,
        /// Its branch or tag.
        revision: Revision,
    },
    /// Who has a commit.
    Commit(CommitId),
    /// Who has a large file.
    Shard(Sha256),
}

/// 40 hex digits are a commit, 64 a file's sha256; anything else is a name, with `@revision` if one is meant.
impl FromStr for TraceTarget {
    type Err = hubless_types::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(match text.len() {
            40 if is_hex => Self::Commit(text.parse()?),
            64 if is_hex => Self::Shard(text.parse()?),
            _ => match text.split_once('@') {
                Some((repo, revision)) => Self::Name { repo: repo.parse()?, revision: revision.parse()? },
                None => Self::Name { repo: text.parse()?, revision: Revision::main() },
            },
        })
    }
}

/// All steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceReport {
    /// What was looked for.
    pub target: TraceTarget,
    /// What a pull takes the name for now, on whose word, and all that is said of it; `None` where none was asked for.
    pub name: Option<NameReport>,
    /// Why the name could not be looked at.
    pub name_error: Option<String>,
    /// What each origin says of the name, in the order in which a pull asks them: the next only where one says nothing.
    pub origins: Vec<OriginWord>,
    /// The lookups, in the order in which they were made.
    pub lookups: Vec<LookupReport>,
}

/// What one origin says of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OriginWord {
    /// Its address.
    pub origin: String,
    /// The repository by its own name for it; `None` where it did not say.
    pub repo: Option<RepoId>,
    /// Where the name points; `None` where it did not say.
    pub commit: Option<CommitId>,
    /// Why it did not say.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// One lookup on the DHT, and what those say who may have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LookupReport {
    /// Of what.
    pub key: String,
    /// How it went.
    #[serde(flatten)]
    pub trace: Trace,
    /// Nodes that are connected or were named, and what they say they hold.
    pub holders: Vec<HolderReport>,
    /// Further ones that were not asked.
    pub not_asked: usize,
}

/// What one node says it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HolderReport {
    /// Who, where, and how it became known.
    #[serde(flatten)]
    pub provider: Provider,
    /// What it holds; `None` where it did not say.
    pub holds: Option<String>,
    /// The statements of a name that it sent and that may be true, those of signers who count first.
    pub said: Vec<Word>,
    /// Why it did not say.
    pub error: Option<String>,
    /// How long it took, connecting included, in milliseconds.
    pub millis: u64,
}

/// What is looked for on the DHT.
#[derive(Debug, Clone)]
enum Wanted {
    /// Statements of a repository's names, or of one of them.
    Name(RepoId, Option<Revision>),
    Commit(CommitId),
    Shard(Sha256),
}

impl Wanted {
    fn key(&self) -> DhtKey {
        match self {
            Self::Name(repo, _) => DhtKey::Repo(repo.clone()),
            Self::Commit(commit) => DhtKey::Commit(*commit),
            Self::Shard(shard) => DhtKey::Shard(*shard),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(repo, _) => write!(f, "the name {repo}"),
            Self::Commit(commit) => write!(f, "commit {commit}"),
            Self::Shard(shard) => write!(f, "file {shard}"),
        }
    }
}

/// What a node holds, and what it says of a name.
type Holds = (String, Vec<Word>);

impl Mirror {
    /// Looks for `target` as a fetch would, and tells every step of it. Origins and peers are asked once more for what is
    /// shown here.
    ///
    /// # Errors
    /// [`MirrorError::Offline`] without a network; [`MirrorError::Stopped`]; those of the catalogue. What goes wrong on the
    /// way is part of the report.
    pub async fn trace(&self, target: TraceTarget, caller: &Caller) -> Result<TraceReport, MirrorError> {
        let net = self.inner.online("tracing")?;
        let mut report = TraceReport {
            target: target.clone(),
            name: None,
            name_error: None,
            origins: Vec::new(),
            lookups: Vec::new(),
        };
        let wanted = match target {
            TraceTarget::Name { repo, revision } => {
                let commit = self.inner.trace_name(net, repo, &revision, caller, &mut report).await?;
                commit.map(Wanted::Commit)
            }
            TraceTarget::Commit(commit) => Some(Wanted::Commit(commit)),
            TraceTarget::Shard(shard) => Some(Wanted::Shard(shard)),
        };
        if let Some(wanted) = wanted {
            report.lookups.push(self.inner.trace_holders(net, &wanted).await?);
        }
        Ok(report)
    }
}

impl Inner {
    /// Resolves a name as a pull does, and asks each source for its word; the commit whose holders are to be found.
    async fn trace_name(
        self: &Arc<Self>,
        net: &Net,
        repo: RepoId,
        revision: &Revision,
        caller: &Caller,
        report: &mut TraceReport,
    ) -> Result<Option<CommitId>, MirrorError> {
        let repo = self.store.catalogue().canonical(&repo)?.unwrap_or(repo);
        if let Err(error) = self.check_existence(caller, &repo).await {
            report.name_error = Some(error.to_string());
            return Ok(None);
        }
        let mut commit = revision.as_commit();
        let name = commit.is_none().then(|| revision.clone());
        if name.is_some() {
            let looked = self.resolve(&repo, revision, caller, Ask::Now).await;
            commit = looked.as_ref().ok().map(|resolved| resolved.commit);
            let known_as = looked.as_ref().map_or_else(|_| repo.clone(), |resolved| resolved.repo.clone());
            report.name = Some(self.name_report(&known_as, revision.clone(), Some(looked)).await?);
            report.origins = self.origin_words(&repo, revision, caller).await?;
        }
        // What is private is asked of its origin alone.
        if self.access(&repo)? == Access::Private {
            return Ok(None);
        }
        report.lookups.push(self.trace_holders(net, &Wanted::Name(repo, name)).await?);
        Ok(commit)
    }

    /// What each origin says of a name that is not published here: that is no origin's to say. Nothing of it is kept.
    async fn origin_words(
        &self,
        repo: &RepoId,
        revision: &Revision,
        caller: &Caller,
    ) -> Result<Vec<OriginWord>, MirrorError> {
        let row = self.store.catalogue().get_ref(repo, revision)?;
        if row.is_some_and(|row| row.by == RefSource::Published) {
            return Ok(Vec::new());
        }
        let (home, access) = (self.home(repo)?, self.access(repo)?);
        let words = self.origins.iter().enumerate().map(|(place, origin)| async move {
            let begun = Instant::now();
            let said = if place != home && !access.is_open() {
                Err(format!("it is not asked: `{repo}` is not open to everyone, and is another origin's"))
            } else {
                let token = caller.token.as_ref().filter(|_| place == home);
                self.ask_for_word(origin.as_ref(), repo, revision, token, access).await
            };
            let (seen, error) = said.map_or_else(|error| (None, Some(error)), |seen| (Some(seen), None));
            let (repo, commit) = seen.map(|seen| (seen.repo, seen.commit)).unzip();
            let millis = begun.elapsed().as_millis() as u64;
            OriginWord { origin: origin.name().to_owned(), repo, commit, error, millis }
        });
        Ok(futures::future::join_all(words).await)
    }

    async fn ask_for_word(
        &self,
        origin: &dyn Origin,
        repo: &RepoId,
        revision: &Revision,
        token: Option<&Token>,
        access: Access,
    ) -> Result<Seen, String> {
        let question =
            |token: Option<Token>| async move { origin.resolve(repo, revision, token.as_ref()).await };
        let within = self.config.answer_within;
        match tokio::time::timeout(within, ask(token, access == Access::Private, question)).await {
            Ok(answer) => answer.map(|got| got.value).map_err(|error| error.to_string()),
            Err(_) => Err(format!("it did not say within {} ms", within.as_millis())),
        }
    }

    /// Looks on the DHT, and asks those who were named and those who are connected, each once.
    async fn trace_holders(&self, net: &Net, wanted: &Wanted) -> Result<LookupReport, MirrorError> {
        let trace = net.discovery.trace(&wanted.key()).await.map_err(|_| MirrorError::Stopped)?;
        let (asked, not_asked) = chosen(&trace.providers, net.discovery.peers(), net.node);
        let asked = futures::stream::iter(asked).map(|provider| async move {
            let begun = Instant::now();
            let said = tokio::time::timeout(ASK_TIMEOUT, self.holds(net, wanted, &provider)).await;
            let said = said.unwrap_or_else(|_| Err("it did not say in time".to_owned()));
            let millis = begun.elapsed().as_millis() as u64;
            let (holds, said, error) = match said {
                Ok((holds, said)) => (Some(holds), said, None),
                Err(error) => (None, Vec::new(), Some(error)),
            };
            HolderReport { provider, holds, said, error, millis }
        });
        let mut holders: Vec<HolderReport> = asked.buffer_unordered(ASKED_AT_ONCE).collect().await;
        let rank =
            |report: &HolderReport| (report.provider.source != ProviderSource::Dht, report.provider.node);
        holders.sort_by_key(rank);
        Ok(LookupReport { key: wanted.to_string(), trace, holders, not_asked })
    }

    async fn holds(&self, net: &Net, wanted: &Wanted, peer: &Provider) -> Result<Holds, String> {
        let failed = |error: TransferError| error.to_string();
        let held = match wanted {
            Wanted::Name(repo, revision) => {
                let said = net.peers.statements(peer, repo, revision.as_ref()).await.map_err(failed)?;
                return Ok(self.believable(said, repo, revision.as_ref()));
            }
            Wanted::Commit(commit) => {
                let reply = net.peers.manifest(peer, *commit).await.map_err(failed)?;
                let links = if reply.links.is_some() { "with" } else { "without" };
                format!("the manifest ({} bytes), {links} links", reply.bundle.len())
            }
            Wanted::Shard(shard) => {
                let links = net.peers.links(peer, &[FileDigest::Sha256(*shard)]).await.map_err(failed)?;
                let Some(link) = links.first() else { return Ok(("nothing of it".to_owned(), Vec::new())) };
                let mut told = net.peers.holdings(peer, &[link.hash]).await.map_err(failed)?;
                // Who has nothing of a blob says so by saying nothing.
                match tokio::time::timeout(HOLDING_TIMEOUT, told.next()).await {
                    Ok(Some(Ok(held))) => {
                        format!("{} of {} bytes, as {}", held.have.bytes(held.size), held.size, held.hash)
                    }
                    Ok(Some(Err(error))) => return Err(failed(error)),
                    Ok(None) | Err(_) => format!("nothing of it, but its link to {}", link.hash),
                }
            }
        };
        Ok((held, Vec::new()))
    }

    /// The statements of one peer's answer that may be true; how many are none is told.
    fn believable(&self, mut said: Vec<Statement>, repo: &RepoId, revision: Option<&Revision>) -> Holds {
        let (sent, now) = (said.len(), self.clock.now());
        said.retain(|s| s.body.repo == *repo && revision.is_none_or(|r| s.body.revision == *r));
        // Those of signers who count first, so that a stranger's are never all that is shown.
        said.sort_by_key(|s| (!self.counts(&s.signer), Reverse(s.body.seen), s.signer));
        let others = sent - said.len() + said.len().saturating_sub(MAX_WORDS);
        said.truncate(MAX_WORDS);
        let looked_at = said.len();
        said.retain(|s| is_timely(s, now) && verify_statement(s).is_ok());
        let mut holds = match said.len() {
            0 => "no statement of it".to_owned(),
            1 => "1 statement".to_owned(),
            n => format!("{n} statements"),
        };
        for (n, what) in [
            (looked_at - said.len(), "wrongly signed or from the future"),
            (others, "of something else or too many to be shown"),
        ] {
            if n > 0 {
                holds.push_str(&format!(", and {n} {what}"));
            }
        }
        (holds, said.into_iter().map(|statement| self.word(statement, now)).collect())
    }
}

/// Whom to ask: those who were named and those who are connected in turn, each once; and how many are left over.
fn chosen(named: &[Provider], met: Vec<Provider>, me: NodeId) -> (Vec<Provider>, usize) {
    let (mut named, mut met, mut all) = (named.iter().cloned(), met.into_iter(), Vec::new());
    loop {
        match (named.next(), met.next()) {
            (None, None) => break,
            (one, other) => all.extend(one.into_iter().chain(other)),
        }
    }
    let mut seen = HashSet::from([me]);
    all.retain(|provider| seen.insert(provider.node));
    let left = all.len().saturating_sub(MAX_ASKED);
    all.truncate(MAX_ASKED);
    (all, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_known_by_its_form() {
        let target = |text: &str| text.parse::<TraceTarget>();
        assert!(matches!(target(&"a".repeat(40)), Ok(TraceTarget::Commit(_))));
        assert!(matches!(target(&"0".repeat(64)), Ok(TraceTarget::Shard(_))));
        let Ok(TraceTarget::Name { revision, .. }) = target("acme/tiny@v1") else { panic!("a name") };
        assert_eq!(revision.as_str(), "v1");
        assert!(target("a/b/c").is_err());
    }

    #[test]
    fn many_that_were_named_leave_room_for_who_is_connected() {
        let providers = |nodes: std::ops::Range<u8>, source| -> Vec<Provider> {
            let one = |n| Provider { node: NodeId::from_bytes([n; 32]), addrs: Vec::new(), source };
            nodes.map(one).collect()
        };
        let (named, met) =
            (providers(0..40, ProviderSource::Dht), providers(30..60, ProviderSource::Connected));
        let (asked, left) = chosen(&named, met, NodeId::from_bytes([0; 32]));
        assert_eq!((asked.len(), left), (MAX_ASKED, 59 - MAX_ASKED), "each once, and not this node itself");
        let connected = asked.iter().filter(|p| p.source == ProviderSource::Connected).count();
        assert!((MAX_ASKED / 2 - 1..=MAX_ASKED / 2 + 1).contains(&connected), "{connected}");
        let (asked, left) =
            chosen(&[], providers(1..3, ProviderSource::Connected), NodeId::from_bytes([9; 32]));
        assert_eq!((asked.len(), left), (2, 0));
    }
}
