//! Origins that answer what no origin should: nothing of it panics, hangs, fills memory or leads astray.

mod support;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use hubless_origin::{Origin, OriginConfig, OriginError, OriginErrorKind, OriginKind, build};
use hubless_proof::{Band, PackKind, PackWriter, put_band, put_flush, put_line};
use hubless_types::{BlobId, ByteRange, CommitId, FileEntry, FileMode, RepoId, Revision, Token};
use support::{Rogue, answer};

const SHA: &str = "607a30d783dfa663caf39e06633721c8d4cfcd7e";

fn config(rogue: &Rogue, kind: OriginKind) -> Result<OriginConfig> {
    let mut config = OriginConfig::new(&rogue.url, kind)?;
    config.patience.head = Duration::from_secs(1);
    config.patience.stall = Duration::from_millis(500);
    config.patience.answer = Duration::from_secs(3);
    config.attempts = 1;
    Ok(config)
}

fn repo() -> Result<RepoId> {
    Ok("acme/tiny".parse()?)
}

fn entry(size: u64) -> Result<FileEntry> {
    let path = "a/b".parse()?;
    Ok(FileEntry { path, mode: FileMode::Regular, blob: BlobId::from_bytes([1; 20]), size, lfs: None })
}

/// The body, or why there is none.
async fn read(rogue: &Rogue, range: ByteRange) -> Result<Result<Vec<u8>, OriginError>> {
    let (origin, id, entry) = (build(&config(rogue, OriginKind::Hub)?)?, repo()?, entry(10)?);
    let body = match origin.open(&id, CommitId::from_bytes([2; 20]), &entry, range, None).await {
        Ok(body) => body,
        Err(error) => return Ok(Err(error)),
    };
    Ok(body.try_collect::<Vec<_>>().await.map(|pieces| pieces.concat()))
}

/// Everything that can be asked of an origin fails within its time, with an error that names it.
async fn everything_fails(origin: &dyn Origin) -> Result<()> {
    let (id, commit) = (repo()?, CommitId::from_bytes([2; 20]));
    let (main, token) = (Revision::main(), Token::new("hf_s3cret")?);
    let file = entry(10)?;
    let body = async {
        let body = origin.open(&id, commit, &file, ByteRange::whole(10), Some(&token)).await?;
        body.try_collect::<Vec<_>>().await
    };
    let errors = tokio::time::timeout(Duration::from_secs(20), async {
        [
            origin.resolve(&id, &main, Some(&token)).await.err(),
            origin.refs(&id, Some(&token)).await.err(),
            origin.bundle(&id, commit, Some(&token)).await.err(),
            body.await.err(),
        ]
    });
    for error in errors.await.context("it hangs")? {
        let text = error.context("it is believed")?.to_string();
        ensure!(text.starts_with("http://127.0.0.1:") && text.len() < 1000, "{text}");
        ensure!(!text.contains("s3cret") && !text.chars().any(char::is_control), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_that_are_none() -> Result<()> {
    let deep = "[".repeat(200_000);
    let scripts: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no HTTP", b"SSH-2.0-OpenSSH_9\r\n".to_vec()),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        ("an endless head", [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(100_000)].concat()),
        ("an empty body", answer("200 OK", "", b"")),
        ("deep JSON", answer("200 OK", "", deep.as_bytes())),
        ("a page", answer("200 OK", "Content-Type: text/html\r\n", b"<html>log in</html>")),
        ("a compressed answer", answer("200 OK", "Content-Encoding: gzip\r\n", b"\x1f\x8b")),
        ("no content", answer("204 No Content", "", b"")),
        ("an odd status", b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("a redirect to nowhere", answer("302 Found", "", b"")),
        ("words that are long and odd", answer("404 Not Found", "", &b"\x1b[31m\x00 no \xff".repeat(1000))),
        ("a length that is a lie", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n[".to_vec()),
        (
            "a pack of promises",
            answer("200 OK", "", b"000dpackfile\n0015\x01PACK\0\0\0\x02\xff\xff\xff\xff0000"),
        ),
    ];
    for (what, bytes) in scripts {
        let rogue = Rogue::start(move |_| bytes.clone()).await?;
        for kind in [OriginKind::Hub, OriginKind::Git] {
            let origin = build(&config(&rogue, kind)?)?;
            everything_fails(&*origin).await.with_context(|| format!("{what} from a {kind:?}"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept() -> Result<()> {
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n[".to_vec(), b"{\"a\":1},".repeat(12 << 20)].concat();
    let rogue = Rogue::start(move |_| endless.clone()).await?;
    let origin = build(&config(&rogue, OriginKind::Hub)?)?;
    let error = origin.resolve(&repo()?, &Revision::main(), None).await.err().context("it is kept")?;
    ensure!(matches!(error, OriginError::Malformed { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_body_is_exactly_what_was_asked_for() -> Result<()> {
    let whole = ByteRange::whole(10);
    let part = ByteRange::new(2, 5);
    let rogue = Rogue::start(|head| match head.contains("range:") {
        false => answer("200 OK", "", b"0123456789"),
        true => answer("206 Partial Content", "Content-Range: bytes 2-4/10\r\n", b"234"),
    });
    let rogue = rogue.await?;
    ensure!(read(&rogue, whole).await?? == b"0123456789" && read(&rogue, part).await?? == b"234");
    let asked = rogue.heads().into_iter().find(|head| head.contains("range:")).context("no range")?;
    ensure!(asked.contains("range: bytes=2-4\r\n"), "{asked}");

    for (range, bytes) in [
        (whole, answer("200 OK", "", b"012345678")),
        (whole, answer("200 OK", "", b"0123456789x")),
        (whole, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n012345678".to_vec()),
        (whole, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789x".to_vec()),
        (part, answer("206 Partial Content", "Content-Range: bytes 1-3/10\r\n", b"123")),
        (part, answer("206 Partial Content", "Content-Range: bytes 2-4/11\r\n", b"234")),
        (part, answer("206 Partial Content", "", b"234")),
        (part, answer("206 Partial Content", "Content-Range: bytes 2-4/10\r\n", b"23")),
        (part, answer("200 OK", "", b"0123456789")),
        (part, answer("416 Range Not Satisfiable", "", b"")),
    ] {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let rogue = Rogue::start(move |_| bytes.clone()).await?;
        let error = read(&rogue, range).await?.err().with_context(|| format!("{shown} is believed"))?;
        ensure!(
            matches!(error.kind(), OriginErrorKind::Wrong | OriginErrorKind::Unavailable),
            "{shown}: {error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_dropped_where_a_redirect_leaves_the_origin_and_stays_dropped() -> Result<()> {
    let home: Arc<OnceLock<String>> = Arc::default();
    let way_back = home.clone();
    let other = Rogue::start(move |_| {
        let location = format!("Location: {}/end\r\n", way_back.get().map_or("", |url| url));
        answer("307 Temporary Redirect", &location, b"")
    });
    let other = other.await?;
    let away = other.url.clone();
    let origin = Rogue::start(move |head| match head.split(' ').nth(1).unwrap_or_default() {
        "/end" => answer("200 OK", "", format!(r#"{{"sha":"{SHA}","private":false}}"#).as_bytes()),
        "/here" => answer("307 Temporary Redirect", &format!("Location: {away}/there\r\n"), b""),
        _ => answer("307 Temporary Redirect", "Location: /here\r\n", b""),
    });
    let origin = origin.await?;
    ensure!(home.set(origin.url.clone()).is_ok());
    let token = Token::new("hf_s3cret")?;
    build(&config(&origin, OriginKind::Hub)?)?.resolve(&repo()?, &Revision::main(), Some(&token)).await?;
    let shown: Vec<bool> = origin.heads().iter().map(|head| head.contains("s3cret")).collect();
    ensure!(shown == [true, true, false], "it is shown to the origin until it leads away: {shown:?}");
    let heads = other.heads();
    ensure!(heads.len() == 1 && !heads[0].contains("s3cret") && !heads[0].contains("referer"), "{heads:?}");
    Ok(())
}

#[tokio::test]
async fn no_pages_are_turned_for_ever() -> Result<()> {
    // A commit whose one blob no page lists; git answers it whole, and each page names another.
    let pack = pack()?;
    let rogue = Rogue::start(move |head| {
        let n =
            head.split("cursor=").nth(1).and_then(|t| t.split(' ').next()?.parse::<u32>().ok()).unwrap_or(0);
        let link = format!("Link: <http://x/api?cursor={}>; rel=\"next\"\r\n", n + 1);
        if head.starts_with("POST") { answer("200 OK", "", &pack) } else { answer("200 OK", &link, b"[]") }
    });
    let rogue = rogue.await?;
    let origin = build(&config(&rogue, OriginKind::Hub)?)?;
    let commit = hubless_proof::commit_id(&objects()?.0)?;
    let error = origin.bundle(&repo()?, commit, None).await.err().context("it ends well")?;
    ensure!(error.to_string().contains("its pages do not end"), "{error}");
    Ok(())
}

/// The Hub gives out no blobs by their ids, and other hubs know no filter by length: every byte still comes.
#[tokio::test]
async fn a_hub_whose_git_can_do_little_is_asked_otherwise() -> Result<()> {
    let (pack, row) = (pack()?, format!(r#"[{{"type":"file","oid":"{}","size":5,"path":"a"}}]"#, blob()?));
    let rogue = Rogue::start(move |head| match head {
        _ if head.contains("blob:limit") => answer("200 OK", "", b"0012ERR no filters"),
        _ if head.contains("blob:none") => answer("200 OK", "", &pack),
        _ if head.starts_with("POST") => answer("200 OK", "", b"0000"),
        _ if head.contains("/raw/") => answer("200 OK", "", b"small"),
        _ => answer("200 OK", "", row.as_bytes()),
    });
    let rogue = rogue.await?;
    let origin = build(&config(&rogue, OriginKind::Hub)?)?;
    let commit = hubless_proof::commit_id(&objects()?.0)?;
    for requests in [5, 3] {
        let before = rogue.heads().len();
        let manifest = origin.bundle(&repo()?, commit, None).await?.check(commit)?;
        ensure!(manifest.entries().len() == 1);
        ensure!(rogue.heads().len() - before == requests, "what it cannot do is not asked again");
    }
    Ok(())
}

/// The one blob of these tests.
fn blob() -> Result<BlobId> {
    Ok(hubless_proof::blob_id(b"small")?)
}

/// A commit of it, and its tree.
fn objects() -> Result<(Vec<u8>, Vec<u8>)> {
    let tree = [&b"100644 a\0"[..], blob()?.as_bytes()].concat();
    let id = hubless_proof::tree_id(&tree)?;
    let commit = format!("tree {id}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nm\n").into_bytes();
    Ok((commit, tree))
}

/// The answer that carries them.
fn pack() -> Result<Vec<u8>> {
    let (commit, tree) = objects()?;
    let (mut pack, mut out) = (Vec::new(), Vec::new());
    let mut writer = PackWriter::new(2, &mut pack);
    writer.object(PackKind::Commit, &commit, &mut pack)?;
    writer.object(PackKind::Tree, &tree, &mut pack)?;
    writer.finish(&mut pack)?;
    put_line(&mut out, "packfile")?;
    put_band(&mut out, Band::Pack(&pack));
    put_flush(&mut out);
    Ok(out)
}
