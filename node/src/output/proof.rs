//! The chain of a proof: as JSON for machines, and as lines for people.

use hubless_proof::{ProofFile, Proven};
use hubless_types::{FileEntry, Manifest, RepoPath, Statement};
use serde_json::{Value, json};

use super::human::{bytes, count, moment, number, rows, text};
use crate::error::NodeError;

/// What a checked proof says: of its revision, or of one file in it.
///
/// # Errors
/// [`NodeError::NotInCommit`] if there is no such file.
pub(crate) fn chain(file: &ProofFile, proven: &Proven, path: Option<&RepoPath>) -> Result<Value, NodeError> {
    let Proven { commit, manifest, vouchers } = proven;
    let statements: Vec<Value> = file
        .statements
        .iter()
        .map(|s| {
            let body = &s.body;
            json!({ "signer": s.signer, "revision": body.revision, "origin": body.origin, "seen": body.seen,
                "links": body.links })
        })
        .collect();
    // A word for another name of the repository says nothing of this one; a commit needs nobody's.
    let of_this_name = |s: &Statement| s.body.revision == file.revision;
    let signed = file.revision.as_commit().is_none().then(|| file.statements.iter().any(of_this_name));
    let info = manifest.info();
    let mut chain = json!({
        "repo": file.repo,
        "revision": file.revision,
        "commit": commit,
        "signed": signed,
        "statements": statements,
        "title": info.title(),
        "time": info.time,
        "tree": info.tree,
        "files": manifest.entries().len(),
        "bytes": manifest.total_bytes(),
        "links": file.links.as_ref().map_or(0, |links| links.len()),
        "vouchers": vouchers,
    });
    if let Some(path) = path {
        let absent = || NodeError::NotInCommit { path: path.clone(), commit: *commit };
        let entry = manifest.entry(path).ok_or_else(absent)?;
        chain["file"] = of_file(file, manifest, entry);
    }
    Ok(chain)
}

/// From the root's folders down to the BLAKE3 root.
fn of_file(file: &ProofFile, manifest: &Manifest, entry: &FileEntry) -> Value {
    let path = entry.path.as_str();
    let ends = path.match_indices('/').map(|(end, _)| &path[..end]);
    let trees: Vec<Value> = ends
        .filter_map(|folder| {
            let folder: RepoPath = folder.parse().ok()?;
            Some(json!({ "path": folder, "tree": manifest.folder(&folder)? }))
        })
        .collect();
    let link = file.links.as_ref().and_then(|links| links.get(&entry.digest()));
    json!({
        "path": entry.path,
        "trees": trees,
        "blob": entry.blob,
        "size": entry.size,
        "sha256": entry.lfs.map(|lfs| lfs.sha256),
        "blake3": link.map(|(hash, _)| hash),
    })
}

/// The same for people.
pub(crate) fn shown(chain: &Value) -> String {
    let (repo, revision, commit) = (text(chain, "repo"), text(chain, "revision"), text(chain, "commit"));
    let mut lines = match chain["signed"] == false {
        true => vec![
            format!("{repo}@{revision} is commit {commit}, says whoever made this proof"),
            "  nobody signed that; the commit itself needs nobody's word".into(),
        ],
        false => vec![format!("{repo}@{revision} is commit {commit}")],
    };
    lines.extend(rows(chain, "statements").iter().map(statement));
    lines.push(format!("commit  {}  {}", text(chain, "commit"), text(chain, "title")));
    lines.push(format!("tree    {}", text(chain, "tree")));
    match chain["file"].is_object() {
        true => lines.extend(file_lines(chain, &chain["file"])),
        false => lines.push(format!(
            "files   {}, {}; {} BLAKE3 {}",
            count(number(chain, "files"), "file"),
            bytes(number(chain, "bytes")),
            number(chain, "links"),
            if number(chain, "links") == 1 { "link" } else { "links" },
        )),
    }
    lines.push(format!("links   {}", vouched(chain)));
    lines.push("checked: the objects hash up to the commit, and every signature is its signer's".into());
    lines.extend(chain["exported"].as_str().map(|to| format!("written to {to}")));
    lines.join("\n")
}

fn statement(statement: &Value) -> String {
    let how = statement["origin"]
        .as_str()
        .map_or_else(|| "published it".to_owned(), |origin| format!("saw it at {origin}"));
    let (signer, revision) = (text(statement, "signer"), text(statement, "revision"));
    format!("  signed  {signer} {how} as {revision}, {}", moment(number(statement, "seen")))
}

fn file_lines(chain: &Value, file: &Value) -> Vec<String> {
    let mut lines: Vec<String> = rows(file, "trees")
        .iter()
        .map(|tree| format!("tree    {}  {}", text(tree, "tree"), text(tree, "path")))
        .collect();
    let pointer = if file["sha256"].is_string() { " (an LFS pointer)" } else { "" };
    lines.push(format!("blob    {}  {}{pointer}", text(file, "blob"), text(file, "path")));
    lines.extend(file["sha256"].as_str().map(|sha256| format!("sha256  {sha256}")));
    lines.push(format!("size    {}", number(file, "size")));
    match file["blake3"].as_str() {
        Some(root) => lines.push(format!("blake3  {root}")),
        None if number(chain, "links") == 0 => {}
        None => lines.push("blake3  not known to whoever made this proof".into()),
    }
    lines
}

fn vouched(chain: &Value) -> String {
    let vouchers: Vec<&str> = rows(chain, "vouchers").iter().filter_map(Value::as_str).collect();
    match (number(chain, "links"), vouchers.is_empty()) {
        (0, _) => "none: the content must be hashed".into(),
        (_, true) => "by the word of whoever made this proof; hashing the content proves them".into(),
        (_, false) => format!("signed by {}", vouchers.join(", ")),
    }
}
