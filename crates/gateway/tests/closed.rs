//! Stories of repositories that their origin does not leave open, over real HTTP: who is answered what at each address, in
//! the words that clients look for.

mod common;

use anyhow::Result;
use common::TestResult;
use common::upstream::{Below, Upstream, content, tiny};
use hubless_testkit::{Hub, PortOf};

const READER: &str = "hf_reader";
const OTHER: &str = "hf_other";
const FORGED: &str = "hf_forged";

/// What clients compare, to the letter.
const DISABLED: &str = "Access to this resource is disabled.";
const BAD_TOKEN: &str = "Invalid credentials in Authorization header";

/// Addresses of content.
const CONTENT: [(&str, &str); 6] = [
    ("HEAD", "/acme/tiny/resolve/main/w.safetensors"),
    ("GET", "/acme/tiny/resolve/main/w.safetensors"),
    ("GET", "/acme/tiny/resolve/main/config.json"),
    ("GET", "/acme/tiny/raw/main/s.txt"),
    ("GET", "/acme/tiny/raw/main/w.safetensors"),
    ("GET", "/api/models/acme/tiny/auth-check"),
];

/// Addresses of what the repository has.
const LISTING: [(&str, &str); 3] = [
    ("GET", "/api/models/acme/tiny"),
    ("GET", "/api/models/acme/tiny/tree/main"),
    ("HEAD", "/api/models/acme/tiny/tree/main"),
];

/// A hub with `acme/tiny` for `READER` alone, where `OTHER` is known as well.
async fn closed(close: impl Fn(&Hub) -> Result<()>) -> Result<Upstream> {
    let upstream = Upstream::begin().await?;
    upstream.hub.user(OTHER);
    close(&upstream.hub)?;
    Ok(upstream)
}

/// Every address answers `token` with this status and code, on a node that has nothing and again when that was asked.
async fn answered(
    node: &Below,
    token: Option<&str>,
    addresses: &[(&str, &str)],
    told: (u16, &str),
) -> TestResult {
    for round in ["first", "again"] {
        for (method, path) in addresses {
            let answer = node.ask_as(token, method, path).await?;
            let found = (answer.status.as_u16(), answer.header("x-error-code"));
            let said = answer.header("x-error-message");
            assert_eq!(found, told, "{round} {method} {path} as {token:?}: {said}");
            match told.1 {
                "Disabled" => assert_eq!(said, DISABLED, "{method} {path}"),
                "Unauthorized" => assert_eq!(said, BAD_TOKEN, "{method} {path}"),
                "" => assert!(said.is_empty()),
                _ => assert!(!said.is_empty(), "{method} {path}: refusals say why"),
            }
            assert!(
                told.0 < 400 || *method == "HEAD" || answer.refusal().2,
                "{method} {path}: {}",
                answer.text()
            );
        }
    }
    Ok(())
}

/// Gated: everybody sees what there is; the content is for those who were let in, and others are told that they could be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gated_repository_is_listed_to_all_and_read_by_some() -> TestResult {
    let upstream = closed(|hub| hub.gate(&tiny()?, &[READER])).await?;
    for (token, told) in [
        (None, (401, "GatedRepo")),
        (Some(OTHER), (403, "GatedRepo")),
        (Some(FORGED), (401, "Unauthorized")),
        (Some(READER), (200, "")),
    ] {
        // A fresh node, and one that has all of it by somebody else's token.
        let (fresh, full) = (upstream.below()?, upstream.below()?);
        answered(&full, Some(READER), &CONTENT, (200, "")).await?;
        for node in [&fresh, &full] {
            answered(node, token, &CONTENT, told).await?;
        }
        answered(&full, token, &LISTING, (200, "")).await?;
        let read = fresh.ask_as(Some(READER), "GET", CONTENT[1].1).await?;
        assert_eq!(read.body, content("w.safetensors"));
    }
    Ok(())
}

/// Private: whoever may not know of it is answered as of one that there is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_repository_is_not_there_for_others() -> TestResult {
    let upstream = closed(|hub| hub.private(&tiny()?, &[READER])).await?;
    for (token, told) in
        [(None, (401, "RepoNotFound")), (Some(OTHER), (404, "RepoNotFound")), (Some(READER), (200, ""))]
    {
        let (fresh, full) = (upstream.below()?, upstream.below()?);
        answered(&full, Some(READER), &CONTENT, (200, "")).await?;
        for node in [&fresh, &full] {
            answered(node, token, &CONTENT, told).await?;
            answered(node, token, &LISTING, told).await?;
        }
    }
    Ok(())
}

/// A token that is none is told so, wherever a token is looked at, and before anything is said of the repository.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_token_is_told_so() -> TestResult {
    let upstream = closed(|hub| hub.private(&tiny()?, &[READER])).await?;
    let (fresh, full) = (upstream.below()?, upstream.below()?);
    answered(&full, Some(READER), &CONTENT, (200, "")).await?;
    for node in [&fresh, &full] {
        answered(node, Some(FORGED), &CONTENT, (401, "Unauthorized")).await?;
        answered(node, Some(FORGED), &LISTING, (401, "Unauthorized")).await?;
        let nowhere = node.ask_as(Some(FORGED), "GET", "/api/models/acme/nothing").await?;
        assert_eq!(nowhere.refusal(), (401, "Unauthorized", true), "no less of what there is not");
    }
    Ok(())
}

/// Switched off: nobody gets anything of it, whoever asks, and clients know the words; nor from a node that has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_switched_off_is_for_nobody() -> TestResult {
    let upstream = closed(|_| Ok(())).await?;
    let full = upstream.below()?;
    answered(&full, None, &CONTENT, (200, "")).await?;
    upstream.hub.disable(&tiny()?)?;
    // What a name means was asked a moment ago, and is not asked again so soon.
    tokio::time::sleep(std::time::Duration::from_millis(3_500)).await;
    let _ = full.get(LISTING[1].1).await?;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for node in [&upstream.below()?, &full] {
        for token in [None, Some(OTHER)] {
            answered(node, token, &CONTENT, (403, "Disabled")).await?;
            answered(node, token, &LISTING, (403, "Disabled")).await?;
        }
    }
    Ok(())
}

/// A token is shown where it is wanted, and nowhere else: not for what is open, and not to the content network.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_repository_is_read_without_the_token_that_came_along() -> TestResult {
    let upstream = closed(|_| Ok(())).await?;
    let node = upstream.below()?;
    for token in [OTHER, FORGED] {
        answered(&node, Some(token), &CONTENT, (200, "")).await?;
        answered(&node, Some(token), &LISTING, (200, "")).await?;
    }
    upstream.hub.gate(&tiny()?, &[READER])?;
    let gated = upstream.below()?;
    answered(&gated, Some(READER), &CONTENT, (200, "")).await?;
    let (mut shown, mut network) = (0, 0);
    for request in upstream.hub.requests() {
        let tokens = [READER, OTHER, FORGED];
        let with = request.headers.iter().any(|(_, value)| tokens.iter().any(|token| value.contains(token)));
        match request.port {
            PortOf::Content => assert!(!with, "{}", request.target),
            PortOf::Hub if with => assert!(
                request.header("authorization") == Some(&format!("Bearer {READER}"))
                    || request.target.ends_with("git-upload-pack"),
                "{request:?}"
            ),
            PortOf::Hub => {}
        }
        shown += usize::from(with);
        network += usize::from(request.port == PortOf::Content);
    }
    assert!(shown > 0 && network > 0, "both were asked");
    Ok(())
}
