//! Tells a revision from the path that follows it, and finds the commit it means.

use hubless_mirror::{Mirror, MirrorError};
use hubless_types::{CommitId, RepoId, Revision};

use crate::answer::Fault;
use crate::app::{App, Ask};

/// Most segments that an unencoded revision may have.
const MAX_REF_SEGMENTS: usize = 16;
/// Fewest digits of a shortened commit id (git's own least is 4, its default 7).
const MIN_SHORT_ID: usize = 7;

/// Splits what follows a verb into a revision and a path (joined with `/`, empty if there is none).
///
/// A revision is one segment, but some clients send `refs/pr/1` unencoded: the longest name that `known`
/// knows wins, else a well-known shape under `refs/`, else the first segment.
pub(crate) fn split(tail: &[String], known: impl Fn(&str) -> bool) -> (String, String) {
    let longest = (2..=tail.len().min(MAX_REF_SEGMENTS)).rev().find(|&n| known(&tail[..n].join("/")));
    let taken = longest.unwrap_or(if has_ref_shape(tail) && !known(&tail[0]) { 3 } else { 1 });
    let taken = taken.min(tail.len());
    (tail[..taken].join("/"), tail[taken..].join("/"))
}

fn has_ref_shape(tail: &[String]) -> bool {
    matches!(tail, [refs, kind, _, ..] if refs == "refs" && matches!(kind.as_str(), "pr" | "convert" | "heads" | "tags"))
}

/// Splits what follows a verb by the refs that are known here.
///
/// # Errors
/// A [`Fault`] if the catalogue cannot be read.
pub(crate) fn split_known(
    mirror: &Mirror,
    repo: &RepoId,
    tail: &[String],
) -> Result<(String, String), Fault> {
    // Git allows no branch `main/x` beside `main`, so the usual names need no look at the refs.
    let first = tail.first().map(String::as_str).unwrap_or_default();
    if matches!(first, "main" | "HEAD") || first.parse::<CommitId>().is_ok() {
        return Ok(split(&tail[..1], |_| false)).map(|(rev, _)| (rev, tail[1..].join("/")));
    }
    let refs = mirror.refs(repo)?;
    Ok(split(tail, |name| refs.iter().any(|(known, _)| known.as_str() == Revision::plain_name(name))))
}

/// Finds the commit that `text` means, and notes for the answer's headers on whose word.
///
/// # Errors
/// A [`Fault`] that says what is not known.
pub(crate) async fn commit_for(app: &App, ask: &Ask, repo: &RepoId, text: &str) -> Result<CommitId, Fault> {
    if let Ok(commit) = text.parse() {
        return Ok(commit);
    }
    let (revision, caller) = (named(repo, text)?, ask.caller());
    match app.mirror.resolve(repo, &revision, &caller).await {
        Ok(resolved) => {
            let commit = resolved.commit;
            ask.note_resolved(revision, resolved);
            Ok(commit)
        }
        Err(error) => otherwise(&app.mirror, repo, text, error),
    }
}

fn named(repo: &RepoId, text: &str) -> Result<Revision, Fault> {
    text.parse().map_err(|_| Fault::no_revision(repo, text))
}

/// What is no name may be a shortened commit id.
fn otherwise(mirror: &Mirror, repo: &RepoId, text: &str, error: MirrorError) -> Result<CommitId, Fault> {
    match short_id(mirror, repo, text)? {
        Some(commit) => Ok(commit),
        None => Err(unresolved(mirror, repo, text, error)),
    }
}

/// Without a network, what is not here is not known: that is an answer, no failure.
fn unresolved(mirror: &Mirror, repo: &RepoId, text: &str, error: MirrorError) -> Fault {
    match error {
        MirrorError::Offline { .. } if mirror.knows(repo).unwrap_or(false) => Fault::no_revision(repo, text),
        MirrorError::Offline { .. } => Fault::no_repo(&repo.to_string()),
        error => error.into(),
    }
}

/// The one commit known here whose id begins with `text`.
fn short_id(mirror: &Mirror, repo: &RepoId, text: &str) -> Result<Option<CommitId>, Fault> {
    let is_short = (MIN_SHORT_ID..40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_short {
        return Ok(None);
    }
    Ok(mirror.commit_by_prefix(repo, &text.to_ascii_lowercase())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(tail: &[&str], known: &[&str]) -> (String, String) {
        let tail: Vec<String> = tail.iter().map(|s| (*s).to_owned()).collect();
        split(&tail, |name| known.contains(&Revision::plain_name(name)))
    }

    #[test]
    fn the_longest_known_ref_wins() {
        for (tail, known, revision, path) in [
            (&["main", "a", "b"][..], &["main"][..], "main", "a/b"),
            (&["refs/pr/1", "onnx"], &[], "refs/pr/1", "onnx"),
            (&["refs", "pr", "1", "onnx"], &[], "refs/pr/1", "onnx"),
            (
                &["refs", "heads", "feature", "slash", "x"],
                &["feature/slash"],
                "refs/heads/feature/slash",
                "x",
            ),
            (&["feature", "slash", "x"], &["feature/slash", "feature"], "feature/slash", "x"),
            (&["feature", "slash", "x"], &[], "feature", "slash/x"),
            (&["refs", "x"], &[], "refs", "x"),
            (&["refs", "pr", "x"], &["refs"], "refs", "pr/x"),
            (&["v1.0"], &["v1.0"], "v1.0", ""),
        ] {
            assert_eq!(cut(tail, known), (revision.to_owned(), path.to_owned()), "{tail:?}");
        }
    }
}
