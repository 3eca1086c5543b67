//! `GET …/tree/{rev}[/{path}]`: the files and folders of a folder, page by page.

use axum::http::header;
use axum::response::Response;
use hubless_types::{FileEntry, Manifest, RepoId, RepoPath, TreeId};

use crate::answer::{Fault, header_text, json};
use crate::app::{App, Ask};
use crate::paging::{encode_path, next_link};
use crate::revision::{commit_for, split_known};
use crate::routes::entry::Listed;
use crate::routes::{manifest_of, xet};

/// Entries on one page (llama.cpp ignores paging, so a page is large).
const PAGE: usize = 1000;
/// Entries on one page with `expand`.
const EXPANDED_PAGE: usize = 50;

/// Lists a folder.
pub(crate) async fn tree(app: &App, ask: &Ask, repo: &RepoId, tail: &[String]) -> Result<Response, Fault> {
    let (revision, path) = split_known(app, ask, repo, tail, tail.len()).await?;
    let commit = commit_for(app, ask, repo, &revision).await?;
    let manifest = manifest_of(app, ask, repo, commit).await?;
    let no_entry = || Fault::no_entry(repo, commit, &path);
    let folder = match path.trim_matches('/') {
        "" => None,
        path => Some(path.parse::<RepoPath>().map_err(|_| no_entry())?),
    };
    let walk = Walk::new(&manifest, folder.as_ref()).ok_or_else(no_entry)?;
    let page = Page::of(ask)?;
    let (items, next) = walk.page(page.cursor, page.limit, page.recursive);
    let above = xet::above(app, repo, &manifest);
    let listed: Vec<_> = items.into_iter().map(|item| item.listed(&manifest, page.expand, above)).collect();
    let mut answer = json(&listed);
    if let Some(cursor) = next {
        // The link names the commit, so that all pages are of one state though the branch moves.
        let mut path = format!("/api/{}/{}/tree/{commit}", repo.kind().plural(), encode_path(repo.name()));
        folder.iter().for_each(|folder| path.push_str(&format!("/{}", encode_path(folder.as_str()))));
        let link = next_link(&ask.base, &path, &page.query(cursor));
        answer.headers_mut().insert(header::LINK, header_value(&link));
    }
    answer.headers_mut().insert("x-repo-commit", header_text(&commit.to_string()));
    Ok(answer)
}

/// A link is longer than a message may be, and made of what can stand in a header.
fn header_value(link: &str) -> axum::http::HeaderValue {
    axum::http::HeaderValue::from_str(link).unwrap_or_else(|_| header_text(link))
}

struct Page {
    recursive: bool,
    expand: bool,
    limit: usize,
    cursor: Cursor,
}

impl Page {
    fn of(ask: &Ask) -> Result<Self, Fault> {
        let expand = ask.query.flag("expand");
        let most = if expand { EXPANDED_PAGE } else { PAGE };
        let limit = ask.query.number("limit")?.unwrap_or(most).clamp(1, most);
        // A cursor that is not understood would lead back to the first page, and a client round and round.
        let read = |text| Cursor::parse(text).ok_or_else(|| Fault::bad("`cursor` is none of this listing"));
        let cursor = ask.query.get("cursor").map(read).transpose()?.unwrap_or_default();
        Ok(Self { recursive: ask.query.flag("recursive"), expand, limit, cursor })
    }

    fn query(&self, cursor: Cursor) -> Vec<(&'static str, String)> {
        let flag = |on: bool, name| on.then(|| (name, "true".to_owned()));
        let rest = [("limit", self.limit.to_string()), ("cursor", cursor.to_string())];
        flag(self.recursive, "recursive").into_iter().chain(flag(self.expand, "expand")).chain(rest).collect()
    }
}

/// How many folders and files of the walk lie behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    folders: usize,
    files: usize,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (folders, files) = text.split_once('.')?;
        Some(Self { folders: folders.parse().ok()?, files: files.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.folders, self.files)
    }
}

enum Item<'a> {
    Folder(&'a (RepoPath, TreeId)),
    File(&'a FileEntry),
}

impl<'a> Item<'a> {
    fn listed(self, manifest: &'a Manifest, expand: bool, xet_above: u64) -> Listed<'a> {
        match self {
            Self::Folder(folder) => Listed::folder(manifest, folder, expand),
            Self::File(entry) => Listed::file(manifest, entry, expand, xet_above),
        }
    }
}

/// What lies beneath one folder, both sorted by path.
struct Walk<'a> {
    folders: &'a [(RepoPath, TreeId)],
    files: &'a [FileEntry],
    /// Bytes of the folder's own path and its `/`.
    prefix: usize,
}

impl<'a> Walk<'a> {
    /// `None` if there is no such folder.
    fn new(manifest: &'a Manifest, folder: Option<&RepoPath>) -> Option<Self> {
        let Some(folder) = folder else {
            return Some(Self { folders: manifest.folders(), files: manifest.entries(), prefix: 0 });
        };
        manifest.folder(folder)?;
        let (folders, files) = (manifest.folders_under(folder), manifest.entries_under(folder));
        Some(Self { folders, files, prefix: folder.as_str().len() + 1 })
    }

    /// At most `limit` items from `cursor` on, and the cursor after them if more follow.
    ///
    /// Not recursive: what lies deeper is skipped by search, not one by one.
    fn page(&self, mut cursor: Cursor, limit: usize, recursive: bool) -> (Vec<Item<'a>>, Option<Cursor>) {
        let mut items = Vec::new();
        loop {
            if !recursive {
                self.skip_deeper(&mut cursor);
            }
            let (folder, file) = (self.folders.get(cursor.folders), self.files.get(cursor.files));
            if folder.is_none() && file.is_none() {
                return (items, None);
            }
            if items.len() == limit {
                return (items, Some(cursor));
            }
            match (folder, file) {
                (Some(folder), file) if file.is_none_or(|file| folder.0 < file.path) => {
                    items.push(Item::Folder(folder));
                    cursor.folders += 1;
                }
                (_, Some(file)) => {
                    items.push(Item::File(file));
                    cursor.files += 1;
                }
                _ => return (items, None),
            }
        }
    }

    /// Moves past everything that lies in a subfolder, to the next direct child of either kind.
    fn skip_deeper(&self, cursor: &mut Cursor) {
        while let Some(end) = self.folders.get(cursor.folders).and_then(|f| self.past_subfolder(&f.0)) {
            cursor.folders += self.folders[cursor.folders..].partition_point(|f| f.0.as_str() < end.as_str());
        }
        while let Some(end) = self.files.get(cursor.files).and_then(|f| self.past_subfolder(&f.path)) {
            cursor.files += self.files[cursor.files..].partition_point(|f| f.path.as_str() < end.as_str());
        }
    }

    /// If `path` lies in a subfolder: the first text after all paths in there (`0` follows `/`).
    fn past_subfolder(&self, path: &RepoPath) -> Option<String> {
        let path = path.as_str();
        let (child, _) = path.get(self.prefix..)?.split_once('/')?;
        Some(format!("{}{child}0", &path[..self.prefix]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::{BlobId, CommitId, CommitInfo, FileMode, Timestamp};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn manifest(paths: &BTreeSet<String>) -> Option<Manifest> {
        let entry = |path: &String| FileEntry {
            path: path.parse().unwrap(),
            mode: FileMode::Regular,
            blob: BlobId::from_bytes([1; 20]),
            size: 3,
            lfs: None,
        };
        let parents =
            |path: &String| path.match_indices('/').map(|(i, _)| path[..i].to_owned()).collect::<Vec<_>>();
        let folders: BTreeSet<String> = paths.iter().flat_map(parents).collect();
        let folders = folders.iter().map(|f| (f.parse().unwrap(), TreeId::from_bytes([2; 20]))).collect();
        let info = CommitInfo {
            tree: TreeId::from_bytes([2; 20]),
            parents: vec![],
            author: "A <a@example.org>".into(),
            time: Timestamp(1),
            message: "m".into(),
        };
        Manifest::new(CommitId::from_bytes([4; 20]), info, paths.iter().map(entry).collect(), folders).ok()
    }

    fn all_pages(walk: &Walk<'_>, limit: usize, recursive: bool) -> Vec<String> {
        let (mut names, mut cursor) = (Vec::new(), Some(Cursor::default()));
        while let Some(from) = cursor {
            let (items, next) = walk.page(from, limit, recursive);
            assert!(items.len() <= limit && (next.is_none() || items.len() == limit));
            names.extend(items.iter().map(|item| match item {
                Item::Folder(folder) => format!("{}/", folder.0),
                Item::File(file) => file.path.to_string(),
            }));
            cursor = next.map(|c| Cursor::parse(&c.to_string()).unwrap());
        }
        names
    }

    #[test]
    fn a_folder_lists_its_own_children() {
        let paths = ["a.txt", "a/1", "a/b/2", "a/b/c/3", "a0", "a-b", "z"].map(String::from).into();
        let m = manifest(&paths).unwrap();
        let root = Walk::new(&m, None).unwrap();
        assert_eq!(all_pages(&root, 2, false), ["a/", "a-b", "a.txt", "a0", "z"]);
        let a = "a".parse().unwrap();
        assert_eq!(all_pages(&Walk::new(&m, Some(&a)).unwrap(), 9, false), ["a/1", "a/b/"]);
        assert_eq!(
            all_pages(&Walk::new(&m, Some(&a)).unwrap(), 1, true),
            ["a/1", "a/b/", "a/b/2", "a/b/c/", "a/b/c/3"]
        );
        assert!(Walk::new(&m, Some(&"a/1".parse().unwrap())).is_none(), "a file is no folder");
    }

    proptest! {
        #[test]
        fn pages_together_are_the_whole(paths in prop::collection::btree_set("[a-c.0](/[a-c.0]){0,3}", 1..12), limit in 1..5_usize) {
            let paths: BTreeSet<String> = paths.into_iter().filter(|p| p.split('/').all(|part| part != ".")).collect();
            let Some(m) = manifest(&paths) else { return Ok(()) };
            let walk = Walk::new(&m, None).unwrap();
            let whole: BTreeSet<String> = all_pages(&walk, limit, true).into_iter().collect();
            let mut expected = paths.clone();
            expected.extend(m.folders().iter().map(|f| format!("{}/", f.0)));
            prop_assert_eq!(&whole, &expected);
            let direct: BTreeSet<String> = all_pages(&walk, limit, false).into_iter().collect();
            expected.retain(|p| !p.trim_end_matches('/').contains('/'));
            prop_assert_eq!(direct, expected);
        }

        #[test]
        fn no_cursor_makes_it_panic(folders: usize, files: usize) {
            let m = manifest(&["a/b".to_owned()].into()).unwrap();
            Walk::new(&m, None).unwrap().page(Cursor { folders, files }, 5, false);
        }
    }
}
