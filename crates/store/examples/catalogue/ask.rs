//! Asks a catalogue what clients ask, and tells how long each answer took.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hubless_store::{Catalogue, ShelfQuery, ShelfSort, ShelfTerm};
use hubless_types::RepoKind;

const SORTS: [ShelfSort; 5] =
    [ShelfSort::Trending, ShelfSort::Downloads, ShelfSort::Likes, ShelfSort::Created, ShelfSort::Modified];
const WORDS: [&str; 14] = [
    "bert",
    "llama",
    "GGUF",
    "qwen3",
    "whisper",
    "checkpoint-500",
    "deepseek r1",
    "stable-diffusion",
    "a",
    "zo-x",
    "medical",
    "ppo-lunarlander tiny",
    "nothing-has-this",
    "7b",
];
const TAGS: [&str; 8] = [
    "text-generation",
    "safetensors",
    "license:mit",
    "gguf",
    "fr",
    "dataset:owner7/qa",
    "arxiv:1910.00001",
    "none",
];

/// One kind of question.
struct Class {
    name: &'static str,
    /// By the clock, and on the processor (which counts in ticks of some milliseconds): on a busy machine only the
    /// second is the program's own.
    took: Vec<[Duration; 2]>,
}

pub(super) fn measure(dir: &Path, rounds: usize) -> Result<()> {
    let begun = Instant::now();
    let store = super::open(dir)?;
    let opening = begun.elapsed();
    let catalogue = store.catalogue();
    let (empty, mut classes) = (resident()?, Vec::new());
    for limit in [20, 100, 1000] {
        let name = |text: &str| -> &'static str { Box::leak(format!("{text} {limit}").into_boxed_str()) };
        let mut class = |text: &str, questions: Vec<ShelfQuery>| -> Result<()> {
            let mut took = Vec::new();
            for _ in 0..rounds {
                for question in &questions {
                    took.push(ask(catalogue, &ShelfQuery { limit, ..question.clone() })?);
                }
            }
            classes.push(Class { name: name(text), took });
            Ok(())
        };
        class("sort", sorts().collect())?;
        class(
            "search",
            sorts().flat_map(|q| WORDS.map(|w| ShelfQuery { search: w.into(), ..q.clone() })).collect(),
        )?;
        class(
            "filter",
            sorts().flat_map(|q| TAGS.map(|t| ShelfQuery { terms: tag(t), ..q.clone() })).collect(),
        )?;
        class("filter and search", sorts().flat_map(|q| both(&q)).collect())?;
        class("author", authors(catalogue)?)?;
        class("later pages", later(catalogue, limit)?)?;
    }
    report(classes, opening, empty, catalogue)
}

fn sorts() -> impl Iterator<Item = ShelfQuery> {
    let kinds = [RepoKind::Model, RepoKind::Dataset];
    let query = |kind, sort| ShelfQuery { sort, descending: true, ..ShelfQuery::all(kind) };
    kinds.into_iter().flat_map(move |kind| SORTS.map(|sort| query(kind, sort)))
}

fn tag(text: &str) -> Vec<ShelfTerm> {
    vec![ShelfTerm::Tag(text.into())]
}

fn both(query: &ShelfQuery) -> Vec<ShelfQuery> {
    let pairs = [("bert", "text-classification"), ("llama", "gguf"), ("zo-x", "safetensors"), ("wiki", "fr")];
    pairs.map(|(word, t)| ShelfQuery { search: word.into(), terms: tag(t), ..query.clone() }).into()
}

/// Owners of what is liked most.
fn authors(catalogue: &Catalogue) -> Result<Vec<ShelfQuery>> {
    let liked = ShelfQuery {
        sort: ShelfSort::Likes,
        descending: true,
        limit: 50,
        ..ShelfQuery::all(RepoKind::Model)
    };
    let page = catalogue.find_repos(&liked)?;
    let owners = page.repos.iter().filter_map(|(r, _)| r.owner());
    Ok(owners.map(|o| ShelfQuery { author: Some(o.into()), ..liked.clone() }).collect())
}

/// The second to tenth pages of a few listings.
fn later(catalogue: &Catalogue, limit: usize) -> Result<Vec<ShelfQuery>> {
    let mut questions = Vec::new();
    for mut query in sorts().step_by(3) {
        query.limit = limit;
        query.search = if questions.len() % 2 == 0 { String::new() } else { "bert".into() };
        for _ in 0..9 {
            match catalogue.find_repos(&query)?.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
            questions.push(query.clone());
        }
    }
    Ok(questions)
}

/// Finds the page, with what is said of each repository on it.
fn ask(catalogue: &Catalogue, query: &ShelfQuery) -> Result<[Duration; 2]> {
    let (begun, before) = (Instant::now(), on_cpu()?);
    catalogue.find_repos(query)?;
    let took = [begun.elapsed(), on_cpu()?.saturating_sub(before)];
    if took[1] > Duration::from_millis(15) && std::env::args().any(|a| a == "slow") {
        eprintln!("{took:?} {query:?}");
    }
    Ok(took)
}

fn report(mut classes: Vec<Class>, opening: Duration, empty: u64, catalogue: &Catalogue) -> Result<()> {
    let millis = |d: Duration| (d.as_secs_f64() * 1e5).round() / 100.0;
    let mut all: Vec<[Duration; 2]> = classes.iter().flat_map(|c| c.took.clone()).collect();
    let told = |took: &mut Vec<[Duration; 2]>| {
        let [clock, cpu] = [0, 1].map(|which| {
            let mut took: Vec<Duration> = took.iter().map(|t| t[which]).collect();
            took.sort();
            let at = |part: f64| took.get(((took.len() as f64 * part) as usize).min(took.len() - 1)).copied();
            [0.5, 0.99, 1.0].map(|part| at(part).map(millis))
        });
        serde_json::json!({ "count": took.len(), "p50_p99_worst_ms": clock, "on_cpu_ms": cpu })
    };
    let by_class: serde_json::Map<_, _> =
        classes.iter_mut().map(|c| (c.name.to_owned(), told(&mut c.took))).collect();
    let report = serde_json::json!({
        "repositories": catalogue.repo_count(),
        "opening_ms": millis(opening),
        "resident_mib_opened": empty / 1024,
        "resident_mib": resident()? / 1024,
        "peak_mib": status_line("VmHWM:")? / 1024,
        "all": told(&mut all),
        "classes": by_class,
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// How long this thread has been on a processor.
fn on_cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(stat.split_whitespace().next().context("no number")?.parse()?))
}

/// Resident memory, in KiB.
fn resident() -> Result<u64> {
    status_line("VmRSS:")
}

fn status_line(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).context("no such line")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}
