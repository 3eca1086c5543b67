//! Stories of `resolve` and `raw`: the exact headers that clients need.

mod common;

use common::{BIG, Story, TestResult, ask, big_bytes};

/// `git hash-object` of `{"hidden_size":4}`.
const CONFIG_BLOB: &str = "9e2f259c184aac1c073ab236dc5c05f60f5a6a22";
const EMPTY_BLOB: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

#[tokio::test]
async fn head_tells_all_that_a_client_needs() -> TestResult {
    let story = Story::begin().await?;
    let small = story.head("/acme/tiny/resolve/main/config.json").await?;
    assert_eq!((small.status.as_u16(), small.body.len()), (200, 0));
    assert_eq!(small.header("x-repo-commit"), story.commit.to_string());
    assert_eq!((small.header("content-length"), small.header("accept-ranges")), ("17", "bytes"));
    assert!(small.header("etag").len() == 42 && small.header("x-linked-etag").is_empty());

    let large = story.head("/acme/tiny/resolve/main/w.safetensors").await?;
    assert_eq!(
        (large.header("content-length"), large.header("x-linked-size")),
        (&*BIG.to_string(), &*BIG.to_string())
    );
    assert!(large.header("etag").len() == 66 && large.header("etag") == large.header("x-linked-etag"));
    assert!(large.headers.keys().all(|name| !name.as_str().contains("xet")), "no Xet without serving it");
    assert!(large.headers.get("content-encoding").is_none());
    Ok(())
}

#[tokio::test]
async fn get_has_the_headers_of_head_and_the_bytes() -> TestResult {
    let story = Story::begin().await?;
    for path in [
        "/acme/tiny/resolve/main/config.json",
        "/acme/tiny/resolve/main/w.safetensors",
        "/acme/tiny/resolve/main/empty.txt",
    ] {
        let (head, get) = (story.head(path).await?, story.get(path).await?);
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{path}");
        assert_eq!(get.header("content-length"), get.body.len().to_string());
    }
    assert_eq!(story.get("/acme/tiny/resolve/main/w.safetensors").await?.body, big_bytes());
    let by_commit = format!("/acme/tiny/resolve/{}/config.json", story.commit);
    assert_eq!(story.get(&by_commit).await?.text(), "{\"hidden_size\":4}");
    Ok(())
}

#[tokio::test]
async fn a_file_is_found_however_its_address_is_written() -> TestResult {
    let story = Story::begin().await?;
    let short = &story.commit.to_string()[..8];
    for (path, content) in [
        ("/acme/tiny/resolve/main/100%.txt", "percent"),
        ("/acme/tiny/resolve/main/100%25.txt", "percent"),
        ("/acme/tiny/resolve/main/onnx/sub%20dir/a,b+c.txt", "odd"),
        ("/acme/tiny/resolve/main/onnx%2Fsub%20dir%2Fa%2Cb%2Bc.txt", "odd"),
        ("/acme/tiny/resolve/HEAD/onnx/model.onnx", "onnx"),
        ("/acme/tiny/resolve/refs%2Fheads%2Fmain/onnx/model.onnx", "onnx"),
        ("/acme/tiny/resolve/refs/heads/main/onnx/model.onnx", "onnx"),
        (&format!("/acme/tiny/resolve/{short}/onnx/model.onnx"), "onnx"),
        ("/acme/tiny/resolve/main/onnx/model.onnx?download=true", "onnx"),
        ("/datasets/acme/rows/resolve/main/data/train.jsonl", "{\"a\":1}\n"),
    ] {
        assert_eq!(story.get(path).await?.text(), content, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn ranges_are_served_and_clamped() -> TestResult {
    let story = Story::begin().await?;
    let (path, big) = ("/acme/tiny/resolve/main/w.safetensors", big_bytes());
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=5000000-5000099", 5_000_000, 5_000_100),
        (&*format!("bytes={}-{}", BIG - 3, BIG), BIG - 3, BIG),
        ("bytes=1048576-", 1_048_576, BIG),
        ("bytes=-7", BIG - 7, BIG),
    ] {
        let part = story.range(path, range).await?;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {start}-{}/{BIG}", end - 1));
        assert_eq!(part.header("content-length"), (end - start).to_string());
        assert!(part.body == big[start..end], "{range}");
    }
    let beyond = story.range(path, &format!("bytes={BIG}-")).await?;
    assert_eq!((beyond.refusal().0, beyond.header("content-range")), (416, &*format!("bytes */{BIG}")));
    let empty = story.range("/acme/tiny/resolve/main/empty.txt", "bytes=0-0").await?;
    assert_eq!(
        (empty.status.as_u16(), empty.header("content-range"), empty.body.len()),
        (200, "bytes */0", 0)
    );
    assert_eq!(empty.header("etag"), format!("\"{EMPTY_BLOB}\""));
    assert_eq!(story.range(path, "bytes=0-1,5-6").await?.status, 200, "several ranges: the whole");
    Ok(())
}

#[tokio::test]
async fn conditions_save_what_the_client_has() -> TestResult {
    let story = Story::begin().await?;
    let path = "/acme/tiny/resolve/main/config.json";
    let etag = story.head(path).await?.header("etag").to_owned();
    let same = ask(&story.app, "GET", path, &[("if-none-match", &etag)], "").await?;
    assert_eq!((same.status.as_u16(), same.body.len(), same.header("etag")), (304, 0, &*etag));
    let resumed = ask(&story.app, "GET", path, &[("if-range", &etag), ("range", "bytes=3-")], "").await?;
    assert_eq!(resumed.status, 206);
    let changed =
        ask(&story.app, "GET", path, &[("if-range", "\"other\""), ("range", "bytes=3-")], "").await?;
    assert_eq!((changed.status.as_u16(), changed.body.len()), (200, 17));
    Ok(())
}

#[tokio::test]
async fn raw_gives_the_git_blob() -> TestResult {
    let story = Story::begin().await?;
    assert_eq!(story.get("/acme/tiny/raw/main/README.md").await?.text(), "# tiny\n");
    let pointer = story.get("/acme/tiny/raw/main/w.safetensors").await?;
    let sha256 = story.head("/acme/tiny/resolve/main/w.safetensors").await?.header("etag").replace('"', "");
    assert_eq!(
        pointer.text(),
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {BIG}\n")
    );
    assert_eq!(pointer.header("content-length"), pointer.body.len().to_string());
    assert!(pointer.header("etag").len() == 42 && pointer.header("x-linked-etag").is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_missing_is_told_apart() -> TestResult {
    let story = Story::begin().await?;
    let missing = story.get("/acme/tiny/resolve/main/nope.json").await?;
    assert_eq!(missing.refusal(), (404, "EntryNotFound", true));
    assert_eq!(missing.header("x-repo-commit"), story.commit.to_string());
    assert_eq!(
        story.get("/acme/tiny/resolve/main/onnx").await?.refusal().1,
        "EntryNotFound",
        "a folder is no file"
    );
    assert_eq!(story.get("/acme/tiny/resolve/main/../x").await?.refusal().1, "EntryNotFound");
    assert_eq!(
        story.get("/acme/tiny/resolve/nope/config.json").await?.refusal(),
        (404, "RevisionNotFound", true)
    );
    let commit = "0".repeat(40);
    let unknown = story.get(&format!("/acme/tiny/resolve/{commit}/config.json")).await?;
    assert_eq!(unknown.refusal(), (404, "RevisionNotFound", true));
    let path = "/no/such/resolve/main/config.json";
    assert_eq!(story.get(path).await?.refusal(), (401, "RepoNotFound", true));
    let with_token = ask(&story.app, "GET", path, &[("authorization", "Bearer hf_x")], "").await?;
    assert_eq!(with_token.refusal(), (404, "RepoNotFound", true));
    let head = story.head("/acme/tiny/resolve/main/nope.json").await?;
    assert_eq!(
        (head.status.as_u16(), head.header("x-error-code"), head.body.len()),
        (404, "EntryNotFound", 0)
    );
    Ok(())
}

/// A file that stays where it was added is changed: no wrong byte leaves.
#[tokio::test]
async fn a_changed_file_is_never_served() -> TestResult {
    let story = Story::begin().await?;
    let mut changed = big_bytes();
    changed[4_000_000] ^= 1;
    story.swarm.folder("tiny", &[("w.safetensors", &changed)])?;
    match story.get("/acme/tiny/resolve/main/w.safetensors").await {
        Ok(answer) => assert!(answer.status.as_u16() >= 400 && !answer.header("x-error-code").is_empty()),
        Err(_cut) => {}
    }
    Ok(())
}

#[tokio::test]
async fn etags_are_gits() -> TestResult {
    let story = Story::begin().await?;
    let etag = story.head("/acme/tiny/resolve/main/config.json").await?.header("etag").to_owned();
    assert_eq!(etag, format!("\"{CONFIG_BLOB}\""));
    Ok(())
}
