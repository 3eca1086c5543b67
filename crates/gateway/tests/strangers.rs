//! Whatever a client sends: no panic, no 5xx, and every refusal says why.

mod common;

use std::rc::Rc;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use common::{Story, TestResult, ask};
use hubless_gateway::{GatewayConfig, router};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
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

/// A commit and a sha256 that nobody has.
const COMMIT: &str = "00112233445566778899aabbccddeeff00112233";
const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

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
        "v1",
        "v2",
        "manifests",
        "latest",
        "blobs",
        "sha256:",
        "sha256:00",
        "info",
        "git-upload-pack",
        "git-receive-pack",
        "tiny.git",
        ".git",
        "lfs",
        "objects",
        "batch",
        "xet",
        "xet-read-token",
        "reconstructions",
        "xorbs",
        "0",
        "18446744073709551615",
        "18446744073709551616",
        COMMIT,
        DIGEST,
    ];
    prop_oneof![6 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => "[!-\"$->@-~]{0,12}", 1 => "(%[0-9a-fA-F]{0,2}){0,4}"]
}

fn path() -> impl Strategy<Value = String> {
    (prop::collection::vec(segment(), 0..9), prop_oneof![Just(String::new()), "\\?[!-\"$-~]{0,24}"])
        .prop_map(|(segments, query)| format!("/{}{query}", segments.join("/")))
}

/// An address of one of the other doors: git, LFS, ollama, Xet, with what may go wrong in each place.
fn door() -> impl Strategy<Value = String> {
    let name = || {
        prop::sample::select(
            &["acme/tiny", "acme/tiny.git", "datasets/acme/rows", "no/such", "x", "a--b/c", ".."][..],
        )
    };
    let commit = || prop_oneof![Just(COMMIT.to_owned()), "[0-9a-f]{39,41}", "main|HEAD|refs%2Fpr%2F1"];
    let digest = || prop_oneof![Just(DIGEST.to_owned()), "[0-9a-fA-F]{63,65}", "[ -~&&[^/?#]]{0,9}"];
    let number = || prop_oneof!["[0-9]{1,22}", "-?[0-9a-z]{0,4}"];
    prop_oneof![
        (name(), "[!-~&&[^#/?]]{0,200}").prop_map(|(name, tag)| format!("/v2/{name}/manifests/{tag}")),
        (name(), "sha256:|md5:|", digest())
            .prop_map(|(name, kind, hash)| format!("/v2/{name}/blobs/{kind}{hash}")),
        (name(), "git-upload-pack|git-receive-pack|[a-z]{0,5}")
            .prop_map(|(name, service)| format!("/{name}/info/refs?service={service}")),
        name().prop_map(|name| format!("/{name}/git-upload-pack")),
        name().prop_map(|name| format!("/{name}/git-receive-pack")),
        name().prop_map(|name| format!("/{name}/info/lfs/objects/batch")),
        (name(), commit()).prop_map(|(name, rev)| format!("/api/models/{name}/xet-read-token/{rev}")),
        (name(), commit(), "v[0-3]", digest()).prop_map(|(name, commit, version, hash)| {
            format!("/xet/models/{name}/{commit}/{version}/reconstructions/{hash}")
        }),
        (name(), commit(), digest(), number())
            .prop_map(|(name, commit, hash, n)| format!("/xet/models/{name}/{commit}/xorbs/{hash}/{n}")),
    ]
}

/// Bodies that look like what these doors take, more or less.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let git = prop::sample::select(
        &[
            "0014command=ls-refs\n",
            "0012command=fetch\n",
            "0001",
            "0000",
            "0002",
            "0003",
            "000fno-progress",
            "0032want 00112233445566778899aabbccddeeff00112233\n",
            "0032have 00112233445566778899aabbccddeeff00112233\n",
            "0009want ",
            "000fdeepen 99999",
            "0013filter blob:wat",
            "0009done\n",
            "ffff",
            "fff0",
            "zzzz",
        ][..],
    );
    let lfs = prop::sample::select(
        &[
            r#"{"operation":"download","objects":["#,
            r#"{"oid":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","size":1},"#,
            r#"{"oid":"x","size":-1}"#,
            r#"{"oid":"x","size":1e99}"#,
            r#"]}"#,
            r#"{"operation":"upload""#,
            "[[[[[[[[[[[[[[[[",
            "\u{0}",
            "null",
        ][..],
    );
    prop_oneof![
        prop::collection::vec(git, 0..8).prop_map(|lines| lines.concat().into_bytes()),
        prop::collection::vec(lfs, 0..5).prop_map(|parts| parts.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..64),
    ]
}

/// Sends one request, and fails if it breaks anything.
fn withstood(request: Request<Body>) -> Result<(), TestCaseError> {
    let what = format!("{} {}", request.method(), request.uri());
    let both = endpoint();
    let (runtime, story) = &*both;
    let answered = runtime.block_on(async {
        let answer = story.app.clone().oneshot(request).await?;
        let (status, told) = (answer.status(), answer.headers().contains_key("x-error-code"));
        anyhow::Ok((status, told, axum::body::to_bytes(answer.into_body(), usize::MAX).await))
    });
    let (status, told, whole) = answered.map_err(|error| TestCaseError::fail(format!("{what}: {error}")))?;
    prop_assert!(!status.is_server_error(), "{what}: {status}");
    prop_assert_eq!(status.is_client_error(), told, "{}: {}", what, status);
    prop_assert!(whole.is_ok(), "{what}: {whole:?}");
    Ok(())
}

proptest! {
    #[test]
    fn no_request_breaks_another_door(
        path in door(),
        method in prop::sample::select(&["GET", "HEAD", "POST"][..]),
        range in prop_oneof![Just(String::new()), "bytes=[0-9]{0,21}-[0-9]{0,21}", "[ -~]{0,20}"],
        protocol in prop::sample::select(&["version=2", "version=1", "", "version=2:version=999"][..]),
        encoding in prop::sample::select(&["", "identity", "gzip", "br"][..]),
        token in prop::sample::select(&["", "Bearer hf_x", "Basic Og==", "Basic ????", "Bearer "][..]),
        body in body(),
    ) {
        let headers = [
            ("host", "hub.test"), ("range", &range), ("git-protocol", protocol), ("content-encoding", encoding),
            ("authorization", token),
        ];
        let mut request = Request::builder().method(method).uri(&path);
        for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        let Ok(request) = request.body(Body::from(body)) else { return Ok(()) };
        withstood(request)?;
    }

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
        withstood(request)?;
    }
}

/// A door's address with a body that is refused, and how.
type Hostile = (&'static str, &'static [(&'static str, &'static str)], Body, (u16, &'static str));

const V2: &[(&str, &str)] = &[("git-protocol", "version=2")];
const GZIP: &[(&str, &str)] = &[("git-protocol", "version=2"), ("content-encoding", "gzip")];
const GIT: &str = "/acme/tiny.git/git-upload-pack";
const LFS: &str = "/acme/tiny.git/info/lfs/objects/batch";

/// Megabytes that pack into kilobytes.
fn bomb() -> anyhow::Result<Vec<u8>> {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        packer.write_all(&[b'0'; 1024 * 1024])?;
    }
    Ok(packer.finish()?)
}

/// A batch of so many objects.
fn batch(objects: usize) -> String {
    let one = format!(r#"{{"oid":"{DIGEST}","size":1}}"#);
    format!(r#"{{"operation":"download","objects":[{}]}}"#, vec![one; objects].join(","))
}

/// Bodies that are too long, unpack to too much, nest too deep, ask for too many things, break off, or never come: each is
/// refused in time, with a code, and the next request is answered as ever.
#[tokio::test(start_paused = true)]
async fn what_is_too_much_for_a_door_is_refused_in_time() -> TestResult {
    let story = Story::begin().await?;
    let broken = || futures::stream::iter([Ok("0014"), Err(std::io::Error::other("gone"))]);
    let never = || Body::from_stream(futures::stream::pending::<Result<&str, std::io::Error>>());
    let cases: Vec<Hostile> = vec![
        (GIT, V2, Body::from(vec![b'0'; 9 * 1024 * 1024]), (413, "TooLarge")),
        (GIT, GZIP, Body::from(bomb()?), (413, "TooLarge")),
        (GIT, GZIP, Body::from("no gzip"), (400, "BadRequest")),
        (GIT, V2, Body::from("0032want ".to_owned() + COMMIT), (400, "BadRequest")),
        (GIT, V2, Body::from_stream(broken()), (400, "BadRequest")),
        (GIT, V2, never(), (408, "Timeout")),
        (LFS, &[], Body::from(" ".repeat(2 * 1024 * 1024)), (413, "TooLarge")),
        (LFS, &[], Body::from(batch(1_001)), (413, "TooLarge")),
        (LFS, &[], Body::from("[".repeat(500_000)), (400, "BadRequest")),
        (
            LFS,
            &[],
            Body::from(format!(r#"{{"operation":{}"#, r#"{"a":"#.repeat(100_000))),
            (400, "BadRequest"),
        ),
        (LFS, &[], Body::from_stream(broken()), (400, "BadRequest")),
        (LFS, &[], never(), (408, "Timeout")),
    ];
    for (n, (path, headers, body, told)) in cases.into_iter().enumerate() {
        let mut request = Request::builder().method("POST").uri(path).header("host", "hub.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = story.app.clone().oneshot(request.body(body)?).await?;
        let code = answer.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        assert_eq!((answer.status().as_u16(), code), (told.0, Some(told.1)), "{path} {n}");
    }
    let many = ask(&story.app, "POST", LFS, &[], &batch(1_001)).await?;
    assert!(many.text().contains("more than 1000 objects"), "{}", many.text());
    let ls = ask(&story.app, "POST", GIT, V2, "0014command=ls-refs\n0000").await?;
    assert!(ls.status == 200 && ls.text().contains("refs/heads/main"), "{}", ls.text());
    assert_eq!(ask(&story.app, "POST", LFS, &[], &batch(1_000)).await?.status, 200);
    Ok(())
}

/// Addresses of the registry and of Xet that name nothing, or too much of it.
#[tokio::test]
async fn what_names_nothing_at_a_door_is_told_so() -> TestResult {
    let story = Story::begin().await?;
    let commit = story.commit.to_string();
    let digest = story.head("/acme/tiny/resolve/main/w.safetensors").await?.header("etag").replace('"', "");
    let (xet, long) = (format!("/xet/models/acme/tiny/{commit}"), "x".repeat(9_000));
    let config = GatewayConfig { xet_above: 1_000_000, ..GatewayConfig::default() };
    let app = router(story.node.mirror.clone(), &config, None);
    let get = async |path: &str| ask(&app, "GET", path, &[], "").await;
    for path in [
        format!("/v2/acme/tiny/blobs/sha256:{digest}"),
        format!("{xet}/v2/reconstructions/{digest}"),
        format!("{xet}/xorbs/{digest}/0"),
        "/api/models/acme/tiny/xet-read-token/main".to_owned(),
    ] {
        assert_eq!(get(&path).await?.status, 200, "{path}: what is asked rightly is there");
    }
    for path in [
        format!("/v2/acme/tiny/manifests/{long}"),
        "/v2/acme/tiny/manifests/%00".to_owned(),
        "/v2/acme/tiny/manifests/..".to_owned(),
        format!("/v2/acme/tiny/blobs/sha256:{}", digest.to_uppercase()),
        format!("/v2/acme/tiny/blobs/sha256:{digest}0"),
        format!("/v2/acme/tiny/blobs/{long}"),
        "/v2/acme/tiny/tags/list".to_owned(),
        format!("/v2/{long}/tiny/manifests/latest"),
        "/v2/_catalog".to_owned(),
        format!("{xet}/v2/reconstructions/{DIGEST}"),
        format!("{xet}/v9/reconstructions/{digest}"),
        format!("{xet}/xorbs/{digest}/18446744073709551615"),
        format!("{xet}/xorbs/{digest}/18446744073709551616"),
        format!("{xet}/xorbs/{digest}/-1"),
        format!("/xet/models/acme/tiny/{COMMIT}/v2/reconstructions/{digest}"),
        "/api/models/acme/tiny/xet-read-token/nope".to_owned(),
        "/api/models/acme/tiny/xet-write-token/main".to_owned(),
        format!("/api/models/acme/tiny/xet-read-token/{long}"),
    ] {
        let answer = get(&path).await?;
        let short: String = path.chars().take(120).collect();
        assert!(answer.status.is_client_error(), "{short}: {} {}", answer.status, answer.text());
        assert!(!answer.header("x-error-code").is_empty(), "{short}");
    }
    Ok(())
}
