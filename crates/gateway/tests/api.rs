//! Stories of the JSON API: exact shapes, pages, refusals.

mod common;

use common::{BIG, Story, TestResult, ask};
use serde_json::{Value, json};

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
    assert_eq!(newest.header("x-total-count"), "", "nobody walks back to the beginning for it");
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
    let answer = story.get("/acme/tiny/resolve/main/nope").await?;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("access-control-expose-headers").contains("X-Error-Code"));
    Ok(())
}

/// The list of many files is written as it is taken, and is the same JSON.
#[tokio::test]
async fn the_files_of_a_large_repository_are_all_told() -> TestResult {
    let story = Story::begin().await?;
    let names: Vec<String> = (0..2_500).map(|n| format!("part-{n:04}.txt")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let folder = story.swarm.folder("many", &files)?;
    story.node.publish(&"acme/many".parse()?, folder).await?;

    let all = story.get("/api/models/acme/many?blobs=1").await?;
    assert!(all.headers.get("content-length").is_none(), "not held as a whole");
    let json = all.json()?;
    assert_eq!((texts(&json["siblings"], "rfilename"), &json["id"]), (names.clone(), &json!("acme/many")));
    assert_eq!(json["siblings"][2_499]["size"], json!(1));
    let some = story.get("/api/models/acme/many?expand[]=siblings&expand[]=sha").await?.json()?;
    assert_eq!(texts(&some["siblings"], "rfilename"), names);
    assert!(story.get("/api/models/acme/many?expand[]=sha").await?.json()?.get("siblings").is_none());
    Ok(())
}

/// What nobody has is said within a client's patience, and at once to whoever asks again.
#[tokio::test]
async fn what_nobody_has_is_no_promise() -> TestResult {
    let swarm = hubless_testkit::Swarm::new()?;
    let node = swarm.node()?;
    let folder = common::model_folder(&swarm)?;
    node.publish(&"acme/tiny".parse()?, folder.clone()).await?;
    std::fs::remove_file(folder.join("w.safetensors"))?;
    let app = common::endpoint(&node);
    let path = "/acme/tiny/resolve/main/w.safetensors";
    let first = ask(&app, "GET", path, &[], "").await?;
    assert_eq!(first.refusal(), (503, "Unavailable", true), "{}", first.text());
    let began = tokio::time::Instant::now();
    assert_eq!(ask(&app, "GET", path, &[], "").await?.refusal(), (503, "Unavailable", true));
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    Ok(())
}
