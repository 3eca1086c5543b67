//! Shows each step of resolving a name and of finding who holds what it means, for people who look for a fault.
//!
//! **Not here:** how a lookup goes (`discovery`), who says what of a name (`names`).

use std::str::FromStr;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use hubless_discovery::{DhtKey, Trace};
use hubless_transfer::PeerClient as _;
use hubless_types::{CommitId, FileDigest, Provider, ProviderSource, RepoId, Revision, Sha256};
use serde::{Deserialize, Serialize};

use crate::names::NameReport;
use crate::sources::{ASKED_AT_ONCE, Net};
use crate::{Caller, Mirror, MirrorError};

/// Most nodes that are asked what they hold.
const MAX_ASKED: usize = 16;
/// Longest wait for what one of them says.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Who says what of the name; `None` where none was asked for.
    pub name: Option<NameReport>,
    /// Why the name could not be looked at.
    pub name_error: Option<String>,
    /// The lookups, in the order in which they were made.
    pub lookups: Vec<LookupReport>,
    /// Nodes that are connected or were named, and what they say they hold.
    pub holders: Vec<HolderReport>,
}

/// One lookup on the DHT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LookupReport {
    /// Of what.
    pub key: String,
    /// How it went.
    #[serde(flatten)]
    pub trace: Trace,
}

/// What one node says it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HolderReport {
    /// Who, where, and how it became known.
    #[serde(flatten)]
    pub provider: Provider,
    /// What it holds; `None` where it did not say.
    pub holds: Option<String>,
    /// Why it did not say.
    pub error: Option<String>,
    /// How long it took, connecting included, in milliseconds.
    pub millis: u64,
}

impl Mirror {
    /// Looks for `target` as a fetch would, and tells every step of it.
    ///
    /// # Errors
    /// [`MirrorError::Offline`] without a network; [`MirrorError::Stopped`]. What goes wrong on the way is part of the
    /// report.
    pub async fn trace(&self, target: TraceTarget, caller: &Caller) -> Result<TraceReport, MirrorError> {
        let net = self.inner.online("tracing")?;
        let mut report = TraceReport {
            target: target.clone(),
            name: None,
            name_error: None,
            lookups: Vec::new(),
            holders: Vec::new(),
        };
        let key = match target {
            TraceTarget::Name { repo, revision } => {
                let commit = self.trace_name(&repo, &revision, caller, &mut report).await;
                report
                    .lookups
                    .push(lookup(net, &DhtKey::Repo(repo.clone()), format!("the name {repo}")).await?);
                commit.map(DhtKey::Commit)
            }
            TraceTarget::Commit(commit) => Some(DhtKey::Commit(commit)),
            TraceTarget::Shard(shard) => Some(DhtKey::Shard(shard)),
        };
        let Some(key) = key else { return Ok(report) };
        let what = match &key {
            DhtKey::Commit(commit) => format!("commit {commit}"),
            DhtKey::Shard(shard) => format!("file {shard}"),
            DhtKey::Repo(repo) => format!("the name {repo}"),
        };
        let found = lookup(net, &key, what).await?;
        report.holders = holders(net, &key, &found.trace.providers).await;
        report.lookups.push(found);
        Ok(report)
    }

    async fn trace_name(
        &self,
        repo: &RepoId,
        revision: &Revision,
        caller: &Caller,
        report: &mut TraceReport,
    ) -> Option<CommitId> {
        if let Some(commit) = revision.as_commit() {
            return Some(commit);
        }
        match self.names(repo, caller).await {
            Ok(names) => report.name = names.names.into_iter().find(|name| name.revision == *revision),
            Err(error) => report.name_error = Some(error.to_string()),
        }
        report.name.as_ref()?.resolved.as_ref().map(|resolved| resolved.commit)
    }
}

async fn lookup(net: &Net, key: &DhtKey, what: String) -> Result<LookupReport, MirrorError> {
    let trace = net.discovery.trace(key).await.map_err(|_| MirrorError::Stopped)?;
    Ok(LookupReport { key: what, trace })
}

/// Asks those who are connected and those who were named, each once.
async fn holders(net: &Net, key: &DhtKey, named: &[Provider]) -> Vec<HolderReport> {
    let mut all: Vec<Provider> = named.to_vec();
    let met = net.discovery.peers();
    all.extend(met.into_iter().filter(|p| named.iter().all(|n| n.node != p.node)));
    all.truncate(MAX_ASKED);
    let asked = futures::stream::iter(all).map(|provider| async move {
        let begun = Instant::now();
        let said = tokio::time::timeout(ASK_TIMEOUT, holds(net, key, &provider)).await;
        let (holds, error) = match said {
            Ok(Ok(holds)) => (Some(holds), None),
            Ok(Err(error)) => (None, Some(error)),
            Err(_) => (None, Some("it did not say in time".to_owned())),
        };
        HolderReport { provider, holds, error, millis: begun.elapsed().as_millis() as u64 }
    });
    let mut reports: Vec<HolderReport> = asked.buffer_unordered(ASKED_AT_ONCE).collect().await;
    let rank = |report: &HolderReport| (report.provider.source != ProviderSource::Dht, report.provider.node);
    reports.sort_by_key(rank);
    reports
}

async fn holds(net: &Net, key: &DhtKey, peer: &Provider) -> Result<String, String> {
    let failed = |error: hubless_transfer::TransferError| error.to_string();
    match key {
        DhtKey::Commit(commit) => {
            let reply = net.peers.manifest(peer, *commit).await.map_err(failed)?;
            let links = if reply.links.is_some() { "with" } else { "without" };
            Ok(format!("the manifest ({} bytes), {links} links", reply.bundle.len()))
        }
        DhtKey::Shard(shard) => {
            let links = net.peers.links(peer, &[FileDigest::Sha256(*shard)]).await.map_err(failed)?;
            let Some(link) = links.first() else { return Ok("nothing of it".to_owned()) };
            let mut told = net.peers.holdings(peer, &[link.hash]).await.map_err(failed)?;
            match told.next().await {
                Some(Ok(held)) => {
                    Ok(format!("{} of {} bytes, as {}", held.have.bytes(held.size), held.size, held.hash))
                }
                Some(Err(error)) => Err(failed(error)),
                None => Ok("nothing of it".to_owned()),
            }
        }
        DhtKey::Repo(repo) => {
            let said = net.peers.statements(peer, repo, None).await.map_err(failed)?;
            Ok(format!("{} statements", said.len()))
        }
    }
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
}
