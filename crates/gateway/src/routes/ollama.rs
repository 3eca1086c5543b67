//! The registry that ollama pulls from (Docker's v2, as `hf.co` gives it): a GGUF file as a model's layers.
//!
//! The weights are the repository's own file, by its sha256. Template, system prompt and parameters are the files
//! `template`, `system` and `params` at the repository's root; where they lack, template and parameters follow from
//! what the GGUF file says of itself. The configuration is written here.
//!
//! **Invariant:** what is written here depends on the commit alone, so that a layer's digest, told once, can be
//! asked for at any time, after a restart as well.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use hubless_types::{ByteRange, CommitId, FileEntry, Manifest, RepoId, RepoPath, Sha256};
use serde_json::{Value, json as value};
use sha2::Digest;

use crate::answer::{Fault, header_text, json};
use crate::app::{App, Ask};
use crate::chat_template;
use crate::gguf::{About, Reading};
use crate::revision::find;
use crate::routes::{file, manifest_of, quant};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Longest `template`, `system` or `params` that is taken, in bytes.
const MAX_SMALL: u64 = 64 * 1024;
/// Longest weights that are not in LFS, in bytes: they are hashed whole when they are asked for.
const MAX_PLAIN: u64 = 16 * 1024 * 1024;
/// Most bytes of a GGUF file that are read for what it says of itself.
const MAX_ABOUT: u64 = 64 * 1024 * 1024;
/// Most models that are remembered.
const MAX_REMEMBERED: usize = 64;
/// Most GGUF files of a repository that are searched for a layer.
const MAX_SEARCHED: usize = 32;

/// A model's layers; the last one is its configuration.
struct Model {
    commit: CommitId,
    repo: RepoId,
    weights: RepoPath,
    layers: Vec<Layer>,
}

struct Layer {
    media_type: &'static str,
    digest: String,
    size: u64,
    content: Content,
}

enum Content {
    /// Written here, or read already.
    Here(Bytes),
    /// A file of the commit.
    File(RepoPath),
}

impl Layer {
    fn here(media_type: &'static str, bytes: Bytes) -> Self {
        Self { media_type, digest: digest(&bytes), size: bytes.len() as u64, content: Content::Here(bytes) }
    }

    fn told(&self) -> Value {
        value!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }
}

/// Models that were asked for lately.
#[derive(Default)]
pub(crate) struct Remembered(Mutex<VecDeque<Arc<Model>>>);

impl Remembered {
    fn find(&self, is_it: impl Fn(&Model) -> bool) -> Option<Arc<Model>> {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().find(|model| is_it(model)).cloned()
    }

    fn add(&self, model: &Arc<Model>) {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if models.len() == MAX_REMEMBERED {
            models.pop_front();
        }
        models.push_back(Arc::clone(model));
    }
}

/// `GET /v2/`: this is a registry.
pub(crate) fn registry() -> Response {
    let mut answer = json(&value!({}));
    let version = HeaderValue::from_static("registry/2.0");
    answer.headers_mut().insert("docker-distribution-api-version", version);
    answer
}

/// `GET /v2/{id}/manifests/{tag}`
pub(crate) async fn manifest(app: &App, ask: &Ask, repo: &RepoId, tag: &str) -> Response {
    let answer = async {
        app.mirror.may_read(&ask.caller(), repo).await?;
        told(app, ask, repo, tag).await
    };
    answer.await.unwrap_or_else(|fault| refuse(ask, fault))
}

/// `GET /v2/{id}/blobs/{digest}`
pub(crate) async fn blob(app: &App, ask: &Ask, repo: &RepoId, digest: &str) -> Response {
    let answer = async {
        app.mirror.may_read(&ask.caller(), repo).await?;
        layer(app, ask, repo, digest).await
    };
    answer.await.unwrap_or_else(|fault| refuse(ask, fault))
}

/// A refusal as registries write it.
fn refuse(ask: &Ask, fault: Fault) -> Response {
    let body = value!({ "errors": [{ "code": "UNKNOWN", "message": fault.text() }] });
    fault.into_form(ask.has_token(), "application/json", body.to_string().into_bytes())
}

fn digest(bytes: &[u8]) -> String {
    let hash: [u8; 32] = sha2::Sha256::digest(bytes).into();
    format!("sha256:{}", Sha256::from_bytes(hash))
}

async fn told(app: &App, ask: &Ask, repo: &RepoId, tag: &str) -> Result<Response, Fault> {
    let (repo, commit) = find(app, ask, repo, "main").await?;
    let files = manifest_of(app, ask, &repo, commit).await?;
    let Some(weights) = quant::choose(files.entries(), tag) else {
        // The status that the Hub's own registry gives.
        let why = format!("`{repo}` has no GGUF file in one piece that `{}` names", cut(tag));
        return Err(Fault::new(StatusCode::BAD_REQUEST, "EntryNotFound", why).in_commit(commit));
    };
    let model = model(app, ask, &repo, &files, weights).await?;
    let (config, layers) = model.layers.split_last().ok_or_else(Fault::internal)?;
    let body = value!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.told(),
        "layers": layers.iter().map(Layer::told).collect::<Vec<_>>(),
    })
    .to_string();
    Ok(here(ask, MANIFEST, &digest(body.as_bytes()), &body.into()))
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

fn here(ask: &Ask, content_type: &'static str, digest: &str, bytes: &Bytes) -> Response {
    let mut answer = Response::new(if ask.is_head() { Body::empty() } else { Body::from(bytes.clone()) });
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    headers.insert(header::ETAG, header_text(&format!("\"{digest}\"")));
    headers.insert("docker-content-digest", header_text(digest));
    answer
}

async fn layer(app: &App, ask: &Ask, repo: &RepoId, digest: &str) -> Result<Response, Fault> {
    let no_such =
        || Fault::new(StatusCode::NOT_FOUND, "EntryNotFound", "no model of the repository has this layer");
    let sha256: Sha256 =
        digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok()).ok_or_else(no_such)?;
    if let Some((commit, path, _)) = app.mirror.lfs_places(repo, vec![sha256]).await?.remove(&sha256) {
        return file_layer(app, ask, repo, commit, &path, digest).await;
    }
    let has_it = |model: &Model| model.layers.iter().any(|layer| layer.digest == digest);
    let mut model = app.models.find(|model| &model.repo == repo && has_it(model));
    if model.is_none() {
        model = search(app, ask, repo, has_it).await?;
    }
    let model = model.ok_or_else(no_such)?;
    let layer = model.layers.iter().find(|layer| layer.digest == digest).ok_or_else(no_such)?;
    match &layer.content {
        // Nobody asks for a part of what is so small.
        Content::Here(bytes) => Ok(here(ask, "application/octet-stream", digest, bytes)),
        Content::File(path) => file_layer(app, ask, &model.repo, model.commit, path, digest).await,
    }
}

async fn file_layer(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    commit: CommitId,
    path: &RepoPath,
    digest: &str,
) -> Result<Response, Fault> {
    let mut answer = file::at(app, ask, repo, commit, path).await?;
    answer.headers_mut().insert("docker-content-digest", header_text(digest));
    Ok(answer)
}

/// Looks for a model that is not remembered: this node was started anew since its manifest was told.
async fn search(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    is_it: impl Fn(&Model) -> bool,
) -> Result<Option<Arc<Model>>, Fault> {
    let (repo, commit) = find(app, ask, repo, "main").await?;
    let files = manifest_of(app, ask, &repo, commit).await?;
    let mut unread = None;
    for weights in quant::all(files.entries()).take(MAX_SEARCHED) {
        match model(app, ask, &repo, &files, weights).await {
            Ok(model) if is_it(&model) => return Ok(Some(model)),
            Ok(_) => {}
            // One that can never be a layer hides none of the others; one that is not here yet may be it.
            Err(fault) if fault.is_for_good() => {}
            Err(fault) => unread = Some(fault),
        }
    }
    unread.map_or(Ok(None), Err)
}

/// The layers of the model whose weights these are.
async fn model(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    files: &Manifest,
    weights: &FileEntry,
) -> Result<Arc<Model>, Fault> {
    let commit = files.commit();
    let known = app.models.find(|m| (m.commit, &m.repo, &m.weights) == (commit, repo, &weights.path));
    if let Some(known) = known {
        return Ok(known);
    }
    let from = From { app, ask, repo, commit };
    let about = from.about(weights).await?;
    let mut layers = vec![from.weights("application/vnd.ollama.image.model", weights).await?];
    if let Some(projector) = quant::projector(files.entries()) {
        layers.push(from.weights("application/vnd.ollama.image.projector", projector).await?);
    }
    let form = about.chat_template.as_deref().and_then(chat_template::of);
    let own = |name: &str| {
        files.entries().iter().find(|entry| entry.path.as_str() == name && entry.size <= MAX_SMALL)
    };
    let template = form.map(|form| Bytes::from_static(form.template.as_bytes()));
    let stop = form.filter(|_| own("template").is_none());
    let params = stop.map(|form| Bytes::from(value!({ "stop": form.stop }).to_string()));
    for (name, media_type, otherwise) in [
        ("template", "application/vnd.ollama.image.template", template),
        ("system", "application/vnd.ollama.image.system", None),
        ("params", "application/vnd.ollama.image.params", params),
    ] {
        let bytes = match own(name) {
            Some(entry) => Some(from.small(entry).await?),
            None => otherwise,
        };
        layers.extend(bytes.map(|bytes| Layer::here(media_type, bytes)));
    }
    layers.push(Layer::here(CONFIG, config(&about, weights, &layers).into()));
    let model = Arc::new(Model { commit, repo: repo.clone(), weights: weights.path.clone(), layers });
    app.models.add(&model);
    Ok(model)
}

/// What ollama shows of a model, and which layers it has.
fn config(about: &About, weights: &FileEntry, layers: &[Layer]) -> String {
    let family = about.architecture.as_deref().unwrap_or("unknown");
    value!({
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": "",
        "file_type": quant::of(weights.path.file_name()).unwrap_or("unknown"),
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>(),
        },
    })
    .to_string()
}

/// Where a model's files are read.
struct From<'a> {
    app: &'a App,
    ask: &'a Ask,
    repo: &'a RepoId,
    commit: CommitId,
}

impl From<'_> {
    async fn open(&self, entry: &FileEntry, most: u64) -> Result<hubless_mirror::FileReader, Fault> {
        let range = ByteRange::whole(entry.size.min(most));
        let (mirror, caller) = (&self.app.mirror, self.ask.caller());
        Ok(mirror.open_file(&caller, self.repo, self.commit, &entry.path, range).await?)
    }

    /// What a GGUF file says of itself; nothing if it is not read to the end of that, or is none.
    async fn about(&self, weights: &FileEntry) -> Result<About, Fault> {
        let mut reader = self.open(weights, MAX_ABOUT).await?;
        let mut reading = Reading::default();
        while let Some(piece) = reader.body.next().await.transpose()? {
            match reading.push(&piece) {
                Ok(false) => {}
                Ok(true) => return Ok(reading.about()),
                Err(_) => return Ok(About::default()),
            }
        }
        Ok(reading.about())
    }

    /// A file as a layer; one that is not in LFS is hashed first.
    async fn weights(&self, media_type: &'static str, entry: &FileEntry) -> Result<Layer, Fault> {
        let digest = match entry.lfs {
            Some(lfs) => format!("sha256:{}", lfs.sha256),
            None => self.hash(entry).await?,
        };
        Ok(Layer { media_type, digest, size: entry.size, content: Content::File(entry.path.clone()) })
    }

    async fn hash(&self, entry: &FileEntry) -> Result<String, Fault> {
        if entry.size > MAX_PLAIN {
            let why = format!("`{}` is not kept by LFS and too large to be hashed now", entry.path);
            return Err(Fault::new(StatusCode::BAD_REQUEST, "BadRequest", why));
        }
        let mut reader = self.open(entry, MAX_PLAIN).await?;
        let mut hash = sha2::Sha256::new();
        while let Some(piece) = reader.body.next().await.transpose()? {
            hash.update(&piece);
        }
        let hash: [u8; 32] = hash.finalize().into();
        Ok(format!("sha256:{}", Sha256::from_bytes(hash)))
    }

    async fn small(&self, entry: &FileEntry) -> Result<Bytes, Fault> {
        let mut reader = self.open(entry, MAX_SMALL).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.body.next().await.transpose()? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }
}
