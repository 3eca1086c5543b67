//! Stories of the JSON API: exact shapes, pages, refusals.

mod common;

use common::{BIG, Story, TestResult, ask};
use hubless_gateway::{GatewayConfig, router};
use hubless_mirror::{AddRequest, AdoptRequest};
use hubless_types::{Access, CommitId, RepoFacts};
use serde_json::{Value, json};

/// `git hash-object` of `{"hidden_size":6}`.
const CONFIG_BLOB: &str = "108dff3de63c93ba3ba8a3a5cf63c32fbb1b3d75";

fn texts(list: &Value, key: &str) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| Some(item.get(key)?.as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn info_has_what_clients_read() -> TestResult {
    let story = Story::begin().await?;
    let plain = story.get("/api/models/acme/tiny").await?;
    assert!(plain.text().contains(r#"{"rfilename":"README.md"}"#), "compact: scripts grep it");
    assert!(plain.text().contains(r#""gated":false"#));
    let json = plain.json()?;
    assert_eq!(
        (&json["id"], &json["modelId"], &json["sha"]),
        (&json!("acme/tiny"), &json!("acme/tiny"), &json!(story.commit))
    );
    assert_eq!(json["siblings"].as_array().map(Vec::len), Some(7));

    let full = story.get("/api/models/acme/tiny/revision/main?blobs=True&securityStatus=1").await?.json()?;
    let big = full["siblings"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    assert_eq!(
        (&big["rfilename"], &big["size"], &big["lfs"]["size"]),
        (&json!("w.safetensors"), &json!(BIG), &json!(BIG))
    );
    assert_eq!(big["lfs"]["pointerSize"], json!(132));
    assert_eq!(full["securityRepoStatus"]["filesWithIssues"], json!([]));

    let expanded = story.get("/api/models/acme/tiny?expand[]=sha&expand=gated").await?.json()?;
    let keys: Vec<_> = expanded.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["_id", "gated", "id", "modelId", "sha"]);

    let dataset = story.get("/api/datasets/acme/rows").await?.json()?;
    assert!(dataset["id"] == json!("acme/rows") && dataset.get("modelId").is_none());
    Ok(())
}

#[tokio::test]
async fn trees_come_in_pages() -> TestResult {
    let story = Story::begin().await?;
    let top = story.get("/api/models/acme/tiny/tree/main").await?.json()?;
    assert_eq!(
        texts(&top, "path"),
        ["100%.txt", "README.md", "config.json", "empty.txt", "onnx", "w.safetensors"]
    );
    assert_eq!((&top[4]["type"], &top[4]["size"]), (&json!("directory"), &json!(0)));
    assert_eq!(
        (&top[5]["size"], &top[5]["lfs"]["size"], &top[5]["lfs"]["pointerSize"]),
        (&json!(BIG), &json!(BIG), &json!(132))
    );
    assert!(top[0].get("lfs").is_none() && top[0].get("lastCommit").is_none());

    let mut next = "/api/models/acme/tiny/tree/main?recursive=true&limit=4&expand=1".to_owned();
    let mut paths = Vec::new();
    while !next.is_empty() {
        let page = story.get(&next).await?;
        paths.extend(texts(&page.json()?, "path"));
        assert_eq!(page.json()?[0]["lastCommit"]["id"], json!(story.commit));
        let link = page.header("link");
        assert!(
            link.is_empty() || link.starts_with("<http://hub.test:8090/api/models/acme/tiny/tree/"),
            "{link}"
        );
        next = link.split(['<', '>']).nth(1).unwrap_or_default().replace("http://hub.test:8090", "");
    }
    assert_eq!(paths.len(), 9, "{paths:?}");

    let folder = story.get("/api/models/acme/tiny/tree/main/onnx%2Fsub%20dir").await?.json()?;
    assert_eq!(texts(&folder, "path"), ["onnx/sub dir/a,b+c.txt"]);
    for missing in ["nope", "config.json", "..", "a//b"] {
        let refused = story.get(&format!("/api/models/acme/tiny/tree/main/{missing}")).await?;
        assert_eq!(refused.refusal(), (404, "EntryNotFound", true), "{missing}");
    }
    Ok(())
}

#[tokio::test]
async fn paths_info_takes_forms_and_json() -> TestResult {
    let story = Story::begin().await?;
    let path = "/api/models/acme/tiny/paths-info/main";
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let by_form = ask(
        &story.app,
        "POST",
        path,
        &form,
        "paths=onnx%2Fsub+dir&paths=nope&paths=w.safetensors&expand=True",
    )
    .await?;
    let body = r#"{"paths":["onnx/sub dir","nope","w.safetensors"],"expand":true}"#;
    let by_json = ask(&story.app, "POST", path, &[("content-type", "application/json")], body).await?;
    assert_eq!(by_form.body, by_json.body);
    assert_eq!(texts(&by_json.json()?, "path"), ["onnx/sub dir", "w.safetensors"]);
    assert_eq!(by_json.json()?[1]["securityFileStatus"]["status"], json!("unscanned"));

    let refused = |body: String| async move { ask(&story.app, "POST", path, &form, &body).await };
    assert_eq!(refused("paths=a&".repeat(10_001)).await?.refusal(), (400, "BadRequest", true));
    Ok(())
}

/// Publishes one file as `acme/long`, in a commit with this message.
async fn publish_long(story: &Story, content: &[u8], message: String) -> anyhow::Result<CommitId> {
    let folder = story.swarm.folder("long", &[("config.json", content), ("sub/x.txt", b"x")])?;
    let request = AddRequest { message: Some(message), ..AddRequest::new(folder, "acme/long".parse()?) };
    Ok(story.node.mirror.add(request, tokio::sync::mpsc::channel(1).0).await?.commit)
}

/// What others wrote into a commit, however long it is, makes no answer longer than what was asked for.
#[tokio::test]
async fn a_long_title_is_told_cut_and_each_path_once() -> TestResult {
    let story = Story::begin().await?;
    let title = "\u{e9}".repeat(500_000);
    publish_long(&story, b"{}", title.clone()).await?;
    let short =
        |told: &Value| told.as_str().is_some_and(|told| title.starts_with(told) && told.len() == 1024);

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("expand=true{}", "&paths=config.json&paths=/config.json".repeat(4_000));
    let named = ask(&story.app, "POST", "/api/models/acme/long/paths-info/main", &form, &body).await?;
    assert!(named.body.len() < 2_000, "{}", named.body.len());
    let lines = named.json()?;
    assert_eq!(texts(&lines, "path"), ["config.json"]);
    assert!(short(&lines[0]["lastCommit"]["title"]));

    let tree = story.get("/api/models/acme/long/tree/main?expand=1").await?;
    assert!(tree.body.len() < 4_000, "{}", tree.body.len());
    let lines = tree.json()?;
    assert!(short(&lines[0]["lastCommit"]["title"]) && short(&lines[1]["lastCommit"]["title"]));
    let newest = story.get("/api/models/acme/long/commits/main").await?;
    assert!(newest.body.len() < 2_000, "{}", newest.body.len());
    assert!(short(&newest.json()?[0]["title"]));
    Ok(())
}

/// Long messages are told whole, fewer on a page; the links lead through all of them.
#[tokio::test]
async fn a_history_of_long_messages_comes_in_more_pages() -> TestResult {
    let story = Story::begin().await?;
    let mut written = Vec::new();
    for n in 0..5_u8 {
        let message = format!("change {n}\n\n{}", "m".repeat(400_000));
        written.push(publish_long(&story, &[n], message).await?.to_string());
    }
    let mut next = "/api/models/acme/long/commits/main?limit=1000".to_owned();
    let (mut found, mut pages) = (Vec::new(), 0);
    while !next.is_empty() {
        let page = story.get(&next).await?;
        assert!(page.body.len() < 1_100_000, "{}", page.body.len());
        assert_eq!(page.header("x-total-count"), "5");
        let commits = page.json()?;
        assert!(texts(&commits, "message").iter().all(|message| message.len() == 400_000));
        found.extend(texts(&commits, "id"));
        let link = page.header("link").split(['<', '>']).nth(1).unwrap_or_default();
        next = link.replace("http://hub.test:8090", "");
        pages += 1;
    }
    written.reverse();
    assert_eq!((found, pages), (written, 3));
    Ok(())
}

#[tokio::test]
async fn too_much_is_refused() -> TestResult {
    let story = Story::begin().await?;
    let path = "/api/models/acme/tiny/paths-info/main";
    let large = ask(&story.app, "POST", path, &[], &"x".repeat(1024 * 1024 + 1)).await?;
    assert_eq!(large.refusal(), (413, "TooLarge", true));
    let broken = ask(&story.app, "POST", path, &[("content-type", "application/json")], "{").await?;
    assert_eq!(broken.refusal().0, 400);
    let wrong_method = ask(&story.app, "DELETE", "/api/models/acme/tiny", &[], "").await?;
    assert_eq!((wrong_method.refusal().0, wrong_method.header("allow")), (405, "GET, HEAD, OPTIONS"));
    Ok(())
}

#[tokio::test]
async fn refs_and_history() -> TestResult {
    let story = Story::begin().await?;
    let refs = story.get("/api/models/acme/tiny/refs?include_prs=1").await?.json()?;
    let main = json!([{"name": "main", "ref": "refs/heads/main", "targetCommit": story.commit}]);
    assert_eq!(refs, json!({"branches": main, "converts": [], "tags": [], "pullRequests": []}));
    assert_eq!(story.get("/api/models/no/such/refs").await?.refusal().1, "RepoNotFound");

    let folder = story.swarm.folder("tiny", &[("config.json", b"{\"hidden_size\":5}")])?;
    let second = story.node.publish(&"acme/tiny".parse()?, folder).await?.commit;
    let newest = story.get("/api/models/acme/tiny/commits/main?limit=1").await?;
    assert_eq!(texts(&newest.json()?, "id"), [second.to_string()]);
    assert_eq!(newest.header("x-total-count"), "2");
    let link = newest
        .header("link")
        .split(['<', '>'])
        .nth(1)
        .unwrap_or_default()
        .replace("http://hub.test:8090", "");
    let oldest = story.get(&link).await?;
    assert_eq!(texts(&oldest.json()?, "id"), [story.commit.to_string()]);
    assert_eq!(oldest.header("x-total-count"), "2");
    assert!(oldest.header("link").is_empty() && oldest.json()?[0]["authors"][0]["user"].is_string());
    Ok(())
}

#[tokio::test]
async fn the_small_ones() -> TestResult {
    let story = Story::begin().await?;
    let health = story.get("/healthz").await?.json()?;
    assert_eq!(
        (&health["ok"], &health["node"], &health["peers"]),
        (&json!(true), &json!(story.node.id), &json!(0))
    );
    assert_eq!(story.get("/api/whoami-v2").await?.refusal().0, 401);
    let token = ask(&story.app, "GET", "/api/whoami-v2", &[("authorization", "Bearer x")], "").await?;
    assert_eq!(token.header("x-error-message"), "Invalid credentials in Authorization header");
    assert_eq!(story.get("/api/models/acme/tiny/auth-check").await?.status, 200);
    assert_eq!(story.get("/api/models/no/such/auth-check").await?.refusal(), (401, "RepoNotFound", true));
    assert_eq!(story.get("/api/agent-harnesses").await?.text(), r#"{"standardEnvVars":[],"harnesses":{}}"#);
    assert_eq!(texts(&story.get("/api/models?search=TIN&author=acme").await?.json()?, "id"), ["acme/tiny"]);
    assert_eq!(story.get("/api/spaces").await?.json()?, json!([]));
    assert_eq!(story.get("/api/models/acme/tiny/safetensors-metadata/x").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn browsers_may_read() -> TestResult {
    let story = Story::begin().await?;
    let asked = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let preflight = ask(&story.app, "OPTIONS", "/acme/tiny/resolve/main/config.json", &asked, "").await?;
    assert_eq!(
        (preflight.status.as_u16(), preflight.header("access-control-allow-methods")),
        (204, "GET, HEAD, OPTIONS")
    );
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    let answer = story.get("/acme/tiny/resolve/main/nope").await?;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("access-control-expose-headers").contains("X-Error-Code"));
    for open in [
        "/acme/tiny/resolve/main/w.safetensors",
        "/api/models/acme/tiny",
        "/api/models/acme/tiny/refs",
        "/api/models/acme/tiny/commits/main",
        "/api/models/acme/tiny/revision/nope",
        "/api/models/ACME/tiny/tree/main",
    ] {
        assert_eq!(story.get(open).await?.header("access-control-allow-origin"), "*", "{open}");
    }
    Ok(())
}

/// A web page that the user visits reads nothing through the user's own node that strangers may not have: not what was
/// adopted or is closed, and not what there is of it. The operator may name pages that read all.
#[tokio::test]
async fn pages_of_strangers_read_nothing_that_is_not_everybodys() -> TestResult {
    let story = Story::begin().await?;
    let cache = story.swarm.dir.path().join("hf");
    let snapshot = cache.join("models--acme--mine/snapshots").join("ab".repeat(20));
    std::fs::create_dir_all(&snapshot)?;
    std::fs::create_dir_all(cache.join("models--acme--mine/refs"))?;
    std::fs::write(cache.join("models--acme--mine/refs/main"), "ab".repeat(20))?;
    let blobs = cache.join("models--acme--mine/blobs");
    std::fs::create_dir_all(&blobs)?;
    std::fs::write(blobs.join(CONFIG_BLOB), "{\"hidden_size\":6}")?;
    std::os::unix::fs::symlink(format!("../../blobs/{CONFIG_BLOB}"), snapshot.join("config.json"))?;
    let request = AdoptRequest { cache, only: None, share: false };
    let report = story.node.mirror.adopt(request, tokio::sync::mpsc::channel(1).0).await?;
    assert_eq!(report.repos.len(), 1, "{report:?}");

    let page = [("origin", "https://evil.example")];
    let (adopted, published) = ("/acme/mine/resolve/main/config.json", "/acme/tiny/resolve/main/config.json");
    let closed = [
        adopted,
        "/acme/mine/raw/main/config.json",
        "/acme/mine/resolve/main/nope",
        "/api/models/acme/mine",
        "/api/models/acme/mine/tree/main",
        "/api/models/acme/mine/refs",
        "/api/models/acme/mine/revision/nope",
        "/api/models/no/such",
        "/api/models",
        "/v2/acme/mine/manifests/main",
        "/acme/mine/info/refs?service=git-upload-pack",
    ];
    for path in closed {
        let answer = ask(&story.app, "GET", path, &page, "").await?;
        let (status, allowed) = (answer.status, answer.header("access-control-allow-origin"));
        assert!(allowed.is_empty(), "{path}: {status} for {allowed}");
    }
    assert_eq!(story.get(adopted).await?.text(), "{\"hidden_size\":6}", "the user's own tools do");
    assert_eq!(
        ask(&story.app, "GET", published, &page, "").await?.header("access-control-allow-origin"),
        "*"
    );

    let mine = "http://localhost:5173";
    let config = GatewayConfig { cors_origins: vec![mine.to_owned()], ..GatewayConfig::default() };
    let named = router(story.node.mirror.clone(), &config, None);
    for path in [adopted, "/api/models"] {
        let answer = ask(&named, "GET", path, &[("origin", mine)], "").await?;
        assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), (mine, "Origin"));
        let other = ask(&named, "GET", path, &page, "").await?;
        assert!(other.header("access-control-allow-origin").is_empty(), "{path}");
    }

    // Closed by its origin from now on.
    let facts = RepoFacts { access: Access::GatedAuto, ..RepoFacts::default() };
    story.node.store.catalogue().put_facts(&"acme/tiny".parse()?, &facts)?;
    for path in [published, "/api/models/acme/tiny"] {
        let answer = ask(&story.app, "GET", path, &page, "").await?;
        assert!(answer.header("access-control-allow-origin").is_empty(), "{path}");
    }
    Ok(())
}
