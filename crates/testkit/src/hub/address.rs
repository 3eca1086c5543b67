//! What a path asks for.

use hubless_types::{RepoId, RepoKind};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What stands between a repository's name and the rest of an API path.
const API_VERBS: [&str; 7] =
    ["revision", "tree", "paths-info", "refs", "commits", "auth-check", "xet-read-token"];
/// The same of the other paths.
const FILE_VERBS: [&str; 5] = ["resolve", "raw", "info", "git-upload-pack", "git-receive-pack"];

/// All that must not stand in a path as it is.
const ESCAPED: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'&')
    .add(b'=')
    .add(b'+')
    .add(b',')
    .add(b';')
    .add(b':');

/// A path's text, its slashes kept.
pub(crate) fn escaped(path: &str) -> String {
    utf8_percent_encode(path, &ESCAPED).to_string()
}

/// A text in a query, its slashes escaped too.
pub(crate) fn escaped_query(text: &str) -> String {
    escaped(text).replace('/', "%2F")
}

/// What is asked of the hub itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// `/api/whoami-v2`, `/api/agent-harnesses`, …
    Hub(String),
    /// `/api/models`
    List(RepoKind),
    /// `/api/models/acme/tiny…`
    Api(About),
    /// `/api/resolve-cache/models/acme/tiny/COMMIT/path`
    Cache(About),
    /// `/acme/tiny/resolve/…`
    File(About),
    /// `/acme/tiny.git/info/refs`, …
    Git(About),
}

/// A question about a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) repo: RepoId,
    /// `tree`, `resolve`, …; empty for the repository itself.
    pub(crate) verb: String,
    /// What follows, decoded.
    pub(crate) rest: Vec<String>,
    /// What stands before the name, such as `/api/models/`.
    before: String,
    /// What follows the name as it was sent, with the query.
    after: String,
}

impl About {
    /// The same path with another name.
    pub(crate) fn renamed(&self, to: &RepoId) -> String {
        format!("{}{}{}", self.before, to.name(), self.after)
    }
}

/// `name=value` pairs of a query or a form, decoded.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// Reads a request's path and query.
pub(crate) fn parse(target: &str) -> Option<Ask> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let raw: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let decode = |part: &&str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let parts: Vec<String> = raw.iter().map(decode).collect();
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    let kind_of = |word: &str| RepoKind::ALL.into_iter().find(|kind| kind.plural() == word);
    let about = |kind, from, verbs: &[&str]| about(kind, &words, &raw, from, verbs, query);
    match words[..] {
        ["api", "resolve-cache", kind, ..] => about(kind_of(kind)?, 3, &[]).map(Ask::Cache),
        ["api", kind] if kind_of(kind).is_some() => kind_of(kind).map(Ask::List),
        ["api", kind, _, ..] if kind_of(kind).is_some() => about(kind_of(kind)?, 2, &API_VERBS).map(Ask::Api),
        ["api", ..] => Some(Ask::Hub(words[1..].join("/"))),
        [first, _, ..] => {
            let kind = kind_of(first).filter(|kind| *kind != RepoKind::Model);
            let about = about(kind.unwrap_or(RepoKind::Model), usize::from(kind.is_some()), &FILE_VERBS)?;
            match about.verb.as_str() {
                "resolve" | "raw" => Some(Ask::File(about)),
                "info" | "git-upload-pack" | "git-receive-pack" => Some(Ask::Git(about)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A name has one segment or two: where a verb follows decides.
fn about(
    kind: RepoKind,
    words: &[&str],
    raw: &[&str],
    from: usize,
    verbs: &[&str],
    query: Option<&str>,
) -> Option<About> {
    let is_verb = |i: &usize| words.get(*i).is_some_and(|word| verbs.contains(word));
    let end = (from + 1..=from + 2).find(is_verb).unwrap_or(words.len().min(from + 2));
    let mut name = words.get(from..end)?.join("/");
    if let Some(short) = name.strip_suffix(".git") {
        name = short.to_owned();
    }
    let slash = |parts: &[&str]| parts.iter().map(|part| format!("/{part}")).collect::<String>();
    let mut after = slash(&raw[end..]);
    if let Some(query) = query {
        after = format!("{after}?{query}");
    }
    let verb = words.get(end).filter(|_| !verbs.is_empty()).map_or("", |verb| verb);
    let rest =
        words[(end + usize::from(!verb.is_empty())).min(words.len())..].iter().map(|w| (*w).to_owned());
    Some(About {
        repo: RepoId::new(kind, &name).ok()?,
        verb: verb.to_owned(),
        rest: rest.collect(),
        before: format!("{}/", slash(&raw[..from])),
        after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str) -> (String, String, Vec<String>) {
        match parse(target).unwrap() {
            Ask::Api(a) | Ask::Cache(a) | Ask::File(a) | Ask::Git(a) => (a.repo.to_string(), a.verb, a.rest),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_end_where_a_verb_begins() {
        for (target, repo, verb, rest) in [
            ("/gpt2/resolve/main/a%20b", "gpt2", "resolve", vec!["main", "a b"]),
            ("/acme/tiny/resolve/refs%2Fpr%2F1/x/y", "acme/tiny", "resolve", vec!["refs/pr/1", "x", "y"]),
            ("/datasets/squad/raw/main/x", "datasets/squad", "raw", vec!["main", "x"]),
            ("/datasets/acme/rows.git/info/refs?service=x", "datasets/acme/rows", "info", vec!["refs"]),
            ("/acme/tiny/git-upload-pack", "acme/tiny", "git-upload-pack", vec![]),
            ("/api/models/gpt2", "gpt2", "", vec![]),
            ("/api/models/acme/tiny", "acme/tiny", "", vec![]),
            ("/api/models/acme/tiny/tree/main/onnx%2Fsub", "acme/tiny", "tree", vec!["main", "onnx/sub"]),
            ("/api/datasets/squad/revision/main", "datasets/squad", "revision", vec!["main"]),
            ("/api/resolve-cache/models/acme/tiny/abc/x/y?q", "acme/tiny", "", vec!["abc", "x", "y"]),
        ] {
            let rest = rest.into_iter().map(str::to_owned).collect();
            assert_eq!(asked(target), (repo.to_owned(), verb.to_owned(), rest), "{target}");
        }
        assert_eq!(parse("/api/whoami-v2"), Some(Ask::Hub("whoami-v2".into())));
        assert_eq!(parse("/api/datasets?search=x"), Some(Ask::List(RepoKind::Dataset)));
    }

    #[test]
    fn another_name_keeps_the_rest() {
        let Some(Ask::File(about)) = parse("/datasets/Acme/Rows/resolve/main/a%20b?download=1") else {
            panic!()
        };
        let to = "datasets/acme/rows".parse().unwrap();
        assert_eq!(about.renamed(&to), "/datasets/acme/rows/resolve/main/a%20b?download=1");
    }
}
