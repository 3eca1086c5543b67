//! Manifests with what proves them: the bundle of git objects, and the table of links.
//!
//! **Invariant:** a manifest is here once its head is. A very large one is written in several goes, head last, so
//! that no go takes much memory; rows without a head are what a killed process left, and the next go overwrites them.

use std::sync::Arc;

use hubless_types::{CommitId, CommitInfo, FileEntry, Manifest, RepoId, RepoPath, TreeId};
use serde::{Deserialize, Serialize};

use super::codec::{self, Record};
use super::db::Cf;
use super::manifest_rows::{self as rows, FILES, FOLDERS, HEAD};
use super::txn::Txn;
use super::{Catalogue, keys, repos};
use crate::error::{Result, StoreError};

/// Bytes of rows that are gathered before they are written.
const GO_BYTES: usize = 4 * 1024 * 1024;
/// Before a bundle and a link table: the version of their rows. The bytes themselves carry their own.
const RAW_VERSION: u8 = 1;

/// What is known of a commit without its list of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHead {
    /// What the commit object says.
    pub info: CommitInfo,
    /// How many files it has.
    pub files: u64,
    /// How many folders it has below its root.
    pub folders: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

impl Record for ManifestHead {
    const NAME: &'static str = "manifest";
}

impl Catalogue {
    /// Stores a manifest, what proves it and, if there is one, its encoded link table; lists it under `repo`.
    ///
    /// Without `link_table`, one that is here already stays.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], [`StoreError::Rocks`].
    pub fn put_manifest(
        &self,
        repo: Option<&RepoId>,
        manifest: &Manifest,
        bundle: &[u8],
        link_table: Option<&[u8]>,
    ) -> Result<()> {
        let encoded = EncodedManifest::new(self, repo, manifest, bundle, link_table)?;
        self.change(|txn| encoded.put(txn))?;
        // What was cached may have another claimed size for a plain file.
        self.inner.manifests.remove(manifest.commit());
        Ok(())
    }

    /// The whole manifest of a commit. Those that were read last are kept in memory, within a bound; for one file
    /// of a manifest of any size see [`Catalogue::entry`].
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Rocks`].
    pub fn manifest(&self, commit: CommitId) -> Result<Option<Arc<Manifest>>> {
        if let Some(manifest) = self.inner.manifests.get(commit) {
            return Ok(Some(manifest));
        }
        let Some(manifest) = self.read_manifest(commit)? else { return Ok(None) };
        let manifest = Arc::new(manifest);
        self.inner.manifests.put(&manifest);
        Ok(Some(manifest))
    }

    /// The manifest of a commit, if it is among those that were read last. Never reads the disk.
    pub fn manifest_in_memory(&self, commit: CommitId) -> Option<Arc<Manifest>> {
        self.inner.manifests.get(commit)
    }

    /// All rows come from one scan, which sees one state of the database.
    fn read_manifest(&self, commit: CommitId) -> Result<Option<Manifest>> {
        let mut head = None::<ManifestHead>;
        let (mut files, mut folders) = (Vec::<FileEntry>::new(), Vec::<(RepoPath, TreeId)>::new());
        let prefix = commit.as_bytes();
        self.db().scan(Cf::Manifests, prefix, prefix, |key, value| {
            match key.get(CommitId::LEN) {
                Some(&HEAD) => {
                    let found: ManifestHead = codec::decode(value)?;
                    files.reserve_exact(found.files as usize);
                    folders.reserve_exact(found.folders as usize);
                    head = Some(found);
                }
                Some(&FILES) => files.extend(rows::decode::<FileEntry>(value)?),
                Some(&FOLDERS) => folders.extend(rows::decode::<(RepoPath, TreeId)>(value)?),
                _ => return Err(StoreError::corrupt("manifest key", "it has an unknown kind")),
            }
            Ok(head.is_some())
        })?;
        let Some(head) = head else { return Ok(None) };
        if (files.len() as u64, folders.len() as u64) != (head.files, head.folders) {
            return Err(StoreError::corrupt("manifest", format!("{commit} lacks some of its rows")));
        }
        let manifest = Manifest::new(commit, head.info, files, folders);
        manifest.map(Some).map_err(|e| StoreError::corrupt("manifest", e))
    }

    /// What is known of a commit without its list of files.
    ///
    /// # Errors
    /// As [`Catalogue::manifest`].
    pub fn manifest_head(&self, commit: CommitId) -> Result<Option<ManifestHead>> {
        self.db().get(Cf::Manifests, &rows::key(commit, HEAD, ""))
    }

    /// One file of a commit, without reading its other files; `None` if the commit is not here or has no such file.
    ///
    /// # Errors
    /// As [`Catalogue::manifest`].
    pub fn entry(&self, commit: CommitId, path: &RepoPath) -> Result<Option<FileEntry>> {
        if let Some(manifest) = self.inner.manifests.get(commit) {
            return Ok(manifest.entry(path).cloned());
        }
        if !self.has_manifest(commit)? {
            return Ok(None);
        }
        let (prefix, key) = (rows::key(commit, FILES, ""), rows::key(commit, FILES, path.as_str()));
        let Some(row) = self.db().last_up_to(Cf::Manifests, &prefix, &key)? else { return Ok(None) };
        Ok(rows::decode::<FileEntry>(&row)?.into_iter().find(|entry| entry.path == *path))
    }

    /// Whether the manifest of a commit is here.
    ///
    /// # Errors
    /// [`StoreError::Rocks`].
    pub fn has_manifest(&self, commit: CommitId) -> Result<bool> {
        self.db().has(Cf::Manifests, &rows::key(commit, HEAD, ""))
    }

    /// The commits whose manifests are here, sorted by id, those after `after`; at most `limit`.
    ///
    /// # Errors
    /// As [`Catalogue::manifest`].
    pub fn manifests(&self, after: Option<CommitId>, limit: usize) -> Result<Vec<CommitId>> {
        let mut commits = Vec::new();
        let mut from = after.as_ref().and_then(|commit| keys::past(commit.as_bytes()));
        if after.is_some() && from.is_none() {
            return Ok(commits);
        }
        // A commit may have thousands of rows: each is passed in one leap.
        while commits.len() < limit {
            let Some((commit, tag)) = self.first_row(from.as_deref().unwrap_or_default())? else { break };
            if tag == HEAD {
                commits.push(commit);
            }
            from = keys::past(commit.as_bytes());
            if from.is_none() {
                break;
            }
        }
        Ok(commits)
    }

    fn first_row(&self, from: &[u8]) -> Result<Option<(CommitId, u8)>> {
        let read = |key: &[u8], _: &[u8]| {
            Ok((keys::read_commit(key)?, key.get(CommitId::LEN).copied().unwrap_or(u8::MAX)))
        };
        let mut first = None;
        self.db().scan(Cf::Manifests, &[], from, |key, value| {
            first = Some(read(key, value)?);
            Ok(false)
        })?;
        Ok(first)
    }

    /// Forgets a commit: its manifest, bundle and link table, and its place in repositories. Refs and pins stay.
    ///
    /// # Errors
    /// As [`Catalogue::manifest`].
    pub fn remove_manifest(&self, commit: CommitId) -> Result<()> {
        self.change(|txn| {
            txn.delete_all(Cf::Manifests, commit.as_bytes());
            txn.delete(Cf::Bundles, commit.as_bytes().to_vec());
            txn.delete(Cf::LinkTables, commit.as_bytes().to_vec());
            txn.delete(Cf::SharedCommits, commit.as_bytes().to_vec());
            repos::drop_commit(txn, commit)
        })?;
        self.inner.manifests.remove(commit);
        Ok(())
    }

    /// What proves a commit's manifest, as it was put.
    ///
    /// # Errors
    /// As [`Catalogue::manifest`].
    pub fn bundle(&self, commit: CommitId) -> Result<Option<Vec<u8>>> {
        self.raw(Cf::Bundles, commit)
    }

    /// The encoded link table of a commit, as it was put.
    ///
    /// # Errors
    /// As [`Catalogue::manifest`].
    pub fn link_table(&self, commit: CommitId) -> Result<Option<Vec<u8>>> {
        self.raw(Cf::LinkTables, commit)
    }

    /// Stores the encoded link table of a commit.
    ///
    /// # Errors
    /// As [`Catalogue::manifest`].
    pub fn put_link_table(&self, commit: CommitId, table: &[u8]) -> Result<()> {
        self.change(|txn| {
            txn.put_bytes(Cf::LinkTables, commit.as_bytes().to_vec(), with_version(table));
            Ok(())
        })
    }

    fn raw(&self, cf: Cf, commit: CommitId) -> Result<Option<Vec<u8>>> {
        let Some(mut bytes) = self.db().get_bytes(cf, commit.as_bytes())? else { return Ok(None) };
        if bytes.first() != Some(&RAW_VERSION) {
            return Err(StoreError::corrupt("bundle", format!("that of {commit} has an unknown version")));
        }
        bytes.remove(0);
        Ok(Some(bytes))
    }
}

fn with_version(bytes: &[u8]) -> Vec<u8> {
    [&[RAW_VERSION], bytes].concat()
}

/// A manifest whose rows wait for their batch, or lie in the database already and wait for their head.
pub(super) struct EncodedManifest {
    repo: Option<RepoId>,
    commit: CommitId,
    head: ManifestHead,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    bundle: Vec<u8>,
    link_table: Option<Vec<u8>>,
}

impl EncodedManifest {
    pub(super) fn new(
        catalogue: &Catalogue,
        repo: Option<&RepoId>,
        manifest: &Manifest,
        bundle: &[u8],
        link_table: Option<&[u8]>,
    ) -> Result<Self> {
        let commit = manifest.commit();
        let files = rows::encode(commit, manifest.entries());
        let folders = rows::encode(commit, manifest.folders());
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        for row in files.chain(folders) {
            let row = row?;
            bytes += row.0.len() + row.1.len();
            gathered.push(row);
            if bytes > GO_BYTES {
                let go = std::mem::take(&mut gathered);
                catalogue.change(|txn| {
                    put_rows(txn, go);
                    Ok(())
                })?;
                bytes = 0;
            }
        }
        let head = ManifestHead {
            info: manifest.info().clone(),
            files: manifest.entries().len() as u64,
            folders: manifest.folders().len() as u64,
            bytes: manifest.total_bytes(),
        };
        Ok(Self {
            repo: repo.cloned(),
            commit,
            head,
            rows: gathered,
            bundle: with_version(bundle),
            link_table: link_table.map(with_version),
        })
    }

    pub(super) fn put(self, txn: &mut Txn<'_>) -> Result<()> {
        let commit = self.commit;
        put_rows(txn, self.rows);
        txn.put_bytes(Cf::Bundles, commit.as_bytes().to_vec(), self.bundle);
        if let Some(table) = self.link_table {
            txn.put_bytes(Cf::LinkTables, commit.as_bytes().to_vec(), table);
        }
        txn.put(Cf::Manifests, rows::key(commit, HEAD, ""), &self.head)?;
        self.repo.map_or(Ok(()), |repo| repos::add_commit(txn, &repo, commit))
    }
}

fn put_rows(txn: &mut Txn<'_>, rows: Vec<(Vec<u8>, Vec<u8>)>) {
    rows.into_iter().for_each(|(key, value)| txn.put_bytes(Cf::Manifests, key, value));
}
