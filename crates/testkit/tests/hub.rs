//! The stand-in hub answers as the Hub does, and goes wrong when it is told to.

use std::process::Stdio;

use anyhow::{Result, ensure};
use hubless_testkit::{Budget, Hub, HubFaults, HubFile, PortOf, Refusal, Scope, Who};
use hubless_types::RepoId;
use serde_json::Value;
use tokio::process::Command;

/// What curl says of one request.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// Curl's exit code.
    code: i32,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

async fn curl(url: &str, args: &[&str]) -> Result<Answer> {
    let dir = tempfile::tempdir()?;
    let [headers, body] = ["headers", "body"].map(|name| dir.path().join(name));
    let mut command = Command::new("curl");
    command.args(["-q", "--silent", "--max-time", "5", "--write-out", "%{http_code}"]).args(args);
    command.arg("--dump-header").arg(&headers).arg("--output").arg(&body).arg(url).stdin(Stdio::null());
    let out = command.output().await?;
    Ok(Answer {
        status: String::from_utf8(out.stdout)?.parse()?,
        headers: std::fs::read_to_string(headers).unwrap_or_default(),
        body: std::fs::read(body).unwrap_or_default(),
        code: out.status.code().unwrap_or(-1),
    })
}

fn repo() -> Result<RepoId> {
    Ok("acme/tiny".parse()?)
}

fn weights() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n % 251) as u8).collect()
}

async fn tiny() -> Result<(Hub, String)> {
    let hub = Hub::start().await?;
    let files: [(&str, &[u8]); 4] = [
        ("config.json", b"{}\n"),
        ("docs/read me,+%.md", b"# Tiny\n"),
        ("empty", b""),
        ("model.safetensors", &weights()),
    ];
    let commit = hub.push(&repo()?, "main", &files).await?;
    Ok((hub, commit.to_string()))
}

/// A large file is behind a redirect to another host, which wants a signature and no token; a small one behind a
/// redirect on the same host.
#[tokio::test]
async fn files_are_behind_redirects() -> Result<()> {
    let (hub, commit) = tiny().await?;
    let at = |path: &str| format!("{}/acme/tiny/resolve/main/{path}", hub.url());
    let large = curl(&at("model.safetensors"), &[]).await?;
    ensure!(large.status == 302 && large.header("x-repo-commit") == commit, "{}", large.headers);
    ensure!(large.header("x-linked-size") == "3000000", "{}", large.headers);
    ensure!(large.header("location").starts_with(&hub.content_url()), "{}", large.headers);
    let whole = curl(large.header("location"), &[]).await?;
    ensure!(whole.status == 200 && whole.body == weights());
    let part = curl(large.header("location"), &["--range", "10-19"]).await?;
    ensure!(part.status == 206 && part.body == weights()[10..20], "{}", part.headers);
    let leaked = curl(large.header("location"), &["--header", "Authorization: Bearer hf_x"]).await?;
    ensure!(leaked.status == 400);
    hub.expire_links();
    ensure!(curl(large.header("location"), &[]).await?.status == 403);

    let small = curl(&at("docs/read%20me%2C%2B%25.md"), &[]).await?;
    ensure!(
        small.status == 307 && small.header("location").starts_with("/api/resolve-cache/"),
        "{}",
        small.headers
    );
    let followed = curl(&at("docs/read%20me%2C%2B%25.md"), &["--location"]).await?;
    ensure!(followed.status == 200 && followed.body == b"# Tiny\n", "{}", followed.headers);
    let absent = curl(&at("absent"), &[]).await?;
    ensure!(absent.status == 404 && absent.header("x-error-code") == "EntryNotFound", "{}", absent.headers);
    ensure!(absent.header("x-repo-commit") == commit, "{}", absent.headers);
    Ok(())
}

/// Gated content needs a token that was let in; a private repository is not there for others; a bad token is told so.
#[tokio::test]
async fn some_may_read_and_others_may_not() -> Result<()> {
    let (hub, _) = tiny().await?;
    hub.gate(&repo()?, &["hf_in"])?;
    hub.user("hf_out");
    let url = format!("{}/acme/tiny/resolve/main/model.safetensors", hub.url());
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    for (token, status, code) in
        [("", 401, "GatedRepo"), ("hf_out", 403, "GatedRepo"), ("hf_bad", 401, ""), ("hf_in", 302, "")]
    {
        let header = if token.is_empty() { "X-None: 1".to_owned() } else { bearer(token) };
        let answer = curl(&url, &["--header", &header]).await?;
        ensure!(
            answer.status == status && answer.header("x-error-code") == code,
            "{token}: {}",
            answer.headers
        );
    }
    let info = curl(&format!("{}/api/models/acme/tiny", hub.url()), &[]).await?;
    ensure!(info.json()["gated"] == "auto", "the metadata is public");
    ensure!(hub.requests().iter().any(|asked| asked.who == Who::Token("hf_in".into())));
    hub.private(&repo()?, &["hf_in"])?;
    let hidden = curl(&format!("{}/api/models/acme/tiny", hub.url()), &[]).await?;
    ensure!(hidden.status == 401 && hidden.header("x-error-code") == "RepoNotFound");
    Ok(())
}

/// Trees come in pages whose links are followed; other spellings and old names lead to the present one.
#[tokio::test]
async fn the_api_answers() -> Result<()> {
    let (hub, commit) = tiny().await?;
    let tree = format!("{}/api/models/acme/tiny/tree/main?recursive=true&limit=3", hub.url());
    let first = curl(&tree, &[]).await?;
    let next = first.header("link").trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
    let second = curl(&next, &[]).await?;
    let paths: Vec<String> = [first.json(), second.json()]
        .iter()
        .flat_map(|page| page.as_array().cloned().unwrap_or_default())
        .map(|entry| entry["path"].as_str().unwrap_or_default().to_owned())
        .collect();
    ensure!(
        paths == ["config.json", "docs", "docs/read me,+%.md", "empty", "model.safetensors"],
        "{paths:?}"
    );
    let moved = "acme/renamed".parse()?;
    hub.rename(&repo()?, &moved).await?;
    let info =
        curl(&format!("{}/api/models/acme/TINY/revision/main?blobs=1", hub.url()), &["--location"]).await?;
    ensure!(info.json()["sha"] == commit.as_str() && info.json()["id"] == "acme/renamed", "{}", info.json());
    hub.point(&moved, "refs/tags/v1", commit.parse()?).await?;
    hub.push(&moved, "refs/pr/1", &[("x", b"x")]).await?;
    let refs = curl(&format!("{}/api/models/acme/renamed/refs?include_prs=1", hub.url()), &[]).await?.json();
    ensure!(refs["tags"][0]["targetCommit"] == commit.as_str(), "{refs}");
    ensure!(refs["pullRequests"][0]["name"] == "1", "{refs}");
    let log = curl(&format!("{}/api/models/acme/renamed/commits/v1", hub.url()), &[]).await?;
    ensure!(log.json()[0]["id"] == commit.as_str() && log.header("x-total-count") == "1", "{}", log.json());
    Ok(())
}

/// Real git clones it: whole, one commit deep, and without blobs.
#[tokio::test]
async fn git_clones_it() -> Result<()> {
    let (hub, commit) = tiny().await?;
    hub.push_files(&repo()?, "main", vec![HubFile::new("more.bin", b"lfs"), HubFile::new("x", b"x").plain()])
        .await?;
    let dir = tempfile::tempdir()?;
    for (name, args) in [
        ("whole", &[][..]),
        ("shallow", &["--depth=1"]),
        ("blobless", &["--filter=blob:none", "--no-checkout"]),
    ] {
        let to = dir.path().join(name);
        let mut command = Command::new("git");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_LFS_SKIP_SMUDGE", "1");
        command.args(["clone", "--quiet"]).args(args).arg(format!("{}/acme/tiny.git", hub.url())).arg(&to);
        let out = command.output().await?;
        ensure!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        if name != "blobless" {
            ensure!(std::fs::read_to_string(to.join("more.bin"))?.starts_with("version https://git-lfs"));
        }
    }
    let batch = r#"{"operation":"download","objects":[{"oid":"0","size":1}]}"#;
    let answer =
        curl(&format!("{}/acme/tiny.git/info/lfs/objects/batch", hub.url()), &["--data", batch]).await?;
    ensure!(answer.json()["objects"][0]["error"]["code"] == 404, "{}", answer.json());
    ensure!(commit.len() == 40);
    Ok(())
}

/// Each fault does what it says, and is gone when it is taken back.
#[tokio::test]
async fn everything_goes_wrong_on_demand() -> Result<()> {
    let (hub, _) = tiny().await?;
    let url = format!("{}/acme/tiny/resolve/main/model.safetensors", hub.url());
    let get = || curl(&url, &["--location", "--max-time", "2"]);
    let on = |faults: HubFaults| hub.set_faults(HubFaults { on: Scope::Content, ..faults });

    on(HubFaults { wrong_byte_at: Some(7), ..HubFaults::default() });
    let wrong = get().await?.body;
    ensure!(wrong.len() == 3_000_000 && wrong[7] == weights()[7] ^ 0xff && wrong[8..] == weights()[8..]);
    let part = curl(&url, &["--location", "--range", "5-9"]).await?.body;
    ensure!(part[2] == weights()[7] ^ 0xff, "the same byte of the file is wrong in a range");
    on(HubFaults { cut_after: Some(1000), on: Scope::Network, ..HubFaults::default() });
    let cut = get().await?;
    ensure!(cut.code == 18 && cut.body.len() == 1000, "{} {}", cut.code, cut.body.len());
    on(HubFaults { stall_after: Some(1000), ..HubFaults::default() });
    let stalled = get().await?;
    ensure!(stalled.code == 28 && stalled.body.len() == 1000, "{} {}", stalled.code, stalled.body.len());
    on(HubFaults { shorten_to: Some(1000), ..HubFaults::default() });
    let short = get().await?;
    ensure!(short.code == 0 && short.body.len() == 1000, "{} {}", short.code, short.body.len());
    on(HubFaults { redirect_to: Some("{url}".into()), ..HubFaults::default() });
    ensure!(get().await?.code == 47, "more redirects than curl follows");
    on(HubFaults { refuse: Some(Refusal::page(503).with("Retry-After", "3")), ..HubFaults::default() });
    let refused = get().await?;
    ensure!(refused.status == 503 && refused.header("retry-after") == "3", "{}", refused.headers);
    on(HubFaults { no_ranges: true, ..HubFaults::default() });
    ensure!(curl(&url, &["--location", "--range", "5-9"]).await?.status == 200);
    hub.set_faults(HubFaults::default());
    ensure!(get().await?.body == weights());

    hub.set_budget(Some(Budget { left: 1, window: 172 }));
    ensure!(curl(&url, &[]).await?.header("ratelimit") == "\"resolvers\";r=0;t=172");
    ensure!(curl(&url, &[]).await?.status == 429);
    Ok(())
}

/// A stopped hub is not reached; resumed, it is where it was. What it sent is counted by host.
#[tokio::test]
async fn it_stops_and_comes_back() -> Result<()> {
    let (hub, _) = tiny().await?;
    let url = format!("{}/acme/tiny/resolve/main/model.safetensors", hub.url());
    hub.stop().await;
    ensure!(curl(&url, &[]).await?.code == 7);
    hub.resume().await?;
    ensure!(curl(&url, &["--location"]).await?.body == weights());
    let network: Vec<_> = hub.requests().into_iter().filter(|asked| asked.port == PortOf::Content).collect();
    ensure!(network.len() == 1 && network[0].sent == 3_000_000, "{network:?}");
    Ok(())
}
