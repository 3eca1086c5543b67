//! Whatever a client sends: no panic, no 5xx, and every refusal says why.

mod common;

use std::rc::Rc;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use common::Story;
use proptest::prelude::*;
use tower::ServiceExt;

/// One node for all cases of a test's thread, with which it goes.
fn endpoint() -> Rc<(tokio::runtime::Runtime, Story)> {
    #[allow(clippy::unwrap_used, reason = "a thread's own has nobody to hand an error to")]
    fn begin() -> Rc<(tokio::runtime::Runtime, Story)> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let story = runtime.block_on(Story::begin()).unwrap();
        Rc::new((runtime, story))
    }
    thread_local! {
        static ENDPOINT: Rc<(tokio::runtime::Runtime, Story)> = begin();
    }
    ENDPOINT.with(Rc::clone)
}

fn segment() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "api",
        "models",
        "datasets",
        "spaces",
        "acme",
        "tiny",
        "rows",
        "resolve",
        "raw",
        "tree",
        "main",
        "refs",
        "pr",
        "revision",
        "paths-info",
        "commits",
        "auth-check",
        "healthz",
        "w.safetensors",
        "config.json",
        "empty.txt",
        "onnx",
        "..",
        "%2e%2e",
        "",
        "%00",
        "%ff",
        "HEAD",
        "whoami-v2",
    ];
    prop_oneof![6 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => "[!-\"$->@-~]{0,12}", 1 => "(%[0-9a-fA-F]{0,2}){0,4}"]
}

fn path() -> impl Strategy<Value = String> {
    (prop::collection::vec(segment(), 0..9), prop_oneof![Just(String::new()), "\\?[!-\"$-~]{0,24}"])
        .prop_map(|(segments, query)| format!("/{}{query}", segments.join("/")))
}

proptest! {
    #[test]
    fn no_request_breaks_it(
        path in path(),
        method in prop::sample::select(&["GET", "HEAD", "POST", "OPTIONS", "PUT"][..]),
        range in prop_oneof![Just(String::new()), "bytes=[0-9]{0,21}-[0-9]{0,21}", "[ -~]{0,20}"],
        host in prop::collection::vec(any::<u8>(), 0..12),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut request = Request::builder().method(method).uri(&path).header("range", range);
        if let Ok(host) = HeaderValue::from_bytes(&host) {
            request = request.header("host", host);
        }
        let Ok(request) = request.body(Body::from(body)) else { return Ok(()) };
        let both = endpoint();
        let (runtime, story) = &*both;
        let answer = runtime.block_on(story.app.clone().oneshot(request)).unwrap();
        let status = answer.status();
        prop_assert!(!status.is_server_error(), "{path}: {status}");
        prop_assert_eq!(status.is_client_error(), answer.headers().contains_key("x-error-code"));
        let whole = runtime.block_on(axum::body::to_bytes(answer.into_body(), usize::MAX));
        prop_assert!(whole.is_ok());
    }
}
