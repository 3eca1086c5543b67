//! What a person asks of a node: what is here, who is reached, how it is.

use std::collections::HashMap;

use hubless_discovery::DhtMode;
use hubless_origin::OriginStatus;
use hubless_store::{BlobStatus, RefRecord, RefSource, ShelfQuery, ShelfSort, ShelfTerm};
use hubless_types::{CommitId, Manifest, RepoId, RepoKind, Revision};

use crate::mirror::Inner;
use crate::{
    DiscoverySummary, FetchSummary, ListRequest, ListSort, Mirror, MirrorError, NodeStatus, OriginSummary,
    PeerSummary, RepoSummary,
};

/// Commits are counted up to this.
const COUNTED: usize = 100_000;

impl Mirror {
    /// The revisions that are known here of the repositories that are asked for; `limit` of each kind. Blocks for some
    /// milliseconds a thousand files.
    ///
    /// # Errors
    /// [`MirrorError::Store`] if the catalogue cannot be read.
    pub fn list(&self, request: &ListRequest) -> Result<Vec<RepoSummary>, MirrorError> {
        let mut list = Vec::new();
        for kind in RepoKind::ALL.into_iter().filter(|kind| request.kind.is_none_or(|only| only == *kind)) {
            self.inner.list_kind(kind, request, &mut list)?;
        }
        Ok(list)
    }

    /// How this node is. Blocks a little.
    ///
    /// # Errors
    /// Those of the catalogue.
    pub fn status(&self) -> Result<NodeStatus, MirrorError> {
        let inner = &self.inner;
        let catalogue = inner.store.catalogue();
        let usage = inner.store.blobs().usage()?;
        Ok(NodeStatus {
            node: inner.node,
            online: inner.net.is_some(),
            repos: catalogue.repo_count(),
            commits: catalogue.manifests(None, COUNTED)?.len() as u64,
            pins: catalogue.pins()?.len() as u64,
            files: usage.owned + usage.referenced,
            owned_bytes: usage.owned_bytes,
            referenced_bytes: usage.referenced_bytes,
            partial_bytes: usage.partial_bytes,
            announce: inner.announce_status()?,
            discovery: inner.net.as_ref().map(|net| summary(&net.discovery.status())),
            origins: inner.origins.iter().map(|origin| inner.origin_summary(origin.status())).collect(),
            fetches: inner.jobs.running().into_iter().map(fetch_summary).collect(),
            limits: self.limits(),
        })
    }

    /// Nodes that are connected or on the local network.
    pub fn peers(&self) -> Vec<PeerSummary> {
        let Some(net) = &self.inner.net else { return Vec::new() };
        let summary = |p: hubless_types::Provider| {
            let bytes_from = net.peers.bytes_from(&p.node);
            PeerSummary { node: p.node, addrs: p.addrs, source: p.source, bytes_from }
        };
        net.discovery.peers().into_iter().map(summary).collect()
    }
}

fn summary(status: &hubless_discovery::DiscoveryStatus) -> DiscoverySummary {
    DiscoverySummary {
        peers: status.peers_connected as u64,
        routing: status.routing_table as u64,
        mode: match status.mode {
            DhtMode::Server => "server".to_owned(),
            DhtMode::Client => "client".to_owned(),
        },
        listen: status.listen.iter().map(ToString::to_string).collect(),
        network: status.network,
        external: status.external.iter().map(ToString::to_string).collect(),
    }
}

fn fetch_summary(
    (digest, progress): (hubless_types::FileDigest, crate::fetch::FetchProgress),
) -> FetchSummary {
    FetchSummary { digest, done: progress.done, total: progress.total, rate: progress.rate }
}

/// The question that finds what a list asks for.
fn query(kind: RepoKind, request: &ListRequest) -> ShelfQuery {
    let sort = match request.sort {
        ListSort::Name => ShelfSort::Name,
        ListSort::Downloads => ShelfSort::Downloads,
        ListSort::Likes => ShelfSort::Likes,
        ListSort::Created => ShelfSort::Created,
        ListSort::Modified => ShelfSort::Modified,
        ListSort::Trending => ShelfSort::Trending,
    };
    ShelfQuery {
        search: request.search.clone(),
        author: request.author.clone(),
        terms: request.filter.iter().cloned().map(ShelfTerm::Tag).collect(),
        sort,
        descending: sort != ShelfSort::Name,
        private: true,
        ..ShelfQuery::all(kind)
    }
}

impl Inner {
    fn origin_summary(&self, status: OriginStatus) -> OriginSummary {
        let (wrong, last_wrong) = self.lies.of(&status.name);
        OriginSummary { status, wrong, last_wrong }
    }

    /// Pages of what is known, until as many repositories as asked for have a revision here.
    fn list_kind(
        &self,
        kind: RepoKind,
        request: &ListRequest,
        list: &mut Vec<RepoSummary>,
    ) -> Result<(), MirrorError> {
        let (mut query, mut left) = (query(kind, request), request.limit.max(1));
        loop {
            let page = self.store.catalogue().find_repos(&query)?;
            for (repo, _) in &page.repos {
                let before = list.len();
                self.list_repo(repo, list)?;
                left -= usize::from(list.len() > before);
                if left == 0 {
                    return Ok(());
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn list_repo(&self, repo: &RepoId, list: &mut Vec<RepoSummary>) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let mut rows: HashMap<Revision, RefRecord> = catalogue.refs(repo)?.into_iter().collect();
        // The row that says which commit stands for an adopted snapshot is no name of its own where a name has it.
        let named: Vec<CommitId> =
            rows.iter().filter(|(r, _)| r.as_commit().is_none()).map(|(_, row)| row.commit).collect();
        rows.retain(|r, row| {
            row.by != RefSource::Adopted || !r.as_commit().is_some_and(|c| named.contains(&c))
        });
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        for (revision, row) in rows {
            let pinned = catalogue.pin(repo, &revision)?.is_some();
            let commit = revision.as_commit().unwrap_or(row.commit);
            let manifest = self.shown_manifest(repo, self.own_commit(repo, commit)?)?;
            let bytes_here = manifest.as_deref().map(|m| self.bytes_here(m)).transpose()?.unwrap_or(0);
            list.push(RepoSummary {
                repo: repo.clone(),
                revision,
                commit,
                by: row.by,
                seen: row.seen,
                listed: manifest.is_some(),
                files: manifest.as_ref().map_or(0, |m| m.entries().len() as u64),
                bytes: manifest.as_ref().map_or(0, |m| m.total_bytes()),
                bytes_here,
                pinned,
            });
        }
        Ok(())
    }

    fn bytes_here(&self, manifest: &Manifest) -> Result<u64, MirrorError> {
        let mut here = 0;
        self.each_link(manifest, |_, link| {
            let status = link.map(|link| self.store.blobs().status(&link.hash)).transpose()?;
            here += match status {
                None | Some(BlobStatus::Absent) => 0,
                Some(BlobStatus::Partial { size, have }) => have.bytes(size),
                Some(BlobStatus::Complete { size }) => size,
            };
            Ok(())
        })?;
        Ok(here)
    }
}
