//! Git's smart HTTP (gitprotocol-http): clone and fetch in version 2 of the protocol, and clear words for the rest.
//!
//! **Not here:** what a pack holds (`mirror::GitServer`).

use std::io::Read as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hubless_mirror::{GitServer, MAX_GIT_REQUEST_BYTES};
use hubless_types::RepoId;

use crate::address::Door;
use crate::answer::Fault;
use crate::app::{App, Ask};
use crate::incoming::{self, bad, too_large};
use crate::revision::commit_for;

/// How the address of a fetch ends.
pub(crate) const UPLOAD_PACK: &str = "/git-upload-pack";
/// Longest wait until an answer to git begins. Git itself waits for ever, and a commit may have to be fetched first.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Most requests whose bodies are read at once.
pub(crate) const BODIES_AT_ONCE: usize = 16;
/// Longest wait for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
const PLAIN: &str = "text/plain; charset=utf-8";
/// Said to those that speak an older version of the protocol.
const OLD_PROTOCOL: &str = "this node speaks version 2 of git's protocol alone: use git 2.26 or later, or set \
                            `protocol.version` to 2; clients without it can fetch files by HTTP";
/// Said to those that want to push.
const NO_PUSH: &str = "this node takes no pushes: publish a folder with `hubless add`, or push to the origin";

/// Answers a git client. Git shows its user a refusal only if it is plain text.
///
/// # Errors
/// [`Fault::moved`]: a clone remembers its address, so git is sent on.
pub(crate) async fn git(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    door: &Door,
    body: Body,
) -> Result<Response, Fault> {
    let answer = match door {
        Door::GitRefs => refs(app, ask, repo).await,
        Door::GitUploadPack => upload_pack(app, ask, repo, body).await,
        _ => Err(Fault::new(StatusCode::FORBIDDEN, "ReadOnly", NO_PUSH)),
    };
    answer.or_else(|fault| match fault.moved_to() {
        Some(_) => Err(fault),
        None => Ok(refuse(ask, fault)),
    })
}

fn refuse(ask: &Ask, fault: Fault) -> Response {
    let text = format!("{}\n", fault.text()).into_bytes();
    let mut answer = fault.into_form(ask.has_token(), PLAIN, text);
    if answer.status() == StatusCode::UNAUTHORIZED {
        // Without this, git never asks its user or its helpers for a token.
        let basic = HeaderValue::from_static("Basic realm=\"the token is the password\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    answer
}

/// `GET …/info/refs`: what this server can do; the refs themselves are asked for next.
async fn refs(app: &App, ask: &Ask, repo: &RepoId) -> Result<Response, Fault> {
    match ask.query.get("service") {
        Some("git-upload-pack") => {}
        Some("git-receive-pack") => return Err(Fault::new(StatusCode::FORBIDDEN, "ReadOnly", NO_PUSH)),
        _ => {
            return Err(Fault::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "only git's smart protocol is served",
            ));
        }
    }
    // Here git's user or helper is asked for a token, and not in the middle of a clone.
    app.mirror.may_read(&ask.caller(), repo).await?;
    if !app.mirror.knows(repo)? {
        commit_for(app, ask, repo, "main").await?;
    }
    let body = match speaks_v2(ask) {
        true => GitServer::capabilities(&format!("hubless/{}", app.config.version)),
        false => old_client("# service=git-upload-pack"),
    };
    Ok(answer("application/x-git-upload-pack-advertisement", Body::from(body)))
}

/// In older versions the service is named first.
fn old_client(service: &str) -> Vec<u8> {
    let mut out = format!("{:04x}{service}\n0000", service.len() + 5).into_bytes();
    out.extend(GitServer::refusal(OLD_PROTOCOL));
    out
}

fn speaks_v2(ask: &Ask) -> bool {
    ask.header(GIT_PROTOCOL).is_some_and(|text| text.split(':').any(|part| part.trim() == "version=2"))
}

/// `POST …/git-upload-pack`: refs or a pack.
async fn upload_pack(app: &App, ask: &Ask, repo: &RepoId, body: Body) -> Result<Response, Fault> {
    const RESULT: &str = "application/x-git-upload-pack-result";
    if !speaks_v2(ask) {
        return Ok(answer(RESULT, Body::from(GitServer::refusal(OLD_PROTOCOL))));
    }
    let request = {
        let _turn = app.git_bodies.acquire().await.map_err(|_| Fault::internal())?;
        read(ask, body).await?
    };
    let pieces = app.git.answer(&ask.caller(), repo, request).await?;
    Ok(answer(RESULT, Body::from_stream(pieces)))
}

/// The request's body, unpacked if it is packed.
async fn read(ask: &Ask, body: Body) -> Result<Bytes, Fault> {
    let whole = incoming::read(body, MAX_GIT_REQUEST_BYTES, BODY_TIMEOUT).await?;
    match ask.header(header::CONTENT_ENCODING).map(str::trim) {
        None | Some("" | "identity") => Ok(whole),
        Some("gzip" | "x-gzip") => {
            let unpacked = tokio::task::spawn_blocking(move || unpack(&whole)).await;
            unpacked.map_err(|_| Fault::internal())?
        }
        Some(_) => Err(Fault::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "BadRequest",
            "a request may be packed with gzip alone",
        )),
    }
}

/// A few bytes of gzip can hold gigabytes: what comes out is bounded as what goes in is.
fn unpack(packed: &[u8]) -> Result<Bytes, Fault> {
    let mut out = Vec::new();
    let limit = MAX_GIT_REQUEST_BYTES as u64 + 1;
    let read = flate2::read::MultiGzDecoder::new(packed).take(limit).read_to_end(&mut out);
    read.map_err(|_| bad("the request's body is no gzip"))?;
    if out.len() > MAX_GIT_REQUEST_BYTES {
        return Err(too_large(MAX_GIT_REQUEST_BYTES));
    }
    Ok(out.into())
}

fn answer(content_type: &'static str, body: Body) -> Response {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_request_is_bounded() {
        assert_eq!(unpack(&gzip(b"0000")).unwrap(), "0000");
        assert!(unpack(b"0000").is_err());
        let bomb = gzip(&vec![b'0'; MAX_GIT_REQUEST_BYTES + 1]);
        assert!(bomb.len() < MAX_GIT_REQUEST_BYTES / 100);
        assert_eq!(unpack(&bomb).unwrap_err(), too_large(MAX_GIT_REQUEST_BYTES));
    }

    #[test]
    fn an_old_client_reads_why() {
        let text = String::from_utf8(old_client("# service=git-upload-pack")).unwrap();
        assert!(text.starts_with("001e# service=git-upload-pack\n0000") && text.contains("ERR this node"));
    }
}
