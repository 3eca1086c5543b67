//! The LFS batch API (git-lfs's `docs/api/batch.md`): where the content of pointers is, on this host.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hubless_types::{CommitId, RepoId, RepoPath, Sha256};
use serde::{Deserialize, Serialize};

use crate::answer::{Fault, json};
use crate::app::{App, Ask};
use crate::incoming::{self, bad};
use crate::paging::encode_path;
use crate::revision::find;
use crate::routes::manifest_of;

const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// Longest body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Most objects of one request; git-lfs sends 100.
const MAX_OBJECTS: usize = 1_000;
/// Longest wait for the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(8);

#[derive(Debug, Deserialize)]
struct Batch {
    operation: String,
    #[serde(default)]
    hash_algo: Option<String>,
    #[serde(default)]
    objects: Vec<Wanted>,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    oid: String,
    size: u64,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    transfer: &'static str,
    hash_algo: &'static str,
    objects: Vec<Object<'a>>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Object<'a> {
    oid: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Actions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Lacking>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Actions {
    download: Download,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Download {
    href: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Lacking {
    code: u16,
    message: &'static str,
}

/// `POST …/info/lfs/objects/batch`
pub(crate) async fn batch(app: &App, ask: &Ask, repo: &RepoId, body: Body) -> Response {
    match answer(app, ask, repo, body).await {
        Ok(answer) => answer,
        Err(fault) => {
            let text = serde_json::json!({ "message": fault.text() }).to_string().into_bytes();
            let mut answer = fault.into_form(ask.has_token(), LFS_JSON, text);
            if answer.status() == StatusCode::UNAUTHORIZED {
                let basic = HeaderValue::from_static("Basic realm=\"the token is the password\"");
                answer.headers_mut().insert("lfs-authenticate", basic);
            }
            answer
        }
    }
}

async fn answer(app: &App, ask: &Ask, repo: &RepoId, body: Body) -> Result<Response, Fault> {
    let bytes = incoming::read(body, MAX_BODY_BYTES, BODY_TIMEOUT).await?;
    let batch: Batch =
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("the body is no LFS batch: {error}")))?;
    check(&batch)?;
    let wanted: Vec<Sha256> = batch.objects.iter().filter_map(|object| object.oid.parse().ok()).collect();
    app.mirror.may_read(&ask.caller(), repo).await?;
    let mut repo = repo.clone();
    if app.mirror.commits_held(&repo)?.is_empty() {
        let (own_name, commit) = find(app, ask, &repo, "main").await?;
        manifest_of(app, ask, &own_name, commit).await?;
        repo = own_name;
    }
    let places = app.mirror.lfs_places(&repo, wanted).await?;
    let root = format!("{}/{}", ask.base, encode_path(&repo.to_string()));
    let objects = batch.objects.iter().map(|object| place(object, &places, &root)).collect();
    let mut answer = json(&Answer { transfer: "basic", hash_algo: "sha256", objects });
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LFS_JSON));
    Ok(answer)
}

fn check(batch: &Batch) -> Result<(), Fault> {
    match batch.operation.as_str() {
        "download" => {}
        "upload" => {
            let why =
                "this node takes no uploads: publish a folder with `hubless add`, or push to the origin";
            return Err(Fault::new(StatusCode::FORBIDDEN, "ReadOnly", why));
        }
        _ => return Err(bad("the operation is `download`")),
    }
    if batch.hash_algo.as_deref().is_some_and(|name| name != "sha256") {
        return Err(Fault::new(StatusCode::CONFLICT, "BadRequest", "objects are named by sha256 alone"));
    }
    if batch.objects.len() > MAX_OBJECTS {
        let why = format!("the batch names more than {MAX_OBJECTS} objects; ask for them in several");
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", why));
    }
    Ok(())
}

/// Where each object is, by its digest: a commit's file, and its length in bytes.
type Places = HashMap<Sha256, (CommitId, RepoPath, u64)>;

fn place<'a>(wanted: &'a Wanted, places: &Places, root: &str) -> Object<'a> {
    let (oid, size) = (wanted.oid.as_str(), wanted.size);
    let lacking = |code, message| Object { oid, size, actions: None, error: Some(Lacking { code, message }) };
    let Ok(sha256) = oid.parse::<Sha256>() else { return lacking(422, "the oid is no sha256") };
    match places.get(&sha256) {
        None => lacking(404, "no commit of the repository that is here has this object"),
        Some((_, _, found)) if *found != size => lacking(422, "the object has another size"),
        Some((commit, path, _)) => {
            let href = format!("{root}/resolve/{commit}/{}", encode_path(path.as_str()));
            Object { oid, size, actions: Some(Actions { download: Download { href } }), error: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_where_its_commit_has_it() {
        let sha256 = Sha256::from_bytes([0xab; 32]);
        let commit = CommitId::from_bytes([0xcd; 20]);
        let places = HashMap::from([(sha256, (commit, "a b/w.bin".parse().unwrap(), 7))]);
        let find = |oid: &str, size| {
            let object = place(&Wanted { oid: oid.into(), size }, &places, "http://h/acme/tiny").actions;
            object.map(|actions| actions.download.href)
        };
        let href = format!("http://h/acme/tiny/resolve/{commit}/a%20b/w.bin");
        assert_eq!(find(&sha256.to_string(), 7), Some(href));
        assert_eq!(find(&sha256.to_string(), 8), None);
        assert_eq!(find(&"0".repeat(64), 7), None);
        assert_eq!(find("x", 7), None);
    }

    #[test]
    fn only_downloads_by_sha256() {
        let checked = |text: &str| check(&serde_json::from_str(text).unwrap());
        assert!(checked(r#"{"operation":"download","objects":[]}"#).is_ok());
        assert!(checked(r#"{"operation":"upload","objects":[]}"#).is_err());
        assert!(checked(r#"{"operation":"download","hash_algo":"sha512"}"#).is_err());
    }
}
