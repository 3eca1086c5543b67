//! Stories of an origin in trouble, as clients at the door meet it: they are told what it answered, nothing of that is kept
//! or passed on as a file, and the same request is answered once the origin is well again.

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::upstream::{Below, Upstream, content};
use common::{Answer, TestResult};
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use hubless_testkit::{HubFaults, Refusal, Scope};

const INFO: &str = "/api/models/acme/tiny";
const TREE: &str = "/api/models/acme/tiny/tree/main?recursive=true";
const SMALL: &str = "/acme/tiny/resolve/main/s.txt";
const LARGE: &str = "/acme/tiny/resolve/main/w.safetensors";
const RAW: &str = "/acme/tiny/raw/main/s.txt";
const ALL: [&str; 5] = [INFO, TREE, SMALL, LARGE, RAW];

/// Stories that are told at the same time.
const AT_ONCE: usize = 3;

/// What a client may be told: status and code.
type Told = (u16, &'static str);

const DOWN: Told = (503, "Unavailable");
const BUSY: Told = (429, "NotYet");
const WRONG: Told = (502, "WrongContent");
const GATED: Told = (401, "GatedRepo");

/// One thing that goes wrong.
#[derive(Clone)]
struct Trouble {
    faults: HubFaults,
    /// What the client is told then, one of these.
    told: Vec<Told>,
    /// What the message names.
    named: String,
}

/// Asks each of `paths` of a node of its own while the trouble lasts, and again when it is over.
async fn story(upstream: &Upstream, trouble: Trouble, paths: &[&str], listed: u64) -> Result<()> {
    let Trouble { faults, told, named } = trouble;
    let what = format!("{:?} {:?}", faults.on, faults);
    upstream.hub.set_faults(faults.clone());
    // What is waited for longest is told to come again while it is tried on.
    let patience = |path: &str| if path == LARGE { Duration::from_secs(5) } else { Duration::from_secs(60) };
    let nodes = paths.iter().map(|path| upstream.below_waiting(patience(path)));
    let nodes = nodes.collect::<Result<Vec<Below>>>()?;
    let asking = nodes.iter().zip(paths).map(|(node, path)| node.get(path));
    for ((node, path), answer) in nodes.iter().zip(paths).zip(try_join_all(asking).await?) {
        let (status, code, same) = answer.refusal();
        let said = answer.header("x-error-message");
        // What takes long is told to come again, with what it waits for.
        let fits = told.contains(&(status, code)) || *path == LARGE && (status, code) == BUSY;
        ensure!(fits, "{what}\n{path}: {status} {code} {said}");
        ensure!(same && said.contains(&named), "{what}\n{path}: `{named}` is not in `{said}`");
        let refusal = faults.refuse.as_ref().map_or(&b"-"[..], |refusal| &refusal.body);
        ensure!(answer.body != refusal && answer.header("content-type").contains("json"), "{what}\n{path}");
        ensure!(told_when(&answer), "{what}\n{path}: nobody is told when to come again");
        node.keeps_nothing(listed)?;
    }
    upstream.hub.set_faults(HubFaults::default());
    let again = nodes.iter().zip(paths).map(|(node, path)| node.get_in_the_end(path));
    for (path, answer) in paths.iter().zip(try_join_all(again).await?) {
        let right = match *path {
            INFO => answer.json()?["sha"] == upstream.commit.to_string(),
            TREE => answer.json()?.as_array().is_some_and(|all| all.len() == 3),
            file => answer.body == content(file),
        };
        ensure!(right, "{what}\n{path}: {}", answer.text());
    }
    Ok(())
}

fn told_when(answer: &Answer) -> bool {
    let later = matches!(answer.status.as_u16(), 429 | 503);
    later != answer.header("retry-after").is_empty()
}

/// So many that a story's own waits cost nothing, and no more than a small machine bears.
async fn some_at_once(stories: impl Iterator<Item = impl Future<Output = TestResult>>) -> TestResult {
    futures::stream::iter(stories).buffer_unordered(AT_ONCE).try_collect().await
}

/// What proxies, firewalls and overloaded hubs answer, as a page or as JSON.
fn refusals() -> impl Iterator<Item = (u16, Refusal)> {
    let patient = Refusal::json(429).with("Retry-After", "5");
    let pages = [403, 500, 502].map(|status| (status, Refusal::page(status)));
    let json = [403, 503].map(|status| (status, Refusal::json(status)));
    pages.into_iter().chain(json).chain([(429, patient)])
}

fn refusing(on: Scope, (status, refusal): &(u16, Refusal), told: &[Told]) -> Trouble {
    let faults = HubFaults { on, refuse: Some(refusal.clone()), ..HubFaults::default() };
    Trouble { faults, told: told.to_vec(), named: format!("answered {status}") }
}

/// A hub that refuses everything, whatever is asked: no client takes that for an answer about the repository, and all are
/// told the status. A line of JSON with a 403 is the one exception: of a hub that has not spoken yet, nobody can tell
/// that from its word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_refuses_everything_is_named_with_its_status() -> TestResult {
    let stories = refusals().map(|refusal| async move {
        let page = refusal.1.body.starts_with(b"<");
        let told = match refusal.0 {
            429 => BUSY,
            403 if !page => GATED,
            _ => DOWN,
        };
        story(&Upstream::begin().await?, refusing(Scope::All, &refusal, &[told]), &ALL, 0).await
    });
    some_at_once(stories).await
}

/// A hub that says what there is, and refuses the files; a content network that does; and one whose git does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_refuses_files_or_git_is_named_with_its_status() -> TestResult {
    let stories = refusals().map(|refusal| async move {
        let upstream = Upstream::begin().await?;
        let told: &[Told] = if refusal.0 == 429 { &[BUSY] } else { &[DOWN] };
        // Git has no codes: its 403 is its word.
        let git: &[Told] = if refusal.0 == 403 { &[DOWN, GATED] } else { told };
        story(&upstream, refusing(Scope::Content, &refusal, told), &[SMALL, RAW, LARGE], 1).await?;
        story(&upstream, refusing(Scope::Network, &refusal, told), &[LARGE], 1).await?;
        story(&upstream, refusing(Scope::Git, &refusal, git), &[INFO, TREE], 0).await
    });
    some_at_once(stories).await
}

/// Answers that break off, end too soon, never come, or lead in circles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_breaks_off_stalls_or_leads_in_circles_is_told_of() -> TestResult {
    let fault = |change: fn(&mut HubFaults)| {
        let mut faults = HubFaults::default();
        change(&mut faults);
        faults
    };
    let cases = [
        fault(|faults| faults.cut_after = Some(20)),
        fault(|faults| faults.shorten_to = Some(20)),
        fault(|faults| faults.stall_after = Some(0)),
        fault(|faults| faults.delay = Some(Duration::from_secs(20))),
        fault(|faults| faults.redirect_to = Some("{url}".into())),
    ];
    let stories = cases.into_iter().map(|faults| async move {
        let upstream = Upstream::begin().await?;
        let on = |on: Scope| Trouble {
            faults: HubFaults { on, ..faults.clone() },
            told: vec![DOWN, BUSY, WRONG],
            named: upstream.hub.url(),
        };
        story(&upstream, on(Scope::Api), &[INFO, TREE], 0).await?;
        story(&upstream, on(Scope::Git), &[TREE], 0).await?;
        story(&upstream, on(Scope::Content), &[SMALL, RAW, LARGE], 1).await
    });
    some_at_once(stories).await
}
