//! `GET /api/{models,datasets,spaces}/{id}[/revision/{rev}]`: a repository at a revision, with its files.

use std::iter::once;
use std::sync::Arc;

use axum::response::Response;
use hubless_types::{FileEntry, Manifest, RepoFacts, RepoId, RepoPath};
use serde::Serialize;

use crate::answer::{Fault, element, json_bytes, json_parts};
use crate::app::{App, Ask};
use crate::routes::manifest_at;
use crate::routes::summary::{Expand, Summary};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    used_storage: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_repo_status: Option<SecurityStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecurityStatus {
    scans_done: bool,
    files_with_issues: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sibling<'a> {
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
    expand: Expand,
}

/// Tells of `repo` at `revision`.
pub(crate) async fn info(app: &App, ask: &Ask, repo: &RepoId, revision: &str) -> Result<Response, Fault> {
    let manifest = manifest_at(app, ask, repo, revision).await?;
    let wanted = Wanted {
        blobs: ask.query.flag("blobs"),
        security: ask.query.flag("securityStatus"),
        expand: Expand::of(&ask.query),
    };
    // Reading a card, or writing a long list, is for a thread where it keeps nobody waiting.
    let (mirror, repo, manifest) = (app.mirror.clone(), repo.clone(), Arc::clone(&manifest));
    let written = tokio::task::spawn_blocking(move || {
        let facts = mirror.facts(&repo, Some(&manifest))?;
        let about = about(&repo, &facts, &manifest, &wanted)?;
        let listed = !wanted.expand.is_used() || wanted.expand.has("siblings");
        Ok((about, listed.then_some(Listing { manifest, blobs: wanted.blobs })))
    });
    let (about, listing) = written.await.unwrap_or_else(|_| Err(Fault::internal()))?;
    Ok(match listing {
        None => json_bytes(about),
        Some(listing) => listing.answer(about),
    })
}

/// All but the files: an object.
fn about(repo: &RepoId, facts: &RepoFacts, manifest: &Manifest, wanted: &Wanted) -> Result<Vec<u8>, Fault> {
    let status = SecurityStatus { scans_done: false, files_with_issues: [] };
    let info = Info {
        summary: Summary::new(repo, facts, Some(manifest.commit()), Some(manifest.info().time), true),
        used_storage: manifest.total_bytes(),
        security_repo_status: wanted.security.then_some(status),
    };
    let written = match wanted.expand.is_used() {
        false => serde_json::to_vec(&info),
        true => serde_json::to_value(&info).and_then(|mut value| {
            wanted.expand.cut(&mut value);
            serde_json::to_vec(&value)
        }),
    };
    written.map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Fault::internal()
    })
}

/// The files of a commit, on their way out.
struct Listing {
    manifest: Arc<Manifest>,
    blobs: bool,
}

impl Listing {
    /// `about` with the files as its last field.
    fn answer(self, mut about: Vec<u8>) -> Response {
        about.pop(); // the brace: every object here has an id, so that a comma follows
        about.extend_from_slice(b",\"siblings\":[");
        let Self { manifest, blobs } = self;
        let files = 0..manifest.entries().len();
        let files = files.map(move |n| element(n, &Sibling::new(&manifest.entries()[n], blobs)));
        json_parts(once(about).chain(files).chain(once(b"]}".to_vec())))
    }
}

/// The files of a commit.
pub(crate) fn siblings(manifest: &Manifest, blobs: bool) -> Vec<Sibling<'_>> {
    manifest.entries().iter().map(|entry| Sibling::new(entry, blobs)).collect()
}
