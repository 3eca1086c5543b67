//! Asks the running node, and hands on what it says while it works.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::connect;
use crate::error::NodeError;
use crate::exit::Exit;

/// Longest line or answer that is taken from the node, in bytes; `list` on a large node is the longest.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// One line of a long answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// How far it is, as the node said it.
    Progress(Value),
    /// It is done; this came of it.
    Done(Value),
}

/// A connection with the node that serves a data folder.
#[derive(Debug)]
pub(crate) struct AdminClient {
    sender: http1::SendRequest<Full<Bytes>>,
    // Drives the connection; dropping it hangs up, by which the node knows that nobody waits any more.
    _connection: JoinSet<()>,
}

impl AdminClient {
    /// Connects with the node that serves `dir`; `None` if none runs.
    ///
    /// # Errors
    /// If the socket is there and cannot be used.
    pub(crate) async fn find(dir: &Path) -> Result<Option<Self>, NodeError> {
        let Some(stream) = connect(dir)? else { return Ok(None) };
        let stream = UnixStream::from_std(stream).map_err(|e| NodeError::Admin(e.to_string()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Its end is seen by the request that is under way.
            let _ = connection.await;
        });
        Ok(Some(Self { sender, _connection: tasks }))
    }

    /// As [`Self::find`], where the command cannot do without a running node.
    pub(crate) async fn reach(dir: &Path) -> Result<Self, NodeError> {
        Self::find(dir).await?.ok_or_else(|| NodeError::NotRunning { dir: dir.to_owned() })
    }

    /// One answer for one question.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Value, NodeError> {
        let response = self.send(Method::GET, path, None).await?;
        whole(response).await
    }

    /// Asks for a piece of work; hands every progress line to `on_progress` and returns the result.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: &Value,
        mut on_progress: impl FnMut(Value),
    ) -> Result<Value, NodeError> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        if !response.status().is_success() || !is_ndjson(&response) {
            return whole(response).await;
        }
        let mut body = response.into_body();
        let mut lines = Lines::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            for event in lines.push(&data)? {
                match event {
                    Event::Progress(value) => on_progress(value),
                    Event::Done(result) => return Ok(result),
                }
            }
        }
        Err(NodeError::HungUp("it was not done".into()))
    }

    /// As [`Self::post`], for an answer that is no JSON, of at most `limit` bytes.
    pub(crate) async fn post_for_bytes(
        &mut self,
        path: &str,
        body: &Value,
        limit: usize,
    ) -> Result<Bytes, NodeError> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        if !response.status().is_success() {
            return whole(response).await.and(Err(NodeError::Admin("the node did not say why not".into())));
        }
        let body = http_body_util::Limited::new(response.into_body(), limit);
        Ok(body.collect().await.map_err(|e| NodeError::Admin(e.to_string()))?.to_bytes())
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, NodeError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "localhost")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| NodeError::Admin(e.to_string()))?;
        self.sender.send_request(request).await.map_err(broken)
    }
}

fn broken(error: hyper::Error) -> NodeError {
    NodeError::HungUp(error.to_string())
}

fn is_ndjson(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(hyper::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-ndjson"))
}

async fn whole(response: Response<Incoming>) -> Result<Value, NodeError> {
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER_BYTES);
    let bytes = body.collect().await.map_err(|e| NodeError::Admin(e.to_string()))?.to_bytes();
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
        NodeError::Admin(format!("the node answered {status} with something that is no JSON"))
    })?;
    if status.is_success() { Ok(value) } else { Err(refusal(&value)) }
}

/// What the node said of why not.
fn refusal(value: &Value) -> NodeError {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    NodeError::Refused {
        exit: Exit::of_kind(value["kind"].as_str().unwrap_or_default()),
        kind: text("kind").unwrap_or_else(|| Exit::Internal.kind().into()),
        error: text("error").unwrap_or_else(|| "the node did not say why not".into()),
        hint: text("hint"),
    }
}

/// Cuts a stream into lines and reads each.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, NodeError> {
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > MAX_ANSWER_BYTES {
            return Err(NodeError::Admin("the node's answer is too long".into()));
        }
        let Some(end) = self.rest.iter().rposition(|&b| b == b'\n') else { return Ok(Vec::new()) };
        let tail = self.rest.split_off(end + 1);
        let ready = std::mem::replace(&mut self.rest, tail);
        ready.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(event).collect()
    }
}

fn event(line: &[u8]) -> Result<Event, NodeError> {
    let mut value: Value = serde_json::from_slice(line)
        .map_err(|e| NodeError::Admin(format!("a line of the node is no JSON: {e}")))?;
    match value["event"].as_str() {
        Some("done") => Ok(Event::Done(value["result"].take())),
        Some("error") => Err(refusal(&value)),
        _ => Ok(Event::Progress(value)),
    }
}

/// The line that ends a long answer, as the node writes it.
pub(crate) fn done_line(result: &Value) -> Value {
    json!({ "event": "done", "result": result })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let text = b"{\"event\":\"note\",\"text\":\"a\"}\n\n{\"event\":\"done\",\"result\":{\"files\":3}}\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let got: Vec<Event> = text.chunks(size).flat_map(|c| lines.push(c).unwrap()).collect();
            assert_eq!(got.len(), 2);
            assert_eq!(got[1], Event::Done(json!({ "files": 3 })));
        }
    }

    #[test]
    fn an_error_keeps_its_kind_and_hint() {
        let line = br#"{"event":"error","error":"nobody has it","hint":"ask later","kind":"unavailable"}"#;
        let error = event(line).unwrap_err();
        assert_eq!(error.exit(), Exit::Unavailable);
        assert_eq!(error.to_string(), "nobody has it");
        assert_eq!(error.hint().as_deref(), Some("ask later"));
    }
}
