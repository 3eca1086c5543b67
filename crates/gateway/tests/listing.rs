//! Stories of listings: what is known, found by what is said of it, page by page; and of names that changed.

mod common;

use common::{Story, TestResult, ask, endpoint};
use hubless_testkit::{MemoryOrigin, Swarm};
use hubless_types::{Access, RepoFacts, RepoId, Timestamp};
use serde_json::{Value, json};

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["id"].as_str()).collect()
}

fn facts(tags: &[&str], downloads: u64, modified: u64) -> RepoFacts {
    RepoFacts {
        tags: tags.iter().map(|t| (*t).to_owned()).collect(),
        downloads,
        modified: Timestamp(modified),
        ..RepoFacts::default()
    }
}

/// What an origin told is listed beside what is here, and no private repository is.
#[tokio::test]
async fn a_listing_is_searched_filtered_and_sorted() -> TestResult {
    let story = Story::begin().await?;
    let catalogue = story.node.store.catalogue();
    for (name, facts) in [
        ("zeta/bert-large", facts(&["pytorch", "license:mit"], 500, 30)),
        ("zeta/bert-small", facts(&["pytorch"], 900, 10)),
        ("acme/gated", RepoFacts { access: Access::GatedAuto, ..facts(&["license:mit"], 50, 20) }),
        ("acme/secret-bert", RepoFacts { access: Access::Private, ..facts(&["pytorch"], 9999, 99) }),
        ("datasets/zeta/bert-rows", facts(&[], 1, 1)),
    ] {
        catalogue.put_facts(&name.parse()?, &facts)?;
    }
    for (query, expected) in [
        ("search=BERT&sort=downloads", &["zeta/bert-small", "zeta/bert-large"][..]),
        ("search=bert%20lar", &["zeta/bert-large"]),
        ("author=acme&sort=downloads&direction=-1", &["acme/gated", "acme/tiny"]),
        ("filter=license:mit&sort=lastModified", &["zeta/bert-large", "acme/gated"]),
        ("filter=license:mit&filter=pytorch", &["zeta/bert-large"]),
        ("filter=license:mit&gated=true", &["acme/gated"]),
        ("search=secret", &[]),
        ("filter=safetensors", &["acme/tiny"]),
        ("apps=ollama", &[]),
    ] {
        let found = story.get(&format!("/api/models?{query}")).await?.json()?;
        assert_eq!(ids(&found), expected, "{query}");
    }
    let gated = story.get("/api/models?search=gated").await?.json()?;
    assert_eq!((&gated[0]["gated"], &gated[0]["downloads"]), (&json!("auto"), &json!(50)));
    assert_eq!(story.get("/api/models?sort=colour").await?.refusal(), (400, "BadRequest", true));
    for query in ["cursor=x", "limit=-1", "limit=many"] {
        assert_eq!(story.get(&format!("/api/models?{query}")).await?.refusal(), (400, "BadRequest", true));
    }
    for query in ["tree/main?cursor=x", "tree/main?limit=-1", "commits/main?p=-1", "commits/main?limit=x"] {
        let refused = story.get(&format!("/api/models/acme/tiny/{query}")).await?;
        assert_eq!(refused.refusal(), (400, "BadRequest", true), "{query}");
    }
    Ok(())
}

/// Pages follow each other by absolute links, though repositories come and go meanwhile.
#[tokio::test]
async fn pages_of_a_listing() -> TestResult {
    let story = Story::begin().await?;
    let catalogue = story.node.store.catalogue();
    for n in 0..7 {
        catalogue.put_facts(&format!("many/m{n}").parse()?, &facts(&["a,b"], 100 - n, 0))?;
    }
    let mut next = "/api/models?author=many&sort=downloads&limit=3&expand[]=downloads".to_owned();
    let mut found = Vec::new();
    while !next.is_empty() {
        let page = story.get(&next).await?;
        let json = page.json()?;
        assert!(json[0].get("tags").is_none() && json[0]["downloads"].is_u64(), "only what was asked for");
        found.extend(ids(&json).into_iter().map(str::to_owned));
        let link = page.header("link");
        assert!(link.is_empty() || link.starts_with("<http://hub.test:8090/api/models?"), "{link}");
        next = link.split(['<', '>']).nth(1).unwrap_or_default().replace("http://hub.test:8090", "");
        // One that comes before what was seen does not show the last one twice.
        catalogue.put_facts(&"many/first".parse()?, &facts(&[], 1000, 0))?;
    }
    assert_eq!(found, (0..7).map(|n| format!("many/m{n}")).collect::<Vec<_>>());
    Ok(())
}

/// A repository's own card says what it is; files are listed where they are asked for.
#[tokio::test]
async fn a_card_tells_of_its_repository() -> TestResult {
    let story = Story::begin().await?;
    let card =
        b"---\nlicense: mit\nlanguage: fr\nlibrary_name: transformers\npipeline_tag: fill-mask\n---\n# x\n";
    let folder = story.swarm.folder("carded", &[("README.md", card), ("model.safetensors", b"x")])?;
    story.node.publish(&"acme/carded".parse()?, folder).await?;
    let info = story.get("/api/models/acme/carded").await?.json()?;
    assert_eq!(info["tags"], json!(["transformers", "fill-mask", "license:mit", "fr", "safetensors"]));
    assert_eq!((&info["pipeline_tag"], &info["library_name"]), (&json!("fill-mask"), &json!("transformers")));
    assert_eq!(info["cardData"]["language"], json!("fr"));
    let found = story.get("/api/models?pipeline_tag=fill-mask&full=true").await?.json()?;
    assert_eq!(ids(&found), ["acme/carded"]);
    assert_eq!(found[0]["siblings"].as_array().map(Vec::len), Some(2));
    assert_eq!((&found[0]["sha"], &found[0]["cardData"]["license"]), (&info["sha"], &json!("mit")));
    Ok(())
}

/// Who asks by a former name, or in another case, is sent on, with the same place and query.
#[tokio::test]
async fn a_former_name_leads_to_the_new_one() -> TestResult {
    let story = Story::begin().await?;
    let (old, new): (RepoId, RepoId) = ("old/name".parse()?, "acme/tiny".parse()?);
    story.node.store.catalogue().put_alias(&old, &new)?;
    for (asked, location) in [
        ("/api/models/old/name?blobs=1", "/api/models/acme/tiny?blobs=1"),
        ("/Old/Name/resolve/main/100%.txt", "/acme/tiny/resolve/main/100%.txt"),
        ("/api/models/ACME/tiny/tree/main/onnx", "/api/models/acme/tiny/tree/main/onnx"),
        ("/acme/TINY/resolve/refs%2Fpr%2F1/a?x=1", "/acme/tiny/resolve/refs%2Fpr%2F1/a?x=1"),
    ] {
        let answer = story.get(asked).await?;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (307, location), "{asked}");
    }
    let posted = ask(&story.app, "POST", "/api/models/old/name/paths-info/main", &[], "paths=a").await?;
    assert_eq!(posted.status, 307);
    assert_eq!(story.get("/api/models/acme/tiny").await?.status, 200);
    Ok(())
}

/// A former name that a node hears for the first time leads to the new one at once, at every address and door, and nothing is
/// kept under it.
#[tokio::test]
async fn a_former_name_that_is_new_here_leads_to_the_new_one() -> TestResult {
    let (old, new): (RepoId, RepoId) = ("old".parse()?, "acme/tiny".parse()?);
    let hub = MemoryOrigin::new("https://hub.test");
    let commit = hub.publish(&old, "main", &[("config.json", b"{}")])?;
    hub.rename(&old, &new)?;
    let head = format!("/acme/tiny/resolve/{commit}/config.json");
    let batch =
        json!({ "operation": "download", "objects": [{ "oid": "ab".repeat(32), "size": 1 }] }).to_string();
    for (method, asked, body, status, location) in [
        ("GET", "/api/models/old?blobs=1", "", 307, "/api/models/acme/tiny?blobs=1"),
        ("GET", "/api/models/old/revision/main", "", 307, "/api/models/acme/tiny/revision/main"),
        ("GET", "/api/models/old/tree/main", "", 307, "/api/models/acme/tiny/tree/main"),
        ("GET", "/api/models/old/commits/main", "", 307, "/api/models/acme/tiny/commits/main"),
        ("GET", "/api/models/old/auth-check", "", 307, "/api/models/acme/tiny/auth-check"),
        ("POST", "/api/models/old/paths-info/main", "paths=a", 307, "/api/models/acme/tiny/paths-info/main"),
        ("HEAD", "/old/resolve/main/config.json", "", 307, "/acme/tiny/resolve/main/config.json"),
        ("GET", "/old/raw/main/config.json", "", 307, "/acme/tiny/raw/main/config.json"),
        (
            "GET",
            "/old.git/info/refs?service=git-upload-pack",
            "",
            307,
            "/acme/tiny.git/info/refs?service=git-upload-pack",
        ),
        ("POST", "/old.git/info/lfs/objects/batch", &*batch, 200, ""),
        ("GET", "/api/models/old/xet-read-token/main", "", 200, ""),
        ("GET", "/v2/old/manifests/latest", "", 400, ""),
    ] {
        let swarm = Swarm::new()?;
        let node = swarm.node_below(vec![hub.origin()], |_| {})?;
        let app = endpoint(&node);
        let answer = ask(&app, method, asked, &[], body).await?;
        let told = (answer.status.as_u16(), answer.header("location"));
        assert_eq!(told, (status, location), "{asked}: {}", answer.text());
        let info = ask(&app, "GET", "/api/models/acme/tiny", &[], "").await?;
        assert_eq!(info.json()?["id"], "acme/tiny", "{asked}");
        assert_eq!(ask(&app, "HEAD", &head, &[], "").await?.status, 200, "{asked}");
        assert_eq!(ids(&ask(&app, "GET", "/api/models", &[], "").await?.json()?), ["acme/tiny"], "{asked}");
        assert_eq!(node.store.catalogue().repos(None, 9)?, std::slice::from_ref(&new), "{asked}");
        assert_eq!(ask(&app, "GET", "/api/models/old", &[], "").await?.status, 307, "{asked}: and again");
    }
    Ok(())
}

/// A space is listed among spaces and nowhere else, with what its card says of it; and is looked at like any repository.
#[tokio::test]
async fn spaces_are_listed_with_their_sdk() -> TestResult {
    let story = Story::begin().await?;
    let card = b"---\ntitle: Demo\nemoji: x\nsdk: gradio\nsdk_version: 5.1.0\napp_file: app.py\nlicense: mit\n---\n# Demo\n";
    let folder = story.swarm.folder("demo", &[("README.md", card), ("app.py", b"print(1)\n")])?;
    let commit = story.node.publish(&"spaces/acme/demo".parse()?, folder).await?.commit;
    let told = RepoFacts { likes: 7, tags: vec!["region:us".into()], ..facts(&[], 0, 1_700_000_000) };
    story.node.store.catalogue().put_facts(&"spaces/zeta/told".parse()?, &told)?;

    let all = story.get("/api/spaces?sort=id&full=true").await?.json()?;
    assert_eq!(ids(&all), ["acme/demo", "zeta/told"]);
    let demo = &all[0];
    for (name, value) in [
        ("author", json!("acme")),
        ("sha", json!(commit)),
        ("private", json!(false)),
        ("likes", json!(0)),
        ("sdk", json!("gradio")),
        ("tags", json!(["license:mit"])),
    ] {
        assert_eq!(demo[name], value, "{name}");
    }
    assert_eq!(demo["cardData"]["app_file"], "app.py");
    assert!(demo.get("modelId").is_none() && demo["_id"].as_str().is_some_and(|id| id.len() == 24));
    let files: Vec<_> = demo["siblings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|file| file["rfilename"].as_str())
        .collect();
    assert_eq!(files, ["README.md", "app.py"]);
    for time in ["createdAt", "lastModified"] {
        assert!(demo[time].as_str().is_some_and(|time| time.ends_with('Z')), "{time}");
    }
    assert_eq!((&all[1]["likes"], &all[1]["tags"][0]), (&json!(7), &json!("region:us")));

    for (query, expected) in [
        ("author=acme", &["acme/demo"][..]),
        ("search=DEMO", &["acme/demo"]),
        ("filter=license:mit", &["acme/demo"]),
        ("sort=likes", &["zeta/told", "acme/demo"]),
        ("search=tiny", &[]),
    ] {
        assert_eq!(ids(&story.get(&format!("/api/spaces?{query}")).await?.json()?), expected, "{query}");
    }
    let sdk = story.get("/api/spaces?author=acme&expand[]=sdk").await?.json()?;
    assert_eq!(sdk[0]["sdk"], "gradio", "{sdk}");
    for other in ["/api/models?search=demo", "/api/datasets?search=demo"] {
        assert_eq!(story.get(other).await?.json()?, json!([]), "{other}");
    }
    let info = story.get("/api/spaces/acme/demo").await?.json()?;
    assert_eq!((&info["sdk"], &info["sha"]), (&json!("gradio"), &json!(commit)));
    let app = story.get("/spaces/acme/demo/resolve/main/app.py").await?;
    assert_eq!(app.text(), "print(1)\n");
    assert_eq!(story.get("/api/models/acme/demo").await?.status, 401, "it is no model");
    Ok(())
}
