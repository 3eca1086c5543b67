//! `GET /api/{models,datasets,spaces}/{id}[/revision/{rev}]`: a repository at a revision, with its files.

use std::sync::Arc;

use axum::response::Response;
use hubless_types::{CommitId, FileEntry, Manifest, RepoId, RepoKind, RepoPath};
use serde::Serialize;
use serde_json::Value;

use crate::answer::{Fault, json_bytes};
use crate::app::{App, Ask};
use crate::routes::{date, manifest_at};

/// From this many files on, a listing is written on a thread where it keeps nobody waiting.
const BIG_LISTING: usize = 20_000;

/// What is known of a repository. Counts that only a hub has are 0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary<'a> {
    #[serde(rename = "_id")]
    object_id: String,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    sha: CommitId,
    last_modified: String,
    created_at: String,
    private: bool,
    gated: bool,
    disabled: bool,
    downloads: u64,
    likes: u64,
    tags: [&'a str; 0],
}

impl<'a> Summary<'a> {
    /// `repo` at `commit`, which was made at `time` (as [`date`] writes it).
    pub(crate) fn new(repo: &'a RepoId, commit: CommitId, time: String) -> Self {
        Self {
            object_id: object_id(repo),
            id: repo.name(),
            model_id: (repo.kind() == RepoKind::Model).then_some(repo.name()),
            author: repo.owner(),
            sha: commit,
            created_at: time.clone(),
            last_modified: time,
            private: false,
            gated: false,
            disabled: false,
            downloads: 0,
            likes: 0,
            tags: [],
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    used_storage: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_repo_status: Option<SecurityStatus>,
    siblings: Vec<Sibling<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecurityStatus {
    scans_done: bool,
    files_with_issues: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sibling<'a> {
    rfilename: &'a RepoPath,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    blob: Option<BlobOf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlobOf {
    size: u64,
    blob_id: hubless_types::BlobId,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs: Option<LfsOf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LfsOf {
    sha256: hubless_types::Sha256,
    size: u64,
    pointer_size: u64,
}

impl<'a> Sibling<'a> {
    fn new(entry: &'a FileEntry, blobs: bool) -> Self {
        let lfs = entry.lfs.map(|lfs| LfsOf {
            sha256: lfs.sha256,
            size: entry.size,
            pointer_size: lfs.pointer_size,
        });
        let blob = blobs.then_some(BlobOf { size: entry.size, blob_id: entry.blob, lfs });
        Self { rfilename: &entry.path, blob }
    }
}

/// Which parts of the whole are asked for.
struct Wanted {
    blobs: bool,
    security: bool,
    /// Only these, and the ids; empty means all.
    expand: Vec<String>,
}

/// Tells of `repo` at `revision`.
pub(crate) async fn info(app: &App, ask: &Ask, repo: &RepoId, revision: &str) -> Result<Response, Fault> {
    let manifest = manifest_at(app, ask, repo, revision).await?;
    let wanted = Wanted {
        blobs: ask.query.flag("blobs"),
        security: ask.query.flag("securityStatus"),
        expand: ask.query.all("expand").map(str::to_owned).collect(),
    };
    if manifest.entries().len() < BIG_LISTING {
        return write(repo, &manifest, &wanted).map(json_bytes);
    }
    let (repo, manifest) = (repo.clone(), Arc::clone(&manifest));
    let written = tokio::task::spawn_blocking(move || write(&repo, &manifest, &wanted)).await;
    written.unwrap_or_else(|_| Err(Fault::internal())).map(json_bytes)
}

fn write(repo: &RepoId, manifest: &Manifest, wanted: &Wanted) -> Result<Vec<u8>, Fault> {
    let status = SecurityStatus { scans_done: false, files_with_issues: [] };
    let info = Info {
        summary: Summary::new(repo, manifest.commit(), date(manifest.info().time)),
        used_storage: manifest.total_bytes(),
        security_repo_status: wanted.security.then_some(status),
        siblings: manifest.entries().iter().map(|entry| Sibling::new(entry, wanted.blobs)).collect(),
    };
    let written = match wanted.expand.is_empty() {
        true => serde_json::to_vec(&info),
        false => expanded(&info, &wanted.expand),
    };
    written.map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Fault::internal()
    })
}

fn expanded(info: &Info<'_>, expand: &[String]) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(info)?;
    if let Value::Object(fields) = &mut value {
        fields.retain(|name, _| matches!(name.as_str(), "_id" | "id" | "modelId") || expand.contains(name));
    }
    serde_json::to_vec(&value)
}

/// 24 hexadecimal digits that stay the same for a repository, as the Hub's own database ids do (FNV-1a).
fn object_id(repo: &RepoId) -> String {
    let text = repo.to_string();
    let fnv = |seed: u64| text.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:016x}{:08x}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x6c62_272e_07bb_0142) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_id_looks_like_the_hubs() {
        let id = object_id(&"acme/tiny".parse().unwrap());
        assert_eq!(id.len(), 24);
        assert_ne!(id, object_id(&"datasets/acme/tiny".parse().unwrap()));
    }
}
