//! Git's smart HTTP, by the real `git http-backend`.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt as _;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout};

use super::address::About;
use super::answer::{Handled, Refused, redirect, set};
use super::body::{Body, boxed};
use super::record::Who;
use super::repo::{self, Git};
use super::{Shared, access, lfs};

/// Bytes of a pack sent at a time.
const PIECE: usize = 64 * 1024;

/// A request as CGI wants it.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
}

/// `info/refs`, `git-upload-pack`, `git-receive-pack` (refused), and the LFS batch API.
pub(crate) async fn handle(shared: &Shared, about: &About, who: &Who, asked: Asked<'_>) -> Handled {
    let (repo, shown) =
        access::enter(shared, &about.repo, who).map_err(|refused| ask_for_token(refused, asked.headers))?;
    if repo != about.repo {
        return Ok(redirect(307, &about.renamed(&repo)));
    }
    access::check_read(&repo, &shown, who)?;
    let rest: Vec<&str> = about.rest.iter().map(String::as_str).collect();
    let inner = match (about.verb.as_str(), &rest[..]) {
        ("info", ["lfs", "objects", "batch"]) => return lfs::batch(shared, &repo, &asked.body).await,
        ("info", ["refs"]) => "info/refs",
        ("git-upload-pack", []) => "git-upload-pack",
        ("git-receive-pack", []) => {
            return Err(Refused::new(403, None, "this hub takes no pushes over HTTP"));
        }
        _ => return Err(Refused::new(404, None, "no such address")),
    };
    Ok(run(shared, &format!("/{}/{inner}", Git::name(&repo)), &asked).await?)
}

/// Git sends a password only to a server that asks for one.
fn ask_for_token(refused: Refused, headers: &HeaderMap) -> Refused {
    if headers.contains_key(AUTHORIZATION) { refused } else { Refused { status: 401, ..refused } }
}

async fn run(shared: &Shared, path: &str, asked: &Asked<'_>) -> Result<Response<Body>> {
    let text = |name: HeaderName| {
        asked.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut command = repo::git(shared.git.root());
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", shared.git.root())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("REQUEST_METHOD", asked.method)
        .env("QUERY_STRING", asked.query.unwrap_or_default())
        .env("CONTENT_TYPE", text(CONTENT_TYPE))
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text(CONTENT_ENCODING))
        .env("GIT_PROTOCOL", text(HeaderName::from_static("git-protocol")))
        .env("GIT_HTTP_MAX_REQUEST_BUFFER", "100M")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().context("run git http-backend")?;
    let mut stdin = child.stdin.take().context("its input is piped")?;
    let mut out = BufReader::new(child.stdout.take().context("its output is piped")?);
    // It reads the request whole before it answers.
    let _ = stdin.write_all(&asked.body).await;
    drop(stdin);
    let mut response = read_head(&mut out).await?;
    *response.body_mut() = body(child, out);
    Ok(response)
}

/// The headers that a CGI program writes first; `Status` is the status.
async fn read_head(out: &mut BufReader<ChildStdout>) -> Result<Response<Body>> {
    let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(empty);
    loop {
        let mut line = String::new();
        out.read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(response);
        }
        let (name, value) = line.split_once(": ").context("a header has a name")?;
        if name == "Status" {
            let status = value.split_whitespace().next().unwrap_or_default().parse::<u16>()?;
            *response.status_mut() = StatusCode::from_u16(status)?;
        } else {
            response.headers_mut().insert(name.parse::<HeaderName>()?, HeaderValue::from_str(value)?);
        }
    }
}

fn body(child: Child, out: BufReader<ChildStdout>) -> Body {
    boxed(stream::try_unfold((child, out), |(mut child, mut out)| async move {
        let mut piece = vec![0; PIECE];
        let n = out.read(&mut piece).await?;
        if n == 0 {
            child.wait().await?;
            return Ok(None);
        }
        piece.truncate(n);
        Ok(Some((Bytes::from(piece), (child, out))))
    }))
}

/// What makes git ask its user for a password.
pub(crate) fn challenge(response: &mut Response<Body>) {
    set(response, "www-authenticate", "Basic realm=\"Authentication required\"");
}
