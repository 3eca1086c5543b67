//! Every real client, every operation, twice: through a node whose origin answers, and through another node when the
//! origin is gone and the first one holds what was asked for. Then every client once more through nodes that were told of
//! that origin and cannot reach it: the first one, and one that never could.
//!
//! `HUBLESS_CELLS=curl` runs the cells whose client's name holds `curl`. When all of them ran and are green, README's
//! table must be the one that they make; `HUBLESS_WRITE_TABLE=1` writes it there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hubless_testkit::{Budget, Hub, HubFaults, HubFile, Scope};
use hubless_tests::matrix::{self, Cell, Failure, Fixture, Operation};
use hubless_tests::{Home, Node, Python, RunOptions, StoryResult, head};

/// Half of the large file of the fixture, in bytes.
const BIG_HALF: u64 = 12 << 20;

/// Puts every repository of the fixture on the hub.
async fn push_all(hub: &Hub, fixture: &Fixture) -> Result<()> {
    for (repo, folder) in fixture.repos() {
        let mut files = Vec::new();
        read(&folder, "", &mut files)?;
        hub.push_files(&repo.parse()?, "main", files).await?;
    }
    Ok(())
}

fn read(folder: &std::path::Path, prefix: &str, files: &mut Vec<HubFile>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push(HubFile::new(&name, &std::fs::read(entry.path())?));
        }
    }
    Ok(())
}

fn wanted() -> (Vec<Cell>, bool) {
    let filter = std::env::var_os("HUBLESS_CELLS").map(|text| text.to_string_lossy().into_owned());
    let mut cells = matrix::all();
    if let Some(filter) = &filter {
        cells.retain(|cell| cell.client.contains(filter));
    }
    (cells, filter.is_none())
}

fn told(place: &str, failures: &[Failure]) -> String {
    let one =
        |f: &Failure| format!("{place}: {}, {}: {:#}\n", f.cell.client, f.cell.operation.title(), f.error);
    failures.iter().map(one).collect()
}

/// What can be done through a node whose own origin is gone. Refusals are left out: whether there is such a name somewhere
/// nobody can say then, and the node does not pretend to; it answers 503.
fn without_refusals(cells: &[Cell]) -> Vec<Cell> {
    cells.iter().filter(|cell| cell.operation != Operation::Refusals).copied().collect()
}

/// Each client's look at things, and the operation of its that fetches most: a node that never reached its origin differs in
/// how it comes to know what a name means, which is the same for all operations.
fn some_of_each(cells: &[Cell]) -> Vec<Cell> {
    let does = |cell: &Cell, operation| {
        cells.iter().any(|other| other.client == cell.client && other.operation == operation)
    };
    let fetches_most = |cell: &Cell| {
        let most =
            [Operation::Whole, Operation::File, Operation::Ranges].into_iter().find(|o| does(cell, *o));
        most == Some(cell.operation)
    };
    let mut some = cells.to_vec();
    some.retain(|cell| cell.operation == Operation::Look || fetches_most(cell));
    some
}

/// On whose word `node` goes by a name, when it no longer repeats what it was told moments ago.
async fn resolved_by(node: &Node) -> Result<String> {
    let url = format!("{}/acme/tiny/resolve/main/config.json", node.http);
    let mut by = String::new();
    for _ in 0..60 {
        let answer = head(&url).await?;
        ensure!(answer.status == 200, "{answer:?}");
        by = answer.header("x-hubless-resolved-by").to_owned();
        if !by.starts_with("origin ") {
            return Ok(by);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("half a minute after its origin is gone: {by}")
}

async fn with_origin(home: &Home, hub: &Hub) -> Result<Node> {
    let options = RunOptions { args: vec!["--origin".into(), hub.url()], ..RunOptions::default() };
    home.start_with(options).await
}

/// The table in the README is what the real clients did in this run.
#[tokio::test]
async fn every_client_does_what_it_can() -> StoryResult {
    let (cells, all) = wanted();
    let fixture = Fixture::new()?;
    let [home_a, home_b, home_c] = [Home::new()?, Home::new()?, Home::new()?];
    let hub = Hub::start().await?;
    // What the Hub says of Xet must not reach a client: there is none behind a node.
    hub.claim_xet(true);
    hub.set_budget(Some(Budget { left: 1_000_000, window: 300 }));
    let a = with_origin(&home_a, &hub).await?;
    let make = hubless_tests::crate_folder().join("clients/python/make.py").display().to_string();
    Python::of(&a)?.file(&make, &[&fixture.path().display().to_string()]).await?.ok()?;
    push_all(&hub, &fixture).await?;

    let mut said = told("origin", &matrix::run_all(&cells, &a.http, fixture.path()).await?);
    for (repo, _) in fixture.repos() {
        // So that it holds also what no client asked for.
        home_a.done(&["pull", repo]).await?;
    }
    let trusting = format!("[names]\ntrusted = [\"{}\"]\n", a.id);
    let options = RunOptions::knowing(&[&a]).config(&home_b.beside("c.toml"), &trusting)?;
    let b = home_b.start_with(options).await?;
    hub.stop().await; // from here only `a` has it
    hub.forget_requests();
    said.push_str(&told("swarm", &matrix::run_all(&cells, &b.http, fixture.path()).await?));
    b.stop().await?;

    let by = resolved_by(&a).await?;
    let (held, some) = (without_refusals(&cells), some_of_each(&cells));
    ensure!(by.starts_with("last seen ") && by.ends_with(" ago"), "{by}");
    said.push_str(&told("origin gone", &matrix::run_all(&held, &a.http, fixture.path()).await?));
    let mut options = RunOptions::knowing(&[&a]).config(&home_c.beside("c.toml"), &trusting)?;
    options.args.extend(["--origin".into(), hub.url()]);
    let c = home_c.start_with(options).await?;
    said.push_str(&told("origin never there", &matrix::run_all(&some, &c.http, fixture.path()).await?));
    let by = resolved_by(&c).await?;
    ensure!(said.is_empty(), "{said}");
    ensure!(by == "witnesses 1/1", "one whom it believes saw the name there: {by}");
    c.stop().await?;
    a.stop().await?;
    if all { check_table(&matrix::render(&cells)) } else { Ok(()) }
}

/// A client that is killed while its node is itself still fetching, from a slow origin, and started again, ends with
/// the right bytes; each through a node that has nothing yet.
#[tokio::test]
async fn a_client_is_killed_while_its_node_still_fetches() -> StoryResult {
    let fixture = Fixture::new()?;
    let hub = Hub::start().await?;
    let mut files = Vec::new();
    read(&fixture.path().join("acme/big"), "", &mut files)?;
    hub.push_files(&"acme/big".parse()?, "main", files).await?;
    let mut cells = matrix::all();
    let some = ["huggingface_hub 2.4.0", "huggingface_hub 1.5.0", "curl"];
    cells.retain(|cell| cell.operation == Operation::Resume && some.contains(&cell.client));
    ensure!(cells.len() == some.len(), "{cells:?}");
    // Of each body: several at once are faster.
    let slow = HubFaults { on: Scope::Network, bytes_per_second: Some(3 << 20), ..HubFaults::default() };
    hub.set_faults(slow);
    for cell in cells {
        let home = Home::new()?;
        let node = with_origin(&home, &hub).await?;
        let before = hub.bytes_sent();
        let half_way = || hub.bytes_sent() - before > BIG_HALF;
        let done = matrix::run_killed(cell, &node.http, fixture.path(), half_way).await;
        done.with_context(|| format!("{} through a node that had nothing", cell.client))?;
        node.stop().await?;
    }
    Ok(())
}

/// A cell is green only if the bytes are right: a hub whose files have one wrong byte turns them red.
#[tokio::test]
async fn a_wrong_byte_turns_a_cell_red() -> StoryResult {
    let fixture = Fixture::new()?;
    let hub = Hub::start().await?;
    let tiny = "acme/tiny".parse()?;
    let mut files = Vec::new();
    read(&fixture.path().join("acme/tiny"), "", &mut files)?;
    hub.push_files(&tiny, "main", files).await?;
    let mut cells = matrix::all();
    cells.retain(|cell| cell.client == "aria2" && cell.operation == Operation::Ranges);
    ensure!(
        matrix::run_all(&cells, &hub.url(), fixture.path()).await?.is_empty(),
        "the hub itself serves it"
    );
    hub.set_faults(HubFaults { on: Scope::Content, wrong_byte_at: Some(5_000_000), ..HubFaults::default() });
    let failures = matrix::run_all(&cells, &hub.url(), fixture.path()).await?;
    ensure!(failures.len() == 1, "nobody saw the wrong byte");
    Ok(())
}

fn check_table(table: &str) -> StoryResult {
    if std::env::var_os("HUBLESS_WRITE_TABLE").is_some() {
        return matrix::replace(table);
    }
    ensure!(
        matrix::readme_table()? == table,
        "README.md's table of clients is not what this run made; scripts/test writes it:\n{table}"
    );
    Ok(())
}
