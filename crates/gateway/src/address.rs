//! Reads the path of a request: which repository, what is asked of it.
//!
//! The raw path is split on `/` first and each segment decoded afterwards, so that `refs%2Fpr%2F1` stays one
//! segment. An invalid `%` stands for itself (clients send `100%.txt` raw) and `+` is never a space.
//!
//! **Not here:** where a revision ends and a file's path begins ([`crate::revision`]): that needs known refs.

mod doors;

use hubless_types::{RepoId, RepoKind};
use percent_encoding::percent_decode_str;

pub(crate) use doors::{Door, XET, XetVersion};

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `/`
    Root,
    /// `/healthz`
    Health,
    /// `/api/whoami-v2`
    WhoAmI,
    /// `/api/agent-harnesses`
    Harnesses,
    /// `/api/models`, `/api/datasets`, `/api/spaces`
    List(RepoKind),
    /// Something of one repository.
    Repo(RepoId, Call),
    /// Something of one repository, asked through another door than the Hub's.
    Door(RepoId, Door),
    /// `/v2/`: whether this is a registry.
    Registry,
    /// Something of a repository whose name cannot be one; with that name.
    NoRepo(String),
    /// Nothing that is served here.
    Unknown,
}

impl Address {
    /// The repository that is asked about.
    pub(crate) const fn repo(&self) -> Option<&RepoId> {
        match self {
            Self::Repo(repo, _) | Self::Door(repo, _) => Some(repo),
            _ => None,
        }
    }
}

/// What is asked of a repository. Each `Vec` is what follows the verb, decoded, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// `/api/models/{id}`
    Info,
    /// `…/revision/{rev}`
    Revision(Vec<String>),
    /// `…/tree/{rev}[/{path}]`
    Tree(Vec<String>),
    /// `…/paths-info/{rev}`
    PathsInfo(Vec<String>),
    /// `…/refs`
    Refs,
    /// `…/commits/{rev}`
    Commits(Vec<String>),
    /// `…/auth-check`
    AuthCheck,
    /// `/{id}/resolve/{rev}/{path}`
    Resolve(Vec<String>),
    /// `/{id}/raw/{rev}/{path}`
    Raw(Vec<String>),
}

/// Reads the path of a request target, as sent.
pub(crate) fn parse(raw_path: &str) -> Address {
    let path = raw_path.trim_start_matches('/');
    let segments: Vec<String> = path.split('/').map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments[..] {
        [""] => Address::Root,
        ["healthz"] => Address::Health,
        ["api", ref rest @ ..] => parse_api(trim_end(rest)),
        _ => match parse_file(&segments) {
            Address::Unknown => doors::parse(&segments).unwrap_or(Address::Unknown),
            found => found,
        },
    }
}

pub(crate) fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// API addresses may end in `/`; file paths may not.
fn trim_end<'a, 'b>(segments: &'b [&'a str]) -> &'b [&'a str] {
    match segments {
        [rest @ .., ""] => rest,
        _ => segments,
    }
}

fn parse_api(segments: &[&str]) -> Address {
    match segments {
        ["whoami-v2"] => Address::WhoAmI,
        ["agent-harnesses"] => Address::Harnesses,
        [kind] => kind_of(kind).map_or(Address::Unknown, Address::List),
        [kind, rest @ ..] => kind_of(kind).map_or(Address::Unknown, |kind| parse_repo_api(kind, rest)),
        [] => Address::Unknown,
    }
}

fn kind_of(plural: &str) -> Option<RepoKind> {
    RepoKind::ALL.into_iter().find(|kind| kind.plural() == plural)
}

/// A repository's name has one or two segments. Two are tried first; what is left must be a whole call.
fn parse_repo_api(kind: RepoKind, segments: &[&str]) -> Address {
    for name_len in [2, 1] {
        if let Some((name, rest)) = segments.split_at_checked(name_len)
            && let Some(call) = api_call(rest).filter(|call| !is_bare_verb(name, call))
        {
            return repo(kind, name, call);
        }
    }
    doors::parse_token(kind, segments).unwrap_or(Address::Unknown)
}

/// Whether `name/verb` was read as `owner/name`: `/api/models/gpt2/refs` asks for the refs of `gpt2`.
fn is_bare_verb(name: &[&str], call: &Call) -> bool {
    *call == Call::Info && matches!(name, [_, verb] if api_call(&[verb]).is_some())
}

fn api_call(rest: &[&str]) -> Option<Call> {
    let (verb, tail) = match rest {
        [] => return Some(Call::Info),
        [verb, tail @ ..] => (*verb, tail),
    };
    let owned = || tail.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    match (verb, tail.is_empty()) {
        ("refs", true) => Some(Call::Refs),
        ("auth-check", true) => Some(Call::AuthCheck),
        ("revision", false) => Some(Call::Revision(owned())),
        ("tree", false) => Some(Call::Tree(owned())),
        ("paths-info", false) => Some(Call::PathsInfo(owned())),
        ("commits", false) => Some(Call::Commits(owned())),
        _ => None,
    }
}

fn parse_file(segments: &[&str]) -> Address {
    let prefixed = RepoKind::ALL.into_iter().find(|kind| {
        *kind != RepoKind::Model && segments.first().is_some_and(|first| *first == kind.plural())
    });
    if let Some(kind) = prefixed
        && let Some(address) = parse_repo_file(kind, &segments[1..])
    {
        return address;
    }
    parse_repo_file(RepoKind::Model, segments).unwrap_or(Address::Unknown)
}

fn parse_repo_file(kind: RepoKind, segments: &[&str]) -> Option<Address> {
    [2, 1].into_iter().find_map(|name_len| {
        let (name, rest) = segments.split_at_checked(name_len)?;
        Some(repo(kind, name, file_call(rest)?))
    })
}

fn file_call(rest: &[&str]) -> Option<Call> {
    let [verb, tail @ ..] = rest else { return None };
    // A revision and a path; a revision may be several segments, so more is fine.
    if tail.len() < 2 {
        return None;
    }
    let tail = tail.iter().map(|s| (*s).to_owned()).collect();
    match *verb {
        "resolve" => Some(Call::Resolve(tail)),
        "raw" => Some(Call::Raw(tail)),
        _ => None,
    }
}

fn repo(kind: RepoKind, name: &[&str], call: Call) -> Address {
    let name = name.join("/");
    match RepoId::new(kind, &name) {
        Ok(repo) => Address::Repo(repo, call),
        Err(_) => Address::NoRepo(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owned(tail: &[&str]) -> Vec<String> {
        tail.iter().map(|s| (*s).to_owned()).collect()
    }

    fn of(text: &str, call: Call) -> Address {
        Address::Repo(text.parse().unwrap(), call)
    }

    #[test]
    fn file_addresses() {
        for (path, repo, tail) in [
            ("/acme/tiny/resolve/main/w.bin", "acme/tiny", vec!["main", "w.bin"]),
            ("/gpt2/resolve/main/onnx/w.bin", "gpt2", vec!["main", "onnx", "w.bin"]),
            (
                "/datasets/acme/rows/resolve/refs%2Fconvert%2Fparquet/a.parquet",
                "datasets/acme/rows",
                vec!["refs/convert/parquet", "a.parquet"],
            ),
            ("/datasets/squad/resolve/main/a+b%20c.txt", "datasets/squad", vec!["main", "a+b c.txt"]),
            ("/spaces/acme/app/resolve/main/100%.txt", "spaces/acme/app", vec!["main", "100%.txt"]),
            ("//acme/tiny/resolve/main/%zz%2", "acme/tiny", vec!["main", "%zz%2"]),
            ("/acme%2Ftiny/resolve/main/x", "acme/tiny", vec!["main", "x"]),
            ("/acme/tiny/resolve/main/a//b/", "acme/tiny", vec!["main", "a", "", "b", ""]),
        ] {
            assert_eq!(parse(path), of(repo, Call::Resolve(owned(&tail))), "{path}");
        }
        assert_eq!(parse("/a/b/raw/main/README.md"), of("a/b", Call::Raw(owned(&["main", "README.md"]))));
    }

    #[test]
    fn api_addresses() {
        for (path, repo, call) in [
            ("/api/models/acme/tiny", "acme/tiny", Call::Info),
            ("/api/models/gpt2/", "gpt2", Call::Info),
            ("/api/models/gpt2/refs", "gpt2", Call::Refs),
            ("/api/models/gpt2/tree/refs/pr/1", "gpt2", Call::Tree(owned(&["refs", "pr", "1"]))),
            ("/api/datasets/a/b/revision/main", "datasets/a/b", Call::Revision(owned(&["main"]))),
            (
                "/api/models/a/b/tree/main/onnx%2Fsub%20dir",
                "a/b",
                Call::Tree(owned(&["main", "onnx/sub dir"])),
            ),
            ("/api/models/a/b/paths-info/main", "a/b", Call::PathsInfo(owned(&["main"]))),
            ("/api/spaces/a/b/auth-check", "spaces/a/b", Call::AuthCheck),
            ("/api/models/a/b/commits/main", "a/b", Call::Commits(owned(&["main"]))),
        ] {
            assert_eq!(parse(path), of(repo, call), "{path}");
        }
        assert_eq!(parse("/api/datasets"), Address::List(RepoKind::Dataset));
        assert_eq!(parse("/api/whoami-v2"), Address::WhoAmI);
        assert_eq!(parse("/healthz"), Address::Health);
        assert_eq!(parse("/"), Address::Root);
    }

    #[test]
    fn what_is_not_served() {
        for path in
            ["/api", "/api/nothing", "/acme/tiny", "/a/b/resolve/main", "/api/models/a/b/tree", "/a/b/c/d/e"]
        {
            assert_eq!(parse(path), Address::Unknown, "{path}");
        }
        assert_eq!(parse("/a--b/c/resolve/main/x"), Address::NoRepo("a--b/c".into()));
        assert_eq!(parse("/api/models/..%2f..%2fetc"), Address::NoRepo("../../etc".into()));
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "(/(api|models|datasets|resolve|raw|tree|refs|%2[fF]?|[a-z%+.]{0,6})){0,9}/?") {
            let _ = parse(&path);
        }
    }
}
