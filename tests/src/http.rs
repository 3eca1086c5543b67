//! Single HTTP requests, as a tool would make them.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; where the connection broke in the middle, what had arrived.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl Answer {
    /// A header's text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// `GET url`.
///
/// # Errors
/// If no answer begins.
pub async fn get(url: &str) -> Result<Answer> {
    request(Method::GET, url, None).await
}

/// `GET url` as whoever has `token`.
///
/// # Errors
/// If no answer begins.
pub async fn get_as(token: &str, url: &str) -> Result<Answer> {
    request(Method::GET, url, Some(("Authorization", format!("Bearer {token}")))).await
}

/// `GET url` with `Range: bytes=RANGE`.
///
/// # Errors
/// If no answer begins.
pub async fn get_range(url: &str, range: &str) -> Result<Answer> {
    request(Method::GET, url, Some(("Range", format!("bytes={range}")))).await
}

/// `HEAD url`.
///
/// # Errors
/// If no answer begins.
pub async fn head(url: &str) -> Result<Answer> {
    request(Method::HEAD, url, None).await
}

async fn request(method: Method, url: &str, header: Option<(&str, String)>) -> Result<Answer> {
    let uri: Uri = url.parse()?;
    let host = uri.authority().context("a url names its host")?.as_str().to_owned();
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let stream = TcpStream::connect(&host).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::builder().method(method).uri(path).header("Host", host);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let (head, mut stream) = response.into_parts();
    let (mut body, mut whole) = (Vec::new(), true);
    while let Some(frame) = stream.frame().await {
        match frame {
            Ok(frame) => body.extend(frame.into_data().unwrap_or_default()),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    Ok(Answer { status: head.status, headers: head.headers, body, whole })
}
