//! Stories of every door but the Hub's own: who is let in, and what strangers send.

mod common;

use std::process::{Command, Output};

use anyhow::{Context, Result};
use common::served::Served;
use common::{Answer, TestResult, ask, endpoint};
use hubless_gateway::{GatewayConfig, router};
use hubless_testkit::{MemoryOrigin, Question, Swarm, SwarmNode};
use hubless_types::{Access, CommitId, Timestamp};
use serde_json::{Value, json};

const TOKEN: &str = "hf_letmein";

/// A node below an origin that keeps `acme/secret` from strangers.
fn scene(access: Access) -> Result<(Swarm, SwarmNode, MemoryOrigin)> {
    let (swarm, origin) = (Swarm::new()?, MemoryOrigin::new("https://hub.test"));
    let repo = "acme/secret".parse()?;
    let weights: Vec<u8> = (0..9_000_000_u32).map(|i| (i % 241) as u8).collect();
    origin.publish(&repo, "main", &[("README.md", b"# first\n")])?;
    origin.publish(&repo, "main", &[("README.md", b"# secret\n"), ("T-Q4_K_M.gguf", &weights)])?;
    origin.restrict(&repo, access, &[TOKEN])?;
    let node = swarm.node_below(vec![origin.origin()], |_| {})?;
    Ok((swarm, node, origin))
}

async fn git(served: &Served, args: &[&str]) -> Result<Output> {
    let dir = served.swarm.dir.path();
    let mut git = Command::new("git");
    git.current_dir(dir).args(args).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", dir);
    git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "true");
    Ok(tokio::task::spawn_blocking(move || git.output()).await??)
}

/// What only the origin has is cloned through this node; older history, which nobody asked the origin for, is not.
#[tokio::test(flavor = "multi_thread")]
async fn git_is_served_from_the_origin() -> TestResult {
    let (swarm, node, _origin) = scene(Access::Open)?;
    let served = Served::of(swarm, node).await?;
    let url = format!("{}/acme/secret", served.url);
    let one = git(&served, &["clone", "-q", "--depth", "1", &url, "one"]).await?;
    assert!(one.status.success(), "{}", String::from_utf8_lossy(&one.stderr));
    assert_eq!(std::fs::read(served.swarm.dir.path().join("one/README.md"))?, b"# secret\n");
    let all = git(&served, &["clone", "-q", &url, "all"]).await?;
    let said = String::from_utf8_lossy(&all.stderr).into_owned();
    assert!(!all.status.success() && said.contains("more history is asked for than is held"), "{said}");
    Ok(())
}

/// Whoever may not know of a private repository is answered as of one that there is not, however its name is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_not_betrayed_by_its_name() -> TestResult {
    let (_swarm, node, _origin) = scene(Access::Private)?;
    node.store.catalogue().put_alias(&"acme/old".parse()?, &"acme/secret".parse()?)?;
    let token = format!("Bearer {TOKEN}");
    let insider = [("authorization", token.as_str())];
    let known = ask(&endpoint(&node), "GET", "/api/models/acme/secret", &insider, "").await?;
    assert_eq!(known.status, 200);
    // What was seen while it was open is no less a secret now.
    let by = hubless_mirror::RefSource::Origin("https://hub.test".into());
    let record = hubless_mirror::RefRecord { commit: CommitId::from_bytes([1; 20]), seen: Timestamp(1), by };
    node.store.catalogue().set_ref(&"acme/secret".parse()?, &"hidden".parse()?, record)?;
    for tail in ["", "/tree/main", "/auth-check", "/refs", "/commits/main", "/revision/main"] {
        let path = |name: &str| format!("/api/models/{name}{tail}");
        let there = ask(&endpoint(&node), "GET", &path("Acme/SECRET"), &insider, "").await?;
        assert_eq!(there.status, 307, "{tail}: one who may know is sent on");
        let none = ask(&endpoint(&node), "GET", &path("NO/SUCH"), &[], "").await?;
        for name in ["acme/secret", "Acme/SECRET", "acme/old"] {
            let answer = ask(&endpoint(&node), "GET", &path(name), &[], "").await?;
            assert_eq!(answer.refusal(), none.refusal(), "{name}{tail}");
            assert_eq!(answer.text().replace(name, "NO/SUCH"), none.text(), "{name}{tail}");
        }
    }
    Ok(())
}

/// A clone by a former name goes on by the present one; the other doors open by either.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_repository_is_found_at_every_door() -> TestResult {
    let (swarm, node, _origin) = scene(Access::Open)?;
    node.store.catalogue().put_alias(&"acme/old".parse()?, &"acme/secret".parse()?)?;
    let served = Served::of(swarm, node).await?;
    let old = format!("{}/acme/old.git", served.url);
    let cloned = git(&served, &["clone", "--depth", "1", &old, "clone"]).await?;
    let said = String::from_utf8_lossy(&cloned.stderr).into_owned();
    assert!(cloned.status.success() && said.contains("redirecting to"), "{said}");
    let manifest = ask(&endpoint(&served.node), "GET", "/v2/acme/old/manifests/latest", &[], "").await?;
    assert_eq!(manifest.status, 200, "{}", manifest.text());
    Ok(())
}

/// Content that is not open goes to those whom the origin lets in, at every request and at every door.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_kept_out_at_every_door() -> TestResult {
    for access in [Access::GatedManual, Access::Private] {
        let (swarm, node, _origin) = scene(access)?;
        let served = Served::of(swarm, node).await?;
        let app = endpoint(&served.node);
        let mine = served.url.replace("http://", &format!("http://user:{TOKEN}@")) + "/acme/secret";
        let theirs = format!("{}/acme/secret", served.url);
        let wrong = served.url.replace("http://", "http://user:hf_wrong@") + "/acme/secret";
        // What was let through once is here; strangers still do not get it.
        for round in ["first", "second"] {
            let done = git(&served, &["clone", "-q", "--depth", "1", &mine, round]).await?;
            assert!(done.status.success(), "{access:?} {}", String::from_utf8_lossy(&done.stderr));
            for url in [&theirs, &wrong] {
                let refused = git(&served, &["clone", "-q", "--depth", "1", url, "no"]).await?;
                assert!(!refused.status.success(), "{access:?} {url}");
            }
        }
        let sha256 =
            pointer_oid(&std::fs::read_to_string(served.swarm.dir.path().join("first/T-Q4_K_M.gguf"))?)?;
        let batch =
            json!({ "operation": "download", "objects": [{ "oid": sha256, "size": 9_000_000 }] }).to_string();
        let (lfs, blob) =
            ("/acme/secret.git/info/lfs/objects/batch", format!("/v2/acme/secret/blobs/sha256:{sha256}"));
        let bearer = format!("Bearer {TOKEN}");
        let with = [("authorization", &*bearer)];
        for (method, path, body) in
            [("POST", lfs, &*batch), ("GET", "/v2/acme/secret/manifests/latest", ""), ("GET", &blob, "")]
        {
            let refused = ask(&app, method, path, &[], body).await?;
            assert_eq!(refused.status.as_u16(), 401, "{access:?} {path} {}", refused.text());
            let let_in = ask(&app, method, path, &with, body).await?;
            assert_eq!(let_in.status.as_u16(), 200, "{access:?} {path} {}", let_in.text());
        }
        assert!(!served.node.store.blobs().is_shared(&held(&served, &sha256)?)?, "peers get nothing of it");
    }
    Ok(())
}

/// A token is for content: whoever may not have it is told no place of it, and what nobody has has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_xet_token_is_for_what_there_is_and_who_may_read_it() -> TestResult {
    let (_swarm, node, _origin) = scene(Access::GatedManual)?;
    let app = endpoint(&node);
    let bearer = format!("Bearer {TOKEN}");
    let (none, all) = ("00".repeat(20), "/api/models/acme/secret/xet-read-token/");
    let insider = [("authorization", &*bearer)];
    let let_in = ask(&app, "GET", &format!("{all}main"), &insider, "").await?;
    let commit = let_in.header("x-xet-cas-url").rsplit('/').next().unwrap_or_default().to_owned();
    assert_eq!(let_in.status, 200, "{}", let_in.text());
    assert_eq!(ask(&app, "GET", &format!("{all}{commit}"), &insider, "").await?.status, 200);
    for path in [format!("{all}main"), format!("{all}{commit}")] {
        assert_eq!(ask(&app, "GET", &path, &[], "").await?.refusal(), (401, "GatedRepo", true), "{path}");
    }
    let nothing = ask(&app, "GET", &format!("{all}{none}"), &insider, "").await?;
    assert_eq!(nothing.refusal(), (404, "RevisionNotFound", true));
    for (headers, status) in [(&[][..], 401), (&insider[..], 404)] {
        let path = format!("/api/models/no/such/xet-read-token/{none}");
        let nobody = ask(&app, "GET", &path, headers, "").await?;
        assert_eq!(nobody.refusal(), (status, "RepoNotFound", true));
    }
    Ok(())
}

/// A page whose own name leads to this machine is refused what is not everybody's before anything of it is fetched.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_page_may_not_have_is_not_fetched_for_it() -> TestResult {
    let (_swarm, node, origin) = scene(Access::GatedManual)?;
    let app = router(node.mirror.clone(), &GatewayConfig::default(), Some("127.0.0.1:8090".parse()?));
    let bearer = format!("Bearer {TOKEN}");
    let path = "/acme/secret/resolve/main/T-Q4_K_M.gguf";
    let answer = ask(&app, "GET", path, &[("authorization", &bearer)], "").await?;
    assert_eq!(answer.refusal(), (403, "ForeignHost", true));
    let opened = |asked: &hubless_testkit::Asked| matches!(asked.what, Question::Open(..));
    assert!(!origin.asked().iter().any(opened), "{:?}", origin.asked());
    Ok(())
}

/// What the node holds of a closed repository is not had by asking for its commit under an open one's address, at any
/// door, with a token or without.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_commit_is_not_had_at_an_open_address() -> TestResult {
    let (swarm, node, origin) = scene(Access::Private)?;
    origin.publish(&"acme/open".parse()?, "main", &[("README.md", b"# open\n")])?;
    let app = endpoint(&node);
    let bearer = format!("Bearer {TOKEN}");
    let with = [("authorization", &*bearer)];
    let info = ask(&app, "GET", "/api/models/acme/secret/revision/main", &with, "").await?.json()?;
    let commit = info["sha"].as_str().context("a commit")?.to_owned();
    let weights =
        ask(&app, "GET", &format!("/acme/secret/resolve/{commit}/T-Q4_K_M.gguf"), &with, "").await?;
    assert_eq!(weights.status, 200, "{}", weights.text());
    let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&weights.body).into();
    let oid = hubless_types::Sha256::from_bytes(digest).to_string();
    let batch =
        json!({ "operation": "download", "objects": [{ "oid": oid, "size": 9_000_000 }] }).to_string();
    let api = "/api/models/acme/open";
    let doors = [
        ("GET", format!("/acme/open/resolve/{commit}/README.md"), ""),
        ("HEAD", format!("/acme/open/resolve/{commit}/T-Q4_K_M.gguf"), ""),
        ("GET", format!("/acme/open/raw/{commit}/README.md"), ""),
        ("GET", format!("{api}/tree/{commit}"), ""),
        ("GET", format!("{api}/revision/{commit}"), ""),
        ("GET", format!("{api}/commits/{commit}"), ""),
        ("POST", format!("{api}/paths-info/{commit}"), r#"{"paths":["README.md"]}"#),
        ("GET", format!("/v2/acme/open/manifests/{commit}"), ""),
        ("GET", format!("/v2/acme/open/blobs/sha256:{oid}"), ""),
    ];
    for headers in [&[][..], &with[..]] {
        for (method, path, body) in &doors {
            let answer = ask(&app, method, path, headers, body).await?;
            assert!(answer.status.is_client_error(), "{path} {} {}", answer.status, answer.text());
        }
        let path = "/acme/open.git/info/lfs/objects/batch";
        let answer = ask(&app, "POST", path, headers, &batch).await?.json()?;
        assert_eq!(answer["objects"][0]["error"]["code"], 404, "{answer}");
    }
    let served = Served::of(swarm, node).await?;
    let dir = served.swarm.dir.path().join("empty");
    let dir = dir.to_str().context("UTF-8")?;
    assert!(git(&served, &["init", "-q", dir]).await?.status.success());
    let url = format!("{}/acme/open", served.url);
    let fetched = git(&served, &["-C", dir, "fetch", "-q", "--depth", "1", &url, &commit]).await?;
    assert!(!fetched.status.success(), "git gives it away");
    let own = url.replace("http://", &format!("http://user:{TOKEN}@")).replace("open", "secret");
    let fetched = git(&served, &["-C", dir, "fetch", "-q", "--depth", "1", &own, &commit]).await?;
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    Ok(())
}

fn held(served: &Served, sha256: &str) -> Result<hubless_types::BlobHash> {
    let digest = hubless_types::FileDigest::Sha256(sha256.parse()?);
    Ok(served.node.store.catalogue().link(&digest)?.context("a link")?.hash)
}

fn pointer_oid(pointer: &str) -> Result<String> {
    let line = pointer.lines().find_map(|line| line.strip_prefix("oid sha256:")).context("a pointer")?;
    Ok(line.to_owned())
}

/// Whatever is sent is answered with a 4xx or a whole answer, and says what is wrong.
#[tokio::test]
async fn nothing_that_is_sent_breaks_a_door() -> TestResult {
    let story = common::Story::begin().await?;
    let v2 = [("git-protocol", "version=2")];
    let gzipped = [("git-protocol", "version=2"), ("content-encoding", "gzip")];
    let packed = [("git-protocol", "version=2"), ("content-encoding", "br")];
    let post = async |path: &str, headers: &[(&str, &str)], body: &str| -> Result<Answer> {
        ask(&story.app, "POST", path, headers, body).await
    };
    let upload_pack = "/acme/tiny.git/git-upload-pack";
    for (headers, body, status) in [
        (&v2[..], "", 400),
        (&v2[..], "0000", 400),
        (&v2[..], "zzzz", 400),
        (&v2[..], "0014command=ls-refs\n0005", 400),
        (&v2[..], "0012command=push\n0000", 400),
        (&gzipped[..], "0014command=ls-refs\n0000", 400),
        (&packed[..], "0014command=ls-refs\n0000", 415),
        (&v2[..], "0014command=ls-refs\n0000", 200),
    ] {
        let answer = post(upload_pack, headers, body).await?;
        assert_eq!(answer.status.as_u16(), status, "{body} {}", answer.text());
    }
    let old = post(upload_pack, &[], "0000").await?;
    assert!(old.text().contains("ERR this node speaks version 2"));
    let lfs = "/acme/tiny/info/lfs/objects/batch";
    for (body, status) in [
        ("", 400),
        ("{", 400),
        (r#"{"operation":"upload","objects":[]}"#, 403),
        (r#"{"operation":"download","hash_algo":"md5"}"#, 409),
        (r#"{"operation":"download","objects":[{"oid":"../../etc","size":1}]}"#, 200),
    ] {
        let answer = post(lfs, &[], body).await?;
        assert_eq!(answer.status.as_u16(), status, "{body}");
        assert_eq!(answer.header("content-type"), "application/vnd.git-lfs+json");
    }
    let long = post(lfs, &[], &" ".repeat(2_000_000)).await?;
    assert_eq!(long.status, 413);
    let wrong: Value =
        post(lfs, &[], r#"{"operation":"download","objects":[{"oid":"x","size":1}]}"#).await?.json()?;
    assert_eq!(wrong["objects"][0]["error"]["code"], 422);
    for path in [
        "/acme/tiny/info/refs",
        "/acme/tiny/info/refs?service=git-receive-pack",
        "/acme/tiny/info/refs?service=x",
    ] {
        let answer = story.get(path).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (403, "text/plain; charset=utf-8")
        );
    }
    let allowed = ask(&story.app, "OPTIONS", lfs, &[], "").await?;
    assert!(allowed.header("access-control-allow-methods").contains("POST"));
    assert_eq!(allowed.header("access-control-allow-origin"), "*");
    Ok(())
}

/// History that was written anew is shown with the very answer that serves it first.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_shown_with_the_first_answer() -> TestResult {
    let (_swarm, node, origin) = scene(Access::Open)?;
    let app = endpoint(&node);
    let get = async || ask(&app, "GET", "/acme/secret/resolve/main/README.md", &[], "").await;
    assert_eq!(get().await?.header("x-hubless-fork"), "");
    let other = origin.rewrite(&"acme/secret".parse()?, "main", &[("README.md", b"# other\n")])?;
    tokio::time::sleep(std::time::Duration::from_millis(3_100)).await; // a name that was told a moment ago is told again
    let answer = get().await?;
    assert_eq!(answer.text(), "# other\n");
    assert!(
        answer.header("x-hubless-fork").contains(&other.to_string()),
        "{:?}",
        answer.header("x-hubless-fork")
    );
    Ok(())
}
