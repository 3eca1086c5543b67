//! The Hub's listing of a commit: sizes, and what LFS keeps.

use hubless_types::{CommitId, MAX_MANIFEST_ENTRIES, RepoId};
use serde::Deserialize;
use url::Url;

use crate::assemble::{Assembly, Listed};
use crate::http::{Ask, Auth, Http};
use crate::pace::LaneKind;
use crate::{OriginError, OriginErrorKind};

/// Longest page, in bytes: 1,000 entries of the longest paths fit.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;
/// Entries that are asked for in one page.
const PAGE_ENTRIES: &str = "1000";
/// Most entries in all pages; folders are entries too.
const MAX_ENTRIES: usize = 2 * MAX_MANIFEST_ENTRIES;
/// Longest address of a page, in bytes.
const MAX_QUERY_BYTES: usize = 4096;

/// One entry, as far as it is of interest.
#[derive(Debug, Deserialize)]
struct Row {
    #[serde(rename = "type")]
    kind: String,
    oid: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    oid: String,
    size: Option<u64>,
}

impl Row {
    fn listed(self) -> Option<Listed> {
        if self.kind != "file" {
            return None;
        }
        let size = self.lfs.as_ref().and_then(|lfs| lfs.size).unwrap_or(self.size);
        let lfs = self.lfs.map(|lfs| lfs.oid.trim_start_matches("sha256:").parse()).transpose().ok()?;
        Some(Listed { blob: self.oid.parse().ok()?, size, lfs, path: self.path.parse().ok() })
    }
}

/// Reads the listing of `commit`, page by page, until nothing is missing or it ends.
pub(super) async fn complete(
    http: &Http,
    repo: &RepoId,
    commit: CommitId,
    auth: Auth<'_>,
    assembly: &mut Assembly,
) -> Result<(), OriginError> {
    const WHAT: &str = "a listing";
    let mut url = first_page(http, repo, commit);
    let mut entries = 0;
    loop {
        let ask = Ask::get(url.clone(), auth, LaneKind::Api, OriginErrorKind::RevisionNotFound);
        let answer = http.send(&ask).await?;
        let next = answer.next_query();
        let rows: Vec<Row> = answer.json(MAX_PAGE_BYTES, WHAT).await?;
        entries += rows.len();
        if entries > MAX_ENTRIES {
            return Err(http.malformed(WHAT, format!("it has more than {MAX_ENTRIES} entries")));
        }
        let empty = rows.is_empty();
        rows.into_iter().filter_map(Row::listed).for_each(|listed| assembly.list(listed));
        let Some(query) = next.filter(|_| !assembly.is_done()) else { return Ok(()) };
        if empty || query.len() > MAX_QUERY_BYTES || url.query() == Some(&query) {
            return Err(http.malformed(WHAT, "its pages do not end"));
        }
        // Only the query of the next page's address is taken: no page leads to another host.
        url.set_query(Some(&query));
    }
}

fn first_page(http: &Http, repo: &RepoId, commit: CommitId) -> Url {
    let commit = commit.to_string();
    let segments = ["api", repo.kind().plural()].into_iter().chain(repo.name().split('/'));
    let mut url = http.url(segments.chain(["tree", &commit]));
    url.query_pairs_mut().append_pair("recursive", "true").append_pair("limit", PAGE_ENTRIES);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(json: &str) -> Option<Listed> {
        serde_json::from_str::<Row>(json).unwrap().listed()
    }

    #[test]
    fn an_entry_tells_the_size_that_counts() {
        let (blob, sha) = ("1".repeat(40), "a".repeat(64));
        let plain = format!(r#"{{"type":"file","oid":"{blob}","size":9,"path":"a b/c","xetHash":"x"}}"#);
        let plain = listed(&plain).unwrap();
        assert_eq!((plain.size, plain.lfs, plain.path.unwrap().as_str()), (9, None, "a b/c"));
        for oid in [sha.clone(), format!("sha256:{sha}")] {
            let lfs = format!(
                r#"{{"type":"file","oid":"{blob}","size":5,"path":"../x","lfs":{{"oid":"{oid}","size":7,"pointerSize":3}}}}"#
            );
            let lfs = listed(&lfs).unwrap();
            assert_eq!((lfs.size, lfs.lfs.unwrap().to_string(), lfs.path), (7, sha.clone(), None));
        }
        for none in [
            format!(r#"{{"type":"directory","oid":"{blob}","size":0,"path":"a"}}"#),
            r#"{"type":"file","oid":"x","size":0,"path":"a"}"#.to_owned(),
            format!(r#"{{"type":"file","oid":"{blob}","size":0,"path":"a","lfs":{{"oid":"x"}}}}"#),
        ] {
            assert_eq!(listed(&none), None, "{none}");
        }
    }
}
