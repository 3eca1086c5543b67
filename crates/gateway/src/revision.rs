//! Tells a revision from the path that follows it, and finds the commit it means.

use std::collections::BTreeSet;

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

/// Splits what follows a verb by the refs that are known here, and where none of them fits by all that the origin
/// or, without one, peers name. A revision has at most `most` segments.
///
/// # Errors
/// A [`Fault`] if the catalogue cannot be read.
pub(crate) async fn split_known(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    tail: &[String],
    most: usize,
) -> Result<(String, String), Fault> {
    if most < 2 || is_one_segment(&tail[0]) {
        return Ok(split(tail, |name| name == tail[0]));
    }
    let known: BTreeSet<_> = app.mirror.refs(repo)?.into_iter().map(|(name, _)| name.to_string()).collect();
    let is_known = |text: &str| known.contains(Revision::plain_name(text));
    let fits = (1..=most.min(MAX_REF_SEGMENTS)).any(|n| is_known(&tail[..n].join("/")));
    if fits || has_known_length(tail) || short_id(&app.mirror, repo, &tail[0])?.is_some() {
        return Ok(split(tail, is_known));
    }
    // Whoever may not know of the repository, or cannot be told, is told so when the name itself is asked for.
    let named = app.mirror.all_names(&ask.caller(), repo).await.unwrap_or_default();
    Ok(split(tail, |text| named.contains(Revision::plain_name(text))))
}

/// Whether a revision that begins with `first` ends there. Git allows no branch `main/x` beside `main`, commit ids are no
/// folders, and who escapes a slash escapes them all: the usual names need no look at the refs.
fn is_one_segment(first: &str) -> bool {
    matches!(first, "main" | "HEAD") || first.contains('/') || first.parse::<CommitId>().is_ok()
}

/// Whether it begins with a ref whose shape tells its end: `refs/pr/1`, `refs/convert/parquet`.
fn has_known_length(tail: &[String]) -> bool {
    has_ref_shape(tail) && matches!(tail[1].as_str(), "pr" | "convert")
}

/// Finds the commit that `text` means, and notes for the answer's headers on whose word.
///
/// # Errors
/// A [`Fault`] that says what is not known, or that the repository goes by another name: nothing is kept under this one.
pub(crate) async fn commit_for(app: &App, ask: &Ask, repo: &RepoId, text: &str) -> Result<CommitId, Fault> {
    match look_up(app, ask, repo, text).await? {
        (own_name, _) if own_name != *repo => Err(Fault::moved(own_name)),
        (_, commit) => Ok(commit),
    }
}

/// As [`commit_for`], for clients that are not sent on: gives the name that the repository goes by as well.
///
/// # Errors
/// A [`Fault`] that says what is not known, or that the caller may not read what goes by another name.
pub(crate) async fn find(
    app: &App,
    ask: &Ask,
    repo: &RepoId,
    text: &str,
) -> Result<(RepoId, CommitId), Fault> {
    let (own_name, commit) = look_up(app, ask, repo, text).await?;
    if own_name != *repo {
        // Whatever was asked of the other name says nothing of this one.
        app.mirror.may_read(&ask.caller(), &own_name).await?;
    }
    Ok((own_name, commit))
}

async fn look_up(app: &App, ask: &Ask, repo: &RepoId, text: &str) -> Result<(RepoId, CommitId), Fault> {
    if let Ok(commit) = text.parse() {
        return Ok((repo.clone(), commit));
    }
    let (revision, caller) = (named(repo, text)?, ask.caller());
    match app.mirror.resolve(repo, &revision, &caller).await {
        Ok(resolved) => {
            let found = (resolved.repo.clone(), resolved.commit);
            ask.note_resolved(revision, resolved);
            Ok(found)
        }
        Err(error) => Ok((repo.clone(), otherwise(&app.mirror, repo, text, error)?)),
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
