//! A node with a small model, and requests to its endpoint without a network.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod served;
pub mod upstream;

use std::path::PathBuf;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hubless_gateway::{GatewayConfig, router};
use hubless_testkit::{Swarm, SwarmNode};
use hubless_types::CommitId;
use serde_json::Value;
use tower::ServiceExt;

/// What tests return.
pub type TestResult = Result<()>;

/// Bytes of the file that `add` keeps by LFS.
pub const BIG: usize = 8 * 1024 * 1024 + 11;

/// The LFS file's content.
pub fn big_bytes() -> Vec<u8> {
    (0..BIG).map(|i| (i % 251) as u8).collect()
}

/// The folder of the model `acme/tiny`.
pub fn model_folder(swarm: &Swarm) -> Result<PathBuf> {
    let big = big_bytes();
    swarm.folder(
        "tiny",
        &[
            ("config.json", b"{\"hidden_size\":4}"),
            ("README.md", b"# tiny\n"),
            ("empty.txt", b""),
            ("100%.txt", b"percent"),
            ("onnx/sub dir/a,b+c.txt", b"odd"),
            ("onnx/model.onnx", b"onnx"),
            ("w.safetensors", &big),
        ],
    )
}

/// A node that published `acme/tiny` and `datasets/acme/rows`, and its endpoint.
pub struct Story {
    pub swarm: Swarm,
    pub node: SwarmNode,
    pub app: Router,
    pub commit: CommitId,
}

impl Story {
    pub async fn begin() -> Result<Self> {
        let swarm = Swarm::new()?;
        let node = swarm.lone_node()?;
        let commit = node.publish(&"acme/tiny".parse()?, model_folder(&swarm)?).await?.commit;
        let rows = swarm.folder("rows", &[("data/train.jsonl", b"{\"a\":1}\n")])?;
        node.publish(&"datasets/acme/rows".parse()?, rows).await?;
        let app = endpoint(&node);
        Ok(Self { swarm, node, app, commit })
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        ask(&self.app, "GET", path, &[], "").await
    }

    pub async fn head(&self, path: &str) -> Result<Answer> {
        ask(&self.app, "HEAD", path, &[], "").await
    }

    pub async fn range(&self, path: &str, range: &str) -> Result<Answer> {
        ask(&self.app, "GET", path, &[("range", range)], "").await
    }
}

/// A node's endpoint.
pub fn endpoint(node: &SwarmNode) -> Router {
    router(node.mirror.clone(), &GatewayConfig::default(), None)
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A header as text, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status, `X-Error-Code`, and whether message and JSON say the same.
    pub fn refusal(&self) -> (u16, &str, bool) {
        let error = self.json().ok().and_then(|json| Some(json.get("error")?.as_str()?.to_owned()));
        let same = error.is_some_and(|error| error == self.header("x-error-message"));
        (self.status.as_u16(), self.header("x-error-code"), same)
    }
}

/// Sends a request.
pub async fn ask(
    app: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer> {
    let mut request = Request::builder().method(method).uri(path).header("host", "hub.test:8090");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.clone().oneshot(request.body(Body::from(body.to_owned()))?).await?;
    let (parts, body) = response.into_parts();
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.collect().await?.to_bytes() })
}
