//! `POST …/paths-info/{rev}`: some files and folders of a commit, by path.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use hubless_types::{Manifest, RepoId, RepoPath};
use serde::Deserialize;

use crate::answer::{Fault, element, json_list};
use crate::app::{App, Ask};
use crate::incoming;
use crate::query::Query;
use crate::routes::entry::Listed;
use crate::routes::{manifest_at, xet};

/// Longest body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Most paths in one request.
const MAX_PATHS: usize = 10_000;
/// Longest wait for the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(8);

/// What is asked for. Python sends a form, JavaScript and Rust send JSON.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Wanted {
    paths: Vec<String>,
    #[serde(default)]
    expand: bool,
}

impl Wanted {
    /// A few bytes each, repeated paths would be answered with hundreds.
    fn drop_repeated(&mut self) {
        let mut seen = HashSet::new();
        self.paths.retain(|path| seen.insert(bare(path).to_owned()));
    }
}

/// Lists the files and folders that were named, each once, in the order in which they came; unknown ones are left out.
pub(crate) async fn paths_info(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    revision: &str,
    body: Body,
) -> Result<Response, Fault> {
    let bytes = incoming::read(body, MAX_BODY_BYTES, BODY_TIMEOUT).await?;
    let is_json = ask.header(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let mut wanted = if is_json { from_json(&bytes)? } else { from_form(&bytes) };
    if wanted.paths.len() > MAX_PATHS {
        return Err(Fault::new(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            format!("more than {MAX_PATHS} paths"),
        ));
    }
    let manifest = manifest_at(app, ask, repo, revision).await?;
    let above = xet::above(app, repo, &manifest);
    wanted.drop_repeated();
    let mut listed = 0;
    let lines = wanted.paths.into_iter().filter_map(move |path| {
        let line = element(listed, &find(&manifest, &path, wanted.expand, above)?);
        listed += 1;
        Some(line)
    });
    Ok(json_list(lines))
}

fn from_json(bytes: &[u8]) -> Result<Wanted, Fault> {
    serde_json::from_slice(bytes).map_err(|error| {
        Fault::new(StatusCode::BAD_REQUEST, "BadRequest", format!("the body is no such JSON: {error}"))
    })
}

fn from_form(bytes: &[u8]) -> Wanted {
    // One more than is allowed, so that too many are noticed; and `expand`.
    let form = Query::parse_up_to(&String::from_utf8_lossy(bytes), MAX_PATHS + 2);
    Wanted { paths: form.all("paths").map(str::to_owned).collect(), expand: form.flag("expand") }
}

/// Slashes around a path say nothing.
fn bare(path: &str) -> &str {
    path.trim_matches('/')
}

fn find<'a>(manifest: &'a Manifest, path: &str, expand: bool, xet_above: u64) -> Option<Listed<'a>> {
    let path: RepoPath = bare(path).parse().ok()?;
    if let Some(entry) = manifest.entry(&path) {
        return Some(Listed::file(manifest, entry, expand, xet_above));
    }
    let i = manifest.folders().binary_search_by(|folder| folder.0.cmp(&path)).ok()?;
    Some(Listed::folder(manifest, &manifest.folders()[i], expand))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_json_say_the_same() {
        let expected = Wanted { paths: vec!["a b".into(), "c+d".into()], expand: true };
        assert_eq!(from_form(b"paths=a+b&paths=c%2Bd&expand=True"), expected);
        assert_eq!(from_json(br#"{"paths":["a b","c+d"],"expand":true}"#).unwrap(), expected);
        assert!(!from_json(br#"{"paths":[]}"#).unwrap().expand);
        assert!(from_json(b"{").is_err());
    }

    #[test]
    fn each_path_is_taken_once() {
        let mut wanted = from_form(b"paths=b&paths=a&paths=/b&paths=a//&paths=a&paths=a/b");
        wanted.drop_repeated();
        assert_eq!(wanted.paths, ["b", "a", "a/b"]);
    }
}
