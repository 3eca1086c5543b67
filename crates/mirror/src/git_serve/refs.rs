//! Which refs a repository has, for git.

use std::collections::BTreeMap;

use hubless_proof::{LsRefs, put_flush};
use hubless_types::{CommitId, RepoId, Revision};

use super::say;
use crate::{Caller, ErrorKind, Mirror, MirrorError, NotFound};

/// Most names of one request that peers and origins are asked for.
const MAX_LOOKED_UP: usize = 8;

/// Answers `ls-refs`. Names that the client spells out and that are not known here are looked up.
pub(super) async fn list(
    mirror: &Mirror,
    caller: &Caller,
    repo: &RepoId,
    asked: &LsRefs,
) -> Result<Vec<u8>, MirrorError> {
    let main = match mirror.resolve(repo, &Revision::main(), caller).await {
        Ok(resolved) => Some(resolved.commit),
        // It may have other branches.
        Err(error) if error.kind() == ErrorKind::NotFound(NotFound::Revision) => None,
        Err(MirrorError::Offline { .. }) if mirror.knows(repo)? => None,
        Err(error) => return Err(error),
    };
    for name in asked.prefixes.iter().filter_map(|prefix| spelled_out(prefix)).take(MAX_LOOKED_UP) {
        // What nobody knows is left out of the list, which says enough.
        let _ = mirror.resolve(repo, &name, caller).await;
    }
    let mut refs = mirror.all_refs(caller, repo).await?;
    if let Some(main) = main {
        refs.insert(MAIN.to_owned(), main);
    }
    Ok(write(&refs, asked))
}

const MAIN: &str = "refs/heads/main";

fn write(refs: &BTreeMap<String, CommitId>, asked: &LsRefs) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(main) = refs.get(MAIN).filter(|_| asked.wants("HEAD")) {
        let target = if asked.symrefs { format!(" symref-target:{MAIN}") } else { String::new() };
        say(&mut out, &format!("{main} HEAD{target}"));
    }
    for (name, commit) in refs.iter().filter(|(name, _)| asked.wants(name)) {
        say(&mut out, &format!("{commit} {name}"));
    }
    put_flush(&mut out);
    out
}

/// A prefix that is a whole name: `git clone --branch v1` asks for `refs/heads/v1` and `refs/tags/v1`.
fn spelled_out(prefix: &str) -> Option<Revision> {
    let name = prefix.strip_prefix("refs/heads/").or_else(|| prefix.strip_prefix("refs/tags/"))?;
    let name = name.parse::<Revision>().ok()?;
    (name.as_commit().is_none() && name != Revision::main()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_told_as_git_tells_them() {
        let commit = CommitId::from_bytes([0xab; 20]);
        let names = ["refs/heads/main", "refs/pr/1", "refs/heads/feature/x"];
        let refs: BTreeMap<String, CommitId> =
            names.into_iter().map(|name| (name.to_owned(), commit)).collect();
        let asked = LsRefs { symrefs: true, prefixes: vec!["HEAD".into(), "refs/heads/".into()] };
        let text = String::from_utf8(write(&refs, &asked)).unwrap();
        let id = commit.to_string();
        let lines =
            [" HEAD symref-target:refs/heads/main\n", " refs/heads/feature/x\n", " refs/heads/main\n"]
                .map(|line| format!("{:04x}{id}{line}", 4 + 40 + line.len()));
        assert_eq!(text, lines.join("") + "0000");
    }

    #[test]
    fn only_whole_names_are_looked_up() {
        let looked_up: Vec<_> =
            ["HEAD", "refs/heads/", "refs/heads/v1", "refs/tags/v1", "refs/heads/main", "v1"]
                .into_iter()
                .filter_map(spelled_out)
                .map(|name| name.to_string())
                .collect();
        assert_eq!(looked_up, ["v1", "v1"]);
    }
}
